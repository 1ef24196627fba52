"""Every command that the documentation shows is one that exists: parsed by the real command line, or really run.

A block that starts with ```` ```bash run ```` is executed in a scratch folder that has the repository's scripts; the
blocks of a page follow one another there. Other bash blocks are parsed: command, options and values. A block that
starts with ```` ```yaml pipeline ```` is read as a configuration of the pipeline, ``yaml run`` as part of a train.yaml,
``yaml gates`` as a gates.yaml, ``yaml slices`` as a slices.yaml.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import REPOSITORY, Block, Command, blocks, commands, pages

from marauder.cli import main as cli
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.layers import read_layer
from marauder.core.settings import load_settings
from marauder.data.slices.resolve import load_slices
from marauder.gates.plan import load_gates
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.workspace import Workspace
from marauder.runs.recipes import load_run_settings
from marauder.scenes.settings import SceneSettings
from marauder.scenes.writing import generate_scenes
from marauder.selection.settings import SelectionSettings
from marauder.tasks.detection.settings import DetectionSettings

SCRIPTS = {
    "run_preprocessing.sh": "preprocess",
    "run_ssl_pretrain.sh": "pretrain",
    "run_baseline_yolo.sh": "baseline",
    "run_active_learning.sh": "select",
    "run_annotation.sh": "annotation",
    "run_critical_species.sh": "critical",
    "run_ensemble_nano.sh": "ensemble-nano",
    "run_ensemble_shore.sh": "ensemble-shore",
    "run_student.sh": "student",
    "run_multiscale.sh": "multiscale",
    "run_tta_calibration.sh": "calibrate",
    "run_tensorrt_export.sh": "export",
}
"""Script to the command that it calls."""

ALLOWED = {"cd", "git", "ls", "cat", "pip", "source", "mkdir", "export"}
"""Programs of the reader's own machine that need no check here."""

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def load_train_all() -> Any:
    spec = importlib.util.spec_from_file_location("train_all", REPOSITORY / "training" / "train_all.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return typer.main.get_command(module.command_line())


def parse(command: Any, name: str, words: list[str]) -> dict[str, Any]:
    """Let the real parser read ``words``; what it refuses fails the test, except a path that is only an example."""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{name} has no command {words[0]!r}; it has {list(command.commands)}"
        command, name, words = command.commands[words[0]], f"{name} {words[0]}", words[1:]
    if "--help" in words:
        return {}
    try:
        return dict(command.make_context(name, list(words)).params)
    except Exception as error:
        if "does not exist" in str(error):
            return {}
        raise


def check_pipeline_settings(parameters: dict[str, Any]) -> None:
    """A shown pipeline command's settings file exists and its settings are real."""
    config = parameters.get("config")
    if config is None or (REPOSITORY / config).exists():
        Pipeline(Workspace.at("workspace"), config and REPOSITORY / config, parameters.get("overrides") or [])
    else:
        assert not str(config).startswith("configs/"), f"{config} is not in the repository"


def check_make(words: list[str]) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, assigned, _ = word.partition("=")
        pattern = rf"\$\((value )?{re.escape(name)}\)" if assigned else rf"^{re.escape(name)}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile knows no {name}"


def check_benchmark(script: str, words: list[str]) -> None:
    path = REPOSITORY / script
    assert path.is_file(), f"{script} does not exist"
    source = path.read_text(encoding="utf-8")
    # Options that several have are added by a file beside them.
    beside = [path.with_name(f"{name}.py") for name in re.findall(r"^from (\w+) import", source, re.MULTILINE)]
    source += "".join(one.read_text(encoding="utf-8") for one in beside if one.is_file())
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        known = option in source or option.removeprefix("--").replace("-", "_") in source
        assert known, f"{script} knows no {option}"


def check(command: Command) -> None:
    program, words = command.words[0], list(command.words[1:])
    name = Path(program).name
    if name == "python" and words and words[0] == "training/train_all.py":
        check_pipeline_settings(parse(load_train_all(), "train_all.py", words[1:]))
    elif name == "python" and words and words[0].startswith("benchmarks/"):
        check_benchmark(words[0], words[1:])
    elif name == "python" and words[:2] == ["-m", "pytest"]:
        assert all((REPOSITORY / word).exists() for word in words[2:] if word.startswith("tests"))
    elif name == "marauder":
        assert words, "marauder alone does nothing"
        if words[0].startswith("-"):
            assert words[0] in ("--help", "--version")
            return
        assert words[0] in cli.COMMANDS, f"marauder has no command {words[0]!r}"
        parameters = parse(cli.load_command(words[0]), f"marauder {words[0]}", words[1:])
        if words[:2] == ["pipeline", "run"] or words[0] == "status":
            check_pipeline_settings(parameters)
    elif name in SCRIPTS:
        assert (REPOSITORY / "scripts" / name).stat().st_mode & 0o111, f"{name} cannot be executed"
        parse(cli.load_command(SCRIPTS[name]), name, words)
    elif name == "make":
        check_make(words)
    elif program in (".ci/run", "scripts/setup.sh"):
        assert (REPOSITORY / program).is_file()
    else:
        assert name in ALLOWED, f"no check for {name!r}: add one here, or show a command of this project"


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_shown_command_exists_and_takes_what_it_is_shown_with(command: Command) -> None:
    try:
        check(command)
    except UserError as error:
        pytest.fail(str(error))


def test_the_pages_show_commands_at_all() -> None:
    assert len(commands()) >= 10
    first = [command.words[:3] for command in commands()][:3]
    assert first == [("make", "setup"), ("source", ".venv/bin/activate"), ("marauder", "data", "check")]


def runnable_pages() -> list[list[Block]]:
    by_page: dict[Path, list[Block]] = {}
    for block in blocks("bash"):
        if "run" in block.words[1:]:
            by_page.setdefault(block.page, []).append(block)
    return list(by_page.values())


@pytest.mark.parametrize("page", runnable_pages(), ids=lambda page: str(page[0].page.relative_to(REPOSITORY)))
def test_the_blocks_marked_run_do_run(page: list[Block], tmp_path: Path) -> None:
    for name in ("configs", "scripts", "training", "benchmarks"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for block in page:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, f"{block}:\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def somebodys_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled pictures in ``my-pictures``, as a reader has, and a recipe that takes seconds."""
    folder = tmp_path_factory.mktemp("somebody")
    settings = SceneSettings(output=folder / "my-pictures", count=30, clips=6, width=128, height=96, workers=1)
    generate_scenes(settings, Clock())
    (folder / "recipes").mkdir()
    words = "extends: two_cores\nmodel: yolov8t\nimage_size: 64\ntraining: {close_mosaic_epochs: 1, batch_size: 8}\n"
    (folder / "recipes" / "trial.yaml").write_text(words, encoding="utf-8")
    return folder


@pytest.mark.parametrize("block", [block for block in blocks("python") if "run" in block.words[1:]], ids=str)
def test_the_python_that_is_shown_runs(block: Block, somebodys_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=somebodys_folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{block}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "pipeline" in block.words[1:]], ids=str)
def test_a_shown_pipeline_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(block.text, encoding="utf-8")
    try:
        Pipeline(Workspace.at(tmp_path), tmp_path / "config.yaml")
    except UserError as error:
        pytest.fail(f"{block}: {error}")


SETTINGS: dict[str, Callable[[Path], Any]] = {
    "run": lambda path: load_run_settings(
        DetectionSettings, path, [] if "data" in read_layer(path).content else ["data=d"]
    ),
    "gates": load_gates,
    "selection": lambda path: load_settings(SelectionSettings, path, ["pool=p"]),
    "slices": load_slices,
}
"""Second word of a ```` ```yaml ```` block to what reads it."""


@pytest.mark.parametrize(
    "block", [block for block in blocks("yaml") if block.words[1:2] in {(k,) for k in SETTINGS}], ids=str
)
def test_shown_settings_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shown.yaml").write_text(block.text, encoding="utf-8")
    for name in re.findall(r"ids: (\S+\.txt)", block.text):
        (tmp_path / name).write_text("a-key\n", encoding="utf-8")
    try:
        SETTINGS[block.words[1]](tmp_path / "shown.yaml")
    except UserError as error:
        pytest.fail(f"{block}: {error}")


def leaves(command: Any, name: str) -> list[str]:
    if hasattr(command, "commands"):
        return [leaf for word, below in command.commands.items() for leaf in leaves(below, f"{name} {word}")]
    return [name]


def test_every_command_is_documented() -> None:
    everything = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    known = [leaf for name in cli.COMMANDS for leaf in leaves(cli.load_command(name), f"marauder {name}")]
    scripts = {f"marauder {command}": f"scripts/{script}" for script, command in SCRIPTS.items()}
    undocumented = [leaf for leaf in known if leaf not in everything and scripts.get(leaf, leaf) not in everything]
    assert not undocumented


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = [link for link in LINK.findall(text) if "://" not in link and not (page.parent / link).exists()]
    assert not broken
