"""How many planted label errors a person finds who looks at the most suspect pictures, beside random order.

    python benchmarks/planted_label_errors.py [--folder DIR] [--share 0.15] [--seeds 5]
    python benchmarks/planted_label_errors.py --data data.yaml --model best.pt
    python benchmarks/planted_label_errors.py --simulated 2.5

Half of Aquarium's clips train a small detector (minutes on an idle core; ``--folder`` keeps it, and the same command
goes on). ``--data`` and ``--model`` name other pictures, in a split "test", and a detector that has not seen them.
``--simulated`` takes no detector but made-up boxes on Aquarium (``simulated_detectors``: objects stand out from
distractors by so many standard deviations; classes are never confused): the method under a detector of that strength.
 In a share of the pictures of the other half one error is planted:
a box deleted (overlooked), moved to an IoU of 0.2 to 0.5 (badly located), or given another class. The pictures are
ranked as the quality page does, and the command prints the precision of the first 50 and the recall in the first 10 %
of pictures, over several plantings. Errors that the labels have of their own count as false alarms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marauder.annotation.agreement import View
from marauder.annotation.suspects import KINDS, find_suspects, ranked_pictures
from marauder.core.clock import Clock
from marauder.core.randomness import stream
from marauder.data.boxes import iou_matrix
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Detections, Record
from marauder.data.splits import split_dataset
from marauder.data.writers import write_yolo
from peers import AQUARIUM_NAMES, describe_machine, shared_data
from simulated_detectors import Assumptions, detect, make_scene

FIRST = 50
PART = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="detector that has not seen the test split; default: train one")
    parser.add_argument("--data", type=Path, help="data set with a split test; default: half of Aquarium")
    parser.add_argument("--simulated", type=float, metavar="STRENGTH", help="made-up boxes instead of a detector's")
    parser.add_argument("--folder", type=Path, help="where the trained detector is kept; default: nowhere")
    parser.add_argument("--share", type=float, default=0.15, help="share of the pictures that get an error")
    parser.add_argument("--seeds", type=int, default=5, help="plantings")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    if arguments.data is not None and arguments.model is None and arguments.simulated is None:
        parser.error("--data needs --model, a detector that has not seen its split test")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        data = arguments.data or halves(folder / "data")
        test = read_dataset(data).split("test")
        if arguments.simulated is not None:
            name, detections = "made-up boxes", simulate(test, arguments.simulated)
        else:
            model = arguments.model or train(folder, data, arguments)
            name, detections = model.name, look(model, test, arguments)
    print(describe_machine())
    print(f"{len(test)} pictures with {int(test.class_counts().sum())} boxes; {quality_of(name, test, detections)}")
    report(test, detections, arguments)


def halves(folder: Path) -> Path:
    """Aquarium with half of it in test, whole clips on one side."""
    dataset = read_dataset(shared_data() / "aquarium", names=AQUARIUM_NAMES)
    return write_yolo(split_dataset(dataset, {"train": 0.42, "val": 0.08, "test": 0.5}), folder)


def train(folder: Path, data: Path, arguments: argparse.Namespace) -> Path:
    """A small detector of the training half; called again with the same folder it goes on."""
    from marauder.runs.gated import run_gated
    from marauder.runs.recipes import load_run_settings
    from marauder.tasks.detection.settings import DetectionSettings

    begun = time.monotonic()
    words = [
        f"training.epochs={arguments.epochs}", f"training.device={arguments.device}", "training.patience=0",
        f"training.evaluate_every={max(1, arguments.epochs // 4)}", "training.close_mosaic_epochs=5",
        "gate.contract=off", "gate.drift=off", "gate.sanity=off", "gate.determinism=off", "tracking.trackers=[]",
        "registry.kind=none", "export.formats=[]", "evaluation.slices_each_epoch=false", "evaluation.draws=20",
        "evaluation.split=val",
    ]  # fmt: skip
    settings = load_run_settings(
        DetectionSettings,
        None,
        words,
        data=data,
        output=folder / "run",
        model="yolov8t",
        image_size=arguments.image_size,
        recipe="two_cores",
    )
    weights = run_gated(settings, Clock()).weights
    print(f"trained in {time.monotonic() - begun:.0f} s")
    return Path(weights)


def look(model: Path, test: Dataset, arguments: argparse.Namespace) -> list[Detections]:
    """What the detector sees in the test half."""
    from marauder.annotation.prelabels import prelabel
    from marauder.annotation.quality import LOWEST_CONFIDENCE
    from marauder.annotation.settings import PrelabelSettings

    settings = PrelabelSettings(confidence=LOWEST_CONFIDENCE, device=arguments.device)
    with tempfile.TemporaryDirectory() as scratch:
        found = prelabel(model, test.records, test.names, settings, Path(scratch) / "journal.jsonl", Clock())
    return [found.boxes[record.key] for record in test]


def simulate(test: Dataset, strength: float) -> list[Detections]:
    """Made-up boxes, those of a score under the lowest that labels are judged by left out."""
    from marauder.annotation.quality import LOWEST_CONFIDENCE

    scene = make_scene(test.records, Assumptions(strength, alike=0.5), seed=0)
    return [found.above(LOWEST_CONFIDENCE) for found in detect(scene, 0, "reviewer")]


def quality_of(name: str, test: Dataset, detections: Sequence[Detections]) -> str:
    from marauder.evaluation.matching import match
    from marauder.evaluation.metrics import aggregate

    return f"{name}: mAP50 {aggregate(match(test.records, detections, test.names)).map50:.3f} on them"


def plant(test: Dataset, share: float, seed: int) -> tuple[list[View], dict[str, str]]:
    """The labels with errors planted, and the kind of each by record key; kinds in turn, pictures at random."""
    generator = stream(seed, "planted")
    labels = [View(record.boxes, record.classes) for record in test]
    able = [place for place, record in enumerate(test) if len(record.boxes)]
    chosen = generator.choice(able, size=round(share * len(test)), replace=False)
    planted = {}
    for number, place in enumerate(chosen.tolist()):
        record, kind = test.records[place], KINDS[number % len(KINDS)]
        victim = int(generator.integers(len(record.boxes)))
        boxes, classes = record.boxes.copy(), record.classes.copy()
        if kind == "overlooked":
            boxes, classes = np.delete(boxes, victim, 0), np.delete(classes, victim)
        elif kind == "badly_located":
            boxes[victim] = moved(boxes[victim], record, generator)
        else:
            others = [index for index in range(len(test.names)) if index != classes[victim]]
            classes[victim] = int(generator.choice(others))
        labels[place] = View(boxes, classes)
        planted[record.key] = kind
    return labels, planted


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


def report(test: Dataset, detections: Sequence[Detections], arguments: argparse.Namespace) -> None:
    keys = [record.key for record in test]
    part = round(PART * len(keys))
    rows = []
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(arguments.seeds):
        labels, planted = plant(test, arguments.share, seed)
        ranked = ranked_pictures(find_suspects(keys, labels, detections))
        ranked += [key for key in keys if key not in set(ranked)]
        hits = np.array([key in planted for key in ranked])
        rows.append([hits[:FIRST].mean(), hits[:part].sum() / hits.sum()])
        for kind in KINDS:
            own = np.array([planted.get(key) == kind for key in ranked])
            by_kind[kind].append(float(own[:part].sum() / own.sum()))
    ours = np.array(rows)
    random = np.array([round(arguments.share * len(keys)) / len(keys), part / len(keys)])
    print(
        f"an error in {arguments.share:.0%} of the pictures, mean of {arguments.seeds} plantings (± standard deviation)"
    )
    print(f"{'':34}{'ranked':>16}{'random':>9}{'ratio':>8}")
    for column, name in enumerate((f"precision of the first {FIRST}", f"recall in the first {PART:.0%} ({part})")):
        value, spread = ours[:, column].mean(), ours[:, column].std()
        print(f"{name:34}{value:9.3f} ± {spread:.3f}{random[column]:9.3f}{value / random[column]:8.2f}")
    for kind, values in by_kind.items():
        print(f"  recall of {kind:22}{np.mean(values):9.3f} ± {np.std(values):.3f}{random[1]:9.3f}")


if __name__ == "__main__":
    main()
