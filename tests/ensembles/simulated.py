"""Made-up members of an ensemble on made-up pictures: what each finds, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marauder.data.records import Detections, Record
from marauder.ensembles.looking import Looked

NAMES = ("fish", "ray")
SIDE = 640


def pictures(count: int, groups: int, seed: int = 0) -> tuple[Record, ...]:
    """Labelled pictures with three boxes each, in so many groups."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        corners = random.uniform(20, 420, (3, 2))
        boxes = np.concatenate([corners, corners + random.uniform(60, 200, (3, 2))], axis=1)
        group = f"clip{number % groups}"
        found.append(
            Record(f"{number}", Path(f"{number}.jpg"), SIDE, SIDE, boxes, random.integers(0, 2, 3), group=group)
        )
    return tuple(found)


def finds(
    records: tuple[Record, ...],
    seed: int,
    sees: float,
    noise: float = 8.0,
    false: float = 3.0,
    knows: tuple[int, ...] = (0, 1),
) -> tuple[Detections, ...]:
    """What a detector finds that sees a share ``sees`` of the boxes, each corner off by ``noise`` pixels, with so many
    false boxes a picture, which it scores lower as a rule; it knows the classes ``knows``."""
    random = np.random.default_rng(seed)
    found = []
    for record in records:
        seen = (random.random(len(record.boxes)) < sees) & np.isin(record.classes, knows)
        true = record.boxes[seen] + random.normal(0, noise, (int(seen.sum()), 4))
        count = int(random.poisson(false))
        corners = random.uniform(0, 500, (count, 2))
        wrong = np.concatenate([corners, corners + random.uniform(30, 140, (count, 2))], axis=1)
        scores = np.concatenate([random.beta(5, 2, len(true)), random.beta(2, 5, count)])
        kinds = np.concatenate([record.classes[seen], random.choice(knows, count)])
        order = np.argsort(-scores, kind="stable")
        boxes = np.concatenate([true, wrong]).clip(0, SIDE)
        found.append(Detections(boxes[order], scores[order], kinds[order]))
    return tuple(found)


def looked(records: tuple[Record, ...], *members: tuple[Detections, ...]) -> Looked:
    """Members that looked at pictures."""
    return Looked(records, members, {})
