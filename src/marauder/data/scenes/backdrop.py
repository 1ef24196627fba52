"""The still part of a clip: open water, distant reef, ground in perspective, rocks and corals, with each pixel's range."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from marauder.data.scenes.canvas import smooth_noise
from marauder.data.scenes.placing import Pose, lay, lay_shadow, stamp, visible_mask
from marauder.data.scenes.scenery import (
    OBSTACLE_VARIANTS,
    OBSTACLES,
    caustics_texture,
    ground_texture,
    obstacle_of,
)
from marauder.imaging.formation import ENDLESS, FARTHEST_RANGE, index_from_range

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
    water = np.array([0.86, 0.78, 0.66], np.float32) * (1 - gradient) + np.array([0.62, 0.5, 0.38]) * gradient
    clean = np.ascontiguousarray(np.broadcast_to(np.rint(water * 255), (height, width, 3)).astype(np.uint8))
    ranges = np.full((height, width), ENDLESS, np.uint8)
    obstacles = np.full((height, width), ENDLESS, np.uint8)
    if kind != "open water":
        texture = ground_texture(seed, "rubble" if kind == "reef" else "sand")
        if kind in ("reef", "kelp"):
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
    rows = np.arange(view.full_height, dtype=np.float32)[:, None]
    mask = (rows >= top[None, :]) & (rows < view.ground_row(range_m))
    wall = cv2.resize(texture, (view.full_width, view.full_height), interpolation=cv2.INTER_AREA)
    shade = cv2.multiply(wall, (0.75, 0.75, 0.75, 1.0))
    np.copyto(clean, shade, where=mask[..., None])
    index = int(index_from_range(range_m))
    ranges[mask], obstacles[mask] = index, index


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
    distance = view.ground_range(rows)
    per_metre = texture.shape[0] / 2.0
    across = columns[None, :] * (distance[:, None] / view.focal) * per_metre
    along = np.broadcast_to(distance[:, None] * per_metre, across.shape)
    shift = generator.uniform(0, texture.shape[0], 4)
    maps = (np.mod(across + shift[0], 512).astype(np.float32), np.mod(along + shift[1], 512).astype(np.float32))
    coarse = cv2.resize(cv2.resize(texture, (64, 64), interpolation=cv2.INTER_AREA), (512, 512))
    ground = cv2.remap(texture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32)
    smooth = cv2.remap(coarse, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32)
    far = np.clip((distance - 2.0) / 6.0, 0.0, 1.0)[:, None, None]
    ground += far * (smooth - ground)
    flat = np.clip((distance - 6.0) / 14.0, 0.0, 1.0)[:, None, None]
    ground += flat * (texture.reshape(-1, 3).mean(axis=0) - ground)
    if sunlit > 0:
        light = caustics_texture(seed)
        spots = (
            np.mod(0.6 * across + shift[2], 512).astype(np.float32),
            np.mod(0.6 * along + shift[3], 512).astype(np.float32),
        )
        factor = cv2.remap(light, *spots, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        weight = sunlit * (1.0 - np.clip((distance - 1.5) / 6.0, 0.0, 1.0))[:, None]
        ground *= (1.0 + weight * (factor - 1.0))[..., None]
    relief = smooth_noise(generator, ground.shape[:2], 9)
    ground *= (0.78 + 0.42 * relief)[..., None]
    clean[first:] = np.clip(ground, 0, 255).astype(np.uint8)
    ranges[first:] = index_from_range(distance)[:, None]


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
        sprite = obstacle_of(seed, int(kinds[index]), int(variants[index]))
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
        place, mask = int(index_from_range(distances[index])), visible_mask(item)
        ranges[item.window][mask] = place
        obstacles[item.window][mask] = place
