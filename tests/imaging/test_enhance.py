"""The plan that is chosen for a picture, and the fast enhancement against the exact one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.imaging.content import content_area
from marauder.imaging.enhance import apply_lines, colour_matrix, enhance, enhance_exactly, fit_lines
from marauder.imaging.plan import METHODS, Measurements, Plan, choose_plan, measure, plan_for
from marauder.imaging.quality import psnr, uciqe, uiqm
from marauder.imaging.stages import apply_compensation

FULL = METHODS["full"][1]
assert FULL is not None
share = st.floats(0, 1)


def read_some(folder: Path, count: int) -> list[np.ndarray]:
    paths = sorted(folder.glob("*.jpg"))
    return [cv2.imread(str(path)) for path in paths[:: len(paths) // count][:count]]


@given(
    st.builds(
        Measurements,
        blue=share,
        green=share,
        red=share,
        cast=st.floats(0, 130),
        cast_ratio=st.floats(0, 130),
        veil=share,
        dark_end=share,
        bright_end=share,
        lightness=share,
        detail=st.floats(0, 0.5),
    ),
    st.floats(0, 2),
)
def test_every_measurement_gives_a_plan_within_bounds(measured: Measurements, strength: float) -> None:
    plan = choose_plan(measured, strength)
    assert 0 <= plan.red <= 1 and 0 <= plan.blue <= 1 and 0 <= plan.white_balance <= 1
    assert 0 <= plan.dehaze <= 0.9
    assert plan.clip_limit == 0 or 1 <= plan.clip_limit <= 8
    assert 0.3 <= plan.gamma <= 1
    if measured.red >= measured.green:
        assert plan.red == 0
    if strength == 0:
        assert plan.changes_nothing


def good_measurements(**changes: float) -> Measurements:
    values = {
        "blue": 0.45,
        "green": 0.45,
        "red": 0.44,
        "cast": 2.0,
        "cast_ratio": 0.2,
        "veil": 0.08,
        "dark_end": 0.1,
        "bright_end": 0.8,
        "lightness": 0.45,
        "detail": 0.1,
    }
    return Measurements(**{**values, **changes})


def test_a_good_picture_is_left_alone_and_each_fault_calls_its_stage() -> None:
    assert choose_plan(good_measurements()).changes_nothing
    green = choose_plan(good_measurements(green=0.6, red=0.25, cast=30, cast_ratio=3))
    assert "compensation" in green.stages and "white balance" in green.stages and "dehazing" not in green.stages
    hazy = choose_plan(good_measurements(veil=0.4, dark_end=0.4, bright_end=0.7, detail=0.03))
    assert hazy.dehaze > 0.4 and hazy.white_balance == 0
    flat = choose_plan(good_measurements(dark_end=0.3, bright_end=0.6, detail=0.04))
    assert flat.clip_limit > 1.5
    dark = choose_plan(good_measurements(bright_end=0.35, lightness=0.2))
    assert dark.gamma < 0.9
    coloured_subject = choose_plan(good_measurements(cast=40, cast_ratio=0.6))
    assert "white balance" not in coloured_subject.stages


def test_more_haze_is_never_dehazed_less() -> None:
    strengths = [
        choose_plan(good_measurements(veil=v, dark_end=0.4, detail=0.04)).dehaze for v in np.linspace(0, 1, 50)
    ]
    assert strengths == sorted(strengths) and strengths[0] == 0 and strengths[-1] > 0


def test_unknown_methods_are_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="auto"):
        plan_for(np.zeros((20, 20, 3), np.uint8), "magic")


def test_lines_are_recovered_and_carried_to_the_full_size() -> None:
    draw = np.random.default_rng(0)
    before = draw.integers(20, 140, (60, 80, 3)).astype(np.uint8)
    after = np.clip(np.rint(before * np.array([1.5, 1.2, 0.8]) + np.array([5, -9, 30])), 0, 255).astype(np.uint8)
    slope, offset = fit_lines(before, after, np.full(3, 3.0))
    large = draw.integers(20, 140, (480, 640, 3)).astype(np.uint8)
    expected = np.clip(np.rint(large * np.array([1.5, 1.2, 0.8]) + np.array([5, -9, 30])), 0, 255)
    result = apply_lines(large, np.eye(3, 4, dtype=np.float32), slope, offset)
    assert np.abs(result - expected).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 1), (3, 1), (5, 9), (64, 1), (121, 77), (479, 641), (640, 360)])
def test_lines_are_applied_as_in_floating_point_at_every_size(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(5)
    height, width = size
    picture = draw.integers(0, 256, (height, width, 3)).astype(np.uint8)
    grid = (-(-height // 10), -(-width // 10))
    rows, columns = np.indices(grid)
    ramp = ((rows + columns) / max(1, sum(grid))).astype(np.float32)[..., None].repeat(3, axis=2)
    slope, offset = 0.7 + ramp, 20 - 40 * ramp
    slopes, offsets = (cv2.resize(part, (width, height)).reshape(height, width, 3) for part in (slope, offset))
    expected = np.clip(np.rint(picture * slopes + offsets), 0, 255)
    result = apply_lines(picture, np.eye(3, 4, dtype=np.float32), slope, offset)
    assert result.shape == picture.shape and result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 2


def test_slopes_are_bounded_so_that_noise_stays_noise() -> None:
    noise = np.random.default_rng(1).integers(118, 139, (60, 80, 3)).astype(np.uint8)
    steep = np.clip((noise.astype(int) - 128) * 9 + 128, 0, 255).astype(np.uint8)
    slope, _ = fit_lines(noise, steep, np.full(3, 2.0))
    assert slope.max() <= 2.0001


def test_the_colour_matrix_is_the_tangent_of_the_compensation() -> None:
    means = (0.5, 0.55, 0.2)
    draw = np.random.default_rng(2)
    near = 255 * np.array(means) + draw.integers(-12, 13, (40, 40, 3))
    picture = np.clip(np.rint(near), 0, 255).astype(np.uint8)
    exact = apply_compensation(picture, 0.05, 0.3)
    linear = cv2.transform(picture, colour_matrix(means, (0.05, 0.3), np.ones(3)))
    assert np.abs(exact.astype(int) - linear.astype(int)).max() <= 2


@pytest.mark.parametrize(("data", "typical", "worst"), [("aquarium", 29.0, 24.0), ("deepfish", 34.0, 31.0)])
def test_fast_and_exact_enhancement_agree_on_real_pictures(
    shared_data: Path, data: str, typical: float, worst: float
) -> None:
    """PSNR in dB between the two; deepfish is what the chain is for, aquarium is rich in contrast."""
    values = []
    for picture in read_some(shared_data / data / "images", 12):
        values.append(psnr(enhance(picture, FULL), enhance_exactly(picture, FULL)))
    assert np.mean(values) > typical and min(values) > worst


def test_colour_alone_is_exact(shared_data: Path) -> None:
    plan = Plan(red=1.0, blue=0.5, white_balance=0.8)
    for picture in read_some(shared_data / "aquarium" / "images", 5):
        assert np.array_equal(enhance(picture, plan), enhance_exactly(picture, plan))


def test_black_bars_stay_black(shared_data: Path) -> None:
    for picture in read_some(shared_data / "deepfish" / "images", 6):
        rows, _ = content_area(picture)
        assert 60 < rows.start < 100 and 260 < rows.stop < 300
        result = enhance(picture, FULL)
        assert np.array_equal(result[: rows.start], picture[: rows.start])
        assert np.array_equal(result[rows.stop :], picture[rows.stop :])


def test_auto_improves_hazy_pictures_and_leaves_many_good_ones(shared_data: Path) -> None:
    def gains(data: str) -> tuple[float, float, float]:
        uiqm_gain, uciqe_gain, alone = [], [], 0
        pictures = read_some(shared_data / data / "images", 20)
        for picture in pictures:
            content = np.ascontiguousarray(picture[content_area(picture)])
            plan, _ = plan_for(content, "auto")
            alone += plan.changes_nothing
            result = enhance(content, plan)
            uiqm_gain.append(uiqm(result) - uiqm(content))
            uciqe_gain.append(uciqe(result) - uciqe(content))
        return float(np.mean(uiqm_gain)), float(np.mean(uciqe_gain)), alone / len(pictures)

    uiqm_gain, uciqe_gain, alone = gains("deepfish")
    assert uiqm_gain > 0.3 and uciqe_gain > 0.03 and alone < 0.2
    uiqm_gain, _, alone = gains("aquarium")
    assert uiqm_gain > 0.0 and 0.2 < alone < 0.8


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 99))
def test_any_small_picture_can_be_enhanced(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    for plan in (FULL, choose_plan(measure(picture), 2.0)):
        result = enhance(picture, plan)
        assert result.shape == picture.shape and result.dtype == np.uint8
