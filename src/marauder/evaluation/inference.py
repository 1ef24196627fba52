"""Running a detector over records: batches of equal shape, suppression, boxes back in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from marauder.core.progress import Progress
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.records import Detections, Record
from marauder.imaging.letterbox import Letterbox, fit
from marauder.models.ultralytics_adapter import DetectionModel, input_stride, suppress


@dataclass(frozen=True)
class InferenceOptions:
    """``confidence``: scores below are dropped; ``overlap``: IoU above which suppression drops the lower score."""

    confidence: float = 0.001
    overlap: float = 0.7
    max_detections: int = 300
    batch_size: int = 16


@dataclass(frozen=True)
class Prediction:
    """What one record gave: detections, or why its picture could not be used."""

    index: int
    detections: Detections | None
    set_aside: str | None = None


def detect(
    model: DetectionModel,
    records: Sequence[Record],
    store: PictureStore,
    indices: Sequence[int],
    options: InferenceOptions,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> list[Prediction] | None:
    """Predictions for ``records[i]``, i in ``indices``, in the order of ``indices``.

    The model stays where it is; ``store`` holds the records' pictures scaled to its input. ``None`` when
    ``should_stop``, asked before each batch, said so.
    """
    stride, device = input_stride(model), next(model.parameters()).device
    boxes = {index: fit(records[index].width, records[index].height, store.long_side, stride) for index in indices}
    ordered = sorted(indices, key=lambda index: (boxes[index].shape, index))
    found: dict[int, Prediction] = {}
    training = model.training
    model.eval()
    for chunk in _chunks(ordered, boxes, options.batch_size):
        if should_stop():
            model.train(training)
            return None
        found.update(_detect_chunk(model, store, chunk, boxes, options, device))
        if progress is not None:
            progress.advance(len(chunk))
    model.train(training)
    return [found[index] for index in indices]


def _chunks(ordered: list[int], boxes: dict[int, Letterbox], size: int) -> list[list[int]]:
    chunks: list[list[int]] = []
    for index in ordered:
        if chunks and len(chunks[-1]) < size and boxes[chunks[-1][0]].shape == boxes[index].shape:
            chunks[-1].append(index)
        else:
            chunks.append([index])
    return chunks


@torch.inference_mode()
def _detect_chunk(
    model: DetectionModel,
    store: PictureStore,
    chunk: list[int],
    boxes: dict[int, Letterbox],
    options: InferenceOptions,
    device: torch.device,
) -> dict[int, Prediction]:
    found: dict[int, Prediction] = {}
    inputs, readable = [], []
    for index in chunk:
        try:
            inputs.append(boxes[index].apply(store.get(index)))
            readable.append(index)
        except UnreadablePictureError as error:
            found[index] = Prediction(index, None, str(error))
    if not readable:
        return found
    images = torch.from_numpy(np.stack(inputs)).to(device).permute(0, 3, 1, 2).float().div_(255)
    decoded = model(images)[0]
    kept = suppress(decoded, options.confidence, options.overlap, options.max_detections)
    for index, rows in zip(readable, kept, strict=True):
        values = rows.cpu().double().numpy()
        detections = Detections(boxes[index].restore(values[:, :4]), values[:, 4], values[:, 5])
        found[index] = Prediction(index, detections)
    return found
