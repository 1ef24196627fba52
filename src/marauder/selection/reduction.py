"""From the boxes of a picture to one number: sum, mean, maximum or the mean of the highest, each box with a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from marauder.selection.box_evidence import class_distribution

Reduction = Literal["sum", "mean", "max", "top_k_mean"]
LEAST_DIFFICULTY = 0.05
"""A class that is known perfectly still counts this much: the next picture may show it otherwise."""


def reduce_boxes(values: np.ndarray, weights: np.ndarray, reduction: Reduction, top_k: int) -> float:
    """One number for a picture of N boxes: ``values`` (N,) times ``weights`` (N,), reduced; 0 without boxes.

    ``sum`` favours crowded pictures, and so asks for more boxes; ``mean`` is blind to how many there are; ``max`` rests
    on a single box; ``top_k_mean``, the mean of the ``top_k`` highest (of all where there are fewer), lies between.
    """
    if not len(values):
        return 0.0
    weighted = values * weights
    if reduction == "sum":
        return float(weighted.sum())
    if reduction == "mean":
        return float(weighted.mean())
    if reduction == "max":
        return float(weighted.max())
    return float(np.sort(weighted)[::-1][:top_k].mean())


def class_weights(
    names: Sequence[str], average_precision: Mapping[str, float] | None, critical: Sequence[str], critical_weight: float
) -> np.ndarray:
    """What a box of each class counts, float64 (C,): its difficulty, times ``critical_weight`` for critical classes.

    The difficulty is 1 - AP of the class on labelled validation pictures, not below ``LEAST_DIFFICULTY``; a class that
    validation does not know is as difficult as the mean of those it knows. Without ``average_precision`` all are 1.
    """
    known = {name: value for name, value in (average_precision or {}).items() if np.isfinite(value)}
    middle = float(np.mean(list(known.values()))) if known else 0.0
    difficulty = np.array([max(1.0 - known.get(name, middle), LEAST_DIFFICULTY) for name in names])
    return difficulty * np.where(np.isin(names, list(critical)), critical_weight, 1.0)


def box_weights(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of each box (N,): the mean of the ``weights`` (C,) of the classes, by how likely it shows each.

    ``scores``: (N, C) in 0..1. The chances are those under the condition that the box shows anything.
    """
    shares = class_distribution(scores)[:, :-1]
    total = shares.sum(axis=1, keepdims=True)
    even = np.full_like(shares, 1.0 / max(1, shares.shape[1]))
    return np.asarray(np.divide(shares, total, out=even, where=total > 0) @ weights)
