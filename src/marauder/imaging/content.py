"""Where the picture is inside its frame: black bars of letterboxing neither count nor change."""

from __future__ import annotations

import cv2
import numpy as np

BAR_LEVEL = 18
"""A row or column is part of a bar when none of its pixels is brighter than this (0..255); JPEG ringing stays below."""

ASYMMETRY = 0.02
"""Letterboxing centres the picture: bars whose widths differ by more than this share of the side are dark scenery."""

SMALLEST_SHARE = 0.2
"""If less than this share of a side would be left, the picture is dark rather than barred and is taken whole."""

BLURRED_LINES = 8
"""At most this many lines between bar and picture, mixed from both by resizing, are counted as bar."""

COLOUR_LINES = 2
"""Lines behind those, whose colour JPEG's halved colour resolution has mixed with the bar's."""


def content_area(picture: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a uint8 (H, W, 3) picture that are left when centred black bars are cut off.

    A picture without bars gives all of its rows and columns.
    """
    height, width = picture.shape[:2]
    rows, columns = slice(0, height), slice(0, width)
    if min(height, width) < 4 * BLURRED_LINES:
        return rows, columns
    # The outermost lines first: for nearly all pictures they settle it without a look at the rest.
    if int(picture[0].max()) <= BAR_LEVEL and int(picture[-1].max()) <= BAR_LEVEL:
        rows = _between_bars(picture, 1)
    if int(picture[:, 0].max()) <= BAR_LEVEL and int(picture[:, -1].max()) <= BAR_LEVEL:
        columns = _between_bars(picture, 0)
    return rows, columns


def _between_bars(picture: np.ndarray, axis: int) -> slice:
    """The lines between two centred bars: rows for ``axis`` 1, columns for ``axis`` 0."""
    blue, green, red = cv2.split(picture)
    brightest = cv2.max(cv2.max(blue, green), red)
    peaks = cv2.reduce(brightest, axis, cv2.REDUCE_MAX).ravel()
    means = cv2.reduce(brightest, axis, cv2.REDUCE_AVG).ravel().astype(np.float64)
    whole = slice(0, len(peaks))
    inside = np.flatnonzero(peaks > BAR_LEVEL)
    if not len(inside):
        return whole
    first, last = int(inside[0]), int(inside[-1])
    if abs(first - (len(peaks) - 1 - last)) > ASYMMETRY * len(peaks) + 1:
        return whole
    if last - first + 1 < max(SMALLEST_SHARE * len(peaks), 4 * BLURRED_LINES):
        return whole
    first += _blurred_lines(means[first : first + 2 * BLURRED_LINES]) + COLOUR_LINES
    last -= _blurred_lines(means[last - 2 * BLURRED_LINES + 1 : last + 1][::-1]) + COLOUR_LINES
    return slice(first, last + 1)


def _blurred_lines(means: np.ndarray) -> int:
    """How many of the lines, from the bar inwards, are much darker than those further in."""
    clear = means[:BLURRED_LINES] >= 0.7 * means[BLURRED_LINES:].mean()
    return int(np.argmax(clear)) if clear.any() else BLURRED_LINES
