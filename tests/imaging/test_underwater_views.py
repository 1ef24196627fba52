"""Views for pretraining: the matrix is right, crops overlap, every change does what its name says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marauder.core.randomness import stream
from marauder.data.pictures import decode_picture, scale_picture
from marauder.imaging.formation import WATER_TYPES
from marauder.imaging.underwater_view_settings import JERLOV_TYPES, ViewSettings, geometry_only
from marauder.imaging.underwater_views import View, draw_views
from marauder.imaging.water_effects import (
    add_snow,
    add_water,
    caustic_pattern,
    caustics,
    range_map,
    sensor_noise,
)

PLAIN = geometry_only(ViewSettings())


def only(name: str, **values: float) -> ViewSettings:
    return ViewSettings(**{**PLAIN.model_dump(), name: 1.0, **values})


@pytest.fixture(scope="module")
def pictures(shared_data) -> list[np.ndarray]:
    paths = sorted((shared_data / "aquarium").rglob("*.jpg"))[::80]
    assert len(paths) > 5
    return [scale_picture(decode_picture(path), 320) for path in paths]


def position_picture(width: int, height: int) -> np.ndarray:
    """Red tells x, green y, at pixel centres."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y, np.zeros_like(x)], axis=2).round().astype(np.uint8)


@given(st.integers(0, 10_000), st.integers(60, 250), st.integers(60, 250), st.sampled_from([32, 64, 100]))
@settings(max_examples=40, deadline=None)
def test_a_view_pixel_shows_the_place_its_matrix_names(seed: int, width: int, height: int, size: int) -> None:
    for view in draw_views(position_picture(width, height), size, PLAIN, stream(seed)):
        x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        points = view.matrix @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)])
        inner = (points[0] > 1) & (points[0] < width - 1) & (points[1] > 1) & (points[1] < height - 1)
        shown = view.picture.reshape(-1, 3)[:, :2].astype(float).T
        # At the rim of a crop bilinear sampling repeats the border: up to half a source pixel, and rounding twice.
        assert np.abs(shown - points[:2])[:, inner].max() < 2.0
        assert np.abs(shown - points[:2])[:, inner].mean() < 0.6


def test_real_views_can_be_laid_over_each_other(pictures: list[np.ndarray]) -> None:
    for number, picture in enumerate(pictures):
        one, other = draw_views(picture, 160, PLAIN, stream(number))
        between = np.linalg.inv(one.matrix) @ other.matrix  # from the pixels of other to those of one
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warp = (np.linalg.inv(half) @ between @ half)[:2]
        laid = cv2.warpAffine(one.picture, warp, (160, 160), flags=flags)
        inside = cv2.warpAffine(np.ones((160, 160), np.uint8), warp, (160, 160), flags=flags) > 0
        right = np.abs(laid[inside].astype(float) - other.picture[inside]).mean()
        wrong = np.abs(one.picture[inside].astype(float) - other.picture[inside]).mean()
        assert right < 12 and right < 0.6 * wrong


