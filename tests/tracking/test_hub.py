"""A tracker that fails, hangs or dies neither stops nor slows a run, and gets what it missed later."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import faulty
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core import plugins
from marauder.core.clock import Interrupted
from marauder.delivery.journal import Cursor, Journal
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub
from marauder.tracking.records import journal_of, safe_name, tracking_folder
from marauder.tracking.settings import TrackingSettings

FOLLOWER = [sys.executable, str(Path(faulty.__file__))]
USUAL_SECONDS, MOST_SECONDS = 0.02, 1.0
"""Of a call: hundreds of times what an append takes (this machine may be busy), far below what a fault here takes."""


@pytest.fixture(autouse=True)
def faulty_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.TABLE, "tracker", plugins.TABLE["tracker"] | faulty.PLUGIN)


def make_hub(
    folder: Path, finish_seconds: float = 20.0, trackers: Sequence[str] = ("faulty",), *words: str
) -> TrackingHub:
    folder.mkdir(parents=True, exist_ok=True)
    settings = TrackingSettings(trackers=tuple(trackers), finish_seconds=finish_seconds)
    hub = TrackingHub(TrackedRun("reef", folder.name, folder, {"epochs": 1}, {}), settings, FOLLOWER)
    for member in hub.followers.members:
        member.command = [*member.command, *words]
    return hub


def calls(folder: Path) -> list[list]:
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cursor_of(folder: Path, name: str = "faulty") -> Cursor:
    return Cursor.load(tracking_folder(folder) / f"{name}.json")


def wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("fault", ["fail", "hang", "crash"])
def test_a_tracker_at_fault_neither_stops_nor_slows_a_run(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "fault").write_text(fault)
    hub = make_hub(folder, 1.5, ("faulty", "files")).start()
    seconds = []
    for step in range(50):
        started = time.monotonic()
        hub.metrics(step, {"loss": 1.0})
        seconds.append(time.monotonic() - started)
        time.sleep(0.01)
    started = time.monotonic()
    assert hub.finish("finished") == ["faulty"]
    assert time.monotonic() - started < 1.5 + 3.0
    assert statistics.median(seconds) < USUAL_SECONDS and max(seconds) < MOST_SECONDS
    assert cursor_of(folder, "files").delivered == 52
    assert [message.count("\n") for message in caplog.messages] == [0]
    assert "faulty lacks 52 of 52 records" in caplog.messages[0] and "marauder runs deliver" in caplog.messages[0]
    if fault == "fail":
        assert "the server is away" in caplog.messages[0] and cursor_of(folder).failures > 0
    assert not any(member.is_alive() for member in hub.followers.members)
    (folder / "fault").unlink()
    with make_hub(folder, 20.0, ("faulty", "files")):
        pass
    assert [call[1] for call in calls(folder) if call[0] == "metrics"] == list(range(50))
    assert calls(folder)[-1] == ["finish", "finished"]


def test_a_fault_that_passes_is_made_up_for_while_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "fault").write_text("fail")
    hub = make_hub(folder).start()
    hub.metrics(1, {"loss": 1.0})
    wait_for(lambda: cursor_of(folder).failures > 0)
    (folder / "fault").unlink()
    wait_for(lambda: ["metrics", 1] in calls(folder))
    wait_for(lambda: cursor_of(folder).last_error is None)
    assert hub.finish("finished") == []


def test_a_call_that_hangs_ends_its_process_and_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "fault").write_text("hang")
    hub = make_hub(folder, 20.0, ("faulty",), "--call-seconds", "0.5").start()
    member = hub.followers.members[0]
    member.revival_pause = 0.1
    wait_for(lambda: not member.is_alive())
    (folder / "fault").unlink()
    hub.metrics(1, {"loss": 1.0})
    assert "took more than 0.5 s" in (tracking_folder(folder) / "faulty.log").read_text()
    assert hub.finish("finished") == []
    assert ["metrics", 1] in calls(folder)


RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_hub
from marauder.core import plugins
plugins.TABLE["tracker"] |= test_hub.faulty.PLUGIN
hub = test_hub.make_hub(Path(sys.argv[1]), float(sys.argv[3])).start()
for step in range(10000):
    hub.metrics(step, {"loss": 1.0})
    print(step, flush=True)
    time.sleep(0.002)
"""


