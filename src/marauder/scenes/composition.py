"""What happens in a clip, decided before anything is drawn: water, camera, animals and plants, and where they are when.

Everything here is a function of (seed, clip, picture size); a frame's positions are a function of that and the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from marauder.core.randomness import stream
from marauder.imaging.formation import Water, backscatter, direct_signal
from marauder.scenes.backdrop import KINDS, View
from marauder.scenes.scenery import KELP_POSES, KELP_VARIANTS
from marauder.scenes.species import POSES, SPECIES, VARIANTS, Species
from marauder.scenes.stamping import Pose

FRAME_SECONDS = 0.5
EMPTY_CLIPS = 0.08
"""Share of clips without a single animal."""

_KIND_SHARES = (0.46, 0.24, 0.15, 0.15)
_WATER_SHARES = {"I": 0.04, "IA": 0.06, "IB": 0.20, "II": 0.26, "III": 0.16, "1C": 0.18, "3C": 0.07, "5C": 0.03}
_DEPTH_LIMITS = {"1C": 14.0, "3C": 9.0, "5C": 5.0}
LEAST_CONTRAST = 0.4
"""Animals stand no farther than where this share of the light that arrives from them is their own."""


@dataclass(frozen=True)
class Animal:
    """One animal of a clip. ``x``, ``y``: centre on the backdrop at frame 0; ``velocity``: pixels a second."""

    species: int
    variant: int
    range_m: float
    length: float
    x: float
    y: float
    velocity: tuple[float, float]
    angle: float
    mirrored: bool
    squash: tuple[float, float]
    gain: tuple[float, float, float]
    phase: float

    @property
    def kind(self) -> Species:
        """The animal's species."""
        return SPECIES[self.species]

    def at(self, frame: int, view: View) -> tuple[Pose, int]:
        """Pose on the backdrop and number of the drawing's pose in ``frame``."""
        seconds = frame * FRAME_SECONDS
        span = view.full_width + 2.0 * self.length
        # Who leaves on one side comes back on the other.
        x = (self.x + self.velocity[0] * seconds + self.length) % span - self.length
        # The second term makes it 0 in frame 0, where x and y were chosen.
        swing = math.sin(2 * math.pi * (0.23 * seconds + self.phase)) - math.sin(2 * math.pi * self.phase)
        y = self.y + self.velocity[1] * swing
        moving = not self.kind.bottom
        beat = int((self.phase + 0.37 * frame) * POSES) % POSES if moving else 0
        angle = self.angle + (0.05 * swing if moving else 0.0)
        return Pose(x, y, self.length, angle, self.mirrored, self.squash, self.gain), beat


@dataclass(frozen=True)
class Kelp:
    """A frond of kelp: base on the backdrop at (``x``, ``y``), ``length`` pixels high."""

    variant: int
    range_m: float
    length: float
    x: float
    y: float
    phase: float

    def at(self, frame: int) -> tuple[Pose, int]:
        """Pose on the backdrop and number of the drawing's pose in ``frame``."""
        number = int((self.phase + 0.31 * frame) * KELP_POSES) % KELP_POSES
        lean = 0.06 * math.sin(2 * math.pi * (0.13 * frame * FRAME_SECONDS + self.phase))
        return Pose(self.x + 0.5 * lean * self.length, self.y - 0.5 * self.length, self.length, lean), number


@dataclass(frozen=True)
class Optics:
    """How the camera sees: white balance, exposure target, noise in grey levels, lens blur and hand shake in pixels."""

    white_balance: float
    exposure: float
    noise: float
    blur: float
    shake: float
    snow: int
    shafts: float


