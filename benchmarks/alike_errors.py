"""How alike the errors of two real detectors are, in the terms of ``simulated_detectors`` and gates.py.

    python benchmarks/alike_errors.py --weights yolov8n_coco.pt --output DIR --results alike_errors.jsonl

``gates.py`` assumes by how much the hardness of a box is common to production and candidate. Here both are trained:
production is ``plain``; candidates are the same training with ``another_seed``, one with a tenth of the labels of the
most frequent class taken out (``labels_lost``), and production trained on for half as long (``continued``). Both look
at the split test, and of every box the score counts that each gives it (IoU 0.5, its class). ``alike``: the correlation
of two normal variables whose ranks agree as these scores do, which is what the simulation states, whatever the scale of
the scores. ``noise``: standard error of the difference in mAP50, in points, as of 300 pictures. Each seed has its own
split. ``small``: 4 trainings of 2 to 4 minutes a seed on one core, 36 minutes for three seeds; ``full``: some hours of
a GPU (estimated).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector_trainings import (
    SCALES,
    add_training_options,
    epochs_for,
    parse,
    run_trainings,
    shared_by_all,
    train_detector,
)
from peers import SHARES, prepare_pictures
from tables import Finding, Line, by_seed, by_table, interval, judge, seeds_of

if TYPE_CHECKING:
    from marauder.data.records import Dataset
    from marauder.tasks.detection.evaluate_split import Measured

PLAIN = "plain"
ARMS = {
    PLAIN: "production",
    "another_seed": "the same training with another seed",
    "labels_lost": "a tenth of the labels of a class lost",
    "continued": "production trained on",
}
SPLITS = {**SHARES, "aquarium": {"train": 0.5, "val": 0.1, "test": 0.4}}
LOST = 0.1
PICTURES = 300
"""Of a slice in gates.py."""
CLAIMED = 0.9
"""The likeness that the regression gate's targets are stated for."""
ROWS = (0.9, 0.8, 0.6)
"""Those that gates.py has figures of."""


def without_some_labels(dataset: Dataset, seed: int) -> Dataset:
    """The data set with a share ``LOST`` of the training boxes of its most frequent class taken out."""
    from marauder.core.randomness import stream

    most = int(np.argmax(dataset.class_counts()))
    records = []
    for record in dataset:
        lost = (record.classes == most) & (stream(seed, "lost", record.key).random(len(record.classes)) < LOST)
        keep = ~lost if record.split == "train" else np.ones(len(lost), bool)
        records.append(record.with_boxes(keep))
    return dataset.with_records(records)


def train_arm(training: Line, arm: str, root: Path, data: Path) -> Path:
    """The best weights of an arm, trained unless they are there."""
    from marauder.data.reading import read_dataset
    from marauder.data.writers import write_yolo

    scale, words, epochs = SCALES[training["scale"]], (), None
    if arm == "another_seed":
        training = {**training, "seed": training["seed"] + 1000}
    if arm == "labels_lost":
        data = write_yolo(without_some_labels(read_dataset(data), training["seed"]), root / "data_lost")
    if arm == "continued":
        epochs = max(1, epochs_for(len(read_dataset(data).split("train")), scale) // 2)
        training = {**training, "start": str(train_arm(training, PLAIN, root, data))}
    return train_detector(training, scale, data, root / arm, words, epochs)


def train_and_measure(training: Line) -> Line:
    """One detector; unless it is production itself, with what it has in common with that."""
    from marauder.data.reading import read_dataset
    from marauder.engine.distributed import choose_device
    from marauder.evaluation.comparison import compare
    from marauder.evaluation.likeness import box_scores, correlation_of_errors
    from marauder.gates.plan import load_gates
    from marauder.tasks.detection.evaluate_split import evaluate_split

    started, root, name = time.perf_counter(), Path(training["folder"]), training["pictures"]
    data = prepare_pictures(name, root / "data", training["seed"], SPLITS[name])
    dataset, size = read_dataset(data), SCALES[training["scale"]].image_size
    device = choose_device(training["device"])

    def look(arm: str) -> Measured:
        return evaluate_split(train_arm(training, arm, root, data), dataset, "test", device, None, size)

    found = look(training["arm"])
    line: Line = {"map50": found.result.overall.map50, "boxes": found.result.overall.boxes}
    if training["arm"] != PLAIN:
        production = look(PLAIN)
        gate = load_gates().gate("regression")
        both = (found.result.matches, production.result.matches)
        difference = compare(*both, found.records, (), draws=gate.settings.draws, seed=training["seed"])
        overall = difference.overall
        line |= {
            "alike": correlation_of_errors(*(box_scores(one) for one in both)),
            "delta": overall.delta,
            "noise": 100 * overall.error * math.sqrt(overall.pictures / PICTURES),
            "clips": overall.groups,
            "gate": gate.judge(gate.evidence_model(difference)).answer,
        }
    return {**line, "seconds": time.perf_counter() - started}


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    words = f"seed {key['seed']} {key['arm']:14} mAP50 {line['map50']:.3f}"
    if "alike" in line:
        words += f" ({100 * line['delta']:+.1f} points), alike {line['alike']:.2f}, noise {line['noise']:.2f} points"
        words += f" of {PICTURES} pictures, gate: {line['gate']}"
    return f"{words}, {line['seconds']:.0f} s"


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: of each data set and kind of candidate, whether the gate's assumption holds."""
    found = []
    for where, here in by_table(lines).items():
        for arm, title in ARMS.items():
            values = list(by_seed(here, arm, "alike").values()) if arm != PLAIN else []
            if not values:
                continue
            alike = interval(values)
            noise = interval(list(by_seed(here, arm, "noise").values()))
            nearest = min(ROWS, key=lambda row: abs(row - alike.mean))
            found.append(
                Finding(
                    f"Regression gate ({where}): errors as alike as {CLAIMED:g}; {title}",
                    f"{alike.describe('.2f')}; noise {noise.mean:.2f} points of {PICTURES} pictures",
                    judge(alike, CLAIMED),
                    f"of the table in docs/gates.md the rows with errors alike {nearest:g} apply",
                )
            )
    return found


def main() -> None:
    """Train what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS)
    arguments = parse(parser, train_and_measure)
    # Production first, since the others are compared with it.
    arms = sorted(arguments.arms, key=lambda arm: arm != PLAIN)
    shared = shared_by_all(arguments)
    keys = [{"arm": arm, "seed": seed, **shared} for seed in seeds_of(arguments) for arm in arms]
    for found in findings(run_trainings(__file__, arguments, keys, told)):
        print(f"{found.question}\n  {found.figure}: {found.verdict}\n  {found.consequence}")


if __name__ == "__main__":
    main()
