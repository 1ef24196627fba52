"""``marauder export`` as people type it, in processes of its own, and on real pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marauder.cli.export import app
from marauder.exporting.job import describe_tensorrt
from marauder.testing.lively_detectors import save_lively, write_pictures

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "marauder.cli.main", "export"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    for seed, name in enumerate("ab"):
        save_lively(folder / name / "best", seed=seed)
    write_pictures(folder / "pictures")
    (folder / "quick.yaml").write_text("latency: {rounds: 5, warm_up: 1, threads: 1}\n", encoding="utf-8")
    (folder / "strict.yaml").write_text(
        "latency: {enabled: false}\nparity: {raw_box_tolerance: 1.0e-12}\n", encoding="utf-8"
    )
    return folder


class Settled(Exception):  # noqa: N818 - carries the settings out of the command
    def __init__(self, settings: Any) -> None:
        self.settings = settings


@pytest.mark.parametrize(
    "words",
    [
        ["--models", "A.pt", "B.pt"],
        ["--models", "A.pt", "B.pt", "--output", "out"],
        ["--models", "A.pt", "--output", "out", "--models", "B.pt"],
        ["--models", "A.pt,B.pt"],
        ["--output", "out", "--models", "A.pt,", "B.pt", "--opset", "13"],
    ],
)
def test_models_can_be_given_in_every_form(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("A.pt", "B.pt"):
        Path(name).touch()

    def settle(settings: Any, clock: object) -> None:
        raise Settled(settings)

    monkeypatch.setattr("marauder.bundles.job.export_engines", settle)
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, Settled), result.output
    assert [str(path) for path in result.exception.settings.models] == ["A.pt", "B.pt"]


def test_words_with_an_equals_sign_are_settings_unless_they_are_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("A.pt", "lr=3.pt"):
        Path(name).touch()

    def settle(settings: Any, clock: object) -> None:
        raise Settled(settings)

    monkeypatch.setattr("marauder.bundles.job.export_engines", settle)
    result = CliRunner().invoke(app, ["--models", "A.pt", "lr=3.pt", "latency.rounds=5", "opset=15"])
    assert isinstance(result.exception, Settled), result.output
    settings = result.exception.settings
    assert [str(path) for path in settings.models] == ["A.pt", "lr=3.pt"]
    assert (settings.latency.rounds, settings.opset) == (5, 15)


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_script_exports_two_models_and_says_last_what_about_tensorrt(workspace: Path) -> None:
    script = str(REPOSITORY / "scripts" / "run_tensorrt_export.sh")
    words = ["--models", "a/best.pt", "b/best.pt", "--pictures", "pictures", "--config", "quick.yaml"]
    done = run(["bash", script, *words, "--output", "scripted"], workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == describe_tensorrt()
    assert done.stdout.count("same answers") == 4
    for name in "ab":
        assert (workspace / "scripted" / name / "model.onnx").is_file()
        assert (workspace / "scripted" / name / "model.torchscript").is_file()


def test_a_failing_comparison_leaves_with_status_1(workspace: Path) -> None:
    words = ["--models", "a/best.pt", "--formats", "onnx", "--config", "strict.yaml", "--output", "strict"]
    done = run([*COMMAND, *words], workspace)
    assert done.returncode == 1
    assert "DIFFERENT ANSWERS" in done.stdout and "raw boxes differ" in done.stdout
    assert "not real pictures" in done.stdout
    assert not (workspace / "strict" / "a" / "model.onnx").exists()
    assert (workspace / "strict" / "a" / "model.failed_parity.onnx").is_file()


def test_sigterm_leaves_with_status_75_and_the_same_command_goes_on(workspace: Path) -> None:
    (workspace / "long.yaml").write_text("latency: {rounds: 100000, threads: 1}\n", encoding="utf-8")
    words = [*COMMAND, "--models", "a/best.pt", "--formats", "onnx", "--output", "cut", "--pictures", "pictures"]
    process = subprocess.Popen(
        [*words, "--config", "long.yaml"], cwd=workspace, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
    )
    placed = workspace / "cut" / "a" / "export_report.json"
    deadline = time.monotonic() + 60
    while not placed.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 75, printed
    assert "SIGTERM received" in printed and "--models a/best.pt" in printed
    written = (workspace / "cut" / "a" / "model.onnx").stat().st_mtime_ns
    again = run([*words, "--config", "quick.yaml"], workspace)
    assert again.returncode == 0 and "done before" in again.stdout
    assert (workspace / "cut" / "a" / "model.onnx").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "models"),
        (["--models", "nowhere.pt"], "nowhere.pt: no such file"),
        (["--models", "a/best.pt", "latency.round=5"], "override 'latency.round=5'"),
        (["--models", "a/best.pt", "--max-hours", "0"], "must be a positive number"),
        (["--models", "a/best.pt", "--formats", "engine"], "no format named 'engine'"),
    ],
)
def test_a_users_mistake_is_status_2_in_words(words: list[str], said: str, workspace: Path) -> None:
    done = run([*COMMAND, *words], workspace)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_real_pictures(shared_data: Path, workspace: Path) -> None:
    words = ["--models", "b/best.pt", "--pictures", str(shared_data / "aquarium" / "images"), "--config", "quick.yaml"]
    done = run([*COMMAND, *words, "--output", "real"], workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("same answers") == 2 and "Compared on 16 pictures" in done.stdout
