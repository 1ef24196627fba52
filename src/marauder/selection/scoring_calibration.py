"""Calibration of each scoring model on labelled validation pictures, kept on disk; see ``score_calibration``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, fingerprint, read_json, write_json
from marauder.core.progress import Progress
from marauder.core.randomness import stream
from marauder.data.pictures import UnreadablePictureError
from marauder.data.reading import read_dataset
from marauder.data.records import Record
from marauder.selection.score_calibration import ScoreCalibration, calibrate_scores, no_calibration
from marauder.selection.scoring_models import OVERLAP, Passes, ScoringModel, decode_for
from marauder.selection.scoring_shards import picture_identity
from marauder.selection.settings import SelectionSettings

log = logging.getLogger("marauder")

VALIDATION_SPLIT = "val"
MOST_PICTURES = 2000
"""Validation pictures that are looked at, drawn at random; more would hardly move the curves."""
CHUNK = 64
FORMAT = 1


def read_validation(settings: SelectionSettings, names: Sequence[str]) -> list[Record]:
    """Labelled records of the split ``val`` of ``settings.labelled``, else of the pool, classes numbered by ``names``.

    Raises ``UserError`` for classes that are not among ``names``.
    """
    source = settings.labelled if settings.labelled is not None else settings.pool
    dataset = read_dataset(source, names=settings.names)
    chosen = [record for record in dataset if record.labelled and record.split == VALIDATION_SPLIT]
    used = sorted({int(number) for record in chosen for number in record.classes})
    strange = [dataset.names[number] for number in used if dataset.names[number] not in names]
    if strange:
        raise UserError(
            f"{source}: has labels of {', '.join(strange)}, which the models do not know; map the classes, or set "
            "calibration and class_difficulty to off"
        )
    lookup = np.array([list(names).index(name) if name in names else -1 for name in dataset.names], np.int64)
    return [replace(record, classes=lookup[record.classes]) for record in chosen]


def calibrate_model(
    model: ScoringModel,
    names: Sequence[str],
    records: Sequence[Record],
    settings: SelectionSettings,
    check: Callable[[], None],
    path: Path,
) -> ScoreCalibration:
    """The calibration of one model on labelled ``records``; read from ``path`` where it was made from the same."""
    chosen = _sample([record for record in records if record.labelled], settings.seed)
    if not chosen:
        return no_calibration(names)
    labels = [[record.boxes.tolist(), record.classes.tolist(), record.ignored.tolist()] for record in chosen]
    identity = fingerprint(
        [FORMAT, model.weights, model.size, model.confidence, OVERLAP, names, picture_identity(chosen), labels]
    )
    known = _read(path, identity)
    if known is not None:
        return known
    seen, boxes, scores = [], [], []
    with Progress(f"calibrating {model.path.name}", len(chosen)) as progress:
        for start in range(0, len(chosen), CHUNK):
            part, pictures = [], []
            for record in chosen[start : start + CHUNK]:
                try:
                    picture = decode_for(record.key, record.picture, [model.size])
                except UnreadablePictureError as error:
                    log.warning("left out of calibration: %s", error)
                    continue
                if (picture.width, picture.height) != (record.width, record.height):
                    log.warning("left out of calibration: %s has another size than its record", record.picture)
                    continue
                part.append(record)
                pictures.append(picture)
            for sight in model.look(pictures, Passes(), settings.batch, check):
                boxes.append(sight.boxes)
                scores.append(sight.scores)
            seen += part
            progress.advance(min(CHUNK, len(chosen) - start))
    calibration = calibrate_scores(seen, boxes, scores, names) if seen else no_calibration(names)
    write_json(path, {"identity": identity, "calibration": calibration.to_json()})
    return calibration


def _sample(records: list[Record], seed: int) -> list[Record]:
    if len(records) <= MOST_PICTURES:
        return records
    places = stream(seed, "calibration").choice(len(records), MOST_PICTURES, replace=False)
    return [records[place] for place in np.sort(places)]


def _read(path: Path, identity: str) -> ScoreCalibration | None:
    if not path.exists():
        return None
    try:
        content: Any = read_json(path)
    except DamagedFileError:
        return None  # it is made anew
    if not isinstance(content, dict) or content.get("identity") != identity:
        return None
    return ScoreCalibration.from_json(content["calibration"])
