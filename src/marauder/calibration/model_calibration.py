"""The score calibration of a model, fitted on labelled pictures and kept on disk; see ``score_curves``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marauder.calibration.score_curves import calibrate_scores
from marauder.core.files import DamagedFileError, fingerprint, read_json, write_json
from marauder.core.progress import Progress
from marauder.core.randomness import stream
from marauder.data.pictures import UnreadablePictureError, picture_identity
from marauder.data.records import Record
from marauder.prediction.candidates import OVERLAP, CandidateModel, Passes, decode_for
from marauder.prediction.score_calibration import ScoreCalibration, no_calibration

log = logging.getLogger("marauder")

MOST_PICTURES = 2000
"""Validation pictures that are looked at, drawn at random; more would hardly move the curves."""
CHUNK = 64
FORMAT = 3


def calibrate_model(
    model: CandidateModel,
    records: Sequence[Record],
    batch: int,
    seed: int,
    check: Callable[[], None],
    path: Path,
) -> ScoreCalibration:
    """The calibration of ``model`` on labelled ``records``, their classes numbered as its scores; read from ``path``
    where it was made from the same. ``check`` comes before each batch."""
    names = model.names
    chosen = _sample([record for record in records if record.labelled], seed)
    if not chosen:
        return no_calibration(names)
    labels = [[record.boxes.tolist(), record.classes.tolist(), record.ignored.tolist()] for record in chosen]
    # All that the curves depend on; the weights by their content, as a retrained model may have the same path.
    identity = fingerprint(
        [FORMAT, model.predictor.digest, model.size, model.confidence, OVERLAP, names, picture_identity(chosen), labels]
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
            for sight in model.look(pictures, Passes(), batch, check):
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
