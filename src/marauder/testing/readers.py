"""The contract of readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from marauder.core.plugins import make
from marauder.data.formats.source import Source
from marauder.data.reading import choose_reader, read_dataset
from marauder.data.records import Dataset

BOX = (20.0, 10.0, 60.0, 40.0)
"""x0 y0 x1 y1 in pixels of a picture of ``SIZE``."""
SIZE = (80, 60)
"""Width and height in pixels."""


def kinds(dataset: Dataset) -> Counter[str]:
    """How many problems of each kind a data set has."""
    return Counter(problem.kind for problem in dataset.problems)


class ReaderContract:
    """What every reader promises. A subclass is parametrized over ``name`` and gives ``folder``."""

    box_class: ClassVar[Mapping[str, str]] = {}
    """By name, what a format calls the class of the box where it cannot be ``crab``."""
    bad_line: ClassVar[Mapping[str, int]] = {}
    """By name, the line of the entry that is bad, of the formats whose findings have lines."""
    unlabelled: ClassVar[Collection[str]] = ()
    """The formats that hold no labels, by name."""

    @pytest.fixture
    def folder(self, name: str, tmp_path: Path) -> Path:
        """A data set in this format, in which at least two pictures can be read.

        There is one box of class ``crab``, ``BOX`` of a picture of ``SIZE``, and one bad entry.
        """
        raise NotImplementedError

    @pytest.fixture
    def labelled(self, name: str, folder: Path) -> Path:
        """``folder`` of the formats that hold labels."""
        if name in self.unlabelled:
            pytest.skip("holds no labels")
        return folder

    def test_is_chosen_for_its_own_layout(self, name: str, folder: Path) -> None:
        assert choose_reader(folder).name == name

    def test_does_not_recognise_or_choke_on_other_content(self, name: str, tmp_path: Path) -> None:
        reader = make("reader", name)
        (tmp_path / "notes.json").write_text('{"pages": ')
        (tmp_path / "settings.yaml").write_text("a: [1, 2\n")
        (tmp_path / "empty.xml").write_text("")
        assert not reader.files(Source(tmp_path))
        assert not reader.files(Source(tmp_path / "absent"))

    def test_reads_the_box_in_pixels(self, name: str, labelled: Path) -> None:
        dataset = read_dataset(labelled)
        crab = dataset.names.index(self.box_class.get(name, "crab"))
        found = [r.boxes[(r.classes == crab) & ~r.ignored] for r in dataset]
        boxes = np.concatenate(found)
        assert boxes.shape == (1, 4)
        np.testing.assert_allclose(boxes[0], BOX, atol=1e-4)

    def test_goes_on_from_a_bad_line_and_names_it(self, name: str, labelled: Path) -> None:
        bad = [p for p in read_dataset(labelled).problems if p.kind in ("label-syntax", "number-invalid")]
        assert len(bad) == 1
        assert Path(bad[0].path).is_file()
        assert bad[0].line == self.bad_line.get(name)

    def test_keys_are_unique_and_boxes_inside(self, name: str, folder: Path) -> None:
        dataset = read_dataset(folder)
        assert len({record.key for record in dataset}) == len(dataset) >= 2
        for record in dataset:
            assert (record.boxes[:, :2] >= 0).all()
            assert (record.boxes[:, 2] <= record.width).all()
            assert (record.boxes[:, 3] <= record.height).all()
            assert (record.classes < len(dataset.names)).all()

    def test_same_content_twice(self, name: str, folder: Path) -> None:
        one, other = read_dataset(folder), read_dataset(folder)
        assert [r.key for r in one] == [r.key for r in other]
        assert one.problems == other.problems

    def test_an_unreadable_picture_is_left_out_and_named(self, name: str, folder: Path) -> None:
        victim = next(record for record in read_dataset(folder) if record.picture.is_file())
        victim.picture.write_bytes(b"no picture at all")
        after = read_dataset(folder, lost=True)
        assert victim.key not in {record.key for record in after}
        assert "picture-unreadable" in kinds(after)

    def test_own_group_pattern(self, name: str, folder: Path) -> None:
        dataset = read_dataset(folder, group_pattern=r"^(?P<clip>.)")
        assert all(len(record.group) == 1 for record in dataset if "/" not in record.group)
