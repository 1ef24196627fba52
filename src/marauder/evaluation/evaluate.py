"""Evaluate detections as a whole, by class and by slice, with one matching for all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import Metrics, aggregate

Slice = np.ndarray | Callable[[Record], bool]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """``overall`` for all pictures, ``slices`` by name; both counted at the same confidence (``overall.confidence``).

    ``matches`` holds the pairs, for further aggregations.
    """

    overall: Metrics
    slices: dict[str, Metrics]
    matches: Matches = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain content of ``eval_report.json``: ``overall`` with ``per_class``, and ``slices`` with theirs."""
        return {
            "overall": self.overall.to_json(),
            "slices": {name: metrics.to_json() for name, metrics in self.slices.items()},
        }


def evaluate(
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    slices: Mapping[str, Slice] | None = None,
    confidence: float | None = None,
) -> EvaluationResult:
    """Match ``detections[i]`` with ``records[i]`` once, then aggregate the whole and every slice.

    A slice is a boolean mask over the records or a question about a record. ``confidence`` is where precision, recall
    and F1 are counted; by default where the mean F1 of all pictures is highest. Raises ``ValueError`` for lists of
    different length, unknown classes, and masks of the wrong shape.
    """
    matches = match(records, detections, names)
    overall = aggregate(matches, confidence=confidence)
    parts = {
        name: aggregate(matches, slice_mask(records, chosen), confidence=overall.confidence)
        for name, chosen in (slices or {}).items()
    }
    return EvaluationResult(overall, parts, matches)


def slice_mask(records: Sequence[Record], chosen: Slice) -> np.ndarray:
    """The mask over ``records`` that a slice stands for: bool (P,)."""
    if callable(chosen):
        return np.array([bool(chosen(record)) for record in records], bool)
    return np.asarray(chosen)


def attribute_slices(records: Sequence[Record], minimum: int = 10, maximum_values: int = 12) -> dict[str, np.ndarray]:
    """A slice for each value of each attribute, named ``attribute=value``, of at least ``minimum`` labelled pictures.

    Numbers with more than ``maximum_values`` distinct values are cut at their quartiles (``depth=3.2 to 7.5``); other
    attributes with more values (a file name, say) make no slices, nor does a value that all pictures share.
    """
    names = sorted({name for record in records for name in record.attributes})
    slices: dict[str, np.ndarray] = {}
    for name in names:
        values = [record.attributes.get(name) for record in records]
        present = {value for value in values if value is not None}
        numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present)
        if numeric and len(present) > maximum_values:
            slices.update(_quartiles(name, values))
        elif 1 < len(present) <= maximum_values:
            for value in sorted(present, key=lambda value: (str(type(value)), value)):
                slices[f"{name}={_show(value)}"] = np.array([other == value for other in values], bool)
    labelled = np.array([record.labelled for record in records], bool)
    return {name: mask for name, mask in slices.items() if minimum <= int((mask & labelled).sum())}


def _quartiles(name: str, values: Sequence[Any]) -> dict[str, np.ndarray]:
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    edges = np.unique(np.nanquantile(numbers, (0, 0.25, 0.5, 0.75, 1)))
    slices = {}
    for index, (low, high) in enumerate(pairwise(edges)):
        below = numbers <= high if index == len(edges) - 2 else numbers < high
        slices[f"{name}={low:.4g} to {high:.4g}"] = (numbers >= low) & below
    return slices


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
