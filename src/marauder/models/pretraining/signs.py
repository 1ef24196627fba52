"""Signs that self-supervised features collapse: all pictures alike (complete), or few directions used (dimensional).

Effective rank: Garrido et al., "RankMe", ICML 2023: exp of the entropy of the singular values' shares, here of centred
features. Dimensional collapse: Jing et al., "Understanding Dimensional Collapse", ICLR 2022. Standard deviation of
normalised features: Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from marauder.core.settings import Settings

FEWEST = 16
"""Pictures below which rank and spread say nothing."""


class CollapseSettings(Settings):
    """Bounds below which features count as collapsed.

    Untrained backbones have spreads from 0.008 (before running statistics have settled) to 0.16 and effective ranks
    from 3 to 10 on underwater pictures; pretrained ones spread 0.2 to 0.6 and have ranks of 7 and more.
    """

    smallest_deviation: float = Field(0.002, ge=0, le=1)
    """Complete collapse: the deviation of ``Signs``, which is 1 for directions spread evenly and 0 for one point."""
    smallest_rank: float = Field(1.5, ge=1)
    """Dimensional collapse: effective rank; 1 is a line."""
    smallest_share_of_start: float = Field(0.4, ge=0, le=1)
    """Dimensional collapse: effective rank divided by that of the weights the training started from, where known."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What the features of N pictures look like.

    ``deviation``: mean over dimensions of the standard deviation of features of unit length, times the root of the
    number of dimensions: 0 (all the same) to 1 (spread evenly over the sphere). ``effective_rank``: 1 to
    min(N - 1, D); 0 where all features are the same. ``rank_share``: that divided by min(N - 1, D). ``similarity``:
    mean cosine between pictures, -1 to 1. ``pictures``: N.
    """

    deviation: float
    effective_rank: float
    rank_share: float
    similarity: float
    pictures: int


def measure_signs(features: np.ndarray) -> Signs:
    """The signs of ``features`` (N, D), N >= 2, one row a picture. Raises ``ValueError`` for numbers not finite."""
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"features of shape {rows.shape}; expected (N, D) with at least two rows")
    if not np.isfinite(rows).all():
        raise ValueError("features hold numbers that are not finite")
    count, dimension = rows.shape
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    deviation = float(unit.std(axis=0).mean() * np.sqrt(dimension))
    # The square of the sum holds the cosine of each ordered pair, and of each row with itself, which is taken off.
    similarity = float((np.square(unit.sum(axis=0)).sum() - np.square(unit).sum()) / (count * (count - 1)))
    rank = effective_rank(rows)
    return Signs(deviation, rank, rank / min(count - 1, dimension), similarity, count)


def effective_rank(features: np.ndarray) -> float:
    """RankMe of centred ``features`` (N, D): exp of the entropy of the shares of their singular values; 0 for none."""
    rows = np.asarray(features, np.float64)
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    # What is left of equal rows after rounding is no direction.
    if not len(values) or values.max() <= 1e-9 * max(float(np.abs(rows).max()), 1e-300) * np.sqrt(rows.size):
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def judge(signs: Signs, settings: CollapseSettings | None = None, start: Signs | None = None) -> str | None:
    """Why these features count as collapsed, in words, or ``None``; of fewer than 16 pictures nothing is said.

    ``start``: the signs of the same pictures before the training, where they are known.
    """
    settings = settings or CollapseSettings()
    if signs.pictures < FEWEST:
        return None
    if signs.deviation < settings.smallest_deviation:
        return (
            f"features collapsed: every picture looks the same to the backbone (spread {signs.deviation:.2g}, at least "
            f"{settings.smallest_deviation:g} is healthy; mean cosine {signs.similarity:.3f}). Lower the learning "
            "rate, raise the teacher's momentum, or take the method moco"
        )
    least = settings.smallest_rank
    if start is not None and start.pictures >= FEWEST:
        least = max(least, settings.smallest_share_of_start * start.effective_rank)
    if signs.effective_rank < least:
        return (
            f"features collapsed to few directions: effective rank {signs.effective_rank:.1f}, at least {least:.1f} is "
            "healthy here. Lower the learning rate or the weight decay, raise the temperature, or take the method moco"
        )
    return None
