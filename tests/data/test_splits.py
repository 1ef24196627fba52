"""Splits: groups stay whole, every record has one split, classes are balanced as far as groups allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.splits import DEFAULT_FRACTIONS, leaking_groups, split_dataset, split_report

AQUARIUM = ["fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"]


def make(content: list[tuple[int, list[int]]], names: int = 4) -> Dataset:
    """One record a row of (group, classes of its boxes)."""
    records = [
        Record(
            f"p{number}",
            Path(f"p{number}.jpg"),
            10,
            10,
            np.tile([1.0, 1, 5, 5], (len(classes), 1)),
            np.array(classes, int),
            group=f"g{group}",
        )
        for number, (group, classes) in enumerate(content)
    ]
    return Dataset(tuple(f"c{index}" for index in range(names)), tuple(records))


contents = st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(0, 3), max_size=4)), max_size=40)
fractions = st.sampled_from(
    [DEFAULT_FRACTIONS, {"train": 0.5, "val": 0.5}, {"train": 1.0}, {"train": 0.34, "val": 0.33, "test": 0.33}]
)


@settings(max_examples=60, deadline=None)
@given(contents, fractions, st.integers(0, 3), st.booleans())
def test_groups_whole_and_everyone_in_one_split(content, shares, seed, keep):
    dataset = make(content)
    result = split_dataset(dataset, shares, seed, keep)
    assert leaking_groups(result) == {}
    assert [record.key for record in result] == [record.key for record in dataset]
    assert all(record.split in shares for record in result)
    again = split_dataset(dataset, shares, seed, keep)
    assert [record.split for record in again] == [record.split for record in result]


@settings(max_examples=30, deadline=None)
@given(contents.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(content, random):
    dataset = make(content)
    shuffled = list(dataset.records)
    random.shuffle(shuffled)
    one = {record.key: record.split for record in split_dataset(dataset)}
    other = {record.key: record.split for record in split_dataset(dataset.with_records(shuffled))}
    assert one == other


def test_a_rare_class_reaches_every_split_when_its_groups_allow():
    content = [(number, [0] * (number % 5)) for number in range(100)] + [(100 + number, [1]) for number in range(3)]
    counts = {row.name: row.counts for row in split_report(split_dataset(make(content)))}
    assert counts["c1"] == {"train": 1, "val": 1, "test": 1}
    assert abs(counts["pictures"]["train"] - 72) <= 2


def test_a_class_of_one_group_goes_to_train():
    content = [(number, [0]) for number in range(50)] + [(50, [1, 1, 1])]
    counts = {row.name: row.counts for row in split_report(split_dataset(make(content)))}
    assert counts["c1"] == {"train": 3, "val": 0, "test": 0}


def test_existing_splits_are_kept_whole():
    dataset = make([(number // 2, [0]) for number in range(40)])
    records = [replace(r, split="test") if r.group in ("g0", "g1", "g2") else r for r in dataset]
    records[0] = replace(records[0], split="val")  # one record disagrees; a tie goes to the earlier split
    result = split_dataset(dataset.with_records(records), keep_existing=True)
    by_group = {record.group: record.split for record in result}
    assert (by_group["g1"], by_group["g2"]) == ("test", "test")
    assert by_group["g0"] in ("val", "test")


@pytest.mark.parametrize("bad", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}, {"train": float("nan"), "val": 0.5}])
def test_bad_fractions(bad):
    with pytest.raises(UserError, match="sum to 1"):
        split_dataset(make([(0, [])]), bad)


def test_aquarium(shared_data: Path):
    result = split_dataset(read_dataset(shared_data / "aquarium", names=AQUARIUM))
    assert leaking_groups(result) == {}
    clips: dict[str, set[str | None]] = {}
    for record in result:
        if "_MOV-" in record.key:
            clips.setdefault(record.key.split("_MOV-")[0], set()).add(record.split)
    assert clips
    assert all(len(splits) == 1 for splits in clips.values())
    for row in split_report(result):
        if row.name != "groups":
            total = sum(row.counts.values())
            for name, share in DEFAULT_FRACTIONS.items():
                assert abs(row.counts[name] / total - share) < 0.03, row
