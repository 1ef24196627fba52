"""Pictures of classes of which few boxes are labelled, unlike what is labelled, for little money.

mAP counts every class alike, while boxes come as the sea has them: most are of the commonest class, and crowds of it
use up a budget. The value of boxes of a class falls with those there are (the logarithm of their number rises ever
more slowly), so that the next picture is the one that adds most for its price, as often as it differs from the nearest
one labelled or chosen. Each pick counts at once. Greedy choice by gain over price for coverage with diminishing
returns: Leskovec et al., "Cost-effective outbreak detection in networks", KDD 2007; class-balanced acquisition in
detection: Brust, Käding and Denzler, "Active learning for deep object detection", VISAPP 2019.
"""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket
from marauder.selection.strategies.base import Space, Strategy
from marauder.selection.strategies.typical import Typical
from marauder.selection.strategies.uncertainty import relative_prices

KIND = "balance"


class ClassBalance(Strategy):
    """The most new boxes of scarce classes for the price; typical pictures where none are expected."""

    name = "class_balance"
    title = "Classes with few labelled boxes"
    needs_scores = True

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        pool, end = space.pool, len(basket.picks) + count
        places = self.choosable(basket, among)
        # Boxes that the detector misses are taken to be of the classes that it finds.
        found = float(pool.class_counts.sum())
        expected = pool.class_counts * (float(pool.boxes.sum()) / found if found > 0 else 1.0)
        points, counts = space.points[places], np.asarray(expected[places], np.float64)
        distances = space.fixed_distances(basket, places)
        prices = relative_prices(pool, space.settings)[places]
        held = pool.centre_counts.sum(axis=0) + expected[basket.taken()].sum(axis=0)
        while len(basket.picks) < end and basket.left > 0:
            gains = np.log1p(counts / (1.0 + held))
            # Without any labelled picture all are equally new.
            worth = gains.sum(axis=1) * np.where(np.isfinite(distances), distances, 1.0) / prices
            worth[~basket.open[places]] = 0.0
            best = int(worth.argmax()) if len(worth) else -1
            if best < 0 or worth[best] <= 0:
                break
            scarce = int(gains[best].argmax())
            basket.offer(
                int(places[best]),
                KIND,
                f"may show {pool.names[scarce]}, of which {held[scarce]:.0f} boxes are labelled or chosen",
            )
            held = held + counts[best]
            distances = np.minimum(distances, ((points - points[best]) ** 2).sum(axis=1))
        if len(basket.picks) < end:
            Typical().fill(space, basket, among, end - len(basket.picks))
