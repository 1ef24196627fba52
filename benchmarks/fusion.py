"""Weighted boxes fusion against ensemble-boxes, the package of its authors: the same result, in how much less time.

    python benchmarks/fusion.py

Scenes of 6 members with 300 boxes each. ``avg`` is compared at equal weights, ``box_and_model_avg`` at the weights 2,
1, 1, 1, 0.5, 1. The package brings pandas and numba and is no dependency of Marauder; install it into an environment of
your own (``pip install ensemble-boxes``). Without it ``reference_fusion`` below is compared with, which reads the paper
box by box, for exactness; its times say nothing of the package. Processor time is counted, so that other work on the
machine changes little. Exits with status 1 where results differ by more than 1e-6 or, against the package, where a
scene is fused less than 5 times as fast. A minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from marauder.core.plugins import make
from marauder.data.records import Detections
from marauder.testing.fusions import scene

SIDE = 640
"""Pixels of the pictures."""
MEMBERS, BOXES = 6, 300
SCENES = {
    "40 objects, 7 classes": (40, 7),
    "40 objects, 1 class": (40, 1),
    "5 objects, 36 classes": (5, 36),
    "250 objects, 7 classes": (250, 7),
    "300 objects, 20 classes": (300, 20),
}
"""Objects and classes of each."""
WEIGHTS = {"avg": [1.0] * MEMBERS, "box_and_model_avg": [2.0, 1.0, 1.0, 1.0, 0.5, 1.0]}
OVERLAP = 0.55
MOST_DIFFERENT, LEAST_RATIO = 1e-6, 5.0

Result = tuple[np.ndarray, np.ndarray, np.ndarray]


def reference_fusion(
    found: Sequence[Detections], weights: Sequence[float], overlap: float, scoring: str = "avg"
) -> Result:
    """Weighted boxes fusion as steps 1 to 7 of section 3 of the paper say, each fused box made anew of its cluster:
    boxes (N, 4), scores (N,), classes (N,)."""
    every = [
        (weight * float(score), weight, model, int(kind), box.tolist())
        for model, (one, weight) in enumerate(zip(found, weights, strict=True))
        for box, score, kind in zip(one.boxes, one.scores, one.classes, strict=True)
    ]
    every.sort(key=lambda item: -item[0])
    clusters: list[list[Any]] = []
    fused: list[list[float]] = []
    for item in every:
        ious = [_iou(item[4], box) if one[0][3] == item[3] else 0.0 for one, box in zip(clusters, fused, strict=True)]
        best = max(range(len(ious)), key=lambda place: (ious[place], -place), default=-1)
        if best >= 0 and ious[best] > overlap:
            clusters[best].append(item)
        else:
            best = len(clusters)
            clusters.append([item])
            fused.append(item[4])
        total = sum(one[0] for one in clusters[best])
        fused[best] = [sum(one[0] * one[4][side] for one in clusters[best]) / total for side in range(4)]
    scores = []
    for cluster in clusters:
        mean = sum(one[0] for one in cluster) / len(cluster)
        if scoring == "avg":
            scores.append(mean * min(len(weights), len(cluster)) / sum(weights))
        else:
            mean *= len(cluster) / sum(one[1] for one in cluster)
            scores.append(mean * sum(weights[model] for model in {one[2] for one in cluster}) / sum(weights))
    classes = np.array([cluster[0][3] for cluster in clusters], np.int64)
    return np.array(fused).reshape(-1, 4), np.array(scores), classes


def _iou(first: Sequence[float], second: Sequence[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def peer_fusion(found: Sequence[Detections], weights: Sequence[float], overlap: float, scoring: str) -> Result:
    """The same by ensemble-boxes, which takes boxes in 0..1."""
    from ensemble_boxes import weighted_boxes_fusion

    boxes, scores, classes = weighted_boxes_fusion(
        [one.boxes / SIDE for one in found],
        [one.scores for one in found],
        [one.classes for one in found],
        weights=list(weights),
        iou_thr=overlap,
        conf_type=scoring,
    )
    return boxes * SIDE, scores, classes.astype(np.int64)


def seconds(call: Callable[[], Any], times: int) -> float:
    """The least processor time of some calls."""
    spent = []
    for _ in range(times):
        begin = time.process_time()
        call()
        spent.append(time.process_time() - begin)
    return min(spent)


def difference(fused: Detections, other: Result) -> float:
    """The largest difference of a score, or of a coordinate as a share of the picture's side; infinite where there are
    more boxes in one of them."""
    boxes, scores, classes = other
    if len(fused) != len(scores):
        return float("inf")
    first, second = (
        np.lexsort((box[:, 1].round(2), box[:, 0].round(2), kind))
        for box, kind in ((fused.boxes, fused.classes), (boxes, classes))
    )
    if not np.array_equal(fused.classes[first], classes[second]):
        return float("inf")
    apart = np.abs(fused.boxes[first] - boxes[second]).max() / SIDE
    return float(max(apart, np.abs(fused.scores[first] - scores[second]).max()))


def main() -> None:
    """Compare, print, and fail where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of each fusion; the fastest counts")
    repeats = parser.parse_args().repeats
    try:
        import ensemble_boxes  # noqa: F401 - whether it is there

        peer, whose = peer_fusion, "ensemble-boxes"
    except ImportError:
        peer, whose = reference_fusion, "the reference (ensemble-boxes is not installed)"
    print(f"{MEMBERS} x {BOXES} boxes, against {whose}")
    failed = False
    for name, (objects, classes) in SCENES.items():
        found = [
            Detections(one.boxes.clip(0, SIDE), one.scores, one.classes)
            for one in scene(1, MEMBERS, objects, classes, BOXES)
        ]
        for scoring, weights in WEIGHTS.items():
            way = make("fusion", "weighted_boxes", {"scoring": scoring, "overlap": OVERLAP})
            table = np.repeat(np.array(weights)[:, None], classes, axis=1)
            own = seconds(lambda way=way, found=found, table=table: way.fuse(found, table), repeats)
            theirs = seconds(
                lambda found=found, weights=weights, scoring=scoring: peer(found, weights, OVERLAP, scoring),
                1 if peer is reference_fusion else repeats,
            )
            worst = difference(way.fuse(found, table), peer(found, weights, OVERLAP, scoring))
            slow = peer is peer_fusion and theirs < LEAST_RATIO * own
            failed |= worst > MOST_DIFFERENT or slow
            print(
                f"  {name:24} {scoring:18} {1e3 * own:6.1f} ms, {1e3 * theirs:7.1f} ms: "
                f"{theirs / own:6.1f} times as fast, largest difference {worst:.1e}"
            )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
