"""The table of step 7: its arms go on from one detector, its verdicts are those of the figures."""

from __future__ import annotations

import argparse

import pytest

import multiscale_gain as table
from detector_trainings import SCALES, add_training_options
from marauder.runs.recipes import load_run_settings
from marauder.tasks.detection.settings import DetectionSettings
from tables import Line


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_training_options(parser, table.ARMS, table.NAMES)
    return parser.parse_args(list(words))


def test_every_seed_begins_with_what_its_arms_start_from() -> None:
    keys = list(table.trainings(arguments("--seeds", "2", "--first-seed", "3")))
    assert [(key["arm"], key["seed"]) for key in keys[:2]] == [("before", 3), ("plain", 3)]
    assert len(keys) == 2 * len(table.ARMS) and all(keys.count(key) == 1 for key in keys)
    assert all(key["sizes"] == [160, 224, 288] for key in keys)


@pytest.mark.parametrize("arm", table.WORDS)
def test_the_words_of_an_arm_are_settings(arm: str) -> None:
    size = SCALES["small"].image_size
    settings = load_run_settings(DetectionSettings, None, list(table.WORDS[arm]), data="d", image_size=size)
    assert settings.multi_scale.is_off == (arm == "plain")


def lines(small: list[float], whole: float = 0.0) -> list[Line]:
    """Arms over as many seeds; ``multi_scale`` has these shares more of small animals, ``progressive`` twice that."""
    shared = {"pictures": "deepfish", "scale": "small", "weights": "0140", "sizes": [160, 224, 288]}
    found = []
    for seed, gain in enumerate(small):
        base = 0.2 + 0.01 * seed
        for arm, times in (("before", -1), ("plain", 0), ("multi_scale", 1), ("progressive", 2)):
            value = base * (1 + times * gain)
            figures = {"map_small": value, "map50_95": 0.4 + times * whole + 0.001 * seed, "map50_95 at 288": value}
            words = list(table.WORDS.get(arm, ()))
            found.append({"training": {"arm": arm, "seed": seed, "words": words, **shared}, **figures, "seconds": 1.0})
    return found


@pytest.mark.parametrize(
    ("small", "verdict"),
    [([0.05, 0.06, 0.07], "met"), ([0.001, 0.002, 0.003], "refuted"), ([-0.2, 0.1, 0.4], "open"), ([0.3], "open")],
)
def test_whether_small_animals_gain_follows_from_the_pairs(small: list[float], verdict: str) -> None:
    first = table.findings(lines(small))[0]
    assert first.verdict == verdict and first.consequence == table.ADVICE[verdict]
    assert "deepfish" in first.question and "160 to 288" in first.question


@pytest.mark.parametrize(("whole", "verdict"), [(0.0, "met"), (0.02, "met"), (-0.02, "refuted")])
def test_what_all_animals_lose_is_told(whole: float, verdict: str) -> None:
    found = table.findings(lines([0.05, 0.06, 0.07], whole))
    assert found[1].verdict == verdict and found[1].consequence == table.KEPT[verdict]
    assert found[2].figure.startswith("progressive: +0.025") and "gains by step 7" in found[3].consequence


def test_without_both_arms_or_at_the_scale_tiny_there_is_nothing_to_tell() -> None:
    some = lines([0.1, 0.2])
    assert table.findings([line for line in some if line["training"]["arm"] != "plain"]) == []
    for line in some:
        line["training"]["scale"] = "tiny"
    assert table.findings(some) == []
