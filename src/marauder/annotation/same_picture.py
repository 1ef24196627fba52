"""Whether a delivered picture is the one that went out, encoded anew, or shows its objects elsewhere.

Mean grey levels do not tell: under water a mirrored or shifted frame has much the same ones. What tells is where fine
structure lies. Small grey copies are band-passed (mean of 3 x 3 less mean of 9 x 9), divided by the local strength of
what is left, so that one bright rail or a burnt-in text does not outweigh the rest, and correlated. On 40 real pictures
this gave at least 0.74 for encoding anew (JPEG, quality 30 to 90) and 0.97 for another brightness, and at most 0.67 for
mirroring, flipping, a half turn, shifts of 15 and 40 pixels, and crops by 4 and 10 % scaled back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marauder.data.picture_files import load_small_grey

LONG_SIDE = 256
SAME_STRUCTURE = 0.7
"""Correlation of the structure from which one picture is the other."""
FINE, COARSE, AROUND = 1, 4, 8
"""Radii in pixels of the small copy: of the smoothing, of what is taken away, and of the local strength."""
NOISE = 1.0
"""Grey levels of structure that count half: below it is noise."""
FLAT = 0.02
"""Mean square of the normalised structure below which a picture has none."""
SAME_GREY = 12.0
"""Mean difference of grey levels (0..255) up to which two pictures without structure are the same."""


def same_picture(first: Path, second: Path, size: tuple[int, int]) -> bool:
    """Whether both files show the same thing in the same place. ``size``: width and height in pixels of both.

    Raises ``PictureError`` for a file that cannot be decoded to its end.
    """
    scale = min(1.0, LONG_SIDE / max(size))
    small = [max(1, round(side * scale)) for side in size]
    greys = [load_small_grey(path, *small).astype(np.float64) for path in (first, second)]
    one, other = (structure(grey) for grey in greys)
    energies = [float((values**2).mean()) for values in (one, other)]
    # Plain water: a correlation of noise would say nothing.
    if max(energies) < FLAT:
        return float(np.abs(greys[0] - greys[1]).mean()) <= SAME_GREY
    strength = float(np.sqrt(energies[0] * energies[1]))
    # One with structure and one without any are not the same.
    return strength > 0.0 and float((one * other).mean()) / strength >= SAME_STRUCTURE


def structure(grey: np.ndarray) -> np.ndarray:
    """Band-passed grey levels over their local strength: float64 (height, width), mostly within -2..2."""
    band = _mean_around(grey, FINE) - _mean_around(grey, COARSE)
    # Differences of running sums may fall a little below zero.
    strength = np.sqrt(np.maximum(_mean_around(band**2, AROUND), 0.0))
    return np.asarray(band / (strength + NOISE), np.float64)


def _mean_around(values: np.ndarray, radius: int) -> np.ndarray:
    """The mean over a square of ``2 * radius + 1`` pixels around each; the border is repeated outwards."""
    side = 2 * radius + 1
    sums = np.pad(np.pad(values, radius, mode="edge").cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(total / side**2, np.float64)
