"""Image-quality measures: UIQM and UCIQE without a reference, PSNR and SSIM against the clean picture.

Pictures are uint8 (H, W, 3), channels blue, green, red. UIQM and UCIQE were fitted to opinions on underwater pictures;
higher is better, and differences between two versions of one picture mean more than the values themselves. Both depend
on the size at which a picture is measured: compare only values taken at one size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

BLOCK = 10
"""Side, in pixels, of the blocks in which UIQM looks for sharpness and contrast."""

TRIM = 0.1
"""Share of the values that UIQM's trimmed mean drops at either end."""

UIQM_WEIGHTS = (0.0282, 0.2953, 3.5753)
UCIQE_WEIGHTS = (0.4680, 0.2745, 0.2576)
LUMINANCE_WEIGHTS = (0.114, 0.587, 0.299)


@dataclass(frozen=True, slots=True)
class UnderwaterQuality:
    """UIQM (usually -1..5) with its three parts, and UCIQE (usually 0..1)."""

    uiqm: float
    colourfulness: float
    sharpness: float
    contrast: float
    uciqe: float


def measure_quality(picture: np.ndarray) -> UnderwaterQuality:
    """Measure UIQM and UCIQE of a picture of at least 10 × 10 pixels; smaller ones raise ``ValueError``."""
    colourfulness, sharpness, contrast = uicm(picture), uism(picture), uiconm(picture)
    value = UIQM_WEIGHTS[0] * colourfulness + UIQM_WEIGHTS[1] * sharpness + UIQM_WEIGHTS[2] * contrast
    return UnderwaterQuality(value, colourfulness, sharpness, contrast, uciqe(picture))


def uiqm(picture: np.ndarray) -> float:
    """Underwater image quality measure: 0.0282 UICM + 0.2953 UISM + 3.5753 UIConM.

    Source: Panetta, Gao, Agaian, "Human-Visual-System-Inspired Underwater Image Quality Measures", IEEE Journal of
    Oceanic Engineering 41(3), 2016, equation 15 and the weights beneath it.
    """
    return measure_quality(picture).uiqm


def uicm(picture: np.ndarray) -> float:
    """Colourfulness part of UIQM, from the red-green and yellow-blue differences (channels 0..255).

    -0.0268 sqrt(mean_rg² + mean_yb²) + 0.1586 sqrt(var_rg + var_yb); the means are trimmed, the variances
    are taken around them over all pixels (equations 3 to 6).
    """
    # Differences of 8-bit planes would wrap around.
    blue, green, red = (plane.astype(np.int16) for plane in cv2.split(picture))
    mean_rg, variance_rg = _trimmed_moments(red - green, 255, 1.0)
    # (R + G) / 2 - B is counted in halves, so that a histogram of whole numbers holds it exactly.
    mean_yb, variance_yb = _trimmed_moments(red + green - 2 * blue, 510, 0.5)
    return -0.0268 * math.hypot(mean_rg, mean_yb) + 0.1586 * math.sqrt(variance_rg + variance_yb)


def _trimmed_moments(values: np.ndarray, bound: int, unit: float) -> tuple[float, float]:
    """Trimmed mean and the variance around it of integers in -bound..bound, each worth ``unit``; from one histogram."""
    counts = np.bincount(values.ravel() + bound, minlength=2 * bound + 1)
    levels = (np.arange(2 * bound + 1) - bound) * unit
    total = values.size
    low, high = math.ceil(TRIM * total), total - math.floor(TRIM * total)
    reached = np.cumsum(counts)
    kept = np.clip(reached, low, high) - np.clip(reached - counts, low, high)
    mean = float(kept @ levels) / (high - low)
    return mean, float(counts @ (levels - mean) ** 2) / total


def uism(picture: np.ndarray) -> float:
    """Sharpness part of UIQM: EME of each channel times its Sobel magnitude, weighted by luminance (equations 7 and 8).

    EME = 2 / blocks x sum log(max / min) over blocks of 10 × 10 pixels; blocks whose smallest value is 0 count as
    0, and pixels beyond the last whole block are left out.
    """
    across = cv2.Sobel(picture, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE)
    down = cv2.Sobel(picture, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE)
    edges = cv2.multiply(cv2.magnitude(across, down), picture, dtype=cv2.CV_32F)
    smallest, largest = _block_extremes(edges)
    usable = smallest > 0
    logarithms = np.log(np.divide(largest, smallest, out=np.ones_like(largest), where=usable))
    return float(2 * logarithms.mean(axis=(0, 1)) @ np.array(LUMINANCE_WEIGHTS))


