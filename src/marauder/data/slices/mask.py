"""A slice applied to records: which pictures it takes, and which of their boxes count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Limit:
    """Bounds of a metric on a slice; ``None``: unbounded."""

    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, eq=False)
class SliceMask:
    """A named part of a list of P records with B boxes in all (the records' boxes one after the other).

    ``pictures``: bool (P,). ``boxes``: bool (B,), the boxes that count, or ``None``: all; a detection on a box that
    does not count is neither right nor wrong. ``area``: square pixels of the boxes meant, both ends included; false
    detections outside it do not count either. ``limits`` by metric's name.
    """

    name: str
    pictures: np.ndarray
    boxes: np.ndarray | None = None
    area: tuple[float, float] | None = None
    protected: bool = False
    limits: Mapping[str, Limit] = field(default_factory=dict)
    description: str = ""
