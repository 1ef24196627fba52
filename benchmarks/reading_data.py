"""Claim: check and organize of 6,000 pictures take no longer than at an earlier commit (ratio at most 1.1).

Makes a YOLO data set of crops of the real aquarium pictures (each with the label file of its picture, which is right
enough for a stopwatch), and the same as COCO and as Pascal VOC. Old and new tree take turns on them in processes of
their own: `data check` and `data organize` as whole commands, and `read_dataset` alone for each of the three layouts,
which must agree about the number of pictures and boxes. Prints medians of seconds and processor seconds with the ratios
of new to old, and peak memory (resident set). Exit status 1 where both ratios of a whole command pass the limit (other
work on the machine disturbs one more than the other), or where the trees disagree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

from peers import AQUARIUM_NAMES, processor_name, shared_data

LIMIT = 1.1
ROOT = Path(__file__).resolve().parents[1]
OPEN = """
import json, sys, time
from marauder.data.reading import read_dataset
started, worked = time.perf_counter(), time.process_time()
dataset = read_dataset(sys.argv[1])
times = [time.perf_counter() - started, time.process_time() - worked]
print(json.dumps([*times, len(dataset.records), sum(len(record.boxes) for record in dataset.records)]))
"""


@dataclass
class Measured:
    """What one arm took, one entry a repetition."""

    seconds: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    gigabytes: list[float] = field(default_factory=list)
    found: set[str] = field(default_factory=set)


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--old", required=True, metavar="COMMIT", help="the commit to compare the working tree with")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--data", type=Path, help="YOLO folder whose pictures are used; default: the aquarium")
    parser.add_argument("--folder", type=Path, help="where everything is made; default: temporary")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as temporary, old_tree(chosen.old, Path(temporary)) as old:
        sets, boxes = make_sets(chosen.data or shared_data() / "aquarium", Path(temporary), chosen.pictures)
        print(
            f"{processor_name()}, {len(os.sched_getaffinity(0))} cores; {chosen.pictures:,} pictures, {boxes:,} boxes"
        )
        print(f"old: {chosen.old}; medians of {chosen.repetitions}\n")
        print(f"{'':20}{'old':>10}{'new':>10}{'new / old':>11}{'processors':>12}{'new / old':>20}{'peak memory':>18}")
        output = Path(temporary) / "organized"
        commands = {
            "data check": ["data", "check", "--input", str(sets["yolo"])],
            "data organize": ["data", "organize", "--input", str(sets["yolo"]), "--output", str(output)],
        }
        arms = {name: ["-m", "marauder.cli.main", *words] for name, words in commands.items()}
        arms["data organize"] += ["--taxonomy", "source"]
        arms |= {f"read_dataset, {layout}": ["-c", OPEN, str(place)] for layout, place in sets.items()}
        failed = False
        for name, words in arms.items():
            before, after = Measured(), Measured()
            turns = [(old / "src", before), (ROOT / "src", after)]
            for repetition in range(chosen.repetitions):
                for source, arm in turns[:: -1 if repetition % 2 else 1]:
                    measure(words, source, arm, whole=name in commands)
                    shutil.rmtree(output, ignore_errors=True)
            failed |= show(name, before, after, judged=name in commands)
    return 1 if failed else 0


def show(name: str, before: Measured, after: Measured, judged: bool) -> bool:
    """Print one line of the table; returns whether the arm misses the claim."""
    old, new = statistics.median(before.seconds), statistics.median(after.seconds)
    old_worked, new_worked = statistics.median(before.worked), statistics.median(after.worked)
    worked = f"{old_worked:10.2f} s{new_worked:8.2f} s{new_worked / old_worked:10.2f}"
    memory = f"{max(before.gigabytes):9.2f}{max(after.gigabytes):6.2f} GB"
    slow = judged and min(new / old, new_worked / old_worked) > LIMIT
    disagree = len(before.found | after.found) > 1
    remark = f"  too slow: at most {LIMIT}" if slow else ""
    remark += f"  old finds {before.found}, new {after.found} pictures and boxes" if disagree else ""
    print(f"{name:20}{old:8.2f} s{new:8.2f} s{new / old:11.2f}{worked}{memory}{remark}", flush=True)
    return slow or disagree


def measure(words: list[str], source: Path, arm: Measured, whole: bool) -> None:
    """Run one process of the tree ``source``: as a ``whole``, or what it says that opening took."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], stdout=said, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        errors.seek(0)
        words_said = said.read().decode("utf-8", "replace")
        # Crops of one picture may look alike: `check` may end with 1, findings.
        if process.returncode not in (0, 1) or (process.returncode and not whole):
            raise SystemExit(f"{words[:4]} failed:\n{words_said[-2000:]}\n{errors.read().decode()[-4000:]}")
    worked = usage.ru_utime + usage.ru_stime
    if not whole:
        seconds, worked, *counts = json.loads(words_said.splitlines()[-1])
        arm.found.add(" and ".join(f"{count:,}" for count in counts))
    arm.seconds.append(seconds)
    arm.worked.append(worked)
    arm.gigabytes.append(usage.ru_maxrss / 1e6)


