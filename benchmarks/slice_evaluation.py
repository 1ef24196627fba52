"""Claim: fifty slices cost at most 1.5 times the evaluation of one, because pictures are matched once.

Prints, for one made-up set of detections: the time of an evaluation with one slice, with fifty by attributes, and with
fifty by attributes, box sizes and classes, as a run makes them (each the best of several repeats, in processor
seconds), their ratios, and for pycocotools and faster-coco-eval (if installed) the time for the whole set alone and the
difference of the result. Exit status 1 if a ratio is above the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.randomness import stream
from marauder.data.records import Detections, Record
from marauder.data.slices.resolve import automatic_slices
from marauder.evaluation.evaluate import attribute_slices, evaluate

LIMIT = 1.5
ATTRIBUTES = {"site": 10, "camera": 5, "water": 9, "depth": 8, "light": 6, "turbidity": 12}
"""Number of values of each attribute: fifty slices, each picture in six of them."""


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--detections", type=int, default=100, help="detections a picture")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true", help="leave out pycocotools and faster-coco-eval")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    records, detections, names = make_case(options.pictures, options.classes, options.detections)
    slices = attribute_slices(records)
    first = dict(list(slices.items())[:1])
    made = automatic_slices(records, names)
    of_boxes = [mask for mask in made if mask.boxes is not None]
    mixed = [*of_boxes[: len(slices) // 2], *(mask for mask in made if mask.boxes is None)][: len(slices)]
    one, fifty, as_run = best_times(
        [
            lambda: evaluate(records, detections, names, first),
            lambda: evaluate(records, detections, names, slices),
            lambda: evaluate(records, detections, names, mixed),
        ],
        options.repeats,
    )
    found = evaluate(records, detections, names, slices)
    ratio, ratio_as_run = fifty / one, as_run / one
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "pictures": len(records),
        "classes": len(names),
        "boxes": found.overall.boxes,
        "detections": found.overall.detections,
        "slices": len(slices),
        "one_slice_seconds": one,
        "all_slices_seconds": fifty,
        "mixed_slices_seconds": as_run,
        "ratio": ratio,
        "ratio_mixed": ratio_as_run,
        "limit": LIMIT,
    }
    print(f"machine: {figures['machine']}")
    print(f"{len(records):,} pictures, {len(names)} classes, {found.overall.boxes:,} boxes, "
          f"{found.overall.detections:,} detections")  # fmt: skip
    print(f"one slice:   {one:.3f} s")
    print(f"{len(slices)} slices:   {fifty:.3f} s")
    print(f"ratio:       {ratio:.2f} (limit {LIMIT})")
    print(f"{len(mixed)} slices, half of them of boxes: {as_run:.3f} s, ratio {ratio_as_run:.2f} (limit {LIMIT})")
    if not options.no_peers:
        figures |= compare_with_peers(records, detections, names, fifty, found.overall.map50_95)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if max(ratio, ratio_as_run) <= LIMIT else 1


def make_case(pictures: int, classes: int, per_picture: int) -> tuple[list[Record], list[Detections], list[str]]:
    """Boxes as many as in COCO (7.3 a picture, few frequent classes); a detector that finds many and invents some."""
    frequency = 1 / np.arange(1, classes + 1)
    frequency /= frequency.sum()
    records, detections = [], []
    for index in range(pictures):
        random = stream(0, "slice-evaluation", index)
        boxes = random_boxes(random, int(random.poisson(7.3)))
        kinds = random.choice(classes, len(boxes), p=frequency)
        attributes = {name: f"value{random.integers(0, count):02d}" for name, count in ATTRIBUTES.items()}
        records.append(
            Record(str(index), Path(f"{index}.jpg"), 640, 480, boxes, kinds, attributes=attributes)  # type: ignore[arg-type]
        )
        near = min(per_picture, int(0.6 * per_picture)) if len(boxes) else 0
        source = random.integers(0, max(1, len(boxes)), near)
        size = (boxes[:, 2:] - boxes[:, :2])[source] if near else np.zeros((0, 2))
        shifted = boxes[source] + random.normal(0, 0.15, (near, 4)) * np.tile(size, 2) if near else np.zeros((0, 4))
        shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
        named = kinds[source] if near else np.zeros(0, np.int64)
        renamed = np.where(random.random(near) < 0.8, named, random.choice(classes, near, p=frequency))
        far = per_picture - near
        detections.append(
            Detections(
                np.concatenate([shifted, random_boxes(random, far)]),
                np.concatenate([random.beta(2, 3, near), random.beta(1, 8, far)]),
                np.concatenate([renamed, random.choice(classes, far, p=frequency)]),
            )
        )
    return records, detections, [f"class{number}" for number in range(classes)]


def random_boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """Boxes of very different size: (number, 4)."""
    corner = random.random((number, 2)) * (500, 350)
    return np.concatenate([corner, corner + np.exp(random.normal(4, 0.9, (number, 2)))], axis=1)


def best_times(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each work's fastest repeat, taken in turns, so that other processes disturb all alike.

    Processor time of this process, which has one thread: on a busy machine steadier than time by the clock, and on an
    idle one the same.
    """
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for place, work in enumerate(works):
            started = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - started)
    return best


def compare_with_peers(
    records: list[Record], detections: list[Detections], names: list[str], ours: float, map50_95: float
) -> dict[str, float]:
    """Time the peers on the whole set, once each; loading their input is not counted."""
    figures: dict[str, float] = {}
    for peer, load in (("pycocotools", load_pycocotools), ("faster-coco-eval", load_faster)):
        try:
            coco, evaluator = load()
        except ImportError:
            print(f"{peer}: not installed, left out")
            continue
        truth, results = to_coco(records, detections, names)
        with contextlib.redirect_stdout(io.StringIO()):
            known = coco()
            known.dataset = truth
            known.createIndex()
            given = known.loadRes(results)
            started, processor = time.perf_counter(), time.process_time()
            evaluation = evaluator(known, given, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            # Whichever is shorter: a peer may use threads, and the machine may be busy.
            seconds = min(time.perf_counter() - started, time.process_time() - processor)
        difference = abs(float(evaluation.stats[0]) - map50_95)
        figures |= {f"{peer}_seconds": seconds, f"{peer}_difference": difference}
        print(f"{peer}, no slices: {seconds:.2f} s, {seconds / ours:.1f} times ours with all slices; "
              f"mAP50-95 differs by {difference:.1e}")  # fmt: skip
    return figures


def load_pycocotools() -> tuple[Any, Any]:
    """The classes of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def load_faster() -> tuple[Any, Any]:
    """The classes of faster-coco-eval, which take the same calls."""
    from faster_coco_eval import COCO, COCOeval_faster

    return COCO, COCOeval_faster


def to_coco(
    records: list[Record], detections: list[Detections], names: list[str]
) -> tuple[dict[str, list[dict]], list[dict]]:
    """The case in the peers' form."""
    annotations: list[dict] = []
    results: list[dict] = []
    for image, (record, found) in enumerate(zip(records, detections, strict=True), start=1):
        for (x0, y0, x1, y1), kind in zip(record.boxes.tolist(), record.classes.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": kind + 1, "iscrowd": 0,
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            )  # fmt: skip
        for (x0, y0, x1, y1), kind, score in zip(
            found.boxes.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True
        ):
            results.append(
                {"image_id": image, "category_id": kind + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
    images = [{"id": number, "width": 640, "height": 480} for number in range(1, len(records) + 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


if __name__ == "__main__":
    sys.exit(main())
