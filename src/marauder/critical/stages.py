"""The three stages of step 5: the settings of each, its score, and which one's weights are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.plain import Plain
from marauder.critical.settings import STAGES, CriticalSettings
from marauder.evaluation.critical_metrics import critical_score
from marauder.runs.series import Part, judged_as_whole
from marauder.tasks.detection.loss_settings import FLOORED
from marauder.tasks.detection.settings import DetectionSettings

FOLDER = "stages"


def stage_settings(
    settings: CriticalSettings,
    stage: str,
    start: Path | None,
    negatives: Path | None,
    floor: float | None,
    critical: Sequence[str],
    gates: Sequence[str],
) -> DetectionSettings:
    """One stage as a gated run of its own below the whole's folder. ``start``: weights to start from; ``gates``: those
    that a run of this kind can be asked, of which a stage is asked its health only."""
    training, rate = settings.training, settings.training.optimizer.learning_rate * getattr(settings.stages, stage).rate
    epochs = settings.epochs_of(stage)
    changes: Plain = {
        "output": settings.folder / FOLDER / stage,
        # Ids end at 63 characters; the suffix must fit.
        "id": f"{(settings.id or settings.folder.name)[:50]}-{stage}",
        "checkpoints": settings.checkpoint_folder / stage,
        "weights": start,
        # Later stages have it already, in the weights they start from.
        "ssl_backbone": settings.ssl_backbone if start is None else None,
        "critical": tuple(critical),
        "others_floor": floor,
        **judged_as_whole(gates),
        "training.epochs": epochs,
        "training.optimizer.learning_rate": rate,
        **_of_schedule(settings, stage),
        **_of_stage(settings, stage, epochs, negatives),
    }
    if start is not None:
        # Weights that are good already are not shaken by a long or steep warm-up.
        changes["training.optimizer.warmup_epochs"] = min(training.optimizer.warmup_epochs, 1.0)
        highest = 0.0 if settings.stages.one_schedule else rate
        changes["training.optimizer.warmup_bias_rate"] = min(training.optimizer.warmup_bias_rate, highest)
    # Without what only the whole knows (stages, mining): a stage is a plain detection run.
    plain = settings.model_dump(include=set(DetectionSettings.model_fields))
    return DetectionSettings.model_validate(plain).changed(changes)


def _of_schedule(settings: CriticalSettings, stage: str) -> Plain:
    """The stage's part of the one schedule, with mosaics to its end where another stage follows."""
    if not settings.stages.one_schedule:
        return {}
    epochs = {name: settings.epochs_of(name) for name in stages_of(settings)}
    total, before = sum(epochs.values()), 0
    for name in epochs:
        if name == stage:
            break
        before += epochs[name]
    begins, ends = before / total, (before + epochs[stage]) / total
    last = stage == list(epochs)[-1]
    return {
        "training.optimizer.begins_at": begins,
        "training.optimizer.ends_at": ends,
        **({} if last else {"training.close_mosaic_epochs": 0}),
    }


def _of_stage(settings: CriticalSettings, stage: str, epochs: int, negatives: Path | None) -> Plain:
    """What a stage has of its own: the first is trained plainly, the last sees pictures as they are."""
    if stage == "standard":
        plain: Plain = {"hard_negatives": {}}
        if not settings.stages.standard.emphasis:
            plain |= {"balance": {}, "copy_paste": {}, "loss.focal": {}}
        # There is no floor yet that the composite could be held against.
        return plain | ({"training.best_metric": "map50_95"} if settings.training.best_metric == FLOORED else {})
    # ``close_mosaic_epochs`` of all its epochs is no mosaic at all.
    last = {"copy_paste.probability": 0.0, "training.close_mosaic_epochs": epochs} if stage == "fine_tune" else {}
    return {"hard_negatives.file": negatives, **last}


@dataclass(frozen=True)
class Scored:
    """A stage that is done, with the score of its best weights by which the stages are compared."""

    part: Part
    score: float

    @classmethod
    def of(cls, part: Part, metric: str, floor: float | None) -> Scored:
        """``metric`` at the part's best epoch, counted with the ``floor`` of the whole."""
        return cls(part, score_of_row(part.best_row, metric, floor))


def judged_on_val(stage: Part, floor: float | None) -> Plain:
    """The stage's best weights against the ``floor``, both of the split val: the others' map50 (``None``: undefined),
    whether they keep it, and the score that follows."""
    best = stage.best_row
    others = best.get("val/others/map50")
    if others is not None and math.isnan(others):
        # NaN is no JSON, and would compare as a floor that is not kept.
        others = None
    kept = floor is None or others is None or others >= floor
    return {"split": "val", "others/map50": others, "kept": kept, FLOORED: score_of_row(best, FLOORED, floor)}


def score_of_row(row: Mapping[str, float], metric: str, floor: float | None) -> float:
    """The metric of an epoch's row; the composite with the floor of the whole, which an early stage did not know."""
    if metric == FLOORED:
        others = row.get("val/others/map50")
        return critical_score(row["val/critical/map50_95"], float("nan") if others is None else others, floor)
    return float(row[f"val/{metric}"])


def chosen_stage(stages: Sequence[Scored], keep: str) -> Scored:
    """The stage whose weights are kept: the last, or the best by score (of equal ones the later)."""
    if keep == "last":
        return stages[-1]
    return max(enumerate(stages), key=lambda pair: (pair[1].score, pair[0]))[1]


def stages_of(settings: CriticalSettings) -> list[str]:
    """The stages that have epochs, in order."""
    return [name for name in STAGES if settings.epochs_of(name)]
