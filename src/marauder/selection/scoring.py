"""Scoring a pool of pictures with one detector or several: uncertainty, features and expected boxes, shard by shard.

Every picture is decoded once and goes through all models and passes that the asked measures need. Finished shards are
on disk; the same call continues after a stop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.calibration.model_calibration import calibrate_model
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import remove_leftovers
from marauder.core.plugins import make
from marauder.core.progress import Progress
from marauder.core.randomness import stream
from marauder.data.pictures import UnreadablePictureError
from marauder.data.records import Record
from marauder.prediction.batching import one_chunk_ahead
from marauder.prediction.candidates import (
    OVERLAP,
    CandidateModel,
    DecodedPicture,
    Passes,
    Sight,
    decode_for,
    most_boxes,
)
from marauder.prediction.score_calibration import ScoreCalibration, no_calibration
from marauder.selection.box_evidence import BoxEvidence, class_distribution
from marauder.selection.estimate_reliability import fit_box_line
from marauder.selection.measures.base import Measure
from marauder.selection.pool_scores import PoolScores
from marauder.selection.reduction import box_weights, class_weights, reduce_boxes
from marauder.selection.scoring_evidence import gather_evidence
from marauder.selection.scoring_models import needed_passes, open_models
from marauder.selection.scoring_shards import (
    SHARD,
    Shard,
    read_shard,
    shard_identity,
    shard_path,
    write_shard,
)
from marauder.selection.settings import SelectionSettings
from marauder.selection.validation import read_validation

__all__ = ["PoolScores", "score_pool"]

CHUNK = 64
"""Pictures that are held decoded at a time."""
VALIDATION = "validation"
"""Subfolder for what the models expect in labelled validation pictures."""
LEAST_COUNTED, MOST_COUNTED = 20, 500
"""Validation pictures from which boxes are learned to be counted."""
DECISIVE = (
    *("image_size", "reduction", "top_k", "confidence", "dropout_passes", "dropout_rate", "views"),
    *("ensemble_iou", "critical", "critical_weight", "seed"),
)
"""Settings that change scores, beside models, measures and calibration; batch size and device do not."""


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Everything that is the same for all pictures of a pool."""

    models: Sequence[CandidateModel]
    calibrations: Sequence[ScoreCalibration]
    measures: dict[str, Measure]
    passes: Passes
    weights: np.ndarray
    settings: SelectionSettings

    def identity(self) -> list[Any]:
        """What scores are made from, beside the pictures."""
        settings = self.settings.model_dump(mode="json", include=set(DECISIVE))
        curves = [calibration.to_json() for calibration in self.calibrations]
        models = [[model.predictor.digest, model.size] for model in self.models]
        names = self.models[0].names
        kept = [OVERLAP, most_boxes(len(names))]
        return [models, list(self.measures), settings, curves, self.weights.tolist(), names, *kept]

    def look(self, pictures: Sequence[DecodedPicture], clock: Clock) -> list[list[Sight]]:
        """What each model sees in each picture, by picture."""
        # Views and dropout are asked of the first model: where there are several, they are the committee themselves.
        others = Passes(sides=self.passes.sides)
        of_models = [
            model.look(pictures, self.passes if number == 0 else others, self.settings.batch, clock.check)
            for number, model in enumerate(self.models)
        ]
        return [list(sights) for sights in zip(*of_models, strict=True)]

    def score(self, evidence: BoxEvidence) -> list[float]:
        """One number for each measure."""
        weights = box_weights(evidence.scores, self.weights)
        reduction, top_k = self.settings.reduction, self.settings.top_k
        return [reduce_boxes(one.of_boxes(evidence), weights, reduction, top_k) for one in self.measures.values()]


