"""What a run asks of a kind of model once it is loaded: its loss, its evaluator, evidence for its gates, its report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from marauder.core.clock import Clock
from marauder.core.metrics import Metric
from marauder.core.plain import Plain, PlainMapping
from marauder.data.manifests.pinning import DataPin
from marauder.engine.state import Outcome
from marauder.engine.task import Task, Weights
from marauder.gates.base import GateSettings
from marauder.gates.floor import FloorEvidence
from marauder.gates.plan import GatePlan
from marauder.gates.verdict import Verdict
from marauder.models.transfer import TransferAccount
from marauder.registry.base import ModelVersion
from marauder.reporting.advice import Advice
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import TaskDescription


class Evaluator(ABC):
    """Measures a model during its training: predictions by process, one score for all of them."""

    metric_names: tuple[str, ...]
    """What ``score`` always measures; one of them picks the best weights."""

    @abstractmethod
    def predict(self, model: nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        """This rank's share of the validation predictions, anything that travels between processes.

        ``None`` when ``should_stop`` said so before it was complete. Leaves the model as it was.
        """

    @abstractmethod
    def score(self, shares: list[Any]) -> dict[str, float]:
        """Finite numbers from all ranks' predictions: ``metric_names``, and more (by class, by slice). The same however
        the samples were shared out."""


@dataclass(frozen=True)
class Production:
    """The model in production that a run is compared with: its version and its files."""

    version: ModelVersion
    folder: Path

    @property
    def weights(self) -> Path:
        """Its weights: in the file that holds numbers only, where the version has it."""
        numbers = self.folder / "best.safetensors"
        # Unpickling a .pt runs code; versions registered by others may have nothing else.
        return numbers if numbers.is_file() else self.folder / "best.pt"


@dataclass(frozen=True)
class Exported:
    """A deployable file: its format, and why it does not answer as the model does (empty: it does)."""

    format: str
    path: Path
    problems: tuple[str, ...] = ()


@dataclass
class Findings:
    """What a run found out after training; a task fills in what its own gates and its report need."""

    outcome: Outcome
    production: Production | None = None
    exported: list[Exported] = field(default_factory=list)
    why_none_exported: str = "the export made none"
    """In words, of an ``exported`` that is empty."""
    latency: Plain = field(default_factory=dict)
    """``exporting.latency.Latency.plain``; empty where nothing was timed."""
    verdicts: list[Verdict] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    """What to do next, as the report says it."""


AnyRun = TypeVar("AnyRun", bound=RunSettings)


class TaskRuntime(ABC, Generic[AnyRun]):
    """One kind of model. Made anew for every process; ``open`` is called first."""

    description: ClassVar[type[TaskDescription]]
    """What is known of this kind without loading it."""

    split: str
    """Where the finished model is measured; known once it is open."""

    def __init__(self, settings: AnyRun) -> None:
        self.settings = settings
        self.clock: Clock | None = None
        """Asked by what takes long in ``open``; set before it."""
        self.why_no_production = ""
        """Why there is no production model to compare with; the run says so before it asks for evidence."""
        self.production_unknown = False
        """The registry did not answer, so there may be one."""

    @abstractmethod
    def open(self) -> str:
        """Read the data and what else training starts from; returns a fingerprint of it all. Raises ``UserError``,
        ``Interrupted``."""

    def measured_with(self) -> Sequence[str]:
        """Fingerprints of the data sets beside ``data`` that finished weights are measured on: they are measured again
        where one has changed."""
        return ()

    def unjudged(self, plan: GatePlan) -> Sequence[str]:
        """What the settings and files limit or protect though no gate of ``plan`` judges it, in words."""
        return plan.unjudged()

    def incomparable(self, production: Production) -> str:
        """Why the model in production cannot be compared with one of this run, as far as it can be known before
        training; empty: it can."""
        return ""

    def accounts(self) -> Sequence[TransferAccount]:
        """What a model takes of the weights that training starts from, tensor by tensor; empty: it starts from none."""
        return ()

    @abstractmethod
    def splits(self) -> Mapping[str, int]:
        """Samples by split."""

    @abstractmethod
    def task(self, cache: Path | None) -> Task:
        """Model, samples, loss and evaluator for the engine; ``cache``: a folder for decoded samples."""

    def preview(self) -> None:
        """Leave pictures of what training is given in the run's folder, to be looked at from its first minute on.
        Training is the same with or without them. It takes seconds, since even a spent budget still does a step."""

    @abstractmethod
    def weights(self) -> Weights:
        """Where the engine leaves weights: ``best`` and ``last`` in the run's folder."""

    @abstractmethod
    def evidence(self, gate: str, settings: GateSettings, production: Production | None, clock: Clock) -> Any:
        """The evidence for one of the description's ``gates``, in the form its ``evidence_model`` says. After training,
        ``measure`` came before. Raises ``Interrupted``."""

    @abstractmethod
    def measure(self, findings: Findings, device: torch.device, clock: Clock) -> Mapping[str, float]:
        """Measure the best weights, and production's on the same data; returns the headline numbers."""

    def learned(self, metric: Metric, value: float) -> FloorEvidence:
        """Evidence for the gate ``floor``: the ``metric`` with a floor, its measured ``value`` (NaN: none), and how
        sure that is. Asked after ``measure``."""
        assert metric.floor is not None
        return FloorEvidence(metric.title, value, metric.floor)

    @abstractmethod
    def export(self, device: torch.device, clock: Clock, findings: Findings) -> None:
        """Write the deployable files, check and time them, and note them in ``findings``."""

    @abstractmethod
    def profile(self, device: torch.device, clock: Clock) -> None:
        """Leave the reference profile that later runs' data are compared with."""

    @abstractmethod
    def report(self, findings: Findings, pinned: DataPin, clock: Clock) -> Path:
        """Write figures, ``eval_report.json``, ``report.html`` and the model card; returns the report's path."""

    @abstractmethod
    def below_target(self) -> Sequence[PlainMapping]:
        """Slices whose headline metric stayed below ``evaluation.target``: name, metric, value, target, pictures."""

    @abstractmethod
    def curves(self) -> Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
        """Curves for trackers by name: their columns and rows."""
