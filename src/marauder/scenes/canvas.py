"""The drawing board of the scenes: smooth shapes and patterns on a canvas, and the sprites cut from it.

Colours are (blue, green, red) in 0..1, the way the object looks in air under white light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[float, float, float]

OVERSAMPLING = 2
# Binary places of the fixed-point coordinates that OpenCV draws with.
_SHIFT = 4
_EVERYWHERE = (slice(None), slice(None))


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn object, ready to be placed, at sizes halving from level to level.

    ``colours[i]``: uint8 (h, w, 3), colour times coverage; ``coverages[i]``: uint8 (h, w), 255 = wholly covered.
    ``anchor``: what a distance of 1 in placing refers to: the object's length in pixels of level 0.
    """

    colours: tuple[np.ndarray, ...]
    coverages: tuple[np.ndarray, ...]
    anchor: float


@dataclass(frozen=True, eq=False)
class Patch:
    """Coverage inside a rectangle (row and column slices) of a canvas: float32, 0..1; nothing outside."""

    rectangle: tuple[slice, slice]
    mask: np.ndarray


class Canvas:
    """A canvas of ``width`` x ``height`` units with x to the right and y down, drawn at ``scale`` pixels a unit.

    ``colour``: float32 (3, H, W); ``coverage``: float32 (H, W), 0..1. ``x`` and ``y`` are the unit coordinates of
    the pixels' centres, float32 (H, W).
    """

    def __init__(self, width: float, height: float, scale: float) -> None:
        self.scale = scale * OVERSAMPLING
        columns, rows = round(width * self.scale), round(height * self.scale)
        self.colour = np.zeros((3, rows, columns), np.float32)
        self.coverage = np.zeros((rows, columns), np.float32)
        row, column = np.mgrid[0:rows, 0:columns].astype(np.float32)
        self.x, self.y = (column + 0.5) / self.scale, (row + 0.5) / self.scale

    def outline(self, points: np.ndarray) -> Patch:
        """The inside of a polygon with ``points`` (N, 2) in units."""
        fixed, rectangle = self._fixed(points, 0.0)
        mask = np.zeros((rectangle[0].stop - rectangle[0].start, rectangle[1].stop - rectangle[1].start), np.uint8)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        return Patch(rectangle, mask.astype(np.float32) * (1 / 255))

    def line(self, points: np.ndarray, width: float) -> Patch:
        """A polyline through ``points`` (N, 2), ``width`` units thick."""
        fixed, rectangle = self._fixed(points, width)
        mask = np.zeros((rectangle[0].stop - rectangle[0].start, rectangle[1].stop - rectangle[1].start), np.uint8)
        cv2.polylines(mask, [fixed], False, 255, max(1, round(width * self.scale)), cv2.LINE_AA, _SHIFT)
        return Patch(rectangle, mask.astype(np.float32) * (1 / 255))

    def everywhere(self, patch: Patch) -> np.ndarray:
        """A patch as coverage of the whole canvas: float32 (H, W)."""
        whole = np.zeros_like(self.coverage)
        whole[patch.rectangle] = patch.mask
        return whole

    def _fixed(self, points: np.ndarray, width: float) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Points in OpenCV's fixed-point form, relative to the rectangle of the canvas that they touch."""
        # OpenCV's coordinates are those of pixel centres.
        pixels = np.asarray(points, np.float64) * self.scale - 0.5
        margin = width * self.scale + 2.0
        columns, rows = self.coverage.shape[1], self.coverage.shape[0]
        left, top = np.clip(np.floor(pixels.min(axis=0) - margin), 0, (columns - 1, rows - 1)).astype(int)
        right, bottom = np.clip(np.ceil(pixels.max(axis=0) + margin), 1, (columns, rows)).astype(int)
        fixed = np.rint((pixels - (left, top)) * (1 << _SHIFT)).astype(np.int32)
        return fixed, (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))

    def below(self, field: np.ndarray, limit: np.ndarray | float = 0.0) -> np.ndarray:
        """Coverage of ``field < limit`` where the field is a distance in units: one pixel soft, float32 (H, W)."""
        return np.clip((limit - field) * self.scale + 0.5, 0.0, 1.0).astype(np.float32)

    def paint(self, mask: np.ndarray | Patch, colour: Colour | np.ndarray, opacity: float = 1.0) -> None:
        """Lay ``colour`` (one, or (3, H, W)) over the canvas where ``mask`` is."""
        rectangle, weight = self._lay(mask, colour, opacity)
        coverage = self.coverage[rectangle]
        coverage += weight * (1.0 - coverage)

    def tint(self, mask: np.ndarray | Patch, colour: Colour | np.ndarray, opacity: float = 1.0) -> None:
        """Like ``paint``, but only on what is already drawn: coverage stays as it is."""
        self._lay(mask, colour, opacity)

    def _lay(
        self, mask: np.ndarray | Patch, colour: Colour | np.ndarray, opacity: float
    ) -> tuple[tuple[slice, slice], np.ndarray]:
        rectangle, values = (mask.rectangle, mask.mask) if isinstance(mask, Patch) else (_EVERYWHERE, mask)
        weight = np.asarray(values, np.float32) * np.float32(opacity)
        for plane, wanted in zip(self.colour, colour, strict=True):
            target = plane[rectangle]
            target += weight * (np.float32(wanted) if np.ndim(wanted) == 0 else wanted[rectangle]) - weight * target
        return rectangle, weight

    def shade(self, factor: np.ndarray) -> None:
        """Multiply the colours by ``factor`` (H, W)."""
        self.colour *= np.asarray(factor, np.float32)

    def sprite(self, length: float = 1.0, levels: int = 5) -> Sprite:
        """Cut the drawing out. ``length`` in units is the object's length."""
        # Colour times coverage before scaling down: the black of bare canvas would otherwise bleed into the edges.
        full = cv2.merge([*(np.clip(self.colour, 0, 1) * self.coverage), self.coverage])
        shape = (full.shape[1] // OVERSAMPLING, full.shape[0] // OVERSAMPLING)
        full = cv2.resize(full, shape, interpolation=cv2.INTER_AREA)
        rows = np.flatnonzero(full[..., 3].max(axis=1) > 0.02)
        columns = np.flatnonzero(full[..., 3].max(axis=0) > 0.02)
        full = full[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        anchor = length * self.scale / OVERSAMPLING
        colours, coverages = [], []
        for level in range(levels):
            if level:
                smaller = (max(2, full.shape[1] // 2), max(2, full.shape[0] // 2))
                full = cv2.resize(full, smaller, interpolation=cv2.INTER_AREA)
            quantised = np.rint(full * 255.0).astype(np.uint8)
            colours.append(np.ascontiguousarray(quantised[..., :3]))
            coverages.append(np.ascontiguousarray(quantised[..., 3]))
        return Sprite(tuple(colours), tuple(coverages), anchor)


def smooth_noise(generator: np.random.Generator, shape: tuple[int, int], cells: float, octaves: int = 3) -> np.ndarray:
    """Fractal noise in 0..1 with about ``cells`` bumps across the longer side: float32 ``shape``."""
    total = np.zeros(shape, np.float32)
    longest = max(shape)
    weight, sum_of_weights = 1.0, 0.0
    for _ in range(octaves):
        rows = max(2, round(cells * shape[0] / longest) + 1)
        columns = max(2, round(cells * shape[1] / longest) + 1)
        coarse = generator.random((rows, columns), np.float32)
        total += weight * cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
        sum_of_weights += weight
        weight *= 0.5
        cells *= 2.0
    return np.clip((total / sum_of_weights - 0.5) * 1.6 + 0.5, 0.0, 1.0)


def shaded(colour: Colour, factor: float) -> Colour:
    """``colour`` made ``factor`` times as bright, at most 1."""
    return min(1.0, factor * colour[0]), min(1.0, factor * colour[1]), min(1.0, factor * colour[2])


def blend(first: Colour, second: Colour, weight: np.ndarray) -> np.ndarray:
    """Colour between ``first`` (weight 0) and ``second`` (weight 1): float32 (3, H, W)."""
    amount = np.asarray(weight, np.float32)
    return np.stack([np.float32(start) + amount * np.float32(end - start) for start, end in zip(first, second)])


def step(value: np.ndarray, edge: float, softness: float) -> np.ndarray:
    """Smooth 0..1 step of ``value`` around ``edge``, ``softness`` wide."""
    position = np.clip((value - edge) / softness + 0.5, 0.0, 1.0)
    return position * position * (3.0 - 2.0 * position)


def curve(points: np.ndarray, samples: int = 48) -> np.ndarray:
    """A closed smooth curve (Catmull-Rom) through ``points`` (N, 2): float64 (samples * N / N.., 2)."""
    control = np.asarray(points, np.float64)
    count = len(control)
    per_span = max(2, samples // count)
    t = np.linspace(0.0, 1.0, per_span, endpoint=False)[:, None]
    spans = []
    for index in range(count):
        p0, p1, p2, p3 = (control[(index + offset) % count] for offset in (-1, 0, 1, 2))
        spans.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    return np.concatenate(spans)
