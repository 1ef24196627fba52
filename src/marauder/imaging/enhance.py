"""Enhancement of a whole picture by a plan: exactly, stage after stage, or fast, with almost the same result.

The fast way rests on two observations. The stages that change colour are, to first order, one 3 × 4 matrix on blue,
green, red: one pass over the picture instead of eight. And all other stages vary slowly from place to place, so the
chain is run on a picture reduced to 128 pixels, and what it did there is written down as a line a channel and place,
``after = slope x before + offset``, fitted in small windows; slopes and offsets are scaled up and applied to the full
picture. No stage touches the full picture, and no detail is lost, because detail goes through the slopes.
Sources: He and Sun, "Fast Guided Filter", arXiv:1505.00996, 2015; Chen, Adams, Wadhwa, Hasinoff, "Bilateral Guided
Upsampling", ACM Transactions on Graphics 35(6), 2016.
"""

from __future__ import annotations

import cv2
import numpy as np

from marauder.imaging.content import content_area
from marauder.imaging.plan import Plan
from marauder.imaging.stages import (
    adjust_gamma,
    apply_compensation,
    channel_means,
    compensate_channels,
    compensation_factors,
    dehaze,
    equalize_lightness,
    reduce_picture,
    white_balance,
    white_balance_gains,
)

FIT_RADIUS = 1
"""Half the width of the window in which the line is fitted, in cells of 2 x 2 pixels of the reduced picture."""

FIT_NOISE = 6.0
"""Variance (in grey levels squared) below which a window says little about the slope."""

CHANNEL_SUMS = np.ones((3, 3), np.float32)
"""Gives every channel the sum of the three."""

STEEPEST = 3.5
"""No difference between neighbouring pixels grows by more than this factor over all stages: noise stays noise."""

SHARING_ROWS = 2
"""Rows of the full picture that share one row of slopes and offsets."""


def enhance(picture: np.ndarray, plan: Plan) -> np.ndarray:
    """Enhance a uint8 (H, W, 3) picture (blue, green, red) by a plan, the fast way; returns a new picture.

    Black bars of letterboxing are left as they are. Differs from ``enhance_exactly`` by two to three grey levels on
    hazy pictures, by four to six on pictures full of contrast (mean absolute difference).
    """
    if plan.changes_nothing:
        return picture.copy()
    rows, columns = content_area(picture)
    whole = (rows, columns) == (slice(0, picture.shape[0]), slice(0, picture.shape[1]))
    content = picture if whole else np.ascontiguousarray(picture[rows, columns])
    local = plan.dehaze > 0 or plan.clip_limit > 0
    enhanced = _enhance_locally(content, plan) if local else _enhance_globally(content, plan)
    if whole:
        return enhanced
    framed = picture.copy()
    framed[rows, columns] = enhanced
    return framed


def enhance_exactly(picture: np.ndarray, plan: Plan) -> np.ndarray:
    """Enhance by running every stage of the plan on the full picture: the reference for ``enhance``, and slower."""
    rows, columns = content_area(picture)
    framed = picture.copy()
    framed[rows, columns] = run_stages(np.ascontiguousarray(picture[rows, columns]), plan)
    return framed


def run_stages(picture: np.ndarray, plan: Plan) -> np.ndarray:
    """The stages of a plan, one after the other, on the picture as it is given."""
    if plan.red > 0 or plan.blue > 0:
        picture = compensate_channels(picture, plan.red, plan.blue)
    if plan.white_balance > 0:
        picture = white_balance(picture, plan.white_balance)
    return _run_local_stages(picture, plan)


def _run_local_stages(picture: np.ndarray, plan: Plan) -> np.ndarray:
    if plan.dehaze > 0:
        picture = dehaze(picture, plan.dehaze)
    if plan.clip_limit > 0:
        picture = equalize_lightness(picture, plan.clip_limit)
    if plan.gamma != 1:
        picture = adjust_gamma(picture, plan.gamma)
    return picture


def _enhance_globally(picture: np.ndarray, plan: Plan) -> np.ndarray:
    """Colour and gamma alone, exactly: compensation, then white balance and gamma fused into one table."""
    small = reduce_picture(picture)
    factors = compensation_factors(channel_means(small), plan.red, plan.blue)
    if max(factors) > 0:
        small = apply_compensation(small, *factors)
        picture = apply_compensation(picture, *factors)
    gains = white_balance_gains(small, plan.white_balance)
    balanced = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255)
    table = np.rint(255 * (balanced / 255) ** plan.gamma).astype(np.uint8)
    return cv2.LUT(picture, table[None])


