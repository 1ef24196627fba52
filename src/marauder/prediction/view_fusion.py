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
OPTIONS: dict[str, dict[str, str]] = {WAY: {"scoring": "box_and_model_avg"}}
"""Settings of ways of fusing that suit views: what counts is in how many views an animal shows, not in how many boxes.
"""


def view_fusion(name: str = WAY, place: str = "") -> Fusion[Any]:
    """The way of fusing of this name, with the settings for views. Raises ``UserError``, which names ``place``."""
    made: Fusion[Any] = make("fusion", name, OPTIONS.get(name, {}), place)
    return made


def fuse_views(found: Sequence[Detections], way: Fusion[Any]) -> Detections:
    """The boxes of one picture seen in K views, best first. One view: its boxes as they are."""
    if len(found) == 1:
        return found[0]
    classes = 1 + max((int(one.classes.max(initial=0)) for one in found), default=0)
    return way.fuse(found, np.ones((len(found), classes)))
