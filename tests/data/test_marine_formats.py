"""VIAME, BIIGLE and labelme: what each shape and each odd row becomes, and that nothing goes missing without a word."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from format_writers import BIIGLE_HEADER, VIAME_HEADER, write_biigle, write_labelme, write_viame
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from marauder.data.formats.base import Parsed, ReadOptions
from marauder.data.formats.biigle import BiigleReader
from marauder.data.formats.deepfish import DeepFishReader
from marauder.data.formats.entries import Findings
from marauder.data.formats.labelme import LabelmeReader
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text
from marauder.data.formats.viame import ViameReader
from marauder.data.reading import read_dataset

FORMATS = {"viame": (ViameReader, write_viame), "biigle": (BiigleReader, write_biigle)}
FORMATS["labelme"] = (LabelmeReader, write_labelme)
ROWS = [("a.jpg", 80, 60, [(20.0, 10.0, 60.0, 40.0, "crab")]), ("b.jpg", 80, 60, [(1.5, 2.0, 7.0, 9.25, "fish")])]


def read(kind, path: Path, guess: bool = False) -> tuple[Parsed, Findings]:
    findings = Findings(guess)
    return kind().parse(Source(path), ReadOptions(), findings), findings


def kinds(findings: Findings) -> dict[str, int]:
    return dict(Counter(finding.kind for finding in findings.list))


def boxes(parsed: Parsed) -> dict[str, list]:
    return {entry.names[0]: [(label.box, label.class_name) for label in entry.labels] for entry in parsed.entries}


def viame(folder: Path, *lines: str) -> Path:
    (folder / "a.csv").write_text("\n".join((",".join(VIAME_HEADER), *lines)) + "\n", encoding="utf-8")
    return folder


def biigle(folder: Path, *rows: dict, header=BIIGLE_HEADER, delimiter: str = ",", name: str = "v.csv") -> Path:
    usual = {"label_name": "crab", "filename": "a.jpg", "shape_name": "Rectangle", "image_id": "7"}
    with (folder / name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header, delimiter=delimiter, extrasaction="ignore")
        writer.writeheader()
        for number, row in enumerate(rows):
            points = json.dumps(row.get("points", [20, 10, 60, 10, 60, 40, 20, 40]))
            writer.writerow({"annotation_id": 500 + number, **usual, **row, "points": points})
    return folder


def labelme(folder: Path, *shapes, name: str = "a.json", **content) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    usual = {"imagePath": "a.jpg", "imageData": None, "imageWidth": 80, "imageHeight": 60, "shapes": list(shapes)}
    path.write_text(json.dumps(usual | content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", FORMATS)
class TestEach:
    def test_reads_what_its_tool_writes(self, name: str, tmp_path: Path):
        kind, write = FORMATS[name]
        write(tmp_path, ROWS)
        parsed, findings = read(kind, tmp_path)
        assert findings.list == []
        assert list(boxes(parsed).values()) == [[((20, 10, 60, 40), "crab")], [((1.5, 2, 7, 9.25), "fish")]]
        assert [label.line for entry in parsed.entries for label in entry.labels] == {
            "viame": [3, 4],
            "biigle": [2, 3],
            "labelme": [None, None],
        }[name]
        assert all(entry.file in parsed.used and entry.labelled and not entry.relative for entry in parsed.entries)
        assert {(entry.width, entry.height) for entry in parsed.entries} == {(0, 0) if name == "viame" else (80, 60)}

    def test_knows_its_own_files_only(self, name: str, tmp_path: Path):
        for other, (_, write) in FORMATS.items():
            write(tmp_path / other, ROWS)
        (tmp_path / "mot.csv").write_text(
            "1,3,794.2,47.5,71.2,174.8,1,-1,-1,-1\n1,6,164.1,19.6,66.5,163.2,1,-1,-1,-1\n"
        )
        (tmp_path / "table.csv").write_text("name,count\nfish,3\n")
        (tmp_path / "empty.csv").write_text("")
        (tmp_path / "bytes.csv").write_bytes(bytes(range(256)))
        (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
        (tmp_path / "broken.json").write_text("[" * 50)
        found = FORMATS[name][0]().files(Source(tmp_path))
        assert found
        assert {path.parent.name for path in found} == {name}

    def test_a_file_of_no_stated_encoding(self, name: str, tmp_path: Path):
        kind, write = FORMATS[name]
        path = write(tmp_path, [("a.jpg", 80, 60, [(1, 2, 30, 40, "Bänderkrebs")])])
        path = next(path.glob("*.json")) if path.is_dir() else path
        path.write_bytes(path.read_text(encoding="utf-8").replace("\\u00e4", "ä").encode("latin-1"))
        parsed, findings = read(kind, tmp_path)
        assert kinds(findings) == {"label-encoding": 1}
        assert not any(entry.labelled for entry in parsed.entries)
        parsed, findings = read(kind, tmp_path, guess=True)
        assert kinds(findings) == {"label-encoding": 1}
        assert list(boxes(parsed).values()) == [[((1, 2, 30, 40), "Bänderkrebs")]]


class TestViame:
    def test_fields_tokens_and_comments(self, tmp_path: Path):
        viame(
            tmp_path,
            "0,a.jpg,0,60,40,20,10,0.8,12.5,fish,0.3,crab,0.7,(kp) head 1 2,(poly) 1 2 3 4 5 6,"
            "(atr) sex female and old,(atr) eggs true,(trk-atr) count 3,(note) nothing",
            "# a comment within",
            '1,b.jpg,1,1,2,3,4,1.0,-1,fish,1.0,"(note) two\nlines"',
            "2,a.jpg,0,1,2,3,4,-1,0,fish,1.0",
        )
        parsed, findings = read(ViameReader, tmp_path)
        assert findings.list == []
        assert [(entry.names, entry.line) for entry in parsed.entries] == [(("a.jpg",), 2), (("b.jpg",), 5)]
        first, second = parsed.entries[0].labels
        assert (first.box, first.class_name, first.line, first.place) == ((60, 40, 20, 10), "crab", 2, "detection 0")
        expected = {"sex": "female and old", "eggs": True, "count": 3.0, "score": 0.7, "length": 12.5}
        assert first.details == expected
        assert (second.class_name, second.line, second.details) == ("fish", 6, {})

    def test_rows_of_one_id_are_a_track(self, tmp_path: Path):
        rows = [f"{identity},{name}.jpg,0,1,2,3,4,1,-1,fish,1" for identity, name in ((4, "a"), (4, "b"), (5, "a"))]
        parsed, _ = read(ViameReader, viame(tmp_path, *rows))
        assert [label.details for entry in parsed.entries for label in entry.labels] == [{"track": 4}, {}, {"track": 4}]

    @pytest.mark.parametrize(
        ("row", "kind"),
        [
            ("9,a.jpg,0,1,2,nan,4,1,-1,fish,1", "number-invalid"),
            ("9,a.jpg,0,1,2,1e400,4,1,-1,fish,1", "number-invalid"),
            ("9,a.jpg,0,1,,3,4,1,-1,fish,1", "number-invalid"),
            ("9,a.jpg,0,1,2,3,4,1,-1,Sebastes, juvenile,1", "number-invalid"),
            ("9,a.jpg,0,1,2,3,4,-1,fish,1", "number-invalid"),
            ("9,a.jpg,0,5,5,5,5,1,-1,fish,1", "shape-without-extent"),
            ("9,a.jpg,0,1,2,3,4,1,-1", "class-missing"),
            ("9,a.jpg,0,1,2,3,4,1,-1,,", "class-missing"),
            ("9,a.jpg,0,1,2,3,4,1,-1,(kp) head 1 2,fish,1", "class-missing"),
            ("9,a.jpg,0,1,2", "label-syntax"),
        ],
    )
    def test_an_odd_row_is_one_finding_and_the_rest_is_read(self, tmp_path: Path, row: str, kind: str):
        viame(tmp_path, "0,a.jpg,0,1,2,3,4,1,-1,fish,1", row, "1,a.jpg,0,5,6,7,8,1,-1,crab,1")
        parsed, findings = read(ViameReader, tmp_path)
        assert boxes(parsed) == {"a.jpg": [((1, 2, 3, 4), "fish"), ((5, 6, 7, 8), "crab")]}
        (finding,) = findings.list
        assert (finding.kind, finding.line, finding.entry) == (kind, 3, parsed.entries[0])

    def test_a_picture_of_which_nothing_can_be_used_is_still_named(self, tmp_path: Path):
        parsed, findings = read(ViameReader, viame(tmp_path, "0,a.jpg,0,1,2,3,4,1,-1"))
        assert boxes(parsed) == {"a.jpg": []}
        assert findings.list[0].entry is parsed.entries[0]

    def test_classes_as_sure_as_each_other(self, tmp_path: Path):
        row = "{},a.jpg,0,1,2,3,4,1,-1,fish"
        rows = [
            f"{row}{more}".format(number) for number, more in enumerate((",0.5,crab,0.5", "", ",0.9,crab,0.5,fish,0.1"))
        ]
        parsed, findings = read(ViameReader, viame(tmp_path, *rows))
        assert [(finding.kind, finding.line) for finding in findings.list] == [("class-several", 2)]
        assert [label.class_name for label in parsed.entries[0].labels] == ["fish", "fish", "fish"]

    @pytest.mark.parametrize("second", ["00:00:01.500000", "1:02.5", "", "12.5", "dive 7.MP4"])
    def test_rows_of_a_video_are_told_once_with_their_number(self, tmp_path: Path, second: str):
        rows = [f"{number},{second},{number},1,2,3,4,1,-1,fish,1" for number in range(5)]
        parsed, findings = read(ViameReader, viame(tmp_path, *rows, "9,a.jpg,0,1,2,3,4,1,-1,fish,1"))
        assert boxes(parsed) == {"a.jpg": [((1, 2, 3, 4), "fish")]}
        (finding,) = findings.list
        assert (finding.kind, finding.line) == ("label-without-picture", 2)
        assert finding.message.startswith("5 rows")

    def test_pictures_that_are_named_otherwise(self, tmp_path: Path):
        (tmp_path / "0012.png").touch()
        viame(
            tmp_path,
            "0,0012,0,1,2,3,4,1,-1,fish,1",
            "1,dive.mp4,frame7.png,1,2,3,4,1,-1,fish,1",
            "2,x,2,1,2,3,4,1,-1,y,1",
            "3,a.jpg,b.jpg,1,2,3,4,1,-1,y,1",
        )
        parsed, findings = read(ViameReader, tmp_path)
        assert list(boxes(parsed)) == ["0012", "frame7.png", "x", "a.jpg"]
        assert findings.list == []

    def test_bare_names_are_looked_for_where_the_pictures_are(self, tmp_path: Path):
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures/0012.png").touch()
        viame(tmp_path, "0,0012,0,1,2,3,4,1,-1,fish,1", "1,0013,0,1,2,3,4,1,-1,fish,1")
        (tmp_path / "labels").mkdir()
        (tmp_path / "a.csv").rename(tmp_path / "labels/a.csv")
        findings = Findings()
        options = ReadOptions(pictures=tmp_path / "pictures")
        parsed = ViameReader().parse(Source(tmp_path / "labels"), options, findings)
        assert list(boxes(parsed)) == ["0012"]
        assert kinds(findings) == {"label-without-picture": 1}

    def test_a_header_without_its_mark(self, tmp_path: Path):
        row = "0,a.jpg,0,1,2,3,4,1,-1,fish,1\n"
        (tmp_path / "a.csv").write_text(f"detection_id,image,frame,x0,y0,x1,y1,confidence,length,species,sure\n{row}")
        parsed, findings = read(ViameReader, tmp_path)
        assert (len(parsed.entries), findings.list) == (1, [])
        (tmp_path / "a.csv").write_text(f"{row}see my notes\nid,image,frame,a,b,c,d\n{row}")
        parsed, findings = read(ViameReader, tmp_path)
        assert len(parsed.entries[0].labels) == 2
        assert [(finding.kind, finding.line) for finding in findings.list] == [("label-syntax", 2), ("label-syntax", 3)]

    def test_what_stands_before_the_header_is_told(self, tmp_path: Path):
        path = viame(tmp_path, "0,a.jpg,0,1,2,3,4,1,-1,fish,1") / "a.csv"
        path.write_text("see my notes\n" + path.read_text())
        assert [(finding.kind, finding.line) for finding in read(ViameReader, tmp_path)[1].list] == [
            ("label-syntax", 1)
        ]

    def test_an_open_quotation_mark_is_not_passed_over(self, tmp_path: Path):
        row = "0,a.jpg,0,1,2,3,4,1,-1,fish,1"
        _, findings = read(ViameReader, viame(tmp_path, row, '# he said,"look', row, row))
        assert kinds(findings) == {"label-syntax": 1}

    def test_saved_by_a_spreadsheet(self, tmp_path: Path):
        (tmp_path / "a.CSV").write_text("0;a.jpg;0;1;2;3.5;4;1;-1;fish;1;;\n1;a.jpg;0;1;2;3,5;4;1;-1;fish;1;;\n")
        parsed, findings = read(ViameReader, tmp_path)
        assert boxes(parsed) == {"a.jpg": [((1, 2, 3.5, 4), "fish")]}
        assert kinds(findings) == {"number-invalid": 1}


class TestBiigle:
    @pytest.mark.parametrize(
        ("shape", "points", "box"),
        [
            ("Rectangle", [60.02, 40, 20, 40, 20, 10, 60, 10], (20, 10, 60.02, 40)),
            ("Rectangle", [30, 0, 60, 30, 30, 60, 0, 30], (0, 0, 60, 60)),
            ("Circle", [30, 20, 5.5], (24.5, 14.5, 35.5, 25.5)),
            ("Ellipse", [10, 20, 50, 20, 30, 15, 30, 25], (10, 15, 50, 25)),
            ("Polygon", [1, 2, 9, 3, 4, 8, 1, 2], (1, 2, 9, 8)),
        ],
    )
    def test_shapes(self, tmp_path: Path, shape: str, points: list, box: tuple):
        parsed, findings = read(BiigleReader, biigle(tmp_path, {"shape_name": shape, "points": points}))
        assert parsed.entries[0].labels[0].box == pytest.approx(box)
        upright = shape == "Rectangle" and points[0] == 60.02
        assert kinds(findings) == ({} if upright else {"shape-converted": 1})

    def test_a_turned_ellipse_fills_its_box(self, tmp_path: Path):
        turn, half = math.radians(30), [(40.0, 0.0), (-40.0, 0.0), (0.0, 10.0), (0.0, -10.0)]
        ends = [(x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)) for x, y in half]
        points = [value for x, y in ends for value in (100 + x, 100 + y)]
        parsed, _ = read(BiigleReader, biigle(tmp_path, {"shape_name": "Ellipse", "points": points}))
        rim = [
            (
                100 + 40 * math.cos(angle / 500) * math.cos(turn) - 10 * math.sin(angle / 500) * math.sin(turn),
                100 + 40 * math.cos(angle / 500) * math.sin(turn) + 10 * math.sin(angle / 500) * math.cos(turn),
            )
            for angle in range(3142)
        ]
        xs, ys = [x for x, _ in rim], [y for _, y in rim]
        assert parsed.entries[0].labels[0].box == pytest.approx((min(xs), min(ys), max(xs), max(ys)), abs=1e-3)

    @pytest.mark.parametrize(
        ("row", "kind"),
        [
            ({"shape_name": "Point", "points": [3, 4]}, "shape-without-extent"),
            ({"shape_name": "WholeFrame", "points": []}, "shape-without-extent"),
            ({"shape_name": "LineString", "points": [3, 4, 9, 4]}, "shape-without-extent"),
            ({"shape_name": "Circle", "points": [3, 4, 0]}, "shape-without-extent"),
            ({"shape_name": "Circle", "points": [3, 4]}, "number-invalid"),
            ({"points": [3, 4, None, 4, 3, 3, 3, 3]}, "number-invalid"),
            ({"points": [3, 4, 1e300, 4, 3, 3, 3, 3]}, "number-invalid"),
            ({"points": "[1, 2, 3"}, "number-invalid"),
            ({"shape_name": "Spline"}, "shape-unknown"),
            ({"label_name": " "}, "class-missing"),
        ],
    )
    def test_an_odd_row_is_one_finding_and_the_rest_is_read(self, tmp_path: Path, row: dict, kind: str):
        parsed, findings = read(BiigleReader, biigle(tmp_path, {}, row, {"label_name": "fish"}))
        assert [label.class_name for label in parsed.entries[0].labels] == ["crab", "fish"]
        (finding,) = findings.list
        assert (finding.kind, finding.line, finding.entry) == (kind, 3, parsed.entries[0])

    def test_a_row_without_a_picture(self, tmp_path: Path):
        parsed, findings = read(BiigleReader, biigle(tmp_path, {"filename": ""}, {}))
        assert len(parsed.entries) == 1
        assert [(finding.kind, finding.line) for finding in findings.list] == [("label-without-picture", 2)]

    def test_several_labels_of_one_annotation(self, tmp_path: Path):
        rows = [{"annotation_id": 5, "label_name": name} for name in ("crab", "crab", "fish")]
        biigle(tmp_path, *rows[:2])
        biigle(tmp_path, *rows[2:], name="w.csv")  # a report for each label tree
        parsed, findings = read(BiigleReader, tmp_path)
        assert [label.class_name for entry in parsed.entries for label in entry.labels] == ["crab"]
        (finding,) = findings.list
        assert (finding.kind, finding.file.name, finding.entry) == ("class-several", "w.csv", parsed.entries[0])

    def test_pictures_of_one_name_in_two_volumes(self, tmp_path: Path):
        biigle(tmp_path, {}, {"filename": "b.jpg"})
        biigle(tmp_path, {"image_id": "8", "annotation_id": 900}, name="w.csv")
        parsed, findings = read(BiigleReader, tmp_path)
        found = [(entry.names, entry.key, entry.labelled) for entry in parsed.entries]
        assert found == [(("a.jpg",), "", False), (("b.jpg",), "", True), (("a.jpg",), "", False)]
        told = [(finding.kind, finding.file.name, finding.entry) for finding in findings.list]
        assert told == [
            ("picture-ambiguous", "v.csv", parsed.entries[0]),
            ("picture-ambiguous", "w.csv", parsed.entries[2]),
        ]
        assert "has the image ids 7 and 8: which volume is it from?" in findings.list[0].message

    def test_reports_without_image_ids_are_of_one_volume(self, tmp_path: Path):
        header = [name for name in BIIGLE_HEADER if name != "image_id"]
        biigle(tmp_path, {}, header=header)
        biigle(tmp_path, {"annotation_id": 900}, header=header, name="w.csv")
        parsed, findings = read(BiigleReader, tmp_path)
        assert (len(parsed.entries), findings.list) == (2, []) and all(entry.labelled for entry in parsed.entries)

    def test_one_annotation_in_two_branches(self, tmp_path: Path):
        rows = [{"annotation_id": 5, "label_name": "x", "label_hierarchy": f"{branch} > x"} for branch in "AAB"]
        parsed, findings = read(BiigleReader, biigle(tmp_path, *rows))
        assert len(parsed.entries[0].labels) == 1
        assert [(finding.kind, finding.line) for finding in findings.list] == [("class-several", 4)]
        assert "(A > x, B > x)" in findings.list[0].message

    def test_the_clip_in_the_file_name_is_the_group(self, tmp_path: Path):
        for number in range(2):
            Image.new("RGB", (80, 60)).save(tmp_path / f"dive7_frame_{number:06d}.jpg")
        names = [f"dive7_frame_{number:06d}.jpg" for number in range(2)]
        biigle(tmp_path, *({"filename": name, "image_id": str(number)} for number, name in enumerate(names, 70)))
        records = read_dataset(tmp_path).records
        assert [record.key for record in records] == [name.removesuffix(".jpg") for name in names]
        assert len({record.group for record in records}) == 1

    def test_hierarchies(self, tmp_path: Path):
        biigle(
            tmp_path,
            {"label_name": "", "label_hierarchy": "Animalia > Annelida > Buskiella sp"},
            {"label_name": "other", "label_hierarchy": "Biota > Sponges > other"},
            {"label_name": "other", "label_hierarchy": "Biota > Corals > other"},
            {"label_name": "other", "label_hierarchy": ""},
        )
        parsed, findings = read(BiigleReader, tmp_path)
        labels = parsed.entries[0].labels
        expected = ["Buskiella sp", "Biota > Sponges > other", "Biota > Corals > other", "other"]
        assert [label.class_name for label in labels] == expected
        assert labels[0].details == {"hierarchy": "Animalia > Annelida > Buskiella sp"}
        assert [(finding.kind, finding.line) for finding in findings.list] == [("class-name-twice", 4)]
        assert "Biota > Sponges > other; Biota > Corals > other" in findings.list[0].message

    def test_columns_go_by_their_names(self, tmp_path: Path):
        header = ["Points", "image_filename", "Shape name", "label_hierarchy"]
        rows = [header, ["[1,2,5,2,5,9,1,9]", "a.jpg", "Rectangle", "A > b;c"], header[::-1]]
        rows.append(["A > c", "Rectangle", "b.jpg", "[1,2,5,2,5,9,1,9]"])  # reports put together
        with (tmp_path / "a.csv").open("w", encoding="utf-8-sig", newline="") as stream:
            csv.writer(stream, delimiter=";").writerows(rows)
        parsed, findings = read(BiigleReader, tmp_path)
        assert boxes(parsed) == {"a.jpg": [((1, 2, 5, 9), "b;c")], "b.jpg": [((1, 2, 5, 9), "c")]}
        assert findings.list == []

    def test_rows_that_run_into_one_another_are_not_passed_over(self, tmp_path: Path):
        path = biigle(tmp_path, {}, {"label_name": "eel"}, {"label_name": "fish"}) / "v.csv"
        text = path.read_text()
        run_on = text.replace("\n", "", 3).replace(",created_at", ",created_at\n")
        for broken, kind in ((text.replace("eel", '"eel'), "shape-unknown"), (run_on, "label-syntax")):
            path.write_text(broken)
            assert kinds(read(BiigleReader, tmp_path)[1])[kind] == 1

    def test_a_report_of_videos(self, tmp_path: Path):
        header = ["video_annotation_label_id", "label_name", "video_filename", "shape_name", "points", "frames"]
        parsed, findings = read(BiigleReader, biigle(tmp_path, {}, {}, header=header))
        assert parsed.entries == []
        (finding,) = findings.list
        assert (finding.kind, finding.line) == ("label-without-picture", 2)
        assert finding.message.startswith("2 annotations")


class TestLabelme:
    def test_a_picture_without_a_file_is_unlabelled(self, tmp_path: Path):
        for name in ("a", "b", "c", "other/d"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (80, 60)).save(tmp_path / f"{name}.jpg")
        write_labelme(tmp_path, ROWS)
        dataset = read_dataset(tmp_path)
        assert {record.key: record.labelled for record in dataset} == {"a": True, "b": True, "c": False}
        told = Counter(problem.kind for problem in dataset.problems)
        assert told == {"picture-without-label": 1, "picture-unread": 1}

    RECTANGLE = {"label": "crab", "shape_type": "rectangle", "points": [[60, 40], [20, 10]]}

    @pytest.mark.parametrize(
        ("shape", "points", "box"),
        [
            ("rectangle", [[60, 40], [20, 10]], (20, 10, 60, 40)),
            ("rectangle", [[20, 10], [60, 10], [60, 40], [20, 40]], (20, 10, 60, 40)),
            ("mask", [[2, 1], [6, 4]], (2, 1, 6, 4)),
            ("polygon", [[1, 2], [9, 3], [4, 8]], (1, 2, 9, 8)),
            (None, [[1, 2], [9, 3], [4, 8]], (1, 2, 9, 8)),
            ("circle", [[30, 20], [33, 24]], (25, 15, 35, 25)),
            ("rotation", [[30, 0], [60, 30], [30, 60], [0, 30]], (0, 0, 60, 60)),
        ],
    )
    def test_shapes(self, tmp_path: Path, shape: str, points: list, box: tuple):
        labelme(tmp_path, {"label": "crab", "shape_type": shape, "points": points})
        parsed, findings = read(LabelmeReader, tmp_path)
        assert parsed.entries[0].labels[0].box == box
        assert kinds(findings) == ({} if shape == "rectangle" else {"shape-converted": 1})

    @pytest.mark.parametrize(
        ("shape", "kind"),
        [
            ({"shape_type": "point", "points": [[3, 4]]}, "shape-without-extent"),
            ({"shape_type": "linestrip", "points": [[3, 4], [5, 8]]}, "shape-without-extent"),
            ({"points": [[3, 4], [3, 4]]}, "shape-without-extent"),
            ({"shape_type": "circle", "points": [[3, 4], [3, 4]]}, "shape-without-extent"),
            ({"shape_type": "polygon"}, "number-invalid"),
            ({"points": [[3, 4], [math.nan, 4]]}, "number-invalid"),
            ({"points": None}, "number-invalid"),
            ({"shape_type": "cuboid"}, "shape-unknown"),
            ({"label": 3}, "class-missing"),
            ({"label": " \n"}, "class-missing"),
            (None, "label-syntax"),
        ],
    )
    def test_an_odd_shape_is_one_finding_and_the_rest_is_read(self, tmp_path: Path, shape, kind: str):
        odd = shape and self.RECTANGLE | shape
        parsed, findings = read(
            LabelmeReader, labelme(tmp_path, self.RECTANGLE, odd, self.RECTANGLE | {"label": "fish"})
        )
        assert [label.class_name for label in parsed.entries[0].labels] == ["crab", "fish"]
        (finding,) = findings.list
        assert (finding.kind, finding.entry) == (kind, parsed.entries[0])
        assert finding.message.startswith("shape 2: ")

    def test_where_the_picture_lies(self, tmp_path: Path):
        labelme(tmp_path, name="labels/a.v2.JSON", imagePath="..\\images\\a.v2.jpg")
        labelme(tmp_path, name="labels/b.json", imagePath=None)
        labelme(tmp_path, name="labels/c.json", imagePath="C:\\Users\\me\\c.jpg", shapes=[])
        parsed, findings = read(LabelmeReader, tmp_path)
        # As stated: whoever looks for the picture starts at the JSON's own folder.
        names = [("labels/a.v2", "../images/a.v2.jpg"), ("labels/b",), ("labels/c", "C:/Users/me/c.jpg")]
        assert [entry.names for entry in parsed.entries] == names
        assert findings.list == []

    def test_a_path_that_climbs_out_starts_at_the_folder_of_its_json(self, tmp_path: Path):
        for folder in ("pictures", "set/pictures"):
            (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (80, 60)).save(tmp_path / "pictures/x.jpg")
        labelme(tmp_path, self.RECTANGLE, name="set/labels/a.json", imagePath="..\\../pictures/x.jpg")
        (record,) = read_dataset(tmp_path / "set").records
        assert record.picture.resolve() == (tmp_path / "pictures/x.jpg").resolve()

    def test_no_shapes_is_an_answer_and_no_list_is_none(self, tmp_path: Path):
        labelme(tmp_path, name="a.json", flags={"blurred": True})
        labelme(tmp_path, name="b.json", shapes=None)
        (tmp_path / "c.json").write_text('{"shapes": [], "imagePath": "c.jpg", ')
        parsed, findings = read(LabelmeReader, tmp_path)
        assert [entry.labelled for entry in parsed.entries] == [True, False, False]
        assert parsed.entries[0].attributes == {"blurred": True}
        assert kinds(findings) == {"label-syntax": 2}

    def test_what_is_said_of_a_shape(self, tmp_path: Path):
        said = {"flags": {"occluded": True}, "attributes": {"sex": "female"}, "score": 0.5, "description": "in a hole"}
        labelme(tmp_path, self.RECTANGLE | said | {"group_id": 3, "difficult": True}, self.RECTANGLE)
        first, second = read(LabelmeReader, tmp_path)[0].entries[0].labels
        expected = {"occluded": True, "sex": "female", "score": 0.5, "note": "in a hole", "group": 3}
        assert (first.details, first.ignored) == (expected, True)
        assert (second.details, second.ignored) == ({}, False)

    def test_pieces_of_one_object(self, tmp_path: Path):
        piece = {"label": "crab", "shape_type": "polygon", "group_id": 1, "points": [[1, 2], [9, 3], [4, 8]]}
        other = piece | {"points": [[20, 2], [29, 3], [24, 18]]}
        rectangles = [self.RECTANGLE | {"group_id": 1}] * 2
        alike = [other | {"group_id": None}] * 2
        labelme(tmp_path, piece, other, other | {"label": "fish"}, *alike, *rectangles)
        parsed, findings = read(LabelmeReader, tmp_path)
        found = [(label.box, label.class_name) for label in parsed.entries[0].labels]
        alone = (20, 2, 29, 18)
        expected = [
            ((1, 2, 29, 18), "crab"),
            (alone, "fish"),
            *[(alone, "crab")] * 2,
            *[((20, 10, 60, 40), "crab")] * 2,
        ]
        assert found == expected
        assert kinds(findings) == {"shape-converted": 5}
        assert "shape 1" in findings.list[1].message


class TestDeepFish:
    @pytest.mark.parametrize(
        ("rows", "keys", "line"),
        [
            ('a,0,x\nb,0,"y\nc,0,z\n', ["a"], 3),
            ('a,0,x\nb,0,"y\nc,0,z"\nd,0,z\n', ["a", "b", "d"], 4),
            ("a,0,x\nb,none,y\nc,0,z\n", ["a", "c"], 3),
            ("a,0,x\n../b,0,y\nc,0,z\n", ["a", "c"], 3),
        ],
    )
    def test_no_row_is_lost_without_a_word(self, tmp_path: Path, rows: str, keys: list, line: int):
        (tmp_path / "Segmentation/images").mkdir(parents=True)
        (tmp_path / "Segmentation/train.csv").write_text("ID,labels,note\n" + rows)
        parsed, findings = read(DeepFishReader, tmp_path)
        assert [entry.key for entry in parsed.entries] == keys
        assert [(finding.kind, finding.line) for finding in findings.list] == [("label-syntax", line)]


TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters='/\\"'), min_size=1, max_size=12)
NAMES = TEXT.map(clean_text).filter(lambda name: name and not name.startswith("("))
SIDES = st.floats(0.5, 4000, width=32)


@st.composite
def data_sets(draw) -> list:
    rows = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.casefold)):
        folder = draw(st.sampled_from(["", "dive 1/", "ä/b/"]))
        places = draw(st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES, NAMES), min_size=1, max_size=4))
        labels = [(x, y, x + width, y + height, species) for x, y, width, height, species in places]
        rows.append((f"{folder}x{name}.jpg", 5000, 4000, labels))
    return rows


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, deadline=None)
@given(rows=data_sets(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_is_written_is_read(name: str, rows: list, encoding: str):
    kind, write = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), rows)
        for path in Path(folder).rglob("*.*"):
            path.write_bytes(path.read_bytes().decode("utf-8").encode(encoding))
        parsed, findings = read(kind, Path(folder))
        assert kinds(findings) == ({"text-encoding": len(parsed.used)} if encoding == "utf-16" else {})
        expected = {row[0]: [(label[:4], label[4]) for label in row[3]] for row in rows}
        # labelme names the picture as seen from the JSON's own folder; the entry's first name is the JSON's own.
        by_name = {entry.names[0] + (".jpg" if name == "labelme" else ""): entry for entry in parsed.entries}
        found = {place: [(label.box, label.class_name) for label in entry.labels] for place, entry in by_name.items()}
        assert found == expected
