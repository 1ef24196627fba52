"""Rare classes are drawn more often: sampling of records by factors, in place of copies on disk.

Two ways to the factors. Repeat factors lift every class to a least frequency; a picture takes the largest factor of its
classes (Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019, section 4).
Class-aware sampling draws a class first, each with the same chance, then a picture of it (Shen, Lin, Huang, "Relay
Backpropagation for Effective Learning of Deep Convolutional Neural Networks", ECCV 2016, section 4.1). Critical classes
get at least a factor of their own in both.

``Resampling`` turns factors into the records of an epoch by systematic resampling (Kitagawa, "Monte Carlo Filter and
Smoother for Non-Gaussian Nonlinear State Space Models", Journal of Computational and Graphical Statistics 5(1), 1996):
a comb of equal steps over the running sum of factors, moved by a random offset each epoch, so that a record appears
floor or ceil of its factor times and the expected number is the factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from marauder.core.randomness import stream
from marauder.core.settings import Settings
from marauder.data.records import Record

# A step of the comb in whole numbers: sums of floats would round, and a record could lose or gain a draw by it.
UNIT = 1 << 20


class BalanceSettings(Settings):
    """How often records are drawn in an epoch of training."""

    kind: Literal["none", "repeat_factor", "class_aware"] = Field(
        "none", description="none: each once; repeat_factor: rare classes more often; class_aware: all classes alike"
    )
    threshold: float = Field(
        0.1, gt=0, le=1, description="repeat_factor: classes in a smaller share of pictures than this are repeated"
    )
    limit: float = Field(8.0, ge=1, le=100, description="no picture is drawn more often than this in an epoch")
    critical_factor: float = Field(
        2.0, ge=1, le=100, description="pictures of critical classes are drawn at least this often"
    )


def class_frequencies(records: Sequence[Record], class_count: int) -> np.ndarray:
    """Share of the labelled records that show each class (ignored boxes do not count): float64 (class_count,), 0..1."""
    shown = np.zeros(class_count, np.int64)
    labelled = 0
    for record in records:
        if record.labelled:
            labelled += 1
            shown[_classes_of(record, class_count)] += 1
    return shown / max(labelled, 1)


def repeat_factors(
    records: Sequence[Record], class_count: int, threshold: float, at_least: Mapping[int, float] | None = None
) -> np.ndarray:
    """Repeat factor of each record: float64 (N,), 1 or more.

    A class that a share f of the labelled records shows has max(1, sqrt(threshold / f)); a record the largest of its
    classes. ``at_least``: class index to the factor that its records get at least. Records without boxes, and those
    without labels, have 1.
    """
    frequencies = class_frequencies(records, class_count)
    # np.where evaluates both sides: a class that never occurs must not divide by zero.
    known = np.maximum(frequencies, np.finfo(float).tiny)
    factors = np.where(frequencies > 0, np.maximum(1.0, np.sqrt(threshold / known)), 1.0)
    _raise_to(factors, at_least)
    return _largest_of_classes(records, factors)


def class_aware_factors(
    records: Sequence[Record], class_count: int, at_least: Mapping[int, float] | None = None
) -> np.ndarray:
    """Factors that draw every class equally often: float64 (N,); those of records with boxes sum to their number.

    Of M records with boxes and C classes seen, a record has the sum over its classes of M / (C x records of the class):
    the expected number of draws if each of M draws takes a class and then one of its records. ``at_least`` as in
    ``repeat_factors`` (the sum then grows). Records without boxes, and those without labels, have 1.
    """
    members = _members(records, class_count)
    counts = np.zeros(class_count, np.int64)
    for classes in members:
        counts[classes] += 1
    with_boxes = sum(1 for classes in members if len(classes))
    seen = int((counts > 0).sum())
    share = np.where(counts > 0, with_boxes / np.maximum(counts * max(seen, 1), 1), 0.0)
    # Applied to the record and not to its classes: shares add up over the classes of a record, floors must not.
    floors = np.zeros(class_count)
    _raise_to(floors, at_least)
    return np.array([max(share[classes].sum(), floors[classes].max()) if len(classes) else 1.0 for classes in members])


def balance_factors(
    records: Sequence[Record], class_count: int, settings: BalanceSettings, critical: Sequence[int] = ()
) -> np.ndarray:
    """Factors by ``settings``: float64 (N,), at most ``settings.limit``; all 1 for the kind "none".

    ``critical``: indices of the critical classes.
    """
    at_least = dict.fromkeys(critical, settings.critical_factor)
    if settings.kind == "repeat_factor":
        factors = repeat_factors(records, class_count, settings.threshold, at_least)
    elif settings.kind == "class_aware":
        factors = class_aware_factors(records, class_count, at_least)
    else:
        factors = np.ones(len(records))
    return np.minimum(factors, settings.limit)


class Resampling:
    """Which record is at each position of each epoch, as a function of (seed, epoch, index) alone.

    ``factors``: float (N,), not negative, finite. Every epoch has ``length`` positions, the rounded sum of the factors,
    and each record is at floor or ceil of its factor of them; the fractional parts of the factors are scaled so
    that the sum comes out. Positions are in the order of the records; the engine's own permutation mixes them. Raises
    ``ValueError`` for other factors.
    """

    def __init__(self, factors: np.ndarray) -> None:
        factors = np.asarray(factors, np.float64).reshape(-1)
        if not len(factors) or not np.isfinite(factors).all() or (factors < 0).any() or not factors.any():
            raise ValueError("factors must be finite, not negative and not all zero")
        whole = np.floor(factors).astype(np.int64)
        self.length = max(1, round(float(factors.sum())))
        whole, parts = _parts_that_sum(whole, factors - whole, self.length)
        self._ends = np.cumsum(whole) * UNIT + np.rint(np.cumsum(parts) * UNIT).astype(np.int64)
        self._offset: tuple[int, int, int] | None = None

    def record_at(self, seed: int, epoch: int, index: int) -> int:
        """Position in the list of records of sample ``index`` (0 to ``length`` - 1) of an epoch."""
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        # "right": a tooth on a border belongs to the record behind it, so that a factor of 0 is never drawn.
        return int(np.searchsorted(self._ends, index * UNIT + self._offset_of(seed, epoch), side="right"))

    def _offset_of(self, seed: int, epoch: int) -> int:
        # All samples of an epoch share one offset, and record_at is asked for each of them.
        if self._offset is None or self._offset[:2] != (seed, epoch):
            self._offset = (seed, epoch, int(stream(seed, "balance", epoch).integers(UNIT)))
        return self._offset[2]


def _parts_that_sum(whole: np.ndarray, parts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts (0 to 1) scaled so that they and ``whole`` sum to ``length``; those that reach 1 go over to ``whole``."""
    whole, parts = whole.copy(), parts.copy()
    while True:
        wanted = min(max(length - int(whole.sum()), 0), int((parts > 0).sum()))
        total = parts.sum()
        scaled = parts / total * wanted if total > 0 else parts
        full = scaled >= 1
        if not full.any():
            return whole, scaled
        whole[full] += 1
        parts[full] = 0


def _members(records: Sequence[Record], class_count: int) -> list[np.ndarray]:
    """The classes of each record, without repetition; none for records without labels."""
    return [_classes_of(record, class_count) if record.labelled else np.zeros(0, np.int64) for record in records]


def _classes_of(record: Record, class_count: int) -> np.ndarray:
    classes = np.unique(record.classes[~record.ignored])
    if len(classes) and (classes[0] < 0 or classes[-1] >= class_count):
        raise ValueError(f"{record.key}: class {classes[0] if classes[0] < 0 else classes[-1]} of {class_count}")
    return classes


def _raise_to(factors: np.ndarray, at_least: Mapping[int, float] | None) -> None:
    for index, factor in (at_least or {}).items():
        factors[index] = max(factors[index], factor)


def _largest_of_classes(records: Sequence[Record], factors: np.ndarray) -> np.ndarray:
    members = _members(records, len(factors))
    return np.array([factors[classes].max() if len(classes) else 1.0 for classes in members], np.float64)
