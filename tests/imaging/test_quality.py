"""The fast quality measures against plain, slow implementations written from the papers' formulas."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from marauder.imaging.quality import measure_quality, psnr, ssim, uciqe, uicm, uiconm, uiqm, uism


def make_picture(seed: int, height: int = 47, width: int = 61) -> np.ndarray:
    """A smooth coloured scene with noise, uint8 (height, width, 3)."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    return np.clip(scene + draw.integers(-12, 13, scene.shape), 0, 255).astype(np.uint8)


def slow_uicm(picture: np.ndarray) -> float:
    blue, green, red = (picture[..., channel].astype(float).ravel() for channel in range(3))
    parts = []
    for values in (red - green, (red + green) / 2 - blue):
        ordered = sorted(values.tolist())
        low, high = math.ceil(0.1 * len(ordered)), len(ordered) - math.floor(0.1 * len(ordered))
        mean = sum(ordered[low:high]) / (high - low)
        parts.append((mean, sum((value - mean) ** 2 for value in ordered) / len(ordered)))
    (mean_rg, variance_rg), (mean_yb, variance_yb) = parts
    return -0.0268 * math.sqrt(mean_rg**2 + mean_yb**2) + 0.1586 * math.sqrt(variance_rg + variance_yb)


def slow_sobel(plane: np.ndarray) -> np.ndarray:
    padded = np.pad(plane.astype(float), 1, mode="edge")
    height, width = plane.shape
    result = np.zeros(plane.shape)
    for row in range(height):
        for column in range(width):
            area = padded[row : row + 3, column : column + 3]
            across = (area[:, 2] - area[:, 0]) @ [1, 2, 1]
            down = (area[2] - area[0]) @ [1, 2, 1]
            result[row, column] = math.sqrt(across**2 + down**2)
    return result


def slow_blocks(values: np.ndarray) -> list[np.ndarray]:
    rows, columns = values.shape[0] // 10, values.shape[1] // 10
    return [
        values[10 * row : 10 * row + 10, 10 * column : 10 * column + 10]
        for row in range(rows)
        for column in range(columns)
    ]


def slow_uism(picture: np.ndarray) -> float:
    total = 0.0
    for channel, weight in ((2, 0.299), (1, 0.587), (0, 0.114)):
        plane = picture[..., channel]
        blocks = slow_blocks(slow_sobel(plane) * plane)
        logarithms = [math.log(block.max() / block.min()) if block.min() > 0 else 0.0 for block in blocks]
        total += weight * 2 / len(blocks) * sum(logarithms)
    return total


def slow_uiconm(picture: np.ndarray) -> float:
    blocks = slow_blocks(picture.astype(float).mean(axis=2))
    total = 0.0
    for block in blocks:
        if block.max() > block.min():
            ratio = (block.max() - block.min()) / (block.max() + block.min())
            total -= ratio * math.log(ratio)
    return total / len(blocks)


def slow_uciqe(picture: np.ndarray) -> float:
    lab = cv2.cvtColor(picture, cv2.COLOR_BGR2Lab).astype(float)
    lightness = lab[..., 0] / 255
    chroma = np.sqrt(((lab[..., 1] - 128) / 255) ** 2 + ((lab[..., 2] - 128) / 255) ** 2)
    ordered = np.sort(lightness.ravel())
    share = max(1, round(0.01 * len(ordered)))
    contrast = ordered[-share:].mean() - ordered[:share].mean()
    saturation = np.array(
        [c / math.sqrt(c * c + light * light) if c else 0.0 for c, light in zip(chroma.flat, lightness.flat)]
    )
    return 0.4680 * chroma.std() + 0.2745 * contrast + 0.2576 * saturation.mean()


def slow_ssim(picture: np.ndarray, clean: np.ndarray) -> float:
    x, y = (cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(float) for p in (picture, clean))
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 6.5025, 58.5225
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
            )
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(4))
def test_measures_equal_the_plain_formulas(seed: int) -> None:
    picture = make_picture(seed, 47 + seed, 61 - seed)
    assert uicm(picture) == pytest.approx(slow_uicm(picture), rel=1e-9)
    assert uism(picture) == pytest.approx(slow_uism(picture), rel=1e-5)
    assert uiconm(picture) == pytest.approx(slow_uiconm(picture), rel=1e-5)
    assert uciqe(picture) == pytest.approx(slow_uciqe(picture), rel=1e-5)
    whole = 0.0282 * slow_uicm(picture) + 0.2953 * slow_uism(picture) + 3.5753 * slow_uiconm(picture)
    assert uiqm(picture) == pytest.approx(whole, rel=1e-5)
    assert measure_quality(picture).uiqm == uiqm(picture)


def test_ssim_and_psnr_equal_the_plain_formulas() -> None:
    clean = make_picture(1, 30, 34)
    noisy = np.clip(clean.astype(int) + np.random.default_rng(5).integers(-30, 31, clean.shape), 0, 255).astype(
        np.uint8
    )
    assert ssim(noisy, clean) == pytest.approx(slow_ssim(noisy, clean), rel=1e-9)
    squared = ((noisy.astype(float) - clean.astype(float)) ** 2).mean()
    assert psnr(noisy, clean) == pytest.approx(10 * math.log10(255**2 / squared), rel=1e-12)


def test_equal_pictures_are_perfect() -> None:
    picture = make_picture(2)
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, picture) == pytest.approx(1.0)


def test_real_pictures_lose_by_haze(shared_data) -> None:  # type: ignore[no-untyped-def]
    """Laying a grey veil over a real picture lowers UIQM and UCIQE."""
    for path in sorted((shared_data / "aquarium" / "images").glob("*.jpg"))[:200:40]:
        picture = cv2.imread(str(path))
        veiled = (0.5 * picture + 0.5 * np.array([170, 160, 120])).astype(np.uint8)
        assert uiqm(veiled) < uiqm(picture)
        assert uciqe(veiled) < uciqe(picture)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_flat_picture_has_no_contrast_and_gives_finite_numbers(level: int) -> None:
    flat = np.full((40, 40, 3), level, np.uint8)
    measured = measure_quality(flat)
    assert measured.contrast == 0 and measured.sharpness == 0 and measured.colourfulness == 0
    assert measured.uciqe == pytest.approx(0, abs=1e-6)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="no block"):
        measure_quality(np.zeros((9, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="different shapes"):
        psnr(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="11"):
        ssim(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8))