def kill_a_run(folder: Path, finish_seconds: float) -> int:
    """Start a run in a process of its own, kill it after some steps; returns the last step that it acknowledged."""
    words = [sys.executable, "-c", RUN, str(folder), str(Path(__file__).parent), str(finish_seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    step = -1
    while step < 60:
        step = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return step


def test_what_a_killed_run_left_is_delivered_and_the_run_counts_as_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    step = kill_a_run(folder, 20.0)
    wait_for(lambda: ["finish", "interrupted"] in calls(folder))
    delivered = [call[1] for call in calls(folder) if call[0] == "metrics"]
    assert delivered == list(range(len(delivered))) and len(delivered) > step
    wait_for(lambda: cursor_of(folder).delivered == Journal(journal_of(folder)).last_number())
    with make_hub(folder) as hub:
        hub.metrics(5, {"loss": 1.0})
    assert calls(folder)[-2:] == [["metrics", 5], ["finish", "finished"]]


def test_the_follower_of_a_killed_run_does_not_outlive_it_for_long(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "fault").write_text("hang")
    kill_a_run(folder, 0.5)
    log = tracking_folder(folder) / "faulty.log"
    wait_for(lambda: "the run is gone" in log.read_text())
    (folder / "fault").unlink()
    with make_hub(folder):
        pass
    assert len([call for call in calls(folder) if call[0] == "metrics"]) > 60


def test_a_picture_that_is_gone_is_noted_and_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    with make_hub(folder) as hub:
        hub.figure("matrix", folder / "gone.png", 1)
        hub.metrics(1, {"loss": 1.0})
    cursor = cursor_of(folder)
    assert [entry["number"] for entry in cursor.refused] == [2] and "gone.png" in cursor.refused[0]["error"]
    assert [call[0] for call in calls(folder)] == ["start", "metrics", "finish"]


def test_a_run_that_moved_finds_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    hub = make_hub(folder, 0.0)
    (folder / "report.html").parent.mkdir(exist_ok=True)
    (folder / "report.html").write_text("report")
    (folder / "fault").write_text("hang")
    with hub:
        hub.artifact(folder / "report.html", "report")
    (folder / "fault").unlink()
    moved = folder.rename(tmp_path / "moved")
    subprocess.run([*FOLLOWER, str(moved), "faulty"], check=True, capture_output=True)
    assert ["artifact", "report.html"] in calls(moved)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "finished"), (Interrupted("time is up"), "interrupted"), (ValueError("no"), "failed")],
)
def test_how_the_block_ends_is_how_the_run_ended(tmp_path: Path, error: Exception | None, status: str) -> None:
    hub = make_hub(tmp_path / "run-1", 0.0, ())
    try:
        with hub:
            if error is not None:
                raise error
    except (Interrupted, ValueError):
        assert error is not None
    assert hub.journal.read_after(0)[-1]["status"] == status


def test_an_unreachable_mlflow_server_delays_only_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = TrackedRun("reef", "run-1", folder, {}, {})
    away = {"mlflow": {"uri": "http://127.0.0.1:9"}}
    settings = TrackingSettings(trackers=("files", "mlflow"), options=away, finish_seconds=1)
    with TrackingHub(run, settings) as hub:
        hub.metrics(1, {"loss": 1.0})
        wait_for(lambda: cursor_of(folder, "mlflow").failures > 0)
        assert hub.finish("interrupted") == ["mlflow"]
    assert "127.0.0.1" in str(cursor_of(folder, "mlflow").last_error)
    reachable = settings.model_copy(update={"options": {"mlflow": {"folder": str(tmp_path / "store")}}})
    with TrackingHub(run, reachable.model_copy(update={"finish_seconds": 60})) as hub:
        assert hub.finish("finished") == []


def test_an_end_counts_once_and_only_after_a_start(tmp_path: Path) -> None:
    hub = make_hub(tmp_path / "run-1", 0.0, ())
    assert hub.finish("failed") == [] and hub.journal.last_number() == 0
    with hub:
        hub.finish("interrupted")
        hub.finish("finished")
    assert [record.get("status") for record in hub.journal.read_after(0)] == [None, "interrupted"]


@given(st.text(max_size=40))
def test_a_name_never_leads_out_of_its_folder(name: str) -> None:
    path = Path(safe_name(name))
    assert not path.is_absolute() and ".." not in path.parts and path.name
    assert safe_name(str(path)) == str(path)


def test_the_hub_is_light() -> None:
    code = (
        "import sys, marauder.tracking.hub as _; print([m for m in ('mlflow', 'wandb', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
