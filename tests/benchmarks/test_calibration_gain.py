"""The table of step 8: its arms, and verdicts that follow from figures."""

from __future__ import annotations

import argparse

import pytest

import calibration_gain as table
from detector_trainings import add_training_options
from marauder.core.plugins import names
from tables import Line


def test_every_method_is_an_arm_and_arms_of_a_seed_follow_one_another() -> None:
    assert set(table.METHODS) == set(names("calibration_method"))
    parser = argparse.ArgumentParser()
    add_training_options(parser, table.ARMS, (*table.NAMES, table.SCENES))
    keys = list(table.trainings(parser.parse_args(["--seeds", "2"])))
    assert [(key["arm"], key["seed"]) for key in keys] == [(arm, seed) for seed in (0, 1) for arm in table.ARMS]


def lines(drops: list[float], detections: int = 500, gain: float = 0.02) -> list[Line]:
    """Detectors with a D-ECE of 20 %, of which calibration takes ``drops``; isotonic a little more."""
    shared = {"pictures": "aquarium", "scale": "small", "weights": "0140", "recipe": "fine_tune"}
    found = []
    for seed, fallen in enumerate(drops):
        for arm, more in ((table.CHOSEN, 0.0), ("isotonic", 0.02), (table.OVERLAP, 0.0), (table.VIEWS, 0.0)):
            value = 0.2 * (1 - fallen - more)
            line = {"training": {"arm": arm, "seed": seed, **shared}, "method": "platt", "brier": 0.1, "seconds": 1.0}
            line |= {"d_ece_before": 0.2, "d_ece": value, "d_ece_floor": 0.04, "la_ece_before": 0.2, "la_ece": value}
            line |= {"fitted_on": detections, "judged_on": detections, "views": ["plain", "flip"]}
            line |= {"map50": 0.5 + (gain + 0.001 * seed if arm == table.VIEWS else 0)}
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("drops", "detections", "verdict"),
    [
        ([0.55, 0.6, 0.65], 500, "met"),
        ([0.58, 0.6, 0.62], 900, "refuted"),
        ([0.75, 0.8, 0.85], 900, "met"),
        ([0.1, 0.5, 0.9], 500, "open"),
        ([-0.2, -0.1, 0.0], 500, "refuted"),
    ],
)
def test_the_target_depends_on_how_much_can_be_shown(drops: list[float], detections: int, verdict: str) -> None:
    first = table.findings(lines(drops, detections))[0]
    assert first.verdict == verdict and first.consequence == table.ADVICE[verdict]
    assert (
        "70%" if detections >= table.ENOUGH else "50%"
    ) in first.question and "perfect detector 4.0%" in first.figure


def test_methods_overlap_and_views_are_told() -> None:
    _, best, overlap, views = table.findings(lines([0.55, 0.6, 0.65]))
    assert best.figure.startswith("isotonic") and overlap.verdict == "measured"
    assert views.verdict == "met" and "plain+flip" in views.figure
    assert table.findings(lines([0.5, 0.5, 0.5], gain=0.0))[-1].verdict == "refuted"
    tiny = lines([0.5])
    for line in tiny:
        line["training"]["scale"] = "tiny"
    assert table.findings(tiny) == []
    for line in tiny:
        line["d_ece_before"] = line["d_ece"] = float("nan")
    assert table.drop(tiny, table.CHOSEN) is None, "a detector that finds nothing"
    table.report(tiny)
    table.report(lines([0.5, 0.6]))
    assert "D-ECE 20.0% to 9.0%" in table.told(lines([0.55])[0])
