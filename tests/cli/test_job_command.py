"""What every command that does a job has in common: its options, and what is said of mistakes in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marauder.cli import annotation, data, export, predict, preprocess, select
from marauder.core.errors import UserError

COMMANDS = {
    "select": (select.app, (), "default: 2000"),
    "predict": (predict.app, (), "default: predictions"),
    "preprocess": (preprocess.app, (), "0: one per core"),
    "export": (export.app, (), "default: onnx,torchscript"),
    "annotation export": (annotation.app, ("export",), "default: mindy"),
    "data organize": (data.app, ("organize",), "default: unlabelled"),
    "data split": (data.app, ("split",), "default: link"),
    "data frames": (data.app, ("frames",), "default: 92"),
    "data scenes": (data.app, ("scenes",), "default: 400"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_they_take_the_same_options_and_say_their_defaults(name: str) -> None:
    app, words, default = COMMANDS[name]
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "240"}).output
    for text in ("--output", "--config", "--resume", "--max-hours", default):
        assert text in shown, text


def test_resuming_says_when_there_is_nothing_to_resume(tmp_path: Path) -> None:
    words = ["scenes", "--output", str(tmp_path / "out"), "--resume", "count=10", "width=320", "height=256"]
    told = f"nothing to resume in {tmp_path / 'out'}: starts from the beginning"
    for begins in (True, False):
        result = CliRunner().invoke(data.app, words)
        assert result.exit_code == 0 and (told in result.output) == begins, result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["split", "--input", "reef"], "output: is missing: give it in the settings file or as --output"),
        (["frames", "--output", "reef"], "inputs: is missing: give it in the settings file or as VIDEO..."),
        (["frames", "a.mp4", "--output", "reef", "--quality", "0"], "option --quality: "),
        (["scenes", "--output", "reef", "count=1"], "override 'count=1': count: "),
        (["split", "--input", "reef", "--output", "sorted", "--resume", "--fresh"], "give only one of them"),
    ],
)
def test_a_mistake_is_called_by_what_was_typed(words: list[str], told: str) -> None:
    result = CliRunner().invoke(data.app, words)
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match=re.escape(told)):
        raise result.exception
