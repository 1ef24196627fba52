"""Factors of rare classes, and the resampling that turns them into the records of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.randomness import stream
from marauder.data.balancing import (
    BalanceSettings,
    Resampling,
    balance_factors,
    class_aware_factors,
    class_frequencies,
    repeat_factors,
)
from marauder.data.reading import read_dataset
from marauder.data.records import Record

FACTORS = st.lists(st.floats(0, 20) | st.integers(0, 5).map(float), min_size=1, max_size=60).filter(any)


def record(*classes: int, labelled: bool = True, ignored: bool = False) -> Record:
    boxes = np.tile([0.0, 0, 5, 5], (len(classes), 1))
    flags = np.full(len(classes), ignored)
    return Record("r", Path("r.jpg"), 10, 10, boxes, np.array(classes, np.int64), flags, labelled=labelled)


def drawn(resampling: Resampling, seed: int, epoch: int) -> list[int]:
    """The records of all samples of an epoch."""
    return [resampling.record_at(seed, epoch, index) for index in range(resampling.length)]


def test_repeat_factors_are_those_of_the_paper() -> None:
    records = [record(0)] * 96 + [record(0, 1), record(1), record(1, 1), record(1)]
    factors = repeat_factors(records, 3, 0.16)
    assert class_frequencies(records, 3).tolist() == [0.97, 0.04, 0]
    assert factors[:96].tolist() == [1.0] * 96
    assert factors[96:] == pytest.approx([2.0] * 4)  # sqrt(0.16 / 0.04)


def test_pictures_that_say_nothing_have_factor_one() -> None:
    records = [record(0)] * 9 + [record(1), record(), record(1, labelled=False), record(1, ignored=True)]
    for factors in (repeat_factors(records, 2, 0.5), class_aware_factors(records, 2)):
        assert factors[10:].tolist() == [1, 1, 1] and factors[9] > 1


def test_critical_classes_get_their_factor_at_least() -> None:
    records = [record(0)] * 10 + [record(1)] * 10
    assert repeat_factors(records, 2, 0.1, {1: 3.0})[10:].tolist() == [3.0] * 10
    assert class_aware_factors(records, 2, {1: 3.0})[10:].tolist() == [3.0] * 10
    plan = BalanceSettings(kind="repeat_factor", limit=2.5, critical_factor=3.0)
    assert balance_factors(records, 2, plan, critical=[1]).tolist() == [1.0] * 10 + [2.5] * 10
    assert balance_factors(records, 2, BalanceSettings(), critical=[1]).tolist() == [1.0] * 20


def test_class_aware_sampling_shows_single_class_pictures_of_every_class_alike_often() -> None:
    records = [record(0)] * 70 + [record(1)] * 20 + [record(2)] * 10
    factors = class_aware_factors(records, 4)
    sums = [factors[:70].sum(), factors[70:90].sum(), factors[90:].sum()]
    assert sums == pytest.approx([100 / 3] * 3)


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="class 7 of 2"):
        repeat_factors([record(7)], 2, 0.1)


@given(FACTORS, st.integers(0, 2**31), st.integers(0, 500))
@settings(max_examples=200, deadline=None)
def test_every_record_appears_floor_or_ceil_of_its_factor_times(factors: list[float], seed: int, epoch: int) -> None:
    resampling = Resampling(np.array(factors))
    records = drawn(resampling, seed, epoch)
    assert resampling.length == len(records) == max(1, round(float(np.sum(factors))))
    counts = np.bincount(records, minlength=len(factors))
    assert len(counts) == len(factors)
    assert (counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all()


@given(FACTORS, st.integers(0, 2**31), st.lists(st.integers(0, 9), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_worker_in_any_order_finds_the_same_records(factors: list[float], seed: int, epochs: list[int]) -> None:
    one = Resampling(np.array(factors))
    for epoch in epochs:  # another worker starts anew, in another epoch, and from the end
        other = Resampling(np.array(factors))
        expected = drawn(one, seed, epoch)
        assert [other.record_at(seed, epoch, i) for i in reversed(range(other.length))] == expected[::-1]
    with pytest.raises(IndexError):
        one.record_at(seed, 0, one.length)


def test_records_appear_as_often_as_their_factors_say_over_many_epochs() -> None:
    factors = 1 + 3 * stream(1).random(50)
    resampling = Resampling(factors)
    counts = sum(np.bincount(drawn(resampling, 3, epoch), minlength=50) for epoch in range(800)) / 800
    assert np.abs(counts - factors).max() < 0.08
    assert len({tuple(drawn(resampling, 3, epoch)) for epoch in range(10)}) > 5


@pytest.mark.parametrize("factors", [[], [0.0, 0.0], [1.0, -1.0], [np.nan], [np.inf, 1.0]])
def test_impossible_factors_are_refused(factors: list[float]) -> None:
    with pytest.raises(ValueError, match="factors"):
        Resampling(np.array(factors))


def test_starfish_of_the_aquarium_come_more_often(shared_data) -> None:
    names = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
    records = read_dataset(shared_data / "aquarium", names=names).records
    factors = balance_factors(records, 7, BalanceSettings(kind="repeat_factor", threshold=0.3), critical=[5, 6])
    sampled = np.array(drawn(Resampling(factors), 0, 0))
    for number in (5, 6):
        shows = np.array([number in record.classes for record in records])
        assert shows[sampled].sum() >= 2 * shows.sum() > 0
    counts = np.bincount(sampled, minlength=len(records))
    assert counts.min() == 1 and (counts[[not len(record.classes) for record in records]] == 1).all()
