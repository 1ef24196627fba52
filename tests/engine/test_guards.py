"""The watches on a training: they find what is planted, and stay silent on losses that only look bad."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import LineTask, make_trainer

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import read_lines
from marauder.engine.failures import TrainingFailure
from marauder.engine.guards import CollapseWatch, DivergenceWatch, Finding, Guards
from marauder.engine.settings import OptimizerSettings, TrainingSettings
from marauder.engine.state import Position

STEPS = 6000


def judge_all(losses: Iterable[tuple[float, float]], **values: float) -> tuple[int, Finding] | None:
    """The first finding on the losses, under the default settings, and its step."""
    guards = Guards(TrainingSettings(**values), Position())
    for step, (per_positive, per_sample) in enumerate(losses):
        finding = guards.judge_update(per_positive, per_sample, 1.0)
        if finding is not None:
            return step, finding
    return None


def falling(step: np.ndarray) -> np.ndarray:
    return 2.0 + 8.0 * np.exp(-step / 300)


def noisy(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    return falling(step) * random.lognormal(0, 0.6, len(step))


def heavy_tailed(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    return falling(step) * (1 + np.minimum(np.abs(random.standard_t(2, len(step))), 20))


def cyclic(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    """A learning rate that restarts: each cycle begins far up and falls again."""
    return (1.0 + 6.0 * np.exp(-(step % 1500) / 250)) * random.lognormal(0, 0.2, len(step))


def slowly_recovering(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    """Thrown far back for much longer than patience lasts, but falling all the while."""
    return (1.0 + 11.0 * np.exp(-(step % 3000) / 1500)) * random.lognormal(0, 0.1, len(step))


def warming_up(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    """The loss rises to five times its beginning while the learning rate warms up, then falls."""
    bump = 1 + 4 * np.exp(-(((step - 250) / 120) ** 2))
    return (1.0 + 2.0 * np.exp(-step / 800)) * bump * random.lognormal(0, 0.2, len(step))


def near_zero(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    """Learned by heart: noise around nothing is many times the minimum."""
    level = 10 * np.exp(-step / 200) + 1e-4 * (1 + 50 * (np.sin(step / 700) > 0))
    return level * random.lognormal(0, 0.5, len(step))


def last_epochs_harder(random: np.random.Generator, step: np.ndarray) -> np.ndarray:
    return falling(step) * np.where(step > 4000, 2.2, 1.0) * random.lognormal(0, 0.3, len(step))


@pytest.mark.parametrize(
    "shape", [noisy, heavy_tailed, cyclic, slowly_recovering, warming_up, near_zero, last_epochs_harder]
)
@pytest.mark.parametrize("seed", range(5))
def test_healthy_losses_raise_no_alarm(shape: Callable[..., np.ndarray], seed: int) -> None:
    random = np.random.default_rng(seed)
    losses = shape(random, np.arange(STEPS))
    assert judge_all(zip(losses, 40 * losses, strict=True), exploding_factor=1000.0) is None


@pytest.mark.parametrize("often", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_empty_batches_raise_no_alarm(seed: int, often: float) -> None:
    """Some of the batches show empty scenes, and for a thousand updates all do."""
    random = np.random.default_rng(seed)
    step = np.arange(STEPS)
    empty = (random.random(STEPS) < often) | ((step > 3000) & (step < 4000))
    loss = falling(step) * random.lognormal(0, 0.3, STEPS)
    per_positive = np.where(empty, 30 * loss, loss)  # nothing to divide by
    per_sample = np.where(empty, 0.5 * loss, 40 * loss)
    assert judge_all(zip(per_positive, per_sample, strict=True), exploding_factor=1000.0) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("growth", [400, 2000])
def test_a_loss_that_keeps_rising_is_found(seed: int, growth: float) -> None:
    random = np.random.default_rng(seed)
    step = np.arange(STEPS)
    loss = falling(step) * np.exp(np.maximum(step - 1500, 0) / growth) * random.lognormal(0, 0.4, STEPS)
    found = judge_all(zip(loss, 40 * loss, strict=True), exploding_factor=1e9)
    assert found is not None
    assert found[1].kind == "diverged"
    rose = 1500 + growth * math.log(3)
    assert rose < found[0] < rose + 1.5 * growth + 800, "neither too early nor long after"


def test_a_jump_to_a_plateau_is_found_and_one_that_is_left_is_not() -> None:
    step = np.arange(STEPS)
    stays = falling(step) * np.where(step > 2000, 5.0, 1.0)
    found = judge_all(zip(stays, 40 * stays, strict=True))
    assert found is not None
    assert found[1].kind == "diverged"
    assert "5.0 times its minimum" in found[1].why
    leaves = falling(step) * np.where((step > 2000) & (step < 2400), 5.0, 1.0)
    assert judge_all(zip(leaves, 40 * leaves, strict=True)) is None
    assert judge_all(zip(stays, 40 * stays, strict=True), divergence_steps=0) is None


def test_a_loss_below_zero_is_not_judged_by_factors() -> None:
    watch = DivergenceWatch(3.0, 100)
    values = -5 * np.exp(-np.arange(2000) / 500)
    assert all(watch.judge(float(value), float(value)) is None for value in values)


def test_what_the_watches_remember_goes_through_a_checkpoint_exactly() -> None:
    random = np.random.default_rng(3)
    step = np.arange(STEPS)
    loss = falling(step) * np.exp(np.maximum(step - 800, 0) / 500) * random.lognormal(0, 0.4, STEPS)
    whole = judge_all(zip(loss, 40 * loss, strict=True), exploding_factor=1e9)
    settings, position = TrainingSettings(exploding_factor=1e9), Position()
    guards = Guards(settings, position)
    for number, value in enumerate(loss):
        if number % 97 == 0:
            guards.remember(position)
            guards = Guards(settings, Position(**json.loads(json.dumps(vars(position)))))
        finding = guards.judge_update(float(value), 40 * float(value), 1.0)
        if finding is not None:
            assert whole == (number, finding)
            return
    pytest.fail("the resumed watch found nothing")


def test_a_gradient_of_exactly_zero_is_a_collapse_and_a_small_one_is_not() -> None:
    watch = CollapseWatch(5, 200)
    assert all(watch.judge_gradient(0.0) is None for _ in range(199))
    assert watch.judge_gradient(1e-30) is None
    assert all(watch.judge_gradient(0.0) is None for _ in range(199))
    assert watch.judge_gradient(None) is None, "a loss scaler skipped it"
    found = [watch.judge_gradient(0.0) for _ in range(200)]
    assert found[-1] is not None
    assert found[-1].kind == "collapsed"
    assert found[:-1] == [None] * 199


@pytest.mark.parametrize(
    ("scores", "alarm"),
    [
        ([0.0] * 30, False),  # it has not begun to find anything
        ([0.0, 0.001, 0.0, 0.002, *[0.0] * 20], False),  # noise, before there was success
        ([0.1, 0.3, 0.0, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.1], False),  # it came back
        ([0.1, 0.3, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05], False),  # worse is not collapsed
        ([0.1, 0.3, *[0.0] * 5], True),
        ([0.1, 0.3, *[0.001] * 5], True),
        ([0.1, 0.3, *[-math.inf] * 5], True),  # undefined
    ],
)
def test_evaluations_at_nothing_after_success_are_a_collapse(scores: list[float], alarm: bool) -> None:
    watch, best, found = CollapseWatch(5, 200), None, None
    for score in scores:
        found = found or watch.judge_score("map50", score, best)
        best = score if best is None else max(best, score)
    assert (found is not None) == alarm


def test_a_collapse_stops_the_training_and_a_resumed_one_counts_on(tmp_path: Path) -> None:
    task = LineTask()
    scores = [0.2, 0.4, 0.0, 0.0, 0.0]
    task.scores = lambda number: {"accuracy": scores[number - 1] if number <= len(scores) else 0.0}
    clock = Clock()
    predict = task.predict

    def stop_later(*values: Any) -> Any:
        if task.evaluations == 3:
            clock.signal_name = "SIGTERM"
        return predict(*values)

    task.predict = stop_later  # type: ignore[method-assign, assignment]
    with pytest.raises(Interrupted):
        make_trainer(task, tmp_path, clock=clock, epochs=20, collapse_evaluations=4).fit()
    with pytest.raises(TrainingFailure, match=r"accuracy is 0 in 4 evaluations, after 0\.4.*--fresh") as failure:
        make_trainer(task, tmp_path, epochs=20, collapse_evaluations=4).fit()
    assert (failure.value.kind, failure.value.step) == ("collapsed", 24)
    assert read_lines(tmp_path / "metrics.jsonl")[-1]["epoch"] == 6
    assert read_lines(tmp_path / "events.jsonl")[-1]["failure"] == "collapsed"


def test_a_loss_without_a_gradient_stops_the_training(tmp_path: Path) -> None:
    task = LineTask()
    task.factor = lambda: 0.0
    with pytest.raises(TrainingFailure, match="exactly 0 for 7 updates") as failure:
        make_trainer(task, tmp_path, collapse_steps=7).fit()
    assert (failure.value.kind, failure.value.step) == ("collapsed", 6)


def test_a_diverged_training_stops(tmp_path: Path) -> None:
    task = LineTask()
    calls = iter(range(10**6))
    task.factor = lambda: 3.0 if next(calls) > 200 else 1.0
    still = OptimizerSettings(learning_rate=1e-6, warmup_epochs=0)
    with pytest.raises(TrainingFailure, match="times its minimum") as failure:
        make_trainer(task, tmp_path, epochs=100, divergence_steps=40, evaluate_every=100, optimizer=still).fit()
    assert failure.value.kind == "diverged"
