"""A small data set with unlabelled pictures, a batch of these, and a provider who labels them as the truth says."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from marauder.annotation.batch import Batch, BatchItem, PackageRecord, write_batch
from marauder.annotation.formats.base import Item, Package
from marauder.annotation.settings import AnnotationSettings
from marauder.core.clock import Clock
from marauder.core.files import hash_file
from marauder.core.plugins import make
from marauder.core.randomness import stream
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.writers import write_yolo

NAMES = ("fish", "starfish", "stingray")
WIDTH, HEIGHT = 96, 72
PICTURES, HIDDEN = 16, 10
OVERLAP = 3


@dataclass(frozen=True, eq=False)
class World:
    """``truth``: what a perfect annotator says, by record key; ``settings``: of step 4."""

    root: Path
    settings: AnnotationSettings
    batch: Batch
    truth: dict[str, Record]

    def part(self, part: str = "first") -> list[BatchItem]:
        return [item for item in self.batch.items if part == "first" or item.second_file]


def make_world(root: Path, formats: tuple[str, ...] = ("mindy",)) -> World:
    """16 pictures in groups of two, six labelled (train, val, test), ten hidden; three of these go out twice."""
    pictures = root / "pictures"
    pictures.mkdir(parents=True)
    records, truth = [], {}
    for number in range(PICTURES):
        generator = stream(5, "world", number)
        pixels = np.kron(generator.integers(0, 255, (9, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        path = pictures / f"dive {number:02d}.jpg"
        Image.fromarray(pixels).save(path, quality=95)
        boxes, classes = make_labels(number)
        group = f"clip{number // 2}" if number < HIDDEN else f"clip{number - HIDDEN}"
        split = None if number < HIDDEN else ("train", "val", "test", "train", "val", "train")[number - HIDDEN]
        record = Record(f"dive/{number:02d}", path, WIDTH, HEIGHT, boxes, classes, group=group, split=split)
        truth[record.key] = record
        hidden = number < HIDDEN
        records.append(replace(record, boxes=[], classes=[], ignored=[], labelled=False) if hidden else record)
    write_yolo(Dataset(NAMES, tuple(records)), root / "data")
    settings = AnnotationSettings(
        data=root / "data" / "data.yaml",
        outbox=root / "outbox",
        inbox=root / "inbox",
        output=root / "merged",
        formats=formats,
    )
    settings.inbox.mkdir()
    return World(root, settings, make_batch(settings, truth, formats), truth)


def make_labels(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) and classes (n,) of a picture; every fifth is empty."""
    generator = stream(6, "labels", number)
    count = 0 if number % 5 == 4 else int(generator.integers(1, 5))
    corner = np.stack([generator.uniform(0, WIDTH - 30, count), generator.uniform(0, HEIGHT - 30, count)], 1)
    boxes = np.concatenate([corner, corner + generator.uniform(10, 29, (count, 2))], 1).round(1)
    return boxes, generator.integers(0, len(NAMES), count)


def make_batch(settings: AnnotationSettings, truth: Mapping[str, Record], formats: tuple[str, ...]) -> Batch:
    """A batch of what the data set has unlabelled, with pre-labels that are the truth a little off."""
    items = []
    for number, record in enumerate(one for one in read_dataset(settings.data) if not one.labelled):
        boxes = np.clip(truth[record.key].boxes + 1.0, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        items.append(
            BatchItem(
                key=record.key,
                picture=record.picture,
                file=f"dive_{record.key[-2:]}.jpg",
                second_file=f"again_{record.key[-2:]}.jpg" if number < OVERLAP else "",
                sha256=hash_file(record.picture),
                size=(WIDTH, HEIGHT),
                boxes=boxes,
                classes=truth[record.key].classes,
                scores=np.linspace(0.9, 0.5, len(boxes)),
            )
        )
    batch = Batch("batch-1", str(settings.data), NAMES, tuple(items), formats, "2026-01-01T00:00:00Z", "open")
    batch = replace(batch, packages=(PackageRecord("coco", "first", "x.zip", "0" * 64, 1, len(items)),))
    write_batch(settings.outbox, batch)
    return batch


def deliver(
    world: World,
    name: str,
    format_name: str = "coco",
    parts: tuple[str, ...] = ("first", "second"),
    keys: Callable[[str], bool] = lambda key: True,
    change: Callable[[Path], None] = lambda folder: None,
    truth: Mapping[str, Record] | None = None,
) -> Path:
    """The delivery ``<inbox>/<name>`` with the truth as labels: a zip, or a folder where the name has no .zip.

    ``keys``: which pictures; ``change``: what is done to each part's unpacked folder before it is packed.
    """
    known = truth or world.truth
    work = world.root / "provider" / name
    for part in parts:
        items = []
        for item in world.part(part):
            if keys(item.key):
                file = item.file if part == "first" else item.second_file
                one = known[item.key]
                items.append(Item(item.key, file, item.picture, *item.size, one.boxes, one.classes))
        package = Package(f"{part}", world.batch.id, NAMES, tuple(items))
        layout = make("annotation_format", format_name)
        with zipfile.ZipFile(layout.write(package, work, Clock())) as archive:
            archive.extractall(work / part)
        submit(format_name, work / part)
        change(work / part)
    target = world.settings.inbox / name
    files = [file for part in parts for file in sorted((work / part).rglob("*")) if file.is_file()]
    if name.endswith(".zip"):
        with zipfile.ZipFile(target, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(work).as_posix())
    else:
        for file in files:
            place = target / file.relative_to(work)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    return target


def submit(format_name: str, folder: Path) -> None:
    """What the provider's tool does with confirmed suggestions, where that is not the same file."""
    if format_name == "label_studio":
        tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        for task in tasks:
            regions = [region for one in task["predictions"] for region in one["result"]]
            task["annotations"] = [{"result": regions, "was_cancelled": False}]
        (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    if format_name == "mindy":
        (folder / "prelabels.json").rename(folder / "annotations.json")


def same_labels(one: Record, other: Record, tolerance: float = 0.02) -> bool:
    """Whether two records have the same boxes with the same classes, in any order."""
    if len(one.boxes) != len(other.boxes):
        return False

    def ordered(record: Record) -> np.ndarray:
        rows = np.concatenate([record.classes[:, None], record.boxes], 1)
        return rows[np.lexsort(rows.round(1).T[::-1])]

    return bool(np.allclose(ordered(one), ordered(other), atol=tolerance))
