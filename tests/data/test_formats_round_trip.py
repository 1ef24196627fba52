"""Properties of all formats: what was written is read, and what is damaged is told."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_sets import FORMATS, LAYOUTS, Sample, Shot, Written, composed, samples

from marauder.annotation.formats.answers import delivered_formats, read_delivery
from marauder.core.errors import UserError
from marauder.data.check import DEFECTS, check_dataset
from marauder.data.formats.text import decode
from marauder.data.manifests.writing import write_manifests
from marauder.data.organize import OrganizeSettings, organize
from marauder.data.reading import choose_reader, read_dataset
from marauder.data.records import Dataset, Problem

NEAR = 0.01
Content = dict[str, list[tuple[str, tuple[float, ...]]]]
"""Class and box of every box, in sorted order, by where the picture lies."""

ERRORS = {kind for kind, defect in DEFECTS.items() if defect.severity == "error"}
Room = Callable[[], Path]


def bounded(examples: int) -> settings:
    """The same examples every time."""
    quiet = list(HealthCheck)
    return settings(derandomize=True, deadline=None, database=None, max_examples=examples, suppress_health_check=quiet)


def boxes_of(shot: Shot) -> list[tuple[str, tuple[float, ...]]]:
    return in_order((composed(name), tuple(box)) for *box, name in shot.boxes)


def expected(sample: Sample, written: Written) -> Content:
    return {
        str(place.resolve()): boxes_of(shot)
        for shot, place in zip(sample.shots, written.places)
        if written.empty or shot.boxes
    }


def in_order(boxes: Iterable[tuple[str, tuple[float, ...]]]) -> list[tuple[str, tuple[float, ...]]]:
    # All sides are written as quarters of a pixel.
    return sorted(boxes, key=lambda box: (box[0], [round(4 * side) for side in box[1]]))


def content(dataset: Dataset) -> Content:
    return {
        str(record.picture.resolve()): in_order(
            (dataset.names[index], tuple(box)) for index, box in zip(record.classes.tolist(), record.boxes.tolist())
        )
        for record in dataset
    }


def same(found: Content, wanted: Content) -> None:
    """The same pictures with the same boxes."""
    assert found.keys() == wanted.keys()
    for picture, boxes in wanted.items():
        assert [name for name, _ in found[picture]] == [name for name, _ in boxes], picture
        np.testing.assert_allclose([box for _, box in found[picture]], [box for _, box in boxes], atol=NEAR, rtol=0)


def errors(problems: Iterable[Problem]) -> list[str]:
    return [f"{one.kind} {one}" for one in problems if one.kind in ERRORS]


def losses(problems: Iterable[Problem]) -> list[str]:
    """Problems of a delivery, but for those that keep every box."""
    kept = ("text-encoding", "label-encoding", "shape-converted", "size-unstated", "names-missing")
    return [f"{one.kind} {one}" for one in problems if one.kind not in kept]


def splits(sample: Sample, written: Written) -> dict[str, str]:
    return {str(place.resolve()): shot.split for shot, place in zip(sample.shots, written.places)}


@pytest.fixture
def room() -> Iterator[Room]:
    """Folders for one example each, in memory where that can be."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as top:
        numbers = itertools.count()
        yield lambda: Path(top, f"{next(numbers)}", "set")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read(layout: str, room: Room):
    @bounded(24)
    @given(samples())
    def check(sample: Sample) -> None:
        written = LAYOUTS[layout](room(), sample)
        assert choose_reader(written.path).name == FORMATS[layout]
        dataset = read_dataset(written.path)
        assert errors(dataset.problems) == []
        same(content(dataset), expected(sample, written))
        assert all(record.labelled for record in dataset)
        if written.splits:
            stated = splits(sample, written)
            found = {str(record.picture.resolve()): record.split for record in dataset}
            assert found == {place: stated[place] for place in found}

    check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read_as_a_delivery(layout: str, room: Room):
    """The labels of every format, sent back by an annotator; the pictures are known by their names."""

    @bounded(8)
    @given(samples(own_names=True))
    def check(sample: Sample) -> None:
        written = LAYOUTS[layout](room(), sample)
        root = written.path if written.path.is_dir() else written.path.parent
        root = root.parent if root.name == "annotations" else root
        sent = {shot.name: shot.size for shot in sample.shots}
        layouts = delivered_formats(root)
        assert [one.name for one in layouts] == [FORMATS[layout]]
        reading = read_delivery(layouts[0], root, sent, [composed(name) for name in sample.names])
        assert losses(reading.problems) == []
        wanted = {shot.name: boxes for shot, boxes in zip(sample.shots, map(boxes_of, sample.shots))}
        found = {
            name: in_order(zip(answer.class_names, map(tuple, answer.boxes.tolist())))
            for name, answer in reading.answers.items()
        }
        same(found, {name: boxes for name, boxes in wanted.items() if boxes or written.empty})

    check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_comes_through_the_commands(layout: str, room: Room):
    """check, organize and manifest write: what the last one wrote is what the tool wrote."""

    @bounded(3)
    @given(samples(most=4))
    def check(sample: Sample) -> None:
        written = LAYOUTS[layout](room(), sample)
        wanted, root = expected(sample, written), written.path
        report = check_dataset(root)
        assert not {finding.kind for finding in report.findings} - {"group-in-two-splits"} & ERRORS
        assert report.dataset is not None
        same(content(report.dataset), wanted)
        work = room().parent
        keep = written.splits
        organize(
            OrganizeSettings(
                inputs=(root,),
                output=work / "organized",
                taxonomy="source",
                fractions=None if keep else {"train": 0.6, "val": 0.4},
                near_duplicates=False,
            )
        )
        organized = read_dataset(work / "organized")
        assert organized.problems == ()
        same(content(organized), wanted)
        golden = read_dataset(write_manifests(organized, work / "golden"))
        assert golden.problems == ()
        same(content(golden), wanted)
        for dataset in (organized, golden) if keep else ():
            stated = splits(sample, written)
            assert all(record.split == stated[str(record.picture.resolve())] for record in dataset)

    check()


