"""What a person sees of a training: lines that fit a terminal, where it continues from, what was lost, why it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy import LineTask, make_trainer

from marauder.core.files import read_lines
from marauder.engine import run_log
from marauder.engine.screen import WIDTH, Screen, choose_columns
from marauder.models.loss_gains import LOSS_NAMES
from marauder.tasks.detection.description import Detection


def row(epoch: int, seconds: float, **values: float) -> dict[str, float]:
    return {"epoch": epoch, "step": 4 * epoch, "seconds": seconds, **values}


def test_the_line_of_a_detector_has_all_losses_and_headlines_in_80_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    titles = {metric.name: metric.title for metric in Detection.metrics}
    shown = {name: titles[name] for name in Detection.epoch_columns}
    screen = Screen(True, 300, 1200, LOSS_NAMES, shown)
    values = {f"train/{name}": value for name, value in zip(LOSS_NAMES, (1.23456, 12.3456, 123.456), strict=True)}
    evaluated = {f"val/{name}": 0.98765 for name in shown}
    screen.epoch_ended([row(1, 10.0, **values)], is_best=False)
    screen.epoch_ended([row(1, 10.0, **values), row(2, 3600.0, **values, **evaluated)], is_best=True)
    header, first, second = capsys.readouterr().err.splitlines()
    assert header.split()[:9] == ["epoch", *LOSS_NAMES, "precision", "recall", "mAP50", "mAP50-95", "time"]
    assert first.split() == ["1/300", "1.235", "12.35", "123.5", *["–"] * 4, "10", "s"]
    assert second.split() == ["2/300", "1.235", "12.35", "123.5", *["0.988"] * 4, "59", "min", "50", "s", "*"]
    assert max(len(header), len(first), len(second)) <= WIDTH


def test_the_header_comes_again_every_twenty_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(True, 41, 164, ["loss"], {})
    for epoch in range(1, 42):
        screen.epoch_ended([row(epoch, float(epoch))], is_best=False)
    lines = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert [at for at, word in enumerate(lines) if word == "epoch"] == [0, 21, 42]


def test_many_parts_of_a_loss_are_shown_as_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    losses = [f"dense_p{level}" for level in range(3, 9)]
    screen = Screen(True, 3, 12, losses, {"rank": "rank"})
    screen.epoch_ended([row(1, 1.0, **{f"train/{name}": 0.5 for name in losses})], is_best=False)
    header, line = capsys.readouterr().err.splitlines()
    assert header.split()[:3] == ["epoch", "loss", "rank"] and line.split()[:2] == ["1/3", "3.000"]


def test_what_does_not_fit_is_left_out_and_the_rest_kept() -> None:
    shown = {"a": "a" * 9, "b": "b" * 40, "c": "c"}
    assert [column.title for column in choose_columns(["loss"], shown, 30)] == ["loss", "a" * 9, "c"]


def test_other_processes_than_the_first_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(False, 3, 12, ["loss"], {})
    screen.begin(0)
    screen.say("words")
    screen.epoch_ended([row(1, 1.0)], is_best=False)
    screen.close()
    assert capsys.readouterr().err == ""


def test_stopping_early_is_said_when_it_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = LineTask()
    task.scores = lambda number: {"accuracy": 0.0}
    make_trainer(task, tmp_path, epochs=9, patience=2).fit()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["epoch", "1/9", "2/9", "3/9"]
    assert lines[4].startswith("stopped early after 3 of 9 epochs: accuracy did not rise above 0 (epoch 1)")
    assert lines[4].endswith("it was 0 in all of them, so no epoch is better than another")
    make_trainer(LineTask(), tmp_path, epochs=9, patience=2).fit()
    assert "training is complete at step 12 of 36 (epoch 4 of 9)" in capsys.readouterr().err


def test_settings_are_named_where_they_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = LineTask()
    task.scores = lambda number: {"accuracy": 0.0}
    make_trainer(task, tmp_path, section="baseline.training", epochs=9, patience=1, evaluate_every=2).fit()
    said = capsys.readouterr().err
    assert "(baseline.training.evaluate_every)" in said and "(baseline.training.patience)" in said


def fail_at(step: int) -> LineTask:
    """A task whose training ends without warning when the batch after ``step`` is loaded."""
    task = LineTask()
    load, drawn = task.load, []

    def load_or_fail(keys: Any, context: Any) -> Any:
        drawn.append(keys)
        if len(drawn) > step:
            raise KeyError("gone")
        return load(keys, context)

    task.load = load_or_fail  # type: ignore[method-assign]
    return task


@pytest.mark.parametrize(
    ("checkpoint_steps", "said", "event"),
    [
        (
            4,
            "training continues from step 4 of 12 (epoch 2 of 3)\nlost and repeated: 3 steps since",
            "resumed",
        ),
        (12, "lost and repeated: 7 steps before the first checkpoint", "started"),
    ],
)
def test_a_training_that_was_killed_says_what_was_lost(
    checkpoint_steps: int,
    said: str,
    event: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_log, "REACHED_SECONDS", 0.0)
    with pytest.raises(KeyError):
        make_trainer(fail_at(7), tmp_path, checkpoint_steps=checkpoint_steps).fit()
    capsys.readouterr()
    make_trainer(LineTask(), tmp_path, checkpoint_steps=checkpoint_steps).fit()
    assert said in capsys.readouterr().err
    told = [line for line in read_lines(tmp_path / "events.jsonl") if line["kind"] == event][-1]
    assert told["lost_steps"] == (3 if event == "resumed" else 7) and told["lost_seconds"] >= 0
    if event == "resumed":
        assert (told["step"], told["of_steps"], told["epoch"], told["of_epochs"]) == (4, 12, 2, 3)
    make_trainer(LineTask(), tmp_path, epochs=4).fit()
    assert "lost" not in capsys.readouterr().err, "what was repeated is lost no more"


def test_starting_over_or_from_a_named_checkpoint_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "REACHED_SECONDS", 0.0)
    with pytest.raises(KeyError):
        make_trainer(fail_at(7), tmp_path, keep_checkpoints=9).fit()
    make_trainer(LineTask(), tmp_path, keep_checkpoints=9).fit(tmp_path / "checkpoints" / "checkpoint_000000002.pt")
    make_trainer(LineTask(), tmp_path).fit(fresh=True)
    assert "lost" not in capsys.readouterr().err
