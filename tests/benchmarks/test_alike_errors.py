"""How alike the errors of two detectors are: known where they are simulated, and judged by its interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alike_errors import findings, without_some_labels
from marauder.data.records import Dataset, Detections, Record
from marauder.evaluation.likeness import box_scores, correlation_of_errors
from marauder.evaluation.matching import match
from simulated_detectors import Assumptions, detect, make_scene
from tables import Line


def records(count: int, boxes: int) -> list[Record]:
    """Pictures with boxes that lie far from each other."""
    places = [[100 * place + 10, 10, 100 * place + 60, 60] for place in range(boxes)]
    return [
        Record(f"{number}", Path(f"{number}.jpg"), 100 * boxes, 100, places, [0] * boxes, split="train")
        for number in range(count)
    ]


@pytest.mark.parametrize("alike", [0.9, 0.6, 0.0])
@pytest.mark.parametrize("strength", [1.2, 0.4])
def test_the_alikeness_of_simulated_detectors_is_found_again(alike: float, strength: float) -> None:
    pictures = records(500, 4)
    scene = make_scene(pictures, Assumptions(strength, alike, distractors=1.0), seed=0)
    first, second = (box_scores(match(pictures, detect(scene, 0, name), ("fish",))) for name in ("one", "other"))
    assert len(first) == 2000
    assert correlation_of_errors(first, second) == pytest.approx(alike, abs=0.1)


def test_a_box_has_the_score_of_its_own_detection_and_none_where_nothing_found_it() -> None:
    record = records(1, 3)[0]
    boxes = np.array([record.boxes[2], record.boxes[0] + 100_000, record.boxes[0]])
    seen = Detections(boxes, np.array([0.9, 0.8, 0.3]), np.zeros(3, np.int64))
    assert box_scores(match([record], [seen], ("fish",))).tolist() == pytest.approx([0.3, 0, 0.9])


def test_labels_of_the_most_frequent_class_are_lost_in_training_alone() -> None:
    train = [Record(f"{n}", Path("a"), 99, 99, [[1, 1, 9, 9]] * 3, [1, 1, 0], split="train") for n in range(400)]
    test = Record("t", Path("a"), 99, 99, [[1, 1, 9, 9]] * 50, [1] * 50, split="test")
    dataset = Dataset(("rare", "many"), (*train, test))
    found = without_some_labels(dataset, seed=1)
    assert len(found.records[-1].boxes) == 50
    rare, many = found.with_records(found.records[:-1]).class_counts()
    assert rare == 400
    assert many == pytest.approx(720, abs=30)


def line(arm: str, seed: int, alike: float) -> Line:
    training = {"arm": arm, "seed": seed, "pictures": "aquarium", "scale": "small"}
    return {"training": training, "map50": 0.4, "alike": alike, "noise": 2.0}


@pytest.mark.parametrize(
    ("values", "verdict", "row"),
    [([0.92, 0.93, 0.94], "met", "0.9"), ([0.62, 0.6, 0.65], "refuted", "0.6"), ([0.7, 0.95, 0.8], "open", "0.8")],
)
def test_the_assumption_of_the_gate_is_judged_by_the_interval(values: list[float], verdict: str, row: str) -> None:
    found = findings([line("another_seed", seed, value) for seed, value in enumerate(values)])
    assert [one.verdict for one in found] == [verdict]
    assert f"alike {row} apply" in found[0].consequence
