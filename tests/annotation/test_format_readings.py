"""What each real tool's labels have of their own, and every way in which they come back wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marauder.annotation.formats.answers import read_delivery
from marauder.annotation.formats.base import Reading, match_class
from marauder.core.plugins import make, resolve

NAMES = ("Purple Sea Urchin", "fish", "Ängelhaj & <co>")


def read(name: str, folder: Path, files: Mapping[str, str | bytes], expected: dict[str, Any] | None = None) -> Reading:
    """Read a delivery of the given files; by default the pictures a.jpg and b.jpg, 200 x 100, were sent."""
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    layout = resolve("annotation_format", name)
    reader = make("reader", layout.layout or name)
    return read_delivery(reader, folder, expected or {"a.jpg": (200, 100), "b.jpg": (200, 100)}, NAMES)


def kinds(reading: Reading) -> list[str]:
    return [problem.kind for problem in reading.problems]


def coco(**changes: Any) -> dict[str, Any]:
    base = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 0, "name": "fish"}, {"id": 5, "name": "star"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 0, "bbox": [10, 20, 30, 40]}],
    }
    return base | changes


class TestCoco:
    def test_paths_of_windows_and_upper_case_find_the_picture(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "C:\\work\\images\\A.JPG", "width": 200, "height": 100}]
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(images=images))})
        assert reading.answers["a.jpg"].class_names == ("fish",) and not reading.problems

    def test_a_renamed_suffix_and_accents_decomposed_find_the_picture(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "Bla\u030ahaj.png", "width": 200, "height": 100}]
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(images=images))}, {"Blåhaj.jpg": (200, 100)})
        assert list(reading.answers) == ["Blåhaj.jpg"]

    @pytest.mark.parametrize(
        ("row", "kind"),
        [
            ({"image_id": 7, "category_id": 0, "bbox": [1, 2, float("nan"), 4]}, "number-invalid"),
            ({"image_id": 7, "category_id": 0, "bbox": [1, 2, 1e400, 4]}, "number-invalid"),
            ({"image_id": 7, "category_id": 0, "bbox": [1, 2, 10**400, 4]}, "number-invalid"),
            ({"image_id": 7, "category_id": 0, "bbox": "1 2 3 4"}, "number-invalid"),
            ({"image_id": 7, "category_id": 0}, "number-invalid"),
            ({"image_id": 7, "category_id": 0, "bbox": [50, 50, -20, 10]}, "number-invalid"),
            ({"image_id": 7, "category_id": 0, "bbox": [150, 50, 90, 10]}, "box-out-of-bounds"),
            ({"image_id": 8, "category_id": 0, "bbox": [1, 2, 3, 4]}, "label-without-picture"),
            ({"image_id": 7, "category_id": None, "bbox": [1, 2, 3, 4]}, "class-missing"),
            ([1, 2], "label-syntax"),
        ],
    )
    def test_each_malformed_annotation_is_one_problem_and_the_rest_is_read(
        self, tmp_path: Path, row: Any, kind: str
    ) -> None:
        good = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 20, 30, 40]}
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(annotations=[row, good]))})
        assert kinds(reading) == [kind]
        assert reading.answers["a.jpg"].class_names[-1] == "star"
        kept = kind in ("box-degenerate", "box-out-of-bounds")
        assert len(reading.answers["a.jpg"].boxes) == 1 + kept

    def test_an_unknown_category_keeps_its_number_as_a_name(self, tmp_path: Path) -> None:
        row = {"id": 1, "image_id": 7, "category_id": 99, "bbox": [10, 20, 30, 40]}
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(annotations=[row]))})
        assert reading.answers["a.jpg"].class_names == ("category 99",)
        assert match_class("category 99", NAMES) is None

    @pytest.mark.parametrize("first", [0, 1])
    def test_without_categories_the_numbers_count_from_the_smallest(self, tmp_path: Path, first: int) -> None:
        rows = [{"id": n, "image_id": 7, "category_id": n + first, "bbox": [10, 20, 30, 40]} for n in range(len(NAMES))]
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(annotations=rows, categories=[]))})
        assert reading.answers["a.jpg"].class_names == NAMES and kinds(reading) == ["names-missing"]

    def test_boxes_in_fractions_are_turned_into_pixels_and_told(self, tmp_path: Path) -> None:
        row = {"id": 1, "image_id": 7, "category_id": 0, "bbox": [0.1, 0.2, 0.3, 0.4]}
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(annotations=[row]))})
        np.testing.assert_allclose(reading.answers["a.jpg"].boxes, [[20, 20, 80, 60]])
        assert kinds(reading) == ["units-converted"]

    def test_boxes_of_pictures_that_were_scaled_are_scaled_back(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}]
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(images=images))})
        np.testing.assert_allclose(reading.answers["a.jpg"].boxes, [[20, 40, 80, 120]])
        assert kinds(reading) == ["size-scaled", "box-out-of-bounds"]

    def test_a_picture_of_another_shape_is_told_and_left(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 200}]
        assert kinds(read("coco", tmp_path, {"x.json": json.dumps(coco(images=images))})) == ["size-mismatch"]

    def test_a_picture_that_stands_twice_keeps_its_first_entry(self, tmp_path: Path) -> None:
        images = [{"id": n, "file_name": "a.jpg", "width": 200, "height": 100} for n in (7, 8)]
        rows = [{"id": n, "image_id": n, "category_id": 0, "bbox": [n, 20, 30, 40]} for n in (7, 8)]
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(images=images, annotations=rows))})
        assert reading.answers["a.jpg"].boxes[:, 0].tolist() == [7] and kinds(reading) == ["picture-twice"]

    def test_a_polygon_without_a_box_is_read_as_the_box_around_it(self, tmp_path: Path) -> None:
        row = {"id": 1, "image_id": 7, "category_id": 0, "segmentation": [[10, 20, 50, 25, 30, 60]]}
        reading = read("coco", tmp_path, {"x.json": json.dumps(coco(annotations=[row]))})
        assert reading.answers["a.jpg"].boxes.tolist() == [[10, 20, 50, 60]] and kinds(reading) == ["shape-converted"]

    def test_invalid_json_names_its_line(self, tmp_path: Path) -> None:
        reading = read("coco", tmp_path, {"x.json": '{"images": [],\n"annotations": [,]}'})
        assert [(p.path, p.line, p.kind) for p in reading.problems] == [("x.json", 2, "label-syntax")]

    def test_lists_nested_without_end_are_a_problem(self, tmp_path: Path) -> None:
        deep = '{"images": ' + "[" * 200_000 + "]" * 200_000 + "}"
        assert kinds(read("coco", tmp_path, {"x.json": deep})) == ["label-syntax"]

    @pytest.mark.parametrize(("encoding", "told"), [("utf-8-sig", False), ("utf-16", True), ("latin-1", True)])
    def test_other_encodings_are_read_and_told(self, tmp_path: Path, encoding: str, told: bool) -> None:
        text = json.dumps(coco(categories=[{"id": 0, "name": "Ängelhaj"}]), ensure_ascii=False)
        reading = read("coco", tmp_path, {"x.json": text.encode(encoding)})
        assert reading.answers["a.jpg"].class_names == ("Ängelhaj",)
        assert kinds(reading) == (["label-encoding"] if told else [])

    def test_pre_labels_sent_back_beside_the_answer_are_no_answer(self, tmp_path: Path) -> None:
        ours = coco(annotations=[], images=[{"id": 1, "file_name": "b.jpg", "width": 200, "height": 100}])
        files = {"prelabels.json": json.dumps(ours), "annotations.json": json.dumps(coco())}
        reading = read("mindy", tmp_path, files)
        assert list(reading.answers) == ["a.jpg"] and not reading.problems

    def test_the_file_that_was_sent_is_no_answer(self, tmp_path: Path) -> None:
        reading = read("mindy", tmp_path, {"prelabels.json": json.dumps(coco())})
        assert not reading.answers and kinds(reading) == ["not-answered"]

    def test_without_a_list_of_annotations_nothing_was_answered(self, tmp_path: Path) -> None:
        content = coco()
        del content["annotations"]
        reading = read("coco", tmp_path, {"x.json": json.dumps(content)})
        assert not reading.answers and kinds(reading) == ["label-syntax"]


class TestYolo:
    def test_names_come_from_data_yaml_or_from_the_class_list(self, tmp_path: Path) -> None:
        label = "1 0.5 0.5 0.1 0.2\n"
        one = read("yolo", tmp_path / "1", {"data.yaml": "names: [x, y]\n", "labels/train/a.txt": label})
        other = read("yolo", tmp_path / "2", {"classes.txt": "x\ny\n", "a.txt": label})
        assert one.answers["a.jpg"].class_names == other.answers["a.jpg"].class_names == ("y",)
        np.testing.assert_allclose(one.answers["a.jpg"].boxes, [[90, 40, 110, 60]])
        assert not one.problems and not other.problems

    def test_an_empty_label_file_is_an_answer_and_a_missing_one_is_not(self, tmp_path: Path) -> None:
        reading = read("yolo", tmp_path, {"data.yaml": "names: [x]\n", "labels/a.txt": ""})
        assert list(reading.answers) == ["a.jpg"] and not len(reading.answers["a.jpg"].boxes)

    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ("0 nan 0.5 0.1 0.2", "label-syntax"),
            ("0 inf 0.5 0.1 0.2", "label-syntax"),
            ("0.5 0.5 0.5 0.1 0.2", "label-syntax"),
            ("fish 0.5 0.5 0.1 0.2", "label-syntax"),
            ("0 0.5 0.5 0.1", "label-syntax"),
            ("0 90 40 20 20", "number-invalid"),
            ("1e300 0.5 0.5 0.1 0.2", "class-missing"),
            ("0 0.5 0.5 -0.1 0.2", "box-degenerate"),
            ("0 0.99 0.5 0.1 0.2", "box-out-of-bounds"),
            ("0 0.1 0.1 0.2 0.1 0.2 0.3", "shape-converted"),
        ],
    )
    def test_each_odd_line_is_told_with_its_number(self, tmp_path: Path, line: str, kind: str) -> None:
        files = {"data.yaml": "names: [x]\n", "labels/a.txt": f"0 0.5 0.5 0.1 0.2\n{line}\n"}
        reading = read("yolo", tmp_path, files)
        assert [(problem.kind, problem.line, problem.key) for problem in reading.problems] == [(kind, 2, "a.jpg")]
        kept = kind in ("box-degenerate", "box-out-of-bounds", "shape-converted")
        assert len(reading.answers["a.jpg"].boxes) == 1 + kept

    @pytest.mark.parametrize("first", [0, 1])
    def test_without_names_numbers_are_those_sent(self, tmp_path: Path, first: int) -> None:
        lines = "".join(f"{n + first} 0.5 0.5 0.1 0.2\n" for n in range(len(NAMES)))
        reading = read("yolo", tmp_path, {"labels/a.txt": lines})
        assert reading.answers["a.jpg"].class_names == NAMES and kinds(reading) == ["names-missing"]

    def test_a_data_yaml_that_is_none_is_told_with_its_line(self, tmp_path: Path) -> None:
        reading = read("yolo", tmp_path, {"data.yaml": "names: [x\n", "labels/a.txt": "0 0.5 0.5 0.1 0.2\n"})
        assert kinds(reading) == ["label-syntax", "names-missing"]


def cvat(body: str, head: str = '<?xml version="1.0" encoding="utf-8"?>\n') -> str:
    return f"{head}<annotations><version>1.1</version>\n{body}\n</annotations>\n"


IMAGE = '<image id="0" name="a.jpg" width="200" height="100">{}</image>'


class TestCvat:
    @pytest.mark.parametrize(
        ("shape", "box", "kind"),
        [
            ('<box label="fish" xtl="1" ytl="2" xbr="3" ybr="4"/>', [1, 2, 3, 4], None),
            ('<polygon label="fish" points="10,20;30,25;20,60"/>', [10, 20, 30, 60], "shape-converted"),
            (
                '<box label="fish" xtl="40" ytl="40" xbr="60" ybr="50" rotation="90"/>',
                [45, 35, 55, 55],
                "shape-converted",
            ),
            ('<ellipse label="fish" cx="50" cy="50" rx="10" ry="5"/>', [40, 45, 60, 55], "shape-converted"),
            ('<mask label="fish" rle="1" left="5" top="6" width="7" height="8"/>', [5, 6, 12, 14], "shape-converted"),
            ('<box label="fish" xtl="1" ytl="nan" xbr="3" ybr="4"/>', None, "number-invalid"),
            ('<box label="fish" xtl="1" xbr="3" ybr="4"/>', None, "number-invalid"),
            ('<box xtl="1" ytl="2" xbr="3" ybr="4"/>', None, "class-missing"),
            ('<skeleton label="fish"/>', None, "shape-unknown"),
            ('<tag label="murky"/>', None, None),
        ],
    )
    def test_shapes(self, tmp_path: Path, shape: str, box: list[float] | None, kind: str | None) -> None:
        reading = read("cvat", tmp_path, {"annotations.xml": cvat(IMAGE.format(shape))})
        np.testing.assert_allclose(reading.answers["a.jpg"].boxes, [box] if box else np.zeros((0, 4)), atol=1e-9)
        assert [(problem.kind, problem.line) for problem in reading.problems] == ([(kind, 3)] if kind else [])

    def test_attributes_and_occlusion_belong_to_their_box(self, tmp_path: Path) -> None:
        shape = (
            '<box label="fish" occluded="1" xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="sex">female</attribute>'
            '<attribute name="young">true</attribute></box><box label="fish" xtl="1" ytl="2" xbr="3" ybr="4"/>'
        )
        answer = read("cvat", tmp_path, {"annotations.xml": cvat(IMAGE.format(shape))}).answers["a.jpg"]
        assert [dict(row) for row in answer.attributes] == [{"occluded": True, "sex": "female", "young": True}, {}]

    def test_entities_are_refused(self, tmp_path: Path) -> None:
        bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
        reading = read("cvat", tmp_path, {"annotations.xml": cvat(IMAGE.format("&b;"), bomb)})
        assert not reading.answers and kinds(reading) == ["label-syntax"]

    def test_a_picture_that_the_file_breaks_off_in_is_not_answered(self, tmp_path: Path) -> None:
        text = cvat(IMAGE.format("") + '\n<image name="b.jpg" width="200" height="100"><box label="fish"')
        reading = read("cvat", tmp_path, {"annotations.xml": text})
        assert list(reading.answers) == ["a.jpg"]
        assert [(problem.kind, problem.key) for problem in reading.problems] == [("label-syntax", "b.jpg")]

    @pytest.mark.parametrize("encoding", ["utf-16", "windows-1251", "iso-8859-1"])
    def test_the_declared_encoding_is_used(self, tmp_path: Path, encoding: str) -> None:
        label = "рыба" if encoding != "iso-8859-1" else "Ängelhaj"
        shape = f'<box label="{label}" xtl="1" ytl="2" xbr="3" ybr="4"/>'
        text = cvat(IMAGE.format(shape), f'<?xml version="1.0" encoding="{encoding}"?>\n')
        reading = read("cvat", tmp_path, {"annotations.xml": text.encode(encoding)})
        assert reading.answers["a.jpg"].class_names == (label,) and kinds(reading) == ["label-encoding"]

    def test_tracks_of_a_video_are_told(self, tmp_path: Path) -> None:
        text = cvat('<track id="0" label="fish"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>')
        reading = read("cvat", tmp_path, {"annotations.xml": text})
        assert not reading.answers and "CVAT for images" in reading.problems[0].message

    def test_elements_without_end_are_told(self, tmp_path: Path) -> None:
        text = cvat("<a>" * 100_000 + "</a>" * 100_000)
        assert kinds(read("cvat", tmp_path, {"annotations.xml": text})) == ["label-syntax"]


def region(**value: Any) -> dict[str, Any]:
    base = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["fish"]}
    return {
        "id": "r",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "value": base | value,
    }


def task(*regions: Any, image: str = "/data/upload/3/0a1b2c3d-a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(regions), **more}]}


class TestLabelStudio:
    def read(self, folder: Path, *tasks: Any) -> Reading:
        return read("label_studio", folder, {"export.json": json.dumps(list(tasks))})

    @pytest.mark.parametrize(
        "image",
        [
            "/data/upload/3/0a1b2c3d-a.jpg",
            "/data/local-files/?d=batch/images/a.jpg",
            "s3://bucket/some/a.jpg",
            "https://host/a.jpg?X-Amz-Signature=1",
            "a.jpg",
        ],
    )
    def test_addresses_find_the_picture(self, tmp_path: Path, image: str) -> None:
        reading = self.read(tmp_path, task(region(), image=image))
        np.testing.assert_allclose(reading.answers["a.jpg"].boxes, [[20, 20, 80, 60]])
        assert not reading.problems

    def test_a_turned_box_is_read_as_the_box_around_it(self, tmp_path: Path) -> None:
        # A quarter turn clockwise about the top left corner (20, 20): 60 x 40 pixels hang down to its left.
        reading = self.read(tmp_path, task(region(rotation=90)))
        np.testing.assert_allclose(reading.answers["a.jpg"].boxes, [[-20, 20, 20, 80]], atol=1e-9)
        assert kinds(reading) == ["shape-converted", "box-out-of-bounds"]

    def test_predictions_alone_are_no_answer(self, tmp_path: Path) -> None:
        unfinished = {"data": {"image": "a.jpg"}, "annotations": [], "predictions": [{"result": [region()]}]}
        reading = self.read(tmp_path, unfinished, task(image="b.jpg"))
        assert list(reading.answers) == ["b.jpg"] and not len(reading.answers["b.jpg"].boxes)
        assert [(problem.kind, problem.key) for problem in reading.problems] == [("not-answered", "a.jpg")]

    def test_a_skipped_task_is_no_answer(self, tmp_path: Path) -> None:
        reading = self.read(tmp_path, task(was_cancelled=True))
        assert not reading.answers and kinds(reading) == ["not-answered"]

    def test_of_several_annotations_the_latest_is_taken_unless_one_is_the_truth(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {"result": [region(rectanglelabels=["old"])], "updated_at": "2026-01-01T00:00:00Z"},
            {"result": [region(rectanglelabels=["new"])], "updated_at": "2026-02-01T00:00:00Z"},
        ]
        both = {"data": {"image": "a.jpg"}, "annotations": rows}
        reading = self.read(tmp_path, both)
        assert reading.answers["a.jpg"].class_names == ("new",) and kinds(reading) == ["several-answers"]
        rows[0]["ground_truth"] = True
        assert self.read(tmp_path, both).answers["a.jpg"].class_names == ("old",)

    def test_json_min(self, tmp_path: Path) -> None:
        value = {**region()["value"], "original_width": 200, "original_height": 100}
        flat = [{"image": "/data/upload/1/deadbeef-a.jpg", "id": 1, "label": [value], "annotator": 1}]
        flat.append({"image": "b.jpg", "id": 2, "annotator": 1})
        reading = self.read(tmp_path, *flat)
        np.testing.assert_allclose(reading.answers["a.jpg"].boxes, [[20, 20, 80, 60]])
        assert reading.answers["a.jpg"].class_names == ("fish",) and not len(reading.answers["b.jpg"].boxes)
        assert not reading.problems

    def test_labels_of_a_control_of_their_own_are_put_together_by_id(self, tmp_path: Path) -> None:
        place = {key: region()["value"][key] for key in ("x", "y", "width", "height")}
        rows = [
            {"id": "r", "type": "rectangle", "value": place},
            {"id": "r", "type": "labels", "value": {**place, "labels": ["fish"]}},
        ]
        reading = self.read(tmp_path, task(*rows))
        assert set(reading.answers["a.jpg"].class_names) == {"fish"} and len(reading.answers["a.jpg"].boxes) == 1

    @pytest.mark.parametrize(
        ("odd", "kind"),
        [
            (region(x="ten"), "number-invalid"),
            (region(width=None), "number-invalid"),
            (region(rectanglelabels=[]), "class-missing"),
            ({**region(), "type": "brushlabels"}, "shape-unknown"),
            (17, "shape-unknown"),
            (region(width=-5), "box-degenerate"),
            (region(width=95), "box-out-of-bounds"),
        ],
    )
    def test_each_odd_region_is_one_problem(self, tmp_path: Path, odd: Any, kind: str) -> None:
        reading = self.read(tmp_path, task(region(), odd))
        assert kinds(reading) == [kind] and reading.answers["a.jpg"].class_names[0] == "fish"