def uiconm(picture: np.ndarray) -> float:
    """Contrast part of UIQM: mean over blocks of -m log m, m = (max - min) / (max + min) of the intensity (equation 9).

    The intensity is the mean of the channels. Differences and sums are plain arithmetic, as in the implementations that
    published figures come from, not the parameterised logarithmic ones of the paper.
    """
    intensity = cv2.transform(picture.astype(np.float32), np.full((1, 3), 1 / 3, np.float32))
    smallest, largest = _block_extremes(intensity.reshape(*picture.shape[:2], 1))
    total = largest + smallest
    ratio = np.divide(largest - smallest, total, out=np.zeros_like(total), where=total > 0)
    logarithms = np.log(ratio, out=np.zeros_like(ratio), where=ratio > 0)
    return float(-(ratio * logarithms).mean())


def _block_extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each whole block: two arrays (rows, columns, channels)."""
    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    if not rows or not columns:
        raise ValueError(
            f"a picture of {values.shape[1]} × {values.shape[0]} pixels holds no block of {BLOCK} × {BLOCK}"
        )
    cut = values[: rows * BLOCK, : columns * BLOCK]
    banded = cut.reshape(rows, BLOCK, -1)
    shape = (rows, columns, BLOCK, values.shape[2])
    return banded.min(axis=1).reshape(shape).min(axis=2), banded.max(axis=1).reshape(shape).max(axis=2)


def uciqe(picture: np.ndarray) -> float:
    """Underwater colour image quality: 0.4680 spread of chroma + 0.2745 contrast of lightness + 0.2576 mean saturation.

    In 8-bit CIE Lab with every channel divided by 255 and a*, b* centred: spread is the standard deviation of
    chroma = sqrt(a² + b²); contrast the mean of the brightest hundredth less that of the darkest; saturation
    chroma / sqrt(chroma² + L²).
    Source: Yang and Sowmya, "An Underwater Color Image Quality Evaluation Metric", IEEE Transactions on Image
    Processing 24(12), 2015, equation 6.
    """
    lightness, red_green, blue_yellow = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2Lab))
    a, b = (plane.astype(np.float32) - 128 for plane in (red_green, blue_yellow))
    chroma = cv2.magnitude(a, b) / 255
    spread = float(cv2.meanStdDev(chroma)[1].ravel()[0])
    counts = cv2.calcHist([lightness], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    share = max(1, round(0.01 * lightness.size))
    contrast = (_mean_of_lowest(counts[::-1], share, 255, -1) - _mean_of_lowest(counts, share, 0, 1)) / 255
    length = cv2.magnitude(chroma, lightness.astype(np.float32) / 255)
    saturation = cv2.mean(chroma / np.maximum(length, 1e-6))[0]
    return UCIQE_WEIGHTS[0] * spread + UCIQE_WEIGHTS[1] * contrast + UCIQE_WEIGHTS[2] * saturation


def _mean_of_lowest(counts: np.ndarray, share: int, first: int, step: int) -> float:
    """Mean level of the first ``share`` pixels of a histogram whose bins stand for first, first + step, ..."""
    reached = np.cumsum(counts)
    kept = np.minimum(reached, share) - np.minimum(reached - counts, share)
    return float(kept @ (first + step * np.arange(len(counts)))) / share


def psnr(picture: np.ndarray, clean: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255² / mean squared difference); infinite for equal pictures."""
    _require_same_shape(picture, clean)
    error = cv2.norm(picture, clean, cv2.NORM_L2SQR) / picture.size
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(picture: np.ndarray, clean: np.ndarray) -> float:
    """Structural similarity of the luminance, -1..1: the mean over all whole 11 × 11 windows (Gaussian, sigma 1.5).

    K1 = 0.01, K2 = 0.03, range 255. Pictures under 11 pixels a side raise ``ValueError``.
    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    IEEE Transactions on Image Processing 13(4), 2004, equation 13.
    """
    _require_same_shape(picture, clean)
    if min(picture.shape[:2]) < 11:
        raise ValueError("SSIM needs pictures of at least 11 × 11 pixels")
    x, y = (cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(np.float64) for p in (picture, clean))

    def smooth(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x = smooth(x * x) - mean_x**2
    variance_y = smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float((above / below).mean())


def _require_same_shape(picture: np.ndarray, clean: np.ndarray) -> None:
    if picture.shape != clean.shape:
        raise ValueError(f"pictures of different shapes: {picture.shape} and {clean.shape}")