@given(st.integers(0, 10_000), st.floats(0, 0.95), st.integers(20, 300), st.integers(20, 300), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_crops_lie_inside_and_overlap_with_the_first(
    seed: int, overlap: float, width: int, height: int, views: int
) -> None:
    wanted = PLAIN.model_copy(update={"overlap": overlap, "views": views, "least_area": 0.05, "jitter": 0.0})
    found = draw_views(np.zeros((height, width, 3), np.uint8), 16, wanted, stream(seed))
    corners = [view.matrix @ np.array([[0, 16], [0, 16], [1, 1]]) for view in found]
    boxes = [np.array([c[0].min(), c[1].min(), c[0].max(), c[1].max()]) for c in corners]
    assert len(boxes) == views
    for box in boxes:
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= width + 1e-9 and box[3] <= height + 1e-9
        sides = np.minimum(box[2:], boxes[0][2:]) - np.maximum(box[:2], boxes[0][:2])
        smaller = min(np.prod(box[2:] - box[:2]), np.prod(boxes[0][2:] - boxes[0][:2]))
        assert np.prod(np.maximum(sides, 0)) / smaller >= overlap - 1e-9


def test_the_same_key_gives_the_same_views_and_another_key_others(pictures: list[np.ndarray]) -> None:
    def draw(seed: int) -> list[View]:
        return draw_views(pictures[0], 96, ViewSettings(), stream(seed, "views"))

    for seed in range(8):
        for one, again in zip(draw(seed), draw(seed), strict=True):
            assert np.array_equal(one.picture, again.picture) and np.array_equal(one.matrix, again.matrix)
    assert not np.array_equal(draw(0)[0].picture, draw(1)[0].picture)


def test_the_picture_is_not_changed(pictures: list[np.ndarray]) -> None:
    before = pictures[0].copy()
    every = dict.fromkeys(("jitter", "enhanced", "cast", "haze", "snow", "caustics", "blur", "noise", "flip"), 1.0)
    for seed in range(4):
        draw_views(pictures[0], 128, ViewSettings(**every), stream(seed))
    assert np.array_equal(before, pictures[0])


@pytest.mark.parametrize("name", ["jitter", "grey", "enhanced", "cast", "haze", "snow", "caustics", "blur", "noise"])
def test_each_change_alone_changes_pixels_and_keeps_the_geometry(name: str, pictures: list[np.ndarray]) -> None:
    changed = 0
    for number, picture in enumerate(pictures[:5]):
        views = draw_views(picture, 128, only(name, views=1, blur_sigma=5.0), stream(number))
        plain = draw_views(picture, 128, PLAIN.model_copy(update={"views": 1}), stream(number))
        assert views[0].picture.shape == (128, 128, 3) and views[0].picture.dtype == np.uint8
        assert np.array_equal(views[0].matrix, plain[0].matrix)
        changed += not np.array_equal(views[0].picture, plain[0].picture)
    assert changed >= 4


def test_at_most_one_view_is_enhanced(pictures: list[np.ndarray]) -> None:
    square = np.ascontiguousarray(pictures[3][:240, :240])
    whole = {"least_area": 1.0, "aspect": 1.0, "flip": 0.0}
    plain = draw_views(square, 128, PLAIN.model_copy(update=whole), stream(1))[0]
    counts = []
    for seed in range(12):
        views = draw_views(square, 128, only("enhanced", views=4, **whole), stream(seed))
        counts.append(sum(not np.array_equal(view.picture, plain.picture) for view in views))
    assert max(counts) == 1 and sum(counts) >= 8


@pytest.mark.parametrize("water_type", WATER_TYPES)
def test_a_deeper_scene_loses_red_most(water_type: str, pictures: list[np.ndarray]) -> None:
    neutral = [picture for picture in pictures if picture[..., 0].mean() > 40]
    assert len(neutral) > 2
    for number, picture in enumerate(neutral):
        light = (picture[..., ::-1][:160, :160].astype(np.float32) / 255) ** 2
        deep = add_water(light, water_type, 1.6, 0.0, 0.0, stream(number))
        blue, green, red = (deep.mean((0, 1)) / light.mean((0, 1))).tolist()
        assert red < 0.98 * green  # turbid coastal water takes blue, too
        assert red < 0.9 * blue or water_type.endswith("C")
        assert deep.sum() <= light.sum() * 1.001


def test_light_that_the_water_swallows_becomes_dark_and_not_noise(pictures: list[np.ndarray]) -> None:
    blue = np.zeros((64, 64, 3), np.float32)
    blue[..., 0], blue[..., 2] = 0.5, 0.002
    for water_type in WATER_TYPES:
        deep = add_water(blue, water_type, 1.6, 0.0, 0.0, stream(1))
        assert deep[..., 2].max() < 0.1 and deep[..., 0].max() <= 1.5 + 1e-3


def test_haze_takes_contrast_where_the_scene_is_far() -> None:
    random = stream(5)
    light = random.random((128, 128, 3)).astype(np.float32)
    ranges = range_map(128, 1.0, stream(9))
    assert ranges.min() >= 0 and ranges.max() == pytest.approx(1.0, abs=0.05)
    hazy = add_water(light, "II", 0.0, 2.0, 0.0, stream(6))
    # The same stream draws the same range map.
    ranges = range_map(128, 1.0, stream(6))
    near, far = ranges < np.quantile(ranges, 0.3), ranges > np.quantile(ranges, 0.7)
    assert hazy[far].std() < 0.8 * hazy[near].std()
    assert hazy.std() / hazy.mean() < 0.9 * light.std() / light.mean()


def test_snow_only_adds_light_and_more_of_it_with_more_particles() -> None:
    dark = np.full((160, 160, 3), 0.05, np.float32)
    few = add_snow(dark, np.ones(3), 10, stream(1)) - dark
    many = add_snow(dark, np.ones(3), 100, stream(1)) - dark
    assert few.min() >= -1e-6 and many.max() <= 1 and few.max() > 0.05
    assert many.sum() > 3 * few.sum()
    assert (many.max(axis=2) > 0.02).mean() < 0.5


def test_caustics_are_periodic_bright_lines_around_even_light() -> None:
    pattern = caustic_pattern(0)
    assert pattern.mean() == pytest.approx(1, abs=1e-3) and np.quantile(pattern, 0.99) > 2 > 1 > np.median(pattern)
    seam = np.abs(pattern[0] - pattern[-1]).mean()
    assert seam < 2 * np.abs(np.diff(pattern, axis=0)).mean()
    shown = [caustics(200, 0.5, stream(number)) for number in range(12)]
    assert np.mean([part.mean() for part in shown]) == pytest.approx(1, abs=0.1)
    assert min(part.min() for part in shown) >= 0.5 - 1e-6
    assert np.array_equal(caustics(200, 0.0, stream(1)), np.ones((200, 200), np.float32))


def test_noise_has_unit_variance_and_fits_any_size() -> None:
    for size in (32, 320, 512, 700):
        noise = sensor_noise(size, stream(size))
        assert noise.shape == (size, size, 3)
        assert noise.std() == pytest.approx(1, abs=0.1)


def test_water_types_are_those_of_the_model_and_mistakes_are_told() -> None:
    assert JERLOV_TYPES == WATER_TYPES
    with pytest.raises(ValidationError, match="no water type '9C'"):
        ViewSettings(water_types=("9C",))
    with pytest.raises(ValidationError, match="larger than most_area"):
        ViewSettings(least_area=0.9, most_area=0.5)
    with pytest.raises(ValueError, match="no view of 4 pixels"):
        draw_views(np.zeros((9, 9, 3), np.uint8), 4, PLAIN, stream(0))
