"""The foundations: atomic files, settings with lines, the clock, random streams, progress, locks."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from marauder.core.clock import Clock, Interrupted, describe_seconds
from marauder.core.environment import share_cores
from marauder.core.errors import UserError
from marauder.core.events import EventLog
from marauder.core.files import (
    DamagedFileError,
    append_line,
    atomic_path,
    fingerprint,
    hash_file,
    read_json,
    read_lines,
    remove_leftovers,
    write_json,
    write_text,
)
from marauder.core.layers import read_yaml_mapping
from marauder.core.progress import Progress
from marauder.core.randomness import permutation, stream
from marauder.core.settings import Settings, load_settings


def test_a_failed_write_leaves_the_old_content_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write_and_fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_never_leaves_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    script = (
        "import sys\nfrom marauder.core.files import write_json\nnumber = 0\n"
        "while True:\n    write_json(sys.argv[1], {'numbers': [number] * 20000})\n    number += 1\n"
    )
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)])
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.02 + 0.013 * attempt)
        process.kill()
        process.wait()
        numbers = read_json(path)["numbers"]
        assert len(numbers) == 20000
        assert len(set(numbers)) == 1
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_json_lines_survive_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1})
    with path.open("ab") as stream_:
        stream_.write(b'{"a": 2, "cut')
    append_line(path, {"a": 3})
    assert read_lines(path) == [{"a": 1}, {"a": 3}]
    assert read_lines(tmp_path / "none.jsonl") == []


def test_json_of_numpy_and_undefined_numbers(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    digest = write_json(path, {"a": np.float32(1.5), "b": [np.int64(2), float("nan")], "c": Path("x"), "d": {3}})
    assert read_json(path) == {"a": 1.5, "b": [2, None], "c": "x", "d": [3]}
    assert digest == hash_file(path)
    path.write_text("{")
    with pytest.raises(DamagedFileError, match=r"value\.json"):
        read_json(path)


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text(), max_size=6))
def test_fingerprints_do_not_depend_on_order(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(list(value.items()))))
    assert fingerprint(value) != fingerprint({**value, "one more": 1})


class Inner(Settings):
    rate: float = Field(0.1, gt=0)
    name: str = "a"


class Outer(Settings):
    count: int = 3
    inner: Inner = Inner()
    maybe: Inner | None = None


def test_settings_come_from_file_then_overrides_then_options(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("count: 5\ninner:\n  rate: 0.5\n")
    loaded = load_settings(Outer, path, ["inner.rate=0.7", "maybe.name=b"], count=None)
    assert (loaded.count, loaded.inner.rate, loaded.inner.name) == (5, 0.7, "a")
    assert loaded.maybe == Inner(name="b")
    assert load_settings(Outer, path, [], count=9).count == 9
    assert load_settings(Outer) == Outer()


def test_all_mistakes_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("# a comment\ncount: many\ninner:\n  rate: -1\n  nmae: b\n")
    with pytest.raises(UserError) as caught:
        load_settings(Outer, path, ["maybe.rate=x", "nothing.here=1"])
    text = str(caught.value)
    assert text.startswith("5 mistakes")
    for words in (
        f"{path}:2: count",
        f"{path}:4: inner.rate",
        f"{path}:5: inner.nmae: no such setting; did you mean name? There are: name, rate",
        "override 'maybe.rate=x'",
        "override 'nothing.here=1': nothing: no such setting",
    ):
        assert words in text, text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1", ":1: not valid YAML"),
        (b"- a\n", "expected 'key: value'"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: b: c", "not valid"),
    ],
)
def test_a_broken_settings_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_settings(Outer, path)
    with pytest.raises(UserError, match="cannot be read"):
        load_settings(Outer, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "overrides", "where"),
    [
        ("count: 1\n", ["count=x"], "override 'count=x': count: "),
        ("count: x\n", [], "settings.yaml:1: count: "),
        ("inner: 3\n", ["count=x"], "2 mistakes in settings.yaml and on the command line:"),
    ],
)
def test_words_typed_are_not_blamed_on_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, overrides: list[str], where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("settings.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_settings(Outer, Path("settings.yaml"), overrides)
    assert str(caught.value).splitlines()[0].startswith(where)


def test_keys_given_twice_are_told_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("count: 1\ninner:\n  rate: 0.1\n  rate: 0.2\ncount: 2\n")
    with pytest.raises(UserError) as caught:
        load_settings(Outer, path)
    assert str(caught.value).splitlines() == [
        f"2 mistakes in {path}:",
        f"  {path}:4: inner.rate: given twice (first in line 3); keep one",
        f"  {path}:5: count: given twice (first in line 1); keep one",
    ]
    path.write_text("count: 1\ncount: 1\n")
    with pytest.raises(UserError) as caught:
        load_settings(Outer, path)
    assert str(caught.value) == f"{path}:2: count: given twice (first in line 1); keep one"
    with pytest.raises(UserError, match="name: given twice"):
        load_settings(Outer, None, ["inner={name: a, name: b}"])
    path.write_text("inner: &shared {rate: 0.5, name: b}\nmaybe:\n  <<: *shared\n  name: c\n")
    assert load_settings(Outer, path).maybe == Inner(rate=0.5, name="c"), "merge keys and what they give stay allowed"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("inner: &a\n  rate: 1\n  name: *a\n", ":3", "inner.name: contains itself"),
        ("inner: &a\n- *a\n", ":1", "inner.0: contains itself"),
        ("inner: " + "[" * 3000 + "]" * 3000, "", "nested more than 100 deep"),
        ("count: 1\ninner: " + "{a: " * 150 + "1" + "}" * 150, ":2", "nested more than 100 deep"),
        ("count: 2026-13-45\n", "", "put the value in quotes"),
    ],
)
def test_what_cannot_be_gone_through_is_told(tmp_path: Path, text: str, place: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_settings(Outer, path)
    assert str(caught.value).startswith(f"{path}{place}: ") and words in str(caught.value)
    with pytest.raises(UserError, match="nested more than"):
        load_settings(Outer, None, ["inner=" + "[" * 3000])


def test_one_anchor_may_be_named_often(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("inner: &a {rate: 0.5}\nmaybe: *a\n")
    assert load_settings(Outer, path).maybe == Inner(rate=0.5)


@pytest.mark.parametrize("key", ["off", "yes", "null", "2026-01-02"])
def test_keys_that_are_no_text(tmp_path: Path, key: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"count: 1\ninner:\n  {key}: 3\n{key}: 4\n")
    with pytest.raises(UserError) as caught:
        load_settings(Outer, path)
    for place in (f"{path}:3: inner.{key}: ", f"{path}:4: {key}: "):
        assert place in str(caught.value)
    assert f'put the key in quotes: "{key}"' in str(caught.value)
    assert len(read_yaml_mapping(path)[0]) == 3, "a foreign data.yaml may number its names"


def test_a_value_in_place_of_a_section(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("count: 1\ninner: fast\n")
    with pytest.raises(UserError, match=f"{path}:2: inner: expected 'key: value' lines below it, found 'fast'"):
        load_settings(Outer, path)


def test_a_setting_without_a_default_says_where_to_give_it() -> None:
    class Needed(Settings):
        data: Path

    with pytest.raises(UserError, match="data: is missing: give it in the settings file or as an option"):
        load_settings(Needed)


def test_a_value_of_the_wrong_kind_is_told_in_plain_words_as_it_was_typed() -> None:
    class Kinds(Settings):
        whole: int = 1
        rate: float = 0.5
        quick: bool = True

    for override, told in (
        ("whole=abc", "whole: must be a whole number, not 'abc'"),
        ("whole=1.5", "whole: must be a whole number, not '1.5'"),
        ("rate=fast", "rate: must be a number, not 'fast'"),
        ("quick=maybe", "quick: must be true or false, not 'maybe'"),
    ):
        with pytest.raises(UserError, match=re.escape(told)):
            load_settings(Kinds, None, [override])


def test_the_clock_stops_for_time_signal_file_and_parent(tmp_path: Path) -> None:
    assert Clock().stop_reason() is None
    assert "time budget" in (Clock(max_seconds=0.0001, reserve_seconds=1).stop_reason() or "")
    assert Clock(max_seconds=100).stop_reason() is None
    assert "time budget" in (Clock(max_seconds=100).stop_reason(next_unit_seconds=200) or "")
    asked = Clock(stop_file=tmp_path / "stop")
    assert asked.stop_reason() is None
    (tmp_path / "stop").write_text("because")
    assert asked.stop_reason() == "because"
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert "gone" in (Clock(parent=gone.pid).stop_reason() or "")
    with pytest.raises(UserError, match="positive"):
        Clock(max_seconds=0)


def test_a_signal_asks_to_stop_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Clock().listening() as clock:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            clock.check()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_leaves_at_once() -> None:
    script = (
        "import time\nfrom marauder.core.clock import Clock\nwith Clock().listening():\n    print('up', flush=True)\n"
        "    time.sleep(60) or time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    time.sleep(0.8)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    process.stdout.close()


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (4.25, "4.2 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")])
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert describe_seconds(seconds) == words


@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 10**6))
def test_streams_are_functions_of_their_key(seed: int, epoch: int, index: int) -> None:
    first = stream(seed, "augment", epoch, index).random(3)
    assert (first == stream(seed, "augment", np.int64(epoch), np.int32(index)).random(3)).all()  # type: ignore[arg-type]
    assert (first != stream(seed, "mosaic", epoch, index).random(3)).all()
    assert (first != stream(seed, "augment", epoch, index + 1).random(3)).all()


@given(st.integers(0, 100), st.integers(0, 50), st.integers(0, 300))
def test_an_epochs_order_is_a_permutation(seed: int, epoch: int, length: int) -> None:
    assert sorted(permutation(seed, epoch, length)) == list(range(length))


def test_progress_tells_rate_and_time_left() -> None:
    output = io.StringIO()
    with Progress("copying", 10, already_done=4, log_seconds=0.0, stream=output) as progress:
        time.sleep(0.05)
        progress.advance(3, "fine")
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("copying: 7/10 pictures, ")
    assert "left" in lines[0]
    assert lines[0].endswith("fine")


def test_events_are_read_back(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write("started", steps=3)
    log.write("finished")
    assert [event["kind"] for event in log.read()] == ["started", "finished"]
    assert log.read("started")[0]["steps"] == 3


def test_sharing_cores_leaves_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "3000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_names_may_be_numbers_and_values_are_shown_as_they_were_typed(tmp_path: Path) -> None:
    class Named(Settings):
        classes: tuple[str, ...] = ()
        weights: dict[str, float] = {}
        rate: float = Field(0.1, gt=0)

    path = tmp_path / "settings.yaml"
    path.write_text("classes: [7, fish]\nweights:\n  7: 2.0\n", encoding="utf-8")
    loaded = load_settings(Named, path)
    assert (loaded.classes, loaded.weights) == (("7", "fish"), {"7": 2.0})
    path.write_text("rate: -0x1F\n", encoding="utf-8")
    with pytest.raises(UserError, match="greater than 0, found '-0x1F'"):
        load_settings(Named, path)


def test_a_first_interrupt_is_answered_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Clock().listening() as clock:
        os.kill(os.getpid(), signal.SIGINT)
        assert clock.stop_reason() == "SIGINT received"
    assert "finishing this step and saving; press Ctrl-C again to stop without saving" in capfd.readouterr().err


def interrupt(script: str, *pauses: float) -> tuple[float, int, str]:
    """Ctrl-C to a process that says when it is up, once and after each of ``pauses``; the seconds that the process
    took from then on, its status, and its words. The script begins in a listening clock."""
    head = "import os, sys, time\nfrom marauder.core.clock import Clock\nwith Clock().listening() as clock:\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    for pause in pauses:
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
    words = process.communicate(timeout=60)[1]
    return time.monotonic() - began, process.returncode, words


def test_an_interrupt_is_answered_while_a_long_call_hears_nothing() -> None:
    # With all signals masked, the call returns for none of them.
    script = (
        "    import ctypes\n"
        "    clock.doing = 'exporting the model'\n"
        "    mask = ctypes.create_string_buffer(b'\\xff' * 128, 128)\n"
        "    print('up', flush=True)\n"
        "    ctypes.CDLL(None).ppoll(None, 0, ctypes.byref((ctypes.c_long * 2)(30, 0)), mask)\n"
    )
    seconds, status, words = interrupt(script, 3.0)
    assert "finishing this step and saving; press Ctrl-C again to stop without saving" in words
    assert re.search(r"still exporting the model \([\d.]+ s so far\); press Ctrl-C again to stop at once", words)
    assert status == 128 + signal.SIGINT and seconds < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sent_twice_at_once_is_one(number: signal.Signals) -> None:
    # As ``timeout`` sends it: to its child, and to the group that it is in. A sum hears no signal before it is done.
    script = (
        "    print('up', flush=True)\n"
        "    while clock.stop_reason() is None:\n"
        "        sum(range(30_000_000))\n"
        "    time.sleep(0.2)\n"
        "    sys.exit(7)\n"
    )
    head = "import os, sys, time\nfrom marauder.core.clock import Clock\nwith Clock().listening() as clock:\n"
    process = subprocess.Popen([sys.executable, "-c", head + script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    for _ in range(2):
        process.send_signal(number)
        time.sleep(0.001)  # else the system itself makes one of two
    assert process.wait(60) == 7


def test_an_interrupt_is_answered_where_many_files_are_open() -> None:
    script = (
        "    import resource\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "    held = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]\n"
        "    with Clock().listening() as clock:\n"
        "        print('up', flush=True)\n"
        "        while True:\n"
        "            time.sleep(0.1)\n"
    )
    assert interrupt(script, 1.0)[1] == 128 + signal.SIGINT


def test_one_interrupt_is_one_where_processes_were_forked() -> None:
    script = (
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.kill(os.getpid(), 2)\n"
        "        time.sleep(0.3)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    print('up', flush=True)\n"
        "    time.sleep(0.5)\n"
        "    sys.exit(7 if clock.stop_reason() == 'SIGINT received' else 8)\n"
    )
    assert interrupt(script)[1] == 7
