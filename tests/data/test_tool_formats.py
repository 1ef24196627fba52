"""CVAT, Label Studio and Pascal VOC: exact places and names, and for every odd input one finding with its line."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from marauder.core.errors import UserError
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.cvat import CvatReader
from marauder.data.formats.entries import Entry, Finding, Findings
from marauder.data.formats.label_studio import LabelStudioReader
from marauder.data.formats.source import Source
from marauder.data.formats.text import class_list, csv_rows, lines_of, parse_xml
from marauder.data.formats.voc import VocReader
from marauder.data.picture_files import pointer_hint

sys.path.insert(0, str(Path(__file__).parent))
import format_writers as writers

Read = tuple[Parsed, list[Finding]]


def read(layout: Reader, folder: Path, files: Mapping[str, str | bytes] = {}) -> Read:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    findings = Findings()
    return layout.parse(Source(folder), ReadOptions(), findings), findings.list


def boxes(entry: Entry) -> list[tuple[Any, ...]]:
    return [(*(round(side, 6) for side in label.box), label.class_name) for label in entry.labels]


def told(findings: list[Finding]) -> list[tuple[str, int | None]]:
    return [(finding.kind, finding.line) for finding in findings]


class TestText:
    @pytest.mark.parametrize("odd", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
    def test_lines_are_those_that_editors_count(self, tmp_path: Path, odd: str) -> None:
        assert lines_of(f"a{odd}b\r\nc\n\nd\re\n") == [f"a{odd}b", "c", "", "d", "e"]
        assert lines_of("") == [] and lines_of("\n") == [""] and lines_of("a") == ["a"]
        (tmp_path / "classes.txt").write_bytes(f"sea{odd}star\nfish\r\n{odd}\ncrab\n\n".encode())
        findings = Findings()
        names = class_list(tmp_path / "classes.txt", findings)
        assert names == {0: "sea star", 1: "fish", 2: "class_2", 3: "crab"}
        assert told(findings.list) == [("names-missing", 3)]

    @pytest.mark.parametrize(
        ("text", "rows", "line"),
        [
            ('1,2\n\n3,"a ""b"""\n', [(1, ["1", "2"]), (3, ["3", 'a "b"'])], None),
            ('1,2\n3,"4\n5,6\n7,8\n', [(1, ["1", "2"])], 2),
            ('1,2\n3,"4', [(1, ["1", "2"])], 2),
            ('1,2\n3,"4\n5,"6\n7,8\n', [(1, ["1", "2"]), (3, ["3", "4\n5,6"]), (4, ["7", "8"])], 3),
            ('"a;b;c;d",1\n2,3\n', [(1, ["a;b;c;d", "1"]), (2, ["2", "3"])], None),
            ("\n;\n1;2,5;3\n", [(3, ["1", "2,5", "3"])], None),
            ("# 1,2,3\n1;2,5;3\n", [(1, ["# 1,2,3"]), (2, ["1", "2,5", "3"])], None),
            ("1,2\n3\r4,5\n6,7\n", [(1, ["1", "2"])], 2),
            ("1,2\r3,4\r", [(1, ["1", "2"]), (2, ["3", "4"])], None),
            ('1,2\r3,"4\r5,6\r', [(1, ["1", "2"])], 2),
            ("1,2\x85\u20283\n4,5\n", [(1, ["1", "2\x85\u20283"]), (2, ["4", "5"])], None),
        ],
    )
    def test_rows_of_csv(self, tmp_path: Path, text: str, rows: list[Any], line: int | None) -> None:
        (tmp_path / "a.csv").write_text(text, newline="", encoding="utf-8")
        findings = Findings()
        assert list(csv_rows(tmp_path / "a.csv", findings)) == rows
        assert told(findings.list) == ([("label-syntax", line)] if line else [])

    def test_a_pointer_is_told_in_the_words_of_all(self, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        findings = Findings()
        assert class_list(tmp_path / "classes.txt", findings) == {}
        assert [found.message for found in findings.list] == [pointer_hint(b"version https://git-lfs.github.com/spec/")]


def cvat(body: str, head: str = '<?xml version="1.0" encoding="utf-8"?>\n') -> str:
    return f"{head}<annotations><version>1.1</version>\n{body}\n</annotations>\n"


IMAGE = '<image id="0" name="a.jpg" width="200" height="100" subset="Validation">\n{}</image>'


class TestCvat:
    @pytest.mark.parametrize(
        ("shape", "box", "kind"),
        [
            ('<box label="fish" xtl="1" ytl="2" xbr="3" ybr="4"/>', (1, 2, 3, 4), None),
            ('<polygon label="fish" points="10,20;30,25;20,60"/>', (10, 20, 30, 60), "shape-converted"),
            ('<points label="fish" points="10,20;30,25"/>', None, "shape-without-extent"),
            ('<points label="fish" points="10,20"/>', None, "shape-without-extent"),
            ('<polyline label="fish" points="10,20;90,20"/>', None, "shape-without-extent"),
            ('<ellipse label="fish" cx="50" cy="50" rx="10" ry="5"/>', (40, 45, 60, 55), "shape-converted"),
            ('<ellipse label="fish" cx="50" cy="50" rx="-10" ry="5"/>', None, "number-invalid"),
            ('<polygon label="fish" points="10,20;30,25"/>', None, "number-invalid"),
            ('<mask label="fish" rle="1" left="5" top="6" width="7" height="8"/>', (5, 6, 12, 14), "shape-converted"),
            ('<cuboid label="fish" xtl1="1" ytl1="2"/>', None, "number-invalid"),
            ('<box label="fish" xtl="1" ytl="nan" xbr="3" ybr="4"/>', None, "number-invalid"),
            ('<box label="fish" xtl="1" ytl="2" xbr="3" ybr="4" rotation="x"/>', None, "number-invalid"),
            ('<polygon label="fish" points="1,2;3"/>', None, "number-invalid"),
            ('<polygon points="10,20;30,25;20,60"/>', None, "class-missing"),
            ('<skeleton label="fish"><points label="1" points="1,2"/></skeleton>', None, "shape-unknown"),
            ('<tag label="murky"/>', None, None),
        ],
    )
    def test_shapes(self, tmp_path: Path, shape: str, box: tuple[float, ...] | None, kind: str | None) -> None:
        parsed, findings = read(CvatReader(), tmp_path, {"annotations.xml": cvat(IMAGE.format(shape))})
        (entry,) = parsed.entries
        assert boxes(entry) == ([(*box, "fish")] if box else [])
        assert told(findings) == ([(kind, 4)] if kind else []) and all(f.entry is entry for f in findings)
        assert (entry.names, entry.width, entry.height, entry.split, entry.line) == (("a.jpg",), 200, 100, "val", 3)

    def test_cuboids_turns_details_and_names(self, tmp_path: Path) -> None:
        names = ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2")
        corners = "".join(f'x{name}="{10 + n}" y{name}="{20 + n}" ' for n, name in enumerate(names))
        body = (
            "<meta><task><labels><label><name>star</name></label><label><name>fish</name></label>"
            "<label><name>1</name><parent>fish</parent></label></labels></task></meta>"
        )
        shapes = (
            f'<cuboid label="fish" {corners}/><box label="fish" xtl="4" ytl="4" xbr="6" ybr="5" rotation="450" '
            'occluded="1"><attribute name="sex">female</attribute><attribute name="young">True</attribute>'
            "<attribute>x</attribute></box>"
        )
        parsed, findings = read(CvatReader(), tmp_path, {"annotations.xml": cvat(body + IMAGE.format(shapes))})
        cuboid, turned = parsed.entries[0].labels
        assert cuboid.box == (10, 20, 17, 27) and (turned.turn, turned.about_corner) == (450, False)
        assert turned.details == {"occluded": True, "sex": "female", "young": True}
        assert parsed.names == ["star", "fish"] and told(findings) == [("shape-converted", 4)] * 2
        around = "the upright box around it is taken"
        messages = [f"cuboid 'fish': cuboid; {around}", f"box 'fish': turned box; {around}"]
        assert [finding.message for finding in findings] == messages

    def test_namespaces(self, tmp_path: Path) -> None:
        image = '<v:image v:name="b.jpg"><v:box v:label="x" xtl="1" ytl="2" xbr="3" ybr="4"/></v:image>'
        text = cvat(image).replace("<annotations", '<annotations xmlns:v="urn:x"')
        parsed, findings = read(CvatReader(), tmp_path, {"annotations.xml": text})
        assert (parsed.entries[0].names, boxes(parsed.entries[0])) == (("b.jpg",), [(1, 2, 3, 4, "x")]) and not findings

    def test_a_picture_that_the_file_breaks_off_in_is_not_labelled(self, tmp_path: Path) -> None:
        text = cvat(IMAGE.format("") + '\n<image name="b.jpg"><box label="x" xtl="1" ytl="n"/>\n<box label="fish"')
        parsed, findings = read(CvatReader(), tmp_path, {"annotations.xml": text})
        assert [(entry.names, entry.labelled) for entry in parsed.entries] == [(("a.jpg",), True), (("b.jpg",), False)]
        assert told(findings) == [("label-syntax", 7)] and findings[0].entry is parsed.entries[1]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (cvat('<track id="0"><box frame="0"/></track>\n<track id="1"/>'), 3),
            (cvat("<a>" * 1000 + "</a>" * 1000), 3),
            (cvat(IMAGE.format("&b;"), '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'), 1),
            (cvat(IMAGE.format(""), '\n<!DOCTYPE x [<!ELEMENT x ANY><!ATTLIST image name CDATA "b.jpg">]>'), 2),
            (cvat(IMAGE.format("&a;"), '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'), 1),
            (cvat(IMAGE.format(""), '<!DOCTYPE annotations SYSTEM "http://127.0.0.1:9/a.dtd">'), 1),
            (cvat(""), None),
            (cvat("<meta><task><labels><label>\n<name>"), 5),
        ],
    )
    def test_files_that_are_none_are_told_once(self, tmp_path: Path, text: str, line: int | None) -> None:
        parsed, findings = read(CvatReader(), tmp_path, {"x/annotations.xml": text})
        assert not parsed.entries and told(findings) == [("label-syntax", line)]
        assert parsed.used == {tmp_path / "x/annotations.xml"}

    def test_nothing_to_read_is_an_error(self, tmp_path: Path) -> None:
        for layout in (CvatReader(), LabelStudioReader(), VocReader()):
            assert not layout.files(Source(tmp_path))
            with pytest.raises(UserError):
                read(layout, tmp_path)


