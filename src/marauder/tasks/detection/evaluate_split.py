"""Running a stored detector over a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.data.records import Dataset, Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import automatic_slices
from marauder.evaluation.curves import LEAST_CONFIDENCE
from marauder.evaluation.evaluate import EvaluationResult, evaluate
from marauder.prediction.detector import DetectorPredictor
from marauder.prediction.opening import open_predictor
from marauder.prediction.records import predict_records
from marauder.prediction.settings import MEASURING
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.evaluator import pair_up
from marauder.tasks.detection.soundness import doubts_of_answers, doubts_of_weights


@dataclass(frozen=True, eq=False)
class Measured:
    """A detector's result on a split, with the records and detections it rests on.

    ``doubts``: why the detector itself may be damaged or untrained, a sentence each.
    """

    result: EvaluationResult
    records: list[Record]
    detections: list[Detections]
    doubts: tuple[str, ...] = ()


def other_classes(weights: Path, known: Sequence[str], names: Sequence[str]) -> str:
    """In which classes a detector that knows ``known`` differs from a data set of ``names``; their order is no
    difference. Raises ``ValueError`` where none is."""
    lacking, more = (", ".join(one for one in of if one not in other) for of, other in ((names, known), (known, names)))
    parts = [f"does not know {lacking}"] * bool(lacking) + [f"knows {more}, which the data set lacks"] * bool(more)
    if parts:
        return f"{weights} {' and '.join(parts)}"
    for whose, of in ((str(weights), known), ("the data set", names)):
        if twice := [name for place, name in enumerate(of) if name in of[:place]]:
            return f"{whose} names {', '.join(twice)} twice"
    raise ValueError(f"{', '.join(known)} are the classes {', '.join(names)}")


def evaluate_split(
    weights: Path,
    dataset: Dataset,
    split: str,
    device: torch.device,
    clock: Clock | None,
    image_size: int | None = None,
    masks: Callable[[Sequence[Record], tuple[str, ...]], Sequence[SliceMask]] = automatic_slices,
    least_confidence: float = LEAST_CONFIDENCE,
) -> Measured:
    """Run a stored detector over the labelled pictures of a split; its operating point is ``least_confidence`` at
    least. Raises ``UserError``, ``Interrupted``."""
    predictor = open_predictor(weights, device, image_size)
    if not predictor.number_as(dataset.names):
        raise UserError(f"{other_classes(weights, predictor.names, dataset.names)}: evaluate on a data set of the same")
    records = labelled(dataset.split(split))
    predictions = predict_records(predictor, records, MEASURING, clock, f"evaluating on {split}")
    # Masks are made of the readable ones: their rows belong to these records.
    kept, detections = pair_up(records, predictions, set())
    # Of an exported file only the answers are known.
    of_weights = doubts_of_weights(predictor.network) if isinstance(predictor, DetectorPredictor) else []
    slices = masks(kept, dataset.names)
    result = evaluate(kept, detections, dataset.names, slices, least_confidence=least_confidence)
    return Measured(result, kept, detections, (*of_weights, *doubts_of_answers(detections)))
