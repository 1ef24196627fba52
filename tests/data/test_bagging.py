"""Bagging by group: whole groups, functions of the seed alone, and no class lost in silence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.bagging import Bag, BaggingSettings, draw_bag
from marauder.data.records import Record

NAMES = ("fish", "crab", "ray")


def record(number: int, group: str, *classes: int) -> Record:
    boxes = np.tile([1.0, 1.0, 5.0, 5.0], (len(classes), 1))
    return Record(f"{number}", Path(f"{number}.png"), 10, 10, boxes, np.array(classes, np.int64), group=group)


def common(groups: int, each: int = 3) -> list[Record]:
    return [record(each * group + at, f"clip{group:03d}", 0) for group in range(groups) for at in range(each)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(0, 2), max_size=3)), min_size=1, max_size=40),
    st.sampled_from(["bootstrap", "share"]),
    st.floats(0.05, 1.0),
    st.integers(0, 3),
    st.integers(0, 10_000),
)
def test_groups_stay_whole_and_classes_stay(
    drawn: list[tuple[int, list[int]]], kind: str, share: float, rare: int, seed: int
) -> None:
    records = [record(number, f"clip{group}", *classes) for number, (group, classes) in enumerate(drawn)]
    asked = BaggingSettings.model_validate({"kind": kind, "share": share, "rare_groups": rare})
    bag = draw_bag(records, NAMES, asked, seed)
    inside = {one.group for one in bag.records}
    assert [one.key for one in bag.records] == [one.key for one in records if one.group in inside]
    times = {one.group: int(count) for one, count in zip(bag.records, bag.times, strict=True)}
    assert all(times[one.group] == count >= 1 for one, count in zip(bag.records, bag.times, strict=True))
    shown = {int(number) for one in records for number in one.classes}
    assert {int(number) for one in bag.records for number in one.classes} == shown
    for number in shown:
        groups = {one.group for one in records if number in one.classes}
        assert len(groups) > rare or groups <= inside
    added = {group for groups in bag.kept.values() for group in groups}
    draws = max(1, round(share * len({one.group for one in records})))
    assert sum(times.values()) == draws + len(added)
    shuffled = draw_bag(records[::-1], NAMES, asked, seed)
    assert Counter(one.key for one in shuffled.records) == Counter(one.key for one in bag.records)


def test_a_bootstrap_holds_about_63_percent_of_the_groups_and_some_twice() -> None:
    shares = [len({one.group for one in _bag("bootstrap", seed).records}) / 200 for seed in range(10)]
    assert np.mean(shares) == pytest.approx(1 - 1 / np.e, abs=0.03)
    assert _bag("bootstrap", 0).times.max() >= 2


def _bag(kind: str, seed: int, share: float = 1.0) -> Bag:
    return draw_bag(common(200), NAMES, BaggingSettings.model_validate({"kind": kind, "share": share}), seed)


def test_a_share_holds_each_group_once_and_seeds_differ() -> None:
    bag = _bag("share", 1, 0.8)
    assert len({one.group for one in bag.records}) == 160 and set(bag.times) == {1}
    assert {one.key for one in bag.records} != {one.key for one in _bag("share", 2, 0.8).records}
    assert {one.key for one in bag.records} == {one.key for one in _bag("share", 1, 0.8).records}


def test_what_is_kept_for_a_class_is_told() -> None:
    records = [*common(20), record(100, "dive7", 2)]
    asked = BaggingSettings(kind="share", share=0.05)
    bags = [draw_bag(records, NAMES, asked, seed) for seed in range(20)]
    assert all("dive7" in {one.group for one in bag.records} for bag in bags)
    told = next(bag for bag in bags if bag.kept)
    assert told.kept["ray"] == ("dive7",)
    assert "so that a class stays: ray (dive7)" in told.describe()


def test_off_is_everything_once() -> None:
    records = common(3)
    bag = draw_bag(records, NAMES, BaggingSettings(), 0)
    assert BaggingSettings().is_off and bag.records == tuple(records) and list(bag.times) == [1] * 9 and not bag.kept
