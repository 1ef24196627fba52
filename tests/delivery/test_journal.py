"""The journal and its cursors: nothing that was acknowledged is lost, cut lines are passed over, numbers go on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.files import DamagedFileError
from marauder.delivery.journal import Cursor, Journal

WORDS = st.text(max_size=30)
FIELDS = st.dictionaries(st.sampled_from(["value", "name", "rows"]), st.one_of(st.integers(), WORDS, st.lists(WORDS)))


def test_records_come_back_in_order_with_their_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    assert journal.read_after(0) == [] and journal.last_number() == 0
    assert [journal.append("metrics", step=step) for step in range(3)] == [1, 2, 3]
    assert journal.read_after(1) == [
        {"number": 2, "kind": "metrics", "step": 1},
        {"number": 3, "kind": "metrics", "step": 2},
    ]
    assert journal.last_number() == Journal(journal.path).last_number() == 3


def test_a_reader_asked_again_sees_what_came_since_and_may_go_back(tmp_path: Path) -> None:
    writer, reader = Journal(tmp_path / "journal.jsonl"), Journal(tmp_path / "journal.jsonl")
    for count in range(1, 8):
        writer.append("tags")
        assert [record["number"] for record in reader.read_after(count - 1)] == [count]
        assert reader.read_after(count) == []
    assert len(reader.read_after(0)) == 7
    assert [record["number"] for record in reader.read_after(5)] == [6, 7]


@settings(max_examples=150, deadline=None)
@given(before=st.lists(FIELDS, min_size=1, max_size=6), after=st.lists(FIELDS, max_size=4), data=st.data())
def test_wherever_a_kill_cuts_the_file_the_rest_stands_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, before: list[dict], after: list[dict], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = Journal(path)
    for fields in before:
        journal.append("some", **fields)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    closed = content[:cut].count(b"\n")
    assert [record["number"] for record in journal.read_after(0)] == list(range(1, closed + 1))
    # A last line that lacks nothing but its newline is whole, and counts as soon as the next one closes it.
    whole = closed + (cut < len(content) and content[cut : cut + 1] == b"\n" and content[cut - 1 : cut] == b"}")
    numbers = [journal.append("more", **fields) for fields in after]
    assert numbers == list(range(whole + 1, whole + 1 + len(after)))
    records = Journal(path).read_after(0)
    assert [record["number"] for record in records] == list(range(1, (whole + len(after) if after else closed) + 1))
    kept = whole if after else closed
    # A newline more than the lines that count is there only to close the line that was cut.
    garbage = cut > 0 and not content[:cut].endswith(b"\n") and whole == closed and bool(after)
    assert path.read_bytes().count(b"\n") == len(records) + garbage
    assert [{k: v for k, v in r.items() if k not in ("number", "kind")} for r in records] == before[:kept] + after


def test_zeros_that_a_power_cut_left_are_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("one")
    with journal.path.open("ab") as stream:
        stream.write(b"\0" * 5000)
    assert journal.append("two") == 2
    assert [record["kind"] for record in Journal(journal.path).read_after(0)] == ["one", "two"]


def test_a_record_longer_than_a_block_is_found_from_the_end(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.jsonl").append("long", text="x" * 300_000)
    assert Journal(tmp_path / "journal.jsonl").append("next") == 2


WRITER = """
import sys
from marauder.delivery.journal import Journal
journal = Journal(sys.argv[1])
while True:
    print(journal.append("metrics", text="x" * 2000), flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "journal.jsonl", 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(40):
            acknowledged = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
        process.wait()
        acknowledged = max([acknowledged, *(int(line) for line in rest if line.endswith(b"\n"))])
        numbers = [record["number"] for record in Journal(path).read_after(0)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= acknowledged


def _append_many(path: Path) -> None:
    journal = Journal(path)
    for _ in range(150):
        journal.append("some", process=os.getpid())


def test_several_processes_share_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = Journal(path).read_after(0)
    assert [record["number"] for record in records] == list(range(1, 451))
    assert len({record["process"] for record in records}) == 3


def test_the_number_may_stand_under_another_key_as_digits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "outbox.jsonl", key="sequence", durable=True)
    for _ in range(2):
        journal.append_made(lambda number: {"sequence": f"{number:06d}"})
    assert json.loads(journal.path.read_text().splitlines()[1]) == {"sequence": "000002"}
    assert journal.last_number() == 2 and len(journal.read_after(1)) == 1
    with pytest.raises(ValueError, match="sequence"):
        journal.append_made(lambda number: {"sequence": "7"})
    assert journal.last_number() == 2


def test_a_cursor_is_read_back_and_a_damaged_one_told(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.json"
    cursor = Cursor.load(path)
    assert cursor.delivered == 0
    cursor.delivered, cursor.failures, cursor.last_error = 7, 2, "OSError: no"
    cursor.refused.append({"number": 3, "error": "gone"})
    cursor.save()
    assert Cursor.load(path) == cursor
    path.write_text("[]")
    with pytest.raises(DamagedFileError, match=r"mlflow\.json"):
        Cursor.load(path)
