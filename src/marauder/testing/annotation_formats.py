"""The contract of exchange formats for annotators."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marauder.annotation.formats.answers import read_delivery
from marauder.annotation.formats.base import ExchangeFormat, Item, Package, Reading, match_class
from marauder.core.clock import Clock, Interrupted
from marauder.core.plain import Plain
from marauder.core.plugins import make, names, resolve
from marauder.data.formats.base import Reader
from marauder.data.formats.source import Source

NAMES = ("Purple Sea Urchin", "fish", "Ängelhaj & <co>")
PIXELS = b"the bytes of a picture"


def make_package(folder: Path, files: Plain, name: str = "batch-1") -> Package:
    """A package of pictures 640 x 480 (no real ones: formats never decode) with the given boxes and classes."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number, (file, (boxes, classes)) in enumerate(files.items()):
        picture = folder / f"picture{number}.jpg"
        picture.write_bytes(PIXELS + bytes([number]))
        scores = np.linspace(0.9, 0.4, len(boxes)) if len(boxes) else None
        items.append(Item(f"key/{number}", file, picture, 640, 480, np.array(boxes), np.array(classes), scores))
    return Package(name, name, NAMES, tuple(items), None, "Read me.")


def unpack(archive: Path, folder: Path) -> Path:
    """The folder with the archive's files."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def reader(name: str) -> Reader:
    """The format that reads what the exchange format ``name`` writes."""
    layout: Reader = make("reader", resolve("annotation_format", name).layout or name)
    return layout


def recognises(name: str, folder: Path) -> bool:
    """Whether the format takes a delivery for its own."""
    return bool(reader(name).files(Source(folder, delivery=True)))


def sizes(package: Package) -> dict[str, tuple[int, int]]:
    """Width and height of its pictures, by name."""
    return {item.file: (item.width, item.height) for item in package.items}


BOXES = {
    "plain.jpg": ([[10.123, 20.456, 110.789, 220.001], [0, 0, 640, 480]], [0, 1]),
    "a name with spaces.jpg": ([[1, 2, 3.5, 4.25]], [2]),
    "empty.jpg": (np.zeros((0, 4)), np.zeros(0, int)),
    "Blåhaj 鲨鱼.jpg": ([[300, 200, 301, 201]], [2]),
}


class AnnotationFormatContract:
    """What every exchange format promises. A subclass is parametrized over ``name``."""

    same_layout: ClassVar[Mapping[str, set[str]]] = {}
    """Formats that read each other's deliveries, by name; usually a format reads its own alone."""

    def submit(self, name: str, folder: Path) -> None:
        """Make of an unpacked package what a tool gives back when every pre-label is confirmed."""
        raise NotImplementedError

    def round_trip(self, name: str, files: Plain, folder: Path) -> tuple[Package, Reading]:
        """A package, and what is read of it when it comes back."""
        format: ExchangeFormat = make("annotation_format", name)
        package = make_package(folder / "pictures", files)
        delivery = unpack(format.write(package, folder / "out", Clock()), folder / "back")
        self.submit(name, delivery)
        # A package of nothing holds no label file, which is all that YOLO is known by.
        assert recognises(name, delivery) or not files
        return package, read_delivery(reader(name), delivery, sizes(package), package.names)

    def test_what_goes_out_comes_back(self, name: str, tmp_path: Path) -> None:
        package, reading = self.round_trip(name, BOXES, tmp_path)
        assert not reading.problems and not reading.strangers
        assert list(reading.answers) == [item.file for item in package.items]
        for item in package.items:
            answer = reading.answers[item.file]
            np.testing.assert_allclose(answer.boxes, item.boxes, atol=0.01)
            assert [match_class(text, NAMES) for text in answer.class_names] == item.classes.tolist()
        assert set(reading.names) <= set(NAMES)

    def test_a_package_without_pictures_is_one(self, name: str, tmp_path: Path) -> None:
        package, reading = self.round_trip(name, {}, tmp_path)
        assert reading.answers == {} and not package.items

    def test_the_same_package_gives_the_same_bytes_with_checksums_that_hold(self, name: str, tmp_path: Path) -> None:
        format = make("annotation_format", name)
        package = make_package(tmp_path / "pictures", BOXES)
        one = format.write(package, tmp_path / "one", Clock())
        other = format.write(package, tmp_path / "other", Clock())
        assert one.read_bytes() == other.read_bytes()
        with zipfile.ZipFile(one) as archive:
            lines = archive.read("SHA256SUMS").decode().splitlines()
            # As sha256sum writes it: 64 digits, two blanks, the name.
            found = {line[66:]: line[:64] for line in lines}
            assert set(found) == set(archive.namelist()) - {"SHA256SUMS"}
            assert all(hashlib.sha256(archive.read(entry)).hexdigest() == digest for entry, digest in found.items())
            assert sum(entry.startswith("images/") for entry in found) == len(BOXES)
            assert archive.read("images/plain.jpg") == PIXELS + b"\0"

    def test_a_stop_leaves_no_half_zip(self, name: str, tmp_path: Path) -> None:
        stop = tmp_path / "stop"
        stop.write_text("enough")
        with pytest.raises(Interrupted):
            make("annotation_format", name).write(
                make_package(tmp_path / "pictures", BOXES), tmp_path / "out", Clock(stop_file=stop)
            )
        assert list((tmp_path / "out").iterdir()) == []

    def test_an_empty_folder_is_a_problem_and_not_this_format(self, name: str, tmp_path: Path) -> None:
        assert not recognises(name, tmp_path)
        reading = read_delivery(reader(name), tmp_path, {"a.jpg": (10, 10)}, NAMES)
        assert not reading.answers and reading.problems

    def test_no_other_format_takes_it_for_its_own(self, name: str, tmp_path: Path) -> None:
        format = make("annotation_format", name)
        delivery = unpack(format.write(make_package(tmp_path / "p", BOXES), tmp_path, Clock()), tmp_path / "back")
        taken = {other for other in names("annotation_format") if recognises(other, delivery)}
        assert taken == self.same_layout.get(name, {name})

    def test_pictures_that_were_not_sent_are_strangers(self, name: str, tmp_path: Path) -> None:
        format = make("annotation_format", name)
        delivery = unpack(format.write(make_package(tmp_path / "p", BOXES), tmp_path, Clock()), tmp_path / "back")
        self.submit(name, delivery)
        reading = read_delivery(reader(name), delivery, {"plain.jpg": (640, 480)}, NAMES)
        assert set(reading.answers) == {"plain.jpg"}
        assert len(reading.strangers) == len(BOXES) - 1
        assert {problem.kind for problem in reading.problems} == {"picture-stranger"}

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_reading_never_raises(self, name: str, tmp_path: Path, data: st.DataObject) -> None:
        format = make("annotation_format", name)
        # All examples share tmp_path: what is valid is written once, what is damaged copied anew.
        source = tmp_path / "valid"
        if not source.exists():
            unpack(format.write(make_package(tmp_path / "p", BOXES), tmp_path, Clock()), source)
            self.submit(name, source)
            # No format decodes pictures; copying them for every example would only take time.
            shutil.rmtree(source / "images")
        folder = tmp_path / "fuzzed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        targets = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("README.txt", "SHA256SUMS"))
        target = data.draw(st.sampled_from(targets))
        content = target.read_bytes()
        kind = data.draw(st.sampled_from(["bytes", "splice", "cut", "structure", "encode"]))
        if kind == "bytes":
            content = data.draw(st.binary(max_size=200))
        elif kind == "cut":
            content = content[: data.draw(st.integers(0, len(content)))]
        elif kind == "splice":
            at = data.draw(st.integers(0, len(content)))
            content = content[:at] + data.draw(st.binary(min_size=1, max_size=8)) + content[at + 3 :]
        elif kind == "structure" and target.suffix == ".json":
            content = json.dumps(mutate(json.loads(content), data)).encode("utf-8", "replace")
        else:
            encoding = data.draw(st.sampled_from(["utf-16", "utf-16-le", "latin-1", "utf-8-sig", "utf-32", "cp037"]))
            content = content.decode("utf-8").encode(encoding, "replace")
        target.write_bytes(content)
        recognises(name, folder)
        expected = dict.fromkeys(BOXES, (640, 480))
        reading = read_delivery(reader(name), folder, expected, NAMES)
        for file, answer in reading.answers.items():
            assert file in expected and np.isfinite(answer.boxes).all()
            assert len(answer.boxes) == len(answer.class_names)
        for problem in reading.problems:
            str(problem).encode("utf-8")
            assert problem.kind and problem.message and "\n" not in problem.message


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    # Valid JSON, and too large for a float.
    st.just(10**400),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def mutate(value: Any, data: st.DataObject) -> Any:
    """``value`` with one place below it replaced by something odd, or removed."""
    if isinstance(value, (dict, list)) and value and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        if not data.draw(st.integers(0, 6)):
            del value[key]
        else:
            value[key] = mutate(value[key], data)
        return value
    return data.draw(ODD)
