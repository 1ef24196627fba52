"""Did pretraining help? A linear probe on frozen features of the same crops before and after, with an interval.

The probe is ridge regression onto one column a class (rows of rare classes weigh more), judged on groups (clips) it
has not seen, by macro average precision. The gain's interval comes from drawing groups with replacement, the same draw
for both. Probing frozen features: Alain & Bengio, "Understanding intermediate layers using linear classifier probes"
(2016); the cluster bootstrap: Cameron, Gelbach & Miller (2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marauder.core.randomness import stream
from marauder.evaluation.group_draws import draw_names, percentiles

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties tried, as shares of the features' variance; each side is judged at its own best."""
FEWEST_GROUPS = 5
FOLDS, DRAWS, LEVEL = 5, 1000, 0.95


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """``verdict``: ``yes`` (the interval lies above 0), ``no`` (below), ``unclear``. ``before``, ``after``: macro
    average precision in 0..1. ``gain``: after less before, ``low`` to ``high`` its interval at ``level``. ``why``: the
    verdict in words. ``by_class``: class to its average precision before and after."""

    verdict: str
    before: float
    after: float
    gain: float
    low: float
    high: float
    level: float
    crops: int
    groups: int
    why: str
    by_class: dict[str, tuple[float, float]]


def compare_probes(
    before: np.ndarray,
    after: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    names: tuple[str, ...],
    seed: int = 0,
) -> ProbeResult:
    """Probe both features of the same N crops and judge the gain; a function of its arguments.

    ``before`` (N, D), ``after`` (N, D'): rows with NaN in either are left out. ``classes``: int (N,) into ``names``
    (the background's name included). ``groups``: (N,). Classes that fewer than two groups hold are not judged.
    """
    usable = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    before, after, classes = before[usable], after[usable], np.asarray(classes, np.int64)[usable]
    known, group = np.unique(np.asarray(groups)[usable], return_inverse=True)
    judged = [k for k in range(len(names)) if len(np.unique(group[classes == k])) >= 2]
    if len(known) < FEWEST_GROUPS or len(judged) < 2:
        why = (
            f"too little is labelled to tell: {len(known)} groups (at least {FEWEST_GROUPS}), {len(judged)} classes "
            "found in two groups (at least 2); label pictures of more clips"
        )
        nan = float("nan")
        return ProbeResult("unclear", nan, nan, nan, nan, nan, LEVEL, len(classes), len(known), why, {})
    fold = assign_folds(classes, group, min(FOLDS, len(known)), seed)
    scores = [held_out_scores(features, classes, fold, judged) for features in (before, after)]
    random = stream(seed, "probe bootstrap")
    times = draw_names(group, DRAWS, lambda draw: random).weights_from_original()
    # (2, classes judged, 1 + DRAWS); the first column is the data as they are.
    precision = np.array(
        [[average_precision(s[:, i], classes == k, times) for i, k in enumerate(judged)] for s in scores]
    )
    macro = _macro(precision)
    gains = macro[1] - macro[0]
    low, high = percentiles(gains[1:], LEVEL)
    verdict = "yes" if low > 0 else "no" if high < 0 else "unclear"
    by_class = {names[k]: (float(precision[0, i, 0]), float(precision[1, i, 0])) for i, k in enumerate(judged)}
    words = {
        "yes": "features tell the classes apart better",
        "no": "it made features worse",
        "unclear": "no difference that is sure",
    }[verdict]
    why = (
        f"{words}: a linear probe on frozen features gains {gains[0]:+.3f} macro average precision "
        f"({LEVEL:.0%} interval {low:+.3f} to {high:+.3f})"
    )
    return ProbeResult(
        verdict=verdict,
        before=float(macro[0, 0]),
        after=float(macro[1, 0]),
        gain=float(gains[0]),
        low=low,
        high=high,
        level=LEVEL,
        crops=len(classes),
        groups=len(known),
        why=why,
        by_class=by_class,
    )


