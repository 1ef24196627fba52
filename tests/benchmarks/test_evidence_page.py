"""docs/evidence.md is what the stored results say, and what tables say of literal results is right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

import accuracy_parity
import critical_species_gain
import evidence_page
from tables import Line


def test_the_page_is_what_the_results_say() -> None:
    stored = evidence_page.PAGE.read_text(encoding="utf-8")
    assert stored == evidence_page.page(), "write it anew: python benchmarks/evidence_page.py"


def test_every_script_with_findings_is_a_table() -> None:
    scripts = [
        path
        for path in Path(evidence_page.__file__).parent.glob("*.py")
        if "\ndef findings(" in path.read_text("utf-8")
    ]
    assert sorted(table.script for table in evidence_page.TABLES) == sorted(path.stem for path in scripts)
    for table in evidence_page.TABLES:
        assert importlib.import_module(table.script).findings([]) == []


def test_stored_results_name_no_folder_of_a_machine() -> None:
    for path in (evidence_page.REPOSITORY / evidence_page.RESULTS).glob("*.jsonl"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("/home", "/root", "/tmp", "/work") if f'"{word}' in text], path.name
        assert path.name in [table.results for table in evidence_page.TABLES]


def test_a_table_without_results_is_listed_with_its_commands(tmp_path: Path) -> None:
    text = evidence_page.page(tmp_path)
    assert text.count("Not measured yet") == len(evidence_page.TABLES) and "| asked |" not in text
    for table in evidence_page.TABLES:
        assert f"python benchmarks/{table.script}.py" in text


def parity(ours: list[float], theirs: list[float], compare: str = "equal", **given: Any) -> list[Line]:
    shared = {"compare": compare, "epochs": 10, "data": None, "model": "yolov8n", "weights": "0140"}
    arms = (("ours", ours, given), ("ultralytics", theirs, {}))
    return [
        {"training": {"arm": arm, "seed": seed, **shared, **more}, "map50": value, "map50_95": value / 2}
        for arm, values, more in arms
        for seed, value in enumerate(values)
    ]


THEIRS = [0.40, 0.44, 0.42]


@pytest.mark.parametrize(
    ("ours", "compare", "verdict"),
    [
        ([0.395, 0.436, 0.416], "equal", "met"),
        ([0.30, 0.35, 0.33], "equal", "refuted"),
        ([0.35, 0.50, 0.40], "equal", "open"),
        ([0.50, 0.53, 0.52], "defaults", "met"),
        ([0.395, 0.436, 0.416], "defaults", "refuted"),
        ([0.50, 0.42, 0.45], "defaults", "open"),
    ],
)
def test_parity_is_judged_by_its_interval(ours: list[float], compare: str, verdict: str) -> None:
    (found,) = accuracy_parity.findings(parity(ours, THEIRS, compare))
    assert found.verdict == verdict and found.consequence == accuracy_parity.ADVICE[compare][verdict]


def test_recipes_are_told_apart_by_what_differs() -> None:
    one = parity([0.5, 0.6], THEIRS, "defaults", settings={"training": {"epochs": 9, "rate": 0.1}})
    other = parity([0.3, 0.3], [], "defaults", settings={"training": {"epochs": 9, "rate": 0.2}})
    first, second = accuracy_parity.findings([*one, *other])
    assert first.question.endswith("(training.rate=0.1)") and second.question.endswith("(training.rate=0.2)")
    assert (first.figure[:6], second.figure[:6]) == ("+0.130", "-0.120")


def critical(gains: list[float], losses: list[float], arm: str = "ours") -> list[Line]:
    found = []
    for seed, (gain, loss) in enumerate(zip(gains, losses, strict=True)):
        for name, precision, others in (("plain", 0.5, 0.4), (arm, 0.5 * (1 + gain), 0.4 * (1 - loss))):
            training = {"arm": name, "seed": seed, "scale": "small", "weights": "0140"}
            figures = {"precision": precision, "precision_plain": 0.5, "others_map50": others}
            found.append({"training": training, **figures})
    return found


@pytest.mark.parametrize(
    ("gains", "losses", "verdicts"),
    [
        ([0.15, 0.16, 0.17], [0.0, 0.001, 0.002], ["met", "met"]),
        ([0.01, 0.02, 0.03], [0.05, 0.06, 0.07], ["refuted", "refuted"]),
        ([-0.2, 0.2, 0.6], [-0.1, 0.0, 0.1], ["open", "open"]),
    ],
)
def test_step_5_is_judged_on_both_targets(gains: list[float], losses: list[float], verdicts: list[str]) -> None:
    assert [one.verdict for one in critical_species_gain.findings(critical(gains, losses))] == verdicts


def test_another_way_than_step_5_is_told_as_the_best_of_those() -> None:
    lines = [*critical([0.1, 0.2], [0, 0]), *critical([0.3, 0.4], [0, 0], "own")]
    found = critical_species_gain.findings(lines)
    assert len(found) == 3 and found[-1].figure.startswith("own: +35.0%")
    tiny = json.loads(json.dumps(lines).replace('"small"', '"tiny"'))
    assert critical_species_gain.findings(tiny) == []
