"""The table of students: its arms are settings, few clips keep labels, its verdicts are those of the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

import student_gain as table
from detector_trainings import SCALES, add_training_options, settings_for
from marauder.data.records import Dataset, Record
from marauder.students.settings import StudentSettings
from tables import Line


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_training_options(parser, table.ARMS, table.NAMES)
    parser.add_argument("--second-weights", type=Path)
    return parser.parse_args(list(words))


def test_every_seed_has_its_teacher_and_its_students() -> None:
    keys = list(table.trainings(arguments("--seeds", "2", "--first-seed", "3")))
    assert [(key["arm"], key["seed"]) for key in keys[:2]] == [("teacher", 3), ("alone", 3)]
    assert len(keys) == 2 * len(table.ARMS) and all(keys.count(key) == 1 for key in keys)


@pytest.mark.parametrize("arm", [arm for arm in table.WORDS if arm != table.ALONE])
def test_the_words_of_an_arm_are_settings(arm: str) -> None:
    training = {"seed": 1, "recipe": "fine_tune", "device": "cpu", "threads": 1, "set": [], "start": None}
    words = [*table.WORDS[arm], "teacher=t", "cost.enabled=false"]
    settings = settings_for(StudentSettings, training, SCALES["tiny"], Path("d"), Path("o"), 2, words)
    assert (settings.lessons.trust == "whole") == (arm == "hard") == (settings.lessons.doubt == settings.lessons.sure)
    assert (settings.teaching.unlabelled_share == 0) == (arm == "taught_labelled")


def test_few_clips_keep_their_labels_and_every_class_has_some() -> None:
    def record(number: int, split: str) -> Record:
        classes = np.array([0, 1] if number == 3 else [0])
        boxes = np.array([[0, 0, 9, 9], [9, 9, 20, 20]], float)[: len(classes)]
        return Record(
            f"{split}{number}", Path("x.png"), 32, 32, boxes, classes, group=f"{split}{number // 2}", split=split
        )

    dataset = Dataset(
        ("fish", "ray"), tuple(record(number, split) for split in ("train", "test") for number in range(40))
    )
    for seed in range(3):
        few = table.with_few_labels(dataset, seed)
        training = few.split("train").records
        kept = {one.group for one in training if one.labelled}
        assert len(kept) in (5, 6) and "train1" in kept, "the one clip that shows a ray is among them"
        assert all(one.labelled == (one.group in kept) == bool(len(one.boxes)) for one in training)
        assert all(one.labelled for one in few.split("test"))


def lines(gain: list[float]) -> list[Line]:
    shared = {"pictures": "aquarium", "scale": "small", "weights": "0140", "kept": 0.25}
    found = []
    for seed, one in enumerate(gain):
        for arm, times in (("teacher", 3), ("alone", 0), ("taught_labelled", 0.5), ("taught", 1), ("hard", 2)):
            words = list(table.WORDS.get(arm, ()))
            figures = {"map50_95": 0.2 + 0.01 * seed + times * one, "map50": 0.4}
            found.append({"training": {"arm": arm, "seed": seed, "words": words, **shared}, **figures, "seconds": 1.0})
    return found


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [([0.03, 0.031, 0.032], "met"), ([0.001, 0.002, 0.001], "refuted"), ([-0.1, 0.1, 0.2], "open")],
)
def test_whether_a_student_gains_follows_from_the_pairs(gain: list[float], verdict: str) -> None:
    found = table.findings(lines(gain))
    assert found[0].verdict == verdict and found[0].consequence == table.ADVICE[verdict]
    assert "25% of the clips labelled" in found[0].question and len(found) == 4
    if verdict == "met":
        # ``hard`` has twice the gain of ``taught``.
        assert found[-1].consequence == "a loss is shown" and found[1].consequence == "a gain is shown"


def test_the_scale_tiny_proves_nothing() -> None:
    some = lines([0.1, 0.2])
    assert table.findings([line for line in some if line["training"]["arm"] != "taught"]) == []
    for line in some:
        line["training"]["scale"] = "tiny"
    assert table.findings(some) == []
