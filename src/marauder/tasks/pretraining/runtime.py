"""Pretraining as a kind of run: its pictures, its weights, the probe, the evidence for its gate, its report."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import write_bytes, write_json, write_text
from marauder.core.metrics import Metric
from marauder.core.plain import Plain, PlainMapping
from marauder.core.wording import counted
from marauder.data.manifests.pinning import DataPin, pin
from marauder.data.pictures import PictureStore
from marauder.data.reading import refuse_output_among_pictures
from marauder.engine.task import Task, Weights
from marauder.gates.base import GateSettings
from marauder.gates.floor import FloorEvidence
from marauder.gates.representation import RepresentationEvidence
from marauder.models.pretraining.base import PretrainingMethod, build_method
from marauder.models.pretraining.files import describe_backbone, save_backbone
from marauder.models.transfer import TransferAccount, load_matching
from marauder.models.ultralytics_adapter import build_detector
from marauder.runs.start_weights import start_of
from marauder.runs.task_runtime import Findings, Production
from marauder.tasks.pretraining.data import open_pool, pool_identity, write_account
from marauder.tasks.pretraining.description import BACKBONE_FILE, Pretraining
from marauder.tasks.pretraining.probe import probe_backbones
from marauder.tasks.pretraining.results import PretrainingResults
from marauder.tasks.pretraining.settings import SIGNS, PretrainingSettings
from marauder.tasks.pretraining.training import (
    START,
    PretrainingTask,
    PretrainingTaskPlan,
    collapse_in,
    look,
    settled_share,
    signs_of,
    unjudged,
)

log = logging.getLogger("marauder")
PROBE_FILE = "probe.json"
ACCOUNT_FILE = "step2_account.txt"
"""What a detector takes of the finished backbone."""
PROBED = ("before", "after", "gain", "low", "high")


class BackboneWeights:
    """The weights files of a pretraining (``marauder.engine.task.Weights``): backbones alone."""

    def __init__(self, settings: PretrainingSettings) -> None:
        self.settings = settings

    def save(self, model: torch.nn.Module, name: str, about: Plain) -> None:
        """Write ``name.safetensors``."""
        assert isinstance(model, PretrainingMethod)
        settings = self.settings
        described = {
            **about,
            "architecture": settings.model,
            "method": settings.pretraining.method,
            "image_size": settings.image_size,
            "seed": settings.training.seed,
            "started_from": start_of(settings).content,
        }
        save_backbone(model.backbone_state(), settings.folder / f"{name}.safetensors", described)

    def about(self, name: str) -> PlainMapping | None:
        """What the file says, if it is whole."""
        return describe_backbone(self.files(name)[0])

    def files(self, name: str) -> Sequence[Path]:
        """``name.safetensors``."""
        return [self.settings.folder / f"{name}.safetensors"]


class PretrainingRuntime(PretrainingResults):
    """Backbones of detectors, pretrained without labels."""

    description = Pretraining
    split = "held out"

    def open(self) -> str:
        """Read and thin the pictures; refuse an output among them, and weights to start from that do not fit."""
        plan = self.settings
        refuse_output_among_pictures(plan.folder, plan.data)
        if plan.weights is not None:
            # First, and cheap: reading and hashing the pictures may take long.
            self._fits(plan.weights)
        self._pool = open_pool(plan, self.clock)
        return pool_identity(self._pool, plan, self.clock)

    def measured_with(self) -> Sequence[str]:
        """The pictures and labels that the probe learns, where they are a data set of their own."""
        data = self.settings.probe.data
        return () if data is None else (pin(data, self.clock).fingerprint,)

    def accounts(self) -> Sequence[TransferAccount]:
        """Of the backbone that training starts from."""
        return [self._fits(self.settings.weights)] if self.settings.weights is not None else []

    def splits(self) -> Mapping[str, int]:
        """Pictures trained on, held out for signs of collapse, and left out."""
        pool = self.pool
        return {"pretraining": len(pool.training), "held_out": len(pool.held_out), **pool.left_out}

    def task(self, cache: Path | None) -> Task:
        """The pretraining task; decoded pictures are kept on disk where a folder is given."""
        plan = self.settings
        room = int(plan.cache_gigabytes * 1e9) if cache is not None else 0
        made = PretrainingTaskPlan(
            architecture=plan.model,
            method=plan.pretraining.method,
            settings=plan.pretraining.settings,
            views=plan.pretraining.views,
            training=self.pool.training,
            held_out=self.pool.held_out,
            image_size=plan.image_size,
            source_size=plan.source_side,
            seed=plan.training.seed,
            init=plan.weights,
            collapse=plan.pretraining.collapse,
        )
        return PretrainingTask(made, cache, room)

    def preview(self) -> None:
        """``views.png``: a few pictures with their views."""
        from marauder.tasks.pretraining.report import VIEWS_FILE, example_views

        write_bytes(self.settings.folder / VIEWS_FILE, example_views(self))

    def weights(self) -> Weights:
        """``best`` and ``last`` as safetensors."""
        return BackboneWeights(self.settings)

    def evidence(self, gate: str, settings: GateSettings, production: Production | None, clock: Clock) -> Any:
        """Evidence for the gate ``representation``."""
        if gate != "representation":
            raise UserError(f"gate {gate}: pretraining has no evidence for it; leave it out of gates.yaml")
        after, before = self.signs["after"], self.signs["before"]
        limits = self.settings.pretraining.collapse
        # As ``models.pretraining.signs`` judges: a start of low rank needs less, but never less than the least.
        rank = max(limits.smallest_rank, limits.smallest_share_of_start * before["effective_rank"])
        bounds = {"deviation": limits.smallest_deviation, "effective_rank": rank}
        both = {**after, **{f"{START}{name}": value for name, value in before.items()}}
        return RepresentationEvidence(
            signs={name: after[name] for name in SIGNS},
            limits=bounds,
            collapsed=collapse_in(both, limits),
            unjudged=unjudged(after),
            helped=self.probe["verdict"],
            words=self.probe["why"],
            gain=self.probe["gain"],
            low=self.probe["low"],
            high=self.probe["high"],
            facts={f"{name}_before": before[name] for name in SIGNS},
        )

    def measure(self, findings: Findings, device: torch.device, clock: Clock) -> Mapping[str, float]:
        """Write the backbone, show that a detector takes it, look for collapse, and probe its features."""
        plan, folder = self.settings, self.settings.folder
        backbone = folder / BACKBONE_FILE
        # A copy under a fixed name: ``keep`` can change without any training, and other steps need not know of it.
        write_bytes(backbone, (folder / f"{plan.pretraining.keep}.safetensors").read_bytes())
        # Read back as step 2 will read it: a file that no detector takes must fail here.
        self.account = self._fits(backbone)
        write_text(folder / ACCOUNT_FILE, self.account.listing())
        write_account(self.pool, folder)
        self.signs = {
            "before": self._signs(plan.weights, device, clock),
            "after": self._signs(backbone, device, clock),
        }
        self.probe = probe_backbones(plan, self.pool, backbone, device, clock)
        write_json(folder / PROBE_FILE, self.probe)
        numbers = {name: self.signs["after"][name] for name in SIGNS}
        numbers |= {f"probe_{name}": self.probe[name] for name in PROBED if self.probe[name] is not None}
        # Registries and trackers take no NaN.
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def learned(self, metric: Metric, value: float) -> FloorEvidence:
        """With the interval of the probe; where nothing could be probed, why."""
        found = super().learned(metric, value)
        if self.probe["gain"] is None:
            return replace(found, unknown=self.probe["why"])
        drawn = counted(int(self.probe["groups"]), "clip")
        return replace(found, low=self.probe["low"], high=self.probe["high"], drawn=drawn)

    def export(self, device: torch.device, clock: Clock, findings: Findings) -> None:
        """A backbone alone answers nothing, so there is nothing to deploy."""

    def profile(self, device: torch.device, clock: Clock) -> None:
        """Later runs are compared with a detector's training pictures, not with these."""

    def report(self, findings: Findings, pinned: DataPin, clock: Clock) -> Path:
        """The page and the card."""
        from marauder.tasks.pretraining.report import write_reports

        return write_reports(self, findings, pinned, clock)

    def below_target(self) -> Sequence[PlainMapping]:
        """There are no targets without labels."""
        return ()

    def curves(self) -> Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
        """Average precision of the probe before and after, by class."""
        rows = [[name, before, after] for name, (before, after) in self.probe.get("by_class", {}).items()]
        return {"probe": (("class", "before", "after"), rows)} if rows else {}

    def _fits(self, path: Path) -> TransferAccount:
        """What a detector of this architecture takes of ``path``. Raises ``UserError`` where it does not fit."""
        # Any class will do: only the backbone is matched.
        return load_matching(build_detector(self.settings.model, ["object"]), path, backbone_only=True)

    def _signs(self, start: Path | None, device: torch.device, clock: Clock) -> dict[str, float]:
        plan, records = self.settings, self.pool.held_out
        section = plan.pretraining
        method = build_method(section.method, plan.model, section.settings, plan.training.seed, start).to(device)
        store = PictureStore(records, plan.image_size, None, 0)
        found = look(method, records, store, range(len(records)), lambda: clock.stop_reason() is not None)
        if found is None:
            raise Interrupted(clock.stop_reason() or "stopped while looking for signs of collapse")
        return {**signs_of([row for _, row in found]), "settled": settled_share(method)}
