"""Views of one picture for self-supervised pretraining: random crops that overlap, seen through different water.

A crop and a flip make the geometry, and its matrix is returned, so that dense terms know which place of one view is
which place of another. Changes of value are those of the air (colour jitter, grey, blur) and those of the water:
colour cast by water type and depth, backscatter haze over a random range map, marine snow, caustics, blur by forward
scattering, sensor noise, and the enhancement stages themselves, so that features do not change when step 0 does.

Sources: random resized crop, flip, jitter, grey and blur, Chen et al., "A Simple Framework for Contrastive Learning of
Visual Representations" (SimCLR), ICML 2020, appendix A; overlap of crops for dense terms, Wang et al., "Dense
Contrastive Learning", CVPR 2021; the water: ``imaging.water_effects`` and ``imaging.formation``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from marauder.imaging.enhance import enhance
from marauder.imaging.formation import develop
from marauder.imaging.plan import METHODS, plan_for
from marauder.imaging.underwater_view_settings import ViewSettings, geometry_only
from marauder.imaging.water_effects import add_snow, add_water, caustics, sensor_noise

__all__ = ["View", "ViewSettings", "draw_views", "geometry_only"]

TRIES = 12
ENHANCING = tuple(name for name in METHODS if name != "none")
# The inverse of imaging.formation's transfer curve, a square root.
LINEAR = ((np.arange(256) / 255.0) ** 2).astype(np.float32)
LUMA = np.array([0.114, 0.587, 0.299])


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """A view: uint8 (S, S, 3) red first, and float64 (3, 3) that maps the view's pixels to the source picture's.

    Coordinates are continuous: the centre of the first pixel is (0.5, 0.5), as boxes have it.
    """

    picture: np.ndarray
    matrix: np.ndarray


def draw_views(picture: np.ndarray, size: int, settings: ViewSettings, random: np.random.Generator) -> list[View]:
    """Draw ``settings.views`` views of ``size`` × ``size`` pixels of a uint8 (h, w, 3) picture, red first.

    The crops of all further views overlap with the first by ``settings.overlap`` at least. All draws come from
    ``random``. Raises ``ValueError`` for a picture or size without pixels.
    """
    if size < 8 or min(picture.shape[:2]) < 2:
        raise ValueError(f"no view of {size} pixels of a picture of {picture.shape[1]}×{picture.shape[0]} pixels")
    crops = _draw_crops(picture.shape[1], picture.shape[0], settings, random)
    enhanced = int(random.integers(len(crops))) if random.random() < settings.enhanced else -1
    views = []
    for number, crop in enumerate(crops):
        shown, matrix = _take(picture, crop, size, bool(random.random() < settings.flip))
        shown = _enhance(shown, random) if number == enhanced else _through_water(shown, settings, random)
        shown = _change_colour(shown, settings, random)
        views.append(View(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), matrix))
    return views


def _draw_crops(width: int, height: int, settings: ViewSettings, random: np.random.Generator) -> list[np.ndarray]:
    """Crops as int64 x0 y0 x1 y1, each inside the picture."""
    first = _random_crops(1, width, height, settings, random)[0]
    crops = [first]
    for _ in range(settings.views - 1):
        tried = _random_crops(TRIES, width, height, settings, random)
        shared = _common_share(first, tried)
        enough = np.flatnonzero(shared >= settings.overlap)
        if len(enough):
            crops.append(tried[enough[0]])
            continue
        best = tried[int(shared.argmax())]
        # The overlap is promised: if no draw reaches it the best is moved, and as a last resort the crop repeated.
        centred = _centred_on(first, best, width, height)
        crops.append(centred if _common_share(first, centred[None])[0] >= settings.overlap else first)
    return crops


def _random_crops(
    count: int, width: int, height: int, settings: ViewSettings, random: np.random.Generator
) -> np.ndarray:
    """Crops of random area, aspect and place: int64 (count, 4)."""
    draws = random.random((count, 4))
    area = settings.least_area + (settings.most_area - settings.least_area) * draws[:, 0]
    aspect = np.exp((2 * draws[:, 1] - 1) * math.log(settings.aspect))
    # Aspect is that of pixels; what does not fit is cut, as near to the wanted shape as the picture allows.
    wide = np.clip(np.sqrt(area * width * height * aspect), 2, width).round().astype(np.int64)
    high = np.clip(np.sqrt(area * width * height / aspect), 2, height).round().astype(np.int64)
    left = (draws[:, 2] * (width - wide + 1)).astype(np.int64)
    top = (draws[:, 3] * (height - high + 1)).astype(np.int64)
    return np.stack([left, top, left + wide, top + high], axis=1)


def _common_share(first: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area common with ``first`` as share of the smaller of the two: float64 (n,)."""
    sides = np.minimum(first[2:], others[:, 2:]) - np.maximum(first[:2], others[:, :2])
    smaller = np.minimum((first[2:] - first[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1))
    return np.maximum(sides, 0).prod(axis=1) / smaller


def _centred_on(first: np.ndarray, crop: np.ndarray, width: int, height: int) -> np.ndarray:
    """``crop`` moved so that its centre is as near to that of ``first`` as the picture's border allows."""
    sides = crop[2:] - crop[:2]
    corner = np.clip((first[:2] + first[2:] - sides) // 2, 0, np.array([width, height]) - sides)
    return np.concatenate([corner, corner + sides])


def _take(picture: np.ndarray, crop: np.ndarray, size: int, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """The crop at the view's size, blue first, and the matrix from view to source."""
    x0, y0, x1, y1 = crop.tolist()
    part = picture[y0:y1, x0:x1]
    shrinks = max(x1 - x0, y1 - y0) > 1.5 * size
    view = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    step_x, step_y = (x1 - x0) / size, (y1 - y0) / size
    matrix = np.array([[step_x, 0, x0], [0, step_y, y0], [0, 0, 1]], np.float64)
    if flip:
        view = cv2.flip(view, 1)
        matrix = np.array([[-step_x, 0, x1], [0, step_y, y0], [0, 0, 1]], np.float64)
    return cv2.cvtColor(view, cv2.COLOR_RGB2BGR), matrix


def _enhance(view: np.ndarray, random: np.random.Generator) -> np.ndarray:
    plan, _ = plan_for(view, ENHANCING[int(random.integers(len(ENHANCING)))], random.uniform(0.7, 1.3))
    return enhance(view, plan)


def _through_water(view: np.ndarray, settings: ViewSettings, random: np.random.Generator) -> np.ndarray:
    """Caustics on the scene, then water and snow before it, then the camera's blur and noise."""
    chances = [settings.cast, settings.haze, settings.snow, settings.caustics, settings.noise]
    # One draw for all: changing a single chance does not shift which of the others come.
    cast, haze, snow, light_waves, noise = random.random(5) < chances
    if not (cast or haze or snow or light_waves or noise):
        return view
    size = view.shape[0]
    light = cv2.LUT(view, LINEAR)
    if light_waves:
        factors = caustics(size, settings.caustics_contrast * random.uniform(0.3, 1.0), random)
        light = cv2.multiply(light, cv2.merge([factors, factors, factors]))
    if cast or haze:
        depth = settings.cast_depth * random.uniform(0.2, 1.0) * bool(cast)
        distance = settings.haze_range * random.uniform(0.2, 1.0) * bool(haze)
        water_type = settings.water_types[int(random.integers(len(settings.water_types)))]
        light = add_water(light, water_type, depth, distance, random.uniform(0.0, 0.6), random)
    count = int(random.uniform(0.15, 1.0) * settings.snow_density) if snow else 0
    if count:
        mean = np.array(cv2.mean(light)[:3])
        light = add_snow(light, np.minimum(0.35 * mean + 0.65 * mean.mean() + 0.3, 1.0), count, random)
    if noise:
        level = settings.noise_level * random.uniform(0.2, 1.0)
        return develop(light, sensor_noise(size, random), level)
    return develop(light)


def _change_colour(view: np.ndarray, settings: ViewSettings, random: np.random.Generator) -> np.ndarray:
    """Jitter or grey as one matrix, then blur."""
    jitter, grey, blur = random.random(3) < [settings.jitter, settings.grey, settings.blur]
    if jitter or grey:
        view = cv2.transform(view, _colour_matrix(view, bool(jitter), bool(grey), settings, random))
    if blur and settings.blur_sigma:
        sigma = settings.blur_sigma * random.uniform(0.1, 1.0) * view.shape[0] / 224
        if sigma > 0.2:
            view = cv2.GaussianBlur(view, (0, 0), sigma)
    return view


def _colour_matrix(
    view: np.ndarray, jitter: bool, grey: bool, settings: ViewSettings, random: np.random.Generator
) -> np.ndarray:
    """Brightness, contrast, saturation, hue and greyness on (blue, green, red, 1): float64 (3, 4).

    Hue turns around the grey axis of the colour cube (Haeberli, "Matrix Operations for Image Processing", 1993), which
    unlike the hue of HSV is linear.
    """
    widths = [settings.brightness, settings.contrast, settings.saturation, settings.hue]
    bright, contrast, saturation, hue = random.uniform(-1, 1, 4) * widths
    matrix = np.eye(3)
    offset = np.zeros(3)
    to_grey = np.tile(LUMA, (3, 1))
    if jitter:
        matrix = (1 + saturation) * matrix - saturation * to_grey
        matrix = _hue_turn(2 * math.pi * hue) @ matrix
        matrix *= (1 + bright) * (1 + contrast)
        # Contrast turns around the mean that the picture has once it is brightened.
        level = float(LUMA @ np.array(cv2.mean(view)[:3])) * (1 + bright)
        offset = np.full(3, -contrast * level)
    if grey:
        matrix, offset = to_grey @ matrix, to_grey @ offset
    return np.concatenate([matrix, offset[:, None]], axis=1)


def _hue_turn(angle: float) -> np.ndarray:
    """Rotation of colours around the axis of greys: float64 (3, 3)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    third, root = (1 - cosine) / 3, sine / math.sqrt(3)
    return np.array(
        [
            [cosine + third, third - root, third + root],
            [third + root, cosine + third, third - root],
            [third - root, third + root, cosine + third],
        ]
    )
