"""Random pictures: the arm that every other strategy must beat, and the part of each choice that keeps it honest."""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket
from marauder.selection.strategies.base import Space, Strategy

KIND = "random"
REASON = (
    "drawn at random from the whole pool, so that the labels also show what the detector is confidently wrong about"
)


class Random(Strategy):
    """Every picture has the same chance."""

    name = "random"
    title = "Random pictures"

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        end = len(basket.picks) + count
        # An order of the whole pool, not of those asked for: the same pictures come first whatever else is chosen.
        for index in space.generator("random").permutation(len(among)):
            if len(basket.picks) >= end or basket.left <= 0:
                return
            if among[index]:
                basket.offer(int(index), KIND, REASON)
