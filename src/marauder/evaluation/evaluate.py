"""Evaluate detections as a whole, by class and by slice, with one matching for all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marauder.data.records import Detections, Record
from marauder.data.slices.values import attribute_slices as attribute_slices
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import Metrics, aggregate

Slice = np.ndarray | Callable[[Record], bool]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """``overall`` for all pictures, ``slices`` by name; both counted at the same confidence (``overall.confidence``).

    ``matches`` holds the pairs, for further aggregations.
    """

    overall: Metrics
    slices: dict[str, Metrics]
    matches: Matches = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain content of ``eval_report.json``: ``overall`` with ``per_class``, and ``slices`` with theirs."""
        return {
            "overall": self.overall.to_json(),
            "slices": {name: metrics.to_json() for name, metrics in self.slices.items()},
        }


def evaluate(
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    slices: Mapping[str, Slice] | None = None,
    confidence: float | None = None,
) -> EvaluationResult:
    """Match ``detections[i]`` with ``records[i]`` once, then aggregate the whole and every slice.

    A slice is a boolean mask over the records or a question about a record. ``confidence`` is where precision, recall
    and F1 are counted; by default where the mean F1 of all pictures is highest. Raises ``ValueError`` for lists of
    different length, unknown classes, and masks of the wrong shape.
    """
    matches = match(records, detections, names)
    overall = aggregate(matches, confidence=confidence)
    parts = {
        name: aggregate(matches, slice_mask(records, chosen), confidence=overall.confidence)
        for name, chosen in (slices or {}).items()
    }
    return EvaluationResult(overall, parts, matches)


def slice_mask(records: Sequence[Record], chosen: Slice) -> np.ndarray:
    """The mask over ``records`` that a slice stands for: bool (P,)."""
    if callable(chosen):
        return np.array([bool(chosen(record)) for record in records], bool)
    return np.asarray(chosen)
