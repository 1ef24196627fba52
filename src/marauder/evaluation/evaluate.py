"""Evaluate detections as a whole, by class and by slice, with one matching for all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from marauder.core.plain import Plain
from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.values import attribute_slices as attribute_slices
from marauder.evaluation.curves import LEAST_CONFIDENCE
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import Metrics, aggregate
from marauder.evaluation.slice_pairs import box_flags, restrict, whole_classes

Slice = np.ndarray | Callable[[Record], bool]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """``overall`` for all pictures, ``slices`` by name; both counted at the same confidence (``overall.confidence``).

    ``matches`` holds the pairs, for further aggregations; ``masks`` the slices in their order, ``records`` the
    pictures they are masks over.
    """

    overall: Metrics
    slices: dict[str, Metrics]
    matches: Matches = field(repr=False)
    masks: tuple[SliceMask, ...] = field(repr=False, default=())
    records: tuple[Record, ...] = field(repr=False, default=())
    _restricted: dict[str, Matches] = field(repr=False, init=False, default_factory=dict)

    def slice_matches(self, name: str) -> Matches:
        """The pairs of one slice, for any aggregation; made when first asked for. Raises ``KeyError``."""
        if name not in self._restricted:
            mask = {mask.name: mask for mask in self.masks}[name]
            self._restricted[name] = restrict(self.matches, self.records, mask)
        return self._restricted[name]

    def to_json(self) -> Plain:
        """Plain content of ``eval_report.json``: ``overall`` with ``per_class``, and ``slices`` with theirs."""
        return {
            "overall": self.overall.to_json(),
            "slices": {name: metrics.to_json() for name, metrics in self.slices.items()},
        }


def evaluate(
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    slices: Mapping[str, Slice] | Sequence[SliceMask] | None = None,
    confidence: float | None = None,
    least_confidence: float = LEAST_CONFIDENCE,
) -> EvaluationResult:
    """Match ``detections[i]`` with ``records[i]`` once, then aggregate the whole and every slice.

    ``slices``: masks of ``data.slices``, or by name a boolean mask over the records or a question about a record.
    ``confidence`` is where precision, recall and F1 are counted; by default where the mean F1 of all pictures is
    highest, from ``least_confidence`` up. Raises ``ValueError`` for lists of different length, unknown classes, masks
    of the wrong shape, and two slices of one name.
    """
    masks = _masks(records, slices)
    matches = match(records, detections, names)
    overall = aggregate(matches, confidence=confidence, least_confidence=least_confidence)
    metrics = _SliceMetrics(matches, records, overall)
    parts = {mask.name: metrics.of(mask) for mask in masks}
    return EvaluationResult(overall, parts, matches, masks, tuple(records))


def _masks(
    records: Sequence[Record], slices: Mapping[str, Slice] | Sequence[SliceMask] | None
) -> tuple[SliceMask, ...]:
    if not isinstance(slices, Mapping):
        masks = tuple(slices or ())
    else:
        masks = tuple(SliceMask(name, slice_mask(records, chosen)) for name, chosen in slices.items())
    twice = {mask.name for mask in masks if sum(other.name == mask.name for other in masks) > 1}
    if twice:
        raise ValueError(f"two slices of one name: {', '.join(sorted(twice))}")
    return masks


class _SliceMetrics:
    """Metrics of slices at one confidence. Only a slice of some boxes of a class needs pairs of its own; the others
    come from the metrics of their pictures, which many slices share."""

    def __init__(self, matches: Matches, records: Sequence[Record], overall: Metrics) -> None:
        self.matches, self.records, self.confidence = matches, records, overall.confidence
        # By the bytes of the mask: arrays cannot be keys.
        self.known = {np.ones(len(records), bool).tobytes(): overall}
        self.detections: dict[bytes, np.ndarray] = {}

    def of(self, mask: SliceMask) -> Metrics:
        """The metrics of one slice."""
        if mask.area is None:
            if mask.boxes is None:
                return self.of_pictures(mask.pictures)
            classes = whole_classes(self.matches, box_flags(self.matches, self.records, mask), mask.pictures)
            if classes is not None:
                detections = self.detections_of(mask.pictures)[classes].sum()
                return self.of_pictures(mask.pictures).of_classes(classes, int(detections))
        return aggregate(restrict(self.matches, self.records, mask), confidence=self.confidence)

    def of_pictures(self, pictures: np.ndarray) -> Metrics:
        """The metrics of all boxes of some pictures: bool (P,)."""
        key = pictures.tobytes()
        if key not in self.known:
            self.known[key] = aggregate(self.matches, pictures, confidence=self.confidence)
        return self.known[key]

    def detections_of(self, pictures: np.ndarray) -> np.ndarray:
        """How many detections of each class some pictures have: int64 (K,)."""
        key = pictures.tobytes()
        if key not in self.detections:
            chosen = self.matches.detection_class[pictures[self.matches.detection_picture]]
            self.detections[key] = np.bincount(chosen, minlength=len(self.matches.names))
        return self.detections[key]


def slice_mask(records: Sequence[Record], chosen: Slice) -> np.ndarray:
    """The mask over ``records`` that a slice stands for: bool (P,)."""
    if callable(chosen):
        return np.array([bool(chosen(record)) for record in records], bool)
    return np.asarray(chosen)
