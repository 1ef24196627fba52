"""Hard negatives, decided: which detections are errors to learn from, which may be labels that are missing. Arrays in.

A detection that is no true positive is one of (after Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", ECCV 2020): *background*, it overlaps no box by more than ``BACKGROUND`` (IoU); a *confusion*, it
lies on a box of another class (IoU of at least ``FOREGROUND``); or neither: a second detection of a box that has one,
or a badly placed one, which are errors of location and no hard negatives.

What the labels call background may be an animal without a box. Such a detection comes with confidence, and the
flipped picture shows it too; both are taken for a suspicion when both scores reach what the class's precision on
held-out pictures makes believable (``trusted_scores``). Suspected ones are never negatives: a person looks first. Nor
is any other detection at that place, of whatever class (IoU of at least ``SAME_PLACE``). That costs some negatives,
those which the detector believes in most, and saves training it not to see animals.

Errors are pooled by pair of classes (predicted, true or background), freed of near-copies within a clip, carried from
one mining to the next until they are too old, and sampled from the pools in proportion to their size.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from marauder.core.randomness import stream
from marauder.data.boxes import iou_matrix
from marauder.data.duplicates import PictureHash, near_clusters
from marauder.data.records import Detections, Record
from marauder.evaluation.matching import Matches
from marauder.evaluation.outcomes import judge_detections

BACKGROUND = 0.1
FOREGROUND = 0.5
SAME_PLACE = 0.3
"""IoU from which a detection lies where a label is suspected to be missing."""
AGREEMENT = 0.6
"""IoU from which a detection of the flipped picture is the same one."""
STRICT = 0.25
"""Least score from which a class is believed that never reaches the precision asked for."""
LEAST_EVIDENCE = 5
"""Detections that a precision must rest on."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class HardNegative:
    """An error to learn from. ``box``: x0 y0 x1 y1 in pixels of the picture; ``true``: class name, "" for background;
    ``score`` in 0..1 when it was last seen; ``age``: minings since then; ``empty``: on a picture without any box."""

    key: str
    group: str
    picture: str
    box: tuple[float, float, float, float]
    predicted: str
    true: str
    score: float
    age: int = 0
    empty: bool = False
    sampled: bool = False

    @property
    def pool(self) -> str:
        """The pair of classes it belongs to."""
        return f"{self.predicted} for {self.true or 'background'}"


