"""Every calibration method passes the contract; and what distinguishes them."""

from __future__ import annotations

import numpy as np
import pytest

from marauder.calibration.methods.logits import logit
from marauder.core.plugins import names
from marauder.prediction.score_calibration import read_curve
from marauder.testing.calibration_methods import CalibrationMethodContract, method, too_sure


@pytest.mark.parametrize("name", names("calibration_method"))
class TestMethods(CalibrationMethodContract):
    """All of the table."""


def test_temperature_finds_the_temperature() -> None:
    score, right, _ = too_sure(5, 20_000)
    found = method("temperature").fit(score, right)
    assert found is not None
    # A temperature of 2 takes logit 2 to 1.
    assert logit(read_curve(found, 1 / (1 + np.exp(-np.array([2.0]))))) == pytest.approx([1.0], abs=0.06)


def test_platt_moves_scores_as_temperature_cannot() -> None:
    random = np.random.default_rng(6)
    chance = random.uniform(0.02, 0.5, 8000)
    score = 1 / (1 + np.exp(-(logit(chance) + 1.5)))
    right = (random.random(8000) < chance).astype(float)
    errors = {}
    for name in ("platt", "temperature"):
        found = method(name).fit(score, right)
        assert found is not None
        errors[name] = np.abs(read_curve(found, score) - chance).mean()
    assert errors["platt"] < 0.02 < errors["temperature"]
