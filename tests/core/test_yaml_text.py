"""YAML that is hostile, or that means what it says: bounded by its text, and text as it was written."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from marauder.core.errors import UserError
from marauder.core.yaml_text import parse_yaml


def place(line: int | None) -> str:
    return f"a.yaml:{line}"


def levels(head: str, line: Callable[[int], str], count: int) -> str:
    return head + "".join(line(number) for number in range(1, count))


BOMBS = {
    "lists": levels("a0: &a0 [x, x]\n", lambda n: f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n", 9),
    "mappings": levels(
        "a0: &a0 {x: 1, y: 2}\n", lambda n: f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}, r: *a{n - 1}}}\n", 12
    ),
    "merges": levels("a0: &a0 {x: 1}\n", lambda n: f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n", 9),
    "a long chain": levels("a0: &a0 [x]\n", lambda n: f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n", 2000),
}


@pytest.mark.parametrize("as_written", [False, True])
@pytest.mark.parametrize("name", BOMBS)
def test_anchors_that_unfold_without_end_are_refused_at_once(name: str, as_written: bool) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"a\.yaml:\d+: anchors .* unfold to more than .* write it out"):
        parse_yaml(BOMBS[name], place, as_written)
    assert time.perf_counter() - started < 3
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_key_that_is_a_bomb_is_never_written_out() -> None:
    inside = ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    started = time.perf_counter()
    with pytest.raises(UserError, match="not valid YAML"):
        parse_yaml(f"? [&a0 [x], {inside}]\n: 1\n", place)
    assert time.perf_counter() - started < 1


def test_defaults_shared_by_many_are_no_bomb() -> None:
    text = "base: &base {" + ", ".join(f"k{n}: {n}" for n in range(30)) + "}\n"
    text += "".join(f"camera{n}: {{<<: *base, own: {n}}}\n" for n in range(1000))
    assert parse_yaml(text, place).content["camera999"]["k29"] == 29


def test_text_as_it_was_written() -> None:
    words = ["no", "on", "0100", "12:30", "1.10", "~", "null", "2026-01-02", "0x1F", "1e3", "=", ".inf", "+1"]
    text = "names:\n" + "".join(f"  {number}: {word}\n" for number, word in enumerate(words))
    text += "  no: ''\n  yes:\n  quoted: 'no'\nlist: [01, off]\n"
    parsed = parse_yaml(text, place, as_written=True)
    names = parsed.content["names"]
    assert [names[str(number)] for number in range(len(words))] == words
    assert (names["no"], names["yes"], names["quoted"], parsed.content["list"]) == ("", "", "no", ["01", "off"])
    assert parsed.lines[("names", "2")] == 4 and parsed.odd_keys == []
    assert parse_yaml("a: &a {x: 01}\nb: {<<: *a, y: 2}", place, as_written=True).content["b"] == {"x": "01", "y": "2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "a.yaml:2: a: given twice"),
        ("1: a\n'1': b\n", "a.yaml:2: 1: given twice"),
        ("a: &a [*a]\n", "contains itself"),
        ("[" * 200 + "]" * 200, "nested more than"),
        ("a: [", "not valid YAML"),
    ],
)
def test_the_same_mistakes_are_found_in_text_as_written(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, place, as_written=True)
    assert words in str(caught.value)