@contextmanager
def old_tree(commit: str, folder: Path) -> Iterator[Path]:
    """The commit, checked out below ``folder``; both trees compiled, so that nobody pays for it in a measurement."""
    tree = folder / "tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], check=True)
    try:
        for source in (tree / "src", ROOT / "src"):
            subprocess.run([sys.executable, "-m", "compileall", "-q", str(source)], check=True)
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def make_sets(data: Path, folder: Path, count: int) -> tuple[dict[str, Path], int]:
    """YOLO, COCO and VOC with the same ``count`` pictures (one file each, linked) and boxes; returns their folders."""
    sets = {layout: folder / layout for layout in ("yolo", "coco", "voc")}
    for place in ("yolo/images", "yolo/labels", "coco/images", "voc/JPEGImages", "voc/Annotations"):
        (folder / place).mkdir(parents=True)
    pictures = sorted((data / "images").glob("*.jpg"))
    images, annotations = [], []
    for number in range(count):
        source, turn = pictures[number % len(pictures)], number // len(pictures)
        lines = (data / "labels" / f"{source.stem}.txt").read_text(encoding="utf-8").splitlines()
        name = f"still{number:05}"
        width, height = crop(source, turn, sets["yolo"] / "images" / f"{name}.jpg")
        (sets["yolo"] / "labels" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        images.append({"id": number, "file_name": f"images/{name}.jpg", "width": width, "height": height})
        objects = []
        for line in lines:
            label, across, down, wide, high = int(line.split()[0]), *map(float, line.split()[1:5])
            left, top = (across - wide / 2) * width, (down - high / 2) * height
            box = [left, top, wide * width, high * height]
            about = {"category_id": label, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations), "image_id": number, "bbox": box, **about})
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, left + box[2], top + box[3]))
            sides = "".join(f"<{side}>{value:.3f}</{side}>" for side, value in corners)
            objects.append(f"<object><name>{escape(AQUARIUM_NAMES[label])}</name><bndbox>{sides}</bndbox></object>")
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{size}{''.join(objects)}</annotation>\n"
        (sets["voc"] / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
        for place in ("coco/images", "voc/JPEGImages"):
            os.link(sets["yolo"] / "images" / f"{name}.jpg", folder / place / f"{name}.jpg")
    (sets["yolo"] / "classes.txt").write_text("\n".join(AQUARIUM_NAMES) + "\n", encoding="utf-8")
    categories = [{"id": number, "name": name} for number, name in enumerate(AQUARIUM_NAMES)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (sets["coco"] / "instances.json").write_text(json.dumps(whole), encoding="utf-8")
    return sets, len(annotations)


def crop(source: Path, turn: int, target: Path) -> tuple[int, int]:
    """Half as wide and half as high, elsewhere for each of 12 turns and mirrored for the next 12; returns the size."""
    with Image.open(source) as picture:
        width, height = picture.width // 2, picture.height // 2
        left, top = width * (turn % 4) // 3, height * (turn // 4 % 3) // 2
        part = picture.crop((left, top, left + width, top + height))
    if turn // 12 % 2:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    part.save(target, quality=90 - turn // 24)
    return width, height


if __name__ == "__main__":
    sys.exit(main())
