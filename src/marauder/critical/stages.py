"""The three stages of step 5: the settings of each, what it starts from, and whether it is done."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.files import atomic_path, fingerprint, hash_file, read_json, read_lines, write_json
from marauder.critical.settings import STAGES, CriticalSettings
from marauder.data.balancing import BalanceSettings
from marauder.engine.state import Outcome
from marauder.evaluation.critical_metrics import with_floor
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.registry.settings import RegistrySettings
from marauder.runs.announcing import mirrors_of
from marauder.runs.settings import ExportPlan
from marauder.tasks.detection.loss_settings import FLOORED, FocalSettings, HardNegativeUse
from marauder.tasks.detection.settings import DetectionSettings

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary

log = logging.getLogger("marauder")
FOLDER = "stages"
MIRROR_SECONDS = 60.0


@dataclass(frozen=True)
class Finished:
    """A stage that is done: its weights, its numbers by epoch, and the score of its best weights: that by which the
    stages are compared, known when all are done."""

    name: str
    folder: Path
    epochs: int
    best_epoch: int
    seconds: float
    history: list[dict[str, float]]
    score: float = math.nan

    @property
    def weights(self) -> Path:
        """Its best weights."""
        return self.folder / "best.safetensors"


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
    plain = DetectionSettings(**{name: getattr(settings, name) for name in DetectionSettings.model_fields})
    training, chosen = settings.training, getattr(settings.stages, stage)
    optimizer = training.optimizer
    rate = optimizer.learning_rate * chosen.rate
    changed: dict[str, Any] = {"learning_rate": rate}
    if start is not None:
        # Weights that are good already are not shaken by a long or steep warm-up.
        changed |= {
            "warmup_epochs": min(optimizer.warmup_epochs, 1.0),
            "warmup_bias_rate": min(optimizer.warmup_bias_rate, rate),
        }
    epochs = settings.epochs_of(stage)
    plainly_judged = stage == "standard" and training.best_metric == FLOORED
    updates: dict[str, Any] = {
        "output": settings.folder / FOLDER / stage,
        "id": f"{(settings.id or settings.folder.name)[:50]}-{stage}",
        "checkpoints": settings.checkpoint_folder / stage,
        "weights": start,
        "ssl_backbone": settings.ssl_backbone if start is None else None,
        "critical": tuple(critical),
        "others_floor": floor,
        "gates": None,
        "gate": {name: "off" for name in gates if name != "health"},
        "export": ExportPlan(formats=()),
        "registry": RegistrySettings(kind="none"),
        "events": settings.events.model_copy(update={"sinks": ()}),
        "store": None,
        "recipe": None,
        "evaluation": settings.evaluation.model_copy(update={"target": {}}),
        "training": training.model_copy(
            update={
                "epochs": epochs,
                "optimizer": optimizer.model_copy(update=changed),
                # The last stage sees pictures as they are.
                "close_mosaic_epochs": epochs if stage == "fine_tune" else training.close_mosaic_epochs,
                "best_metric": "map50_95" if plainly_judged else training.best_metric,
            }
        ),
    }
    if stage == "standard":
        updates |= {
            "balance": BalanceSettings(),
            "copy_paste": CopyPasteSettings(),
            "hard_negatives": HardNegativeUse(),
            "loss": settings.loss.model_copy(update={"focal": FocalSettings()}),
        }
    else:
        updates["hard_negatives"] = settings.hard_negatives.model_copy(update={"file": negatives})
    if stage == "fine_tune":
        updates["copy_paste"] = settings.copy_paste.model_copy(update={"probability": 0.0})
    return plain.model_copy(update=updates)


def trained_nothing(settings: CriticalSettings) -> bool:
    """Whether the run that lies here left neither weights, nor an epoch's figures, nor a checkpoint."""
    left = [settings.folder.glob("best.*"), settings.checkpoint_folder.rglob("checkpoint_*")]
    left += [(settings.folder / FOLDER).glob(f"*/{name}") for name in ("best.*", "last.*", "metrics.jsonl")]
    return not any(path.stat().st_size for found in left for path in found)


