"""Writing YOLO and reading it back: nothing is lost, nothing foreign is touched, the same input gives the same
bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_sets
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.stored import stored_rows
from marauder.data.writers import is_complete, write_yolo


def assert_same(one: Dataset, other: Dataset) -> None:
    """Equal but for the place of the pictures and the order of a record's boxes (ignored ones come last)."""
    assert one.names == other.names
    right_of = {record.key: record for record in other}
    assert len(one) == len(right_of) == len(other)
    for left in one:
        right = right_of[left.key]
        assert (left.width, left.height, left.group, left.split, left.labelled, left.attributes) == (
            right.width,
            right.height,
            right.group,
            right.split,
            right.labelled,
            right.attributes,
        )
        order = np.argsort(left.ignored, kind="stable")
        np.testing.assert_allclose(left.boxes[order], right.boxes, atol=1e-6)
        np.testing.assert_array_equal(left.classes[order], right.classes)
        np.testing.assert_array_equal(left.ignored[order], right.ignored)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return [small_sets.picture(folder / f"{number}.png", number) for number in range(4)]


box = st.tuples(
    st.floats(0, 70), st.floats(0, 50), st.floats(1, 10), st.floats(1, 10), st.integers(0, 2), st.booleans()
)
record = st.tuples(
    st.text(st.sampled_from("abc/ ü.-_A"), min_size=1, max_size=6),
    st.lists(box, max_size=3, unique_by=lambda row: (round(row[0]), round(row[1]))),
    st.sampled_from(["train", "val", "test", None]),
    st.booleans(),
    st.dictionaries(st.sampled_from(["depth", "water", "clear"]), st.sampled_from([1, 2.5, "reef", True])),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(record, min_size=1, max_size=4, unique_by=lambda row: row[0]),
    mode=st.sampled_from(["link", "copy", "reference"]),
)
def test_round_trip(rows, mode, pictures, tmp_path_factory):
    records = []
    for number, (key, boxes, split, labelled, attributes) in enumerate(rows):
        array = np.array([[x, y, x + w, y + h] for x, y, w, h, _, _ in boxes]).reshape(-1, 4)
        records.append(
            Record(
                key,
                pictures[number],
                *small_sets.SIZE,
                array,
                np.array([row[4] for row in boxes], int),
                np.array([row[5] for row in boxes], bool),
                group=f"clip{number % 2}",
                split=split,
                attributes=attributes,
                labelled=labelled or bool(boxes),
            )
        )
    dataset = Dataset(("fish", "crab", "Seeigel ü"), tuple(records))
    data_yaml = write_yolo(dataset, tmp_path_factory.mktemp("set") / "out", mode)
    assert_same(dataset, read_dataset(data_yaml))
    assert is_complete(data_yaml.parent)


def test_plain_ultralytics_layout(tmp_path: Path):
    data_yaml = write_yolo(read_dataset(small_sets.yolo(tmp_path / "in")), tmp_path / "out")
    content = yaml.safe_load(data_yaml.read_text())
    assert content == {"train": "images/train", "val": "images/val", "names": {0: "fish", 1: "crab"}}
    link = tmp_path / "out/images/train/train__a.jpg"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert (tmp_path / "out/labels/train/train__a.txt").read_text() == "1 0.5 0.41666667 0.5 0.5\n"
    assert (tmp_path / "out/labels/train/train__b.txt").read_text() == ""


def test_ultralytics_agrees(tmp_path: Path, shared_data: Path):
    check = pytest.importorskip("ultralytics.data.utils").check_det_dataset
    from ultralytics.data.dataset import YOLODataset

    source = read_dataset(shared_data / "aquarium", names=["a", "b", "c", "d", "e", "f", "g"])
    small = source.with_records(
        replace(r, split="val" if n % 3 else "train") for n, r in enumerate(source.records[:30])
    )
    data_yaml = write_yolo(small, tmp_path / "out", "copy")
    content = check(str(data_yaml), autodownload=False)
    peer = YOLODataset(img_path=content["val"], data=content, task="detect", augment=False)
    ours = {record.picture.name: record for record in read_dataset(data_yaml).split("val")}
    assert len(peer.labels) == len(ours) == 20
    for label in peer.labels:
        record = ours[Path(label["im_file"]).name]
        assert label["shape"] == (record.height, record.width)
        np.testing.assert_array_equal(label["cls"].ravel(), record.classes)
        np.testing.assert_allclose(label["bboxes"], record.normalised_boxes(), atol=1e-6)


