"""The default: of the pictures that the detector is least sure of, those that together cover the most.

An uncertain pool of several budgets is clustered, with weights of uncertainty and beside the labelled pictures as fixed
centres; each cluster gives its medoid. Sources: Zhdanov, arXiv:1901.05954, 2019 (an informative pool of several
budgets, weighted k-means, the nearest pictures); Yang et al., CVPR 2024 (the same two stages for detection, likeness
conditioned on categories); Sener and Savarese, ICLR 2018 (``cover: k_center``).
"""

from __future__ import annotations

import math

import numpy as np

from marauder.selection.basket import Basket
from marauder.selection.strategies.base import Space, Strategy, rank_words
from marauder.selection.strategies.class_balance import ClassBalance
from marauder.selection.strategies.k_center import KCenter
from marauder.selection.strategies.k_medoids import take_medoids
from marauder.selection.strategies.uncertainty import MostUncertain, by_worth, doubtful, uncertainty_ranks, worths

KIND = "uncertain"
MOST_SHARE = 0.5
"""Part of the pool that may become candidates where the budget is a large part of it."""


class Hybrid(Strategy):
    """Uncertain first, then different from one another and from what is labelled."""

    name = "hybrid"
    title = "Uncertain and diverse pictures"
    needs_scores = True

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        end = len(basket.picks) + count
        candidates = uncertain_pool(space, basket, self.choosable(basket, among & doubtful(space.pool)), count)
        if len(candidates) and count > 0:
            if space.settings.cover != "k_medoids":
                mask = np.zeros(len(among), bool)
                mask[candidates] = True
                cover = KCenter() if space.settings.cover == "k_center" else ClassBalance()
                cover.fill(space, basket, mask, count)
            else:
                ranks, worth = uncertainty_ranks(space.pool), worths(space.pool, space.settings)
                words = np.array([f"{rank_words(rank)}, and " for rank in ranks[candidates]], object)
                # k-means wants weights above 0, and the least uncertain picture has a score of 0.
                weights = np.maximum(worth[candidates], 1e-3)
                take_medoids(space, basket, candidates, weights, count, KIND, words)
        # Clips that are full and boxes that run short leave gaps; the most uncertain that still fit fill them.
        if len(basket.picks) < end:
            MostUncertain().fill(space, basket, among, end - len(basket.picks))


def uncertain_pool(space: Space, basket: Basket, places: np.ndarray, count: int) -> np.ndarray:
    """The most uncertain of ``places``: ``candidate_factor`` times as many as are wanted, in the pool's order.

    Of a small pool no more than half, or as many as are wanted: what the detector is sure of is no candidate.
    A clip gives at most that factor times the picks it could still give, or one long clip would fill the list.
    """
    factor = space.settings.candidate_factor
    order = by_worth(space, worths(space.pool, space.settings), places)
    if basket.most_per_group is not None:
        order = basket.allowance(order, factor)
    wanted = Strategy.expected_number(basket, places, count)
    most = max(wanted, math.ceil(MOST_SHARE * len(places)))
    return np.sort(order[: min(most, math.ceil(factor * wanted))])
