"""The most uncertain pictures, and nothing else: simple, and prone to choose the same doubt many times."""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket, Pool
from marauder.selection.settings import SelectionSettings
from marauder.selection.strategies.base import Space, Strategy, rank_words

KIND = "uncertain"


class MostUncertain(Strategy):
    """Highest score first, equal ones in the pool's order."""

    name = "uncertainty"
    needs_scores = True

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        end = len(basket.picks) + count
        worth, ranks = worths(space.pool, space.settings), uncertainty_ranks(space.pool)
        places = self.choosable(basket, among)
        for index in places[np.argsort(-worth[places], kind="stable")]:
            if len(basket.picks) >= end or basket.left <= 0:
                return
            basket.offer(int(index), KIND, rank_words(ranks[index]))


def worths(pool: Pool, settings: SelectionSettings) -> np.ndarray:
    """What a picture is worth: its score over its relative price to the power ``price_weight``, float64 (N,)."""
    scores = _scores(pool)
    if settings.price_weight <= 0:
        return scores
    prices = settings.price.per_picture + settings.price.per_box * pool.boxes
    mean = float(prices.mean()) if len(prices) else 0.0
    return scores if mean <= 0 else scores / np.maximum(prices / mean, 1e-3) ** settings.price_weight


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
