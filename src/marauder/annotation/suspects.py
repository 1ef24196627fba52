"""Boxes that look wrong, ranked: overlooked objects, badly located boxes, wrong classes; from labels and a model's
boxes.

The idea is that of Tkachenko, Thyagarajan and Mueller, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object
Detection Data" (2023): where a detector is sure and the label says otherwise, one of three patterns tells what went
wrong. It differs in three ways. Labels and model boxes are paired one to one, so that one object explains one box.
What counts as badly located is measured against how well this model locates boxes on this very delivery, class by
class, since a model's own sloppiness is no fault of the label. And pictures are ranked by turns: the most suspect of
each kind, then the second of each. One scale for all three would let the kind that a detector's own false alarms look
like, overlooked objects, push the others out (benchmarks/planted_label_errors.py measures it).

With c a model box's score in 0..1, u = min(1, IoU / match_iou) and t the usual IoU (below):

- overlooked, for a model box that no label takes: c * (1 - max u over all labels);
- badly located, for a label paired with a model box of its class: c * max(0, (t - IoU) / (t - 0.1)), where t is the
  lower quartile of the IoU of sure pairs of that class (of all classes where it has under 20), at most
  ``well_located_iou``; pairs down to IoU 0.1 count;
- wrong class, for a label that a model box of another class covers with IoU at or above match_iou:
  c * min(1, IoU / t) * (1 - s), s the highest score of a model box of the label's own class there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.annotation.agreement import View, pair_boxes
from marauder.data.boxes import iou_matrix
from marauder.data.records import Detections

KINDS = ("overlooked", "badly_located", "wrong_class")
LEAST_SCORE = 0.05
"""Suspects below are left out: they are not worth a look and would be thousands."""
LOOSEST_IOU = 0.1
ENOUGH_PAIRS = 20


@dataclass(frozen=True, eq=False)
class Suspect:
    """One box that looks wrong. ``kind``: of ``KINDS``; ``score``: 0..1, high is suspect. ``label``: position of the
    label in its picture, ``None`` for an overlooked object; ``suggested``: float64 (4,), the model's box."""

    key: str
    kind: str
    score: float
    label: int | None
    label_class: int | None
    label_box: np.ndarray | None
    suggested: np.ndarray
    suggested_class: int
    confidence: float
    iou: float


def find_suspects(
    keys: Sequence[str],
    labels: Sequence[View],
    detections: Sequence[Detections],
    match_iou: float = 0.5,
    well_located_iou: float = 0.75,
    sure_confidence: float = 0.5,
) -> list[Suspect]:
    """All suspects of the pictures ``keys``, most suspect first; of equal scores in order of key and place.

    ``detections`` should hold low scores too (down to about 0.05). ``sure_confidence``: score from which a pair tells
    how well the model locates.
    """
    usual = _usual_iou(labels, detections, match_iou, well_located_iou, sure_confidence)
    found: list[Suspect] = []
    for key, view, boxes in zip(keys, labels, detections, strict=True):
        found.extend(_of_picture(key, view, boxes, match_iou, usual))
    return sorted((one for one in found if one.score >= LEAST_SCORE), key=lambda one: (-one.score, one.key))


def ranked_pictures(suspects: Sequence[Suspect]) -> list[str]:
    """Keys of the pictures with a suspect, in the order in which to look at them: by the best place that one of their
    suspects has among those of its kind. ``suspects``: as ``find_suspects`` gives them."""
    seen: Counter[str] = Counter()
    best: dict[str, tuple[int, float]] = {}
    for one in suspects:
        seen[one.kind] += 1
        best[one.key] = min(best.get(one.key, (seen[one.kind], -one.score)), (seen[one.kind], -one.score))
    return sorted(best, key=lambda key: (best[key], key))


def _of_picture(key: str, view: View, found: Detections, match_iou: float, usual: dict[int, float]) -> list[Suspect]:
    if not len(found):
        return []
    iou = iou_matrix(view.boxes, found.boxes) if len(view.boxes) else np.zeros((0, len(found)))
    suspects = _misplaced(key, view, found, iou, usual)
    # One reason for each label: a box of its own class was found there, so its class is right.
    taken = {one.label for one in suspects}
    suspects += [one for one in _of_other_class(key, view, found, iou, match_iou, usual[-1]) if one.label not in taken]
    explained = iou.max(axis=0) if len(view.boxes) else np.zeros(len(found))
    # A model box that tells of a label already is not an overlooked object as well.
    touched = {(round(float(one.suggested[0]), 3), round(float(one.suggested[1]), 3)) for one in suspects}
    for place, box in enumerate(found.boxes):
        misfit = 1.0 - min(1.0, float(explained[place]) / match_iou)
        score = float(found.scores[place]) * misfit
        if score < LEAST_SCORE or (round(float(box[0]), 3), round(float(box[1]), 3)) in touched:
            continue
        overlap = float(explained[place])
        confidence, guess = float(found.scores[place]), int(found.classes[place])
        suspects.append(Suspect(key, "overlooked", score, None, None, None, box, guess, confidence, overlap))
    return _without_repeats(suspects, match_iou)