def region(kind: str = "rectanglelabels", **value: Any) -> dict[str, Any]:
    base = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, kind: ["fish"]}
    return {"id": "r", "type": kind, "original_width": 200, "original_height": 100, "value": base | value}


def task(*regions: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"site": "x", "image": "a.jpg"}, "annotations": [{"result": list(regions), **more}]}


class TestLabelStudio:
    def read(self, folder: Path, *tasks: Any) -> Read:
        return read(LabelStudioReader(), folder, {"export.json": json.dumps(list(tasks))})

    def test_places_turns_and_names(self, tmp_path: Path) -> None:
        ellipse = region("ellipselabels", x=50, y=50, radiusX=10, radiusY=20, rotation=30)
        polygon = region("polygonlabels", points=[[10, 20], [30, 90.5], [15, 30]])
        noted = {**region(), "meta": {"text": ["under a\nrock"]}}
        parsed, findings = self.read(tmp_path, task(noted, region(rotation=90), ellipse, polygon))
        (entry,) = parsed.entries
        assert (entry.names, entry.relative, entry.width, entry.height) == (("a.jpg",), True, 200, 100)
        box = (0.1, 0.2, 0.4, 0.6, "fish")
        assert boxes(entry) == [box, box, (0.4, 0.3, 0.6, 0.7, "fish"), (0.1, 0.2, 0.3, 0.905, "fish")]
        turns = [(label.turn, label.about_corner) for label in entry.labels]
        assert turns == [(0, True), (90, True), (30, False), (0, False)]
        assert entry.labels[0].details == {"note": "under a rock"}
        assert told(findings) == [("shape-converted", None)] * 3

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            ({"data": {"image": "a.jpg"}, "annotations": [], "predictions": [{"result": [region()]}]}, "not-answered"),
            (task(region(), was_cancelled=True), "not-answered"),
            ({"data": {"image": "a.jpg"}, "predictions": [{"result": [region()]}]}, "label-syntax"),
            ({"data": {"image": "a.jpg"}, "annotations": [{"result": None}]}, "label-syntax"),
            ({"image": "a.jpg", "annotations": [{"label": "fish", "coordinates": {"x": 1}}]}, "label-syntax"),
        ],
    )
    def test_tasks_without_an_answer_are_not_labelled(self, tmp_path: Path, content: Any, kind: str) -> None:
        parsed, findings = self.read(tmp_path, content)
        (entry,) = parsed.entries
        assert entry.names[0] == "a.jpg" and not entry.labelled and not entry.labels
        assert told(findings) == [(kind, None)] and findings[0].entry is entry

    def test_of_several_annotations_the_latest_is_taken_unless_one_is_the_truth(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {"result": [region(rectanglelabels=["old"])], "updated_at": "2026-01-01T00:00:00Z"},
            {"result": [region(rectanglelabels=["new"])], "updated_at": "2026-02-01T00:00:00Z"},
        ]
        both = {"data": {"image": "a.jpg"}, "annotations": rows}
        parsed, findings = self.read(tmp_path, both)
        assert parsed.entries[0].labels[0].class_name == "new" and told(findings) == [("several-answers", None)]
        rows[0]["ground_truth"] = True
        assert self.read(tmp_path, both)[0].entries[0].labels[0].class_name == "old"

    def test_json_min_and_labels_of_a_control_of_their_own(self, tmp_path: Path) -> None:
        value = {**region()["value"], "original_width": 200, "original_height": 100}
        flat = {"image": "/data/upload/1/deadbeef-a.jpg", "id": 1, "label": [value], "annotator": 1}
        place = {key: value[key] for key in ("x", "y", "width", "height")}
        rows = [
            {"id": "r", "type": "rectangle", "value": place},
            {"id": "r", "type": "labels", "value": {**place, "labels": ["fish"]}},
            {"id": "r", "type": "choices", "value": {"choices": ["murky"]}},
        ]
        parsed, findings = self.read(tmp_path, flat, {"image": "b.jpg", "annotator": 1}, task(*rows))
        assert [boxes(entry) for entry in parsed.entries] == [
            [(0.1, 0.2, 0.4, 0.6, "fish")],
            [],
            boxes(parsed.entries[0]),
        ]
        assert parsed.entries[0].width == 200 and all(entry.labelled for entry in parsed.entries) and not findings

    @pytest.mark.parametrize(
        ("odd", "kind", "kept"),
        [
            (region(x="ten"), "number-invalid", 0),
            (region(width=None), "number-invalid", 0),
            (region(rotation="x"), "number-invalid", 0),
            (region("polygonlabels", points=[[1, 2], [3]]), "number-invalid", 0),
            (region(rectanglelabels=[]), "class-missing", 0),
            (region(rectanglelabels=["\ud800"]), "class-missing", 0),
            (region(rectanglelabels=["fish", "star"]), "class-several", 1),
            (region("keypointlabels", width=0.5), "shape-without-extent", 0),
            (region("brushlabels", rle=[1]), "shape-unknown", 0),
            ({**region(), "type": "videorectangle"}, "shape-unknown", 0),
            ({**region(), "value": [1]}, "number-invalid", 0),
            (17, "shape-unknown", 0),
        ],
    )
    def test_each_odd_region_is_one_finding(self, tmp_path: Path, odd: Any, kind: str, kept: int) -> None:
        parsed, findings = self.read(tmp_path, task(region(), odd))
        assert [finding.kind for finding in findings] == [kind] and len(parsed.entries[0].labels) == 1 + kept

    def test_what_is_no_list_of_tasks(self, tmp_path: Path) -> None:
        _, findings = read(
            LabelStudioReader(), tmp_path, {"1.json": '[{"data": 1},\n3,]', "2.json": '[{"data": {}}, 3]'}
        )
        assert told(findings) == [("label-syntax", 2), ("label-syntax", None), ("label-syntax", None)]

    @pytest.mark.parametrize(
        ("data", "names"),
        [
            ({"station": "12", "image": "a.jpg", "note": "seen by b"}, ("a.jpg",)),
            ({"station": "12", "photo": "s3://x/12.jpg?key=1"}, ("s3://x/12.jpg?key=1",)),
            ({"station": "12", "photo": "/data/local-files/?d=x/12.PNG"}, ("/data/local-files/?d=x/12.PNG",)),
            ({"image": "12", "file": "x/a.jpg", "depth": 12}, ("x/a.jpg", "12")),
            ({"station": "12"}, ()),
        ],
    )
    def test_only_names_of_pictures_name_the_picture(
        self, tmp_path: Path, data: dict[str, Any], names: tuple[str, ...]
    ) -> None:
        row = {"data": data, "annotations": [{"result": [region()]}]}
        flat = {**data, "annotator": 1, "label": [region()["value"]]}
        upload = {**row, "file_upload": "0a1b2c3d-7.jpg"}
        parsed, findings = self.read(tmp_path, row, flat, upload)
        assert [entry.names for entry in parsed.entries][:2] == [names, names] and not findings
        assert set(parsed.entries[2].names) == {*names, "0a1b2c3d-7.jpg"}
        assert all(len(entry.labels) == 1 for entry in parsed.entries)

    def test_lists_of_others_are_not_recognised(self, tmp_path: Path) -> None:
        create_ml = json.dumps([{"image": "a.jpg", "annotations": [{"label": "fish", "coordinates": {"x": 1}}]}])
        (tmp_path / "createml.json").write_text(create_ml)
        (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "data": 1}')
        (tmp_path / "one.json").write_text(json.dumps(task()))
        assert [path.name for path in LabelStudioReader().files(Source(tmp_path))] == ["one.json"]


BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
FISH = f"<object><name>fish</name>{BOX.format(11, 21, 40, 60)}</object>"


def voc(*objects: str, head: str = "", more: str = "<filename>a.jpg</filename>") -> str:
    size = "<size><width>200</width><height>100</height></size>"
    return "\n".join((f"{head}<annotation>{more}{size}", *objects, "</annotation>"))


class TestVoc:
    def test_text_beyond_all_bounds_is_no_number(self, tmp_path: Path) -> None:
        odd = FISH.replace("11", "1" + "\n" * (1 << 17) + "1").replace("fish", "x" * (1 << 17))
        parsed, findings = read(VocReader(), tmp_path, {"a.xml": voc(FISH, odd, FISH)})
        assert len(parsed.entries[0].labels) == 2 and [finding.line for finding in findings] == [3]

    def test_long_files_are_left_when_it_is_time(self, tmp_path: Path) -> None:
        (tmp_path / "a.xml").write_text(voc("<x>" + " " * (3 << 20) + "</x>"))
        (tmp_path / "b.xml").write_text("<annotation/>")

        class Clock:
            asked = 0

            def check(self) -> None:
                self.asked += 1

        clock = Clock()
        parse_xml(tmp_path / "a.xml", Findings(clock=clock), ("annotation",), lambda node, around: None)  # type: ignore[arg-type]
        assert clock.asked == 4

    def test_places_flags_and_parts(self, tmp_path: Path) -> None:
        small = BOX.format(1, 1, 2, 2)
        part = f"<part><name>head</name>{small}</part><part><object>{small}</object></part>"
        flagged = FISH.replace(
            "<bndbox>", f"<difficult>1</difficult><truncated>0</truncated><occluded>1</occluded>{part}<bndbox>"
        )
        more = "<filename>old.jpg</filename><path>C:\\x\\older.jpg</path>"
        files = {"Annotations/cam1/a.xml": voc(FISH, flagged, more=more), "Annotations/b.xml": voc(more="<filename/>")}
        parsed, findings = read(VocReader(), tmp_path, files)
        empty, entry = parsed.entries
        assert entry.names == ("cam1/a", "old.jpg", "C:\\x\\older.jpg") and empty.names == ("b",) and empty.labelled
        assert boxes(entry) == [(10, 20, 40, 60, "fish")] * 2 and (entry.width, entry.height) == (200, 100)
        assert [label.ignored for label in entry.labels] == [False, True] and entry.labels[1].line == 3
        assert entry.labels[1].details == {"truncated": False, "occluded": True} and not findings
        assert parsed.names == [] and not parsed.numbered

    @pytest.mark.parametrize(
        ("odd", "kind", "box"),
        [
            (f"<object>{BOX.format(1, 1, 5, 5)}</object>", "class-missing", None),
            (f"<object><name>x</name>{BOX.format('left', 1, 5, 5)}</object>", "number-invalid", None),
            ("<object><name>x</name><bndbox><xmin>1</xmin></bndbox></object>", "number-invalid", None),
            (f"<object><name>x</name>{BOX.format(40, 60, 11, 21)}</object>", None, (40, 60, 10, 20, "x")),
            (
                "<object><name>x</name><polygon><x1>11</x1><y1>6</y1><x2>30</x2><y2>20</y2><x3>9</x3><y3>9</y3><x4>5</x4></polygon></object>",
                "number-invalid",
                None,
            ),
            ("<object><name>x</name></object>", "shape-unknown", None),
            ("<object><name>x</name><point><x>1</x><y>1</y></point></object>", "shape-without-extent", None),
            ("<object><name>x</name><polygon><x1>1</x1><y1>n</y1></polygon></object>", "number-invalid", None),
            (
                "<object><name>x</name><polygon><x1>11</x1><y1>6</y1><x2>30</x2><y2>20</y2><x3>9</x3><y3>9</y3></polygon></object>",
                "shape-converted",
                (8, 5, 30, 20, "x"),
            ),
            (
                "<object><name>x</name><robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>0.5</angle></robndbox></object>",
                "shape-converted",
                (40, 35, 60, 45, "x"),
            ),
        ],
    )
    def test_each_odd_object_is_one_finding_with_its_line(
        self, tmp_path: Path, odd: str, kind: str | None, box: tuple[Any, ...] | None
    ) -> None:
        parsed, findings = read(VocReader(), tmp_path, {"a.xml": voc(FISH, odd, FISH)})
        (entry,) = parsed.entries
        fish = (10, 20, 40, 60, "fish")
        assert boxes(entry) == [fish, *([box] if box else []), fish]
        assert told(findings) == ([(kind, 3)] if kind else []) and all(found.entry is entry for found in findings)
        assert box is None or "robndbox" not in odd or math.isclose(entry.labels[1].turn, math.degrees(0.5))

    def test_turned_boxes_of_cvat(self, tmp_path: Path) -> None:
        given = "<attributes><attribute><name>rotation</name><value>30.0</value></attribute><attribute><name>sex</name>"
        given += "<value>f</value></attribute><attribute><value>no name</value></attribute></attributes>"
        turned = FISH.replace("</object>", f"{given}</object>")
        parsed, findings = read(VocReader(), tmp_path, {"a.xml": voc(turned)})
        (label,) = parsed.entries[0].labels
        assert (label.turn, label.about_corner, label.details) == (30, False, {"sex": "f"})
        assert told(findings) == [("shape-converted", 2)]
        parsed, findings = read(VocReader(), tmp_path, {"a.xml": voc(turned.replace("30.0", "x"))})
        assert not parsed.entries[0].labels and told(findings) == [("number-invalid", 2)]

    def test_a_size_below_nothing_is_none(self, tmp_path: Path) -> None:
        parsed, _ = read(VocReader(), tmp_path, {"a.xml": voc(FISH).replace("200", "-200")})
        assert (parsed.entries[0].width, parsed.entries[0].height) == (0, 100)

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (voc(FISH, "<object>"), 4),
            (voc(FISH)[:60], 1),
            ("<annota", 1),
            ("", 1),
            (voc(FISH, head="<!DOCTYPE annotation>\n"), 1),
            (f"{voc(FISH)}\n{voc(FISH)}", 4),
        ],
    )
    def test_broken_files_are_not_labelled(self, tmp_path: Path, content: str, line: int | None) -> None:
        parsed, findings = read(VocReader(), tmp_path, {"Annotations/a.xml": content, "Annotations/b.xml": voc(FISH)})
        broken, good = parsed.entries
        assert broken.names[0] == "a" and boxes(good) == [(10, 20, 40, 60, "fish")]
        if content.count("</annotation>") < 2:
            assert not broken.labelled and not broken.labels
        assert told(findings) == [("label-syntax", line)] and findings[0].entry is broken
        assert len(parsed.used) == 2

    def test_two_annotations_in_a_file_are_told_and_foreign_xml_is_left(self, tmp_path: Path) -> None:
        files = {"a.xml": f"<x>{voc(FISH)}\n{voc(FISH, FISH)}</x>", "b.xml": cvat(IMAGE), "c.xml": "<View></View>"}
        parsed, findings = read(VocReader(), tmp_path, files)
        assert [len(entry.labels) for entry in parsed.entries] == [1] and told(findings) == [("label-syntax", 4)]
        assert parsed.used == {tmp_path / "a.xml"}

    @pytest.mark.parametrize(
        ("encoding", "name", "kinds"),
        [
            ("gbk", "海参", ["text-encoding"]),
            ("ISO-8859-1", "Mérou", ["text-encoding"]),
            ("utf-16", "海参", ["text-encoding"]),
            ("utf-8", "Mérou", []),
        ],
    )
    def test_declared_encodings_are_obeyed(self, tmp_path: Path, encoding: str, name: str, kinds: list[str]) -> None:
        head = f'<?xml version="1.0" encoding="{encoding}"?>\n'
        text = voc(FISH.replace("fish", name), "<object/>", head=head)
        parsed, findings = read(VocReader(), tmp_path, {"a.xml": text.encode(encoding)})
        assert parsed.entries[0].labels[0].class_name == name
        assert [finding.kind for finding in findings] == [*kinds, "class-missing"] and findings[-1].line == 4
        assert all(finding.entry is parsed.entries[0] for finding in findings)

    def test_utf_8_that_is_declared_as_utf_16_and_undeclared_latin_1(self, tmp_path: Path) -> None:
        # .NET writes the first; an even number of its bytes would be read as Chinese.
        text = voc(FISH.replace("fish", "Mérou"), head='<?xml version="1.0" encoding="utf-16"?>').encode()
        text += b" " * (len(text) % 2)
        parsed, findings = read(
            VocReader(), tmp_path, {"a.xml": text, "b.xml": voc(FISH.replace("fish", "Mérou")).encode("latin-1")}
        )
        assert [entry.labelled for entry in parsed.entries] == [True, False]
        assert parsed.entries[0].labels[0].class_name == "Mérou" and told(findings) == [("label-encoding", None)]
        assert findings[0].entry is parsed.entries[1]

    def test_text_around_elements_is_put_together(self, tmp_path: Path) -> None:
        parsed, _ = read(
            VocReader(), tmp_path, {"a.xml": voc(FISH.replace("fish", "sea<b/> <b>x</b>star &amp;&#x20;co"))}
        )
        assert parsed.entries[0].labels[0].class_name == "sea star & co"

    def test_namespaces_and_the_flat_layout(self, tmp_path: Path) -> None:
        spaced = (
            voc(FISH)
            .replace("<", "<v:")
            .replace("<v:/", "</v:")
            .replace("<v:annotation", '<v:annotation xmlns:v="urn:x"')
        )
        files = {"train/a.xml": spaced, "valid/a.xml": voc(FISH), "test/Annotations/c.xml": voc(FISH), "d.xml": voc()}
        parsed, findings = read(VocReader(), tmp_path, files)
        found = [(entry.names[0], entry.split, len(entry.labels)) for entry in parsed.entries]
        assert found == [("d", None, 0), ("test/c", "test", 1), ("train/a", "train", 1), ("valid/a", "val", 1)]
        assert not findings

    def test_split_lists(self, tmp_path: Path) -> None:
        names = ("c", "d", "e", "dive 1 a", "dive 1 b", "f", "g", "h", "cam1/0", "cam2/0", "cam1/1")
        files: dict[str, str | bytes] = {f"Annotations/{name}.xml": voc(FISH) for name in names}
        lists: dict[str, str | bytes] = {
            "train.txt": b"\xef\xbb\xbfc\r\nd\r\ne\r\ndive 1 a\r\ndive 1 b\r\n\r\ngone\r\nonly\r\n0\r\n",
            "val.txt": "f.jpg\nJPEGImages/g.jpg\ncam1\\0.jpg\ncam3/1\ncam3/only\n",
            "test.txt": "h  1\ncam2/0.xml\nc",
            "trainval.txt": "c\nf\nx\n",
            "fish_train.txt": "c  1\nd -1\n",
        }
        files |= {f"ImageSets/Main/{name}": content for name, content in lists.items()}
        files |= {"JPEGImages/only.jpg": "", "ImageSets/Main/odd.txt": "c", "ImageSets/Layout/train.txt": "c"}
        parsed, findings = read(VocReader(), tmp_path, files)
        splits = {entry.names[0]: entry.split for entry in parsed.entries}
        train = dict.fromkeys(("d", "e", "dive 1 a", "dive 1 b"), "train")
        val = dict.fromkeys(("f", "g", "cam1/0"), "val")
        assert splits == train | val | {"h": "test", "cam2/0": "test", "c": "test", "cam1/1": None}
        shown = [(finding.file.name, finding.kind, finding.line) for finding in findings]
        assert shown == [
            ("train.txt", "split-twice", 1),
            ("train.txt", "split-missing", 7),
            ("train.txt", "split-missing", 9),
            ("val.txt", "split-missing", 4),
            ("val.txt", "split-missing", 5),
        ]
        lists_read = {tmp_path / "ImageSets/Main" / name for name in lists} | {tmp_path / "ImageSets/Layout/train.txt"}
        assert parsed.used == {entry.file for entry in parsed.entries} | lists_read

    def test_each_tree_has_its_own_lists(self, tmp_path: Path) -> None:
        files = {f"VOC{year}/Annotations/0.xml": voc(FISH) for year in (2007, 2012)}
        files |= {"VOC2007/ImageSets/Main/train.txt": "0\n", "VOC2012/ImageSets/Main/val.txt": "0\n"}
        parsed, findings = read(VocReader(), tmp_path, files)
        assert [(e.names[0], e.split) for e in parsed.entries] == [("VOC2007/0", "train"), ("VOC2012/0", "val")]
        assert not findings

    def test_one_file_is_read_alone(self, tmp_path: Path) -> None:
        read(VocReader(), tmp_path, {"Annotations/a.xml": voc(FISH), "ImageSets/Main/train.txt": "a\nb\n"})
        findings = Findings()
        parsed = VocReader().parse(Source(tmp_path / "Annotations/a.xml"), ReadOptions(), findings)
        assert [entry.names[0] for entry in parsed.entries] == ["a"] and not findings.list


