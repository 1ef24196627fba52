"""Step 5: a detector specialised on critical species in three stages, as one gated run that continues wherever it was.

Standard training, then the detector's own errors are mined and it is trained on with them, then mined again and
fine-tuned at a low rate. Every stage is a gated run in a folder of its own, recognised by what it is made of; around
them is one gated run, which judges, reports and registers the weights that come out.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import atomic_path, hash_file, read_json
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.core.work import Work
from marauder.critical.base_detector import resolve_base
from marauder.critical.report import REPORT_JSON, REPORT_PAGE
from marauder.critical.runtime import CriticalRuntime, Specialised
from marauder.critical.settings import CriticalSettings
from marauder.critical.stages import FOLDER, Scored, chosen_stage, stage_settings, stages_of
from marauder.engine.state import Outcome
from marauder.evaluation.critical_metrics import tier_metrics
from marauder.mining.hard_negatives_file import NEGATIVES_FILE, SUSPECTED_FILE
from marauder.mining.job import declared, mine
from marauder.models.files import load_detector
from marauder.models.naming import weights_hash
from marauder.runs.gated import RunSummary, run_gated
from marauder.runs.series import Part, PartMaker, Series, leave_weights, outcome_of
from marauder.runs.training_processes import is_one_of_several
from marauder.runs.training_stage import RunInHand
from marauder.tasks.detection.evaluate_split import evaluate_split

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class CriticalSummary:
    """What step 5 leaves: the summary of the whole run, what changed (``critical_report.json``), and its page."""

    run: RunSummary
    report: Path
    content: Plain


def run_critical(
    settings: CriticalSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
    asked_to_resume: bool = False,
) -> CriticalSummary:
    """Specialise, or continue with it: the stage that was interrupted continues from its newest checkpoint.

    ``resume``: a checkpoint of one of the stages to continue from instead; those after it begin anew.
    ``asked_to_resume``: say so where there is nothing to continue from. Raises
    ``Interrupted`` when stopped in time, ``GateStop`` when a gate before training failed, ``UserError`` for bad input,
    ``TrainingFailure`` when a stage cannot continue.
    """
    if is_one_of_several():
        raise UserError("this step starts the processes of its stages itself: call it without torchrun, processes=N")
    settings, base_classes = resolve_base(settings)

    def open_runtime(identified: CriticalSettings) -> CriticalRuntime:
        return CriticalRuntime(identified, base_classes)

    summary = run_gated(settings, clock, resume, fresh, begun, open_runtime, Stages(), asked_to_resume)
    report = summary.folder / REPORT_JSON
    return CriticalSummary(summary, summary.folder / REPORT_PAGE, read_json(report))


class Stages(Series):
    """Standard training, training with what was mined, fine-tuning with what was mined again."""

    folder_name = FOLDER
    leaves = (REPORT_JSON, REPORT_PAGE)

    def make(self, run: RunInHand, parts: PartMaker) -> Outcome:
        """All stages in order, each from the one before; then the weights that are kept."""
        assert isinstance(run.runtime, CriticalRuntime)
        return _Specialising(run.runtime, run, parts).outcome()


@dataclass(frozen=True)
class _Specialising:
    """The stages of one run in hand."""

    runtime: CriticalRuntime
    run: RunInHand
    parts: PartMaker

    @property
    def settings(self) -> CriticalSettings:
        return self.runtime.settings

    def outcome(self) -> Outcome:
        settings, metric = self.settings, self.settings.training.best_metric
        done: list[Part] = []
        mined: dict[str, tuple[int, int]] = {}
        floor, negatives = settings.floor.value, None
        for stage in stages_of(settings):
            start = self._start_after(done[-1]) if done else settings.base_model or settings.weights
            if stage != "standard":
                assert start is not None
                if floor is None:
                    # Only when a stage needs it: without a usable base model it is measured on the first stage's
                    # weights.
                    floor = self._floor(done)
                if settings.mining.count:
                    # With the errors of the round before: one that was unlearned must not come back.
                    negatives = self._mine(stage, start, negatives)
                    mined[stage] = _counts(negatives)
            # A stage takes hours: not one is begun after a stop.
            self.run.clock.check()
            done.append(self._stage(stage, start, negatives, floor))
        # All anew with the one floor: the first stage was trained before it was known.
        scored = tuple(Scored.of(part, metric, floor) for part in done)
        chosen = chosen_stage(scored, settings.keep)
        outcome = outcome_of(done, chosen.part, chosen.score)
        # Copies: the parts keep theirs, so that a later run takes the stages up.
        leave_weights(chosen.part, done[-1], outcome, settings.folder)
        self._copy_lists(negatives)
        before, words = self._before_weights(done)
        self.runtime.specialised = Specialised(scored, chosen, before, words, floor, mined)
        return outcome

    def _start_after(self, part: Part) -> Path:
        """One schedule continues from where it was; with schedules of their own stages start from the best there is."""
        return part.last_weights if self.settings.stages.one_schedule else part.weights

    def _stage(self, stage: str, start: Path | None, negatives: Path | None, floor: float | None) -> Part:
        log.info("stage %s: %d epochs", stage, self.settings.epochs_of(stage))
        gates = self.runtime.description.answerable()
        settings = stage_settings(self.settings, stage, start, negatives, floor, self.runtime.critical, gates)
        # By content: a stage begins anew when what it starts from came out differently, wherever it lies.
        made_of = {
            "weights": hash_file(start) if start is not None else None,
            "negatives": hash_file(negatives) if negatives is not None else None,
            "floor": floor,
            "data": self.run.identity,
        }
        return self.parts.make(stage, settings, made_of)

    def _floor(self, done: list[Part]) -> float | None:
        """The least map50 of the others on the split val, from what they had before specialising; ``None`` where there
        are no others. Kept in a file beside the stages."""
        weights, _ = self._before_weights(done)
        asked = {
            "weights": weights_hash(weights),
            "allowed_loss": self.settings.floor.allowed_loss,
            "image_size": self.settings.image_size,
            "critical": list(self.runtime.critical),
            "data": self.run.identity,
        }
        work = Work(self.parts.folder / "floor.json", asked)
        known = work.done()
        if known is not None:
            # JSON knows no NaN, so the absence of others is kept as null.
            return None if known["floor"] is None else float(known["floor"])
        # On val: the floor picks weights, and test must have no part in that.
        measured = evaluate_split(
            weights, self.runtime.data.dataset, "val", self.run.device, self.run.clock, self.settings.image_size
        )
        others = tier_metrics(measured.result.overall, self.runtime.critical, None)["others/map50"]
        # NaN: the data set has no other classes.
        floor = None if math.isnan(others) else others * (1 - self.settings.floor.allowed_loss)
        work.finish(about={"others_map50": others if floor is not None else None, "floor": floor})
        log.info("floor of the other classes: %s", "none" if floor is None else f"map50 {floor:.3f}")
        return floor

    def _before_weights(self, done: list[Part]) -> tuple[Path, str]:
        """What specialising is compared with: the base model where it knows the same classes, else the first stage."""
        base = self.settings.base_model
        # In any order: they are known by name.
        if base is not None and sorted(load_detector(base).names) == sorted(self.runtime.data.dataset.names):
            return base, f"the base model {base}"
        if not done:
            raise ValueError("a base model of other classes, and no standard stage: check_classes comes first")
        return done[0].weights, "the first stage, standard training"

    def _mine(self, stage: str, weights: Path, earlier: Path | None) -> Path:
        """Mine with ``weights`` for ``stage``, unless it is done."""
        settings, folder = self.settings, self.parts.folder / f"{stage}_mining"
        asked = {
            "weights": weights_hash(weights),
            "data": self.run.identity,
            "pictures": declared(self.runtime.data.dataset),
            "image_size": settings.image_size,
            "settings": decided(settings, Decides.RESULT)["mining"],
            "seed": settings.training.seed,
            "earlier": hash_file(earlier) if earlier is not None else None,
        }
        work, found = Work(folder / "mined.json", asked), folder / NEGATIVES_FILE
        if work.done() is not None:
            return found
        summary = mine(
            weights,
            self.runtime.data.dataset,
            settings.mining,
            folder,
            self.run.device,
            self.run.clock,
            image_size=settings.image_size,
            earlier=earlier,
            seed=settings.training.seed,
        )
        # Sealed with their hashes: a list that somebody edits is mined again.
        work.finish([found, found.with_name(SUSPECTED_FILE)])
        log.info(
            "mined for stage %s: %d errors, %d to train on, %d labels suspected to be missing",
            stage,
            summary.found,
            summary.sampled,
            summary.missing,
        )
        return summary.negatives

    def _copy_lists(self, negatives: Path | None) -> None:
        """The last mining's lists beside the weights, where people look."""
        if negatives is None:
            return
        for name in (NEGATIVES_FILE, SUSPECTED_FILE):
            with atomic_path(self.settings.folder / name) as temporary:
                shutil.copyfile(negatives.with_name(name), temporary)


def _counts(negatives: Path) -> tuple[int, int]:
    """Hard negatives that training uses, and labels suspected to be missing."""
    entries = read_json(negatives)["entries"]
    missing = read_json(negatives.with_name(SUSPECTED_FILE))["suspected"]
    return sum(bool(one["sampled"]) for one in entries), len(missing)
