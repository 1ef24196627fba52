"""Rows of manifests, ours and others', box attributes on all their ways, dataset.yaml, and writing golden manifests."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_sets
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.data.check import check_dataset
from marauder.data.manifests import measure
from marauder.data.manifests.format import RowError, local_path, parse_row, row_of
from marauder.data.manifests.lazy import scan
from marauder.data.manifests.measure import LONG_SIDE, decode_dataset, measure_dataset, measure_picture
from marauder.data.manifests.spec import find_spec, load_spec
from marauder.data.manifests.splitting import divided
from marauder.data.manifests.writing import write_manifests
from marauder.data.reading import choose_reader, read_dataset
from marauder.data.records import Dataset, Record, box_columns, merge
from marauder.data.repair import repair
from marauder.data.taxonomy import Taxonomy, apply_taxonomy
from marauder.data.writers import write_yolo


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def own_set(root: Path, count: int = 6) -> Dataset:
    """Pictures with every kind of attribute, ignored boxes, box attributes that not every box has, one unlabelled."""
    records = []
    for number in range(count):
        picture = small_sets.picture(root / "pictures" / f"p{number}.jpg", number)
        boxes = np.array([[1.5, 2.25, 30, 40], [20, 10, 60, 40.125], [5, 5, 9, 9]])[: number % 4]
        details = [{"occluded": True, "note": "left"}, {"occluded": False}, {"depth": 2.5}][: len(boxes)]
        records.append(
            Record(
                f"site/p{number}",
                picture,
                *small_sets.SIZE,
                boxes,
                np.arange(len(boxes)) % 2,
                np.arange(len(boxes)) == 1,
                group=f"clip{number // 2}",
                split=("train", "train", "val", "val", "test", None)[number % 6],
                attributes={"depth": number + 0.5, "weather": "räin", "night": number % 2 == 0, "dive": number},
                labelled=number != 5,
                box_attributes=box_columns(details),
            )
        )
    return Dataset(("fish", "crab", "never seen"), tuple(records), str(root))


def assert_same(one: Dataset, other: Dataset, **tolerance: float) -> None:
    assert one.names == other.names
    assert [record.key for record in one] == [record.key for record in other]
    for a, b in zip(one, other):
        assert (a.width, a.height, a.group, a.split, a.labelled) == (b.width, b.height, b.group, b.split, b.labelled)
        if a.labelled:
            np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-5)
            assert a.classes.tolist() == b.classes.tolist()
            assert a.ignored.tolist() == b.ignored.tolist()
            assert a.box_attributes.keys() == b.box_attributes.keys()
            for name, column in a.box_attributes.items():
                np.testing.assert_array_equal(column, b.box_attributes[name])
        assert a.attributes == b.attributes
        assert a.picture.samefile(b.picture)


class TestRows:
    def test_a_row_is_what_ground_truth_writes(self, tmp_path: Path):
        record = own_set(tmp_path).records[2]
        row = json.loads(json.dumps(row_of(record, ("fish", "crab"), "p.jpg", "2026-11-01T00:00:00", "labels-7")))
        assert row["objects"]["image_size"] == [{"width": 80, "height": 60, "depth": 3}]
        assert row["objects"]["annotations"][0] == {
            "class_id": 0, "left": 1.5, "top": 2.25, "width": 28.5, "height": 37.75, "note": "left", "occluded": True,
        }  # fmt: skip
        metadata = row["objects-metadata"]
        assert metadata["class-map"] == {"0": "fish", "1": "crab"}
        assert (metadata["type"], metadata["job-name"]) == ("groundtruth/object-detection", "labels-7")
        assert len(metadata["objects"]) == len(row["objects"]["annotations"])

    def test_rows_of_others(self):
        row = parse_row(
            {
                "source-ref": "s3://bucket/a.jpg",
                "site": "reef 7",
                "dive": 3,
                "first": {"annotations": []},
                "first-metadata": {"type": "groundtruth/object-detection"},
                "checked": {
                    "image_size": [{"width": 500.0, "height": 333, "depth": 3}],
                    "annotations": [{"class_id": 4, "top": 1, "left": 2, "width": 3, "height": 4}, {"class_id": "x"}],
                },
                "checked-metadata": {
                    "class-map": {"4": "eel", "five": "?"},
                    "human-annotated": "no",
                    "objects": [{"confidence": 0.25}, {}],
                    "type": "groundtruth/object-detection",
                },
                "weather": 1,
                "weather-metadata": {"class-name": "fog", "type": "groundtruth/image-classification"},
            }
        )
        assert (row.width, row.height, row.class_map) == (500, 333, {4: "eel"})
        assert [annotation.box for annotation in row.annotations] == [(2, 1, 5, 5)]
        assert row.annotations[0].details == {"confidence": 0.25}
        assert row.attributes == {"site": "reef 7", "dive": 3, "weather": "fog"}
        assert len(row.mistakes) == 2

    def test_a_row_without_label_is_unlabelled_and_a_failed_one_is_told(self):
        assert not parse_row({"source-ref": "a.jpg"}).labelled
        failed = parse_row({"source-ref": "a.jpg", "x-metadata": {"failure-reason": "timed out", "type": "x"}}, "x")
        assert (failed.labelled, failed.mistakes) == (False, ["labelling failed: timed out"])

    @pytest.mark.parametrize("content", [None, [], "a", {}, {"source-ref": ""}, {"source-ref": 3}, {"source": "text"}])
    def test_what_names_no_picture_is_refused(self, content: object):
        with pytest.raises(RowError):
            parse_row(content)

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )

    @settings(max_examples=150, deadline=None)
    @given(label=json_values, metadata=json_values, sizes=json_values, boxes=json_values, attributes=json_values)
    def test_nothing_in_a_row_ends_the_reading(self, label, metadata, sizes, boxes, attributes):
        for value in (label, {"image_size": sizes, "annotations": boxes}, {"annotations": [boxes]}):
            row = parse_row({"source-ref": "a", "x": value, "x-metadata": metadata, "attributes": attributes}, "x")
            assert row.source == "a"
            assert all(np.isfinite(annotation.box).all() for annotation in row.annotations)

    def test_addresses(self, tmp_path: Path):
        uris = {"s3://bucket/": tmp_path, "s3://bucket/deep/": tmp_path / "elsewhere"}
        for source, expected in (
            ("images/a.jpg", Path("/set/images/a.jpg")),
            ("/data/a.jpg", Path("/data/a.jpg")),
            ("file:///data/a%20b.jpg", Path("/data/a b.jpg")),
            ("s3://bucket/x/a.jpg", tmp_path / "x/a.jpg"),
            ("s3://bucket/deep/a.jpg", tmp_path / "elsewhere/a.jpg"),
            ("s3://bucket/../../etc/passwd", tmp_path / "etc/passwd"),
            ("s3://other/a.jpg", None),
        ):
            assert local_path(source, Path("/set"), uris) == expected


class TestBoxAttributes:
    def test_columns(self):
        columns = box_columns([{"a": True, "b": 1, "c": "x"}, {"a": False, "d": True}])
        assert columns["a"].dtype == bool and columns["c"].tolist() == ["x", ""]
        np.testing.assert_array_equal(columns["b"], [1, np.nan])
        assert columns["d"].tolist() == [None, True]
        assert box_columns([]) == {}

    def test_their_number_must_be_that_of_the_boxes(self):
        with pytest.raises(ValueError, match="2 values of the box attribute 'occluded'"):
            Record("a", Path("a"), 9, 9, np.zeros((1, 4)), [0], box_attributes={"occluded": np.zeros(2)})

    def test_voc_flags(self, tmp_path: Path):
        root = small_sets.voc(tmp_path)
        file = root / "Annotations/a.xml"
        flags = "<name>crab</name><occluded>1</occluded><truncated>0</truncated>"
        file.write_text(file.read_text().replace("<name>crab</name>", flags))
        columns = read_dataset(root).records[0].box_attributes
        assert columns["occluded"].tolist() == [True, None]
        assert columns["truncated"].tolist() == [False, None]

    def test_they_stay_with_their_boxes(self, tmp_path: Path):
        """Through cleaning, the species table, merging, fixing, and plain YOLO and back."""
        dataset = own_set(tmp_path / "set")
        whole = dataset.records[3]
        assert whole.with_boxes(np.array([2, 0])).box_attributes["note"].tolist() == ["", "left"]
        assert merge([dataset, dataset]).records[9].box_attributes["note"].tolist() == ["left", "", ""]
        mapped, _ = apply_taxonomy(replace(dataset, names=("nothing known", "red lionfish", "x")), Taxonomy.load())
        assert [len(record.boxes) for record in mapped] == [0, 0, 1, 1, 0, 0]
        assert mapped.records[3].box_attributes["occluded"].tolist() == [False]
        spec = write_manifests(dataset, tmp_path / "out")
        lines = (tmp_path / "out/golden_val.manifest").read_text().splitlines()
        row = json.loads(lines[1])
        row["objects"]["annotations"].insert(
            0, {"class_id": 0, "left": 1, "top": 1, "width": 0, "height": 5, "note": "?"}
        )
        (tmp_path / "out/golden_val.manifest").write_text("\n".join([lines[0], json.dumps(row)]))
        read = {record.key: record for record in read_dataset(spec)}
        assert read["site/p3"].box_attributes["note"].tolist() == ["left", "", ""]
        back = read_dataset(write_yolo(read_dataset(spec), tmp_path / "yolo", mode="copy"))
        again = next(record for record in back if record.key == "site/p3")
        assert again.ignored.tolist() == [False, False, True]
        assert again.box_attributes["note"].tolist() == ["left", "", ""]
        np.testing.assert_array_equal(again.box_attributes["depth"], [np.nan, 2.5, np.nan])
        summary = repair(check_dataset(tmp_path / "yolo"), tmp_path / "fixed", "copy")
        fixed = {record.key: record for record in read_dataset(summary.data_yaml)}
        assert fixed["site/p3"].box_attributes["note"].tolist() == ["left", "", ""]


class TestReader:
    def test_bad_rows_are_told_with_their_lines(self, tmp_path: Path):
        root = small_sets.manifest(tmp_path)
        good = (root / "output.manifest").read_text().splitlines()[0]
        bad_box = json.loads(good)
        bad_box["source-ref"] = "images/b.jpg"
        bad_box["reef"]["annotations"] += [{"class_id": 0.5, "left": 0, "top": 0, "width": 9, "height": 9}]
        lines = [
            "\ufeff" + good,
            "",
            "[1]",
            '{"no": "picture"}',
            json.dumps(bad_box),
            '{"source-ref": "images/gone.jpg"}',
        ]
        (root / "output.manifest").write_text("\n".join(lines))
        dataset = read_dataset(root / "output.manifest")
        assert [record.key for record in dataset] == ["a", "b"]
        found = {(problem.line, problem.kind): problem for problem in dataset.problems}
        assert set(found) == {(3, "label-syntax"), (4, "label-syntax"), (5, "label-syntax"), (6, "picture-missing")}
        assert found[5, "label-syntax"].key == "b"
        assert "class_id 0.5 is not a whole number" in str(found[5, "label-syntax"])

    @pytest.mark.parametrize(
        "source",
        ["a" * 5000 + ".jpg", "s3://reef/" + "a" * 5000, "file:///" + "a" * 5000, "nul\0.jpg",
         "s3://reef/nul\0.jpg", "file:///nul%00.jpg", "file://[x/a.jpg"],
    )  # fmt: skip
    def test_a_name_that_no_file_can_have_is_one_bad_picture(self, tmp_path: Path, source: str):
        root = small_sets.manifest(tmp_path)
        good = json.loads((root / "output.manifest").read_text().splitlines()[0])
        rows = [json.dumps({**good, "source-ref": source}), json.dumps(good)]
        (root / "output.manifest").write_text("\n".join(rows))
        (root / "elsewhere").mkdir()
        for options in ({}, {"pictures": root / "elsewhere"}):
            found = read_dataset(root / "output.manifest", **options)
            told = [problem for problem in found.problems if problem.kind.startswith("picture-")]
            assert len(found) + len(told) == 2 and len(told) == (2 if options else 1)

    def test_a_list_file_with_a_name_too_long(self, tmp_path: Path):
        root = small_sets.yolo(tmp_path / "set")
        (root / "train.txt").write_text("images/train/a.jpg\n" + "b" * 5000 + ".jpg\n")
        (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [fish, crab]\n")
        found = read_dataset(root)
        assert found.splits() == {"train": 1, "val": 1}
        assert [problem.line for problem in found.problems if problem.kind == "picture-missing"] == [2]

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf\n"])
    def test_a_manifest_without_rows_says_so(self, tmp_path: Path, content: bytes):
        file = tmp_path / "golden_train.manifest"
        file.write_bytes(content)
        (tmp_path / "dataset.yaml").write_text("version: '1'\ntrain: golden_train.manifest\n")
        for read in (
            lambda: read_dataset(file),
            lambda: read_dataset(file, "manifest"),
            lambda: read_dataset(tmp_path),
            lambda: scan(file),
        ):
            with pytest.raises(UserError, match=r"golden_train\.manifest: has no rows"):
                read()

    def test_a_data_yaml_of_another_name_with_a_key_twice(self, tmp_path: Path):
        root = small_sets.yolo(tmp_path / "set")
        (root / "reef.yaml").write_text("train: images/train\nval: images/val\nnames: [fish]\nval: images/train\n")
        with pytest.raises(UserError, match=r"reef\.yaml:4: val: given twice \(first in line 2\)"):
            read_dataset(root / "reef.yaml")

    def test_class_maps_that_differ_are_united_by_name(self, tmp_path: Path):
        root = small_sets.manifest(tmp_path)
        rows = [json.loads(line) for line in (root / "output.manifest").read_text().splitlines()[::2]]
        rows[1]["reef-metadata"]["class-map"] = {"0": "crab", "7": "eel"}
        rows[1]["reef"]["annotations"] = [
            {"class_id": number, "left": number, "top": 1, "width": 9, "height": 9} for number in (0, 7, 9)
        ]
        (root / "output.manifest").write_text("\n".join(map(json.dumps, rows)))
        dataset = read_dataset(root)
        assert dataset.names == ("crab", "fish", "eel")
        assert [record.classes.tolist() for record in dataset] == [[0], [0, 2]]
        assert [problem.kind for problem in dataset.problems] == ["class-unknown"]  # the 9 that no map names
        given = read_dataset(root, names=["fish", "crab", "eel"])
        assert [record.classes.tolist() for record in given] == [[1], [1, 2]]
        assert {problem.kind for problem in given.problems} == {"class-unknown"}

    def test_addresses_without_a_folder_are_found_beside_or_told(self, tmp_path: Path):
        root = small_sets.manifest(tmp_path)
        text = (root / "output.manifest").read_text().replace("images/", "s3://reef/raw/images/")
        (root / "output.manifest").write_text(text)
        assert len(read_dataset(root)) == 2
        (root / "images").rename(tmp_path / "away")
        with_folder = read_dataset(root, uris={"s3://reef/raw/images": tmp_path / "away"})
        assert [record.picture.parent.name for record in with_folder] == ["away", "away"]
        assert len(read_dataset(root, pictures=tmp_path / "away")) == 2
        found = read_dataset(root)
        assert [record.picture.parent.name for record in found] == ["away", "away"]
        assert {problem.kind for problem in found.problems} >= {"root-moved"}
        (tmp_path / "away").rename(tmp_path.parent / f"{tmp_path.name} elsewhere")
        lost = read_dataset(root, lost=True)
        assert len(lost) == 0
        assert "no local folder is given for s3://reef/" in " ".join(map(str, lost.problems))

    def test_rows_of_one_picture_are_joined_and_told(self, tmp_path: Path):
        root = small_sets.manifest(tmp_path)
        good = (root / "output.manifest").read_text().splitlines()[0]
        other = good.replace('"left": 20', '"left": 2').replace('"width": 40', '"width": 9')
        (root / "output.manifest").write_text(f"{good}\n{other}\n{good}\n")
        dataset = read_dataset(root)
        assert [record.key for record in dataset] == ["a"]
        assert dataset.records[0].boxes.tolist() == [[20, 10, 60, 40], [2, 10, 11, 40]]
        assert [problem.kind for problem in dataset.problems if problem.key] == ["picture-twice"]

    def test_records_of_yolo_are_no_manifest(self, tmp_path: Path):
        write_yolo(own_set(tmp_path / "set"), tmp_path / "yolo", mode="copy")
        assert choose_reader(tmp_path / "yolo").name == "yolo"
        assert choose_reader(tmp_path / "yolo/data.yaml").name == "yolo"
        assert find_spec(tmp_path / "yolo/data.yaml") is None

    def test_damaged_parquet(self, tmp_path: Path):
        write_manifests(own_set(tmp_path / "set"), tmp_path / "out", formats=["parquet"])
        file = tmp_path / "out/golden_train.parquet"
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(UserError, match="cannot be read as Parquet"):
            read_dataset(file)

    def test_parquet_that_mirrors_json_rows(self, tmp_path: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        root = small_sets.manifest(tmp_path)
        rows = [json.loads(line) for line in (root / "output.manifest").read_text().splitlines()[::2]]
        small_sets.picture(root / "images/c.jpg", 3)
        pq.write_table(pa.Table.from_pylist([*rows, {"source-ref": "images/c.jpg"}]), root / "rows.parquet")
        dataset = read_dataset(root / "rows.parquet")
        assert [len(record.boxes) for record in dataset] == [1, 0, 0]
        assert [record.labelled for record in dataset] == [True, True, False]


class TestWriting:
    @pytest.mark.parametrize("formats", [["manifest"], ["parquet"], ["manifest", "parquet"]])
    def test_there_and_back(self, tmp_path: Path, formats: list[str]):
        dataset = own_set(tmp_path / "set")
        spec = write_manifests(dataset, tmp_path / "out", formats=formats)
        back = read_dataset(spec)
        assert_same(dataset, back)
        assert back.splits() == {"train": 2, "val": 2, "test": 1}
        assert not back.problems
        suffix = ".manifest" if formats[0] == "manifest" else ".parquet"
        single = read_dataset(tmp_path / f"out/golden_val{suffix}")
        assert_same(Dataset(back.names, back.split("val").records), single)
        assert_same(back, read_dataset(tmp_path / "out"))

    def test_again_changes_no_byte_and_keeps_what_the_user_added(self, tmp_path: Path):
        dataset = own_set(tmp_path / "set")
        spec = write_manifests(dataset, tmp_path / "out", version="7")
        (tmp_path / "out/slices.yaml").write_text("slices: {}\n")
        spec.write_text(spec.read_text().replace("names:", "slices: slices.yaml\ndvc: {rev: v1}\nnames:"))
        before = {file.name: (file.read_bytes(), file.stat().st_ino) for file in (tmp_path / "out").glob("golden*")}
        write_manifests(dataset, tmp_path / "out")
        after = {file.name: (file.read_bytes(), file.stat().st_ino) for file in (tmp_path / "out").glob("golden*")}
        assert before == after
        read = load_spec(spec)
        assert (read.version, read.slices, read.dvc and read.dvc.rev) == ("7", tmp_path / "out/slices.yaml", "v1")
        write_manifests(dataset.with_records(dataset.records[:4]), tmp_path / "out")
        assert {file.name for file in (tmp_path / "out").glob("golden*")} == {
            "golden_train.manifest",
            "golden_val.manifest",
        }

    def test_addresses_in_place_of_folders(self, tmp_path: Path):
        dataset = own_set(tmp_path / "set")
        folders = {"s3://reef/all/": tmp_path / "set/pictures"}
        spec = write_manifests(dataset, tmp_path / "out", uris=folders)
        assert '"source-ref":"s3://reef/all/p0.jpg"' in (tmp_path / "out/golden_train.manifest").read_text()
        assert_same(dataset, read_dataset(spec))

    def test_through_linked_folders(self, tmp_path: Path):
        dataset = own_set(tmp_path / "set")
        (tmp_path / "deep/er").mkdir(parents=True)
        (tmp_path / "linked").symlink_to(tmp_path / "deep/er")
        assert_same(dataset, read_dataset(write_manifests(dataset, tmp_path / "linked")))

    def test_mistakes(self, tmp_path: Path):
        dataset = own_set(tmp_path / "set")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/dataset.yaml").write_text("names: [a]\npath: .\n")
        for records, options, told in (
            (dataset.records, {"formats": ["tfrecord"]}, "choose of manifest, parquet"),
            (dataset.records, {}, "describes no manifests"),
            (dataset.records[5:], {}, "no picture is labelled"),
            ([], {}, "no picture to write"),
            ([replace(dataset.records[0], split=None)], {}, "give --fractions"),
        ):
            with pytest.raises(UserError, match=told):
                write_manifests(dataset.with_records(records), tmp_path / "out", **options)

    def test_names_that_a_run_would_refuse_are_refused_before_anything_is_written(self, tmp_path: Path):
        root = small_sets.yolo(tmp_path / "set")
        for names, told in (
            (("fish", "fish"), "class 0 is 'fish', class 1 is 'fish'"),
            (("fish", " "), "class 1 is ' '"),
        ):
            with pytest.raises(UserError) as caught:
                write_manifests(replace(read_dataset(root), names=names), tmp_path / "out")
            assert str(root) in str(caught.value) and told in str(caught.value)
        assert not (tmp_path / "out").exists()

    def test_mixed_attributes_in_parquet(self, tmp_path: Path):
        dataset = own_set(tmp_path / "set")
        values = [1, 2.5, "deep", 4]
        records = [replace(r, attributes={"x": v, "width": 3}) for r, v in zip(dataset.records[:4], values)]
        spec = write_manifests(dataset.with_records(records), tmp_path / "out", formats=["parquet"])
        back = read_dataset(spec)
        assert [record.attributes for record in back.split("train")] == [{"x": 1.0, "width": 3}, {"x": 2.5, "width": 3}]
        assert [record.attributes["x"] for record in back.split("val")] == ["deep", "4"]


class TestSpec:
    def test_one_source_for_all_three(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "dataset.yaml").write_text("version: 2\ntrain: data.yaml\nval: data.yaml\n")
        dataset = read_dataset(tmp_path / "dataset.yaml")
        assert dataset.splits() == {"train": 2, "val": 1}
        assert dataset.names == ("fish", "crab")
        assert [problem.kind for problem in dataset.problems] == ["label-syntax"]
        (tmp_path / "images/train/b.jpg").write_bytes(b"no picture")
        again = read_dataset(tmp_path / "dataset.yaml")
        assert again.splits() == {"train": 1, "val": 1}
        assert sorted(problem.kind for problem in again.problems) == ["label-syntax", "picture-unreadable"]

    def test_manifests_and_other_sources_together(self, tmp_path: Path):
        small_sets.manifest(tmp_path / "m")
        small_sets.coco(tmp_path / "c")
        (tmp_path / "dataset.yaml").write_text("version: a\ntrain: m/output.manifest\nval: c\n")
        dataset = read_dataset(tmp_path / "dataset.yaml")
        assert dataset.splits() == {"train": 2, "val": 2}
        assert dataset.names == ("fish", "crab")
        assert len({record.key for record in dataset}) == 4

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("version: 1\ntrain: gone.manifest\n", r"dataset.yaml:2: train: .*gone.manifest does not exist"),
            ("version: 1\nval: a.manifest\nslice: b\n", r"dataset.yaml:3: slice: no such setting; did you mean slices"),
            ("version: 1\ntrain: dataset.yaml\n", "is a dataset.yaml itself"),
            ("version: 1\ntrain: x\nnames: [a, a]\n", "class 1 is 'a': give every class a different name"),
            ("version: 1\ntrain: [\n", r"dataset.yaml:\d"),
        ],
    )
    def test_mistakes_name_the_line(self, tmp_path: Path, text: str, told: str):
        (tmp_path / "dataset.yaml").write_text(text)
        with pytest.raises(UserError, match=told):
            read_dataset(tmp_path / "dataset.yaml")


class TestMeasure:
    def test_values_of_known_pictures(self):
        grey = np.full((20, 30, 3), 100, np.uint8)
        assert measure_picture(grey) == {
            "brightness": 100.0, "contrast": 0.0, "blue_red_ratio": 1.0, "green_red_ratio": 1.0, "sharpness": 0.0,
        }  # fmt: skip
        water = np.zeros((4, 4, 3), np.uint8)
        water[..., 0], water[..., 1], water[..., 2] = 10, 80, 200
        found = measure_picture(water)
        assert (found["blue_red_ratio"], found["green_red_ratio"]) == (20.0, 8.0)
        assert found["brightness"] == pytest.approx(0.299 * 10 + 0.587 * 80 + 0.114 * 200, abs=1e-3)
        board = np.indices((10, 10)).sum(axis=0) % 2 * 255
        sharp = measure_picture(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
        assert sharp["contrast"] == 127.5
        assert sharp["sharpness"] == pytest.approx((4 * 255) ** 2, rel=1e-4)

    def test_attributes_clip_kinds_and_unreadable_pictures(self, tmp_path: Path):
        dataset = own_set(tmp_path / "set")
        records = [*dataset.records[:3], replace(dataset.records[4], attributes={"brightness": 1.0})]
        records[1].picture.write_bytes(records[1].picture.read_bytes()[:-200])
        measured = measure_dataset(dataset.with_records(records))
        assert [record.attributes["clip_kind"] for record in measured] == ["video", "video", "photo", "photo"]
        assert "sharpness" in measured.records[0].attributes and "sharpness" not in measured.records[1].attributes
        assert [problem.kind for problem in measured.problems] == ["picture-truncated"]
        assert measured.records[3].attributes["brightness"] == 1.0

    def test_measured_pictures_are_not_decoded_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        dataset = own_set(tmp_path / "set")
        cut = dataset.records[1].picture
        cut.write_bytes(cut.read_bytes()[:-200])
        for record in dataset:
            os.utime(record.picture, (1e9, 1e9))  # of files changed just now nothing is kept
        measured = [problem.kind for problem in measure_dataset(dataset).problems]
        monkeypatch.setattr(measure, "load_rgb", lambda *_, **__: pytest.fail("decoded again"))
        assert [problem.kind for problem in decode_dataset(dataset).problems] == measured == ["picture-truncated"]

    def test_stops_in_time(self, tmp_path: Path):
        with pytest.raises(Interrupted):
            measure_dataset(own_set(tmp_path / "set"), Clock(max_seconds=1e-9))

    def test_real_pictures(self, shared_data: Path, tmp_path: Path):
        dataset = read_dataset(shared_data / "aquarium")
        dataset = dataset.with_records([record for record in dataset if "MOV" in record.key][:20])
        measured = measure_dataset(dataset)
        assert {record.attributes["clip_kind"] for record in measured} <= {"video", "photo"}
        assert all(0 < record.attributes["brightness"] < 255 for record in measured)
        assert LONG_SIDE < 640


def test_splits_keep_groups_and_leave_unlabelled_apart(tmp_path: Path):
    dataset = own_set(tmp_path / "set", 18)
    found = divided(dataset, {"train": 0.5, "val": 0.5})
    assert len({(record.group, record.split) for record in found}) == len({record.group for record in found})
    assert_same(
        read_dataset(write_manifests(found, tmp_path / "out")).split("val"),
        found.split("val").with_records([record for record in found.split("val") if record.labelled]),
    )
