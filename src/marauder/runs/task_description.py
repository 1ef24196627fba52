"""The task plug point: what is known of a kind of model before anything heavy is loaded, and the way to the rest."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from marauder.core.errors import UserError
from marauder.core.metrics import Metric, headline, with_floor
from marauder.core.mistakes import Mistake
from marauder.core.plugins import imported, loadable, resolve
from marauder.core.settings import Places
from marauder.runs.checking import mistakes_of_any_run
from marauder.runs.settings import RunSettings

if TYPE_CHECKING:
    from marauder.runs.task_runtime import TaskRuntime

ENGINE_GATES = ("sanity", "determinism", "health")
"""The gates whose evidence the engine collects, whatever is trained."""
EXPORT_GATES = ("latency",)
"""Those that need a deployable file."""
FLOOR_GATE = "floor"
"""The gate of those kinds of model that have a figure with a floor."""


class TaskDescription(ABC):
    """A kind of model that a run can train. Importing it needs no torch."""

    name: ClassVar[str]
    """What ``task`` says in the settings of a run."""
    title: ClassVar[str]
    """What is trained, in a few words."""
    runtime: ClassVar[str]
    """The class that does the work, as ``module:class``."""
    settings_model: ClassVar[type[RunSettings]]
    """The settings of its runs."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What a finished run is measured by, the most telling first."""
    gates: ClassVar[tuple[str, ...]]
    """Names of the gates whose evidence this kind collects, beside ``ENGINE_GATES`` and ``EXPORT_GATES``."""
    exports: ClassVar[bool] = True
    """Whether it leaves deployable files."""
    weights_file: ClassVar[str]
    """The file, in the run's folder, that other steps take; what is registered."""
    sealed_file: ClassVar[str]
    """The file of weights whose SHA-256 says that a finished run is whole."""
    files: ClassVar[Mapping[str, str]]
    """What it leaves beside what every run does and belongs to a registered version: file to what it is for trackers
    (``model``, ``report``, ``data``)."""

    epoch_metrics: ClassVar[tuple[str, ...]] = ()
    """What is measured after every epoch, and so may pick the best weights; empty: any name is let through."""

    epoch_columns: ClassVar[tuple[str, ...]] = ()
    """What the line of an epoch shows on the screen beside the loss, in this order; empty: the headline figures."""

    @classmethod
    def mistakes(cls, settings: Any, places: Places) -> Iterable[Mistake]:
        """What is wrong with ``settings`` of such a run beside their form, found before anything is touched.

        Some of them may be ``None``, where they could not be read. Reads files, changes none.
        """
        return mistakes_of_any_run(
            settings,
            places,
            answerable=cls.answerable(),
            epoch_metrics=cls.epoch_metrics,
            headline=cls.headline(),
            comparable=cls.comparable(),
            floor=with_floor(cls.metrics),
        )

    @classmethod
    def load(cls) -> type[TaskRuntime]:
        """The work itself; imports what it needs."""
        found: type[TaskRuntime] = imported(cls.runtime)
        return found

    @classmethod
    def headline(cls) -> str:
        """The metric that is meant where none is named."""
        return headline(cls.metrics)

    @classmethod
    def comparable(cls) -> tuple[str, ...]:
        """The metrics that the gate ``regression`` can compare with production's."""
        return tuple(metric.name for metric in cls.metrics)

    @classmethod
    def answerable(cls) -> tuple[str, ...]:
        """The gates that a run of this kind can be asked."""
        floor = (FLOOR_GATE,) if with_floor(cls.metrics) is not None else ()
        return (*cls.gates, *ENGINE_GATES, *floor, *(EXPORT_GATES if cls.exports else ()))


def describe_task(name: str) -> type[TaskDescription]:
    """The description of a task. Raises ``UserError`` for one that there is not or that lacks something."""
    found: type[TaskDescription] = resolve("task", name)
    if not found.metrics:
        raise UserError(f"task {name!r} has no metrics; name at least the one that sums up its runs")
    return found


def all_tasks() -> list[type[TaskDescription]]:
    """Every task that can be loaded, in the table's order."""
    return list(loadable("task").values())
