"""Comparing two detectors: aggregate's numbers, pairing that helps, many looks paid for, small slices that abstain."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import perturbed_detections
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.comparison import Statistic, adjusted_p_values, compare
from marauder.evaluation.group_draws import draw_groups
from marauder.evaluation.intervals import OVERALL, bootstrap, intervals_by_slice
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.slice_pairs import restrict

NAMES = "ab"


def reef(pictures: int = 240, frames: int = 4) -> list[Record]:
    """Pictures with a few boxes each, ``frames`` of them a clip."""
    random = np.random.default_rng(5)
    records = []
    for index in range(pictures):
        corner = random.random((4, 2)) * 300
        boxes = np.concatenate([corner, corner + 30 + random.random((4, 2)) * 60], axis=1)
        kinds = random.integers(0, 2, 4)
        clip = f"clip{index // frames}"
        records.append(Record(str(index), Path(f"{index}.jpg"), 400, 400, boxes, kinds, group=clip))
    return records


def nudged(found: list[Detections], seed: int) -> list[Detections]:
    """The same detector trained again: scores that differ a little."""
    random = np.random.default_rng(seed)
    moved = []
    for one in found:
        scores = np.clip(one.scores + random.normal(0, 0.03, len(one)), 0.01, 0.99)
        moved.append(Detections(one.boxes, scores, one.classes))
    return moved


def missing_some(found: list[Detections], where: np.ndarray, share: float) -> list[Detections]:
    """The same detections without a share of them in some pictures."""
    random = np.random.default_rng(9)
    return [
        Detections(one.boxes[kept], one.scores[kept], one.classes[kept])
        for one, chosen in zip(found, where)
        for kept in [(random.random(len(one)) >= share) | ~chosen]
    ]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return reef()


@pytest.fixture(scope="module")
def masks(records: list[Record]) -> list[SliceMask]:
    place = np.arange(len(records)) * 4 // len(records)
    masks = [SliceMask(f"quarter{one}", place == one, protected=one < 2) for one in range(4)]
    classes = np.concatenate([record.classes for record in records])
    return [*masks, SliceMask("class a", np.ones(len(records), bool), classes == 0)]


@pytest.fixture(scope="module")
def found(records: list[Record]) -> list[Detections]:
    return perturbed_detections(records, 2)


@pytest.fixture(scope="module")
def production(records: list[Record], found: list[Detections]) -> Matches:
    return match(records, found, NAMES)


def test_a_planted_loss_is_found_where_it_is_and_nowhere_else(
    records: list[Record], masks: list[SliceMask], found: list[Detections], production: Matches
) -> None:
    worse = match(records, nudged(missing_some(found, masks[0].pictures, 0.15), 1), NAMES)
    result = compare(worse, production, records, masks, draws=500)
    names = [one.name for one in result.everything]
    assert names == [OVERALL, "quarter0", "quarter1", "quarter2", "quarter3", "class a"]
    planted, *others = result.slices
    assert planted.delta < -0.05
    assert planted.high < 0
    assert planted.p_protected is not None and planted.p_protected < 0.01
    assert planted.p_all < 0.01
    assert all(one.p_all > 0.05 for one in others[:3])
    assert [one.p_protected is None for one in result.everything] == [False, False, False, True, True, True]
    assert all(one.enough and one.p <= one.p_all for one in result.everything)


def test_values_are_those_of_aggregate_on_the_restricted_matches(
    records: list[Record], masks: list[SliceMask], found: list[Detections], production: Matches
) -> None:
    candidate = match(records, nudged(found, 2), NAMES)
    for metric in ("map50", "map50_95", "recall"):
        result = compare(candidate, production, records, masks, metric, draws=20)
        for one, mask in zip(result.slices, masks):
            values = [
                getattr(aggregate(restrict(matches, records, mask), confidence=aggregate(matches).confidence), metric)
                for matches in (candidate, production)
            ]
            assert (one.candidate, one.production) == tuple(values)
            assert one.delta == values[0] - values[1]
    assert result.slices[0].pictures == 60
    assert result.slices[0].groups == 15
    assert result.slices[0].effective_groups == pytest.approx(15)
    assert result.slices[4].boxes == int(masks[4].boxes.sum()) if masks[4].boxes is not None else False


def test_both_detectors_are_drawn_alike(
    records: list[Record], found: list[Detections], production: Matches, masks: list[SliceMask]
) -> None:
    """The error of the difference is that of the same draws, one by one, and far smaller than of separate draws."""
    candidate = match(records, nudged(found, 3), NAMES)
    result = compare(candidate, production, records, masks[:1], draws=80, seed=4)
    drawn = draw_groups(records, 80, seed=4)
    deltas = [
        aggregate(candidate, weights=drawn.weights(draw)).map50
        - aggregate(production, weights=drawn.weights(draw)).map50
        for draw in range(80)
    ]
    assert result.overall.error == pytest.approx(np.std(deltas) * math.sqrt(60 / 59), abs=1e-12)
    assert (result.overall.low, result.overall.high) == pytest.approx(tuple(np.quantile(deltas, (0.025, 0.975))))
    alone = bootstrap(production, records, draws=80)
    assert (result.overall.high - result.overall.low) < 0.5 * (alone.high - alone.low)


def test_the_same_detector_twice_is_no_loss(records: list[Record], production: Matches, masks: list[SliceMask]) -> None:
    result = compare(production, production, records, masks, draws=50)
    assert all((one.delta, one.p, one.p_all) == (0.0, 1.0, 1.0) for one in result.everything)
    assert result == compare(production, production, records, masks, draws=50)


def test_an_equal_loss_in_every_draw_is_sure(records: list[Record], masks: list[SliceMask]) -> None:
    perfect = match(records, [Detections(one.boxes, np.full(4, 0.9), one.classes) for one in records], NAMES)
    nothing = match(records, [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))] * len(records), NAMES)
    result = compare(nothing, perfect, records, masks, draws=99)
    assert (result.overall.delta, result.overall.error, result.overall.p_all) == (-1.0, 0.0, 0.01)


def test_a_margin_is_tolerated(
    records: list[Record], masks: list[SliceMask], found: list[Detections], production: Matches
) -> None:
    worse = match(records, missing_some(found, masks[0].pictures, 0.15), NAMES)
    strict, lenient = (
        compare(worse, production, records, masks, draws=200, margin=margin).slices[0] for margin in (0.0, 0.2)
    )
    assert strict.p_all < 0.01
    assert lenient.p_all > 0.5
    assert strict.delta == lenient.delta


def test_slices_with_too_little_take_no_part(
    records: list[Record], masks: list[SliceMask], found: list[Detections], production: Matches
) -> None:
    worse = match(records, nudged(missing_some(found, masks[0].pictures, 0.15), 1), NAMES)
    few_groups = SliceMask("few", np.arange(len(records)) < 12, protected=True)
    empty = SliceMask("empty", np.zeros(len(records), bool), protected=True)
    with_them = compare(worse, production, records, [*masks, few_groups, empty], draws=100)
    without = compare(worse, production, records, masks, draws=100)
    assert with_them.everything[:6] == without.everything
    for one in with_them.slices[5:]:
        assert not one.enough
        assert all(math.isnan(value) for value in (one.error, one.p, one.p_all, one.p_protected or 0.0))
    assert with_them.slices[5].groups == 3
    assert math.isnan(with_them.slices[6].delta)
    assert compare(worse, production, records, masks, draws=100, least_boxes=500).overall.enough
    assert not any(one.enough for one in compare(worse, production, records, masks, draws=9, least_boxes=500).slices)


def test_with_few_groups_the_p_value_is_that_of_a_t_statistic(found: list[Detections]) -> None:
    """Near normal differences: p follows Student's distribution with as many degrees of freedom as groups less one."""
    stats = pytest.importorskip("scipy.stats")
    records = reef(240, frames=24)  # ten clips
    first, second = match(records, found, NAMES), match(records, nudged(found, 3), NAMES)
    for candidate, production in ((first, second), (second, first)):
        one = compare(candidate, production, records, [], draws=6000).overall
        assert one.groups == 10
        expected = stats.t.cdf(one.delta / one.error, one.effective_groups - 1)
        assert one.p == pytest.approx(expected, abs=0.03)


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_adjusted_p_values_follow_the_definition(count: int, seed: int) -> None:
    """Step-down, by loops: judge the smallest by the minimum of those that are left; never surer than one before."""
    random = np.random.default_rng(seed)
    tests = [
        Statistic(float(np.round(random.normal(-1), 1)), np.round(random.normal(size=40), 1)) for _ in range(count)
    ]
    left = sorted(range(count), key=lambda index: tests[index].value)
    expected, floor = {}, 0.0
    while left:
        smaller = 0
        for draw in range(40):
            smaller += min(tests[index].null[draw] for index in left) <= tests[left[0]].value
        floor = max(floor, (1 + smaller) / 41)
        expected[left.pop(0)] = floor
    adjusted = adjusted_p_values(tests)
    assert adjusted.tolist() == [expected[index] for index in range(count)]
    assert all(value >= test.p for value, test in zip(adjusted, tests))
    if count == 1:
        assert adjusted[0] == tests[0].p


