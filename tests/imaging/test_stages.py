"""Each enhancement stage against its formula, and what it must never do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.imaging.content import content_area
from marauder.imaging.quality import psnr
from marauder.imaging.stages import (
    GAIN_LIMITS,
    MINIMUM_TRANSMISSION,
    adjust_gamma,
    compensate_channels,
    dehaze,
    equalize_lightness,
    estimate_haze,
    guided_coefficients,
    reduce_picture,
    underwater_dark_channel,
    white_balance,
    white_balance_gains,
)


def make_scene(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    """A scene of coloured patches with texture, uint8 (height, width, 3)."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(10, 246, (9, 12, 3)).astype(np.uint8)
    scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int64)
    return np.clip(scene + draw.integers(-8, 9, scene.shape), 0, 255).astype(np.uint8)


STAGES = {
    "compensation": lambda picture: compensate_channels(picture, 1.0, 1.0),
    "white balance": white_balance,
    "dehazing": dehaze,
    "CLAHE": equalize_lightness,
    "gamma": lambda picture: adjust_gamma(picture, 0.7),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (33, 2), (200, 170)])
def test_a_stage_keeps_shape_and_input_at_every_size(name: str, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (*shape, 3)).astype(np.uint8)
    kept = picture.copy()
    result = STAGES[name](picture)
    assert result.dtype == np.uint8 and result.shape == picture.shape
    assert np.array_equal(picture, kept)


def test_strength_zero_changes_nothing() -> None:
    picture = make_scene(1)
    for result in (
        compensate_channels(picture, 0.0, 0.0),
        white_balance(picture, 0.0),
        dehaze(picture, 0.0),
        adjust_gamma(picture, 1.0),
    ):
        assert np.array_equal(result, picture)


def test_compensation_follows_the_published_formula() -> None:
    picture = make_scene(2)
    picture[..., 2] = picture[..., 2] // 3
    green, red = picture[..., 1] / 255, picture[..., 2] / 255
    expected = red + 0.8 * (green.mean() - red.mean()) * (1 - red) * green
    result = compensate_channels(picture, red=0.8)
    assert np.abs(result[..., 2] - 255 * expected).max() <= 1.01
    assert np.array_equal(result[..., :2], picture[..., :2])


def test_a_channel_stronger_than_green_is_not_compensated() -> None:
    picture = make_scene(4)
    picture[..., 1] = picture[..., 1] // 3
    assert np.array_equal(compensate_channels(picture, 1.0, 1.0), picture)


