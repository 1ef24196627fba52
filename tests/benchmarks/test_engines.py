"""The table of step 9's precisions: its arms, and verdicts that follow from figures."""

from __future__ import annotations

import argparse

import pytest

import engines as table
from detector_trainings import add_training_options
from tables import Line


def test_arms_of_a_seed_follow_one_another() -> None:
    parser = argparse.ArgumentParser()
    add_training_options(parser, table.ARMS)
    keys = list(table.trainings(parser.parse_args(["--seeds", "2", "--arms", "fp32", "percentile"])))
    assert [(key["arm"], key["seed"]) for key in keys] == [
        ("fp32", 0),
        ("percentile", 0),
        ("fp32", 1),
        ("percentile", 1),
    ]


def lines(lost: list[float]) -> list[Line]:
    """Detectors of mAP50-95 0.3, of which int8 loses ``lost``."""
    shared = {"pictures": "aquarium", "scale": "small", "weights": "0140", "recipe": "fine_tune"}
    return [
        {
            "training": {"arm": arm, "seed": seed, **shared},
            "map50": 0.5,
            "map50_95": 0.3 - (fallen if arm == "percentile" else 0.0),
            "passed": arm == "fp32" or fallen < 0.1,
            "figures": {"score_mean": 0.001},
            "seconds": 1.0,
        }
        for seed, fallen in enumerate(lost)
        for arm in ("fp32", "percentile")
    ]


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [([0.001, 0.002, 0.003], "met"), ([0.29, 0.295, 0.3], "refuted"), ([-0.02, 0.01, 0.04], "open")],
)
def test_verdicts(lost: list[float], verdict: str) -> None:
    (found,) = table.findings(lines(lost))
    assert found.verdict == verdict and "int8 (percentile)" in found.question
    passed = 3 if verdict != "refuted" else 0
    assert f"{passed} of 3" in found.figure
