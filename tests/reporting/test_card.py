"""The model card: its sections, tables that no name breaks, caveats that the evidence calls for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reporting_cases import NASTY, VERDICTS, aquarium_run, box_run, evidence_of

from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.reporting.card import card_content, without_places, write_model_card
from marauder.reporting.card_text import render_card
from marauder.reporting.caveats import caveats
from marauder.reporting.evidence import IntendedUse, RunEvidence
from marauder.reporting.markdown import bullets, escape, table
from marauder.reporting.pretraining_page import render_card as render_pretraining_card
from marauder.reporting.slice_table import slice_rows

SECTIONS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation and training data", "Training",
    "Quantitative analyses", "Gates", "Ethical considerations", "Caveats and recommendations",
]  # fmt: skip
READER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def shown(inline: Any) -> str:
    """The text of an inline token as a reader sees it; any mark-up in it is named."""
    return "".join(one.content if one.type == "text" else f"<{one.type}>" for one in inline.children)


def cells_of(markdown: str) -> list[list[str]]:
    """Rows of all tables, as a reader sees them."""
    rows: list[list[str]] = []
    tokens = READER.parse(markdown)
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append(shown(tokens[place + 1]))
    return rows


def body(card: str) -> str:
    assert card.startswith("---\n")
    return card.split("---\n", 2)[2]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_breaks_a_table_or_a_list(first: str, second: str) -> None:
    plain = [" ".join(text.replace("\x00", " ").split()) for text in (first, second)]
    if any(not text.isprintable() for text in plain):
        plain = [text.encode("ascii", "ignore").decode() for text in plain]
        plain = ["".join(one for one in text if one.isprintable()) for text in plain]
        first, second = plain
        plain = [" ".join(text.split()) for text in plain]
    assert cells_of(table(["a", "b"], [[first, second], [second, first]])) == [["a", "b"], plain, plain[::-1]]
    tokens = READER.parse(bullets([f"x{first}", "end"]))
    items = [shown(token) for token in tokens if token.type == "inline"]
    assert items[-1] == "end" and len(items) == 2 and "<" not in items[0].replace(first, "").replace(plain[0], "")


@pytest.mark.parametrize(
    "text",
    [
        NASTY,
        "# no heading",
        "- no item",
        "1. no item",
        "2) nor this",
        "---",
        "===",
        "a\\|b",
        "~~gone~~",
        "http://x.y",
        "&lt;",
    ],
)
def test_what_looks_like_markup_stays_text(text: str) -> None:
    tokens = READER.parse(escape(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert shown(tokens[1]) == text


def test_a_card_of_a_run_on_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    evidence = aquarium_run(shared_data, 120, intended_use=IntendedUse(licence="AGPL-3.0", contact="reef@example.org"))
    path = write_model_card(tmp_path, evidence)
    card = path.read_text(encoding="utf-8")
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["license"] == "agpl-3.0" and matter["pipeline_tag"] == "object-detection"
    metrics = {one["type"]: one["value"] for one in matter["model-index"][0]["results"][0]["metrics"]}
    assert metrics["map50"] == pytest.approx(evidence.result.overall.map50, abs=1e-4)

    tokens = READER.parse(body(card))
    heads = [
        tokens[place + 1].content for place, one in enumerate(tokens) if one.type == "heading_open" and one.tag == "h2"
    ]
    assert heads == SECTIONS
    rows = {row[0]: row for row in cells_of(body(card))}
    overall = rows["all pictures"]
    assert overall[1] == "120" and overall[4].startswith(f"{evidence.result.overall.map50:.3f} (")
    assert any(name.startswith(NASTY) for name in rows)
    for name, part in evidence.result.slices.items():
        row = next(cells for head, cells in rows.items() if head.startswith(name))
        assert row[2] == f"{part.boxes:,}"
    assert rows["onnx"][1:3] == ["14", "16.5"]
    assert rows["regression"][1] == "fail" and rows["determinism"][1] == "off"
    for words in ("start.pt", "f" * 64, "20260101-reef-7", "0123abcd", "CC BY 4.0", "AGPL-3.0", "not measured"):
        assert words in body(card)
    content = json.loads((tmp_path / "model_card.json").read_text(encoding="utf-8"))
    assert render_card(content) == card
    assert content["results"]["overall"]["metrics"]["map50"]["value"] == evidence.result.overall.map50


def test_a_card_without_a_licence_says_so_and_names_no_place_of_a_machine(shared_data: Path, tmp_path: Path) -> None:
    evidence = aquarium_run(
        shared_data, 40, settings={"weights": "/home/ada/models/reef/best.pt"}, facts={"Data": "reef/data.yaml"}
    )
    card = write_model_card(tmp_path, evidence).read_text(encoding="utf-8")
    assert "**Licence:** none stated" in card
    for text in (card, (tmp_path / "model_card.json").read_text(encoding="utf-8")):
        assert "/home/ada" not in text and "reef/best.pt" in text and "reef/data.yaml" in text


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("/mnt/a/weights/best.pt sha256 01", "weights/best.pt sha256 01"),
        ("the split test of /mnt/a/data.yaml", "the split test of a/data.yaml"),
        (
            "see https://example.org/a/b/c, and/or runs/a/best.pt",
            "see https://example.org/a/b/c, and/or runs/a/best.pt",
        ),
        ({"a": ["/x/y/z", 3, None]}, {"a": ["y/z", 3, None]}),
        ("/home/Ada Lovelace/my reef pictures/best.pt", "my reef pictures/best.pt"),
        ("from /home/ada/old reef/a b.pt", "from old reef/a b.pt"),
        ("file:///home/ada/reef/best.pt, file:/mnt/a/b", "reef/best.pt, a/b"),
        ("file://localhost/home/ada/my%20reef/best.pt", "my%20reef/best.pt"),
        ("/mnt/a/b and /mnt/c/d, at 3/4: /mnt/e/f; 1/2", "a/b and c/d, at 3/4: e/f; 1/2"),
    ],
)
def test_places_are_cut_and_nothing_else(words: Any, kept: Any) -> None:
    assert without_places(words) == kept


@pytest.mark.parametrize("seed", range(4))
def test_a_card_where_little_is_known(seed: int, tmp_path: Path) -> None:
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    bare = box_run(seed, 2, 2)
    evidence = RunEvidence("t", bare.result, bare.records, [nothing] * 2)
    card = write_model_card(tmp_path, evidence).read_text(encoding="utf-8")
    assert "No gate judged this model." in card and "Not measured." in card and "nan" not in card.lower()


def kinds(evidence: RunEvidence) -> dict[str, str]:
    return {caveat.kind: caveat.text for caveat in caveats(evidence, slice_rows(evidence))}


def test_caveats_come_from_the_evidence() -> None:
    """Thirty clips: starfish are rarely found, stingrays never occur, one slice is small, one of a single clip."""
    random = np.random.default_rng(0)
    records, detections = [], []
    for index in range(60):
        corner = random.uniform(0, 300, (6, 2))
        boxes = np.concatenate([corner, corner + 50], axis=1)
        classes = np.array([0, 0, 0, 0, 0, 1])
        records.append(Record(f"p{index}", Path(f"{index}.png"), 400, 400, boxes, classes, group=f"clip{index // 2}"))
        kept = np.array([True] * 5 + [index % 5 == 0])
        detections.append(Detections(boxes[kept], np.full(kept.sum(), 0.99), classes[kept]))
    masks = [
        SliceMask("dusk", np.arange(60) < 4),
        SliceMask("one clip", np.array([True] * 2 + [False] * 58)),
        SliceMask("starfish", np.ones(60, bool), boxes=np.tile([False] * 5 + [True], 60), protected=True),
    ]
    evidence = evidence_of(records, detections, detections, ["fish", "starfish", "stingray"], masks, verdicts=VERDICTS)
    told = kinds(evidence)
    assert "stingray" in told["class_absent"] and "starfish" in told["class_weak"]
    assert "starfish" in told["slice_weak"] and "dusk (24)" in told["slice_small"]
    assert "regression" in told["gate_failed"] and "drift" in told["gate_warned"] and "determinism" in told["gates_off"]
    assert {"dusk", "one clip"} <= set(told["comparison_unsure"].rstrip(".").split(": ")[1].split(", "))
    assert "worse_than_production" not in told and "no_production" not in told and "git_dirty" in told

    first = caveats(evidence, slice_rows(evidence))[0]
    assert first.weight == "serious"
    blind = [Detections(one.boxes[:2], one.scores[:2], one.classes[:2]) for one in detections]
    lost = kinds(evidence_of(records, blind, detections, ["fish", "starfish", "stingray"], masks))
    assert "all pictures" in lost["worse_than_production"]
    clean = kinds(replace(evidence, verdicts=VERDICTS[:1], provenance=replace(evidence.provenance, git_dirty=False)))
    assert not {"gate_failed", "gate_warned", "gates_off", "git_dirty"} & set(clean)


def test_few_groups_and_the_split_that_chose_the_weights() -> None:
    told = kinds(box_run(2, split="val"))
    assert "measured_on_val" in told and "few_groups" in told
    assert "measured_on_val" not in kinds(box_run(2, split="test"))


def test_the_card_and_the_report_name_the_same_caveats() -> None:
    evidence = box_run(3)
    rows = slice_rows(evidence)
    assert card_content(evidence, rows)["caveats"] == [vars(one) for one in caveats(evidence, rows)]


def test_the_card_of_a_pretraining_shows_names_and_reasons_as_they_are() -> None:
    signs = {"before": {NASTY: 1.0}, "after": {NASTY: 2.0}}
    content = {
        "title": NASTY,
        "model_details": {"task": "pretraining", "lineage": {}, "provenance": {}, "files": {}},
        "intended_use": {},
        "data": {},
        "training": {"facts": {}},
        "results": {"probe": {"verdict": "unclear", "why": NASTY}, "signs": signs},
        "gates": [{"gate": NASTY, "answer": "warn", "why": NASTY}],
        "ethical_considerations": [NASTY],
        "caveats": [NASTY],
    }
    assert cells_of(render_pretraining_card(content)) == [
        ["sign", "before", "after"],
        [NASTY, "1.000", "2.000"],
        ["gate", "answer", "why"],
        [NASTY, "warn", NASTY],
    ]
