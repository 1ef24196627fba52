"""Core-set selection: each next picture is the one farthest from all that is labelled or chosen.

Source: Sener and Savarese, ICLR 2018 (greedy k-center). It covers the pool's edges, so that it also finds what is odd:
test charts, divers, broken frames.
"""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket
from marauder.selection.diversity import GreedyCover
from marauder.selection.strategies.base import Space, Strategy

KIND = "far"


class KCenter(Strategy):
    """Farthest first, from the labelled pictures as fixed centres."""

    name = "k_center"
    title = "Pictures unlike the labelled ones"

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        places = self.choosable(basket, among)
        points = space.points[places]
        # What is in the basket already counts as a centre, whoever put it there.
        fixed = np.concatenate([space.centres, space.points[basket.taken()]])
        cover, end = GreedyCover(points, fixed), len(basket.picks) + count
        if not len(fixed) and len(places):
            # Nothing to be far from yet: begin in the middle.
            middle = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin())
            if basket.offer(int(places[middle]), KIND, "the middle of the pool, where covering it begins"):
                cover.add(middle)
        while len(basket.picks) < end and basket.left > 0:
            found = cover.farthest(basket.open[places])
            if found is None:
                return
            place, squared = found
            words = f"unlike everything labelled or chosen so far (distance {np.sqrt(squared):.2f})"
            basket.offer(int(places[place]), KIND, words)
            cover.add(place)
