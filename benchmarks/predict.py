"""Claim: predictors find the boxes that Ultralytics' ``predict`` finds on the same letterbox, at no less than its rate.

Pictures of the aquarium set go from their files to boxes through both, with the same weights, confidence, suppression
and threads. Boxes are compared with Ultralytics looking at one picture at a time, which letterboxes as predictors do;
the rate with the faster of that and its batches. Rounds take turns, so that what slows the machine slows all arms;
the ratio is that of the best rounds. Beside it the ratio of processor time, which other work on the machine hardly
touches. Exit status 1 if a box differs or the rate is below theirs.

    python benchmarks/predict.py --model yolov8n_coco.pt --pictures 200
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marauder.data.boxes import iou_matrix
from marauder.data.picture_files import find_pictures, read_header
from marauder.data.records import Detections, Record
from peers import describe_machine, pinned_ultralytics, shared_data

LEAST_IOU = 0.99
SCORE_DIFFERENCE = 1e-3


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="what both open; default: yolov8n_coco.pt of the shared data")
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--batch", type=int, help="default of both: ours chooses, theirs 16")
    parser.add_argument("--conf", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, pinned_ultralytics(Path(folder)) as (yolo, _):
        figures = measure(options, yolo)
    print(describe_machine())
    for name, value in figures.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    differs = figures["boxes without a counterpart"]
    return int(differs > 0 or figures["rate, ours by theirs"] < 1)


def measure(options: argparse.Namespace, yolo: Any) -> dict[str, Any]:
    """Boxes and seconds of all arms."""
    import torch

    from marauder.prediction.opening import open_predictor
    from marauder.prediction.records import predict_records
    from marauder.prediction.settings import PredictionSettings

    weights = options.model or shared_data() / "weights" / "yolov8n_coco.pt"
    paths = find_pictures(shared_data() / "aquarium")
    paths = [paths[place] for place in np.linspace(0, len(paths) - 1, options.pictures).astype(int)]
    headers = [read_header(path) for path in paths]
    records = [Record(path.stem, path, one.width, one.height) for path, one in zip(paths, headers, strict=True)]
    predictor = open_predictor(weights, options.device, threads=options.threads, fuse=True)
    settings = PredictionSettings(options.conf, batch=options.batch)
    theirs = yolo(weights, task="detect")
    common = {"conf": options.conf, "iou": settings.iou, "device": options.device, "verbose": False, "stream": True}

    def one_by_one() -> list[Detections]:
        return [_detections(result) for path in paths for result in theirs.predict(str(path), **common)]

    def in_batches() -> list[Detections]:
        words = [str(path) for path in paths]
        return [_detections(result) for result in theirs.predict(words, batch=options.batch or 16, **common)]

    def ours() -> list[Detections]:
        found = predict_records(predictor, records, settings, None, "predicting")
        return [one.detections for one in found if one.detections is not None]

    arms: dict[str, Callable[[], list[Detections]]] = {"one by one": one_by_one, "ours": ours}
    if predictor.accepts.batch is None:
        arms["in batches"] = in_batches
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    processor: dict[str, list[float]] = {name: [] for name in arms}
    answers: dict[str, list[Detections]] = {}
    for turn in range(options.rounds + 1):
        for name, arm in arms.items():
            torch.set_num_threads(options.threads)
            started, worked = time.perf_counter(), time.process_time()
            answers[name] = arm()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - worked)
    return {
        **compare(answers["ours"], answers["one by one"]),
        **{f"pictures a second, {name}": len(paths) / min(took) for name, took in seconds.items()},
        "rate, ours by theirs": best_ratio(seconds),
        "processor time, theirs by ours": best_ratio(processor),
    }


def _detections(result: Any) -> Detections:
    rows = result.boxes.data.cpu().double().numpy()
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5])


def compare(ours: Sequence[Detections], theirs: Sequence[Detections]) -> dict[str, Any]:
    """How many boxes of either side have none of the same class at the same place with the same score on the other."""
    alone, differences = 0, [0.0]
    for one, other in zip(ours, theirs, strict=True):
        near = iou_matrix(one.boxes, other.boxes) >= LEAST_IOU
        near &= np.abs(one.scores[:, None] - other.scores[None]) <= SCORE_DIFFERENCE
        near &= one.classes[:, None] == other.classes[None]
        alone += int((~near.any(axis=1)).sum() + (~near.any(axis=0)).sum())
        rows, columns = np.nonzero(near)
        differences += np.abs(one.boxes[rows] - other.boxes[columns]).max(axis=1).tolist()
    return {
        "boxes of Ultralytics": sum(len(one) for one in theirs),
        "boxes of Marauder": sum(len(one) for one in ours),
        "boxes without a counterpart": alone,
        "greatest difference of a side, pixels": float(max(differences)),
    }


def best_ratio(seconds: dict[str, list[float]]) -> float:
    """The best round of the better of theirs by ours: what other work slowed down is in neither."""
    return min(min(values) for name, values in seconds.items() if name != "ours") / min(seconds["ours"])


if __name__ == "__main__":
    sys.exit(main())