def assign_folds(classes: np.ndarray, group: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row: int64 (N,). Groups stay whole; classes are spread as evenly as that allows, greedily."""
    count = int(group.max()) + 1
    table = np.zeros((count, int(classes.max()) + 1))
    np.add.at(table, (group, classes), 1)
    table /= np.maximum(table.sum(axis=0), 1)
    order = stream(seed, "probe folds").permutation(count)
    # Groups with much of a class first, while the folds are still free; equal ones in random order.
    order = order[np.argsort(-table.max(axis=1)[order], kind="stable")]
    reached = np.zeros((folds, table.shape[1]))
    assigned = np.zeros(count, np.int64)
    for number in order:
        assigned[number] = np.argmin(np.square(reached + table[number]).sum(axis=1) - np.square(reached).sum(axis=1))
        reached[assigned[number]] += table[number]
    return assigned[group]


def held_out_scores(features: np.ndarray, classes: np.ndarray, fold: np.ndarray, judged: list[int]) -> np.ndarray:
    """Scores (N, classes judged) of each row by probes that have not seen its fold, at the best of ``STRENGTHS``."""
    targets = np.stack([classes == k for k in judged], axis=1).astype(np.float64)
    found = np.zeros((len(STRENGTHS), len(features), len(judged)))
    for number in np.unique(fold):
        inside, outside = fold == number, fold != number
        found[:, inside] = _ridge(features[outside], targets[outside], features[inside])
    once = np.ones((len(features), 1), np.int64)
    quality = [
        _macro(np.array([[average_precision(scores[:, i], targets[:, i] > 0, once) for i in range(len(judged))]]))[0, 0]
        for scores in found
    ]
    best: np.ndarray = found[int(np.argmax(quality))]
    return best


def _ridge(features: np.ndarray, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Scores (strengths, M, K) of ``others`` by weighted ridge regression of ``targets`` (N, K) on ``features``.

    Each class has the same weight in all, and so has what is none of them.
    """
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # A feature that is constant but for rounding must not be blown up to unit variance.
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    rows, ahead = (features - mean) / scale, (others - mean) / scale
    label = np.concatenate([targets, 1 - targets.sum(axis=1, keepdims=True)], axis=1)
    weight = (label / np.maximum(label.sum(axis=0), 1)).sum(axis=1)
    weight /= weight.sum()
    centre, level = weight @ rows, weight @ targets
    # Centred once more by the weights, so that the intercept is not penalised.
    rows, ahead = rows - centre, ahead - centre
    # One decomposition serves all strengths.
    values, vectors = np.linalg.eigh(rows.T @ (rows * weight[:, None]))
    response = vectors.T @ (rows.T @ ((targets - level) * weight[:, None]))
    projected = ahead @ vectors
    # Rounding leaves some eigenvalues just under 0, where a small strength could cancel them.
    values = np.clip(values, 0, None)
    return np.stack([projected @ (response / (values + strength)[:, None]) + level for strength in STRENGTHS])


def average_precision(scores: np.ndarray, positive: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Average precision (draws,) where row n counts ``times[n]`` (N, draws) times; NaN where no positive is drawn.

    The sum over falling scores of precision times the step in recall; rows of equal score count as one step.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(times[order] * positive[order, None], axis=0)[ends].astype(np.float64)
    seen = np.cumsum(times[order], axis=0)[ends]
    steps = np.diff(hits, axis=0, prepend=0.0)
    # A draw without a positive divides by 0, and is to be NaN.
    with np.errstate(invalid="ignore"):
        result: np.ndarray = (steps * hits / np.maximum(seen, 1)).sum(axis=0) / hits[-1]
    return result


def _macro(precision: np.ndarray) -> np.ndarray:
    """The mean over classes (axis 1) that a draw holds; NaN where it holds none."""
    held = np.isfinite(precision)
    total = np.where(held, precision, 0.0).sum(axis=1)
    return np.where(held.any(axis=1), total / np.maximum(held.sum(axis=1), 1), np.nan)
