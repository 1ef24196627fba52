"""Plain YOLO: ``images/``, ``labels/`` with one text file a picture, ``data.yaml`` and ``classes.txt``.

A label file without lines says that nothing is there; a picture without a label file was not answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from marauder.annotation.formats.base import AnnotationFormat, Item, Package, Reading, Size
from marauder.annotation.formats.collecting import LARGEST_NUMBER, Collector, clean_text, files_with, read_text, sniff
from marauder.annotation.formats.package_files import PICTURES, common_entries
from marauder.annotation.packing import Entry
from marauder.core.errors import UserError
from marauder.core.yaml_text import parse_yaml
from marauder.data.readers.yolo import parse_label_line
from marauder.data.records import Record
from marauder.data.writers import label_text

LABEL_FOLDERS = frozenset({"labels", "label", "obj_train_data", "obj_valid_data", "obj_test_data"})
CLASS_FILES = ("classes.txt", "obj.names", "names.txt", "_darknet.labels")
NO_LABELS = re.compile(r"^(classes|names|train|val|valid|test|obj|labels|readme.*|notes?|licen[cs]e)$", re.IGNORECASE)
LARGEST_FRACTION = 2.0
"""A box may reach over the border, but a value above this is in pixels or per cent."""


class YoloFormat(AnnotationFormat):
    """YOLO detection labels, as Ultralytics reads them."""

    name = "yolo"
    how_to = (
        "Loading it: labels/ holds one text file a picture, one box a line: class number, centre x, centre y, width, "
        "height, as fractions of the picture; numbers count from 0 in the order of classes.txt. Send back labels/ with "
        "a file for every picture (an empty one where nothing is there), and classes.txt."
    )

    def entries(self, package: Package) -> Iterator[Entry]:
        content = {"path": ".", "train": PICTURES, "val": PICTURES, "names": dict(enumerate(package.names))}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        yield Entry("data.yaml", text.encode("utf-8"))
        for item in package.items:
            yield Entry(f"labels/{Path(item.file).stem}.txt", _label_text(item).encode("utf-8"))
        yield from common_entries(package)

    def recognises(self, folder: Path) -> bool:
        if any(_is_data_yaml(path) for path in files_with(folder, ".yaml", ".yml")):
            return True
        texts = files_with(folder, ".txt", ".names")
        if any(path.parent.name.lower() in LABEL_FOLDERS for path in texts):
            return True
        return any(_starts_with_a_label(path) for path in texts if not NO_LABELS.match(path.stem))

    def read(self, folder: Path, expected: Mapping[str, Size], names: Sequence[str] = ()) -> Reading:
        collector = Collector(folder, expected)
        labels = _label_files(folder)
        stated = _stated_names(folder, collector)
        boxes = [found for path in labels for found in _read_labels(path, collector)]
        collector.names.extend(stated.values())
        known, first = stated, 0
        if not stated:
            known, first = _sent_names(folder, collector, names, [index for _, _, _, index, _ in boxes])
        for path, file, line, index, fractions in boxes:
            width, height = expected[file]
            x0, y0, x1, y1 = fractions
            box = (x0 * width, y0 * height, x1 * width, y1 * height)
            name = known.get(index - first, f"class {index}")
            collector.add(file, box, name, f"class {index}", path, line)
        if not labels:
            message = "no label files (labels/*.txt) in the delivery; export it as YOLO"
            collector.problem(folder, "label-syntax", message)
        return collector.reading()


_Found = tuple[Path, str, int, int, tuple[float, float, float, float]]


def _label_text(item: Item) -> str:
    return label_text(Record(item.key, item.picture, item.width, item.height, item.boxes, item.classes))


def _label_files(folder: Path) -> list[Path]:
    """Text files in folders of labels; where there are none, all that are not called like a class list or a README."""
    texts = files_with(folder, ".txt")
    inside = [path for path in texts if LABEL_FOLDERS & {part.lower() for part in path.relative_to(folder).parts[:-1]}]
    chosen = inside or texts
    return [path for path in chosen if not NO_LABELS.match(path.stem)]


def _read_labels(path: Path, collector: Collector) -> list[_Found]:
    file = collector.open(path, None, path.stem, path.name)
    if file is None:
        return []
    found: list[_Found] = []
    for number, line in enumerate(read_text(path, collector).splitlines(), 1):
        if not line.strip():
            continue
        try:
            index, box = parse_label_line(line)
        except (ValueError, OverflowError) as error:
            message = f"{clean_text(str(error))}; write: class x_centre y_centre width height"
            collector.problem(path, "label-syntax", message, number, file)
            continue
        if max(map(abs, box)) > LARGEST_FRACTION:
            message = f"{clean_text(line, 60)!r}: fractions of the picture are expected, not pixels or per cent"
            collector.problem(path, "number-invalid", message, number, file)
        elif abs(index) > LARGEST_NUMBER:
            collector.problem(path, "class-missing", f"{clean_text(line, 60)!r}: no class number", number, file)
        else:
            if len(line.split()) > 5:
                collector.problem(path, "shape-converted", "polygon; the box around it is taken", number, file)
            found.append((path, file, number, index, box))
    return found


def _stated_names(folder: Path, collector: Collector) -> dict[int, str]:
    """Class names by number, of a data.yaml or a class list in the delivery; none when there is neither."""
    for path in files_with(folder, ".yaml", ".yml"):
        text = read_text(path, collector)
        try:
            content = parse_yaml(text, lambda line, path=path: f"{path.name}:{line}").content  # type: ignore[misc]
        except UserError as error:
            collector.problem(path, "label-syntax", f"{clean_text(str(error))}; class names are not taken from it")
            continue
        names = content.get("names") if isinstance(content, dict) else None
        rows = (
            list(enumerate(names))
            if isinstance(names, list)
            else list(names.items())
            if isinstance(names, dict)
            else []
        )
        found = {int(key): clean_text(name) for key, name in rows if str(key).isdecimal() and len(str(key)) < 9}
        if found:
            return found
    for path in files_with(folder, ".txt", ".names", ".labels"):
        if path.name.lower() in CLASS_FILES:
            lines = [line.strip() for line in read_text(path, collector).splitlines()]
            found = {number: clean_text(line) for number, line in enumerate(lines) if line}
            if found:
                return found
    return {}


def _sent_names(
    folder: Path, collector: Collector, names: Sequence[str], indices: Sequence[int]
) -> tuple[dict[int, str], int]:
    """Class names for numbers alone: those that were sent, from 0, or from 1 where the numbers run to their count."""
    first = 1 if indices and min(indices) == 1 and max(indices) == len(names) else 0
    if indices:
        message = f"no class names in the delivery: numbers read as those sent, from {first}; check the classes"
        collector.problem(folder, "names-missing", message)
    return dict(enumerate(names)), first


def _is_data_yaml(path: Path) -> bool:
    return re.search(r"^names\s*:", sniff(path), re.MULTILINE) is not None


def _starts_with_a_label(path: Path) -> bool:
    lines = [line for line in sniff(path).splitlines() if line.strip()]
    try:
        return bool(lines) and bool(np.isfinite(parse_label_line(lines[0])[1]).all())
    except (ValueError, OverflowError):
        return False