def _enhance_locally(picture: np.ndarray, plan: Plan) -> np.ndarray:
    """All stages, run on the reduced picture and carried over to the full one."""
    small = reduce_picture(picture)
    matrix = np.eye(3, 4, dtype=np.float32)
    balanced = small
    if plan.red > 0 or plan.blue > 0 or plan.white_balance > 0:
        means = channel_means(small)
        factors = compensation_factors(means, plan.red, plan.blue)
        compensated = apply_compensation(small, *factors) if max(factors) > 0 else small
        gains = white_balance_gains(compensated, plan.white_balance)
        table = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
        balanced = cv2.LUT(compensated, table[None])
        matrix = colour_matrix(means, factors, gains)
    wanted = _run_local_stages(balanced, plan)
    start = cv2.transform(small, matrix)
    # What the colour matrix amplifies already counts towards the limit.
    slope, offset = fit_lines(start, wanted, STEEPEST / np.maximum(matrix[:, :3].sum(axis=1), 1.0))
    return apply_lines(picture, matrix, slope, offset)


def colour_matrix(means: tuple[float, float, float], factors: tuple[float, float], gains: np.ndarray) -> np.ndarray:
    """Compensation and white balance as one float32 (3, 4) matrix on (blue, green, red, 1), channels in 0..255.

    The product (1 - channel) x green of the compensation is replaced by its tangent at the channel means.
    """
    matrix = np.eye(3, 4)
    _, mean_green, _ = means
    for channel, factor in ((0, factors[0]), (2, factors[1])):
        matrix[channel, 1] += factor * (1 - means[channel])
        matrix[channel, channel] -= factor * mean_green
        matrix[channel, 3] += 255 * factor * mean_green * means[channel]
    return (matrix * np.asarray(gains)[:, None]).astype(np.float32)


def fit_lines(before: np.ndarray, after: np.ndarray, steepest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit ``after = slope x before + offset`` in windows, a line a channel: two float32 (h / 2, w / 2, 3).

    ``before``, ``after``: uint8 (h, w, 3). Where a channel hardly varies, its slope is drawn towards the slope that the
    three channels have together. Slopes stay within 0 and ``steepest``, float (3,).
    """
    size = ((before.shape[1] + 1) // 2, (before.shape[0] + 1) // 2)

    def window_means(values: np.ndarray) -> np.ndarray:
        # Halving bilinearly gives the mean of each 2 x 2 cell, as INTER_AREA does in three times the time.
        halved = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
        return cv2.blur(halved, (2 * FIT_RADIUS + 1, 2 * FIT_RADIUS + 1))

    x, y = before.astype(np.float32), after.astype(np.float32)
    mean_x, mean_y = window_means(x), window_means(y)
    variance = window_means(x * x) - mean_x * mean_x
    covariance = window_means(x * y) - mean_x * mean_y
    together = (cv2.transform(covariance, CHANNEL_SUMS) + FIT_NOISE) / (
        cv2.transform(variance, CHANNEL_SUMS) + FIT_NOISE
    )
    slope = (covariance + FIT_NOISE * together) / (variance + FIT_NOISE)
    # The limits of a whole row: three values alone, repeated for every pixel, take numpy five times as long.
    slope = np.clip(slope, np.float32(0), np.full((size[0], 3), steepest, np.float32))
    offset = mean_y - slope * mean_x
    return cv2.blur(slope, (3, 3)), cv2.blur(offset, (3, 3))


def apply_lines(picture: np.ndarray, matrix: np.ndarray, slope: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """``slope x (matrix x picture) + offset`` with slope and offset scaled up to the picture: uint8 (H, W, 3).

    Up to ``SHARING_ROWS`` neighbouring rows share their slopes and offsets, since scaling these up takes as long as
    applying them; never more than a quarter of the rows that lie between two rows of ``slope``.
    """
    height, width = picture.shape[:2]
    sharing = min(max(height // (4 * slope.shape[0]), 1), SHARING_ROWS)
    size = (width, -(-height // sharing))
    start = cv2.transform(picture, matrix)
    slopes = cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR)
    offsets = cv2.resize(offset, size, interpolation=cv2.INTER_LINEAR)
    product = np.empty_like(slopes)
    for first in range(sharing):
        rows = start[first::sharing]
        count = len(rows)
        cv2.multiply(rows, slopes[:count], dst=product[:count], dtype=cv2.CV_32F)
        cv2.add(product[:count], offsets[:count], dst=rows, dtype=cv2.CV_8U)
    return start
