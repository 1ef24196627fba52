"""The loop of a follower, with a receiver that fails, refuses and is killed at any point: at least once, in order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.delivery import follower
from marauder.delivery.follower import Receiver, Refused, Watch, follow
from marauder.delivery.journal import Cursor, Journal

WATCH = Watch(None, 60.0, 60.0)
REFUSED = 3


class Killed(BaseException):
    """Stands for SIGKILL: what the receiver had not made safe is gone."""


class Memory(Receiver):
    """Keeps numbers: ``safe`` once flushed (or closed, if it replays). ``plan``: what the next calls do."""

    def __init__(self, plan: list[str], safe: list[int], replays: bool) -> None:
        self.plan, self.safe, self.replays = plan, safe, replays
        self.loose: list[int] = []

    def _act(self) -> None:
        act = self.plan.pop(0) if self.plan else "work"
        if act == "fail":
            raise OSError("away")
        if act == "kill":
            raise Killed

    def deliver(self, record: dict[str, Any]) -> None:
        self._act()
        if record["number"] == REFUSED:
            raise Refused("never")
        self.loose.append(record["number"])

    def flush(self) -> None:
        self._act()
        if not self.replays:
            self.safe += self.loose
            self.loose = []

    def close(self) -> None:
        self._act()
        if self.replays:
            self.safe[:] = self.loose


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FIRST_PAUSE", 0.0)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 8),
    plan=st.lists(st.sampled_from(["work", "work", "fail", "kill"]), max_size=25),
    replays=st.booleans(),
)
def test_whatever_fails_or_is_killed_every_record_is_safe_in_the_end(
    count: int, plan: list[str], replays: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal, cursor_path = Journal(Path(folder) / "journal.jsonl"), Path(folder) / "memory.json"
        for _ in range(count):
            journal.append("some")
        safe: list[int] = []
        for _ in range(plan.count("kill") + 1):
            try:
                follow(Journal(journal.path), cursor_path, Memory(plan, safe, replays), WATCH, 1.0, False)
            except Killed:
                reached = Cursor.load(cursor_path).delivered
                assert set(range(1, reached + 1)) - {REFUSED} <= set(safe), "the cursor is ahead of what is safe"
        wanted = [number for number in range(1, count + 1) if number != REFUSED]
        assert list(dict.fromkeys(safe)) == wanted
        assert not replays or safe == wanted
        cursor = Cursor.load(cursor_path)
        assert cursor.delivered == count  # a failure after the last record (in closing) stays on record
        assert [entry["number"] for entry in cursor.refused] == ([REFUSED] if count >= REFUSED else [])


def test_nothing_to_deliver_opens_and_closes_nothing(tmp_path: Path) -> None:
    follow(Journal(tmp_path / "journal.jsonl"), tmp_path / "c.json", Memory(["kill"], [], False), WATCH, 1.0, False)
    assert not (tmp_path / "c.json").exists()


def test_an_unknown_error_ends_the_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("some")

    class Broken(Memory):
        def deliver(self, record: dict[str, Any]) -> None:
            raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        follow(journal, tmp_path / "c.json", Broken([], [], False), WATCH, 1.0, False)