@dataclass(frozen=True)
class ClipPlan:
    """All that is decided about a clip."""

    clip: int
    kind: str
    water: Water
    view: View
    optics: Optics
    animals: tuple[Animal, ...]
    kelp: tuple[Kelp, ...]
    pan: tuple[float, float, float, float]

    def offset(self, frame: int) -> tuple[int, int]:
        """Column and row of the backdrop at the picture's top left corner in ``frame``."""
        across, down, phase_x, phase_y = self.pan
        turn = 2 * math.pi * FRAME_SECONDS * frame
        x = self.view.margin_x * (1.0 + 0.95 * math.sin(across * turn + phase_x))
        y = self.view.margin_y * (1.0 + 0.95 * math.sin(down * turn + phase_y))
        return round(x), round(y)

    def pan_speed(self, frame: int) -> tuple[float, float]:
        """How fast the picture moves in ``frame``: pixels a second, across and down."""
        (x0, y0), (x1, y1) = self.offset(frame), self.offset(frame + 1)
        return (x1 - x0) / FRAME_SECONDS, (y1 - y0) / FRAME_SECONDS


def plan_clip(seed: int, clip: int, width: int, height: int) -> ClipPlan:
    """Decide what clip number ``clip`` of the data set ``seed`` shows, for pictures of ``width`` x ``height``."""
    generator = stream(seed, "clip", clip)
    kind = KINDS[int(generator.choice(len(KINDS), p=_KIND_SHARES))]
    water = _choose_water(generator)
    margin_x, margin_y = round(0.14 * width), round(0.06 * height)
    horizon = margin_y + height * generator.uniform(0.18, 0.5)
    view = View(width, height, margin_x, margin_y, horizon, generator.uniform(0.55, 1.1))
    # Blur and shake are stated for pictures 640 pixels across.
    optics = Optics(
        white_balance=generator.uniform(0.15, 0.75),
        exposure=generator.uniform(0.15, 0.30),
        noise=generator.uniform(0.8, 3.6),
        blur=generator.uniform(0.25, 0.7) * width / 640,
        shake=generator.uniform(1.0, 5.5) * width / 640 if generator.random() < 0.35 else 0.0,
        snow=int(generator.integers(10, 70) * min(water.turbidity, 2.0)),
        shafts=generator.uniform(0.0, 0.22) if water.depth_m < 14 else 0.0,
    )
    pan = (*generator.uniform(0.02, 0.07, 2), *generator.uniform(0, 2 * math.pi, 2))
    crowd = 0.0 if generator.random() < EMPTY_CLIPS else generator.uniform(0.6, 1.4)
    animals = [
        animal for index in range(len(SPECIES)) for animal in _populate(generator, index, crowd, kind, water, view)
    ]
    kelp = _plant(generator, kind, view) if kind in ("kelp", "sand") else []
    return ClipPlan(clip, kind, water, view, optics, tuple(animals), tuple(kelp), pan)


def _choose_water(generator: np.random.Generator) -> Water:
    names = tuple(_WATER_SHARES)
    name = names[int(generator.choice(len(names), p=tuple(_WATER_SHARES.values())))]
    depth = generator.uniform(1.5, _DEPTH_LIMITS.get(name, 28.0))
    turbidity = float(np.exp(generator.uniform(math.log(0.6), math.log(1.7))))
    lamp = generator.uniform(0.05, 0.3) if depth > 15 and generator.random() < 0.6 else 0.0
    return Water(name, round(depth, 2), round(turbidity, 3), round(lamp, 3))


def farthest_seen(water: Water) -> float:
    """Range in metres up to which a mid-grey animal still stands out: ``LEAST_CONTRAST`` of the light is its own."""
    ranges = np.geomspace(0.5, 12.0, 60)
    own = 0.4 * direct_signal(water, ranges)
    contrast = (own / (own + backscatter(water, ranges))).max(axis=1)
    clear = ranges[contrast >= LEAST_CONTRAST]
    return float(clear[-1]) if len(clear) else 0.5


