"""Placing sprites: turning, scaling and laying them into a picture, with exact masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from marauder.scenes.canvas import Sprite

VISIBLE_COVERAGE = 110
"""A pixel belongs to an object where the object covers at least this much of it (of 255)."""

RANGE_COVERAGE = 64
"""A pixel is as far away as the object that covers at least this much of it: thin tips are seen before they count."""


@dataclass(frozen=True)
class Pose:
    """Where and how a sprite lies: centre in pixels, length in pixels, angle in radians, mirrored or not.

    ``squash``: width and height factors (turned away from the camera, lying flat). ``gain``: colour factors.
    """

    x: float
    y: float
    length: float
    angle: float = 0.0
    mirrored: bool = False
    squash: tuple[float, float] = (1.0, 1.0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(eq=False)
class Stamp:
    """A placed sprite: colour times coverage uint8 (h, w, 3) and coverage uint8 (h, w), top left corner at (x, y).

    ``whole`` is the number of pixels of the object before anything hides it, ``rows``/``columns`` the part of the
    target picture it touches.
    """

    x: int
    y: int
    colour: np.ndarray
    coverage: np.ndarray
    whole: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the picture under the stamp."""
        height, width = self.coverage.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


def stamp(sprite: Sprite, pose: Pose, width: int, height: int, x: float = 0.0, y: float = 0.0) -> Stamp | None:
    """Draw ``sprite`` in ``pose`` for a picture of ``width`` x ``height``; ``None`` when it lies outside.

    The pose's centre is shifted by (``x``, ``y``) first.
    """
    scale = pose.length / sprite.anchor
    # The smallest drawing that is at least as large as wanted: shrunk by less than half, it needs no filter.
    level = min(len(sprite.coverages) - 1, max(0, math.floor(-math.log2(max(scale, 1e-6)))))
    colour, coverage = sprite.colours[level], sprite.coverages[level]
    rows, columns = coverage.shape
    full_rows, full_columns = sprite.coverages[0].shape
    across = scale * full_columns / columns * pose.squash[0] * (-1.0 if pose.mirrored else 1.0)
    down = scale * full_rows / rows * pose.squash[1]
    cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
    matrix = np.array([[cosine * across, -sine * down, 0.0], [sine * across, cosine * down, 0.0]])
    reach_x = 0.5 * (abs(matrix[0, 0]) * columns + abs(matrix[0, 1]) * rows)
    reach_y = 0.5 * (abs(matrix[1, 0]) * columns + abs(matrix[1, 1]) * rows)
    centre_x, centre_y = pose.x + x, pose.y + y
    left, top = math.floor(centre_x - reach_x) - 1, math.floor(centre_y - reach_y) - 1
    size = (math.ceil(centre_x + reach_x) + 1 - left, math.ceil(centre_y + reach_y) + 1 - top)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + size[0], width), min(top + size[1], height)
    if x1 <= x0 or y1 <= y0 or min(size) < 4:
        return None
    middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
    # OpenCV's coordinates are those of pixel centres, the pose's are continuous.
    matrix[:, 2] = np.array([centre_x - left - 0.5, centre_y - top - 0.5]) - matrix[:, :2] @ middle
    coverage = cv2.warpAffine(coverage, matrix, size, flags=cv2.INTER_LINEAR)
    colour = cv2.warpAffine(colour, matrix, size, flags=cv2.INTER_LINEAR)
    if pose.gain != (1.0, 1.0, 1.0):
        levels = np.arange(256)[:, None] * np.array(pose.gain)
        colour = cv2.LUT(colour, np.minimum(np.rint(levels), 255).astype(np.uint8)[None])
    # Counted before the part outside the picture is cut off: that counts as hidden.
    whole = int(np.count_nonzero(coverage >= VISIBLE_COVERAGE))
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    return Stamp(x0, y0, np.ascontiguousarray(colour[part]), np.ascontiguousarray(coverage[part]), whole)


def hide_behind(item: Stamp, ranges: np.ndarray, range_index: int) -> None:
    """Take away the parts of ``item`` (at ``range_index``) that lie behind nearer things in ``ranges`` uint8 (H, W)."""
    in_front = ranges[item.window] >= range_index
    if not in_front.all():
        item.coverage = item.coverage * in_front
        item.colour = item.colour * in_front[..., None]


def visible_mask(item: Stamp) -> np.ndarray:
    """The pixels of the stamp that count as the object: bool (h, w)."""
    return item.coverage >= VISIBLE_COVERAGE


def lay(picture: np.ndarray, item: Stamp, opacity: float = 1.0) -> None:
    """Blend ``item`` into ``picture`` uint8 (H, W, 3)."""
    window = picture[item.window]
    colour, coverage = item.colour, item.coverage
    if opacity < 1.0:
        colour, coverage = cv2.convertScaleAbs(colour, alpha=opacity), cv2.convertScaleAbs(coverage, alpha=opacity)
    rest = cv2.bitwise_not(coverage)
    kept = cv2.multiply(window, cv2.merge([rest, rest, rest]), scale=1 / 255)
    picture[item.window] = cv2.add(kept, colour)


def lay_shadow(picture: np.ndarray, item: Stamp, darkness: float = 0.5) -> None:
    """Darken the ground around and below ``item``: a soft contact shadow."""
    reach = max(3, (min(item.coverage.shape) // 5) | 1)
    height, width = item.coverage.shape
    top, left = item.y, item.x
    bottom, right = min(top + height + reach, picture.shape[0]), min(left + width + reach, picture.shape[1])
    shadow = np.zeros((bottom - top, right - left), np.uint8)
    drop = min(reach // 2 + 1, shadow.shape[0] - 1)
    aside = min(reach // 3, shadow.shape[1] - 1)
    part = item.coverage[: shadow.shape[0] - drop, : shadow.shape[1] - aside]
    shadow[drop : drop + part.shape[0], aside : aside + part.shape[1]] = part
    kept = 255 - cv2.convertScaleAbs(cv2.blur(shadow, (reach, reach)), alpha=darkness)
    window = picture[top:bottom, left:right]
    picture[top:bottom, left:right] = cv2.multiply(window, cv2.merge([kept, kept, kept]), scale=1 / 255)
