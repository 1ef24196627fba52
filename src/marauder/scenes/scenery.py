"""Drawings of what does not move on the reef: rocks, corals, sponges, kelp, and the textures of the ground.

Objects stand on the lower edge of their drawing and are one unit wide (kelp: one unit high).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from marauder.core.randomness import stream
from marauder.scenes.canvas import Canvas, Colour, Sprite, blend, curve, shaded, smooth_noise, step

OBSTACLES = ("rock", "boulder", "brain coral", "branching coral", "sponge", "fan coral")
OBSTACLE_VARIANTS = 3
KELP_VARIANTS = 3
KELP_POSES = 3
_DETAIL = 200.0
"""Pixels a unit, at fineness 1."""
_TEXTURE_SIZE = 512


def _lump(generator: np.random.Generator, flatness: float, roughness: float) -> np.ndarray:
    angle = np.linspace(np.pi, 2 * np.pi, 13)
    radius = 1.0 + generator.uniform(-roughness, roughness, 13)
    points = np.stack([0.55 + 0.46 * radius * np.cos(angle), 0.92 + 0.8 * flatness * radius * np.sin(angle)], 1)
    return curve(np.concatenate([points, [(0.9, 0.96), (0.5, 0.98), (0.2, 0.96)]]), 90)


def _relief(canvas: Canvas, height: np.ndarray, strength: float) -> None:
    """Light from above left on a height map in units."""
    slope_y, slope_x = np.gradient(height * canvas.scale)
    canvas.shade(np.clip(1.0 - strength * (0.6 * slope_x + slope_y), 0.35, 1.7))


def _rock(generator: np.random.Generator, variant: int, scale: float, flatness: float) -> Sprite:
    canvas = Canvas(1.1, 1.0, scale)
    canvas.paint(canvas.outline(_lump(generator, flatness, 0.16)), (1.0, 1.0, 1.0))
    base: Colour = ((0.34, 0.40, 0.44), (0.40, 0.42, 0.42), (0.28, 0.36, 0.44))[variant % 3]
    noise = smooth_noise(generator, canvas.coverage.shape, 7, octaves=5)
    canvas.colour[:] = blend((0.5 * base[0], 0.5 * base[1], 0.5 * base[2]), base, noise)
    growth = smooth_noise(generator, canvas.coverage.shape, 5, octaves=4)
    algae: Colour = ((0.22, 0.42, 0.36), (0.38, 0.30, 0.48), (0.20, 0.36, 0.40))[variant % 3]
    canvas.tint(step(growth, 0.58, 0.25), algae, 0.75)
    _relief(canvas, noise * 0.05, 1.3)
    canvas.shade(1.18 - 0.62 * canvas.y)
    return canvas.sprite()


def _brain_coral(generator: np.random.Generator, variant: int, scale: float) -> Sprite:
    canvas = Canvas(1.1, 1.0, scale)
    canvas.paint(canvas.outline(_lump(generator, 0.72, 0.04)), (1.0, 1.0, 1.0))
    noise = smooth_noise(generator, canvas.coverage.shape, 9, octaves=2)
    wave = np.sin(noise * 70.0)
    base: Colour = ((0.35, 0.60, 0.66), (0.42, 0.62, 0.52), (0.45, 0.52, 0.70))[variant % 3]
    canvas.colour[:] = blend((0.68 * base[0], 0.68 * base[1], 0.68 * base[2]), base, step(wave, 0.0, 1.6))
    canvas.shade(1.2 - 0.68 * canvas.y)
    return canvas.sprite()


def _branching_coral(generator: np.random.Generator, variant: int, scale: float) -> Sprite:
    canvas = Canvas(2.0, 1.25, scale)
    base: Colour = ((0.52, 0.66, 0.78), (0.62, 0.48, 0.66), (0.40, 0.62, 0.82))[variant % 3]
    tips: Colour = (min(1.0, base[0] * 1.4), min(1.0, base[1] * 1.35), min(1.0, base[2] * 1.2))

    def grow(root: np.ndarray, angle: float, length: float, depth: int) -> None:
        tip = root + length * np.array([np.cos(angle), np.sin(angle)])
        colour = base if depth > 1 else tips
        shade = 0.65 + 0.35 * generator.random()
        canvas.paint(canvas.line(np.array([root, tip]), 0.016 + 0.014 * depth), shaded(colour, shade))
        if depth > 1:
            for turn in generator.uniform(0.2, 0.7, 2) * (-1, 1):
                grow(tip, angle + turn, length * generator.uniform(0.72, 0.9), depth - 1)

    for angle in np.linspace(-2.6, -0.55, 7):
        grow(np.array([1.0, 1.2]), angle + generator.uniform(-0.1, 0.1), generator.uniform(0.2, 0.27), 4)
    return canvas.sprite()


def _sponge(generator: np.random.Generator, variant: int, scale: float) -> Sprite:
    canvas = Canvas(1.4, 1.2, scale)
    base: Colour = ((0.62, 0.36, 0.58), (0.28, 0.62, 0.78), (0.36, 0.44, 0.72))[variant % 3]
    for index in generator.permutation(5):
        left = 0.28 + 0.16 * index
        top, width = generator.uniform(0.15, 0.6), generator.uniform(0.15, 0.2)
        lean = 0.08 * (index - 2)
        tube = [(left + lean, top), (left + width + lean, top), (left + width * 0.8 + 0.05, 1.14), (left + 0.08, 1.14)]
        shade = generator.uniform(0.7, 1.0)
        canvas.paint(canvas.outline(np.array(tube)), shaded(base, shade))
        mouth_x, mouth_y = left + lean + width / 2, top
        rim = np.hypot((canvas.x - mouth_x) / (width / 2), (canvas.y - mouth_y) / (width / 5))
        canvas.paint(canvas.below((rim - 1.0) * 0.04), shaded(base, 1.1 * shade))
        canvas.tint(canvas.below((rim - 0.7) * 0.04), shaded(base, 0.25))
    grain = smooth_noise(generator, canvas.coverage.shape, 40, octaves=2)
    canvas.shade((0.75 + 0.4 * grain) * (1.1 - 0.35 * canvas.y))
    return canvas.sprite()


def _fan_coral(generator: np.random.Generator, variant: int, scale: float) -> Sprite:
    canvas = Canvas(1.1, 1.1, scale)
    base: Colour = ((0.52, 0.30, 0.66), (0.30, 0.52, 0.80), (0.66, 0.40, 0.46))[variant % 3]
    root = np.array([0.55, 1.05])
    for angle in np.linspace(-2.55, -0.6, 26):
        steps = np.linspace(0.0, generator.uniform(0.7, 0.98), 8)
        bend = angle + 0.22 * np.sin(steps * 4 + generator.uniform(0, 2)) * steps
        points = root + steps[:, None] * np.stack([np.cos(bend), np.sin(bend)], 1)
        shade = generator.uniform(0.6, 1.0)
        canvas.paint(canvas.line(points, 0.02), shaded(base, shade))
    for reach in np.arange(0.3, 0.95, 0.055):
        angle = np.linspace(-2.5, -0.65, 20)
        wobble = reach * (1.0 + 0.03 * generator.standard_normal(20))
        points = root + wobble[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        canvas.paint(canvas.line(points, 0.011), shaded(base, 0.8), 0.85)
    return canvas.sprite()


@lru_cache(maxsize=64)
def obstacle_of(seed: int, kind: int, variant: int, fineness: float) -> Sprite:
    """The drawing of obstacle ``OBSTACLES[kind]``: a function of the arguments."""
    generator = stream(seed, "obstacle", kind, variant)
    name = OBSTACLES[kind]
    if name in ("rock", "boulder"):
        return _rock(generator, variant, _DETAIL * fineness, 0.5 if name == "rock" else 0.85)
    drawing = {
        "brain coral": _brain_coral,
        "branching coral": _branching_coral,
        "sponge": _sponge,
        "fan coral": _fan_coral,
    }[name]
    return drawing(generator, variant, _DETAIL * fineness)


@lru_cache(maxsize=32)
def kelp_of(seed: int, variant: int, pose: int, fineness: float) -> Sprite:
    """A frond of kelp in one pose of its swaying, one unit high."""
    generator = stream(seed, "kelp", variant)
    canvas = Canvas(0.5, 1.05, 360.0 * fineness)
    height = np.linspace(0.0, 1.0, 40)
    swing = 0.05 * np.sin(2 * np.pi * (pose / KELP_POSES) + 3.0 * height) * height
    stem = np.stack([0.25 + swing + 0.05 * np.sin(4 * height + variant), 1.02 - height], 1)
    base: Colour = ((0.12, 0.34, 0.36), (0.10, 0.40, 0.34), (0.10, 0.28, 0.40))[variant % 3]
    canvas.paint(canvas.line(stem, 0.016), shaded(base, 0.7))
    for index in range(3, 39, 2):
        side = 1.0 if index % 4 == 1 else -1.0
        length = generator.uniform(0.10, 0.17) * (1.0 - 0.4 * height[index])
        droop = generator.uniform(0.1, 0.7) + 0.3 * np.sin(2 * np.pi * pose / KELP_POSES + index)
        along = np.linspace(0.0, 1.0, 9)
        centre = stem[index] + np.stack([side * length * along, length * (droop * along**2 - 0.25 * along)], 1)
        width = 0.022 * np.sin(np.pi * along**0.7) + 0.003
        blade = np.concatenate([centre - (0, 1) * width[:, None], (centre + (0, 1) * width[:, None])[::-1]])
        shade = generator.uniform(0.7, 1.25)
        canvas.paint(canvas.outline(blade), shaded(base, shade))
    return canvas.sprite()


def _tile(generator: np.random.Generator, cells: int, octaves: int) -> np.ndarray:
    """Noise in 0..1 that repeats without a seam, ``cells`` (a power of 2) bumps across: float32 (512, 512)."""
    total = np.zeros((_TEXTURE_SIZE, _TEXTURE_SIZE), np.float32)
    for octave in range(octaves):
        count = cells << octave
        # Wrapped by two cells, as far as cubic interpolation reaches, so that the edges meet.
        coarse = np.pad(generator.random((count, count), np.float32), 2, mode="wrap")
        unit = _TEXTURE_SIZE // count
        fine = cv2.resize(coarse, None, fx=unit, fy=unit, interpolation=cv2.INTER_CUBIC)
        total += 0.5**octave * fine[2 * unit : 2 * unit + _TEXTURE_SIZE, 2 * unit : 2 * unit + _TEXTURE_SIZE]
    # The sum of the octaves' weights.
    total /= 2.0 - 0.5 ** (octaves - 1)
    return np.clip((total - 0.5) * 1.7 + 0.5, 0.0, 1.0)


@lru_cache(maxsize=8)
def ground_texture(seed: int, kind: str) -> np.ndarray:
    """A repeating picture of the ground: ``"sand"`` with ripples or ``"rubble"``: uint8 (512, 512, 3), 2 m across."""
    generator = stream(seed, "ground", kind)
    coarse, fine = _tile(generator, 4, 5), _tile(generator, 64, 2)
    row = np.arange(_TEXTURE_SIZE, dtype=np.float32)[:, None]
    if kind == "sand":
        ripples = np.sin(2 * np.pi * (row / 32.0 + 2.2 * _tile(generator, 4, 2)))
        colour = blend(
            (0.42, 0.55, 0.62), (0.66, 0.78, 0.84), np.clip(0.5 + 0.2 * ripples + 0.5 * (coarse - 0.5), 0, 1)
        )
        colour *= 0.82 + 0.36 * fine
    else:
        patches = _tile(generator, 8, 4)
        colour = blend((0.16, 0.22, 0.24), (0.50, 0.56, 0.58), patches)
        growth = _tile(generator, 8, 4)
        colour += 0.6 * step(growth, 0.6, 0.15) * (np.array([[[0.42]], [[0.32]], [[0.50]]], np.float32) - colour)
        colour += 0.6 * step(1.0 - growth, 0.62, 0.15) * (np.array([[[0.22]], [[0.42]], [[0.34]]], np.float32) - colour)
        colour *= 0.55 + 0.9 * fine * (0.5 + 0.5 * coarse)
    return np.ascontiguousarray(np.rint(np.clip(colour, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


@lru_cache(maxsize=8)
def caustics_texture(seed: int) -> np.ndarray:
    """Sunlight focused by waves: brightness factor around 1, repeating: float32 (512, 512)."""
    generator = stream(seed, "caustics")
    first, second = _tile(generator, 8, 2), _tile(generator, 8, 2)
    ridges = np.maximum(1.0 - 9.0 * np.abs(first - 0.5), 0.0) + np.maximum(1.0 - 9.0 * np.abs(second - 0.5), 0.0)
    return (0.88 + 0.45 * np.clip(ridges, 0.0, 1.4)).astype(np.float32)