def _misplaced(key: str, view: View, found: Detections, iou: np.ndarray, usual: dict[int, float]) -> list[Suspect]:
    suspects = []
    for index in np.unique(view.classes).tolist():
        mine, theirs = np.flatnonzero(view.classes == index), np.flatnonzero(found.classes == index)
        sides = View(view.boxes[mine], view.classes[mine]), View(found.boxes[theirs], found.classes[theirs])
        pairing = pair_boxes(*sides, LOOSEST_IOU)
        limit = usual.get(index, usual[-1])
        for label, place in zip(mine[pairing.first].tolist(), theirs[pairing.second].tolist()):
            overlap = float(iou[label, place])
            score = float(found.scores[place]) * max(0.0, (limit - overlap) / (limit - LOOSEST_IOU))
            if score > 0:
                suspects.append(_suspect(key, "badly_located", score, view, label, found, place, overlap))
    return suspects


def _of_other_class(
    key: str, view: View, found: Detections, iou: np.ndarray, match_iou: float, limit: float
) -> list[Suspect]:
    suspects = []
    for label, index in enumerate(view.classes.tolist()):
        there = iou[label] >= match_iou
        other = np.flatnonzero(there & (found.classes != index))
        if not len(other):
            continue
        own = found.scores[there & (found.classes == index)]
        same = float(own.max()) if len(own) else 0.0
        # The surest that also fits: a sure box of a neighbour may just reach the threshold.
        place = int(other[np.argmax(found.scores[other] * iou[label, other])])
        score = float(found.scores[place]) * min(1.0, float(iou[label, place]) / limit) * (1.0 - same)
        suspects.append(_suspect(key, "wrong_class", score, view, label, found, place, float(iou[label, place])))
    return suspects


def _suspect(
    key: str, kind: str, score: float, view: View, label: int, found: Detections, place: int, overlap: float
) -> Suspect:
    return Suspect(
        key=key,
        kind=kind,
        score=score,
        label=label,
        label_class=int(view.classes[label]),
        label_box=view.boxes[label],
        suggested=found.boxes[place],
        suggested_class=int(found.classes[place]),
        confidence=float(found.scores[place]),
        iou=overlap,
    )


def _without_repeats(suspects: list[Suspect], match_iou: float) -> list[Suspect]:
    """Of overlooked objects that several model boxes suggest, the most confident suggestion alone."""
    kept: list[Suspect] = []
    for one in sorted(suspects, key=lambda one: -one.score):
        same = [known.suggested for known in kept if known.kind == "overlooked"]
        if one.kind == "overlooked" and same and iou_matrix(one.suggested[None], np.stack(same)).max() >= match_iou:
            continue
        kept.append(one)
    return kept


def _usual_iou(
    labels: Sequence[View], detections: Sequence[Detections], match_iou: float, most: float, sure: float
) -> dict[int, float]:
    """How well the model locates: class to the lower quartile of the IoU of its sure pairs; -1 for all classes."""
    overlaps: dict[int, list[float]] = {-1: []}
    for view, found in zip(labels, detections, strict=True):
        confident = found.above(sure)
        pairing = pair_boxes(view, View(confident.boxes, confident.classes), match_iou)
        for label, place, overlap in zip(pairing.first, pairing.second, pairing.iou):
            # Pairs are made whatever the class; a wrong one says nothing of how boxes are placed.
            if view.classes[label] == confident.classes[place]:
                overlaps[-1].append(float(overlap))
                overlaps.setdefault(int(view.classes[label]), []).append(float(overlap))
    usual = {
        index: min(most, float(np.quantile(values, 0.25)))
        for index, values in overlaps.items()
        if len(values) >= ENOUGH_PAIRS
    }
    # Too few pairs altogether: the setting decides.
    usual.setdefault(-1, most)
    return usual
