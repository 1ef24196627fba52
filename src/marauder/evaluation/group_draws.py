"""The cluster bootstrap: whole groups of pictures (clips) drawn with replacement, and the bounds that draws give.

Frames of one clip are not independent, so that groups are drawn and not pictures: Cameron, Gelbach and Miller,
"Bootstrap-based improvements for inference with clustered errors" (Review of Economics and Statistics 90, 2008). A draw
is how often each group counts; whatever is measured is weighted by it and not matched again. The bounds are the
percentile bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from marauder.core.randomness import stream
from marauder.data.records import Record


@dataclass(frozen=True, eq=False)
class Draws:
    """``counts``: int32 (G, N), how often each of G groups is in each of N draws. ``group``: int64 (P,), the group of
    each picture (or row of anything else), -1 for what is in none."""

    group: np.ndarray
    counts: np.ndarray

    @property
    def number(self) -> int:
        """How many draws."""
        return self.counts.shape[1]

    def weights(self, draw: int) -> np.ndarray:
        """How often each picture counts in one draw: int64 (P,), as ``aggregate`` takes it."""
        result = np.zeros(len(self.group), np.int64)
        known = self.group >= 0
        result[known] = self.counts[self.group[known], draw]
        return result

    def weights_from_original(self) -> np.ndarray:
        """How often each picture counts in the data as they are, first, and then in every draw: int64 (P, 1 + N)."""
        known = self.group >= 0
        weights = np.zeros((len(self.group), 1 + self.number), np.int64)
        weights[known, 0] = 1
        weights[known, 1:] = self.counts[self.group[known]]
        return weights


def draw_groups(records: Sequence[Record], draws: int, seed: int) -> Draws:
    """Draws of the groups of labelled ``records``, the others being in none; a function of the seed and the groups."""
    labelled = np.array([record.labelled for record in records], bool)
    # A stream for each draw: the first ones stay what they are when more are asked for.
    known = draw_names(
        [record.group for record in records if record.labelled], draws, lambda draw: stream(seed, "bootstrap", draw)
    )
    group = np.full(len(records), -1, np.int64)
    group[labelled] = known.group
    return Draws(group, known.counts)


def draw_names(names: Sequence[str] | np.ndarray, draws: int, source: Callable[[int], np.random.Generator]) -> Draws:
    """Draw as many groups as there are, with replacement, ``draws`` times.

    ``names``: (P,), the group of each row. ``source``: the random numbers of each draw; the same generator for all of
    them is used one draw after the other.
    """
    # Sorted by name, so that a draw does not depend on the order of the rows.
    known, group = np.unique(np.asarray(names), return_inverse=True)
    count = len(known)
    counts = np.zeros((count, draws), np.int32)
    for draw in range(draws if count else 0):
        counts[:, draw] = np.bincount(source(draw).integers(0, count, count), minlength=count)
    return Draws(group.astype(np.int64), counts)


def percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    """The bounds that hold ``level`` of the defined values; NaN twice if there are none."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
