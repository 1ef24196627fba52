"""Typical pictures of clusters of which nothing is labelled: what to begin with, while a detector's doubts mean little.

Source: Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets", ICML
2022 (TypiClust): typicality is the inverse of the mean distance to the nearest neighbours (20 at most, of the cluster).
"""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket
from marauder.selection.clustering import members_by_cluster, weighted_means
from marauder.selection.strategies.base import Space, Strategy
from marauder.selection.strategies.k_center import KCenter

KIND = "typical"
NEIGHBOURS = 20
MOST_MEMBERS = 2000
"""Members of a cluster, the nearest to its mean, whose neighbourhoods are looked at."""


class Typical(Strategy):
    """The most typical picture of each cluster without a labelled one, largest clusters first."""

    name = "typical"
    title = "Typical pictures"

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        end = len(basket.picks) + count
        places = self.choosable(basket, among)
        if len(places) and count > 0:
            points, fixed = space.points[places], space.fixed_distances(basket, places)
            weights = np.ones(len(places))
            number = self.expected_number(basket, places, count)
            centres = weighted_means(points, weights, number, fixed, space.generator("clusters", KIND))
            for cluster, members in enumerate(members_by_cluster(points, centres, fixed, weights), 1):
                if len(basket.picks) >= end or basket.left <= 0:
                    return
                reason = f"typical of {len(members):,} similar pictures, none of them labelled (cluster {cluster})"
                # The neighbourhoods take a square matrix; what lies farther from the mean is hardly the most typical.
                for place in members[np.argsort(-typicality(points[members[:MOST_MEMBERS]]), kind="stable")]:
                    if basket.offer(int(places[place]), KIND, reason, cluster):
                        break
        if len(basket.picks) < end:
            # As in k_medoids: what is farthest fills the gaps of full clips and short boxes.
            KCenter().fill(space, basket, among, end - len(basket.picks))


def typicality(points: np.ndarray) -> np.ndarray:
    """Inverse mean distance of each of ``points`` (N, D) to its nearest neighbours: float64 (N,)."""
    if len(points) < 2:
        return np.ones(len(points))
    lengths = np.einsum("ij,ij->i", points, points)
    squared = np.maximum(lengths[:, None] + lengths - 2 * (points @ points.T), 0)
    # A picture is not its own neighbour.
    np.fill_diagonal(squared, np.inf)
    number = min(NEIGHBOURS, len(points) - 1)
    near = np.sqrt(np.partition(squared, number - 1, axis=1)[:, :number].astype(np.float64))
    inverse: np.ndarray = 1 / np.maximum(near.mean(axis=1), 1e-9)
    return inverse
