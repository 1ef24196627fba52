"""Clusters in large sets of features: weighted k-means beside fixed centres, and the pictures nearest to the means.

Distances are squared Euclidean ones in float32, block by block through matrix products, so that memory stays small.

Sources: Sculley, "Web-scale k-means clustering", WWW 2010 (mini-batches); Zhdanov, "Diverse mini-batch active
learning", arXiv:1901.05954, 2019 (weights of uncertainty). The picture nearest to a cluster's mean is its medoid under
squared Euclidean distance: the sum over the members differs from it by a constant.
"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 64 * 2**20
"""Size of one block of distances."""
ROUNDS = 12
LEAST_SAMPLE, SAMPLE_PER_CLUSTER = 16_384, 12
"""Points that one round of k-means looks at."""


def nearest(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of K ``centres`` (K, D) to each of N ``points`` (N, D): its number, int64 (N,), and the squared
    distance, float32 (N,), at least 0. Without centres the distance is infinite and the number -1."""
    count = len(points)
    numbers, distances = np.full(count, -1, np.int64), np.full(count, np.inf, np.float32)
    if not len(centres):
        return numbers, distances
    lengths = np.einsum("ij,ij->i", centres, centres)
    block = max(1, BLOCK_BYTES // (4 * len(centres)))
    for start in range(0, count, block):
        part = points[start : start + block]
        # The points' own lengths do not affect which centre is nearest; in place, since a block is large.
        products = part @ centres.T
        products *= -2.0
        products += lengths
        found = products.argmin(axis=1)
        numbers[start : start + block] = found
        distances[start : start + block] = products[np.arange(len(part)), found] + np.einsum("ij,ij->i", part, part)
    # Rounding leaves equal points a little below 0.
    return numbers, np.maximum(distances, 0.0)


def weighted_means(
    points: np.ndarray,
    weights: np.ndarray,
    count: int,
    fixed_distances: np.ndarray,
    generator: np.random.Generator,
    rounds: int = ROUNDS,
) -> np.ndarray:
    """``count`` centres of weighted k-means over ``points`` (N, D), float32 (count, D).

    ``weights``: (N,), above 0. ``fixed_distances``: (N,), squared distance of each point to the nearest centre that
    is there already (infinite: none); points nearer to such a one than to any of ours do not draw ours. Large sets are
    looked at a sample a round. ``count`` at most N.
    """
    total = len(points)
    if not 0 < count <= total:
        raise ValueError(f"{count} centres of {total} points")
    # Without fixed centres every distance is infinite, and the weights alone decide.
    far = np.where(np.isfinite(fixed_distances), fixed_distances, 1.0)
    # All are drawn at once: k-means++ needs a pass over all points for every centre, of which there may be thousands.
    chances = weights * np.maximum(far, 1e-6)
    centres = points[generator.choice(total, count, replace=False, p=chances / chances.sum())].copy()
    size = min(total, max(LEAST_SAMPLE, SAMPLE_PER_CLUSTER * count))
    seen = np.zeros(count)
    for _ in range(rounds):
        sample = np.arange(total) if size == total else np.sort(generator.choice(total, size, replace=False))
        part, own_weights = points[sample], weights[sample]
        numbers, distances = nearest(part, centres)
        own = distances < fixed_distances[sample]
        sums, masses = _sums(part[own], own_weights[own], numbers[own], count)
        if size == total:
            # Every point is looked at in every round: plain k-means, which remembers no earlier round.
            seen[:] = 0
        held = seen + masses > 0
        before = centres.copy()
        # Sculley's running mean: the more points a centre has seen, the less the next ones move it.
        centres[held] = (centres[held] * seen[held, None] + sums[held]) / (seen + masses)[held, None]
        seen += masses
        _place_lost(centres, ~held, part, own_weights * np.minimum(distances, fixed_distances[sample]))
        # From sample to sample the centres never stand still, so that only the whole set can end early.
        if size == total and np.abs(centres - before).max() < 1e-5:
            break
    return centres


def _sums(points: np.ndarray, weights: np.ndarray, numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum (count, D) and weight (count,) of each cluster's points."""
    sums, masses = np.zeros((count, points.shape[1]), np.float32), np.bincount(numbers, weights, count)
    if len(points):
        # reduceat wants the members of a cluster side by side.
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        weighted = points[order]
        weighted *= weights[order, None].astype(np.float32)
        sums[found] = np.add.reduceat(weighted, starts, axis=0)
    return sums, masses


def _place_lost(centres: np.ndarray, lost: np.ndarray, points: np.ndarray, costs: np.ndarray) -> None:
    """Put centres that no point belongs to, in place, on the points that cost most."""
    places = np.flatnonzero(lost)[: len(points)]
    if len(places):
        costly = np.argsort(-costs, kind="stable")[: len(places)]
        centres[places] = points[costly]


def members_by_cluster(
    points: np.ndarray, centres: np.ndarray, fixed_distances: np.ndarray, weights: np.ndarray
) -> list[np.ndarray]:
    """The points of each cluster, the nearest to its mean first; heaviest clusters first, empty ones left out.

    Points nearer to a fixed centre than to ours belong to no cluster. Ties go to the lower index.
    """
    numbers, distances = nearest(points, centres)
    own = np.flatnonzero(distances < fixed_distances)
    order = own[np.lexsort((own, distances[own], numbers[own]))]
    found, starts = np.unique(numbers[order], return_index=True)
    masses = np.bincount(numbers[own], weights[own], len(centres))[found]
    parts = np.split(order, starts[1:]) if len(order) else []
    return [parts[place] for place in np.argsort(-masses, kind="stable")]
