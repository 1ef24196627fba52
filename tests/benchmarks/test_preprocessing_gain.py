"""The table of step 0: its treatments are the product's, its trainings in order, its verdicts those of the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import preprocessing_gain as table
from detector_trainings import add_training_options
from marauder.imaging.plan import METHODS, Plan
from marauder.preprocessing.settings import Recipe
from tables import Line


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_training_options(parser, table.ARMS, (*table.NAMES, table.SCENES))
    return parser.parse_args(list(words))


def test_every_stage_is_an_arm_by_itself() -> None:
    plans = {}
    for arm in table.STAGES:
        recipe = Recipe.of(table.settings_of(arm, Path("in"), Path("out")))
        plans[arm] = recipe.plan or METHODS[recipe.method][1] or Plan()
    assert [plan.stages for plan in plans.values()] == [(stage,) for stage in METHODS["full"][1].stages]  # type: ignore[union-attr]
    assert table.settings_of("auto", Path("in"), Path("out")).method == "auto"


def test_raw_and_auto_come_first_seed_by_seed() -> None:
    keys = list(table.trainings(arguments("--seeds", "2", "--first-seed", "3")))
    assert [(key["arm"], key["seed"]) for key in keys[:5]] == [
        ("raw", 3), ("auto", 3), ("raw", 4), ("auto", 4), ("compensation", 3),
    ]  # fmt: skip
    assert len(keys) == 2 * len(table.ARMS) and all(keys.count(key) == 1 for key in keys)


def lines(gains: list[float], pictures: str = "aquarium", moved: float = -0.05) -> list[Line]:
    """Three arms over as many seeds; ``auto`` gains ``gains``, ``gamma`` a twentieth more, in water type II nothing."""
    shared = {"pictures": pictures, "scale": "small", "weights": "0140", "recipe": "fine_tune"}
    found = []
    for seed, gain in enumerate(gains):
        raw = 0.4 + 0.03 * seed
        for arm, value in (("raw", raw), ("auto", raw + gain), ("gamma", raw + gain + 0.05)):
            line = {"training": {"arm": arm, "seed": seed, "treatment": table.TREATMENTS.get(arm), **shared}}
            line |= {"map50": value, "map50_95": value / 2, "enhanced": 0.57}
            if pictures == "scenes":
                line |= {"map50 water_type=II": raw}
            found.append(line)
        found[-3] |= {f"map50 on {arm}": raw + moved + 0.001 * seed for arm in table.TREATMENTS}
        found[-2] |= {"map50 on raw": raw + gain - 0.02}
    return found


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [([0.03, 0.04, 0.05], "met"), ([0.001, 0.002, 0.003], "refuted"), ([-0.1, 0.1, 0.2], "open"), ([0.3], "open")],
)
def test_whether_auto_helps_follows_from_the_pairs(gains: list[float], verdict: str) -> None:
    first = table.findings(lines(gains))[0]
    assert first.verdict == verdict and first.consequence == table.ADVICE[verdict]
    assert "aquarium" in first.question and "57%" in first.question


def test_stage_gains_elsewhere_and_water_types_are_told() -> None:
    real, drawn = lines([0.03, 0.04, 0.05]), lines([0.03, 0.04, 0.05], "scenes")
    found = table.findings([*real, *drawn])
    assert len(found) == 4 + 5
    auto, stage, moved, back = found[:4]
    assert back.figure.startswith("-0.020") and "`auto` sees raw ones" in back.question
    assert auto.figure.startswith("+0.040") and stage.figure.startswith("gamma: +0.090")
    assert moved.figure.startswith("-0.049") and "loses" in moved.consequence
    assert "water_type=II" in found[-1].question and found[-1].verdict == "refuted"
    # A seed with too few pictures of a water type has no figure for it.
    for line in drawn[:3]:
        del line["map50 water_type=II"]
    assert "2 pairs" in table.findings(drawn)[-1].figure
    assert "gains" in table.findings(lines([0.03, 0.04], moved=0.05))[2].consequence


def test_without_raw_or_auto_there_is_nothing_to_tell() -> None:
    assert table.findings([line for line in lines([0.1, 0.2]) if line["training"]["arm"] != "auto"]) == []
    assert table.findings([]) == []