@pytest.mark.parametrize("seed", range(12))
def test_random_sets_are_read_back_as_written(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    classes = ["fish", "Ängelhaj & <co>", "海参", "a \"b\" 'c'", "no", "1.10"]
    rows: list[writers.Row] = []
    for index in range(rng.randint(1, 12)):
        width, height = rng.randint(50, 4000), rng.randint(50, 4000)
        found = []
        for _ in range(rng.choice((0, 1, 5))):
            x0, y0 = rng.uniform(0, width - 10), rng.uniform(0, height - 10)
            x1, y1 = rng.uniform(x0 + 2, width), rng.uniform(y0 + 2, height)
            found.append((*(round(value, 3) for value in (x0, y0, x1, y1)), rng.choice(classes)))
        folder = rng.choice(("", "cam 1/", "é/ü/", "train/"))
        rows.append((f"{folder}p.{index} {rng.choice('aß&')}.jpg", width, height, found))
    for number, write in enumerate(
        (
            writers.write_cvat,
            writers.write_label_studio,
            writers.write_label_studio_min,
            writers.write_voc,
            lambda folder, rows: writers.write_voc(folder, rows, flat=True),
        )
    ):
        layout: Reader = (CvatReader(), LabelStudioReader(), LabelStudioReader(), VocReader(), VocReader())[number]
        (tmp_path / str(number)).mkdir()
        written = write(tmp_path / str(number), rows)
        parsed, findings = read(layout, tmp_path / str(number))
        assert parsed.used == set(written if isinstance(written, list) else [written])
        assert not findings and len(parsed.entries) == len(rows)
        by_name = {
            entry.names[0].removeprefix("/data/local-files/?d=").removeprefix("/data/upload/1/"): entry
            for entry in parsed.entries
        }
        for name, width, height, wanted in rows:
            entry = by_name[name.removesuffix(".jpg") if isinstance(layout, VocReader) else name]
            across, down = (width, height) if entry.relative else (1, 1)
            assert (entry.width, entry.height) in ((width, height), (0, 0)) and (entry.width or not wanted)
            assert [label.class_name for label in entry.labels] == [box[4] for box in wanted] and entry.labelled
            for label, box in zip(entry.labels, wanted):
                place = [side * factor for side, factor in zip(label.box, (across, down, across, down))]
                assert place == pytest.approx(box[:4], abs=1e-6) and not label.turn and not label.ignored
