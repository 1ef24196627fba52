"""The most uncertain pictures, and nothing else: simple, and prone to choose the same doubt many times."""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket, Pool
from marauder.selection.settings import SelectionSettings
from marauder.selection.strategies.base import Space, Strategy, rank_words
from marauder.selection.strategies.typical import Typical

KIND = "uncertain"


class MostUncertain(Strategy):
    """Highest score first, ties in a random order fixed by the seed; typical ones where no doubts are left."""

    name = "uncertainty"
    title = "The least certain pictures"
    needs_scores = True

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        end = len(basket.picks) + count
        worth, ranks = worths(space.pool, space.settings), uncertainty_ranks(space.pool)
        places = self.choosable(basket, among & doubtful(space.pool))
        for index in by_worth(space, worth, places):
            if len(basket.picks) >= end or basket.left <= 0:
                return
            basket.offer(int(index), KIND, rank_words(ranks[index]))
        if len(basket.picks) < end and len(self.choosable(basket, among)):
            note = "the detector is uncertain about too few pictures, so typical ones were chosen as well"
            # Every quota calls this, and one note is enough.
            if note not in space.notes:
                space.notes.append(note)
            Typical().fill(space, basket, among, end - len(basket.picks))


def by_worth(space: Space, worth: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``places``, the most valuable first; ties in a random order fixed by the seed, not in that of their names."""
    # Names often say when a picture was taken: ties settled by them would favour the beginning of a dive.
    ties = space.generator("ties").permutation(len(worth))
    ordered: np.ndarray = places[np.lexsort((ties[places], -worth[places]))]
    return ordered


def doubtful(pool: Pool) -> np.ndarray:
    """Pictures of which the detector has any doubt: bool (N,)."""
    return _scores(pool) > 0 if pool.doubtful is None else pool.doubtful


def worths(pool: Pool, settings: SelectionSettings) -> np.ndarray:
    """What a picture is worth: its score over its relative price to the power ``price_weight``, float64 (N,)."""
    scores = _scores(pool)
    return scores if settings.price_weight <= 0 else scores / relative_prices(pool, settings) ** settings.price_weight


def relative_prices(pool: Pool, settings: SelectionSettings) -> np.ndarray:
    """What labelling each picture costs, over the mean: float64 (N,), above 0; 1 where nothing costs anything."""
    # Relative to the mean, so that neither currency nor units change anything.
    prices = settings.price.per_picture + settings.price.per_box * pool.boxes
    mean = float(prices.mean()) if len(prices) else 0.0
    return np.ones(len(pool)) if mean <= 0 else np.maximum(prices / mean, 1e-3)


def uncertainty_ranks(pool: Pool) -> np.ndarray:
    """Share of the pool that is at least as uncertain as each picture: float64 (N,) in (0, 1]."""
    scores = _scores(pool)
    ordered = np.sort(scores)
    found: np.ndarray = (len(scores) - np.searchsorted(ordered, scores, side="left")) / max(1, len(scores))
    return found


def _scores(pool: Pool) -> np.ndarray:
    if pool.scores is None:
        raise ValueError("this strategy needs scores of uncertainty")
    return pool.scores
