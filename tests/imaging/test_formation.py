"""The model of underwater picture formation: against published numbers, a plain computation, and its physics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.imaging.formation import (
    ENDLESS,
    FARTHEST_RANGE,
    NEAREST_RANGE,
    WATER_TYPES,
    WAVELENGTHS,
    FormationModel,
    Water,
    backscatter,
    camera_sensitivity,
    develop,
    direct_signal,
    grey_balance,
    index_from_range,
    lens_kernel,
    range_from_index,
)

PUBLISHED_DOWNWELLING = {
    "I": (0.028, 0.022, 0.022, 0.021, 0.029, 0.049, 0.065, 0.085, 0.233, 0.302, 0.341, 0.444, 0.595),
    "IB": (0.0460, 0.0360, 0.0342, 0.0325, 0.0386, 0.0572, 0.0726, 0.0926, 0.241, 0.310, 0.349, 0.452, 0.602),
    "II": (0.0846, 0.0671, 0.0620, 0.0579, 0.0641, 0.0845, 0.0999, 0.120, 0.270, 0.337, 0.375, 0.476, 0.624),
    "III": (0.175, 0.140, 0.124, 0.110, 0.109, 0.129, 0.144, 0.164, 0.324, 0.390, 0.426, 0.528, 0.672),
    "1C": (0.340, 0.236, 0.179, 0.139, 0.120, 0.121, 0.129, 0.146, 0.317, 0.395, 0.439, 0.568, 0.721),
    "5C": (1.02, 0.729, 0.535, 0.401, 0.319, 0.277, 0.255, 0.252),
}
"""Kd of Solonenko and Mobley, tables 4 to 8, in 1/m from 400 nm in steps of 25 nm (5C: where not misprinted)."""

waters = st.builds(
    Water,
    water_type=st.sampled_from(WATER_TYPES),
    depth_m=st.floats(0, 40),
    turbidity=st.floats(0.3, 4),
    lamp=st.sampled_from([0.0, 0.2, 1.0]),
)


@pytest.mark.parametrize("water_type", PUBLISHED_DOWNWELLING)
def test_downwelling_attenuation_is_the_published_one(water_type: str) -> None:
    published = np.array(PUBLISHED_DOWNWELLING[water_type])
    computed = Water(water_type, 5.0).downwelling()[: len(published)]
    # The published table has two to three digits, the source's own equation reproduces it within 8 %.
    assert np.all(np.abs(computed / published - 1) < 0.08)


def test_unknown_or_impossible_water_is_refused() -> None:
    with pytest.raises(UserError, match="1C"):
        Water("9Z", 3.0)
    for wrong in ({"depth_m": -1.0}, {"depth_m": 1.0, "turbidity": 0.0}, {"depth_m": 1.0, "lamp": -0.1}):
        with pytest.raises(UserError, match="must"):
            Water("II", **wrong)


def test_camera_channels_are_blue_green_red_and_weigh_one() -> None:
    weights = camera_sensitivity()
    assert weights.shape == (3, len(WAVELENGTHS))
    assert np.allclose(weights.sum(axis=1), 1.0)
    centres = weights @ WAVELENGTHS
    assert centres[0] < 480 < centres[1] < 570 < centres[2]


@given(waters)
@settings(max_examples=60, deadline=None)
def test_with_range_objects_fade_and_water_shows(water: Water) -> None:
    ranges = np.geomspace(NEAREST_RANGE, FARTHEST_RANGE, 50)
    direct, veil = direct_signal(water, ranges), backscatter(water, ranges)
    assert np.all(np.diff(direct, axis=0) < 0) and np.all(direct > 0)
    assert np.all(np.diff(veil, axis=0) >= 0) and np.all(veil >= 0)


@given(waters, st.floats(1.5, 5.0))
@settings(max_examples=60, deadline=None)
def test_deeper_is_darker_and_more_particles_blur_more(water: Water, factor: float) -> None:
    daylight = Water(water.water_type, water.depth_m + 0.5, water.turbidity)
    deeper = Water(water.water_type, daylight.depth_m * factor, water.turbidity)
    muddier = Water(water.water_type, daylight.depth_m, water.turbidity * factor)
    place = np.array([4.0])
    assert np.all(direct_signal(deeper, place) < direct_signal(daylight, place))
    assert np.all(backscatter(deeper, place) < backscatter(daylight, place))
    assert np.all(direct_signal(muddier, place) < direct_signal(daylight, place))
    assert muddier.visibility_m() < daylight.visibility_m()


def test_nothing_is_lost_at_the_surface_and_at_no_range() -> None:
    for water_type in WATER_TYPES:
        surface = Water(water_type, 0.0)
        assert np.allclose(direct_signal(surface, np.array([0.0])), 1.0)
        assert np.allclose(backscatter(surface, np.array([0.0])), 0.0)


@pytest.mark.parametrize("water_type", ["I", "IA", "IB", "II"])
def test_ocean_water_takes_red_first_and_blue_last(water_type: str) -> None:
    blue, green, red = direct_signal(Water(water_type, 5.0), np.array([5.0]))[0]
    assert red < 0.6 * green < green < blue


@pytest.mark.parametrize("water_type", ["1C", "3C", "5C"])
def test_coastal_water_is_green(water_type: str) -> None:
    blue, green, red = backscatter(Water(water_type, 6.0), np.array([100.0]))[0]
    assert green > blue and green > red


def test_direct_and_backscatter_coefficients_differ_and_change_with_range() -> None:
    """The finding of Akkaynak and Treibitz that a model with one coefficient a channel misses."""
    water = Water("II", 5.0)
    near, far = np.array([1.0]), np.array([8.0])
    start, endless = direct_signal(water, np.array([0.0])), backscatter(water, np.array([1e4]))
    direct = [-np.log(direct_signal(water, z) / start)[0, 2] / z[0] for z in (near, far)]
    veil = [-np.log(1 - backscatter(water, z) / endless)[0, 2] / z[0] for z in (near, far)]
    assert direct[0] > 1.03 * direct[1]
    assert abs(direct[0] / veil[0] - 1) > 0.02


def test_a_lamp_lights_what_is_near() -> None:
    dark, lit = Water("II", 25.0), Water("II", 25.0, lamp=0.5)
    ranges = np.array([0.7, 6.0])
    gain = direct_signal(lit, ranges) / direct_signal(dark, ranges)
    assert np.all(gain > 1) and np.all(gain[0] > 5 * gain[1])
    red_share = direct_signal(lit, ranges)[:, 2] / direct_signal(lit, ranges)[:, 0]
    assert red_share[0] > 3 * red_share[1]
    assert np.all(backscatter(lit, ranges) > backscatter(dark, ranges))


@given(st.floats(NEAREST_RANGE, FARTHEST_RANGE))
@settings(max_examples=200, deadline=None)
def test_range_index_keeps_ranges_within_its_step(range_m: float) -> None:
    back = float(range_from_index(index_from_range(range_m)))
    assert abs(math.log(back / range_m)) <= 0.5001 * math.log(FARTHEST_RANGE / NEAREST_RANGE) / 254


def test_range_index_at_the_ends() -> None:
    assert index_from_range(np.array([0.0, NEAREST_RANGE, FARTHEST_RANGE, 1e9])).tolist() == [0, 0, 254, 254]
    assert range_from_index(ENDLESS) == np.inf
    assert np.array_equal(index_from_range(range_from_index(np.arange(255))), np.arange(255))


def form_plainly(water: Water, gains: np.ndarray, clean: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """The same model pixel by pixel and wavelength by wavelength in double precision, straight from the formula."""
    picture = np.zeros(clean.shape)
    sensitivity, beta, daylight = (
        camera_sensitivity(),
        water.line_of_sight(),
        np.exp(-water.downwelling() * water.depth_m),
    )
    for row, column in np.ndindex(*ranges.shape):
        for channel in range(3):
            light = 0.0
            for index in range(len(WAVELENGTHS)):
                seen = math.exp(-beta[index] * ranges[row, column])
                surface = (clean[row, column, channel] / 255.0) ** 2 * daylight[index] * seen
                veil = water.veiling()[index] / beta[index] * daylight[index] * (1 - seen)
                light += sensitivity[channel, index] * (surface + veil)
            picture[row, column, channel] = 255.0 * math.sqrt(light * gains[channel])
    return np.clip(picture, 0, 255)


@given(st.sampled_from(WATER_TYPES), st.floats(1, 20), st.floats(0.5, 2), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_tabulated_model_equals_the_plain_one(water_type: str, depth: float, turbidity: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    clean = generator.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    ranges = np.exp(generator.uniform(math.log(0.35), math.log(60.0), (4, 5)))
    water = Water(water_type, depth, turbidity)
    gains = grey_balance(water, 0.5) / direct_signal(water, np.array([1.0])).max()
    tabulated = FormationModel(water, gains).form(clean, index_from_range(ranges))
    plain = form_plainly(water, gains, clean, ranges)
    # Rounding the range (half a step of 2.2 %) moves the light by at most 0.4 % of full scale.
    error = np.abs((tabulated / 255.0) ** 2 - (plain / 255.0) ** 2)
    assert error.max() < 0.004 * max(1.0, gains.max() * direct_signal(water, np.array([0.0])).max()) + 2 / 255


def test_open_water_is_the_veiling_light_whatever_stands_in_the_clean_picture() -> None:
    model = FormationModel(Water("IB", 6.0), np.array([1.2, 1.0, 2.0]))
    clean = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    radiance = model.radiance(clean, np.full((6, 7), ENDLESS, np.uint8))
    assert np.allclose(radiance, model.veiling_light(), atol=1e-6)


def test_full_white_balance_turns_a_grey_card_grey() -> None:
    for water_type in WATER_TYPES:
        water = Water(water_type, 8.0)
        gains = grey_balance(water, 1.0)
        card = (0.3 * direct_signal(water, np.array([2.0])) + backscatter(water, np.array([2.0])))[0] * gains
        assert np.allclose(card, card.mean())
        assert np.allclose(grey_balance(water, 0.0), 1.0)
        assert np.isclose(np.prod(gains), 1.0)


def test_developing_is_the_square_root_and_adds_noise_in_grey_levels() -> None:
    radiance = np.linspace(0, 1.3, 300, dtype=np.float32).reshape(10, 10, 3)
    wanted = np.clip(255 * np.sqrt(radiance), 0, 255)
    assert np.abs(develop(radiance) - wanted).max() <= 0.51
    noise = np.random.default_rng(1).standard_normal(radiance.shape).astype(np.float32)
    noisy = develop(radiance, noise, 3.0)
    assert np.abs(noisy - np.clip(255 * np.sqrt(radiance) + 3.0 * noise, 0, 255)).max() <= 0.51


@given(st.floats(0, 2), st.floats(-9, 9), st.floats(-9, 9))
@settings(max_examples=80, deadline=None)
def test_lens_kernel_keeps_the_light_and_the_place(sigma: float, x: float, y: float) -> None:
    kernel = lens_kernel(sigma, x, y)
    if kernel is None:
        assert sigma < 0.2 and math.hypot(x, y) < 1
        return
    assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
    assert np.isclose(kernel.sum(), 1.0, atol=1e-5) and (kernel >= 0).all()
    offset = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    assert abs((kernel.sum(axis=0) * offset).sum()) < 1e-4 and abs((kernel.sum(axis=1) * offset).sum()) < 1e-4
