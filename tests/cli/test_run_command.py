"""What every command that trains has in common: its options, and what is said of mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from marauder.cli import baseline, critical, multiscale, pretrain, student
from marauder.cli.resuming import NEWEST, with_value
from marauder.core.errors import UserError
from marauder.runs.recipes import model_of_task, run_layer

APPS = {
    "pretrain": pretrain.app,
    "baseline": baseline.app,
    "critical": critical.app,
    "student": student.app,
    "multiscale": multiscale.app,
}


@pytest.mark.parametrize("name", APPS)
def test_they_take_the_same_options(name: str) -> None:
    shown = CliRunner().invoke(APPS[name], ["--help"], env={"COLUMNS": "200"}).output
    for flag in ("--output", "--epochs", "--batch-size", "--accumulate", "--imgsz", "--processes", "--device"):
        assert flag in shown
    for flag in ("--config", "--resume", "--fresh", "--max-hours"):
        assert flag in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--accumulate", "64", "--batch-size", "64"], "option --accumulate: .*2 or more"),
        (["--epochs", "0"], "option --epochs: .*greater than or equal to 1"),
        (["--resume", "--fresh"], "give only one of them"),
    ],
)
def test_a_mistake_is_called_by_its_option(words: list[str], told: str) -> None:
    result = CliRunner().invoke(pretrain.app, ["--data-dir", "d", *words])
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match=told):
        raise result.exception


@pytest.mark.parametrize(
    ("words", "takes", "read"),
    [
        (["--resume"], True, ["--resume", NEWEST]),
        (["--resume", "--fresh"], True, ["--resume", NEWEST, "--fresh"]),
        (["--resume", "checkpoints/checkpoint_000000003.pt"], True, None),
        (["--resume", "training.epochs=3"], True, ["--resume", NEWEST, "training.epochs=3"]),
        (["--resume", "train.yaml"], True, ["--resume", NEWEST, "train.yaml"]),
        (["--resume", "best.pt"], False, ["--resume", NEWEST, "best.pt"]),
        ([], True, []),
    ],
)
def test_resume_takes_a_checkpoint_or_nothing(words: list[str], takes: bool, read: list[str] | None) -> None:
    assert with_value(words, takes) == (words if read is None else read)


def test_a_recipe_says_what_is_trained(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("task: pretraining\n", encoding="utf-8")
    layer = run_layer(None, values={"task": None, "recipe": str(recipe), "data": "d"})
    assert model_of_task(layer).__name__ == "PretrainingSettings"
