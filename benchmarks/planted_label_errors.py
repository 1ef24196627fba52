"""How many planted label errors a person finds who looks at the most suspect pictures, beside random order.

    python benchmarks/planted_label_errors.py --weights yolov8n_coco.pt --output DIR --results planted.jsonl
    python benchmarks/planted_label_errors.py --simulated 2.5

In a share of all pictures one error is planted: a box deleted (overlooked), moved to an IoU of 0.2 to 0.5 (badly
located), or given another class. Half of the clips are checked, as a delivery is; a detector suspects their labels that
was trained on the other half (``other_half``: with its errors, as a user's detector is; ``clean``: without them), or on
the checked pictures themselves, errors and all (``same_half``). The pictures are ranked as the quality page does: the
figures are the precision of the first 50 and the recall in the first 10 % of pictures. Errors that the labels have of
their own count as false alarms. Each seed has its own halves, errors and training.

``--simulated`` trains nothing but makes boxes up (``simulated_detectors``: objects stand out from distractors by so
many standard deviations; classes are never confused): the method under a detector of that strength. ``small``: 2 to 4
minutes a training on one core, 30 for all of three seeds; ``full``: some hours of a GPU (estimated).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector_trainings import (
    SCALES,
    add_training_options,
    parse,
    relabelled,
    run_trainings,
    shared_by_all,
    train_detector,
)
from marauder.annotation.agreement import View
from marauder.annotation.suspects import KINDS, find_suspects, ranked_pictures
from marauder.core.randomness import stream
from marauder.data.boxes import iou_matrix
from peers import NAMES, prepare_pictures, shared_data
from tables import Finding, Line, by_seed, by_table, interval, seeds_of

if TYPE_CHECKING:
    from marauder.data.records import Dataset, Detections, Record

FIRST = 50
PART = 0.1
HALVES = {"train": 0.42, "val": 0.08, "test": 0.5}
ARMS = {
    "other_half": "trained on other pictures with such errors",
    "clean": "trained on other pictures without errors",
    "same_half": "trained on these labels, errors and all",
}


def plant(records: Sequence[Record], classes: int, share: float, seed: int) -> tuple[list[Record], dict[str, str]]:
    """The records with errors planted, and the kind of each by record key; kinds in turn, pictures at random."""
    generator = stream(seed, "planted")
    kinds = [kind for kind in KINDS if classes > 1 or kind != "wrong_class"]
    able = [place for place, record in enumerate(records) if len(record.boxes)]
    chosen = generator.choice(able, size=min(len(able), round(share * len(records))), replace=False)
    found, planted = list(records), {}
    for number, place in enumerate(chosen.tolist()):
        record, kind = records[place], kinds[number % len(kinds)]
        victim = int(generator.integers(len(record.boxes)))
        boxes, indices = record.boxes.copy(), record.classes.copy()
        if kind == "overlooked":
            boxes, indices = np.delete(boxes, victim, 0), np.delete(indices, victim)
        elif kind == "badly_located":
            boxes[victim] = moved(boxes[victim], record, generator)
        else:
            others = [index for index in range(classes) if index != indices[victim]]
            indices[victim] = int(generator.choice(others))
        found[place] = relabelled(record, boxes, indices)
        planted[record.key] = kind
    return found, planted


def moved(box: np.ndarray, record: Record, generator: np.random.Generator) -> np.ndarray:
    """The box somewhere near and of another size, inside the picture, at an IoU of 0.2 to 0.5 with where it was."""
    size = box[2:] - box[:2]
    limits = np.array([record.width, record.height, record.width, record.height], np.float64)
    while True:
        change = generator.uniform(-0.6, 0.6, 4) * np.concatenate([size, size])
        other = np.clip(box + change, 0, limits)
        overlap = iou_matrix(box[None], other[None])[0, 0] if (other[2:] - other[:2] > 2).all() else 0.0
        if 0.2 <= overlap <= 0.5:
            return np.asarray(other)


def figures(records: Sequence[Record], planted: dict[str, str], detections: Sequence[Detections]) -> Line:
    """What a person finds in the pictures shown first; ``random``: the precision of a random order."""
    keys = [record.key for record in records]
    labels = [View(record.boxes, record.classes) for record in records]
    ranked = ranked_pictures(find_suspects(keys, labels, detections))
    ranked += [key for key in keys if key not in set(ranked)]
    part = round(PART * len(keys))
    kinds = [planted.get(key) for key in ranked]
    recall = {
        f"recall_{kind}": kinds[:part].count(kind) / kinds.count(kind) for kind in KINDS if kinds.count(kind)
    }  # fmt: skip
    return {
        "precision": sum(kind is not None for kind in kinds[:FIRST]) / min(FIRST, len(keys)),
        "random": len(planted) / len(keys),
        "recall": sum(kind is not None for kind in kinds[:part]) / len(planted),
        **recall,
        "pictures": len(keys),
    }


def train_and_measure(training: Line) -> Line:
    """One detector, what it suspects, and how good it is on the true labels of the checked pictures."""
    from marauder.annotation.prelabels import prelabel
    from marauder.annotation.quality import LOWEST_CONFIDENCE
    from marauder.annotation.settings import PrelabelSettings
    from marauder.core.clock import Clock
    from marauder.data.reading import read_dataset
    from marauder.data.writers import write_yolo

    started, root, scale = time.perf_counter(), Path(training["folder"]), SCALES[training["scale"]]
    seed, arm = training["seed"], training["arm"]
    dataset = read_dataset(prepare_pictures(training["pictures"], root / "data", seed, HALVES))
    classes, share = len(dataset.names), training["share"]
    checked, planted = plant(dataset.split("test").records, classes, share, seed)
    learned = [record for record in dataset if record.split != "test"]
    if arm != "clean":
        learned, _ = plant(learned, classes, share, seed + 1000)
    if arm == "same_half":
        learned = [record for record in learned if record.split == "val"]
        learned += [replace(record, split="train") for record in checked]
    data = write_yolo(dataset.with_records(learned), root / f"data_{arm}")
    model = train_detector(training, scale, data, root / arm, ("evaluation.split=val",))
    settings = PrelabelSettings(
        confidence=LOWEST_CONFIDENCE, image_size=scale.image_size, device=training["device"]
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        journal = Path(scratch) / "journal.jsonl"
        boxes = prelabel(model, checked, dataset.names, settings, journal, Clock()).boxes
    detections = [boxes[record.key] for record in checked]
    found = {**figures(checked, planted, detections), "map50": quality_of(dataset.split("test"), detections)}
    return {**found, "seconds": time.perf_counter() - started}


def simulate(pictures: str, strength: float, share: float, seed: int) -> Line:
    """The figures of made-up boxes on half of a data set, those of a score under the lowest that counts left out."""
    from marauder.annotation.quality import LOWEST_CONFIDENCE
    from marauder.data.reading import read_dataset
    from marauder.data.splits import split_dataset
    from simulated_detectors import Assumptions, detect, make_scene

    dataset = split_dataset(read_dataset(shared_data() / pictures, names=NAMES[pictures]), HALVES)
    test = dataset.split("test")
    scene = make_scene(test.records, Assumptions(strength, alike=0.5), seed=0)
    detections = [found.above(LOWEST_CONFIDENCE) for found in detect(scene, 0, "reviewer")]
    labels, planted = plant(test.records, len(test.names), share, seed)
    return {**figures(labels, planted, detections), "map50": quality_of(test, detections)}


def quality_of(test: Dataset, detections: Sequence[Detections]) -> float:
    """mAP50 of the boxes on the true labels."""
    from marauder.evaluation.matching import match
    from marauder.evaluation.metrics import aggregate

    return aggregate(match(test.records, detections, test.names)).map50


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    recalls = ", ".join(f"{kind} {line[f'recall_{kind}']:.2f}" for kind in KINDS if f"recall_{kind}" in line)
    return (
        f"seed {key['seed']} {key['arm']:10} mAP50 {line['map50']:.3f}: precision of the first {FIRST} "
        f"{line['precision']:.2f} (random {line['random']:.2f}), recall in the first {PART:.0%} of {line['pictures']} "
        f"pictures {line['recall']:.2f} ({recalls}), {line.get('seconds', 0):.0f} s"
    )


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: what each kind of detector finds, of each data set and scale."""
    found = []
    for where, here in by_table(lines).items():
        for arm, title in ARMS.items():
            precision = by_seed(here, arm, "precision")
            if not precision:
                continue
            chance = by_seed(here, arm, "random")
            quality = interval(list(by_seed(here, arm, "map50").values())).mean
            gain = interval([precision[seed] - chance[seed] for seed in precision])
            figure = interval(list(precision.values())).describe(".2f")
            finds = "the page finds more errors than chance" if gain.low > 0 else "no better than chance is shown"
            found.append(
                Finding(
                    f"Step 4 ({where}): share of the first {FIRST} suspect pictures with a planted error; "
                    f"detector {title}, mAP50 {quality:.2f}",
                    f"{figure}, by chance {interval(list(chance.values())).mean:.2f}",
                    "measured",
                    finds,
                )
            )
    return found


def main() -> None:
    """Train what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.15, help="share of the pictures that get an error")
    parser.add_argument("--simulated", type=float, metavar="STRENGTH", help="made-up boxes instead of detectors")
    add_training_options(parser, ARMS)
    arguments = parse(parser, train_and_measure)
    if arguments.simulated is not None:
        lines = []
        for seed in seeds_of(arguments):
            found = simulate(arguments.pictures, arguments.simulated, arguments.share, seed)
            lines.append({"training": {"arm": "simulated", "seed": seed}, **found})
            print(told(lines[-1]))
        for name in ("precision", "recall"):
            print(f"{name}: {interval(list(by_seed(lines, 'simulated', name).values())).describe('.3f')}")
        return
    shared = {"share": arguments.share, **shared_by_all(arguments)}
    keys = [{"arm": arm, "seed": seed, **shared} for seed in seeds_of(arguments) for arm in arguments.arms]
    for found in findings(run_trainings(__file__, arguments, keys, told)):
        print(f"{found.question}\n  {found.figure}: {found.verdict}\n  {found.consequence}")


if __name__ == "__main__":
    main()
