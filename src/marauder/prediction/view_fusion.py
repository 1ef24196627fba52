"""What several views of one picture show, as one list of boxes: the only place in which views are fused.

By any way of fusing detectors (plug point ``fusion``), each view counting as much as another; by default weighted
boxes, where a score is the mean over all views, so that what one view shows alone fades.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from marauder.core.plugins import make
from marauder.data.records import Detections
from marauder.prediction.fusing.base import Fusion

WAY = "weighted_boxes"
OVERLAP = 0.55
"""IoU from which two boxes are one animal, for ways of fusing that do not say."""
OPTIONS: dict[str, dict[str, str]] = {WAY: {"scoring": "box_and_model_avg"}}
"""Settings of ways of fusing that suit views: what counts is in how many views an animal shows, not in how many boxes.
"""


def view_fusion(name: str = WAY, place: str = "") -> Fusion[Any]:
    """The way of fusing of this name, with the settings for views. Raises ``UserError``, which names ``place``."""
    made: Fusion[Any] = make("fusion", name, OPTIONS.get(name, {}), place)
    return made


def suppressed(found: Detections, overlap: float) -> Detections:
    """``found`` without boxes that overlap a surer one of their class by more than ``overlap`` (IoU), best first."""
    import torch
    from torchvision.ops import batched_nms

    boxes, scores, classes = (torch.from_numpy(part) for part in (found.boxes, found.scores, found.classes))
    kept = batched_nms(boxes, scores, classes, overlap).numpy()
    return found.chosen(kept[np.argsort(-found.scores[kept], kind="stable")])


def taking_part(found: Detections, way: Fusion[Any]) -> Detections:
    """Of what one view shows the boxes that are fused: its surest box of each animal alone."""
    return suppressed(found, getattr(way.settings, "overlap", OVERLAP))


def fuse_views(found: Sequence[Detections], way: Fusion[Any]) -> Detections:
    """The boxes of one picture seen in K views, best first. One view: its boxes as they are.

    Each view gives its surest box of an animal alone: fainter ones beside it would lower what the views say together.
    """
    if len(found) == 1:
        return found[0]
    found = [taking_part(one, way) for one in found]
    classes = 1 + max((int(one.classes.max(initial=0)) for one in found), default=0)
    return way.fuse(found, np.ones((len(found), classes)))
