"""The guidelines for annotators, their example crops, and the price of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marauder.annotation.batch import BatchItem
from marauder.annotation.examples import example_crops
from marauder.annotation.guidelines import GuidelineOptions, write_guidelines
from marauder.annotation.price import batch_price
from marauder.core.clock import Clock
from marauder.core.files import write_json
from marauder.data.records import Record
from marauder.selection.price import PriceSettings

NAMES = ("Purple Sea Urchin", "Red Sea Urchin", "gizmo")


def draw(path: Path, seed: int) -> Path:
    """A picture of 96 x 64 pixels with blocks of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), np.uint8)
    Image.fromarray(pixels).resize((96, 64), Image.Resampling.NEAREST).save(path)
    return path


def test_the_price_counts_corrections_drawn_boxes_and_the_second_look() -> None:
    boxes, classes, scores = np.array([[0, 0, 5, 5]] * 3), np.zeros(3, int), np.ones(3)
    base = BatchItem("a", Path("a"), "a.jpg", "", "", (10, 10), boxes, classes, scores, 5.0)
    twice = replace(base, second_file="s.jpg")
    prices = PriceSettings(per_picture=1, per_box=10, per_corrected_box=100, seconds_per_picture=3600)
    assert batch_price([base], prices).amount == 1 + 2 * 10 + 3 * 100
    assert batch_price([twice], prices).amount == 2 + (2 + 5) * 10 + 3 * 100
    assert batch_price([base], prices).hours == pytest.approx(1 + (2 * 10 + 3 * 4) / 3600, abs=0.01)


def test_guidelines_hold_every_class_its_look_alikes_and_examples(tmp_path: Path) -> None:
    boxes = np.array([[8, 8, 40, 40], [50, 10, 80, 50]])
    records = [
        Record(str(number), draw(tmp_path / f"{number}.png", number), 96, 64, boxes, np.array([number % 2, 1]))
        for number in range(4)
    ]
    labels = [*NAMES, "background"]
    counts = np.zeros((4, 4), int)
    counts[0, 2], counts[2, 0], counts[1, 2] = 4, 3, 2
    write_json(tmp_path / "eval_report.json", {"confusion_matrix": {"labels": labels, "counts": counts}})
    options = GuidelineOptions(model=tmp_path / "best.pt", examples_per_class=3)
    page = write_guidelines(tmp_path / "g", NAMES, records, options, Clock())
    html, text = page.read_text(encoding="utf-8"), (tmp_path / "g" / "guidelines.md").read_text(encoding="utf-8")
    assert 'src="http' not in html and 'href="http' not in html
    for content in (html, text):
        assert "Strongylocentrotus purpuratus" in content and "purple urchin" in content
        assert "took one for the other 7 times" in content and "2 times" not in content
        assert "near relative" in content and "Critical" in content and "No example yet" in content
    assert html.count("data:image/jpeg") == text.count("](examples/") == len(list((tmp_path / "g/examples").iterdir()))
    assert all((tmp_path / "g" / name).is_file() for name in (part.split(")")[0] for part in text.split("](")[1:]))


def test_names_of_classes_cannot_break_the_page(tmp_path: Path) -> None:
    page = write_guidelines(tmp_path, ("<script>alert(1)</script>", "a|b*c"), [], GuidelineOptions(), Clock())
    assert "<script>" not in page.read_text(encoding="utf-8")


def test_examples_prefer_clear_boxes_and_other_clips(tmp_path: Path) -> None:
    records = []
    for number, (group, box) in enumerate(
        [("a", [20, 10, 80, 60]), ("a", [20, 10, 82, 60]), ("b", [30, 20, 60, 50]), ("c", [0, 0, 9, 9])]
    ):
        picture = draw(tmp_path / f"{number}.png", number)
        records.append(Record(str(number), picture, 96, 64, np.array([box]), np.array([0]), group=group))
    broken = Record("x", tmp_path / "missing.png", 96, 64, np.array([[10, 10, 80, 60]]), np.array([0]))
    assert len(example_crops([*records, broken], 0, 9, 0)) == 4
    two = example_crops(records, 0, 2, 0)
    assert two == example_crops(records, 0, 9, 0)[:2] == example_crops(records[::-1], 0, 2, 0)
    assert example_crops(records, 1, 3, 0) == []
