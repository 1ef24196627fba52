"""The report of a run: whole, offline, escaped, in the published form, stoppable, and true to the evidence."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting_cases import NASTY, aquarium_run, box_run, evidence_of

from marauder.core.clock import Clock, Interrupted
from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.confusion import confusion_matrix, match_across_classes
from marauder.evaluation.outcomes import picture_outcomes
from marauder.gates.verdict import Answer, Verdict
from marauder.reporting import run_report
from marauder.reporting.advice import Advice
from marauder.reporting.caveats import caveats
from marauder.reporting.eval_report import report_content, schema
from marauder.reporting.gallery import build_gallery
from marauder.reporting.render import gates_banner
from marauder.reporting.run_report import slice_confusion, write_run_report
from marauder.reporting.slice_table import is_significant, slice_rows

FIGURES = {
    "confusion_matrix.png", "pr_curves.png", "roc_curves.png", "f1_curve.png", "reliability.png", "slices.png",
    "predictions.png", "curves.png",
}  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and the text of a page; of ``td`` and ``th`` the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += f"{data} "

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def cells(self) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.rows]


def strict(schema_content: Any) -> Any:
    """The schema with no room for keys that it does not describe."""
    if isinstance(schema_content, dict):
        closed = {name: strict(value) for name, value in schema_content.items()}
        if "properties" in closed and "additionalProperties" not in closed:
            closed["unevaluatedProperties"] = False
        return closed
    return [strict(one) for one in schema_content] if isinstance(schema_content, list) else schema_content


def open_measured(content: Any) -> Any:
    """A slice is a measured part with more keys: only there the part alone does not close the object."""
    content["$defs"]["measured"].pop("unevaluatedProperties")
    for part in content["$defs"]["slice"]["allOf"]:
        part.pop("unevaluatedProperties", None)
    content["$defs"]["slice"]["unevaluatedProperties"] = False
    return content


VALIDATOR = jsonschema.Draft202012Validator(open_measured(strict(schema())))


def read(folder: Path) -> tuple[Page, dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in the JSON")

    text = (folder / "report.html").read_text(encoding="utf-8")
    return Page(text), json.loads((folder / "eval_report.json").read_text("utf-8"), parse_constant=refuse)


def test_the_schema_is_one_and_closed_for_what_is_written() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"].endswith("2020-12/schema")


def test_a_run_on_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    evidence = aquarium_run(shared_data, 120)
    report = write_run_report(tmp_path, evidence)
    assert {path.name for path in tmp_path.iterdir()} == FIGURES | {"report.html", "eval_report.json"}
    assert report.stat().st_size < 6e6
    page, content = read(tmp_path)
    VALIDATOR.validate(content)

    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe"} & set(names)
    addresses = [
        value or "" for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    there = {attributes.get("id") for _, attributes in page.tags}
    assert {address[1:] for address in addresses if address.startswith("#")} <= there
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "Run <seven> & more" in page.text and NASTY in page.text and "Did not pass its gates" in page.text

    result = evidence.result
    for part in (result.overall, *result.slices.values()):
        if part.boxes:
            assert f"{part.map50:.3f}" in page.text and f"{part.recall:.3f}" in page.text
    rows = page.cells()
    gates = {row[0].split()[0]: row for row in rows if len(row) == 5 and row[0].endswith(("training", "end"))}
    assert {name: row[1].split()[-1] for name, row in gates.items()} == {
        "contract": "pass", "drift": "warn", "determinism": "off", "regression": "fail",
    }  # fmt: skip
    assert gates["drift"][2:4] == ["0.31", "0.25"] and gates["determinism"][2] == "–"
    slices = [row[0] for row in rows if len(row) == 9 and "group" in row[1]]
    assert slices[0] == "all pictures"
    assert ["protected" in name for name in slices[1:]] == [True, True, False, False, False]
    assert slices[-1] == "nothing"

    assert content["verdict"] == "fail" and content["overall"]["map50"] == pytest.approx(result.overall.map50)
    assert content["slices"]["nothing"]["map50"] is None and content["settings"]["rate"] is None
    assert evidence.production_result is not None
    assert content["comparison"]["overall"]["delta"] == pytest.approx(
        result.overall.map50 - evidence.production_result.overall.map50
    )
    assert {"overall", "slices", "map50_interval", "confusion_matrix", "worst_pictures", "facts"} <= set(content)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_run_report(tmp_path, evidence)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_what_is_undefined_is_null_and_the_form_holds(seed: int, pictures: int, count: int, bare: bool) -> None:
    evidence = box_run(seed, pictures, count)
    if bare:
        nothing = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))] * pictures
        evidence = evidence_of(evidence.records, nothing, nothing, evidence.names, latency=None, verdicts=())
    rows = slice_rows(evidence)
    outcomes = picture_outcomes(evidence.result.matches, evidence.result.overall.confidence)
    confusion = np.zeros((count + 1, count + 1), int)
    content = report_content(evidence, rows, caveats(evidence, rows), outcomes, confusion, [])
    VALIDATOR.validate(json.loads(json.dumps(content, allow_nan=False)))
    for name, part in evidence.result.slices.items():
        assert (content["slices"][name]["map50"] is None) == np.isnan(part.map50)


@pytest.mark.parametrize(
    ("during", "later"),
    [
        ("precision_recall_figure", "roc_figure"),
        ("reliability_figure", "slices_figure"),
        ("slices_figure", "predictions_sheet"),
        ("predictions_sheet", "slice_confusion"),
        ("slice_confusion", "report_content"),
        ("build_gallery", "render_report"),
    ],
)
def test_a_signal_stops_the_report_before_its_next_part(
    during: str, later: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = box_run(3, 40, 3)
    write_run_report(tmp_path / "whole", evidence)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    part = getattr(run_report, during)
    begun: list[str] = []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        begun.append(during)
        os.kill(os.getpid(), signal.SIGTERM)
        return part(*arguments, **named)

    with monkeypatch.context() as patch, Clock().listening() as clock:
        patch.setattr(run_report, during, interrupted)
        patch.setattr(run_report, later, lambda *_, **__: begun.append(later))
        with pytest.raises(Interrupted, match="SIGTERM"):
            write_run_report(tmp_path / "cut", evidence, clock)
    assert begun == [during]
    left = {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()}
    assert "report.html" not in left and left.items() <= whole.items()
    write_run_report(tmp_path / "cut", evidence)
    assert {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()} == whole


def test_the_clock_is_asked_often(shared_data: Path, tmp_path: Path) -> None:
    class Watch(Clock):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[float] = []

        def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
            self.asked.append(time.process_time())
            return None

    evidence = aquarium_run(shared_data, 120)
    write_run_report(tmp_path, evidence)  # what is imported once is imported
    watch = Watch()
    watch.asked.append(time.process_time())
    write_run_report(tmp_path, evidence, watch)
    watch.asked.append(time.process_time())
    assert len(watch.asked) > 20
    # About 1 s of processor time where nothing else runs; beside other work its caches are shared.
    assert np.diff(watch.asked).max() < 4


def test_what_a_protected_slice_is_taken_for() -> None:
    """Three starfish: one found, one taken for a fish, one missed; a fish beside them, false ones of both kinds."""
    boxes = np.array([[0, 0, 40, 40], [60, 0, 100, 40], [0, 60, 40, 100], [120, 120, 160, 160.0]])
    record = Record("a", Path("a.png"), 400, 400, boxes, np.array([1, 1, 1, 0]))
    found = Detections(
        np.concatenate([boxes[[0, 1, 3]], [[200, 200, 240, 240], [300, 300, 340, 340]]]),
        np.full(5, 0.9), np.array([1, 0, 0, 1, 0]),
    )  # fmt: skip
    mask = SliceMask("starfish", np.array([True]), boxes=np.array([True, True, True, False]), protected=True)
    evidence = evidence_of([record], [found], None, ["fish", "starfish"], [mask])
    assert evidence.result.overall.confidence <= 0.9
    counts = slice_confusion(evidence, "starfish")
    np.testing.assert_array_equal(counts[1], [1, 1, 1])  # a true starfish: as fish, as starfish, missed
    np.testing.assert_array_equal(counts[0], [0, 0, 0])  # the fish is none of this slice's business
    assert counts[2, 1] == 1  # the starfish that is none


def test_a_slice_of_all_has_the_confusion_of_all() -> None:
    evidence = box_run(5, masks=[SliceMask("every", np.ones(12, bool), protected=True)])
    cross = match_across_classes(evidence.records, evidence.detections, evidence.names)
    whole = confusion_matrix(cross, evidence.result.overall.confidence)
    inside = slice_confusion(evidence, "every")
    np.testing.assert_array_equal(inside[:-1].sum(axis=1), whole[:-1].sum(axis=1))
    assert (inside[-1] <= whole[-1]).all()


def test_rows_say_what_changed_and_mark_only_what_is_more_than_noise(shared_data: Path) -> None:
    evidence = aquarium_run(shared_data, 120)
    rows = slice_rows(evidence)
    assert evidence.comparison is not None
    tested = {change.name: change for change in evidence.comparison.everything}
    for row in rows:
        cell = row.cells[0]
        if cell.change is not None:
            change = tested[row.name]
            assert cell.change.delta == change.delta and cell.change.significant == is_significant(change)
            if change.delta < 0 and cell.change.significant:
                assert min(change.p_all, change.p_protected or 1) <= 0.05
        for other in row.cells[1:]:
            assert other.change is None or other.change.significant is None
    calibration = rows[0].cells[-1].column
    assert calibration.name == "d_ece" and not calibration.higher_is_better
    for row in rows[1:]:
        cell, whole = row.cells[-1], rows[0].cells[-1]
        if not np.isnan(cell.value):
            assert np.sign(cell.shade) == np.sign(whole.value - cell.value)


def test_many_slices_and_classes_stay_readable(tmp_path: Path) -> None:
    count = 30
    random = np.random.default_rng(0)
    masks = [SliceMask(f"site {number}", random.random(12) < 0.5, protected=number < 3) for number in range(50)]
    evidence = box_run(3, 12, count, masks=masks)
    write_run_report(tmp_path, evidence)
    page, content = read(tmp_path)
    VALIDATOR.validate(content)
    assert len(content["slices"]) == 50
    assert "and 11 more slices" in page.text
    assert any(tag == "details" for tag, _ in page.tags)
    assert len(content["confusion_by_slice"]) == 3
    assert (tmp_path / "report.html").stat().st_size < 6e6


def test_a_full_page_leaves_out_photographs_and_says_so(shared_data: Path) -> None:
    evidence = aquarium_run(shared_data, 60)
    outcomes = picture_outcomes(evidence.result.matches, evidence.result.overall.confidence)
    names = [row.name for row in slice_rows(evidence)[1:]]
    roomy = build_gallery(evidence.result, evidence.records, evidence.detections, outcomes, names)
    tight = build_gallery(evidence.result, evidence.records, evidence.detections, outcomes, names, photo_bytes=200_000)
    assert not roomy.full and tight.full
    assert 0 < sum(map(len, tight.photos.values())) <= 200_000
    assert tight.worst and set(tight.photos) <= set(roomy.photos)
    assert all(tile.photo in tight.photos for section in tight.sections for tile in section.tiles)
    for section in roomy.sections:
        assert all(tile.missed or tile.false for tile in section.tiles)


def test_pictures_that_are_gone_are_shown_as_such(tmp_path: Path) -> None:
    write_run_report(tmp_path, box_run(4))
    page, _ = read(tmp_path)
    assert "picture cannot be read" in page.text
    assert not any(tag == "image" for tag, _ in page.tags)


def test_names_stay_text_in_every_place(tmp_path: Path) -> None:
    records = [Record(NASTY, Path("x.png"), 400, 400, np.array([[1, 1, 300, 300.0]]), np.zeros(1))]
    found = [Detections(np.array([[1, 1, 300, 300.0]]), np.full(1, 0.9), np.zeros(1))]
    trap = "</td><script>alert(1)</script>"
    masks = [SliceMask(trap, np.array([True]), protected=True, description=trap)]
    write_run_report(
        tmp_path, evidence_of(records, found, found, [trap], masks, title=trap, advice=[Advice(trap, trap, trap)])
    )
    page, content = read(tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(trap) >= 5 and content["classes"] == [trap]


def test_no_gate_no_production_no_latency(tmp_path: Path) -> None:
    write_run_report(tmp_path, box_run(6, verdicts=(), latency=None, history=()))
    page, content = read(tmp_path)
    assert content["verdict"] == "off" and content["comparison"] is None and content["latency"] is None
    kinds = {caveat["kind"] for caveat in content["caveats"]}
    assert {"no_gates", "no_production", "no_latency", "git_dirty"} <= kinds
    assert "Δ" not in page.text and "Did not pass" not in page.text
    assert not re.search(r"\bnan\b", page.text)


@pytest.mark.parametrize(
    ("answers", "colour", "heading", "text"),
    [
        ("PASS pass", "pass", "✓ All gates passed", "Passed: gate0, gate1."),
        ("PASS off off", "pass", "✓ 1 of 3 checks passed, 2 were not run", "Passed: gate0; not run: gate1, gate2."),
        (
            "OFF pass",
            "off",
            "– 1 of 2 checks passed, 1 was not run; whether it learned anything was not checked",
            "Passed: gate1; not run: gate0.",
        ),
        (
            "pass pass",
            "off",
            "– 2 of 2 checks passed; whether it learned anything was not checked",
            "Passed: gate0, gate1.",
        ),
        ("off off", "off", "– No gate was run", "Not run: gate0, gate1."),
        ("off warn PASS", "warn", "! Passed, with warnings", "Warned: gate1; passed: gate2; not run: gate0."),
        ("warn WARN", "warn", "! Has not learned yet", "Warned: gate0, gate1."),
        ("fail WARN", "fail", "✗ Did not pass its gates", "Failed: gate0; warned: gate1."),
    ],
)
def test_the_banner_is_green_only_where_it_learned_and_counts_what_was_not_run(
    answers: str, colour: str, heading: str, text: str
) -> None:
    verdicts = [
        Verdict(
            f"gate{number}",
            "end",
            cast(Answer, word.lower()),
            "why",
            evidence={"finding": "has not learned yet"},
            essential=word.isupper(),
        )
        for number, word in enumerate(answers.split())
    ]
    banner = gates_banner(verdicts)
    assert (banner["answer"], banner["heading"], banner["text"]) == (colour, heading, text)


def test_of_many_false_boxes_the_surest_are_drawn_and_every_picture_opens_large(
    shared_data: Path, tmp_path: Path
) -> None:
    record = Record("flooded", shared_data / "none.jpg", 400, 300, np.array([[10.0, 10, 60, 60]]), np.array([0]))
    corner = np.linspace(100, 200, 50)[:, None]
    boxes = np.vstack([record.boxes, np.hstack([corner, corner, corner + 40, corner + 40])])
    found = Detections(boxes, np.concatenate([[0.25], np.linspace(0.3, 0.8, 50)]), np.zeros(51, int))
    evidence = evidence_of([record], [found], None, ["fish"], [], labelled=[record], on_val=0.9, verdicts=())
    write_run_report(tmp_path, evidence)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    drawn = [tag for tag in page.tags if tag[0] == "rect" and tag[1]["class"] == "false"]
    assert len(drawn) == 20
    assert "1 found, 0 missed, 50 false (only the 20 surest are drawn)" in page.text
    assert "false: 0.80" in page.text and "false: 0.30" not in page.text
    # A picture is a link to itself; style.css draws what is addressed over the whole window, and a link leads back.
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure" and "id" in attributes]
    links = [attributes.get("href") for tag, attributes in page.tags if tag == "a"]
    places = {attributes.get("id") for _, attributes in page.tags}
    assert figures == ["label1", "worst1"]
    for name in figures:
        assert f"#{name}" in links and f"#at-{name}" in links and f"at-{name}" in places
    assert "mAP50 on val" in page.text and "0.900" in page.text
    assert [tag[1]["class"] for tag in page.tags if tag[0] == "rect"].count("label") == 1
