"""Made-up detections on the true boxes of real pictures, of pairs of detectors whose errors are alike to a set degree.

Every true box and every distractor (a place that looks like an animal) has a hardness that all detectors share and one
that is each detector's own; both have a part that whole clips share. A detector's score falls with the sum, and so
does how well its box lies. What is assumed thereby, ``Assumptions`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from marauder.core.randomness import stream
from marauder.data.records import Detections, Record


@dataclass(frozen=True)
class Assumptions:
    """``strength``: how far true boxes stand out from distractors, in standard deviations of the hardness.
    ``alike``: correlation of two detectors' hardness of the same box, 0..1. ``clip``: share of the variance of either
    part that whole clips have in common. ``distractors``: on average in a picture."""

    strength: float
    alike: float
    clip: float = 0.1
    distractors: float = 4.0


@dataclass(frozen=True, eq=False)
class Scene:
    """The places where detectors may fire: all true boxes of the records, then distractors. ``hardness``: (N,), shared
    by all detectors; ``jitter``: (N, 4), shared displacement; ``true``: bool (N,)."""

    records: Sequence[Record]
    assumptions: Assumptions
    picture: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    true: np.ndarray
    clip: np.ndarray
    hardness: np.ndarray
    jitter: np.ndarray


def resample_pictures(records: Sequence[Record], sizes: Sequence[int], seed: int) -> tuple[list[Record], np.ndarray]:
    """Draw whole groups with replacement until each part has its number of pictures (the last group is cut short).

    Returns the records, groups renamed so that copies are groups of their own, and the part of each: int64 (P,).
    """
    random = stream(seed, "pictures")
    members: dict[str, list[Record]] = {}
    for record in records:
        members.setdefault(record.group, []).append(record)
    names = list(members)
    drawn: list[Record] = []
    part: list[int] = []
    for number, size in enumerate(sizes):
        chosen: list[Record] = []
        while len(chosen) < size:
            group = members[names[random.integers(len(names))]][: size - len(chosen)]
            name = f"{number}-{len(chosen)}"
            chosen += [replace(one, key=f"{name}-{place}", group=name) for place, one in enumerate(group)]
        drawn += chosen
        part += [number] * size
    return drawn, np.array(part)


def make_scene(records: Sequence[Record], assumptions: Assumptions, seed: int) -> Scene:
    """Where detectors may fire on the records, and what is hard about it for all of them."""
    random = stream(seed, "scene")
    boxes = np.concatenate([record.boxes for record in records])
    classes = np.concatenate([record.classes for record in records])
    picture = np.repeat(np.arange(len(records)), [len(record.boxes) for record in records])
    number = random.poisson(assumptions.distractors, len(records))
    where = np.repeat(np.arange(len(records)), number)
    like = random.integers(0, len(boxes), len(where))  # distractors have the sizes and classes of true boxes
    extent = boxes[like, 2:] - boxes[like, :2]
    frame = np.array([(record.width, record.height) for record in records], np.float64)[where]
    corner = random.random((len(where), 2)) * np.maximum(frame - extent, 1)
    _, group = np.unique([record.group for record in records], return_inverse=True)
    picture = np.concatenate([picture, where])
    count = len(picture)
    return Scene(
        records=records,
        assumptions=assumptions,
        picture=picture,
        boxes=np.concatenate([boxes, np.concatenate([corner, corner + extent], axis=1)]),
        classes=np.concatenate([classes, classes[like]]),
        true=np.arange(count) < len(boxes),
        clip=group[picture],
        hardness=_hardness(random, group[picture], assumptions.clip),
        jitter=random.normal(0, 1, (count, 4)),
    )


def detect(scene: Scene, seed: int, name: str, weaker: np.ndarray | None = None) -> list[Detections]:
    """What detector ``name`` says of each picture. ``weaker``: (P,), by how much the true boxes of each picture stand
    out less than they would."""
    random = stream(seed, "detector", name)
    given = scene.assumptions
    own = _hardness(random, scene.clip, given.clip)
    hardness = np.sqrt(given.alike) * scene.hardness + np.sqrt(1 - given.alike) * own
    clear = np.where(scene.true, given.strength, 0.0) - hardness
    if weaker is not None:
        clear = clear - np.where(scene.true, weaker[scene.picture], 0.0)
    extent = scene.boxes[:, 2:] - scene.boxes[:, :2]
    moved = np.sqrt(given.alike) * scene.jitter + np.sqrt(1 - given.alike) * random.normal(0, 1, scene.jitter.shape)
    # Boxes that are hard to see are also hard to outline: an IoU under 0.5 becomes likely below the distractors' mean.
    spread = 0.05 + 0.20 / (1 + np.exp(2 * clear))
    boxes = scene.boxes + moved * spread[:, None] * np.tile(extent, 2)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.5)
    scores = 1 / (1 + np.exp(1.0 - clear))
    order = np.lexsort((-scores, scene.picture))
    bounds = np.searchsorted(scene.picture[order], np.arange(len(scene.records) + 1))
    boxes, scores, classes = boxes[order], scores[order], scene.classes[order]
    return [Detections(boxes[start:stop], scores[start:stop], classes[start:stop]) for start, stop in pairwise(bounds)]


def _hardness(random: np.random.Generator, clip: np.ndarray, share: float) -> np.ndarray:
    """Standard normal, with ``share`` of the variance common to a clip: (N,)."""
    of_clip = random.normal(0, 1, int(clip.max(initial=-1)) + 1)
    return np.sqrt(share) * of_clip[clip] + np.sqrt(1 - share) * random.normal(0, 1, len(clip))
