"""Small pools of pictures, as figures, for the tests of choosing."""

from __future__ import annotations

from typing import Any

import numpy as np

from marauder.selection.basket import Pool
from marauder.selection.settings import SelectionSettings


def unit(points: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32."""
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def make_pool(count: int = 200, labelled: int = 20, seed: int = 0, classes: int = 3, **changes: Any) -> Pool:
    """Pictures around twelve scenes, in clips of about ten frames."""
    generator = np.random.default_rng(seed)
    scenes = generator.standard_normal((12, 16))

    def draw(number: int) -> np.ndarray:
        return unit(scenes[generator.integers(0, 12, number)] + 0.3 * generator.standard_normal((number, 16)))

    counts = generator.poisson(0.6, (count, classes)).astype(np.float64)
    fields: dict[str, Any] = {
        "features": draw(count),
        "scores": generator.random(count),
        "class_counts": counts,
        "boxes": counts.sum(axis=1),
        "groups": np.sort(generator.integers(0, max(1, count // 10), count)),
        "centres": draw(labelled) if labelled else np.zeros((0, 16), np.float32),
        "centre_counts": generator.poisson(0.6, (labelled, classes)).astype(np.float64),
        "names": tuple(f"class {index}" for index in range(classes)),
        "slices": {"site=reef": generator.random(count) < 0.3},
        "labelled_share": labelled / (labelled + count),
    }
    return Pool(**{**fields, **changes})


def scores_of(pool: Pool) -> np.ndarray:
    """The scores of a pool that has some."""
    assert pool.scores is not None
    return pool.scores


def make_settings(**changes: Any) -> SelectionSettings:
    """Settings of a choice of 30 pictures."""
    return SelectionSettings(**{"pool": "pool", "count": 30, "most_per_group": 5, **changes})
