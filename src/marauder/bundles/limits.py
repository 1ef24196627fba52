"""How far an engine may answer otherwise than the detector did at the desk, by precision.

Half precision has ten bits, int8 seven: an engine of either answers a little otherwise everywhere, and is right. What
they may differ by is well above what graphs of ours show (``benchmarks/engines.py`` prints it) and well below what a
wrong engine shows: the tests plant eight faults, each of which must be found at each precision.
"""

from __future__ import annotations

from marauder.core.plain import PlainMapping

PRECISIONS = ("int8", "fp16", "fp32")
"""From the fastest to the most exact, the order in which a board tries them."""

LIMITS: dict[str, PlainMapping] = {
    "fp32": {
        "from_score": 0.1,
        "score": 0.02,
        "score_mean": 0.0005,
        "box": 0.5,
        "shift": 0.2,
        "lost": 0.0,
        "other_class": 0.02,
        "extra": 0.02,
        "animals_off": 0.05,
        "near_threshold": 0.02,
        "picture_score": 0.01,
    },
    "fp16": {
        "from_score": 0.1,
        "score": 0.12,
        "score_mean": 0.001,
        "box": 2.0,
        "shift": 0.6,
        "lost": 0.02,
        "other_class": 0.05,
        "extra": 0.05,
        "animals_off": 0.1,
        "near_threshold": 0.05,
        "picture_score": 0.02,
    },
    "int8": {
        "from_score": 0.1,
        "score": 0.6,
        "score_mean": 0.01,
        "box": 16.0,
        "shift": 1.8,
        "lost": 0.3,
        "other_class": 0.2,
        "extra": 0.3,
        "animals_off": 0.2,
        "near_threshold": 0.1,
        "picture_score": 0.12,
    },
}
"""``from_score``: places of the detector from which on count as seeing an animal. Of the raw answers: ``score`` largest
and ``score_mean`` mean difference of a score; ``box`` pixels of the input, 95 of 100 places; ``shift`` pixels, mean of
all places, signed; ``lost``, ``other_class``, ``extra`` shares of the places. Of whole pictures: ``animals_off`` share
of animals missing or too many, of those farther than ``near_threshold`` above their threshold; ``picture_score`` mean
difference of paired animals' scores."""
