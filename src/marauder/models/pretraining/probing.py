"""Frozen features for the probe: what a backbone's P3, P4 and P5 see inside labelled boxes and beside them.

Running statistics of batch normalisation are used as they are: settle both sides on the same pictures before comparing
(``tasks.pretraining.probe.settle``). A control that trained with a learning rate of 0 gained as much as pretraining did
where that was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import roi_align

from marauder.core.progress import Progress
from marauder.core.randomness import stream
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.records import Record
from marauder.imaging.letterbox import fit
from marauder.models.pretraining.network import STRIDES, Backbone

BATCH = 16
TRIES = 20
FREE_OVERLAP = 0.1
"""Share of a background crop that labelled boxes may cover."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Places of labelled pictures. ``boxes``: float64 (N, 4), x0 y0 x1 y1 in pixels of the picture. ``classes``: int64
    (N,), the background's number is that of the classes. ``pictures``: int64 (N,), positions in the records.
    ``groups``: (N,), names of the records' groups."""

    boxes: np.ndarray
    classes: np.ndarray
    pictures: np.ndarray
    groups: np.ndarray


def choose_crops(records: Sequence[Record], class_count: int, seed: int, boxes_a_picture: int = 20) -> Crops:
    """Labelled boxes (at most so many a picture) and as many crops of background, of the same sizes.

    A function of the seed and each record alone. Records without labels and ignored boxes are left out; a picture
    labelled as empty gives one crop of background, of a quarter of its sides.
    """
    rows: list[np.ndarray] = []
    classes: list[int] = []
    pictures: list[int] = []
    for index, record in enumerate(records):
        if not record.labelled:
            continue
        known = record.with_boxes(np.asarray(~record.ignored))
        random = stream(seed, "probe crops", record.key)
        chosen = np.sort(random.permutation(len(known.boxes))[:boxes_a_picture])
        sizes = known.boxes[chosen, 2:] - known.boxes[chosen, :2]
        empty = np.array([[record.width / 4, record.height / 4]])
        background = [_background(record, size, random) for size in (sizes if len(sizes) else empty)]
        found = [box for box in background if box is not None]
        rows += [*known.boxes[chosen], *found]
        classes += [*known.classes[chosen].tolist(), *[class_count] * len(found)]
        pictures += [index] * (len(chosen) + len(found))
    places = np.array(pictures, np.int64)
    groups = np.array([records[index].group for index in pictures], np.str_)
    return Crops(np.array(rows, np.float64).reshape(-1, 4), np.array(classes, np.int64), places, groups)


def _background(record: Record, size: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """A box of ``size`` (width, height) that boxes of the picture hardly cover, or ``None`` where there is no room."""
    room = np.maximum(np.array([record.width, record.height]) - size, 0)
    for corner in random.random((TRIES, 2)) * room:
        box = np.concatenate([corner, corner + size])
        low, high = np.maximum(record.boxes[:, :2], box[:2]), np.minimum(record.boxes[:, 2:], box[2:])
        covered = np.clip(high - low, 0, None).prod(axis=1).sum() if len(record.boxes) else 0.0
        if covered <= FREE_OVERLAP * size.prod():
            return box
    return None


@torch.inference_mode()
def crop_features(
    backbone: Backbone,
    records: Sequence[Record],
    crops: Crops,
    store: PictureStore,
    device: torch.device | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> np.ndarray | None:
    """What ``backbone`` sees in each crop: float32 (N, D), means over the box of P3, P4 and P5 one after another.

    ``store``: the pictures of ``records``; letterboxed as for detection. Rows of pictures that cannot be read are NaN.
    The backbone stays in the mode it is in, but is used in evaluation mode. ``None`` when ``should_stop`` said so.
    """
    where = device if device is not None else next(backbone.parameters()).device
    training = backbone.training
    backbone.to(where).eval()
    features = np.full((len(crops.boxes), sum(backbone.channels)), np.nan, np.float32)
    wanted = np.unique(crops.pictures)
    try:
        with Progress("probing features", len(wanted)) as progress:
            for start in range(0, len(wanted), BATCH):
                if should_stop():
                    return None
                for index in wanted[start : start + BATCH].tolist():
                    rows = np.flatnonzero(crops.pictures == index)
                    _look(backbone, records[index], store, index, crops.boxes, rows, features, where)
                    progress.advance()
    finally:
        backbone.train(training)
    return features


def _look(
    backbone: Backbone,
    record: Record,
    store: PictureStore,
    index: int,
    boxes: np.ndarray,
    rows: np.ndarray,
    features: np.ndarray,
    device: torch.device,
) -> None:
    try:
        picture = store.get(index)
    except UnreadablePictureError:
        return
    box = fit(record.width, record.height, store.long_side, STRIDES[-1])
    image = torch.from_numpy(box.apply(picture)).to(device).permute(2, 0, 1)[None].float().div_(255)
    gains = np.array([box.scaled_width / record.width, box.scaled_height / record.height] * 2)
    placed = boxes[rows] * gains + [box.left, box.top, box.left, box.top]
    # roi_align's first column is the picture's number in the batch, of which this is the only one.
    regions = torch.from_numpy(np.concatenate([np.zeros((len(rows), 1)), placed], axis=1)).float().to(device)
    levels = [
        # aligned: box coordinates are continuous here; without it they would lie half a cell off.
        roi_align(maps.float(), regions, 1, 1 / stride, sampling_ratio=3, aligned=True)[:, :, 0, 0]
        for maps, stride in zip(backbone(image), STRIDES, strict=True)
    ]
    features[rows] = torch.cat(levels, dim=1).cpu().numpy()
