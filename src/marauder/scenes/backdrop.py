"""The still part of a clip: open water, distant reef, ground in perspective, rocks and corals, with their ranges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from marauder.imaging.formation import ENDLESS, FARTHEST_RANGE, index_from_range
from marauder.scenes.canvas import smooth_noise
from marauder.scenes.scenery import (
    OBSTACLE_VARIANTS,
    OBSTACLES,
    caustics_texture,
    ground_texture,
    obstacle_of,
)
from marauder.scenes.species import fineness_for
from marauder.scenes.stamping import RANGE_COVERAGE, Pose, lay, lay_shadow, stamp

KINDS = ("reef", "sand", "kelp", "open water")
FOCAL = 0.8
"""Focal length in picture widths."""


@dataclass(frozen=True)
class View:
    """The camera over the ground: picture size, margin of the backdrop around it, horizon, height above the ground.

    ``horizon`` is a row of the backdrop in pixels, ``camera_height`` metres; rows below the horizon see the ground.
    """

    width: int
    height: int
    margin_x: int
    margin_y: int
    horizon: float
    camera_height: float

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.width

    @property
    def full_width(self) -> int:
        """Columns of the backdrop."""
        return self.width + 2 * self.margin_x

    @property
    def full_height(self) -> int:
        """Rows of the backdrop."""
        return self.height + 2 * self.margin_y

    def ground_row(self, range_m: float) -> float:
        """Row of the backdrop where the ground is ``range_m`` metres away."""
        return self.horizon + self.focal * self.camera_height / range_m

    def ground_range(self, row: np.ndarray) -> np.ndarray:
        """Range of the ground in metres at backdrop rows below the horizon."""
        return np.clip(self.focal * self.camera_height / np.maximum(row - self.horizon, 1e-3), 0.0, FARTHEST_RANGE)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """``clean`` uint8 (H, W, 3), ``ranges`` uint8 (H, W) range index, ``obstacles`` the same without the ground."""

    clean: np.ndarray
    ranges: np.ndarray
    obstacles: np.ndarray


def make_backdrop(generator: np.random.Generator, seed: int, kind: str, view: View, sunlit: float) -> Backdrop:
    """Draw the backdrop of one clip. ``sunlit`` 0..1: how strongly sunlight plays on the ground."""
    height, width = view.full_height, view.full_width
    gradient = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    water = np.array([0.62, 0.54, 0.44], np.float32) * (1 - gradient) + np.array([0.44, 0.36, 0.27]) * gradient
    clean = np.ascontiguousarray(np.broadcast_to(np.rint(water * 255), (height, width, 3)).astype(np.uint8))
    ranges = np.full((height, width), ENDLESS, np.uint8)
    obstacles = np.full((height, width), ENDLESS, np.uint8)
    if kind != "open water":
        texture = ground_texture(seed, "rubble" if kind == "reef" else "sand")
        if kind in ("reef", "kelp"):
            # Farthest first: what is nearer is drawn over it.
            for range_m in (14.0, 8.0):
                _ridge(generator, view, range_m * generator.uniform(0.8, 1.2), texture, clean, ranges, obstacles)
        _ground(generator, seed, view, texture, sunlit, clean, ranges)
        _strew(generator, seed, kind, view, clean, ranges, obstacles)
    return Backdrop(clean, ranges, obstacles)


def _ridge(
    generator: np.random.Generator,
    view: View,
    range_m: float,
    texture: np.ndarray,
    clean: np.ndarray,
    ranges: np.ndarray,
    obstacles: np.ndarray,
) -> None:
    """A distant wall of reef rising over the horizon."""
    outline = smooth_noise(generator, (4, view.full_width), 5, octaves=4)[1]
    metres = np.maximum(outline - generator.uniform(0.25, 0.5), 0.0) * generator.uniform(2.0, 5.0)
    top = view.horizon - view.focal * (metres - 0.1) / range_m
    band = slice(max(0, int(top.min())), min(view.full_height, int(view.ground_row(range_m))))
    if band.start >= band.stop:
        return
    rows = np.arange(band.start, band.stop, dtype=np.float32)[:, None]
    mask = (rows >= top[None, :]).astype(np.uint8)
    wall = cv2.resize(texture, (view.full_width, view.full_height), interpolation=cv2.INTER_AREA)[band]
    cv2.copyTo(cv2.convertScaleAbs(wall, alpha=0.75), mask, clean[band])
    index = int(index_from_range(range_m))
    for target in (ranges, obstacles):
        np.copyto(target[band], index, where=mask > 0)


def _ground(
    generator: np.random.Generator,
    seed: int,
    view: View,
    texture: np.ndarray,
    sunlit: float,
    clean: np.ndarray,
    ranges: np.ndarray,
) -> None:
    """Texture the ground plane in perspective; detail that is finer than a pixel fades into the texture's mean."""
    first = min(max(0, int(np.ceil(view.horizon)) + 1), view.full_height - 1)
    rows = np.arange(first, view.full_height, dtype=np.float32)
    columns = np.arange(view.full_width, dtype=np.float32) - view.full_width / 2
    distance = view.ground_range(rows).astype(np.float32)
    # Textures are two metres across.
    per_metre = texture.shape[0] / 2.0
    # Beyond 30 m the texture is flat; the limit keeps coordinates in the range that remap can hold.
    scaled = np.minimum(distance, 30.0)[:, None] * per_metre
    across = columns[None, :] * (scaled / view.focal)
    along = np.broadcast_to(scaled, across.shape)
    shift = generator.uniform(0, texture.shape[0], 4).astype(np.float32)
    # A coarser texture and then its mean stand in for mipmaps: far ground would otherwise be noise.
    coarse = cv2.resize(cv2.resize(texture, (64, 64), interpolation=cv2.INTER_AREA), texture.shape[:2])
    mean = np.broadcast_to(texture.reshape(-1, 3).mean(axis=0).astype(np.uint8), (*across.shape, 3))
    near = _look_up(texture, across + shift[0], along + shift[1])
    far = _look_up(coarse, across + shift[0], along + shift[1])
    ground = _fade(near, far, np.clip((distance - 2.0) / 6.0, 0.0, 1.0))
    ground = _fade(ground, np.ascontiguousarray(mean), np.clip((distance - 6.0) / 14.0, 0.0, 1.0))
    relief = smooth_noise(generator, (across.shape[0] // 4 + 1, across.shape[1] // 4 + 1), 9)
    factor = 0.78 + 0.42 * cv2.resize(relief, across.shape[::-1])
    if sunlit > 0:
        light = _look_up(caustics_texture(seed), 0.6 * across + shift[2], 0.6 * along + shift[3])
        factor *= 1.0 + sunlit * (1.0 - np.clip((distance - 1.5) / 6.0, 0.0, 1.0))[:, None] * (light - 1.0)
    clean[first:] = cv2.multiply(ground, cv2.merge([factor, factor, factor]), dtype=cv2.CV_8U)
    ranges[first:] = index_from_range(distance)[:, None]


def _look_up(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The repeating ``texture`` at pixel coordinates ``x``, ``y`` float32 (H, W)."""
    return np.asarray(cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def _fade(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Row by row from ``first`` (weight 0) to ``second`` (weight 1)."""
    weights = np.ascontiguousarray(np.broadcast_to(weight.astype(np.float32)[:, None], first.shape[:2]))
    return np.asarray(cv2.blendLinear(first, second, 1.0 - weights, weights))


def _strew(
    generator: np.random.Generator,
    seed: int,
    kind: str,
    view: View,
    clean: np.ndarray,
    ranges: np.ndarray,
    obstacles: np.ndarray,
) -> None:
    """Rocks and corals on the ground, farthest first."""
    count = int(generator.integers(16, 34)) if kind == "reef" else int(generator.integers(2, 9))
    nearest = view.focal * view.camera_height / (view.full_height - view.horizon)
    distances = np.sort(nearest * 0.95 + 7.0 * generator.random(count) ** 1.6)[::-1]
    kinds = generator.integers(0, len(OBSTACLES) if kind == "reef" else 2, count)
    variants = generator.integers(0, OBSTACLE_VARIANTS, count)
    across, sizes = generator.random(count), generator.uniform(0.15, 0.75, count)
    mirrored, brightness = generator.random(count) < 0.5, generator.uniform(0.75, 1.15, count)
    for index in range(count):
        sprite = obstacle_of(seed, int(kinds[index]), int(variants[index]), fineness_for(view.width))
        length = view.focal * sizes[index] / distances[index]
        shape = sprite.coverages[0].shape
        base = view.ground_row(distances[index])
        gain = float(brightness[index])
        pose = Pose(
            x=across[index] * view.full_width,
            y=base - 0.5 * length * shape[0] / sprite.anchor + 0.04 * length,
            length=length,
            mirrored=bool(mirrored[index]),
            gain=(gain, gain, gain),
        )
        item = stamp(sprite, pose, view.full_width, view.full_height)
        if item is None:
            continue
        lay_shadow(clean, item)
        lay(clean, item)
        place, mask = int(index_from_range(distances[index])), item.coverage >= RANGE_COVERAGE
        ranges[item.window][mask] = place
        obstacles[item.window][mask] = place
