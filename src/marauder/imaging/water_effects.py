"""What water does to a picture that is already taken, as linear light: more water, sunlight from waves, drifting snow.

A slab of water before a scene adds to what the camera saw: I' = I D(z) + B(z), with the direct signal D and the
backscatter B of ``imaging.formation`` (Akkaynak and Treibitz, CVPR 2018 and 2019; coefficients of the Jerlov types by
Solonenko and Mobley 2015). Because the model is linear in the incoming light, I may itself have been taken under water.

Patterns that cost too much for every view (caustics, noise) are computed once a process from fixed seeds, so that they
are the same everywhere; a view takes a random part of them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from marauder.core.randomness import stream
from marauder.imaging.formation import (
    FARTHEST_RANGE,
    NEAREST_RANGE,
    WAVELENGTHS,
    FormationModel,
    Water,
    direct_signal,
    grey_balance,
    index_from_range,
)

CAUSTIC_SIDE = 256
CAUSTIC_MOMENTS = 4
NOISE_SIDE = 512

MOST_EXPOSURE = 3.0
"""Most by which linear light is amplified to make up for what the water took."""


def range_map(size: int, farthest: float, random: np.random.Generator) -> np.ndarray:
    """Smooth random ranges of a scene, far at the top more often than not: float32 (size, size), metres up to
    ``farthest``."""
    coarse = random.random((4, 4)).astype(np.float32)
    coarse += np.linspace(1.2, 0.0, 4, dtype=np.float32)[:, None] * np.float32(random.uniform(-0.3, 1.0))
    coarse -= coarse.min()
    coarse *= farthest / max(float(coarse.max()), 1e-6)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)


def add_water(
    light: np.ndarray, water_type: str, depth: float, distance: float, balance: float, random: np.random.Generator
) -> np.ndarray:
    """Light (float32 (S, S, 3), linear, blue green red) seen through more water and from deeper.

    The camera's exposure keeps the brightness, as long as no channel of the old light is amplified by more than
    ``MOST_EXPOSURE``: light of a colour that the water hardly lets through becomes dark, not noise.

    ``depth``: e-foldings of light of 600 nm that lie above the scene. ``distance``: e-foldings of contrast at 550 nm
    between the scene's farthest part and the camera. ``balance``: the camera's white balance, 0 to 1.
    """
    shallow = Water(water_type, 0.0)
    depth_m = depth / float(shallow.downwelling()[WAVELENGTHS == 600.0][0])
    farthest = distance / float(shallow.line_of_sight()[WAVELENGTHS == 550.0][0])
    water = Water(water_type, depth_m)
    gains = grey_balance(water, balance)
    model = FormationModel(water, gains)
    indices = index_from_range(range_map(light.shape[0], min(max(farthest, NEAREST_RANGE), FARTHEST_RANGE), random))
    seen = model.see_through(light, indices)
    before, after = sum(cv2.mean(light)), sum(cv2.mean(seen))
    strongest = float((direct_signal(water, np.array([NEAREST_RANGE]))[0] * gains).max())
    return seen * np.float32(min(before / max(after, 1e-6), MOST_EXPOSURE / strongest))


@lru_cache(maxsize=CAUSTIC_MOMENTS)
def caustic_pattern(moment: int) -> np.ndarray:
    """Sunlight on a plane below waves, periodic: float32 (256, 256), mean 1, at most 4.

    Parallel rays from above are bent by the slope of the surface (Snell's law for small angles) and counted where they
    meet the plane. The surface is a sum of periodic waves of random direction and phase.
    """
    random = stream(0, "caustics", moment)
    # Two rays each way, four for each cell of the pattern, hence the division by 4 below.
    fine = 2 * CAUSTIC_SIDE
    grid = (np.arange(fine) + 0.5) * (2 * math.pi / fine)
    x, y = np.meshgrid(grid, grid)
    shift_x, shift_y = np.zeros_like(x), np.zeros_like(x)
    for _ in range(18):
        wave_x, wave_y = random.integers(-6, 7, 2)
        length = math.hypot(wave_x, wave_y)
        if length < 1:
            continue
        slope = random.uniform(0.3, 1.0) / length**0.5 * 0.16
        phase = np.cos(wave_x * x + wave_y * y + random.uniform(0, 2 * math.pi)) * slope
        shift_x += phase * (wave_x / length)
        shift_y += phase * (wave_y / length)
    columns = np.floor((x + shift_x) * (CAUSTIC_SIDE / (2 * math.pi))).astype(np.int64) % CAUSTIC_SIDE
    rows = np.floor((y + shift_y) * (CAUSTIC_SIDE / (2 * math.pi))).astype(np.int64) % CAUSTIC_SIDE
    counts = np.bincount((rows * CAUSTIC_SIDE + columns).ravel(), minlength=CAUSTIC_SIDE**2)
    light = counts.reshape(CAUSTIC_SIDE, CAUSTIC_SIDE).astype(np.float32) / 4
    # Blurred across the seam as well, so that the pattern still repeats.
    wrapped = cv2.copyMakeBorder(light, 4, 4, 4, 4, cv2.BORDER_WRAP)
    light = np.minimum(cv2.GaussianBlur(wrapped, (0, 0), 1.0)[4:-4, 4:-4], np.float32(4))
    light = light / light.mean()
    # Cached, and shared by all views of this process.
    light.setflags(write=False)
    return light


def caustics(size: int, contrast: float, random: np.random.Generator) -> np.ndarray:
    """Factors by which sunlight through waves changes the light on the ground: float32 (size, size), mean about 1.

    ``contrast`` 0..1, reached at the bottom. The ground leans away from the camera, so that the pattern grows finer and
    fainter towards the top.
    """
    pattern = caustic_pattern(int(random.integers(CAUSTIC_MOMENTS)))
    zoom = random.uniform(0.35, 0.9) * CAUSTIC_SIDE / size
    angle = random.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle) * zoom, math.sin(angle) * zoom
    offset_x, offset_y = random.uniform(0, CAUSTIC_SIDE, 2)
    tilt = random.uniform(0.0, 0.9) / size
    # Rows further up see more of the pattern: the plane's perspective is x' = x / (1 - tilt (size - y)) at most.
    lean = np.array([[1, 0, 0], [0, 1.6, 0], [0, tilt * 0.6, 1 - 0.6 * tilt * size + 1e-3]])
    turn = np.array([[cosine, -sine, offset_x], [sine, cosine, offset_y], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpPerspective(pattern, turn @ lean, (size, size), flags=flags, borderMode=cv2.BORDER_WRAP)
    # The upper part of a picture is mostly open water, on which no pattern shows.
    strength = np.linspace(random.uniform(0.1, 0.6) * contrast, contrast, size, dtype=np.float32)[:, None]
    return np.asarray(1 + strength * (shown - 1))


def add_snow(light: np.ndarray, colour: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Marine snow before the scene: lit particles, few sharp, most out of focus, drifting along one direction.

    ``light``: float32 (S, S, 3), linear. ``colour``: float (3,), linear light of a particle. ``count``: particles.
    """
    size = light.shape[0]
    scale = size / 224
    drift = random.uniform(0, 7) * scale
    angle = random.uniform(0, 2 * math.pi)
    step = (drift * math.cos(angle), drift * math.sin(angle))
    places = random.uniform(0, size, (count, 2))
    # Radii are log-normal: most particles are specks, a few float right before the lens.
    radii = np.clip(np.exp(random.normal(-0.1, 0.55, count)), 0.4, 7.0) * scale
    opacity = random.uniform(0.15, 0.85, count) / np.maximum(radii / scale, 1.0) ** 0.9
    veil = np.zeros((size, size), np.float32)
    for layer, (smallest, largest, sigma) in enumerate(((0.0, 1.2, 0.5), (1.2, 2.5, 1.2), (2.5, 99.0, 2.6))):
        chosen = np.flatnonzero((radii >= smallest * scale) & (radii < largest * scale))
        if not len(chosen):
            continue
        mask = np.zeros((size, size), np.uint8)
        for index in chosen:
            x, y = places[index]
            # OpenCV's fixed point with four binary places: motion of less than a pixel counts.
            start = (round(x * 16), round(y * 16))
            end = (round((x + step[0]) * 16), round((y + step[1]) * 16))
            level = int(255 * opacity[index])
            thickness = max(1, round(2 * radii[index]))
            if drift >= 1 and layer < 2:
                cv2.line(mask, start, end, level, thickness, cv2.LINE_AA, 4)
            else:
                cv2.circle(mask, start, max(8, round(radii[index] * 16)), level, -1, cv2.LINE_AA, 4)
        veil += cv2.GaussianBlur(mask, (0, 0), max(0.4, sigma * scale)).astype(np.float32) * np.float32(1 / 255)
    cover = cv2.merge([np.minimum(veil, np.float32(0.9))] * 3)
    return light + cover * (np.asarray(colour, np.float32) - light)


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    bank = stream(0, "sensor noise").standard_normal((NOISE_SIDE, NOISE_SIDE, 3), np.float32)
    bank.setflags(write=False)
    return bank


def sensor_noise(size: int, random: np.random.Generator) -> np.ndarray:
    """Noise of unit variance: float32 (size, size, 3), a random part of a fixed field (mirrored at random)."""
    bank = _noise_bank()
    if size >= NOISE_SIDE:
        repeats = -(-size // NOISE_SIDE) + 1
        bank = np.tile(bank, (repeats, repeats, 1))
    top, left = random.integers(0, bank.shape[0] - size + 1, 2)
    part = bank[top : top + size, left : left + size]
    return np.ascontiguousarray(part[:: random.choice((-1, 1)), :: random.choice((-1, 1))])
