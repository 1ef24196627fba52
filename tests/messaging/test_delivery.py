"""Events reach a webhook at least once and in order, whatever the receiver and the run go through meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver

from marauder.core.errors import UserError
from marauder.delivery.journal import Cursor
from marauder.messaging.outbox import Outbox
from marauder.messaging.settings import EventSettings

SECRET = "a secret that only this test knows"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    receiver = Receiver(SECRET)
    yield receiver
    receiver.close()


def make_outbox(folder: Path, receiver: Receiver, finish_seconds: float = 30.0, **options: Any) -> Outbox:
    hook = {"url": receiver.url, "secret_env": "HOOK_SECRET", "timeout_seconds": 0.5, **options}
    settings = EventSettings(sinks=("webhook",), options={"webhook": hook}, finish_seconds=finish_seconds)
    return Outbox(folder / "outbox.jsonl", settings, folder.name)


def without_repeats(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def test_a_receiver_that_fails_hangs_and_loses_answers_gets_every_event_in_order(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.moods.extend([500, "lose", "hang", 429, 200, "lose"])
    with make_outbox(tmp_path / "run-1", receiver) as outbox:
        started = time.monotonic()
        ids = [outbox.emit("run.checkpoint", {"step": step}) for step in range(6)]
        assert time.monotonic() - started < 2.0, "its faults take the receiver longer"
    arrived = [event["id"] for event in receiver.events]
    assert without_repeats(arrived) == ids
    assert len(arrived) == len(ids) + 2, "two answers were lost, so two events came twice"
    cursor = Cursor.load(tmp_path / "run-1" / "outbox" / "webhook.json")
    assert cursor.delivered == 6 and cursor.failures == 5 and cursor.last_error is None


def test_what_a_receiver_missed_comes_with_the_next_run(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.moods.extend([503] * 100)
    outbox = make_outbox(tmp_path / "run-1", receiver, 1.0).start()
    ids = [outbox.emit("run.started", {}), outbox.emit("run.failed", {})]
    assert outbox.finish() == ["webhook"]
    assert "webhook lacks 2 of 2 records" in caplog.text and "503" in caplog.text
    receiver.moods.clear()
    with make_outbox(tmp_path / "run-1", receiver) as again:
        ids.append(again.emit("run.started", {}))
    assert [event["id"] for event in receiver.events] == ids


def test_a_killed_follower_repeats_only_what_was_emitted_before_the_kill(tmp_path: Path, receiver: Receiver) -> None:
    outbox = make_outbox(tmp_path / "run-1", receiver).start()
    ids = [outbox.emit("run.checkpoint", {"step": step}) for step in range(8)]
    while not receiver.events:
        time.sleep(0.01)
    process = outbox.followers.members[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    ids += [outbox.emit("run.checkpoint", {"step": step}) for step in range(8, 12)]
    assert outbox.finish() == []
    arrived = [event["id"] for event in receiver.events]
    # The cursor is written as often as the disk lets it; what came since then comes again, and nothing else.
    assert without_repeats(arrived) == ids and len(arrived) <= len(ids) + 8
    assert not {event for event in arrived if arrived.count(event) > 1} & set(ids[8:])


def test_a_refused_event_is_noted_and_does_not_hold_up_the_next(tmp_path: Path, receiver: Receiver) -> None:
    receiver.moods.append(400)
    with make_outbox(tmp_path / "run-1", receiver) as outbox:
        ids = [outbox.emit("run.gate", {"gate": "drift"}), outbox.emit("run.finished", {})]
    assert [event["id"] for event in receiver.events] == ids[1:]
    (refused,) = Cursor.load(tmp_path / "run-1" / "outbox" / "webhook.json").refused
    assert refused["number"] == 1 and "400" in refused["error"]


def test_the_secret_is_nowhere_in_the_run(tmp_path: Path, receiver: Receiver) -> None:
    receiver.moods.append(500)
    with make_outbox(tmp_path / "run-1", receiver) as outbox:
        outbox.emit("run.started", {})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_missing_secret_is_told_before_the_run(tmp_path: Path, receiver: Receiver) -> None:
    with pytest.raises(UserError, match="NO_SUCH_SECRET"):
        make_outbox(tmp_path / "run-1", receiver, secret_env="NO_SUCH_SECRET").start()
