"""``make demo``: what is typed behind DATA, NAMES and ROOT reaches the pipeline as it was typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from marauder.core.clock import Clock
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]
RECORDER = f"""#!{sys.executable}
import json, os, pathlib, sys
pathlib.Path("seen.json").write_text(json.dumps([sys.argv[1:], os.environ["MARAUDER_RESUME_COMMAND"]]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and the script, with a Python that only writes down what it was given."""
    for name in ("scripts/demo.sh", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("constraints.txt", "pyproject.toml", "scripts/setup.sh", ".venv/.installed"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/bin/python").write_text(RECORDER)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    return tmp_path


def given(checkout: Path, *words: str) -> tuple[list[str], str]:
    subprocess.run(["make", "-s", "-C", str(checkout), "demo", *words], check=True)
    arguments, again = json.loads((checkout / "seen.json").read_text())
    return arguments, again


def settings(arguments: list[str]) -> dict[str, object]:
    pairs = (word.partition("=") for word in arguments if "=" in word)
    return {name.rpartition(".")[2]: yaml.safe_load(value) for name, _, value in pairs}


def test_it_shows_every_step_that_makes_or_mends_a_detector(tmp_path: Path) -> None:
    pipeline = Pipeline(Workspace.at(tmp_path), REPOSITORY / "configs/demo.yaml")
    on = [step.name for step in pipeline.steps if pipeline.is_configured(step)]
    assert on == ["scenes", "preprocessing", "baseline", "ensembles", "multiscale", "calibration", "export"]
    calibration = pipeline.settings_of(pipeline.step("calibration"))
    assert calibration.model_names == ("baseline", "ensemble-nano", "multiscale-baseline")
    assert not list(pipeline.look_through(pipeline.steps, Clock(), lambda _: None))


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_quotes_and_dollars_arrive_as_they_were_typed(checkout: Path) -> None:
    data = """../Mein "Käfig" d'été $HOME `id` $(id), 2"""
    arguments, again = given(checkout, f"DATA={data}", "NAMES=fish,crown's thorn, ray")
    start = {"model": "yolov8n", "learning_rate": 0.002}
    assert settings(arguments) == {
        "scenes": None,
        # They need more clips than a few pictures have.
        **dict.fromkeys(("ensembles", "multiscale", "calibration")),
        "inputs": [data],
        "names": ["fish", "crown's thorn", " ray"],
        **start,
    }
    assert arguments[1:3] == ["--root", "demo-data"]
    repeated = subprocess.run(["bash", "-c", f"printf '%s\\n' {again}"], capture_output=True, text=True, check=True)
    assert repeated.stdout.splitlines()[2] == f"DATA={data}"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_without_data_the_scenes_are_generated(checkout: Path) -> None:
    arguments, again = given(checkout)
    assert arguments == ["training/train_all.py", "--root", "demo", "--config", "configs/demo.yaml"]
    assert again == "make demo"