@dataclass(frozen=True)
class Suspicion:
    """A detection that may be an animal without a label: scores in the picture as it is and flipped."""

    key: str
    picture: str
    box: tuple[float, float, float, float]
    predicted: str
    score: float
    flipped_score: float
    trusted: float


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture as the detector saw it: plainly, and flipped left to right (boxes flipped back)."""

    record: Record
    detections: Detections
    flipped: Detections


@dataclass(frozen=True, eq=False)
class Trust:
    """From which score each class is believed. ``scores``: float64 (K,), 0..1; ``reached``: bool (K,), whether the
    precision asked for is reached there."""

    scores: np.ndarray
    reached: np.ndarray


def trusted_scores(matches: Matches, precision: float) -> Trust:
    """The score of each class from which a detection is believed.

    The lowest score at which the class reaches ``precision`` on the pictures of ``matches``, over at least
    ``LEAST_EVIDENCE`` detections. A class that never does is believed where it is most precise, from the highest such
    score (of fewer detections only where it has no more), and never below ``STRICT``; one without any right detection
    from 0.5.
    """
    true, false, _ = judge_detections(matches)
    result, known = np.full(len(matches.names), 0.5), np.zeros(len(matches.names), bool)
    for number in range(len(matches.names)):
        judged = (matches.detection_class == number) & (true | false)  # by falling score
        right, scores = true[judged], matches.detection_score[judged]
        if not right.any():
            continue
        seen = np.arange(1, len(right) + 1)
        precisions = np.cumsum(right) / seen
        whole = np.append(scores[1:] != scores[:-1], True)  # equal scores come together or not at all
        enough = whole & (seen >= LEAST_EVIDENCE)
        reached = enough & (precisions >= precision)
        known[number] = reached.any()
        if known[number]:
            # Scores fall: the last place is that of the lowest score.
            result[number] = scores[np.flatnonzero(reached)[-1]]
        else:
            among = np.flatnonzero(enough if enough.any() else whole)
            result[number] = max(STRICT, scores[among[np.argmax(precisions[among])]])
    return Trust(result, known)


def judge_picture(
    looked: Looked, names: Sequence[str], trusted: np.ndarray, least_score: float
) -> tuple[list[HardNegative], list[Suspicion]]:
    """The errors of one labelled picture, and what may be missing labels.

    ``trusted``: (K,), the scores of ``trusted_scores``.
    """
    record, found = looked.record, looked.detections.above(least_score)
    iou = iou_matrix(found.boxes, record.boxes)
    taken = np.zeros(len(record.boxes), bool)
    errors: list[HardNegative] = []
    suspicions: list[Suspicion] = []
    # As evaluation pairs them: the best score takes the box, and what comes after it is a double.
    for place in np.argsort(-found.scores, kind="stable").tolist():
        predicted, score = int(found.classes[place]), float(found.scores[place])
        if _on_ignored(found.boxes[place], record):
            continue
        row = np.where(record.ignored, 0.0, iou[place])
        same = (record.classes == predicted) & ~taken & (row >= FOREGROUND)
        if same.any():
            taken[int(np.argmax(np.where(same, row, 0)))] = True
            continue
        best = int(row.argmax()) if len(row) else -1
        corners = found.boxes[place].tolist()
        box = (corners[0], corners[1], corners[2], corners[3])
        if best < 0 or row[best] <= BACKGROUND:
            doubt = _agreement(looked.flipped, found.boxes[place], predicted)
            if min(score, doubt) >= trusted[predicted]:
                suspicions.append(
                    Suspicion(record.key, str(record.picture), box, names[predicted], score, doubt, trusted[predicted])
                )
                continue
            # Less sure, or gone when flipped: the labels are believed.
            true = ""
        elif row[best] >= FOREGROUND and record.classes[best] != predicted:
            true = names[int(record.classes[best])]
        else:
            continue
        place = (record.key, record.group, str(record.picture), box)
        errors.append(HardNegative(*place, names[predicted], true, score, empty=not len(record.boxes)))
    return off_suspected(errors, suspicions), suspicions


def off_suspected(errors: Sequence[HardNegative], suspicions: Sequence[Suspicion]) -> list[HardNegative]:
    """The errors that do not lie where a label is suspected to be missing, whatever their class."""
    places = _boxes_by_key(suspicions)

    def suspected(one: HardNegative) -> bool:
        return one.key in places and bool((iou_matrix(np.array([one.box]), places[one.key]) >= SAME_PLACE).any())

    return [one for one in errors if not suspected(one)]


def _boxes_by_key(suspicions: Sequence[Suspicion]) -> dict[str, np.ndarray]:
    by_key = _by(one.key for one in suspicions)
    return {key: np.array([suspicions[place].box for place in places]) for key, places in by_key.items()}


def settle(
    suspicions: Sequence[Suspicion],
    reviewed: Iterable[tuple[str, str, Sequence[float], str]],
    groups: Mapping[str, str],
) -> tuple[list[HardNegative], list[Suspicion]]:
    """Suspicions that a person has looked at: (key, class, box, verdict) with the verdict "background" make a negative,
    others ("missing") none; the rest stay suspicions. ``groups``: of each key."""
    verdicts: dict[tuple[str, str], list[tuple[np.ndarray, str]]] = {}
    for key, name, box, verdict in reviewed:
        verdicts.setdefault((key, name), []).append((np.asarray(box, np.float64).reshape(1, 4), verdict))
    errors, open_ones = [], []
    for one in suspicions:
        known = [
            verdict
            for box, verdict in verdicts.get((one.key, one.predicted), [])
            if iou_matrix(np.array([one.box]), box)[0, 0] >= FOREGROUND
        ]
        if known and known[0] == "background":
            place = (one.key, groups[one.key], one.picture, one.box)
            errors.append(HardNegative(*place, one.predicted, "", one.score))
        elif not known:
            open_ones.append(one)
    return errors, open_ones


def without_copies(
    found: Sequence[HardNegative], hashes: Sequence[PictureHash | None], most_of_a_group: int
) -> list[HardNegative]:
    """One of each set of near-identical crops of a clip and pool, the best score, and at most ``most_of_a_group``.

    ``hashes[i]``: of the crop of ``found[i]``, ``None`` where it could not be read (kept). In the order of ``found``.
    """
    kept: list[int] = []
    for places in _by((one.group, one.pool) for one in found).values():
        # near_clusters keeps the first of a cluster, which is to be the best score.
        ranked = sorted(places, key=lambda place: (-found[place].score, found[place].key, found[place].box))
        hashed = [(place, one) for place in ranked if (one := hashes[place]) is not None]
        alike = near_clusters([one for _, one in hashed])
        copies = {hashed[other][0] for cluster in alike for other in cluster[1:]}
        kept += [place for place in ranked if place not in copies][:most_of_a_group]
    return [found[place] for place in sorted(kept)]


def aged(
    earlier: Sequence[HardNegative], now: Sequence[HardNegative], most_age: int, suspicions: Sequence[Suspicion] = ()
) -> list[HardNegative]:
    """The errors of this mining and those of earlier ones that it did not see again, a round older.

    What was not seen for more than ``most_age`` minings goes: the detector has learned it. One seen again is young.
    What lies where a label is suspected now to be missing is no negative any more.
    """
    again = {
        pair: np.array([now[place].box for place in places])
        for pair, places in _by((one.key, one.pool) for one in now).items()
    }
    kept = [replace(one, sampled=False) for one in now]
    for one in off_suspected(earlier, suspicions):
        boxes = again.get((one.key, one.pool))
        met = boxes is not None and (iou_matrix(np.array([one.box]), boxes) >= FOREGROUND).any()
        if not met and one.age < most_age:
            kept.append(replace(one, age=one.age + 1, sampled=False))
    return kept


def sample(pool: Sequence[HardNegative], count: int, seed: int) -> list[HardNegative]:
    """The whole pool with ``count`` of it marked ``sampled``: of each pair of classes in proportion to its share.

    Shares are rounded by largest remainder, and no pair comes out empty while there is room. Within a pair without
    replacement, with weight score / 2^age (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    groups = _by(one.pool for one in pool)
    quotas = _quotas({name: len(places) for name, places in groups.items()}, min(count, len(pool)))
    chosen: set[int] = set()
    for name, places in groups.items():
        # A stream for each pair of classes: a new pair changes no draw of the others.
        draws = stream(seed, "hard-negatives", name).random(len(places))
        weights = np.array([max(pool[place].score, 1e-6) / 2.0 ** pool[place].age for place in places])
        order = np.argsort(-(np.log(draws) / weights), kind="stable")
        chosen |= {places[index] for index in order[: quotas[name]].tolist()}
    return [replace(one, sampled=place in chosen) for place, one in enumerate(pool)]


def _quotas(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    total = sum(sizes.values())
    exact = {name: count * size / total for name, size in sizes.items()} if total else {}
    quotas = {name: int(share) for name, share in exact.items()}
    left = count - sum(quotas.values())
    # Empty pairs come first, then by what rounding took.
    for name in sorted(exact, key=lambda name: (quotas[name] > 0, quotas[name] - exact[name], name))[:left]:
        quotas[name] += 1
    for empty in [name for name in quotas if not quotas[name]]:
        donor = max(quotas, key=lambda name: (quotas[name] > 1, quotas[name] - exact[name], name))
        if quotas[donor] > 1:
            quotas[donor], quotas[empty] = quotas[donor] - 1, 1
    return quotas


def _by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    groups: dict[Key, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return groups


def _on_ignored(box: np.ndarray, record: Record) -> bool:
    """Whether half of the detection lies on a box that neither rewards nor punishes."""
    ignored = record.boxes[record.ignored]
    if not len(ignored):
        return False
    sides = np.minimum(ignored[:, 2:], box[2:]) - np.maximum(ignored[:, :2], box[:2])
    area = float((box[2:] - box[:2]).prod())
    return bool((np.clip(sides, 0, None).prod(axis=1) >= FOREGROUND * area).any())


def _agreement(flipped: Detections, box: np.ndarray, predicted: int) -> float:
    """The best score of the flipped picture's detections that are this one; 0 without any."""
    same = flipped.classes == predicted
    near = iou_matrix(box[None], flipped.boxes[same])[0] >= AGREEMENT
    return float(flipped.scores[same][near].max(initial=0.0))
