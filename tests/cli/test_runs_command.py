"""``marauder runs``: the list, the delivery of what was missed, and the command for MLflow's pages."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marauder.cli.runs import app
from marauder.core.errors import UserError
from marauder.delivery.journal import Cursor
from marauder.messaging.outbox import Outbox
from marauder.messaging.settings import EventSettings
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub
from marauder.tracking.mlflow_store import MlflowSettings, locate, open_client
from marauder.tracking.records import tracking_folder
from marauder.tracking.settings import TrackingSettings

SECRET = "a secret that only this test knows"


def run_command(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def write_run(folder: Path, **record: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))


def test_the_list_shows_every_run_oldest_first_whatever_its_record_lacks(tmp_path: Path) -> None:
    write_run(
        tmp_path / "second",
        id="second",
        project="reef",
        state="finished",
        verdict="pass",
        withheld="floor: has not learned yet",
        metrics={"map50_95": 0.41234, "map50": None},
        started=1_795_000_000.0,
        finished=1_795_000_300.0,
        version="3",
    )
    write_run(tmp_path / "first", id="first", state="interrupted", started=1_794_000_000.0)
    write_run(tmp_path / "damaged")
    (tmp_path / "damaged" / "run.json").write_text('{"id": "dam')
    (tmp_path / "mlflow").mkdir()
    result = run_command("list", "--runs", str(tmp_path))
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if any(n in line for n in ("first", "second", "damaged"))]
    assert [line.split()[0] for line in lines] == ["damaged", "first", "second"]
    assert "0.412" in lines[2] and "pass, withheld" in lines[2] and "interrupted" in lines[1]
    assert "5 min 00 s" in result.output
    assert "map50_95" in result.output and "recall" not in result.output


def test_the_list_fits_a_terminal_of_80_columns_with_its_words_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "two_cores-0123abcd"
    metrics = {"map50": 0.5, "map50_95": 0.25, "recall": 0.5}
    about: dict[str, Any] = {"state": "interrupted", "verdict": "warn", "withheld": "floor", "version": "3"}
    write_run(tmp_path / name, project="reef", started=1_795_000_000.0, seconds=9000.0, metrics=metrics, **about)
    lines = run_command("list", "--runs", str(tmp_path)).output.splitlines()
    assert max(map(len, lines)) <= 80
    for word in (name, "interrupted", "warn, withheld", "0.250", "2 h 30 min", "started"):
        assert any(word in line for line in lines), word


def test_a_run_whose_process_is_gone_is_told_from_one_that_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "gone", id="gone", state="running", started=1.0)
    assert "killed" in run_command("list", "--runs", str(tmp_path)).output
    code = (
        "import sys, time; from pathlib import Path; from marauder.core.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'run'): print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "gone" / ".lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert "running" in run_command("list", "--runs", str(tmp_path)).output
        process.kill()


def test_no_runs_and_no_folder_are_told(tmp_path: Path) -> None:
    assert "no runs" in run_command("list", "--runs", str(tmp_path)).output
    result = run_command("list", "--runs", str(tmp_path / "none"))
    assert isinstance(result.exception, UserError)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lagging_run(runs: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose sink was away and whose trackers had no time; returns its folder."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    folder = runs / "run-1"
    folder.mkdir(parents=True)
    tracking = TrackingSettings(trackers=("files",), finish_seconds=0)
    with TrackingHub(TrackedRun("reef", "run-1", folder, {}, {}), tracking) as hub:
        hub.metrics(1, {"loss": 1.0})
        hub.figure("gone", folder / "gone.png", 1)
    hook = {"url": f"http://127.0.0.1:{port}/", "secret_env": "HOOK_SECRET", "timeout_seconds": 2}
    with Outbox(folder / "outbox.jsonl", EventSettings(sinks=("webhook",), options={"webhook": hook}, finish_seconds=0),
                "run-1") as outbox:  # fmt: skip
        outbox.emit("run.finished", {})
    return folder


def test_deliver_brings_what_was_missed_and_says_what_still_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    folder = lagging_run(tmp_path, port, monkeypatch)
    result = run_command("deliver", "--runs", str(tmp_path), "--seconds", "5")
    assert result.exit_code == 1
    assert "run-1: files: 4 records delivered, 1 refused" in result.output
    assert "run-1: webhook: 0 records delivered, 1 still missing: DeliveryError" in result.output
    assert "loss" in (tracking_folder(folder) / "files" / "metrics.csv").read_text()
    code = (
        "import sys; from http.server import *\n"
        "class H(BaseHTTPRequestHandler):\n"
        "    def do_POST(self): self.send_response(204); self.end_headers()\n"
        "s = HTTPServer(('127.0.0.1', int(sys.argv[1])), H); print('up', flush=True); s.serve_forever()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(port)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline()
        result = run_command("deliver", "run-1", "--runs", str(tmp_path), "--seconds", "20")
        server.kill()
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == ["run-1: webhook: 1 records delivered", "nothing is missing"]
    assert run_command("deliver", "--runs", str(tmp_path)).output == "nothing is missing\n"
    # What was refused comes when asked for, out of order.
    (folder / "gone.png").write_bytes(b"\x89PNG")
    result = run_command("deliver", "--runs", str(tmp_path), "--refused", "--seconds", "20")
    assert result.exit_code == 0, result.output
    assert Cursor.load(tracking_folder(folder) / "files.json").refused == []
    assert len(list((tracking_folder(folder) / "files" / "figures").iterdir())) == 1
    status = json.loads((tracking_folder(folder) / "files" / "status.json").read_text())
    assert status["status"] == "finished"


def test_a_live_run_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lagging_run(tmp_path, closed_port(), monkeypatch)
    code = (
        "import sys, time; from pathlib import Path; from marauder.core.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'follower'): print('held', flush=True); time.sleep(60)"
    )
    lock = tracking_folder(folder) / "files.lock"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        output = run_command("deliver", "--runs", str(tmp_path), "--seconds", "1").output
        process.kill()
    assert "files" not in output and "webhook" in output


def test_a_name_that_is_no_run_is_told(tmp_path: Path) -> None:
    result = run_command("deliver", "nothing", "--runs", str(tmp_path))
    assert isinstance(result.exception, UserError) and "nothing" in str(result.exception)


def test_ui_prints_one_line_with_the_address_of_the_newest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = open_client(locate(MlflowSettings(), tmp_path))
    for name, begun in (("reef", 2), ("bay", 1)):
        client.create_run(client.create_experiment(name), start_time=begun)
    newest = client.get_experiment_by_name("reef")
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: started.append(words))
    monkeypatch.chdir(tmp_path)
    output = run_command("ui", "--runs", str(tmp_path), "--port", "5055").output
    address = f"http://127.0.0.1:5055/#/experiments/{newest.experiment_id}/runs"
    assert output == f"open {address} once MLflow has started (Ctrl-C ends it)\n"
    assert started[0][1:4] == ["-m", "mlflow", "ui"]


def test_the_command_for_mlflows_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = shlex.split(run_command("ui", "--runs", str(tmp_path), "--port", "5055", "--show").output)
    assert words[:3] == ["cd", str(tmp_path / "mlflow"), "&&"] and words[4:7] == ["-m", "mlflow", "ui"]
    assert "sqlite:///mlflow.db" in words and "127.0.0.1" in words
    missing = run_command("ui", "--runs", str(tmp_path))
    assert isinstance(missing.exception, UserError) and "mlflow.db" in str(missing.exception)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert "http://127.0.0.1:5000" in run_command("ui", "--runs", str(tmp_path)).output
