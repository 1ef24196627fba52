"""Exact maps of boxes between a picture and a changed one: mirrored, turned by quarters, cut out, one after the other.

Each change of the pixels moves a box by whole formulas of the picture's size, without resampling, so that the way there
and back gives the same box within rounding of float64 (below 1e-9 pixels for pictures of any size that is met).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

Shape = tuple[int, int]
"""Height and width in pixels."""


class Change(ABC):
    """One change of a picture. ``shape`` is always that of the picture before it."""

    @abstractmethod
    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """The changed picture, of a picture (H, W, 3)."""

    @abstractmethod
    def shape(self, shape: Shape) -> Shape:
        """Height and width of the changed picture."""

    @abstractmethod
    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """Where boxes (N, 4) x0 y0 x1 y1 of the picture lie in the changed one."""

    @abstractmethod
    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """Where boxes (N, 4) of the changed picture lie in the picture: the inverse of ``forward``."""


@dataclass(frozen=True)
class FlipHorizontal(Change):
    """Left becomes right."""

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """See ``Change``."""
        return picture[:, ::-1]

    def shape(self, shape: Shape) -> Shape:
        """See ``Change``."""
        return shape

    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        width = shape[1]
        return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)

    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``; a mirror is its own inverse."""
        return self.forward(boxes, shape)


@dataclass(frozen=True)
class FlipVertical(Change):
    """Top becomes bottom."""

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """See ``Change``."""
        return picture[::-1]

    def shape(self, shape: Shape) -> Shape:
        """See ``Change``."""
        return shape

    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        height = shape[0]
        return np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1)

    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``; a mirror is its own inverse."""
        return self.forward(boxes, shape)


@dataclass(frozen=True)
class QuarterTurn(Change):
    """Turned by ``quarters`` (1 to 3) of 90 degrees, against the clock; odd ones swap height and width."""

    quarters: int = 1

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """See ``Change``."""
        return np.rot90(picture, self.quarters)

    def shape(self, shape: Shape) -> Shape:
        """See ``Change``."""
        return (shape[1], shape[0]) if self.quarters % 2 else shape

    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        return _turned(boxes, shape, self.quarters)

    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        return _turned(boxes, self.shape(shape), 4 - self.quarters)


@dataclass(frozen=True)
class CutOut(Change):
    """The part of a picture from ``left``, ``top``, of ``width`` × ``height`` pixels, all of it inside the picture."""

    left: int
    top: int
    width: int
    height: int

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """See ``Change``."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]

    def shape(self, shape: Shape) -> Shape:
        """See ``Change``."""
        return self.height, self.width

    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``; what lies outside the part has coordinates outside it."""
        return np.asarray(boxes - self._corner)

    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        return np.asarray(boxes + self._corner)

    @property
    def _corner(self) -> np.ndarray:
        return np.array([self.left, self.top, self.left, self.top], np.float64)


@dataclass(frozen=True)
class Chain(Change):
    """Changes one after the other; none: the picture as it is."""

    changes: tuple[Change, ...] = ()

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """See ``Change``."""
        return reduce(lambda pixels, change: change.pixels(pixels), self.changes, picture)

    def shape(self, shape: Shape) -> Shape:
        """See ``Change``."""
        return reduce(lambda known, change: change.shape(known), self.changes, shape)

    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        for change in self.changes:
            boxes, shape = change.forward(boxes, shape), change.shape(shape)
        return boxes

    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        shapes = [shape]
        for change in self.changes:
            shapes.append(change.shape(shapes[-1]))
        for change, before in zip(reversed(self.changes), reversed(shapes[:-1]), strict=True):
            boxes = change.back(boxes, before)
        return boxes


def tiles(shape: Shape, rows: int, columns: int, overlap: float) -> Sequence[CutOut]:
    """``rows`` × ``columns`` parts of equal size that cover a picture of ``shape``, row by row.

    ``overlap``: share of a part's side that it has in common with its neighbour, 0 to below 1. A picture of fewer
    pixels than parts has fewer parts.
    """
    tops, height = _cuts(shape[0], rows, overlap)
    lefts, width = _cuts(shape[1], columns, overlap)
    return [CutOut(left, top, width, height) for top in tops for left in lefts]


def _cuts(length: int, parts: int, overlap: float) -> tuple[list[int], int]:
    """Where parts begin, and their common length: n parts that overlap by o cover n - (n - 1) o of their length."""
    size = min(length, int(np.ceil(length / (parts - (parts - 1) * overlap))))
    if parts == 1 or size == length:
        return [0], length
    # The last one ends with the picture; steps are rounded, so that every pixel is in a part.
    starts = np.floor(np.linspace(0, length - size, parts)).astype(int)
    return sorted(set(starts.tolist())), size


def _turned(boxes: np.ndarray, shape: Shape, quarters: int) -> np.ndarray:
    height, width = shape
    x0, y0, x1, y1 = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    if quarters == 1:
        return np.stack([y0, width - x1, y1, width - x0], axis=1)
    if quarters == 2:
        return np.stack([width - x1, height - y1, width - x0, height - y0], axis=1)
    return np.stack([height - y1, x0, height - y0, x1], axis=1)
