"""The five stages of underwater enhancement, each a function of its own: 8-bit picture in, 8-bit picture out.

Every picture here is uint8 (H, W, 3) in the channel order **blue, green, red** (OpenCV's). A stage never changes its
input, and at strength zero it returns an equal picture. The order in which they belong together is that of this file:
colour first (compensation, white balance), then haze, then contrast, then brightness.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

WORKING_SIDE = 128
"""Longer side, in pixels, of the reduced picture on which statistics and slowly varying maps are computed."""

MINKOWSKI_NORM = 6
"""Exponent of the shades-of-grey estimate: 1 is grey-world, infinity white-patch; Finlayson and Trezzi found 6 best."""

GAIN_LIMITS = (0.6, 1.7)
"""A white-balance gain never leaves this range: beyond it, sensor noise and JPEG blocks become red blotches."""

MINIMUM_TRANSMISSION = 0.4
"""Lower bound of the transmission: dehazing never multiplies a difference by more than 1 / 0.4."""

BRIGHTENING_LIMIT = 1.35
"""Dehazing darkens; the stage gives at most this factor of brightness back."""

CLAHE_TILES = 4
"""Tiles along each side. Four, not the customary eight: underwater pictures have large empty areas, whose noise small
tiles would stretch to full contrast."""


SMALLEST_TILE = 2048
"""Below this many pixels a tile each pixel is counted twice: OpenCV redistributes clipped counts in whole numbers,
and with few counts the remainder all goes to the dark end."""


def reduce_picture(picture: np.ndarray, side: int = WORKING_SIDE) -> np.ndarray:
    """The picture with its longer side at most ``side`` pixels, by bilinear sampling: uint8 (h, w, 3).

    Sampling rather than averaging keeps the distribution of the pixel values, which the stages and measures read.
    """
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def channel_means(picture: np.ndarray) -> tuple[float, float, float]:
    """Mean of blue, green and red, each in 0..1."""
    blue, green, red, _ = cv2.mean(picture)
    return blue / 255, green / 255, red / 255


def compensation_factors(means: tuple[float, float, float], red: float, blue: float) -> tuple[float, float]:
    """How much of (1 - channel) x green goes into the blue and the red channel: two factors, each in 0..1.

    ``means``: blue, green, red in 0..1. ``red`` and ``blue`` are the strengths alpha of Ancuti et al.
    """
    mean_blue, mean_green, mean_red = means
    return blue * max(0.0, mean_green - mean_blue), red * max(0.0, mean_green - mean_red)


def compensate_channels(picture: np.ndarray, red: float = 1.0, blue: float = 0.0) -> np.ndarray:
    """Give the red (and in green water the blue) channel back what the water took, borrowing from green.

    I'(x) = I(x) + alpha (mean(G) - mean(I)) (1 - I(x)) G(x), channels in 0..1; a channel that is not weaker than green
    stays as it is. ``red``, ``blue``: alpha, 0..1.
    Source: Ancuti, Ancuti, De Vleeschouwer, Bekaert, "Color Balance and Fusion for Underwater Image Enhancement",
    IEEE Transactions on Image Processing 27(1), 2018, equations 4 and 5.
    """
    factor_blue, factor_red = compensation_factors(channel_means(reduce_picture(picture)), red, blue)
    return apply_compensation(picture, factor_blue, factor_red)


def apply_compensation(picture: np.ndarray, factor_blue: float, factor_red: float) -> np.ndarray:
    """Add ``factor`` x (1 - channel) x green to the blue and red channels, in 8-bit arithmetic."""
    planes = list(cv2.split(picture))
    for index, factor in ((0, factor_blue), (2, factor_red)):
        if factor > 0:
            missing = cv2.bitwise_not(planes[index])
            planes[index] = cv2.add(planes[index], cv2.multiply(missing, planes[1], scale=factor / 255))
    return cv2.merge(planes)


def white_balance_gains(picture: np.ndarray, strength: float, norm: int = MINKOWSKI_NORM) -> np.ndarray:
    """Gains for blue, green, red that bring the picture's Minkowski mean to grey: float64 (3,), within GAIN_LIMITS.

    ``strength`` 0..1 is the exponent on each gain (0: all ones). The gains keep the brightness of the mean colour.
    """
    small = reduce_picture(picture)
    powers = _powers(norm)
    histograms = [cv2.calcHist([small], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    # small.size counts all three channels.
    strengths = np.array([(histogram @ powers * 3 / small.size) ** (1 / norm) for histogram in histograms])
    strengths = np.maximum(strengths, 1 / 255)
    gains = (strengths.mean() / strengths) ** strength
    # Luma of Rec. 601, blue first: the gains change colours, not brightness.
    weights = np.array([0.114, 0.587, 0.299]) * np.array(channel_means(small))
    gains = gains * max(weights.sum(), 1e-6) / max(float(weights @ gains), 1e-6)
    return np.clip(gains, *GAIN_LIMITS)


def white_balance(picture: np.ndarray, strength: float = 1.0, norm: int = MINKOWSKI_NORM) -> np.ndarray:
    """Remove the colour of the light by one gain a channel (von Kries), estimated by shades of grey.

    ``strength`` 0..1; ``norm`` 1 gives grey-world (Buchsbaum 1980), 6 shades of grey.
    Source: Finlayson and Trezzi, "Shades of Gray and Colour Constancy", Color Imaging Conference 2004.
    """
    gains = white_balance_gains(picture, strength, norm)
    table = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table[None])


def guided_coefficients(
    guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """The window-averaged line ``values = slope x guide + offset`` of the guided filter: two float32 (h, w).

    It smooths ``values`` without crossing the edges of ``guide``; both float32 (h, w) in 0..1. ``radius`` is in pixels
    (the window is 2 radius + 1 wide), ``epsilon`` the variance below which a window counts as flat.
    Source: He, Sun, Tang, "Guided Image Filtering", ECCV 2010, algorithm 1.
    """
    window = (2 * radius + 1, 2 * radius + 1)
    mean_guide, mean_values = cv2.blur(guide, window), cv2.blur(values, window)
    variance = cv2.blur(guide * guide, window) - mean_guide * mean_guide
    covariance = cv2.blur(guide * values, window) - mean_guide * mean_values
    slope = covariance / (np.maximum(variance, 0) + epsilon)
    offset = mean_values - slope * mean_guide
    return cv2.blur(slope, window), cv2.blur(offset, window)


def underwater_dark_channel(picture: np.ndarray, patch: int) -> np.ndarray:
    """Smallest value of green and blue within a patch: uint8 (H, W).

    Red is left out because water absorbs it whether there is haze or not.
    Source: Drews, Nascimento, Moraes, Botelho, Campos, "Transmission Estimation in Underwater Single Images", ICCV
    Workshops 2013, equation 6; after He, Sun, Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009.
    """
    smallest = cv2.min(cv2.extractChannel(picture, 0), cv2.extractChannel(picture, 1))
    return cv2.erode(smallest, np.ones((patch, patch), np.uint8))


def estimate_haze(small: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the veil, float64 (3,) in 0..255, and transmission, float32 (h, w), of a reduced picture.

    ``strength`` 0..1 is the share of the veil to remove (omega of He et al.). The veil's colour is the mean over the
    0.5 % of pixels with the brightest dark channel; the transmission is refined with a guided filter whose
    coefficients are computed at half the size (He and Sun, "Fast Guided Filter", arXiv:1505.00996, 2015).
    """
    height, width = small.shape[:2]
    half = cv2.resize(small, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    side = max(half.shape[:2])
    # Odd, so that the patch has a pixel in its middle.
    patch = max(3, side // 16) | 1
    dark = underwater_dark_channel(half, patch)
    counts = np.cumsum(cv2.calcHist([dark], [0], None, [256], [0, 256]).ravel()[::-1])
    threshold = 255 - int(np.searchsorted(counts, max(1, dark.size // 200)))
    # The floor: the picture is divided by the veil's colour, and a dark one has hardly any.
    veil = np.maximum(np.array(cv2.mean(half, (dark >= threshold).view(np.uint8))[:3]), 8.0)
    blue, green = (cv2.extractChannel(half, channel) * np.float32(1 / veil[channel]) for channel in (0, 1))
    share = np.minimum(cv2.erode(cv2.min(blue, green), np.ones((patch, patch), np.uint8)), np.float32(1))
    guide = cv2.cvtColor(half, cv2.COLOR_BGR2GRAY) * np.float32(1 / 255)
    slope, offset = guided_coefficients(guide, 1 - np.float32(strength) * share, max(1, side // 12), epsilon=1e-3)
    slope, offset = (cv2.resize(part, (width, height)) for part in (slope, offset))
    transmission = slope * (cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) * np.float32(1 / 255)) + offset
    return veil, np.clip(transmission, np.float32(MINIMUM_TRANSMISSION), np.float32(1))


def dehaze(picture: np.ndarray, strength: float = 0.8) -> np.ndarray:
    """Remove the veil that suspended matter lays over distant things; brightness is kept as far as it can be.

    J(x) = (I(x) - A) / t(x) + A with the veil A and the transmission t of ``estimate_haze``, computed on a reduced
    picture and scaled up. ``strength`` 0..1.
    Sources: see ``underwater_dark_channel`` and ``guided_coefficients``; see ``estimate_haze`` for
    the reduced picture.
    """
    small = reduce_picture(picture)
    veil, transmission = estimate_haze(small, strength)
    restored = _divide_by_transmission(small, veil, transmission)
    before, after = sum(cv2.mean(small)), sum(cv2.mean(restored))
    brighter = min(max(before / max(after, 1.0), 1.0), BRIGHTENING_LIMIT)
    if small is not picture:
        size = (picture.shape[1], picture.shape[0])
        transmission = cv2.resize(transmission, size, interpolation=cv2.INTER_LINEAR)
        restored = _divide_by_transmission(picture, veil, transmission)
    return cv2.convertScaleAbs(restored, alpha=brighter)


def _divide_by_transmission(picture: np.ndarray, veil: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """(picture - veil) / transmission + veil: uint8 (H, W, 3)."""
    gain = 1 / transmission
    level = (*veil.tolist(), 0.0)
    # OpenCV takes a value a channel as a tuple; its type hints do not say so.
    difference = cv2.subtract(picture, level, dtype=cv2.CV_32F)  # type: ignore[call-overload]
    cv2.multiply(difference, cv2.merge([gain, gain, gain]), dst=difference)
    return cv2.add(difference, level, dtype=cv2.CV_8U)  # type: ignore[call-overload]


def equalize_lightness(picture: np.ndarray, clip_limit: float = 2.0, tiles: int = CLAHE_TILES) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation (CLAHE) of the lightness L* in CIE Lab; a* and b* are kept.

    ``clip_limit``: how many times the mean a histogram bin may hold (about 1: almost no change, 4: strong).
    Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    """
    lab = cv2.cvtColor(picture, cv2.COLOR_BGR2Lab)
    lightness = cv2.extractChannel(lab, 0)
    height, width = lightness.shape
    repeat = 2 if lightness.size < tiles * tiles * SMALLEST_TILE else 1
    if repeat > 1:
        lightness = cv2.resize(lightness, (width * repeat, height), interpolation=cv2.INTER_NEAREST)
    equalized = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(lightness)
    cv2.insertChannel(np.ascontiguousarray(equalized[:, ::repeat]), lab, 0)
    return cv2.cvtColor(lab, cv2.COLOR_Lab2BGR)


def adjust_gamma(picture: np.ndarray, gamma: float) -> np.ndarray:
    """Raise every value (in 0..1) to the power ``gamma``: below 1 brightens, above 1 darkens.

    Source: Poynton, "Digital Video and HD", 2nd edition, 2012, chapter 27 (power-law transfer).
    """
    return cv2.LUT(picture, np.rint(255 * _powers(gamma)).astype(np.uint8))


@lru_cache(maxsize=16)
def _powers(exponent: float) -> np.ndarray:
    """Every 8-bit level, in 0..1, to the power ``exponent``: float64 (256,), not to be written to."""
    powers = (np.arange(256) / 255.0) ** exponent
    powers.setflags(write=False)
    return powers
