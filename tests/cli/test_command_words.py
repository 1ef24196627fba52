"""What the commands say and take: options called by their own names, lines to copy, one voice of many processes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
from typer.testing import CliRunner

from marauder.cli import baseline, evaluate
from marauder.cli.main import COMMANDS, load_command
from marauder.core.errors import UserError


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (0, "Input should be greater than or equal to 32"),
        (-32, "Input should be greater than or equal to 32"),
        (16, "16 is not a multiple of 32; choose 32"),
        (100, "100 is not a multiple of 32; choose 96"),
    ],
)
def test_evaluate_takes_whole_cells_only(pixels: int, told: str, tmp_path: Path) -> None:
    words = ["--model", "a.pt", "--data-yaml", "a.yaml", "--output", str(tmp_path), "--imgsz", str(pixels)]
    result = CliRunner().invoke(evaluate.app, words)
    assert isinstance(result.exception, UserError)
    assert f"option --imgsz: {told}" in str(result.exception)


def every_command(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it, by the words that call them."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from every_command(below, f"{words} {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # so wide that no line is broken
    for words, command in every_command(load_command(name), name):
        shown = " ".join(click.testing.CliRunner().invoke(command, ["--help"]).output.split())
        assert not re.search(r"\s[.,;:](\s|$)", shown), words
        for parameter in command.params:
            # What stands in brackets is mark-up to the one who shows it, and would be dropped.
            assert " ".join((getattr(parameter, "help", None) or "").split()) in shown, f"{words}: {parameter.name}"


def test_a_gate_is_switched_off_by_off(tmp_path: Path) -> None:
    result = CliRunner().invoke(baseline.app, ["--data-yaml", "a.yaml", "gate.determinism=of"])
    assert "did you mean gate.determinism=off?" in str(result.exception)


def test_a_wrong_option_is_called_by_the_name_it_has_on_the_command_line() -> None:
    result = CliRunner().invoke(baseline.app, ["--imgsz", "100", "--data-yaml", "a.yaml", "--processes", "0"])
    assert isinstance(result.exception, UserError)
    said = str(result.exception)
    assert "option --imgsz: 100 is not a multiple of 32" in said
    assert "option --processes: " in said and "--image-size" not in said
    result = CliRunner().invoke(baseline.app, ["--epochs", "3"])
    assert "data: is missing: give it in the settings file or as --data-yaml" in str(result.exception)


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({}, True),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
        ({"RANK": "0", "WORLD_SIZE": "2", "MARAUDER_LAUNCHER": "1"}, False),
    ],
)
def test_one_process_tells_the_end_with_a_line_to_copy(
    environment: dict[str, str], speaks: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from marauder.reporting.advice import Advice
    from marauder.runs.gated import RunSummary

    for name in ("RANK", "WORLD_SIZE", "MARAUDER_LAUNCHER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    promote = Advice("promote", "Promote it:", "marauder registry promote reef my-reef")
    export = Advice("export", "Export it:", "marauder export --models 'my reef/best.pt'")

    def train(*given: Any, **named: Any) -> RunSummary:
        return RunSummary(
            Path("my reef"), Path("my reef/best.pt"), Path("report.html"), "test", {"map50": 0.5}, 3, 2, 1.0, "pass", 0,
            None, "reef", "detection", advice=(promote, export), gates=3, not_run=("drift", "latency"),
        )  # fmt: skip

    whole = {"boxes": 0, "map50": 0.5, "map50_95": 0.5, "precision": 0.5, "recall": 0.5, "per_class": []}
    monkeypatch.chdir(tmp_path)
    Path("my reef").mkdir()
    Path("my reef/eval_report.json").write_text(json.dumps({"overall": whole}))
    monkeypatch.setattr("marauder.runs.gated.run_gated", train)
    # It is there, and nobody reads it.
    result = CliRunner().invoke(baseline.app, ["--data-yaml", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert ("done: map50 0.500" in result.output) == speaks
    if speaks:
        assert "gates:   pass (1 of 3 asked; not run: drift, latency)" in result.output
        assert shlex.split(result.output.splitlines()[-1]) == ["marauder", "export", "--models", "my reef/best.pt"]
        assert "registry promote" not in result.output, "there is no version to promote"
    else:
        assert result.output == ""