def take_up(settings: DetectionSettings, stage: str, made_of: Mapping[str, Any]) -> None:
    """Make the stage's folder one of ``made_of`` (hashes of weights and negatives): what was made of others goes.

    A stage follows from the one before it, so that another result there means another stage here.
    """
    marker = settings.folder.parent / f"{stage}.json"
    key = fingerprint(made_of)
    if marker.is_file() and read_json(marker).get("key") == key:
        return
    if settings.folder.exists():
        log.info("stage %s: what it is made of has changed; it begins anew", stage)
    # The marker goes first, so that a kill in between cannot leave old results under a new key.
    marker.unlink(missing_ok=True)
    for folder in (settings.folder, settings.checkpoint_folder):
        shutil.rmtree(folder, ignore_errors=True)
    for mirror in mirrors_of(settings):
        mirror.clear()
        mirror.finish(MIRROR_SECONDS)
    write_json(marker, {"key": key, "made_of": dict(made_of)})


def finished_stage(settings: DetectionSettings, stage: str, summary: RunSummary) -> Finished:
    """A stage by the summary of its run."""
    if summary.stopped_early:
        log.warning("stage %s: %s", stage, summary.stopped_early)
    history = read_lines(settings.folder / "metrics.jsonl")
    best = summary.best_epoch if summary.best_epoch is not None else summary.epochs
    return Finished(stage, settings.folder, summary.epochs, best, summary.seconds, history)


def scored(stage: Finished, metric: str, floor: float | None) -> Finished:
    """The stage with its score: ``metric`` at its best epoch, counted with the ``floor`` of the whole."""
    best = next(row for row in stage.history if row["epoch"] == stage.best_epoch)
    return replace(stage, score=score_of_row(best, metric, floor))


def judged_on_val(stage: Finished, floor: float | None) -> dict[str, Any]:
    """The stage's best weights against the ``floor``, both of the split val: the others' map50 (``None``: undefined),
    whether they keep it, and the score that follows."""
    best = next(row for row in stage.history if row["epoch"] == stage.best_epoch)
    others = best.get("val/others/map50")
    if others is not None and math.isnan(others):
        others = None
    kept = floor is None or others is None or others >= floor
    return {"split": "val", "others/map50": others, "kept": kept, FLOORED: score_of_row(best, FLOORED, floor)}


def score_of_row(row: Mapping[str, float], metric: str, floor: float | None) -> float:
    """The metric of an epoch's row; the composite with the floor of the whole, which an early stage did not know."""
    if metric == FLOORED:
        others = row.get("val/others/map50")
        return with_floor(row["val/critical/map50_95"], float("nan") if others is None else others, floor)
    return float(row[f"val/{metric}"])


def chosen_stage(stages: Sequence[Finished], keep: str) -> Finished:
    """The stage whose weights are kept: the last, or the best by score (of equal ones the later)."""
    if keep == "last":
        return stages[-1]
    return max(enumerate(stages), key=lambda pair: (pair[1].score, pair[0]))[1]


def whole_outcome(stages: Sequence[Finished], chosen: Finished) -> Outcome:
    """All stages as one training: epochs and updates counted on from stage to stage."""
    history: list[dict[str, float]] = []
    epochs, steps, best_epoch = 0, 0, 0
    for stage in stages:
        if stage is chosen:
            best_epoch = epochs + stage.best_epoch
        rows = [{**row, "epoch": epochs + row["epoch"], "step": steps + row["step"]} for row in stage.history]
        history += rows
        epochs, steps = epochs + stage.epochs, int(rows[-1]["step"]) if rows else steps
    seconds = sum(stage.seconds for stage in stages)
    return Outcome(epochs, steps, chosen.score, best_epoch, seconds, history, False)


def copy_weights(chosen: Finished, last: Finished, folder: Path) -> None:
    """The chosen stage's best weights become the whole's ``best``, the last stage's last its ``last``."""
    for source, name in ((chosen.folder / "best", "best"), (last.folder / "last", "last")):
        for suffix in (".safetensors", ".pt"):
            path, target = source.with_suffix(suffix), folder / f"{name}{suffix}"
            if target.is_file() and hash_file(target) == hash_file(path):
                continue
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)


def stages_of(settings: CriticalSettings) -> list[str]:
    """The stages that have epochs, in order."""
    return [name for name in STAGES if settings.epochs_of(name)]
