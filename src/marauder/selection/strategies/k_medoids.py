"""Pictures that each stand for a group of similar ones of which nothing is labelled yet: medoids of clusters."""

from __future__ import annotations

import numpy as np

from marauder.selection.basket import Basket
from marauder.selection.clustering import members_by_cluster, weighted_means
from marauder.selection.strategies.base import Space, Strategy
from marauder.selection.strategies.k_center import KCenter

KIND = "medoid"


class KMedoids(Strategy):
    """The picture nearest to the mean of each cluster; what is like labelled pictures belongs to these."""

    name = "k_medoids"
    title = "Centres of clusters"

    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        end = len(basket.picks) + count
        places = self.choosable(basket, among)
        if len(places) and count > 0:
            take_medoids(space, basket, places, np.ones(len(places)), count, KIND, "")
        # Clips that are full and boxes that run short leave gaps; what is farthest from all picks fills them.
        if len(basket.picks) < end:
            KCenter().fill(space, basket, among, end - len(basket.picks))


def take_medoids(
    space: Space,
    basket: Basket,
    places: np.ndarray,
    weights: np.ndarray,
    count: int,
    kind: str,
    words: str | np.ndarray,
) -> None:
    """Cluster the pictures ``places`` by ``weights`` and put the medoid of each cluster into the basket, heaviest
    clusters first; where a medoid is refused, the next nearest. ``words``: why, before the cluster's size; one for all
    or one for each place."""
    end = len(basket.picks) + count
    points, fixed = space.points[places], space.fixed_distances(basket, places)
    number = Strategy.expected_number(basket, places, count)
    centres = weighted_means(points, weights, number, fixed, space.generator("clusters", kind))
    for cluster, members in enumerate(members_by_cluster(points, centres, fixed, weights), 1):
        if len(basket.picks) >= end or basket.left <= 0:
            return
        for place in members:
            own = words if isinstance(words, str) else str(words[place])
            if basket.offer(int(places[place]), kind, own + cluster_words(cluster, len(members)), cluster):
                break


def cluster_words(cluster: int, size: int) -> str:
    """``represents 14 similar pictures (cluster 3)``."""
    if size == 1:
        return f"is like no other candidate (cluster {cluster})"
    return f"represents {size:,} similar pictures (cluster {cluster})"