STATED = {
    "yolo": r"(?m)^[ \t]*\d+(?: +[-+.e\d]+){4,}[ \t\r]*$",
    "coco": r'"image_id"',
    "voc": r"<(?:\w+:)?object>",
    "cvat": r"<box ",
    "label_studio": r'labels": \[',
    "labelme": r'"shape_type"',
    "manifest": r'"class_id"',
    "viame": r"(?m)^\d+(?:[,;].*){9,}$",
    "biigle": r"Rectangle|Polygon|Ellipse",
}
"""What stands in a file once for each box, by format."""


@dataclass(frozen=True)
class Damage:
    """What was done. ``file``: relative to the data set; ``before`` and ``after``: its text; "" where it is gone."""

    kind: str
    file: str
    before: str
    after: str

    def rows_gone(self, layout: str) -> int:
        """Boxes that the text states no more, as if they had never been drawn."""
        found = [len(re.findall(STATED[FORMATS[layout]], text)) for text in (self.before, self.after)]
        return max(0, found[0] - found[1])


def damaged(sample: Sample, written: Written) -> Damage:
    """Damage one of the files that hold labels, names or splits, or take a picture away."""
    draw = sample.draw
    file = sample.pick(*written.labels)
    text, encoding = decode(file.read_bytes())
    kind = sample.pick(
        *("line", "line", "cut", "letter", "key", "number", "number", "twice", "byte", "rename", "remove", "picture")
    )
    file = sample.pick(*written.places) if kind == "picture" else file
    after = text
    lines = text.splitlines(keepends=True) or [""]
    numbers = [found.span() for found in re.finditer(r"\d+", text)] or [(0, 0)]
    place = draw(st.integers(0, max(0, len(text) - 1)))
    if kind in ("line", "twice"):
        at = draw(st.integers(0, len(lines) - 1))
        after = "".join([*lines[:at], *(lines[at : at + 1] * (2 if kind == "twice" else 0)), *lines[at + 1 :]])
    elif kind == "cut":
        after = text[:place]
    elif kind == "letter":
        after = text[:place] + sample.pick("x", "Q", "7", " ", "", ",", '"', "<", "\n", "é") + text[place + 1 :]
    elif kind == "key":
        keys = [
            found.span() for found in re.finditer(r'(?<=")[\w-]+(?=" *:)|\b\w+(?==")|^\w+(?=:)', text, re.MULTILINE)
        ]
        start, end = sample.pick(*(keys or [(0, 1)]))
        after = text[:start] + draw(st.sampled_from(("x", text[start : end - 1], "x" + text[start:end]))) + text[end:]
    elif kind == "number":
        start, end = sample.pick(*numbers)
        alike = [(a, b) for a, b in numbers if b - a == end - start and text[a:b] != text[start:end]]
        other, last = sample.pick(*(alike or numbers))
        after = text[:start] + text[other:last] + text[end:]
    elif kind == "rename":
        file.rename(file.with_name(sample.pick(file.name + ".bak", "x" + file.name, file.stem + ".old")))
    elif kind in ("remove", "picture"):
        file.unlink()
        after = ""
    elif kind == "byte":
        content = bytearray(file.read_bytes() or b" ")
        content[place % len(content)] = sample.pick(0, 0xFF, 0xC3, 0x41)
        file.write_bytes(bytes(content))
    if kind in ("line", "twice", "cut", "letter", "key", "number"):
        file.write_bytes(after.encode(encoding))
    return Damage(kind, str(file), text, after)


def excuses(problem: Problem, damage: Damage, whole: Dataset) -> bool:
    """Whether a problem tells a loss: an error, one that names what was damaged, or, where the labels are gone as a
    file, one that says that pictures have none."""
    file = Path(damage.file)
    names = {file.name, file.stem, *(record.key for record in whole if file.stem in (record.picture.stem, record.key))}
    told = f"{problem.path} {problem.message} {problem.key}"
    bare = problem.kind in ("labels-none", "picture-unread", "picture-without-label")
    gone = bare and damage.kind in ("remove", "rename")
    return gone or problem.kind in ERRORS or any(name in told for name in names)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_lost_in_silence(layout: str, room: Room):
    """Whatever happens to a file of labels: fewer boxes are told, unless the file states fewer."""

    @bounded(24)
    @given(samples(most=4))
    def check(sample: Sample) -> None:
        written = LAYOUTS[layout](room(), sample)
        whole = read_dataset(written.path)
        known = {(one.kind, one.message) for one in whole.problems}
        damage = damaged(sample, written)
        try:
            rest = read_dataset(written.path)
        except UserError:
            return
        if any((one.kind, one.message) not in known and excuses(one, damage, whole) for one in rest.problems):
            return
        boxes = [sum(map(len, content(dataset).values())) for dataset in (whole, rest)]
        gone = damage.rows_gone(layout) if damage.kind in ("line", "cut") else 0
        assert boxes[1] >= boxes[0] - gone, (damage.kind, damage.file)
        assert not gone or content(rest) != content(whole)

    check()
