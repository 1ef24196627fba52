"""From raw pictures, most of them without labels, to the critical-species detector, each step killed once on the way.

    python benchmarks/scarce_labels.py --folder DIR [--hide 0.5] [--no-kills] [--config configs/scarce_labels.yaml]

Hides the labels of half of Aquarium's clips, runs ``train_all``, kills each step once with SIGKILL and runs the same
command again; when the pipeline pauses for annotations, plays the provider: it sends the hidden labels back, moved by
a few pixels, as a COCO zip. The same command with the same DIR goes on after any interruption. Prints what each step
said, and how the detectors of steps 2 and 5 do on the test split.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from marauder.annotation.batch import find_batch
from marauder.core.files import atomic_path, read_json, read_lines, write_json, write_text
from marauder.core.randomness import stream
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.writers import label_text
from peers import AQUARIUM_NAMES, shared_data

REPOSITORY = Path(__file__).parents[1]
TRAIN_ALL = REPOSITORY / "training" / "train_all.py"
MOMENTS = {
    "preprocessing": (0.5, 2.0), "pretraining": (5.0, 20.0), "baseline": (5.0, 30.0), "active_learning": (1.0, 6.0),
    "annotation": (0.5, 2.0), "critical": (5.0, 60.0), "export": (1.0, 8.0),
}  # fmt: skip
"""Seconds into a step between which its kill comes."""
STEPS = tuple(MOMENTS)
PAUSED = 4


def prepare(folder: Path, share: float, seed: int) -> Dataset:
    """Copy the pictures to ``raw/images``, and labels of the clips that keep theirs to ``raw/labels``; returns all."""
    dataset = read_dataset(shared_data() / "aquarium", names=AQUARIUM_NAMES)
    groups = sorted({record.group for record in dataset})
    random.Random(seed).shuffle(groups)
    hidden: set[str] = set()
    for group in groups:
        if sum(record.group in hidden for record in dataset) < share * len(dataset):
            hidden.add(group)
    raw = folder / "raw"
    for record in dataset:
        picture = raw / "images" / record.picture.name
        if not picture.exists():
            with atomic_path(picture) as temporary:
                temporary.write_bytes(record.picture.read_bytes())
        if record.group not in hidden:
            write_text((raw / "labels" / record.picture.name).with_suffix(".txt"), label_text(record))
    write_text(raw / "classes.txt", "\n".join(dataset.names) + "\n")
    kept = sum(record.group not in hidden for record in dataset)
    print(f"{len(dataset)} pictures in {len(groups)} clips; {kept} keep their labels, {len(dataset) - kept} lose them")
    return dataset


def answer(record: Record, jitter: float, seed: int, who: str) -> list[tuple[int, list[float]]]:
    """A person's boxes: the true ones, each side moved by a normal error of ``jitter`` of the box's size."""
    draw = stream(seed, "annotator", who, record.key)
    found = []
    for box, index in zip(record.boxes, record.classes):
        size = np.tile(box[2:] - box[:2], 2)
        moved = box + draw.normal(0, jitter, 4) * size
        moved = np.clip(moved, 0, [record.width, record.height] * 2)
        found.append((int(index), [float(value) for value in (moved[0], moved[1], *(moved[2:] - moved[:2]))]))
    return found


def deliver(root: Path, dataset: Dataset, seed: int) -> None:
    """What the provider sends back for the open batch: one COCO file over both packages, as a zip in the inbox."""
    batch = find_batch(root / "annotation" / "outbox")
    assert batch is not None
    truth = {record.picture.stem: record for record in dataset}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in batch.items:
        record = truth[item.picture.stem]
        for who, file in (("first", item.file), ("second", item.second_file)):
            if not file:
                continue
            images.append({"id": len(images), "file_name": file, "width": record.width, "height": record.height})
            for index, box in answer(record, 0.02, seed, who):
                annotations.append({
                    "id": len(annotations), "image_id": len(images) - 1, "category_id": index, "bbox": box,
                    "area": box[2] * box[3], "iscrowd": 0,
                })  # fmt: skip
    categories = [{"id": index, "name": name} for index, name in enumerate(dataset.names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with (
        atomic_path(root / "annotation" / "inbox" / f"{batch.id}.zip") as temporary,
        zipfile.ZipFile(temporary, "w") as z,
    ):
        z.writestr("annotations.json", json.dumps(content))
    print(
        f"delivered: {len(batch.items)} pictures, {len(annotations)} boxes (pictures of the overlap twice)", flush=True
    )


def run(root: Path, arguments: argparse.Namespace, log: Path, kill: set[str]) -> int:
    """Run ``train_all`` once, killing it in the first step of ``kill`` that starts; returns its exit status."""
    words = [
        sys.executable,
        str(TRAIN_ALL),
        "--root",
        str(root),
        "--config",
        str(arguments.config),
        *arguments.overrides,
    ]
    words.append(f"preprocessing.organize.inputs=['{arguments.folder / 'raw'}']")
    seen = {step: attempts(root, step) for step in STEPS}
    with log.open("ab") as stream_:
        process = subprocess.Popen(words, stdout=stream_, stderr=stream_, start_new_session=True)
    chooser = random.Random(f"{arguments.seed} {sorted(kill)}")
    while process.poll() is None:
        time.sleep(0.05)
        for step in sorted(kill, key=STEPS.index):
            if attempts(root, step) > seen[step]:
                time.sleep(chooser.uniform(*MOMENTS[step]))
                if process.poll() is not None or ended(root, step):
                    kill.discard(step)  # too quick to be caught; the next command would find it done
                    print(f"  {step} had ended before it could be killed", flush=True)
                    break
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kill.discard(step)
                print(f"  killed in {step}", flush=True)
                break
    return process.wait()


def attempts(root: Path, step: str) -> int:
    """How often a step was started."""
    return sum(row.get("kind") == "started" for row in events(root, step))


def ended(root: Path, step: str) -> bool:
    """Whether the last thing that a step wrote is an end."""
    rows = events(root, step)
    return bool(rows) and rows[-1].get("kind") != "started"


def events(root: Path, step: str) -> list[dict[str, Any]]:
    """What a step wrote down of its runs."""
    rows: list[dict[str, Any]] = read_lines(root / "training" / "runs" / step / "events.jsonl")
    return rows


def finish(root: Path, arguments: argparse.Namespace, dataset: Dataset) -> None:
    """Run, kill and deliver until the pipeline is done."""
    log = arguments.folder / "train_all.log"
    marks = arguments.folder / "killed.json"
    kill = set() if arguments.no_kills else {*STEPS} - set(read_json(marks) if marks.is_file() else [])
    begun = time.monotonic()
    while True:
        status = run(root, arguments, log, kill)
        write_json(marks, sorted({*STEPS} - kill))
        if status == PAUSED:
            deliver(root, dataset, arguments.seed)
        elif status == 0:
            break
        elif status != -signal.SIGKILL:
            sys.exit(f"train_all left with status {status}; see {log}")
    print(f"done in {(time.monotonic() - begun) / 60:.1f} min")


def main() -> None:
    """Do it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where pictures and workspace go")
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs" / "scarce_labels.yaml")
    parser.add_argument("--hide", type=float, default=0.5, help="share of the pictures that lose their labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="step.setting=value")
    arguments = parser.parse_intermixed_args()
    arguments.folder = arguments.folder.absolute()
    root = arguments.folder / "workspace"
    dataset = prepare(arguments.folder, arguments.hide, arguments.seed)
    finish(root, arguments, dataset)
    for step in STEPS:
        record = read_json(root / "training" / "runs" / step / "step.json")
        summary = {name: value for name, value in record["summary"].items() if name != "report"}
        print(f"{step}: {record['seconds'] / 60:.1f} min, {summary}")


if __name__ == "__main__":
    main()
