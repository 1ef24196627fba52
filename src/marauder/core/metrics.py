"""What a task measures: the name of each figure, which way is better, and where it is shown. Code that compares, gates,
registers or draws asks this instead of keeping names of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure of a task. ``share``: it lies in 0..1. ``unit``: what it is counted in, empty for shares.

    ``headline``: named where a run is summed up in a line. ``compared``: shown where two versions stand side by side.
    ``per_class``: there is one of each class, too. ``floor``: a model below it has learned nothing of use (``None``:
    not judged by it); the first figure with one is what the gate ``floor`` asks about.
    """

    name: str
    title: str
    higher_is_better: bool = True
    share: bool = True
    unit: str = ""
    headline: bool = False
    compared: bool = False
    per_class: bool = False
    floor: float | None = None


def headlines(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Names of the figures that sum up a run."""
    return tuple(metric.name for metric in metrics if metric.headline)


def headline(metrics: Sequence[Metric]) -> str:
    """The name of the one figure that says most of a run: the first that sums it up, else the first of ``metrics``."""
    return next(iter(headlines(metrics)), metrics[0].name)


def with_floor(metrics: Iterable[Metric]) -> Metric | None:
    """The figure that says whether a model learned anything; ``None``: none does."""
    return next((metric for metric in metrics if metric.floor is not None), None)


def compared(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Names of the figures by which two versions are compared."""
    return tuple(metric.name for metric in metrics if metric.compared)
