"""Two groups of classes, the critical ones and the others: their mean average precisions, and one score for both."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from marauder.evaluation.metrics import Metrics, defined_mean

TIER_METRICS = ("critical/map50", "critical/map50_95", "others/map50", "critical_with_floor")


def tier_metrics(metrics: Metrics, critical: Sequence[str], floor: float | None) -> dict[str, float]:
    """``TIER_METRICS`` by name, in 0..1; a mean over classes that have no boxes is NaN.

    ``critical``: names of classes, at least one; all others are the others. ``floor``: the least ``others/map50``.
    """
    chosen = np.array([name in set(critical) for name in metrics.names], bool)
    critical_95 = defined_mean(metrics.ap[0][:, chosen])
    others = defined_mean(metrics.ap[0, 0][~chosen])
    return {
        "critical/map50": defined_mean(metrics.ap[0, 0][chosen]),
        "critical/map50_95": critical_95,
        "others/map50": others,
        "critical_with_floor": critical_score(critical_95, others, floor),
    }


def critical_score(critical: float, others: float, floor: float | None) -> float:
    """One score, 0..1: 1/2 + ``critical``/2 where the others keep the floor, else half their share of it, below 1/2.

    So whatever keeps the floor is better than all that does not; of those that keep it, what finds the critical classes
    best; of those that do not, what is nearest to it (the feasibility rule of Deb, "An efficient constraint handling
    method for genetic algorithms", 2000). ``floor``: ``None`` for none. NaN counts as 0, no others as a floor kept.
    """
    critical = 0.0 if math.isnan(critical) else critical
    if floor is None or floor <= 0 or math.isnan(others) or others >= floor:
        return 0.5 + critical / 2
    return 0.5 * others / floor
