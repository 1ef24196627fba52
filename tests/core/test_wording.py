"""Counts, times and tables as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.text_table import table_lines, wrapped
from marauder.core.wording import counted, joined, local_time, units


def test_one_is_one_and_several_are_several() -> None:
    assert [counted(count, "clip") for count in (0, 1, 1234)] == ["0 clips", "1 clip", "1,234 clips"]
    assert [counted(count, "box", "boxes") for count in (1, 2)] == ["1 box", "2 boxes"]
    assert [units(True, False), units(False, True), units(True, True)] == ["pictures", "frames", "pictures and frames"]


def test_names_are_joined_as_in_a_sentence() -> None:
    assert [joined(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]


def test_times_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-5")
    time.tzset()
    try:
        moment = datetime(2026, 11, 30, 22, 30, tzinfo=UTC)
        assert local_time(moment) == local_time(moment.timestamp()) == "2026-12-01 03:30"
        assert local_time(moment, zone=True) == "2026-12-01 03:30 UTC"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_text_behind_a_label_is_wrapped_below_where_it_begins() -> None:
    assert wrapped("note: ", "three short words") == wrapped("note: ", "three short words", 40)
    assert wrapped("note: ", "three short words here", 24) == ["note: three short words", "      here"]
    assert wrapped("a label of some length  ", "two words", 30) == ["a label of some length", "    two words"]


@pytest.mark.parametrize("width", [1, 2, 10, 18])
def test_a_screen_of_hardly_any_width_gets_every_word(width: int) -> None:
    text = "some more words than fit"
    label, *lines = wrapped("a label of some length  ", text, width)
    assert label == "a label of some length" and " ".join(map(str.strip, lines)) == text
    assert all(line.startswith("    ") and len(line) <= 20 for line in lines)
    shown = table_lines(("run", "why"), [["a", text]], width=width)
    assert " ".join(" ".join(shown).split()) == f"run why a {text}"


def test_a_table_stands_in_columns_and_brackets_are_no_markup() -> None:
    lines = table_lines(("name", "boxes"), [["[red] fish", "1,234"], ["ray", "7"]], (1,), "split test")
    assert lines == ["split test", "name        boxes", "[red] fish  1,234", "ray             7"]
    assert table_lines(("name",), []) == []
    assert table_lines(("", ""), [["run", "a"]]) == ["run  a"], "a header of nothing is none"


def test_words_are_wrapped_and_the_last_columns_continue_below() -> None:
    why = "the slice deep has too few pictures to say anything about it"
    lines = table_lines(("version", "why"), [["1", why]], width=40)
    assert " ".join(line[9:] for line in lines[1:]) == why and max(map(len, lines)) <= 40
    header = ("run", "started", "report")
    lines = table_lines(header, [["a" * 20, "2026-11-30", "b" * 20]], width=40)
    assert lines == [f"{'run':20}  started", "  report", f"{'a' * 20}  2026-11-30", f"  {'b' * 20}"]


@given(
    st.lists(st.lists(st.text("ab cd", max_size=60), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(20, 100),
)
def test_no_line_is_too_wide_and_no_word_is_lost(rows: list[list[str]], width: int) -> None:
    lines = table_lines(("w", "x", "y", "z"), rows, width=width)
    longest = max(len(word) for row in rows for word in (*(cell for text in row for cell in text.split()), ""))
    assert all(len(line) <= max(width, longest + 2) for line in lines)
    words = sorted(word for row in rows for cell in row for word in cell.split())
    assert sorted(word for line in lines for word in line.split()) == sorted([*words, "w", "x", "y", "z"])
