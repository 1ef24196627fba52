"""Detection as a kind of run: its data and slices, its loss and evaluator, the evidence for its gates, its report."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.core.mistakes import nearest
from marauder.core.plain import Plain, PlainMapping
from marauder.data.manifests.pinning import DataPin
from marauder.data.profile import load_profile, save_profile
from marauder.engine.task import Task, Weights
from marauder.evaluation.intervals import OVERALL
from marauder.gates.base import GateSettings
from marauder.gates.plan import GatePlan
from marauder.models.files import load_detector, restore_detector, save_detector
from marauder.models.naming import SUFFIXES
from marauder.models.transfer import TransferAccount, start_detector
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.embeddings import make_profile
from marauder.runs.task_runtime import Findings, Production
from marauder.tasks.detection.checking import ALL_SLICES, slice_names
from marauder.tasks.detection.data import DetectionData
from marauder.tasks.detection.description import Detection
from marauder.tasks.detection.evaluate_split import evaluate_split, other_classes
from marauder.tasks.detection.exporting import export_run
from marauder.tasks.detection.results import DetectionResults
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.detection.training import DetectionTask

log = logging.getLogger("marauder")


class DetectorWeights:
    """The weights files of a run (``marauder.engine.task.Weights``)."""

    def __init__(self, settings: DetectionSettings) -> None:
        self.settings = settings

    def save(self, model: torch.nn.Module, name: str, about: Plain) -> None:
        """Write ``name.safetensors`` and ``name.pt``."""
        assert isinstance(model, DetectionModel)
        about = {**about, "seed": self.settings.training.seed}
        save_detector(model, self.settings.folder / name, self.settings.image_size, about)

    def about(self, name: str) -> PlainMapping | None:
        """What both files say; one that is lost is written anew from the other."""
        return restore_detector(self.settings.folder / name)

    def files(self, name: str) -> Sequence[Path]:
        """``name.pt`` and ``name.safetensors``."""
        return [self.settings.folder / f"{name}{suffix}" for suffix in SUFFIXES]


class DetectionRuntime(DetectionResults):
    """YOLO detectors."""

    description = Detection

    def open(self) -> str:
        """Read data, slices, and the weights to start from."""
        self._data = DetectionData(self.settings)
        self._data.check_slices()
        self.split = self._data.split
        self._check_targets()
        return self._data.identity(self.clock)

    def _check_targets(self) -> None:
        """Refuse targets on slices that there are not, before anything is trained."""
        # Slices may come from attributes, so only the data say which there are.
        known = slice_names(self.settings, self.data.book, self.data.dataset)
        for name in self.settings.evaluation.target:
            if name not in known:
                raise UserError(f"evaluation.target.{name}: no slice named {name!r}{nearest(name, known, ALL_SLICES)}")

    def unjudged(self, plan: GatePlan) -> Sequence[str]:
        """Also the slices."""
        slices = self.data.book.slices if self.data.book is not None else {}
        limited = [name for name, one in slices.items() if one.limits]
        return plan.unjudged(limited, [name for name, one in slices.items() if one.protected])

    def accounts(self) -> Sequence[TransferAccount]:
        """Of the detector and of the pretrained backbone that training starts from."""
        settings = self.settings
        if settings.weights is None and settings.ssl_backbone is None:
            return []
        # The detector is thrown away: only the accounts are wanted here.
        names = self.data.dataset.names
        return start_detector(settings.model, names, weights=settings.weights, backbone=settings.ssl_backbone)[1]

    def splits(self) -> Mapping[str, int]:
        """Pictures by split."""
        return self.data.dataset.splits()

    def incomparable(self, production: Production) -> str:
        """Other classes than the data set's; their order does not matter."""
        names = self.data.dataset.names
        try:
            known = load_detector(production.weights).names
        except UserError as error:
            return str(error)
        return "" if sorted(known) == sorted(names) else other_classes(production.weights, known, names)

    def task(self, cache: Path | None) -> Task:
        """The detection task; decoded pictures are kept on disk where a folder is given."""
        room = int(self.settings.cache_gigabytes * 1e9) if cache is not None else 0
        return DetectionTask(self.data.plan(), cache, room)

    def preview(self) -> None:
        """``labels.jpg`` and ``training_batch.jpg``."""
        from marauder.tasks.detection.preview import write_previews

        task = DetectionTask(self.data.plan(), None, 0)
        try:
            write_previews(task, self.settings.training, self.settings.folder)
        finally:
            task.close()

    def weights(self) -> Weights:
        """``best`` and ``last`` as safetensors and as ``.pt``."""
        return DetectorWeights(self.settings)

    def evidence(self, gate: str, settings: GateSettings, production: Production | None, clock: Clock) -> Any:
        """Evidence for the gates of detection."""
        from marauder.tasks.detection.gate_evidence import collect

        return collect(self, gate, settings, production, clock)

    def measure(self, findings: Findings, device: torch.device, clock: Clock) -> Mapping[str, float]:
        """The best weights on the chosen split and every slice; production's on the same pictures."""
        settings, data = self.settings, self.data
        # From the file, not from memory: what is registered is what was measured.
        self.measured = evaluate_split(
            settings.folder / self.description.sealed_file,
            data.dataset,
            self.split,
            device,
            clock,
            settings.image_size,
            data.masks,
            settings.evaluation.least_confidence,
        )
        production = findings.production
        if production is not None:
            try:
                # At its own image size: production is compared as it is used.
                self.production = evaluate_split(
                    production.weights,
                    data.dataset,
                    self.split,
                    device,
                    clock,
                    None,
                    data.masks,
                    settings.evaluation.least_confidence,
                )
            # Other classes, mostly. The run continues, and the regression gate says why it cannot compare.
            except UserError as error:
                self.production_problem = str(error)
                log.warning("production cannot be compared with: %s", error)
        plain = self.measured.result.overall.to_json(classes=False)
        return {metric.name: plain[metric.name] for metric in Detection.metrics}

    def export(self, device: torch.device, clock: Clock, findings: Findings) -> None:
        """TorchScript and ONNX, checked against the model and timed."""
        assert self.measured is not None
        export_run(self.settings, self.measured.records, clock, findings)

    def profile(self, device: torch.device, clock: Clock) -> None:
        """The training pictures' features and embeddings by the best weights; made once for the same weights."""
        best = self.settings.folder / self.description.sealed_file
        known = self.settings.folder / "reference_profile.json"
        if known.is_file():
            stored = load_profile(self.settings.folder)
            # An earlier attempt got so far; embedding all pictures again takes as long as an evaluation.
            if stored.embedded_by == hash_file(best):
                return
        save_profile(make_profile(self.data.dataset.split("train"), best, device, clock=clock), self.settings.folder)

    def report(self, findings: Findings, pinned: DataPin, clock: Clock) -> Path:
        """Report and card."""
        from marauder.tasks.detection.report import write_reports

        return write_reports(self, findings, pinned, clock)

    def below_target(self) -> Sequence[PlainMapping]:
        """Slices (``overall`` is all pictures) whose headline metric is below ``evaluation.target``."""
        assert self.measured is not None
        result = self.measured.result
        known = {OVERALL: result.overall, **result.slices}
        metric = self.description.headline()
        found = []
        for name, target in self.settings.evaluation.target.items():
            value = float(getattr(known[name], metric))
            # Undefined, for want of boxes, is not reached.
            if math.isnan(value) or value < target:
                found.append(
                    {
                        "project": self.settings.project,
                        "slice": name,
                        "metric": metric,
                        "value": value,
                        "target": target,
                        "pictures": known[name].pictures,
                        "boxes": known[name].boxes,
                    }
                )
        return found

    def curves(self) -> Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
        """Precision over recall and ROC, by class."""
        from marauder.tasks.detection.report import curve_tables

        assert self.measured is not None
        return curve_tables(self.measured)
