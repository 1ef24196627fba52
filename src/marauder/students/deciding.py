"""What a teacher's boxes are to a student, decided: learned, ignored, background, or of what is labelled. Arrays in.

A calibrated score p is the share of such boxes that are right. From ``sure`` up a box is learned with the trust p
(``models.trusts``). Between ``doubt`` and ``sure`` it is neither an animal nor water, and its place is ignored, as the
unsure middle of Xu et al., "Efficient Teacher: Semi-Supervised Object Detection for YOLOv5", 2023, section 3.2, is kept
out of the hard labels. Below it is background, as everything without a box.

In pictures that a person labelled, labels win: a box that overlaps one is dropped. What else the teacher finds may be
an animal that was not labelled, so that by default its place is ignored instead of being learned as background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from marauder.core.plain import Plain
from marauder.data.boxes import iou_matrix
from marauder.data.records import Detections, Record
from marauder.students.settings import LessonSettings
from marauder.tasks.detection.lessons import Lesson

SAME_PLACE = 0.7
"""IoU from which two boxes of different classes are one animal: the surer one counts."""
LEAST_TRUST = 1e-4
"""A trust that is kept with four digits is not 0."""
FATES = ("learned", "ignored", "labelled", "background")
"""What becomes of a box. ``labelled``: it is of what a person labelled."""
LABELLED, UNLABELLED = "labelled", "unlabelled"
"""Kinds of pictures."""


@dataclass(frozen=True, eq=False)
class Decided:
    """A picture's boxes and what becomes of each. ``found``: one box a place. ``fates``: text (N,), of ``FATES``."""

    record: Record
    found: Detections
    fates: np.ndarray

    @property
    def kind(self) -> str:
        """Whether a person labelled the picture."""
        return LABELLED if self.record.labelled else UNLABELLED

    def lesson(self, content: str, trust: str) -> Lesson:
        """What is learned of it. ``content``: SHA-256 of the picture; ``trust``: see ``LessonSettings``."""
        learned, scores = self.fates == "learned", self.found.scores
        trusts = np.ones(len(scores)) if trust == "whole" else np.clip(scores, LEAST_TRUST, 1.0)
        record = self.record.with_boxes(np.zeros(len(self.record.boxes), bool))
        boxes, classes, ignored = self.found.boxes, self.found.classes, self.found.boxes[self.fates == "ignored"]
        return Lesson(record, boxes[learned], classes[learned], trusts[learned], ignored, content)


def decide(record: Record, found: Detections, rules: LessonSettings) -> Decided:
    """What becomes of each box that a teacher ``found`` in the picture of ``record``, best first."""
    found = one_box_a_place(found)
    scores = found.scores
    fates = np.full(len(scores), "background", dtype="<U10")
    fates[scores >= rules.doubt] = "ignored"
    fates[scores >= rules.sure] = "learned"
    if not record.labelled:
        return Decided(record, found, fates)
    if rules.missing == "ignore":
        fates[scores >= rules.sure] = "ignored"
    elif rules.missing == "background":
        fates[:] = "background"
    if len(record.boxes) and len(scores):
        # Of any class: who labelled the animal knew better what it is.
        on_label = iou_matrix(found.boxes, record.boxes).max(axis=1) >= rules.overlap
        fates[on_label & (scores >= rules.doubt)] = "labelled"
    return Decided(record, found, fates)


def one_box_a_place(found: Detections) -> Detections:
    """``found``, best first, without boxes that lie on a surer one, of whatever class."""
    order = np.argsort(-found.scores, kind="stable")
    found = found.chosen(order)
    overlap = iou_matrix(found.boxes, found.boxes)
    kept: list[int] = []
    for place in range(len(found)):
        if not kept or overlap[place, kept].max() < SAME_PLACE:
            kept.append(place)
    return found.chosen(np.array(kept, np.int64))


@dataclass
class Account:
    """How many boxes the teacher gave and what became of them, by kind of picture and class."""

    names: tuple[str, ...]
    doubt: float
    pictures: Counter[str] = field(default_factory=Counter)
    boxes: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    trusts: list[float] = field(default_factory=list)

    def add(self, one: Decided) -> None:
        """Count a picture. Boxes below ``doubt`` that are of no label are not told apart from background: they are
        what nobody would call a box."""
        self.pictures[one.kind] += 1
        by_class = self.boxes.setdefault(one.kind, {name: Counter() for name in self.names})
        for number, score, fate in zip(one.found.classes.tolist(), one.found.scores.tolist(), one.fates.tolist()):
            if score >= self.doubt:
                by_class[self.names[number]][fate] += 1
            if fate == "learned":
                self.trusts.append(score)

    def to_json(self) -> Plain:
        """Plain values; ``given`` is the sum of the fates."""
        return {
            "pictures": {kind: self.pictures[kind] for kind in (LABELLED, UNLABELLED)},
            "boxes": {
                kind: {
                    name: {"given": sum(counts.values()), **{fate: counts[fate] for fate in FATES}}
                    for name, counts in by_class.items()
                }
                for kind, by_class in self.boxes.items()
            },
            "mean_score_of_learned": float(np.mean(self.trusts)) if self.trusts else None,
        }


def totals(boxes: Plain, kinds: Sequence[str]) -> dict[str, int]:
    """Sums over classes and ``kinds`` of ``Account.to_json``'s ``boxes``."""
    rows = [row for kind in kinds for row in boxes.get(kind, {}).values()]
    return {name: sum(row[name] for row in rows) for name in ("given", *FATES)}
