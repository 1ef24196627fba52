"""Whether a linear classifier can tell two sets of embeddings apart, on clips that it was not fitted to.

The classifier two-sample test (Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017) with the area
under the ROC curve in place of the accuracy: 0.5 means alike, 1 that every picture shows which set it is from. Folds
and deals keep groups whole, so that frames of one clip neither help nor alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marauder.core.randomness import stream
from marauder.data.profile import Profile
from marauder.gates.drift_noise import deals

FOLDS = 5
RIDGE = 0.01
"""Ridge penalty as a share of the mean variance of the features, times the number of pictures."""
DEALS_AT_ONCE = 100


@dataclass(frozen=True)
class EmbeddingDrift:
    """``auc``: area under the ROC curve on clips left out of the fit. ``chance``: what 95 in 100 random deals of whole
    groups stay below. ``p_value``: share of the deals that reach ``auc``. ``weights``: SHA-256 of what embedded both.
    """

    auc: float
    chance: float
    p_value: float
    dimensions: int
    pictures: tuple[int, int]
    weights: str


def comparable(reference: Profile, current: Profile) -> str | None:
    """Why the embeddings of two profiles cannot be compared, or ``None``."""
    for words, profile in (("the reference profile", reference), ("this run's profile", current)):
        if profile.embeddings is None or not profile.embeddings.size:
            return f"{words} has no embeddings"
    if reference.embedded_by != current.embedded_by:
        return "the two profiles were embedded by different weights"
    return None


def embedding_drift(reference: Profile, current: Profile, permutations: int, seed: int) -> EmbeddingDrift:
    """Tell the embeddings of two profiles apart; raises ``ValueError`` where they are not ``comparable``."""
    reason = comparable(reference, current)
    if reason is not None or reference.embeddings is None or current.embeddings is None:
        raise ValueError(reason)
    vectors = np.concatenate([reference.embeddings, current.embeddings]).astype(np.float64)
    split = len(reference.embeddings)
    # Folds go by name alone, since a clip on both sides must not be fitted in one fold and judged in another; deals go
    # by name and side, since each side's part of it is dealt for itself.
    named = np.array([*reference.groups, *current.groups], np.str_)
    sided = np.array([*(f"0{name}" for name in reference.groups), *(f"1{name}" for name in current.groups)], np.str_)
    known = np.isfinite(vectors).all(axis=1)
    is_current = (np.arange(len(vectors)) >= split)[known]
    # Sorted by side first: the units of the reference come first, as ``deals`` wants them.
    units = np.unique(sided[known], return_inverse=True)[1].reshape(-1)
    first, total = len(np.unique(units[~is_current])), int(units.max(initial=-1)) + 1
    real = (np.arange(total) < first).astype(np.float32)[None]
    dealt = np.concatenate([real, deals(first, total - first, permutations, seed)])
    areas = _areas(vectors[known], named[known], 1.0 - dealt[:, units].T.astype(np.float64), seed)
    # A deal that leaves no area counts as one that reaches it, which can only hide drift, not invent it.
    chance = np.nan_to_num(areas[1:], nan=1.0)
    # The tolerance is for areas that are equal but for rounding.
    p_value = (1 + int((chance >= areas[0] - 1e-12).sum())) / (1 + len(chance))
    return EmbeddingDrift(
        float(areas[0]),
        float(np.quantile(chance, 0.95)),
        p_value,
        vectors.shape[1],
        (int((~is_current).sum()), int(is_current.sum())),
        str(reference.embedded_by),
    )


def _areas(vectors: np.ndarray, groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Area under the ROC curve for every column of ``labels`` (n, deals), 1 = current, each fold scored by the fit to
    the others. Least squares on labels finds the direction of Fisher's discriminant, so one factorisation serves all
    columns."""
    numbers = np.unique(groups, return_inverse=True)[1].reshape(-1)
    folds = (stream(seed, "drift folds").permutation(int(numbers.max(initial=-1)) + 1) % FOLDS)[numbers]
    scores = np.zeros(labels.shape)
    for fold in range(FOLDS):
        test = folds == fold
        train = ~test
        if not test.any() or not train.any():
            continue
        middle = vectors[train].mean(axis=0)
        inside = vectors[train] - middle
        moments = inside.T @ inside
        # Never 0: constant embeddings would make the system below singular.
        penalty = RIDGE * max(float(np.trace(moments)) / len(moments), 1e-12)
        wanted = labels[train] - labels[train].mean(axis=0)
        directions = np.linalg.solve(moments + penalty * np.eye(len(moments)), inside.T @ wanted)
        scores[test] = (vectors[test] - middle) @ directions
    return np.concatenate(
        [
            _area(scores[:, start : start + DEALS_AT_ONCE], labels[:, start : start + DEALS_AT_ONCE])
            for start in range(0, labels.shape[1], DEALS_AT_ONCE)
        ]
    )


def _area(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, ties counted half (Mann & Whitney, 1947); NaN with one side empty."""
    from scipy.stats import rankdata

    positives = labels.sum(axis=0)
    negatives = len(labels) - positives
    ranks = (rankdata(scores, axis=0) * labels).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ranks - positives * (positives + 1) / 2) / (positives * negatives))
