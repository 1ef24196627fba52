"""The species of the generated reef: name, size, where it lives, how often it occurs, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from marauder.core.randomness import stream
from marauder.scenes import animals, fishes
from marauder.scenes.canvas import Sprite

Drawing = Callable[[np.random.Generator, int, float, float], Sprite]

VARIANTS = 4
POSES = 3


@dataclass(frozen=True)
class Species:
    """One species.

    ``frequency``: expected animals (schools: groups) in a scene where it can live; the table is long-tailed on purpose.
    ``length_m``: smallest and largest body length. ``range_m``: nearest and farthest distance from the camera.
    ``bottom``: lies on the ground. ``school``: smallest and largest group. ``speed``: body lengths a second.
    ``opacity``: 1 for solid bodies. ``upright``: keeps its drawn orientation; others may lie at any angle.
    ``detail``: pixels a body length of the largest drawing, for pictures 640 pixels across.
    """

    name: str
    draw: Drawing
    frequency: float
    length_m: tuple[float, float]
    range_m: tuple[float, float]
    speed: float
    bottom: bool = False
    school: tuple[int, int] = (1, 1)
    opacity: float = 1.0
    upright: bool = True
    detail: float = 160.0


SPECIES: tuple[Species, ...] = (
    Species("Reef Fish (unidentified)", fishes.reef_fish, 0.80, (0.14, 0.28), (0.8, 2.1), 0.7, school=(2, 7)),
    Species("Sea Urchin (general)", animals.sea_urchin, 1.6, (0.20, 0.36), (1.1, 2.9), 0.0, bottom=True, upright=False),
    Species("Sea Star", animals.sea_star, 1.3, (0.24, 0.44), (1.1, 2.9), 0.0, bottom=True, upright=False),
    Species("Grouper", fishes.grouper, 0.85, (0.45, 0.95), (1.5, 3.5), 0.35),
    Species("Lionfish", fishes.lionfish, 0.70, (0.30, 0.48), (1.0, 2.4), 0.2),
    Species("Jellyfish", animals.jellyfish, 0.50, (0.24, 0.48), (1.0, 2.8), 0.25, opacity=0.82),
    Species("Sea Turtle", animals.sea_turtle, 0.18, (0.75, 1.20), (1.8, 4.0), 0.3, detail=180.0),
    Species("Shark", fishes.shark, 0.13, (1.4, 2.4), (2.6, 5.5), 0.3, detail=220.0),
)
"""Most frequent first, in expected boxes; names are those of the default species table."""

NAMES = tuple(species.name for species in SPECIES)


def fineness_for(width: int) -> float:
    """How finely sprites are drawn for pictures ``width`` pixels across, 1 for the usual 640."""
    return next((fineness for limit, fineness in ((240, 0.35), (480, 0.6), (960, 1.0)) if width <= limit), 1.6)


@lru_cache(maxsize=512)
def sprite_of(seed: int, index: int, variant: int, pose: int, fineness: float) -> Sprite:
    """The drawing of species ``index``: a function of the arguments. Poses of one variant share their pattern."""
    generator = stream(seed, "sprite", SPECIES[index].name, variant)
    return SPECIES[index].draw(generator, variant, pose / POSES, SPECIES[index].detail * fineness)
