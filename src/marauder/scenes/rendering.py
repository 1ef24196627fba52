"""Draws the frames of a planned clip: the clean picture, the exact boxes, and what the camera would take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from marauder.core.randomness import stream
from marauder.data.records import Attribute
from marauder.imaging.formation import FormationModel, develop, grey_balance, index_from_range, lens_kernel
from marauder.scenes.backdrop import Backdrop, make_backdrop
from marauder.scenes.canvas import smooth_noise
from marauder.scenes.composition import Animal, ClipPlan, plan_clip
from marauder.scenes.scenery import kelp_of
from marauder.scenes.species import fineness_for, sprite_of
from marauder.scenes.stamping import RANGE_COVERAGE, Pose, Stamp, hide_behind, lay, lay_shadow, stamp, visible_mask

LEAST_VISIBLE = 0.3
"""An animal of which less is visible (hidden, or outside the picture) is left out of the picture altogether."""

LEAST_SIDE = 0.009
"""Smallest side of a box, in picture widths; smaller animals are left out too."""

EXPOSURE_TIME = 1 / 50
_NOISE_TILE = 1024


@dataclass(eq=False)
class Frame:
    """One frame: pictures uint8 (H, W, 3) in blue, green, red; ``boxes`` float64 (N, 4) x0 y0 x1 y1 in pixels.

    ``classes`` int64 (N,), ``visible`` float64 (N,) visible share of each animal, ``instances`` uint16 (H, W): 0 for
    background, i + 1 for the pixels of box i. ``ranges`` uint8 (H, W): range index of the formation model.
    """

    picture: np.ndarray
    clean: np.ndarray
    ranges: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    visible: np.ndarray
    attributes: dict[str, Attribute]


@dataclass(eq=False)
class Drawing:
    """A frame without water; fields as in ``Frame``. ``shown``: stamp and species of each instance, in order."""

    clean: np.ndarray
    ranges: np.ndarray
    instances: np.ndarray
    shown: tuple[tuple[Stamp, int], ...]


@dataclass(eq=False)
class _Thing:
    """A placed animal (``animal`` given) or plant, waiting to be drawn."""

    item: Stamp
    range_index: int
    animal: Animal | None


class ClipRenderer:
    """Draws the frames of clip ``clip``: each is a function of (seed, clip, frame, width, height) alone."""

    def __init__(self, seed: int, clip: int, width: int, height: int) -> None:
        self.seed, self.width, self.height = seed, width, height
        self.fineness = fineness_for(width)
        self.plan: ClipPlan = plan_clip(seed, clip, width, height)
        generator = stream(seed, "backdrop", clip)
        sunlit = 0.8 * math.exp(-self.plan.water.depth_m / 9.0)
        self.backdrop: Backdrop = make_backdrop(generator, seed, self.plan.kind, self.plan.view, sunlit)
        self.lighting = _lighting(generator, self.plan, width, height)
        self.model = self._expose()

    def _expose(self) -> FormationModel:
        """Set white balance and exposure once for the clip, from the middle of the backdrop."""
        water, optics = self.plan.water, self.plan.optics
        balance = grey_balance(water, optics.white_balance)
        meter = FormationModel(water, balance)
        # Every eighth pixel is enough to meter by.
        light = meter.radiance(
            np.ascontiguousarray(self.backdrop.clean[::8, ::8]), np.ascontiguousarray(self.backdrop.ranges[::8, ::8])
        )
        level = 0.7 * float(light.mean()) + 0.3 * float(np.percentile(light, 90))
        return FormationModel(water, balance * optics.exposure / max(level, 1e-5))

    def frame(self, number: int) -> Frame:
        """Draw frame ``number`` (from 0)."""
        drawn = self.draw(number)
        boxes, classes, visible = self.label(drawn)
        plan, water = self.plan, self.plan.water
        attributes: dict[str, Attribute] = {
            "clip": plan.clip,
            "frame": number,
            "background": plan.kind,
            "water_type": water.water_type,
            "depth_m": water.depth_m,
            "turbidity": water.turbidity,
            "visibility_m": round(water.visibility_m(), 2),
            "lamp": water.lamp,
            "motion_blur": round(math.hypot(*self._motion(number)), 2),
            "marine_snow": plan.optics.snow,
            "objects": len(boxes),
            "least_visible": round(float(visible.min()), 3) if len(visible) else 1.0,
        }
        picture = self.photograph(number, drawn)
        return Frame(picture, drawn.clean, drawn.ranges, drawn.instances, boxes, classes, visible, attributes)

    def draw(self, number: int) -> Drawing:
        """The scene of frame ``number`` without water, with its ranges and instances."""
        x, y = self.plan.offset(number)
        window = (slice(y, y + self.height), slice(x, x + self.width))
        things, instances = _drop_hidden(self._place(number, x, y, window), self.width, self.height)
        clean = np.ascontiguousarray(self.backdrop.clean[window])
        ranges = np.ascontiguousarray(self.backdrop.ranges[window])
        for thing in things:
            animal = thing.animal
            if animal is not None and animal.kind.bottom:
                lay_shadow(clean, thing.item)
            lay(clean, thing.item, 1.0 if animal is None else animal.kind.opacity)
            ranges[thing.item.window][thing.item.coverage >= RANGE_COVERAGE] = thing.range_index
        shown = tuple((thing.item, thing.animal.species) for thing in things if thing.animal is not None)
        return Drawing(clean, ranges, instances, shown)

    def label(self, drawing: Drawing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4), classes (N,) and visible shares (N,) of the animals in a drawing, from their visible pixels."""
        count = len(drawing.shown)
        boxes, classes, visible = np.zeros((count, 4)), np.zeros(count, np.int64), np.zeros(count)
        for index, (item, species) in enumerate(drawing.shown):
            rows, columns = item.window
            box, pixels = _extent(drawing.instances[rows, columns] == index + 1)
            boxes[index] = (columns.start + box[0], rows.start + box[1], columns.start + box[2], rows.start + box[3])
            classes[index] = species
            visible[index] = min(1.0, pixels / max(item.whole, 1))
        return boxes, classes, visible

    def photograph(self, number: int, drawing: Drawing) -> np.ndarray:
        """Water, lighting, marine snow, lens, motion and noise: the picture that the camera takes of a drawing."""
        optics = self.plan.optics
        # In the order in which light passes: water, particles, lens, sensor.
        radiance = cv2.multiply(self.model.radiance(drawing.clean, drawing.ranges), self.lighting)
        generator = stream(self.seed, "camera", self.plan.clip, number)
        if optics.snow:
            _add_snow(generator, radiance, optics.snow, self.model.veiling_light())
        kernel = lens_kernel(optics.blur, *self._motion(number))
        if kernel is not None:
            radiance = cv2.filter2D(radiance, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        return develop(np.asarray(radiance), _noise(self.seed, generator, self.width, self.height), optics.noise)

    def _place(self, number: int, x: int, y: int, window: tuple[slice, slice]) -> list[_Thing]:
        """Stamps of everything that moves, farthest first, with the parts behind the backdrop's obstacles removed."""
        view, plan = self.plan.view, self.plan
        ranges, obstacles = self.backdrop.ranges[window], self.backdrop.obstacles[window]
        things = []
        for animal in plan.animals:
            pose, beat = animal.at(number, view)
            item = self._stamp_animal(animal, pose, beat, x, y)
            if item is not None:
                index = int(index_from_range(animal.range_m))
                # The ground that an animal lies on is as near as the animal, and must not hide it.
                hide_behind(item, obstacles if animal.kind.bottom else ranges, index)
                things.append(_Thing(item, index, animal))
        for kelp in plan.kelp:
            pose, beat = kelp.at(number)
            item = stamp(kelp_of(self.seed, kelp.variant, beat, self.fineness), pose, self.width, self.height, -x, -y)
            if item is not None:
                index = int(index_from_range(kelp.range_m))
                hide_behind(item, obstacles, index)
                things.append(_Thing(item, index, None))
        return sorted(things, key=lambda thing: -thing.range_index)

    def _stamp_animal(self, animal: Animal, pose: Pose, beat: int, x: int, y: int) -> Stamp | None:
        sprite = sprite_of(self.seed, animal.species, animal.variant, beat, self.fineness)
        return stamp(sprite, pose, self.width, self.height, -x, -y)

    def _motion(self, number: int) -> tuple[float, float]:
        """Camera movement during the exposure, in pixels: the pan and the hand's shake."""
        pan = self.plan.pan_speed(number)
        x, y = pan[0] * EXPOSURE_TIME, pan[1] * EXPOSURE_TIME
        if self.plan.optics.shake:
            shake = stream(self.seed, "shake", self.plan.clip, number).standard_normal(2)
            x, y = x + shake[0] * self.plan.optics.shake, y + 0.5 * shake[1] * self.plan.optics.shake
        return x, y


def _drop_hidden(things: list[_Thing], width: int, height: int) -> tuple[list[_Thing], np.ndarray]:
    """Leave out animals that would hardly be seen, so that no unlabelled remnant of one is in the picture.

    Leaving one out can only uncover others, so one pass decides and a second paints the final instances.
    """
    instances = np.zeros((height, width), np.uint16)
    for number, thing in enumerate(things):
        instances[thing.item.window][visible_mask(thing.item)] = number + 1
    kept = []
    for number, thing in enumerate(things):
        if thing.animal is not None:
            box, count = _extent(instances[thing.item.window] == number + 1)
            side = min(box[2] - box[0], box[3] - box[1])
            if count < LEAST_VISIBLE * thing.item.whole or side < max(3.0, LEAST_SIDE * width):
                continue
        kept.append(thing)
    instances[:] = 0
    next_number = 1
    for thing in kept:
        mask = visible_mask(thing.item)
        if thing.animal is None:
            instances[thing.item.window][mask] = 0
        else:
            instances[thing.item.window][mask] = next_number
            next_number += 1
    return kept, instances


def _extent(mask: np.ndarray) -> tuple[tuple[int, int, int, int], int]:
    """x0 y0 x1 y1 of the true pixels of ``mask`` (zeros if none), and how many there are."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return (0, 0, 0, 0), 0
    rows = np.flatnonzero(mask.any(axis=1))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return box, int(np.count_nonzero(mask))


def _lighting(generator: np.random.Generator, plan: ClipPlan, width: int, height: int) -> np.ndarray:
    """Uneven light: from above, less in the corners, shafts of sun, the lamp's cone: factor, float32 (H, W, 3)."""
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None] * (height / width)
    radius = (x - generator.uniform(-0.5, 0.5)) ** 2 + (y - generator.uniform(-0.3, 0.3)) ** 2
    light = (1.0 + generator.uniform(-0.30, -0.08) * y) / (1.0 + generator.uniform(0.05, 0.35) * radius) ** 2
    sun_x, sun_y = generator.uniform(-1.3, 1.3), generator.uniform(-1.2, -0.4)
    glow = np.exp(-((x - sun_x) ** 2 + (y - sun_y) ** 2) / generator.uniform(0.3, 1.2))
    light = light * (1.0 + generator.uniform(0.1, 0.7) * math.exp(-plan.water.depth_m / 15.0) * glow)
    clouds = smooth_noise(generator, (height // 8 + 1, width // 8 + 1), generator.uniform(4, 8))
    light = light * (1.0 + generator.uniform(0.2, 0.5) * (cv2.resize(clouds, (width, height)) - 0.5))
    if plan.water.lamp:
        beam = (x - generator.uniform(-0.7, 0.7)) ** 2 + (y - generator.uniform(-0.4, 0.5)) ** 2
        light = light * (0.45 + 0.75 * np.exp(-beam / generator.uniform(0.35, 0.8)))
    if plan.optics.shafts:
        beams = smooth_noise(generator, (2, 3 * width), 24, octaves=2)[0]
        slant = generator.uniform(-0.5, 0.5)
        place = np.clip((x + 1.0) * width / 2 + width + slant * (y + 1.0) * width / 2, 0, 3 * width - 1)
        shafts = beams[place.astype(np.int64)] - 0.5
        light = light * (1.0 + plan.optics.shafts * 2.0 * shafts * np.clip(0.6 - y, 0, 1))
    return np.asarray(cv2.merge([light.astype(np.float32)] * 3))


def _add_snow(generator: np.random.Generator, radiance: cv2.typing.MatLike, count: int, veil: np.ndarray) -> None:
    """Particles in front of the lens: many small ones, a few large and out of focus; ``radiance`` changes in place."""
    height, width = radiance.shape[:2]
    unit = width / 640
    layer = np.zeros((height, width), np.uint8)
    places = generator.random((count, 2)) * (width, height) * 16
    sizes = np.exp(generator.normal(0.0, 0.55, count)) * 1.1 * unit
    brightness = generator.uniform(40, 200, count) / np.maximum(sizes / unit, 1.0) ** 1.3
    # In sixteenths of a pixel, as the last argument of circle says.
    for (x, y), size, value in zip(places, sizes, brightness, strict=True):
        cv2.circle(layer, (int(x), int(y)), int(16 * size), float(value), -1, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(layer, (0, 0), max(0.6, 0.9 * unit))
    colour = (0.5 * veil + 0.5 * float(veil.max()) + 0.06) / 255.0
    table = np.arange(256, dtype=np.float32)[:, None] * colour.astype(np.float32)
    cv2.add(radiance, cv2.LUT(cv2.merge([soft, soft, soft]), table[None]), dst=radiance)


@lru_cache(maxsize=2)
def _noise_tile(seed: int, width: int, height: int) -> np.ndarray:
    generator = stream(seed, "noise", width, height)
    size = (height + _NOISE_TILE // 4, width + _NOISE_TILE // 4, 3)
    tile = generator.standard_normal(size, np.float32)
    shared = generator.standard_normal(size[:2], np.float32)[..., None]
    # Partly common to the channels; 0.8² + 0.6² = 1 keeps the variance at one.
    return (0.8 * tile + 0.6 * shared).astype(np.float32)


def _noise(seed: int, generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Sensor noise of unit level, cut at a random place from one large field: float32 (H, W, 3)."""
    tile = _noise_tile(seed, width, height)
    row, column = (int(value) for value in generator.integers(0, _NOISE_TILE // 4, 2))
    return tile[row : row + height, column : column + width]
