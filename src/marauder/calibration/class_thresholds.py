"""From which calibrated score a class is reported, by the rule that its users need, and how sure that choice is.

Rules: the best F1; the lowest score with at least some precision; the highest score that still finds some share of the
animals; the lowest expected cost of false alarms and misses. On few labelled boxes a choice is chance, so that it is
drawn towards a common one: t = w own + (1 - w) common, w = n / (n + k) with n boxes, as curves are (``fitting``). The
common one is chosen on all classes together, which calibrated scores allow; for costs it is c_false / (c_false +
c_miss), which is best for perfectly calibrated scores (Elkan, "The foundations of cost-sensitive learning", 2001).
A floor is never given up by drawing: precision takes the higher, recall the lower of both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from marauder.calibration.settings import ThresholdSettings
from marauder.core.plain import Plain
from marauder.core.randomness import stream
from marauder.evaluation.detection_table import DetectionTable
from marauder.evaluation.group_draws import Draws, draw_names, percentiles
from marauder.evaluation.intervals import LEVEL

LEAST = 0.001
"""Threshold of a class of which everything is to be reported: what is below is not even measured."""
NOTHING = 1.0
"""Threshold of a class of which nothing should be reported."""


@dataclass(frozen=True)
class Outcome:
    """What a threshold gives on some pictures, of one class. NaN where undefined."""

    boxes: int
    found: int
    false: int

    @property
    def precision(self) -> float:
        """Share of detections that are right."""
        return self.found / (self.found + self.false) if self.found + self.false else float("nan")

    @property
    def recall(self) -> float:
        """Share of boxes that are found."""
        return self.found / self.boxes if self.boxes else float("nan")

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        total = self.found + self.false + self.boxes
        return 2 * self.found / total if total else float("nan")

    def to_json(self) -> Plain:
        """Plain numbers."""
        shares = {name: getattr(self, name) for name in ("precision", "recall", "f1")}
        return {"boxes": self.boxes, "found": self.found, "false": self.false, **shares}


@dataclass(frozen=True)
class ClassThreshold:
    """One class. ``own``: chosen on its boxes alone, NaN with none; ``low``, ``high``: bounds of that choice in draws
    of groups; ``common``: of all classes; ``weight``: how much of ``threshold`` is its own. ``reached``: whether the
    floor that was asked for can be kept at all on these pictures."""

    name: str
    rule: str
    critical: bool
    boxes: int
    own: float
    low: float
    high: float
    common: float
    weight: float
    threshold: float
    reached: bool
    outcome: Outcome

    def to_json(self) -> Plain:
        """Plain values; NaN is written as ``null``."""
        return {**vars(self), "outcome": self.outcome.to_json()}


@dataclass(frozen=True)
class _Goal:
    """A rule with its numbers, for one class."""

    rule: str
    floor: float
    false_alarm: float
    miss: float


def choose_thresholds(
    table: DetectionTable, settings: ThresholdSettings, critical: Collection[str], draws: int, seed: int
) -> tuple[ClassThreshold, ...]:
    """The threshold of every class, on the scale of the calibrated scores of ``table``."""
    drawn = draw_names(table.groups, draws, lambda draw: stream(seed, "thresholds", draw))
    found = []
    for number, name in enumerate(table.names):
        goal = _goal(settings, name in critical)
        # Classes share a common threshold, chosen for the same goal.
        common = _common(table, goal)
        found.append(_of_class(table, number, goal, name in critical, common, settings.pooling_boxes, drawn))
    return tuple(found)


def outcome_at(table: DetectionTable, number: int, threshold: float) -> Outcome:
    """What class ``number`` gives in ``table`` from a score on."""
    rows = (table.kind == number) & (table.score >= threshold)
    right = int(table.right[rows].sum())
    return Outcome(int(table.boxes[:, number].sum()), right, int(rows.sum()) - right)


def _goal(settings: ThresholdSettings, critical: bool) -> _Goal:
    rule = settings.critical_rule if critical and settings.critical_rule is not None else settings.rule
    floor = settings.precision_floor if rule == "precision_floor" else settings.recall_floor
    if critical:
        return _Goal(rule, floor, settings.critical_false_alarm, settings.critical_miss)
    return _Goal(rule, floor, settings.false_alarm, settings.miss)


def _common(table: DetectionTable, goal: _Goal) -> float:
    if goal.rule == "expected_cost":
        return goal.false_alarm / (goal.false_alarm + goal.miss)
    together = replace(table, kind=np.zeros(len(table), np.int64), boxes=table.boxes.sum(axis=1, keepdims=True))
    cuts = _Cuts(together, 0)
    return cuts.choose(goal, np.ones((len(table.groups), 1)))[0][0]


def _of_class(
    table: DetectionTable, number: int, goal: _Goal, critical: bool, common: float, pooling: float, drawn: Draws
) -> ClassThreshold:
    boxes = int(table.boxes[:, number].sum())
    own = low = high = float("nan")
    weight, threshold, reached = 0.0, common, False
    if boxes:
        cuts = _Cuts(table, number)
        chosen, kept = cuts.choose(goal, np.ones((len(table.groups), 1)))
        own, reached = float(chosen[0]), bool(kept[0])
        low, high = percentiles(cuts.choose(goal, drawn.counts)[0], LEVEL)
        weight = boxes / (boxes + pooling)
        threshold = weight * own + (1 - weight) * common
        if goal.rule == "precision_floor":
            threshold = max(own, threshold)
        elif goal.rule == "recall_floor":
            threshold = min(own, threshold)
    return ClassThreshold(
        name=table.names[number],
        rule=goal.rule,
        critical=critical,
        boxes=boxes,
        own=own,
        low=low,
        high=high,
        common=common,
        weight=weight,
        threshold=threshold,
        reached=reached,
        outcome=outcome_at(table, number, threshold),
    )


class _Cuts:
    """The places at which the detections of a class can be cut: after each of its different scores, or before all."""

    def __init__(self, table: DetectionTable, number: int) -> None:
        rows = np.flatnonzero(table.kind == number)
        rows = rows[np.argsort(-table.score[rows], kind="stable")]
        score = table.score[rows]
        self.right, self.group = table.right[rows], table.group[rows]
        # Equal scores are reported together.
        self.ends = np.append(0, np.flatnonzero(np.diff(score, append=-np.inf)) + 1)
        following = np.append(score[self.ends[self.ends < len(score)]], LEAST)[: len(self.ends)]
        last = np.append(NOTHING, score[self.ends[1:] - 1])
        # Halfway to the next one: the scores of other pictures lie between.
        self.threshold = np.maximum(LEAST, (last + following) / 2)
        self.threshold[0] = NOTHING
        self.boxes_of = table.boxes[:, number]

    def choose(self, goal: _Goal, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The threshold in each draw, float64 (N,), and whether a floor is kept, bool (N,); ``counts``: (G, N)."""
        right = self._until(counts * 1.0, self.right)
        false = self._until(counts * 1.0, ~self.right)
        boxes = (self.boxes_of @ counts)[None].astype(np.float64)
        everything = np.ones(right.shape[1], bool)
        if goal.rule == "max_f1":
            value = 2 * right / np.maximum(right + false + boxes, 1)
            return self.threshold[_last_of_highest(value)], everything
        if goal.rule == "expected_cost":
            cost = goal.false_alarm * false + goal.miss * (boxes - right)
            return self.threshold[_last_of_highest(-cost)], everything
        if goal.rule == "precision_floor":
            value = right / np.maximum(right + false, 1)
            kept = (value >= goal.floor) & (right > 0)
            # The lowest score that keeps the floor; where none does, the most precise.
            last = len(value) - 1 - np.argmax(kept[::-1], axis=0)
            place = np.where(kept.any(axis=0), last, _last_of_highest(value))
            return self.threshold[place], kept.any(axis=0)
        kept = right >= goal.floor * boxes
        # The highest score that keeps the floor; where none does, all of it.
        place = np.where(kept.any(axis=0), np.argmax(kept, axis=0), len(kept) - 1)
        return self.threshold[place], kept.any(axis=0)

    def _until(self, counts: np.ndarray, flags: np.ndarray) -> np.ndarray:
        """How many rows with a flag come before each cut in each draw: (cuts, N)."""
        running = np.zeros((len(flags) + 1, counts.shape[1]))
        np.cumsum(np.where(flags[:, None], counts[self.group], 0.0), axis=0, out=running[1:])
        return np.asarray(running[self.ends])


def _last_of_highest(values: np.ndarray) -> np.ndarray:
    """The last place of the highest value of each column: of equals, the one that finds more."""
    return np.asarray(len(values) - 1 - np.argmax(values[::-1], axis=0))


def unsure(chosen: Sequence[ClassThreshold], width: float = 0.3) -> list[str]:
    """The classes whose own choice spans more than ``width`` in draws of groups, or that have no boxes."""
    return [one.name for one in chosen if not one.boxes or one.high - one.low > width]