def _populate(
    generator: np.random.Generator, index: int, crowd: float, kind: str, water: Water, view: View
) -> list[Animal]:
    """The animals of one species in a clip; draws the same numbers whatever the other species do."""
    species = SPECIES[index]
    habitable = not (species.bottom and kind == "open water")
    groups = int(generator.poisson(species.frequency * crowd)) if crowd and habitable else 0
    found = []
    limit = farthest_seen(water) if groups else 0.0
    for _ in range(groups):
        near = min(species.range_m[0], 0.6 * limit)
        far = max(near * 1.1, min(species.range_m[1], limit))
        range_m = generator.uniform(near, far)
        length_m = generator.uniform(*species.length_m)
        members = int(generator.integers(species.school[0], species.school[1] + 1))
        variant, heading = int(generator.integers(VARIANTS)), generator.random() < 0.5
        centre = generator.random(2)
        for _ in range(members):
            spread = generator.standard_normal(2) * (0.9 if members > 1 else 0.0)
            depth = range_m * (1.0 + (0.12 * generator.standard_normal() if members > 1 else 0.0))
            depth = max(depth, 0.7 * near)
            animal = _animal(generator, index, variant, depth, length_m, heading, centre, spread, kind, view)
            # The ground in view may begin beyond what the water lets through.
            if animal.range_m <= max(1.15 * limit, far):
                found.append(animal)
    return found


def _animal(
    generator: np.random.Generator,
    index: int,
    variant: int,
    range_m: float,
    length_m: float,
    heading: bool,
    centre: np.ndarray,
    spread: np.ndarray,
    kind: str,
    view: View,
) -> Animal:
    species = SPECIES[index]
    length = view.focal * length_m * generator.uniform(0.9, 1.1) / range_m
    length = float(np.clip(length, 0.025 * view.width, 0.72 * view.width))
    if species.bottom:
        nearest = view.focal * view.camera_height / (view.full_height - view.horizon)
        range_m = max(range_m, nearest * 1.03)
        y = view.ground_row(range_m) - 0.2 * length
        squash = (1.0, generator.uniform(0.55, 0.9))
        x = centre[0] * view.full_width
        # It may have moved away, to where the camera sees ground, and looks smaller there.
        length = min(length, view.focal * length_m * 1.1 / range_m)
    else:
        floor = view.full_height if kind == "open water" else min(view.full_height, view.ground_row(range_m))
        top, bottom = 0.3 * length, max(0.35 * length, floor - 0.5 * length)
        y = float(np.clip(top + (bottom - top) * centre[1] + spread[1] * length * 1.1, top, bottom))
        x = centre[0] * view.full_width + spread[0] * length * 2.0
        squash = (generator.uniform(0.62, 1.0), 1.0) if species.upright else (1.0, 1.0)
        if species.opacity < 1.0:
            squash = (generator.uniform(0.85, 1.1), generator.uniform(0.85, 1.1))
    speed = species.speed * length * generator.uniform(0.6, 1.3)
    brightness = generator.uniform(0.8, 1.15)
    gain = tuple(float(brightness * factor) for factor in generator.uniform(0.88, 1.12, 3))
    return Animal(
        species=index,
        variant=variant,
        range_m=float(range_m),
        length=length,
        x=float(x),
        y=float(y),
        velocity=(speed if heading else -speed, 0.25 * speed),
        angle=generator.uniform(-0.25, 0.25) if species.upright else generator.uniform(-math.pi, math.pi),
        mirrored=bool(heading),
        squash=squash,
        gain=(gain[0], gain[1], gain[2]),
        phase=generator.random(),
    )


def _plant(generator: np.random.Generator, kind: str, view: View) -> list[Kelp]:
    count = int(generator.integers(8, 20)) if kind == "kelp" else int(generator.integers(0, 4))
    plants = []
    for _ in range(count):
        range_m = generator.uniform(1.9, 7.0)
        plants.append(
            Kelp(
                variant=int(generator.integers(KELP_VARIANTS)),
                range_m=range_m,
                length=view.focal * generator.uniform(0.8, 2.2) / range_m,
                x=generator.random() * view.full_width,
                y=view.ground_row(range_m),
                phase=generator.random(),
            )
        )
    return plants
