"""The teacher: any predictor that knows the data set's classes, what it finds in pictures, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import fingerprint
from marauder.core.progress import Progress
from marauder.data.picture_files import DECODING_VERSION
from marauder.data.pictures import picture_identity
from marauder.data.records import Dataset, Detections, Record
from marauder.ensembles.parts import Part, read_part, write_part
from marauder.evaluation.evaluate import evaluate
from marauder.prediction.ensemble import EnsemblePredictor
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import Predictor
from marauder.prediction.records import DecodedPictures, detect, predict_records
from marauder.prediction.settings import MEASURING, PredictionSettings
from marauder.prediction.viewing import ViewingPredictor
from marauder.tasks.detection.base_detector import architecture_of_network
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.evaluate_split import Measured
from marauder.tasks.detection.evaluator import pair_up

SHARD = 64
"""Pictures of a part: what a kill costs at most."""
LEAST = 0.01
"""Score from which the teacher's boxes are kept, so that other limits need no second look."""
FORMAT = 1


@dataclass(frozen=True)
class TeacherIs:
    """What is known of a teacher without holding it open. ``digest``: of its files; ``calibrated``: whether its scores
    were fitted to how often it is right; ``members``: architectures of the detectors in it, ``None``: not known."""

    path: Path
    digest: str
    image_size: int
    calibrated: bool
    members: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Teacher:
    """An opened teacher. ``numbers``: its classes' places among those of the data set, -1 for others, int64 (K,)."""

    predictor: Predictor
    names: tuple[str, ...]
    numbers: np.ndarray

    def renumbered(self, found: Detections) -> Detections:
        """``found`` with the data set's classes, those alone."""
        classes = self.numbers[found.classes]
        known = classes >= 0
        own = None if found.own_scores is None else found.own_scores[known]
        return Detections(found.boxes[known], found.scores[known], classes[known], own)


def open_teacher(path: Path, names: Sequence[str], device: torch.device | str) -> Teacher:
    """The teacher at ``path`` for a data set of the classes ``names``, which it may know in any order, beside others.

    Raises ``UserError`` for one that cannot be opened or does not know them all.
    """
    predictor = open_predictor(path, device)
    known = predictor.names
    lacking = [name for name in names if name not in known]
    if lacking:
        raise UserError(
            f"{path}: does not know {', '.join(lacking)}, of the data set's classes, and cannot teach them (it knows "
            f"{', '.join(known[:12])}{' …' if len(known) > 12 else ''}); name a teacher that was trained on these "
            "classes"
        )
    if twice := [name for name in names if known.count(name) > 1]:
        raise UserError(f"{path}: names {', '.join(twice)} twice; name its classes apart")
    order = list(names)
    numbers = np.array([order.index(name) if name in order else -1 for name in known], np.int64)
    return Teacher(predictor, tuple(names), numbers)


def describe(path: Path, names: Sequence[str]) -> TeacherIs:
    """What is known of the teacher at ``path``. Raises ``UserError`` as ``open_teacher`` does."""
    predictor = open_teacher(path, names, "cpu").predictor
    inner = predictor.inner if isinstance(predictor, ViewingPredictor) else predictor
    members = inner.members if isinstance(inner, EnsemblePredictor) else (inner,)
    # Calibrated members are fused into calibrated scores.
    calibrated = inner.calibration is not None or all(one.calibration is not None for one in members)
    return TeacherIs(
        path, predictor.digest, predictor.image_size, calibrated, tuple(_architecture(one) for one in members)
    )


def _architecture(predictor: Predictor) -> str | None:
    try:
        return architecture_of_network(predictor.network, predictor.metadata)
    except UserError:
        return None  # an exported file has no network, and says no architecture


def look(teacher: Teacher, records: Sequence[Record], folder: Path, clock: Clock, batch: int | None = None) -> Part:
    """What the teacher finds in ``records``, of the data set's classes, from ``LEAST`` up; parts that ``folder`` holds
    are not looked for again.

    Raises ``Interrupted`` when the clock says so, with all finished parts kept.
    """
    found: list[Detections | None] = []
    reasons: dict[int, str] = {}
    with Progress("the teacher looks", len(records)) as progress:
        for number, start in enumerate(range(0, len(records), SHARD)):
            some = records[start : start + SHARD]
            path, identity = folder / f"part-{number:05d}.npz", _identity(teacher, some)
            part = read_part(path, identity)
            if part is None:
                write_part(path, _look_at(teacher, some, clock, batch, progress), identity)
                # As it is kept: what is read back after a kill is what was found.
                part = read_part(path, identity)
                assert part is not None
            else:
                progress.already_done += len(some)
                progress.advance(len(some))
            found += part.found
            reasons |= {start + place: why for place, why in part.reasons.items()}
    return Part(tuple(found), reasons)


def _identity(teacher: Teacher, records: Sequence[Record]) -> str:
    predictor = teacher.predictor
    made_from = [FORMAT, LEAST, DECODING_VERSION, predictor.digest, predictor.image_size, teacher.names]
    return fingerprint([*made_from, picture_identity(records)])


def _look_at(teacher: Teacher, records: Sequence[Record], clock: Clock, batch: int | None, progress: Progress) -> Part:
    settings = PredictionSettings(
        confidence=LEAST, multi_label=MEASURING.multi_label, batch=batch, classes=teacher.names
    )
    stops = lambda: clock.stop_reason() is not None  # noqa: E731 - asked between batches
    pictures, places = DecodedPictures(records), range(len(records))
    predictions = detect(teacher.predictor, records, pictures, places, settings, stops, progress)
    if predictions is None:
        raise Interrupted(clock.stop_reason() or "stopped while the teacher looked")
    found = tuple(None if one.detections is None else teacher.renumbered(one.detections) for one in predictions)
    return Part(found, {one.index: one.set_aside for one in predictions if one.set_aside})


def evaluate_teacher(teacher: Teacher, dataset: Dataset, split: str, clock: Clock, least_confidence: float) -> Measured:
    """The teacher on the labelled pictures of a split, in its own size. Raises ``Interrupted``."""
    settings = PredictionSettings(
        confidence=MEASURING.confidence,
        multi_label=MEASURING.multi_label,
        by_own_scores=MEASURING.by_own_scores,
        classes=teacher.names,
    )
    records = labelled(dataset.split(split))
    predictions = predict_records(teacher.predictor, records, settings, clock, f"the teacher on {split}")
    kept, detections = pair_up(records, predictions, set())
    detections = [teacher.renumbered(one) for one in detections]
    result = evaluate(kept, detections, dataset.names, (), least_confidence=least_confidence)
    return Measured(result, kept, detections)