def test_white_balance_takes_a_moderate_cast_off_a_grey_scene() -> None:
    grey = np.repeat(make_scene(5)[..., :1] // 2 + 40, 3, axis=2)
    cast = (grey * np.array([1.2, 1.0, 0.8])).astype(np.uint8)
    means = white_balance(cast).reshape(-1, 3).mean(axis=0)
    assert means.max() / means.min() < 1.02
    assert cast.reshape(-1, 3).mean(axis=0).max() / cast.reshape(-1, 3).mean(axis=0).min() > 1.4


def test_gains_stay_within_their_limits() -> None:
    blue_light = np.zeros((40, 40, 3), np.uint8)
    blue_light[..., 0] = 220
    assert all(GAIN_LIMITS[0] <= gain <= GAIN_LIMITS[1] for gain in white_balance_gains(blue_light, 1.0))


def test_guided_filter_equals_its_definition() -> None:
    draw = np.random.default_rng(6)
    guide, values = draw.random((14, 17)).astype(np.float32), draw.random((14, 17)).astype(np.float32)
    radius, epsilon = 2, 0.01

    def window(array: np.ndarray, row: int, column: int) -> np.ndarray:
        return array[row - radius : row + radius + 1, column - radius : column + radius + 1].astype(float)

    slope, offset = np.zeros((14, 17)), np.zeros((14, 17))
    for row in range(radius, 14 - radius):
        for column in range(radius, 17 - radius):
            a, b = window(guide, row, column), window(values, row, column)
            slope[row, column] = ((a * b).mean() - a.mean() * b.mean()) / (a.var() + epsilon)
            offset[row, column] = b.mean() - slope[row, column] * a.mean()
    slopes, offsets = guided_coefficients(guide, values, radius, epsilon)
    result = slopes * guide + offsets
    for row in range(2 * radius, 14 - 2 * radius):
        for column in range(2 * radius, 17 - 2 * radius):
            expected = window(slope, row, column).mean() * guide[row, column] + window(offset, row, column).mean()
            assert result[row, column] == pytest.approx(expected, abs=1e-4)


def test_dark_channel_is_the_smallest_green_or_blue_in_the_patch() -> None:
    picture = make_scene(7, 20, 24)
    dark = underwater_dark_channel(picture, 5)
    for row in range(2, 18):
        for column in range(2, 22):
            assert dark[row, column] == picture[row - 2 : row + 3, column - 2 : column + 3, :2].min()


def test_dehazing_brings_a_veiled_scene_closer_to_the_clear_one() -> None:
    clear = make_scene(8, 180, 240)
    clear[::12] //= 4
    distance = np.linspace(0.9, 0.35, 240)[None, :, None]
    veiled = (clear * distance + np.array([200, 190, 90]) * (1 - distance)).astype(np.uint8)
    assert psnr(dehaze(veiled, 0.8), clear) > psnr(veiled, clear) + 2
    _, transmission = estimate_haze(reduce_picture(veiled), 0.8)
    assert transmission.min() >= MINIMUM_TRANSMISSION and transmission.max() <= 1
    assert transmission[:, :20].mean() > transmission[:, -20:].mean() + 0.2


def test_clahe_raises_local_contrast_and_keeps_colour() -> None:
    flat = (make_scene(9, 180, 240) // 4 + 90).astype(np.uint8)
    result = equalize_lightness(flat, 3.0)
    before, after = (cv2.cvtColor(p, cv2.COLOR_BGR2Lab).astype(int) for p in (flat, result))
    assert after[..., 0].std() > 1.5 * before[..., 0].std()
    # Where no channel is clipped, a* and b* move by rounding only.
    inside = (result.min(axis=2) > 2) & (result.max(axis=2) < 253)
    assert inside.mean() > 0.3
    assert np.abs(after[..., 1:] - before[..., 1:])[inside].max() <= 4


@pytest.mark.parametrize("seed", range(10, 14))
def test_clahe_of_a_small_picture_hardly_shifts_brightness(seed: int) -> None:
    """OpenCV's own redistribution alone would shift it by seven levels and more with few pixels a tile."""
    picture = cv2.GaussianBlur(make_scene(seed, 480, 640) // 2 + 60, (0, 0), 9).astype(np.uint8)
    small_result, large_result = (equalize_lightness(p, 2.0) for p in (reduce_picture(picture), picture))
    assert abs(float(small_result.mean()) - float(large_result.mean())) < 4.5


@given(gamma=st.floats(0.3, 3))
def test_gamma_is_monotonic_and_fixes_black_and_white(gamma: float) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    result = adjust_gamma(ramp, gamma)[0, :, 0].astype(int)
    assert result[0] == 0 and result[255] == 255
    assert (np.diff(result) >= 0).all()
    assert abs(result[128] - 255 * (128 / 255) ** gamma) <= 0.51


@settings(deadline=None, max_examples=60)
@given(bar=st.integers(0, 70), upright=st.booleans(), seed=st.integers(0, 1000))
def test_centred_bars_are_found_and_little_else_is_cut(bar: int, upright: bool, seed: int) -> None:
    content = np.random.default_rng(seed).integers(60, 256, (100, 180, 3)).astype(np.uint8)
    frame = cv2.copyMakeBorder(content, bar, bar, 0, 0, cv2.BORDER_CONSTANT)
    rows, columns = content_area(frame if upright else np.ascontiguousarray(frame.transpose(1, 0, 2)))
    if not upright:
        rows, columns = columns, rows
    assert columns == slice(0, 180)
    assert bar <= rows.start <= bar + 4 * (bar > 0)
    assert 100 + bar - 4 * (bar > 0) <= rows.stop <= 100 + bar


def test_a_dark_side_or_a_black_picture_is_no_bar() -> None:
    dark_side = np.random.default_rng(1).integers(60, 256, (100, 100, 3)).astype(np.uint8)
    dark_side[:, 80:] = 3
    assert content_area(dark_side) == (slice(0, 100), slice(0, 100))
    assert content_area(np.zeros((50, 60, 3), np.uint8)) == (slice(0, 50), slice(0, 60))
