"""Curves whose logit is linear in functions of the score, fitted by cross-entropy to targets in 0..1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from marauder.calibration.methods.base import LEAST_SCORE
from marauder.prediction.score_calibration import Curve

EDGE = 1e-4
"""A sigmoid in float32 reaches 0 and 1 exactly, where the logit has no value."""
GRID = np.concatenate([[0.0], 1 / (1 + np.exp(-np.linspace(np.log(LEAST_SCORE / (1 - LEAST_SCORE)), 7.0, 200))), [1.0]])
"""Scores at which such a curve is kept; between them it is read linearly."""
RIDGE = 1e-6
"""Of the squared parameters, in the mean loss: classes that a score separates perfectly would send them to infinity."""


def logit(score: np.ndarray) -> np.ndarray:
    """The logarithm of the odds of scores in 0..1."""
    inside = np.clip(score, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def fit_logits(
    score: np.ndarray,
    target: np.ndarray,
    features: Callable[[np.ndarray], np.ndarray],
    start: Sequence[float],
    lowest: Sequence[float | None],
) -> Curve | None:
    """The curve sigmoid(features @ parameters), its parameters by minimising the mean cross-entropy.

    ``features``: of scores (N,), (N, P). ``start``: parameters (P,) that leave scores as they are. ``lowest``: their
    lower bounds, ``None`` for none. ``None`` where the curve does not rise. Minimised by L-BFGS-B (Byrd, Lu, Nocedal
    and Zhu, "A limited memory algorithm for bound constrained optimization", 1995); the problem is convex.
    """
    from scipy.optimize import minimize

    matrix = features(score)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        linear = matrix @ parameters
        # log(1 + exp(x)) - target x is the cross-entropy of sigmoid(x), without overflow.
        value = np.mean(np.logaddexp(0.0, linear) - target * linear) + RIDGE * parameters @ parameters
        share = np.exp(-np.logaddexp(0.0, -linear))
        return float(value), matrix.T @ (share - target) / len(target) + 2 * RIDGE * parameters

    bounds = [(low, None) for low in lowest]
    found = minimize(loss, np.array(start, np.float64), jac=True, method="L-BFGS-B", bounds=bounds)
    right = np.exp(-np.logaddexp(0.0, -(features(GRID) @ found.x)))
    right[0] = 0.0
    if right[-1] - right[1] < 1e-6:
        return None
    return GRID, np.maximum.accumulate(right)