def score_pool(
    records: Sequence[Record],
    settings: SelectionSettings,
    names: Sequence[str],
    clock: Clock,
    folder: Path,
    validation: Sequence[Record] | None = None,
) -> PoolScores:
    """Score ``records`` by ``settings.all_measures()`` with ``settings.scoring_models()``.

    ``names``: class names of the data set, which the models must share (empty: those of the first model). ``folder``:
    where finished shards are kept, for one process at a time. ``validation``: labelled records to fit calibration and
    class difficulty on, classes numbered by ``names``; read from ``settings.labelled`` (else ``settings.pool``) by
    default, their split ``val``.

    Raises ``Interrupted`` when the clock says so, ``UserError`` without a model, for models with other classes, and
    where no picture can be read.
    """
    started = time.monotonic()
    if settings.fresh:
        _forget(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    models = open_models(settings, names)
    measures: dict[str, Measure] = {name: make("uncertainty", name) for name in settings.all_measures()}
    passes = needed_passes(settings, {measure.needs for measure in measures.values()}, len(models))
    labelled = _labelled(models, settings, validation)
    calibrations, weights, map50, notes = _calibrate(models, settings, labelled, clock, folder)
    scorer = _Scorer(models, calibrations, measures, passes, weights, settings)
    shards = _score_shards(scorer, records, clock, folder)
    told = [*_committee(models, passes), *notes]
    found = _join(shards, list(measures), told, time.monotonic() - started, records)
    return replace(found, map50=map50, box_line=_box_line(scorer, labelled, clock, folder / VALIDATION))


def _labelled(
    models: Sequence[CandidateModel], settings: SelectionSettings, validation: Sequence[Record] | None
) -> list[Record]:
    """Labelled validation pictures; none where nothing is to be learned from them."""
    if settings.calibration == "off" and settings.class_difficulty == "off":
        return []
    return read_validation(settings, models[0].names) if validation is None else list(validation)


def _box_line(scorer: _Scorer, labelled: Sequence[Record], clock: Clock, folder: Path) -> tuple[float, float] | None:
    """Intercept and slope from expected to true boxes of validation pictures; ``None`` where there are too few.

    A detector that knows little misses most boxes, and its scores, however calibrated, say nothing of those.
    """
    if scorer.settings.calibration == "off" or len(labelled) < LEAST_COUNTED:
        return None
    order = stream(scorer.settings.seed, "selection", "boxes of validation").permutation(len(labelled))
    chosen = [labelled[place] for place in np.sort(order[:MOST_COUNTED])]
    folder.mkdir(exist_ok=True)
    shards = _score_shards(scorer, chosen, clock, folder)
    expected = np.concatenate([shard.class_counts.sum(axis=1, dtype=np.float64) for shard in shards])
    places = np.concatenate([shard.indices for shard in shards])
    true = np.array([(~chosen[place].ignored).sum() for place in places], np.float64)
    return fit_box_line(expected, true) if len(true) >= LEAST_COUNTED else None


def _calibrate(
    models: Sequence[CandidateModel],
    settings: SelectionSettings,
    labelled: Sequence[Record],
    clock: Clock,
    folder: Path,
) -> tuple[list[ScoreCalibration], np.ndarray, float | None, list[str]]:
    """Calibration of each model, weights of the classes (C,), mAP50 of the best model, what to tell the user."""
    names = models[0].names
    identity = [no_calibration(names)] * len(models)
    # Calibrating takes a pass over all validation pictures; without it the mAP50 stays unknown, too.
    if settings.calibration == "off" and settings.class_difficulty == "off":
        return identity, class_weights(names, None, settings.critical, settings.critical_weight), None, []
    fitted = [
        calibrate_model(
            model, labelled, settings.batch, settings.seed, clock.check, folder / f"calibration-{number}.json"
        )
        for number, model in enumerate(models)
    ]
    notes = []
    if settings.calibration == "auto":
        notes += [
            f"{model.path.name}: {calibration.describe()}" for model, calibration in zip(models, fitted, strict=True)
        ]
    difficulty = fitted[0].average_precision if settings.class_difficulty == "auto" else None
    if settings.class_difficulty == "auto":
        known = ", ".join(f"{name} {value:.2f}" for name, value in (difficulty or {}).items())
        notes.append(
            f"Boxes weigh 1 - AP50 of their class on validation pictures (AP50 of boxes scored "
            f"{settings.confidence:g} or more: {known})."
            if known
            else "All classes weigh the same: no labelled validation pictures say how difficult each is."
        )
    weights = class_weights(names, difficulty, settings.critical, settings.critical_weight)
    precisions = [list(one.average_precision.values()) for one in fitted]
    map50 = max((float(np.mean(values)) for values in precisions if values), default=None)
    return (fitted if settings.calibration == "auto" else identity), weights, map50, notes


def _committee(models: Sequence[CandidateModel], passes: Passes) -> list[str]:
    if len(models) > 1:
        return [f"The committee is {len(models)} models, associated box by box."]
    if passes.dropout:
        return [f"The committee is {passes.dropout} passes of {models[0].path.name} with dropout in its head."]
    return []


def _score_shards(scorer: _Scorer, records: Sequence[Record], clock: Clock, folder: Path) -> list[Shard]:
    made_from = scorer.identity()
    shards: list[Shard] = []
    with Progress("scoring pictures", len(records)) as progress:
        for number, start in enumerate(range(0, len(records), SHARD)):
            part = records[start : start + SHARD]
            identity = shard_identity(made_from, part)
            shard = read_shard(shard_path(folder, number), identity)
            if shard is None:
                shard = _score_shard(scorer, part, start, clock, progress)
                write_shard(shard_path(folder, number), shard, identity)
            else:
                # Read back, not worked out: it must not count for the speed.
                progress.already_done += len(part)
                progress.advance(len(part))
            shards.append(shard)
    return shards


def _score_shard(scorer: _Scorer, records: Sequence[Record], start: int, clock: Clock, progress: Progress) -> Shard:
    set_aside: dict[str, str] = {}
    indices: list[int] = []
    scores, features, counts, boxes = [], [], [], []
    # Every size that a model wants, so that one decoding serves all of them.
    sizes = sorted({model.size for model in scorer.models})
    for places, pictures in _decoded(records, sizes, set_aside):
        for place, sights in zip(places, scorer.look(pictures, clock), strict=True):
            evidence = gather_evidence(sights, scorer.calibrations, scorer.settings.ensemble_iou)
            indices.append(start + place)
            scores.append(scorer.score(evidence))
            features.append(sights[0].features)
            # Expected numbers: the chances of each class, summed over the boxes.
            counts.append(class_distribution(evidence.scores)[:, :-1].sum(axis=0))
            boxes.append(len(evidence.boxes))
        progress.advance(len(pictures))
    progress.advance(len(set_aside))
    length = len(indices)
    return Shard(
        np.array(indices, np.int64),
        np.array(scores, np.float32).reshape(length, len(scorer.measures)),
        # Of an empty array NumPy cannot tell what -1 stands for.
        np.array(features, np.float32).reshape(length, -1 if length else 0),
        np.array(counts, np.float32).reshape(length, len(scorer.weights)),
        np.array(boxes, np.int64),
        set_aside,
    )


def _decoded(
    records: Sequence[Record], sizes: Sequence[int], set_aside: dict[str, str]
) -> Iterator[tuple[list[int], list[DecodedPicture]]]:
    """Places and pictures of the records that can be read, ``CHUNK`` at a time, decoded in threads one chunk ahead."""

    def decode(place: int) -> DecodedPicture | UnreadablePictureError:
        try:
            return decode_for(records[place].key, records[place].picture, sizes)
        except UnreadablePictureError as error:
            return error

    chunks = [range(start, min(start + CHUNK, len(records))) for start in range(0, len(records), CHUNK)]
    for chunk, decoded in zip(chunks, one_chunk_ahead(chunks, decode), strict=True):
        places, pictures = [], []
        for place, found in zip(chunk, decoded, strict=True):
            if isinstance(found, UnreadablePictureError):
                set_aside[records[place].key] = str(found)
            else:
                places.append(place)
                pictures.append(found)
        yield places, pictures


def _join(
    shards: Sequence[Shard], measures: Sequence[str], notes: list[str], seconds: float, records: Sequence[Record]
) -> PoolScores:
    filled = [shard for shard in shards if len(shard.indices)]
    set_aside = {key: reason for shard in shards for key, reason in shard.set_aside.items()}
    if not filled:
        why = next(iter(set_aside.values()), "there are none")
        raise UserError(f"none of the {len(records)} pictures of the pool can be read ({why}); check the folder")
    table = np.concatenate([shard.measures for shard in filled])
    counts = np.concatenate([shard.class_counts for shard in filled])
    return PoolScores(
        indices=np.concatenate([shard.indices for shard in filled]),
        measures={name: np.ascontiguousarray(table[:, column]) for column, name in enumerate(measures)},
        features=np.concatenate([shard.features for shard in filled]),
        class_counts=counts,
        estimated_boxes=counts.sum(axis=1),
        box_counts=np.concatenate([shard.box_counts for shard in filled]),
        set_aside=set_aside,
        notes=tuple(notes),
        seconds=seconds,
    )


def _forget(folder: Path) -> None:
    """Delete what earlier calls left in ``folder``."""
    for pattern in ("scores-*.npz", f"{VALIDATION}/scores-*.npz", "calibration-*.json"):
        for path in folder.glob(pattern):
            path.unlink()
