"""Step 5: a detector specialised on critical species in three stages, as one gated run that goes on wherever it was.

Standard training, then the detector's own errors are mined and it is trained on with them, then mined again and
fine-tuned at a low rate. Every stage is a gated run in a folder of its own, recognised by what it is made of; around
them is one gated run, which judges, reports and registers the weights that come out.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import append_line, atomic_path, fingerprint, hash_file, read_json, write_json, write_text
from marauder.core.locks import exclusive
from marauder.critical.base_detector import check_classes, resolve_base
from marauder.critical.kind import CriticalKind, Specialised
from marauder.critical.report import REPORT_JSON, REPORT_PAGE
from marauder.critical.settings import CriticalSettings
from marauder.critical.stages import (
    FOLDER,
    Finished,
    chosen_stage,
    copy_weights,
    finished_stage,
    scored,
    stage_settings,
    stages_of,
    take_up,
    trained_nothing,
    whole_outcome,
)
from marauder.data.manifests.pinning import pin
from marauder.engine.failures import TrainingFailure
from marauder.engine.process import prepare_process
from marauder.engine.state import Outcome
from marauder.evaluation.critical_metrics import tier_metrics
from marauder.gates.plan import load_gates
from marauder.mining.hard_negatives_file import NEGATIVES_FILE, SUSPECTED_FILE
from marauder.mining.mining_job import mine
from marauder.models.files import load_detector, weights_hash
from marauder.runs.gated import GatedRun, RunSummary, run_gated
from marauder.runs.placing import gate_overrides, placed
from marauder.runs.training import is_one_of_several
from marauder.tasks.detection.evaluate_split import evaluate_split

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class CriticalSummary:
    """What step 5 leaves: the summary of the whole run, what changed (``critical_report.json``), and its page."""

    run: RunSummary
    report: Path
    content: dict[str, Any]


def run_critical(
    settings: CriticalSettings,
    clock: Clock,
    resume: bool | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
) -> CriticalSummary:
    """Specialise, or go on with it: the stage that was interrupted goes on from its newest checkpoint.

    ``resume`` says what happens anyway. Raises ``Interrupted`` when stopped in time, ``GateStop`` when a gate before
    training failed, ``UserError`` for bad input, ``TrainingFailure`` when a stage cannot go on.
    """
    if is_one_of_several():
        raise UserError("this step starts the processes of its stages itself: call it without torchrun, processes=N")
    prepare_process(settings.training.threads, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    overrides = gate_overrides(settings.gate)
    plan = load_gates(settings.gates, overrides).restricted(CriticalKind.answerable(), overrides)
    settings, base_classes = resolve_base(settings)
    pinned = pin(settings.data, clock)
    settings = _placed(settings, pinned)
    kind = CriticalKind(settings)
    kind.clock = clock
    identity = kind.open()
    check_classes(settings, base_classes, kind.data.dataset.names)
    settings.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.folder / ".lock", f"{settings.folder}"):
        summary = CriticalRun(settings, kind, identity, pinned, plan, clock).go(None, fresh, begun)
    return CriticalSummary(summary, settings.folder / REPORT_PAGE, read_json(settings.folder / REPORT_JSON))


def _placed(settings: CriticalSettings, pinned: Any) -> CriticalSettings:
    found = placed(settings, pinned)
    assert isinstance(found, CriticalSettings)
    return found


class CriticalRun(GatedRun):
    """A gated run whose training is the three stages."""

    settings: CriticalSettings
    kind: CriticalKind

    @property
    def stages(self) -> Path:
        """The folder of the stages."""
        return self.folder / FOLDER

    def _finished(self) -> RunSummary | None:
        if not all((self.folder / name).is_file() for name in (REPORT_JSON, REPORT_PAGE)):
            return None
        return super()._finished()

    def _refuse_another_run(self) -> None:
        # A run that was refused or stopped before its first update is replaced by the one that was meant.
        if not trained_nothing(self.settings):
            super()._refuse_another_run()

    def _train(self, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        if fresh:
            for folder in (self.stages, self.settings.checkpoint_folder):
                shutil.rmtree(folder, ignore_errors=True)
        if begun is not None:
            begun()
        judged = "health" in self.keeper.names("during")
        try:
            outcome = self._specialise()
        except TrainingFailure as failure:
            if judged:
                self._judge_health(failure)
            raise
        if judged:
            self._judge_health(None)
        return outcome

    def _specialise(self) -> Outcome:
        """All stages in order, each from the one before; then the weights that are kept."""
        settings, metric = self.settings, self.settings.training.best_metric
        wanted = stages_of(settings)
        done: list[Finished] = []
        mined: dict[str, tuple[int, int]] = {}
        floor, negatives = settings.floor.value, None
        for stage in wanted:
            start = done[-1].weights if done else settings.base_model or settings.weights
            if stage != "standard":
                assert start is not None
                if floor is None:
                    floor = self._floor(done)
                if settings.mining.count:
                    negatives = self._mine(stage, start, negatives)
                    mined[stage] = _counts(negatives)
            self.clock.check()
            done.append(self._stage(stage, start, negatives, floor))
        done = [scored(one, metric, floor) for one in done]
        chosen = chosen_stage(done, settings.keep)
        outcome = whole_outcome(done, chosen)
        copy_weights(chosen, done[-1], self.folder)
        self._copy_lists(negatives)
        write_text(self.folder / "metrics.jsonl", "")
        for row in outcome.history:
            append_line(self.folder / "metrics.jsonl", row)
        before, words = self._before_weights(done)
        self.kind.specialised = Specialised(tuple(done), chosen, before, words, floor, mined)
        return outcome

    def _stage(self, stage: str, start: Path | None, negatives: Path | None, floor: float | None) -> Finished:
        log.info("stage %s: %d epochs", stage, self.settings.epochs_of(stage))
        settings = stage_settings(
            self.settings, stage, start, negatives, floor, self.kind.critical, CriticalKind.answerable()
        )
        take_up(settings, stage, {
            "weights": hash_file(start) if start is not None else None,
            "negatives": hash_file(negatives) if negatives is not None else None,
            "floor": floor, "settings": {**settings.described(), "training": settings.training.deciding()},
            "data": self.identity,
        })  # fmt: skip
        summary = run_gated(settings, self.clock)
        return finished_stage(settings, stage, summary)

    def _floor(self, done: list[Finished]) -> float | None:
        """The least map50 of the others on the split val, from what they had before specialising; ``None`` where there
        are no others. Kept in a file beside the stages."""
        weights, _ = self._before_weights(done)
        asked = {"weights": weights_hash(weights), "allowed_loss": self.settings.floor.allowed_loss,
                 "critical": list(self.kind.critical), "data": self.identity}  # fmt: skip
        known = self.stages / "floor.json"
        if known.is_file() and (content := read_json(known)).get("of") == asked:
            return None if content["floor"] is None else float(content["floor"])
        measured = evaluate_split(
            weights, self.kind.data.dataset, "val", self.device, self.clock, self.settings.image_size
        )
        others = tier_metrics(measured.result.overall, self.kind.critical, None)["others/map50"]
        floor = None if math.isnan(others) else others * (1 - self.settings.floor.allowed_loss)
        write_json(known, {"of": asked, "others_map50": others, "floor": floor})
        log.info("floor of the other classes: %s", "none" if floor is None else f"map50 {floor:.3f}")
        return floor

    def _before_weights(self, done: list[Finished]) -> tuple[Path, str]:
        """What specialising is compared with: the base model where it knows the same classes, else the first stage."""
        base = self.settings.base_model
        if base is not None and load_detector(base).names == self.kind.data.dataset.names:
            return base, f"the base model {base}"
        if not done:
            raise ValueError("a base model of other classes, and no standard stage: check_classes comes first")
        return done[0].weights, "the first stage, standard training"

    def _mine(self, stage: str, weights: Path, earlier: Path | None) -> Path:
        """Mine with ``weights`` for ``stage``, unless it is done."""
        settings, folder = self.settings, self.stages / f"{stage}_mining"
        marker = folder / "mined.json"
        asked = fingerprint({
            "weights": weights_hash(weights), "data": self.identity, "image_size": settings.image_size,
            "settings": settings.mining.model_dump(mode="json"), "seed": settings.training.seed,
            "reviewed": hash_file(settings.mining.reviewed)
            if settings.mining.reviewed is not None and settings.mining.reviewed.is_file() else None,
            "earlier": hash_file(earlier) if earlier is not None else None,
        })  # fmt: skip
        found = folder / NEGATIVES_FILE
        if marker.is_file() and found.is_file() and read_json(marker) == {"of": asked, "sha256": hash_file(found)}:
            return found
        summary = mine(
            weights, self.kind.data.dataset, settings.mining, folder, self.device, self.clock,
            image_size=settings.image_size, earlier=earlier, seed=settings.training.seed,
        )  # fmt: skip
        write_json(marker, {"of": asked, "sha256": hash_file(found)})
        log.info(
            "mined for stage %s: %d errors, %d to train on, %d labels suspected to be missing",
            stage, summary.found, summary.sampled, summary.missing,
        )  # fmt: skip
        return summary.negatives

    def _copy_lists(self, negatives: Path | None) -> None:
        """The last mining's lists beside the weights, where people look."""
        if negatives is None:
            return
        for name in (NEGATIVES_FILE, SUSPECTED_FILE):
            with atomic_path(self.folder / name) as temporary:
                shutil.copyfile(negatives.with_name(name), temporary)


def _counts(negatives: Path) -> tuple[int, int]:
    """Hard negatives that training uses, and labels suspected to be missing."""
    entries = read_json(negatives)["entries"]
    missing = read_json(negatives.with_name(SUSPECTED_FILE))["suspected"]
    return sum(bool(one["sampled"]) for one in entries), len(missing)
