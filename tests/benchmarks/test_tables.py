"""What every table of trainings rests on: pairs by seed, intervals, verdicts, results that survive a kill."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tables import (
    Line,
    Paired,
    add_options,
    best_of,
    groups,
    interval,
    judge,
    paired,
    read_results,
    run_missing,
    seeds_of,
)


def line(arm: str, seed: int, map50: float, **key: Any) -> Line:
    return {"training": {"arm": arm, "seed": seed, **key}, "map50": map50}


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(list(words))


def test_an_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert (found.mean, found.pairs) == (2.0, 3)
    # t(0.975, 2 degrees of freedom) = 4.302653 times the standard error 1 / sqrt(3).
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)


def test_only_seeds_that_both_arms_have_are_paired() -> None:
    lines = [line("a", 0, 0.5), line("b", 0, 0.4), line("a", 1, 0.7), line("b", 2, 0.1), line("a", 2, math.nan)]
    found = paired(lines, "a", "b", "map50")
    assert found is not None and found.pairs == 1 and found.mean == pytest.approx(0.1)
    assert "no interval" in found.describe()
    assert paired(lines[2:3], "a", "b", "map50") is None
    relative = paired(lines[:2], "a", "b", "map50", relative=True)
    assert relative is not None and relative.mean == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Paired(0.2, 0.05, 0.35, 3), "met"),
        (Paired(0.2, -0.05, 0.45, 3), "open"),  # no effect is not ruled out
        (Paired(0.08, 0.05, 0.11, 3), "open"),  # an effect, perhaps large enough
        (Paired(0.05, 0.02, 0.08, 3), "refuted"),
        (Paired(-0.2, -0.3, -0.1, 3), "refuted"),
        (Paired(0.5, math.nan, math.nan, 1), "open"),
        (Paired(-0.5, math.nan, math.nan, 1), "open"),
    ],
)
def test_a_verdict_follows_from_the_interval(found: Paired, verdict: str) -> None:
    assert judge(found, target=0.1) == verdict


def test_trainings_are_grouped_by_all_but_what_is_compared() -> None:
    lines = [line("a", 0, 0.1, scale="small"), line("a", 0, 0.2, scale="full"), line("b", 1, 0.3, scale="small")]
    assert groups(lines) == [[lines[0], lines[2]], [lines[1]]]
    assert groups(lines, ("arm", "seed", "scale")) == [lines]


def test_the_best_of_several_is_told_with_their_number() -> None:
    gains = {"a": interval([0.1, 0.2]), "b": None, "c": interval([0.3, 0.4])}
    (found,) = best_of("best of {count}", gains, "+.2f")
    assert found.question == "best of 2" and found.figure.startswith("c: +0.35") and found.verdict == "measured"
    assert best_of("best of {count}", {"b": None}, "+.2f") == []


def test_two_processes_share_a_table_by_its_first_seed() -> None:
    assert list(seeds_of(arguments("--seeds", "2"))) == [0, 1]
    assert list(seeds_of(arguments("--seeds", "2", "--first-seed", "4"))) == [4, 5]


def test_a_table_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    results = tmp_path / "table.jsonl"
    keys = [{"arm": arm, "seed": seed} for seed in range(2) for arm in ("a", "b")]
    finished = {"training": keys[0], "map50": 0.5}
    results.write_text(json.dumps(finished) + '\n{"training": {"arm": "b", "se', encoding="utf-8")
    trained: list[Line] = []

    def train(key: Line, number: int) -> Line:
        trained.append(key)
        return {"map50": 0.1 * number}

    found = run_missing(keys, arguments("--results", str(results)), train, str)
    assert trained == keys[1:]
    assert found[0] == finished and [one["training"] for one in found] == keys
    assert read_results(results) == found
    assert run_missing(keys[:1], arguments("--results", str(results), "--only-report"), train, str) == [finished]
    assert trained == keys[1:]