def test_the_same_bytes_again_and_no_trace_of_an_earlier_content(tmp_path: Path):
    dataset = read_dataset(small_sets.yolo(tmp_path / "in"))
    out = tmp_path / "out"
    write_yolo(dataset, out, "copy")

    def content() -> dict[str, bytes]:
        return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    first = content()
    write_yolo(dataset.with_records(replace(r, split="test") for r in dataset.records[:2]), out, "copy")
    assert "images/val/val__c.jpg" not in content()
    assert "images/train/train__a.jpg" not in content()
    write_yolo(dataset, out, "copy")
    assert content() == first


def test_foreign_folders_are_refused(tmp_path: Path):
    dataset = read_dataset(small_sets.yolo(tmp_path / "in"))
    with pytest.raises(UserError, match="was not written by marauder"):
        write_yolo(dataset, tmp_path / "in")
    with pytest.raises(UserError, match="is a file"):
        write_yolo(dataset, tmp_path / "in/data.yaml")
    with pytest.raises(UserError, match="no place in data"):
        write_yolo(dataset.with_records(replace(r, split="extra") for r in dataset), tmp_path / "out")
    with pytest.raises(UserError, match="mode 'move'"):
        write_yolo(dataset, tmp_path / "out", "move")


@pytest.mark.parametrize(
    ("damage", "line", "words"),
    [
        (lambda text: text[:-20], ":3", "is cut or damaged"),
        (lambda text: "".join(text.splitlines(keepends=True)[:2]), ":2", "ends after 2 of the 3 rows"),
        (lambda _: "", "", "ends after 0 of the 3 rows"),
        (lambda text: "[]\n" + text, ":1", "is not a row of a picture"),
    ],
)
def test_records_that_are_damaged_are_no_records(damage, line: str, words: str, tmp_path: Path):
    write_yolo(read_dataset(small_sets.yolo(tmp_path / "in")), tmp_path / "out")
    file = tmp_path / "out/records.jsonl"
    assert [row["key"] for row in stored_rows(tmp_path / "out")] == ["train/a", "train/b", "val/c"]
    file.write_text(damage(file.read_text()))
    with pytest.raises(UserError) as caught:
        stored_rows(tmp_path / "out")
    assert str(caught.value).startswith(f"{file}{line}: ") and words in str(caught.value)
    assert "run the command that wrote this data set again" in str(caught.value)
    file.unlink()
    with pytest.raises(UserError, match="ends after 0"):
        stored_rows(tmp_path / "out")
    assert stored_rows(tmp_path / "in") == []


def test_interrupted_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = read_dataset(small_sets.yolo(tmp_path / "in"))
    clock = Clock()
    calls: list[int] = []
    monkeypatch.setattr("marauder.data.writers.WRITE_BLOCK", 1)
    monkeypatch.setattr(clock, "stop_reason", lambda *_: calls.append(1) or ("enough" if len(calls) == 2 else None))
    with pytest.raises(Interrupted):
        write_yolo(dataset, tmp_path / "out", clock=clock)
    assert not (tmp_path / "out/data.yaml").exists()
    assert not is_complete(tmp_path / "out")
    write_yolo(dataset, tmp_path / "out", clock=clock)
    assert is_complete(tmp_path / "out")
    assert_same(dataset, read_dataset(tmp_path / "out"))


def test_unlabelled_pictures_stand_where_no_trainer_looks(tmp_path: Path):
    dataset = read_dataset(small_sets.yolo(tmp_path / "in"))
    records = [replace(r, labelled=not r.key.endswith("b")) for r in dataset]
    write_yolo(dataset.with_records(records), tmp_path / "out")
    assert (tmp_path / "out/images/unlabelled/train__b.jpg").exists()
    assert not list((tmp_path / "out/labels").rglob("*b.txt"))
