"""Looking at pictures in several views (test-time augmentation): every view batched, its boxes put back.

See ``view_names`` for the views, ``view_fusion`` for how they become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from marauder.data.records import Detections
from marauder.imaging.letterbox import Letterbox
from marauder.prediction.batching import chunks_of_one_shape
from marauder.prediction.geometry import Chain, CutOut, Shape
from marauder.prediction.postprocessing import PostprocessingRules
from marauder.prediction.settings import MEASURING
from marauder.prediction.view_fusion import suppressed
from marauder.prediction.view_names import PictureView

if TYPE_CHECKING:
    from marauder.prediction.predictor import Predictor

BORDER = 2.0
"""Pixels of the input from a tile's inner border within which a box counts as cut off by it."""
MOST_OF_A_LOOK = 300
LEAST = MEASURING.confidence or 0.0


def whole(width: int, height: int) -> Letterbox:
    """The frame of a picture that is handed over as it is."""
    return Letterbox(width, height, width, height, 0, 0, width, height)


@dataclass(frozen=True, eq=False)
class _Look:
    picture: int
    view: int
    part: CutOut
    chain: Chain
    frame: Letterbox


def look_in_views(
    views: Sequence[PictureView],
    pictures: Sequence[np.ndarray],
    predictor: Predictor,
    rules: PostprocessingRules,
) -> list[list[Detections]]:
    """What each view of each of ``pictures``, uint8 (H, W, 3), shows: a list of views for each picture, in pixels of
    the picture, with the model's own scores, whatever thresholds ``rules`` have: fusion must not depend on them."""
    every = replace(rules, least=LEAST, thresholds=None, calibration=None, max_detections=MOST_OF_A_LOOK)
    looks = [
        _Look(place, number, part, chain, _frame(predictor, chain, picture, view, rules))
        for place, picture in enumerate(pictures)
        for number, view in enumerate(views)
        for part, chain in view.looks((picture.shape[0], picture.shape[1]))
    ]
    found: dict[int, Detections] = {}
    for chunk in chunks_of_one_shape(range(len(looks)), lambda place: looks[place].frame.shape, predictor.best_batch):
        some = [looks[place] for place in chunk]
        inputs = [one.frame.apply(np.ascontiguousarray(one.chain.pixels(pictures[one.picture]))) for one in some]
        for place, one, seen in zip(
            chunk, some, predictor.find(inputs, [one.frame for one in some], every), strict=True
        ):
            height, width = pictures[one.picture].shape[:2]
            there = Detections(one.chain.back(seen.boxes, (height, width)), seen.scores, seen.classes)
            found[place] = _whole_ones(there, one, (height, width))
    answers: list[list[list[Detections]]] = [[[] for _ in views] for _ in pictures]
    for place, one in enumerate(looks):
        answers[one.picture][one.view].append(found[place])
    return [[_joined(parts, rules.iou) for parts in of_picture] for of_picture in answers]


def _frame(
    predictor: Predictor, chain: Chain, picture: np.ndarray, view: PictureView, rules: PostprocessingRules
) -> Letterbox:
    height, width = chain.shape((picture.shape[0], picture.shape[1]))
    size = rules.image_size
    if view.gain != 1:
        size = round(predictor.input_size(size) * view.gain)
    return predictor.frame(width, height, size)


def _whole_ones(found: Detections, look: _Look, shape: Shape) -> Detections:
    """Without boxes that end at a tile's inner border: they are pieces of animals that a neighbour, or the whole
    picture, shows whole."""
    part, near = look.part, BORDER * look.frame.width / look.frame.scaled_width
    x0, y0, x1, y1 = found.boxes.T
    right, bottom = part.left + part.width, part.top + part.height
    cut = (part.left > 0) & (x0 < part.left + near) | (right < shape[1]) & (x1 > right - near)
    cut |= (part.top > 0) & (y0 < part.top + near) | (bottom < shape[0]) & (y1 > bottom - near)
    return found.chosen(~cut)


def _joined(parts: Sequence[Detections], iou: float) -> Detections:
    """The boxes of a view's tiles as one list, best first; where tiles overlap, an animal counts once."""
    if len(parts) == 1:
        return parts[0]
    boxes, scores, classes = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "classes")
    )
    return suppressed(Detections(boxes, scores, classes), iou).surest(MOST_OF_A_LOOK)