def test_detectors_of_other_pictures_or_classes_are_refused(records: list[Record], production: Matches) -> None:
    fewer = match(records[:10], perturbed_detections(records[:10], 2), NAMES)
    unlabelled = match([replace(records[0], labelled=False), *records[1:]], perturbed_detections(records, 2), NAMES)
    renamed = replace(production, names=("a", "c"))
    for other in (fewer, unlabelled, renamed):
        with pytest.raises(ValueError, match="the same pictures and the same classes"):
            compare(other, production, records, [])
    with pytest.raises(ValueError, match="no metric named 'accuracy'"):
        compare(production, production, records, [], "accuracy")


def test_intervals_of_all_slices_from_the_same_draws(
    records: list[Record], masks: list[SliceMask], production: Matches
) -> None:
    intervals = intervals_by_slice(production, records, masks, draws=60)
    assert list(intervals) == [OVERALL, *(mask.name for mask in masks)]
    assert intervals[OVERALL] == bootstrap(production, records, draws=60)
    drawn = draw_groups(records, 60, seed=0)
    part = restrict(production, records, masks[1])
    values = [aggregate(part, weights=drawn.weights(draw)).map50 for draw in range(60)]
    found = intervals["quarter1"]
    assert found.value == aggregate(part).map50
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=1e-12)
    assert (found.groups, found.draws, found.level) == (15, 60, 0.95)
