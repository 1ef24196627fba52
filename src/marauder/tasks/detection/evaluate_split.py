"""Running a stored detector over a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.progress import Progress
from marauder.data.pictures import PictureStore
from marauder.data.records import Dataset, Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import automatic_slices
from marauder.evaluation.evaluate import EvaluationResult, evaluate
from marauder.evaluation.inference import InferenceOptions, detect
from marauder.models.files import load_detector
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.evaluator import pair_up


@dataclass(frozen=True, eq=False)
class Measured:
    """A detector's result on a split, with the records and detections it rests on."""

    result: EvaluationResult
    records: list[Record]
    detections: list[Detections]


def evaluate_split(
    weights: Path,
    dataset: Dataset,
    split: str,
    device: torch.device,
    clock: Clock | None,
    image_size: int | None = None,
    masks: Callable[[Sequence[Record], tuple[str, ...]], Sequence[SliceMask]] = automatic_slices,
) -> Measured:
    """Run a stored detector over the labelled pictures of a split. Raises ``UserError``, ``Interrupted``."""
    loaded = load_detector(weights)
    if loaded.names != dataset.names:
        raise UserError(
            f"{weights} knows the classes {', '.join(loaded.names)}; the data set has {', '.join(dataset.names)}: "
            "evaluate on a data set with the same classes in the same order"
        )
    records = labelled(dataset.split(split))
    store = PictureStore(records, image_size or loaded.image_size, None, 0)
    model = loaded.model.to(device)

    def stops() -> bool:
        return clock is not None and clock.stop_reason() is not None

    with Progress(f"evaluating on {split}", len(records)) as progress:
        predictions = detect(model, records, store, range(len(records)), InferenceOptions(), stops, progress)
    if predictions is None:
        raise Interrupted((clock.stop_reason() if clock is not None else None) or "stopped while evaluating")
    kept, detections = pair_up(records, predictions, set())
    return Measured(evaluate(kept, detections, dataset.names, masks(kept, dataset.names)), kept, detections)
