"""The table by class that ends a training on the screen."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from marauder.cli.class_table import WIDTH, class_lines, nothing_found
from marauder.core.metrics import Metric


def overall(names: list[str], **values: Any) -> dict[str, Any]:
    figures = {"precision": 0.5, "recall": 0.25, "f1": 0.3}
    rows = [{"name": name, "n_boxes": 1234, "ap50": 0.75, "ap75": 0.1, "ap50_95": 0.5, **figures} for name in names]
    return {"boxes": 2468, "map50": 0.75, "map50_95": 0.5, **figures, "per_class": rows, **values}


def test_every_class_and_all_of_them_have_a_line() -> None:
    content = overall(["fish", "shark"])
    content["per_class"][1] |= {"n_boxes": 0, "ap50": None, "ap50_95": float("nan")}
    header, fish, shark, whole = (line.split() for line in class_lines(content))
    assert header == ["class", "boxes", "precision", "recall", "AP50", "AP50-95"]
    assert fish == ["fish", "1,234", "0.500", "0.250", "0.750", "0.500"]
    assert shark == ["shark", "0", "0.500", "0.250", "–", "–"]
    assert whole == ["all", "2,468", "0.500", "0.250", "0.750", "0.500"]


def test_a_dash_for_every_precision_is_explained() -> None:
    content = overall(["fish", "shark"], recall=0.0, precision=None, confidence=0.05)
    for row in content["per_class"]:
        row |= {"precision": None, "recall": 0.0}
    assert nothing_found(content) == "no detection is above the operating confidence (0.05)"
    content["per_class"][0]["precision"] = 0.0  # detections there are, all of them wrong
    assert nothing_found(content) == nothing_found(overall(["fish"], confidence=0.05)) == nothing_found({}) == ""


def test_another_task_has_its_own_columns_or_none() -> None:
    metrics = [Metric("dice", "Dice", per_class=True), Metric("hours", "hours", share=False)]
    content = {"dice": 0.5, "per_class": [{"name": "fish", "dice": 0.25}]}
    assert [line.split() for line in class_lines(content, metrics)] == [
        ["class", "Dice"],
        ["fish", "0.250"],
        ["all", "0.500"],
    ]
    assert class_lines({"dice": 0.5}, metrics) == class_lines({}, metrics) == class_lines(content) == []


@given(st.lists(st.text(min_size=1, max_size=200), max_size=5))
def test_no_line_is_wider_than_a_terminal_and_figures_are_whole(names: list[str]) -> None:
    lines = class_lines(overall(names))
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= WIDTH
    assert all(line.endswith("0.750    0.500") for line in lines[1:])
