"""The contract of calibration methods: a rising curve that mends scores that are wrong and leaves right ones alone."""

from __future__ import annotations

import numpy as np
import pytest

from marauder.calibration.methods.base import CalibrationMethod
from marauder.core.plugins import make
from marauder.prediction.score_calibration import read_curve


def method(name: str) -> CalibrationMethod:
    """The method of this name."""
    made: CalibrationMethod = make("calibration_method", name)
    return made


def too_sure(seed: int, count: int, temperature: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a detector that is too sure, whether each is right, and the chance that it is: float64 (N,) each."""
    random = np.random.default_rng(seed)
    chance = random.uniform(0.03, 0.97, count)
    odds = np.log(chance / (1 - chance)) / temperature
    return 1 / (1 + np.exp(-odds)), (random.random(count) < chance).astype(np.float64), chance


class CalibrationMethodContract:
    """What every calibration method promises. A subclass is parametrized over ``name``."""

    def test_is_named_as_in_the_table(self, name: str) -> None:
        assert method(name).name == name
        assert method(name).parameters >= 1

    @pytest.mark.parametrize("count", [2, 3, 10, 40, 200])
    @pytest.mark.parametrize("seed", range(4))
    def test_the_curve_never_falls_and_stays_in_its_range(self, name: str, seed: int, count: int) -> None:
        score, right, _ = too_sure(seed, count)
        found = method(name).fit(score, right)
        if found is None:
            assert count < 200, "enough to tell"
            return
        said, share = found
        assert said[0] == 0 and share[0] == 0, "what has no score is nothing"
        assert np.all(np.diff(said) > 0) and np.all(np.diff(share) >= 0)
        assert share.min() >= 0 and share.max() <= 1
        order = np.sort(np.random.default_rng(seed).random(500))
        assert np.all(np.diff(read_curve(found, order)) >= 0), "no two detections change places"

    def test_scores_that_are_too_sure_come_near_the_truth(self, name: str) -> None:
        score, right, chance = too_sure(1, 4000)
        found = method(name).fit(score, right)
        assert found is not None
        before, after = np.abs(score - chance).mean(), np.abs(read_curve(found, score) - chance).mean()
        assert after < 0.35 * before

    def test_scores_that_are_right_stay(self, name: str) -> None:
        score, right, chance = too_sure(2, 4000, temperature=1.0)
        found = method(name).fit(score, right)
        assert found is not None and np.abs(read_curve(found, score) - chance).mean() < 0.03

    def test_an_overlap_is_a_target_like_any_other(self, name: str) -> None:
        score, right, chance = too_sure(3, 4000)
        found = method(name).fit(score, right * 0.9)
        assert found is not None
        told = read_curve(found, score)
        assert np.mean((told - 0.9 * right) ** 2) < np.mean((score - 0.9 * right) ** 2) - 0.005
        assert np.abs(told.mean() - 0.9 * chance.mean()) < 0.06

    def test_gives_the_same_curve_again(self, name: str) -> None:
        score, right, _ = too_sure(4, 300)
        one, other = (method(name).fit(score, right) for _ in range(2))
        assert one is not None and other is not None
        assert one[0].tolist() == other[0].tolist() and one[1].tolist() == other[1].tolist()

    @pytest.mark.parametrize("right", [0.0, 1.0])
    def test_where_nothing_can_be_told_there_is_no_curve(self, name: str, right: float) -> None:
        score = np.linspace(0.1, 0.9, 30)
        assert method(name).fit(score, np.full(30, right)) is None
        assert method(name).fit(np.zeros(0), np.zeros(0)) is None
        assert method(name).fit(np.full(30, 0.5), np.arange(30) % 2.0) is None
