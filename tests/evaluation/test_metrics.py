"""The metrics equal pycocotools on random and on real cases, and Ultralytics' curves; slices equal evaluating apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from coco_peer import coco_evaluation
from evaluation_cases import perturbed_detections, random_case, read_yolo_labels, with_ignored
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.files import to_plain
from marauder.data.records import Detections, Record
from marauder.evaluation.evaluate import attribute_slices, evaluate
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import Metrics, aggregate

STATS = (
    "map50_95", "map50", "map75", "map_small", "map_medium", "map_large",
    "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip


def assert_equals_coco(records: list[Record], detections: list[Detections], count: int) -> Metrics:
    """Compare all twelve numbers and every cell of the tables behind them."""
    metrics = aggregate(match(records, detections, [str(number) for number in range(count)]))
    peer = coco_evaluation(records, detections, count)
    ours = np.array([getattr(metrics, name) for name in STATS])
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1.0), peer.stats, rtol=0, atol=1e-9)
    precision = peer.eval["precision"][..., 2]  # T, R, K, A
    expected = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1)).transpose(2, 0, 1)
    np.testing.assert_allclose(metrics.ap, expected, rtol=0, atol=1e-9)
    recall = peer.eval["recall"][..., 2].transpose(2, 0, 1)
    np.testing.assert_allclose(metrics.recall_reached, np.where(recall < 0, np.nan, recall), rtol=0, atol=1e-9)
    return metrics


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pictures=st.integers(1, 8),
    count=st.sampled_from([1, 2, 3, 40]),
    most_boxes=st.sampled_from([0, 1, 4, 12]),
    most_detections=st.sampled_from([0, 3, 30]),
    crowds=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    steps=st.sampled_from([3, 12]),
)
def test_equal_to_pycocotools_on_random_cases(
    seed: int, pictures: int, count: int, most_boxes: int, most_detections: int, crowds: float, steps: int
) -> None:
    assert_equals_coco(*random_case(seed, pictures, count, most_boxes, most_detections, crowds, steps), count=count)


def test_equal_to_pycocotools_beyond_a_hundred_detections_of_a_class() -> None:
    metrics = assert_equals_coco(*random_case(3, 5, 1, 40, 400, 0.1, 12), count=1)
    assert metrics.detections < 500  # of each picture and class only a hundred take part


@pytest.mark.parametrize(("folder", "count"), [("aquarium", 7), ("deepfish", 1)])
def test_equal_to_pycocotools_on_real_labels(shared_data: Path, folder: str, count: int) -> None:
    records = read_yolo_labels(shared_data / folder, limit=400)
    detections = perturbed_detections(records, count)
    metrics = assert_equals_coco(records, detections, count)
    assert 0.1 < metrics.map50 < 0.95
    assert_equals_coco(with_ignored(records, 0.1), detections, count)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([1, 4]))
def test_a_slice_equals_evaluating_its_pictures_alone(seed: int, count: int) -> None:
    records, detections = random_case(seed, 10, count)
    names = [str(number) for number in range(count)]
    mask = np.random.default_rng(seed).random(len(records)) < 0.5
    chosen = np.flatnonzero(mask)
    sliced = aggregate(match(records, detections, names), mask)
    alone = aggregate(match([records[i] for i in chosen], [detections[i] for i in chosen], names))
    assert_same(sliced, alone)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_weights_equal_repeating_pictures(seed: int) -> None:
    records, detections = random_case(seed, 8, 2)
    # Equal scores of different pictures may come in either order, so scores are made distinct.
    random = np.random.default_rng(seed)
    detections = [
        Detections(found.boxes, np.sort(random.random(len(found)))[::-1], found.classes) for found in detections
    ]
    weights = random.integers(0, 4, len(records))
    repeated = np.repeat(np.arange(len(records)), weights)
    weighted = aggregate(match(records, detections, "ab"), confidence=0.5, weights=weights)
    apart = match([records[i] for i in repeated], [detections[i] for i in repeated], "ab")
    assert_same(weighted, aggregate(apart, confidence=0.5))


def assert_same(first: Metrics, second: Metrics) -> None:
    """Every number of the two agrees, NaN with NaN."""
    for name in ("ap", "recall_reached", "recall_1", "recall_10", "boxes_of"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=0, atol=1e-12)
    assert first.confidence == pytest.approx(second.confidence, abs=1e-12)
    for name in ("true", "false", "boxes"):
        np.testing.assert_array_equal(getattr(first.point, name), getattr(second.point, name))
    assert (first.pictures, first.boxes, first.detections) == (second.pictures, second.boxes, second.detections)


def test_perfect_detections_score_one_everywhere() -> None:
    records, _ = random_case(5, 12, 3, crowds=0.0, steps=40)
    detections = [Detections(r.boxes, np.full(len(r.boxes), 0.9), r.classes) for r in records]
    overall = evaluate(records, detections, "abc").overall
    for name in ("map50", "map50_95", "precision", "recall", "f1", "ar_100"):
        assert getattr(overall, name) == pytest.approx(1.0), name


def test_nothing_detected_scores_zero_and_nothing_to_find_is_undefined() -> None:
    records, _ = random_case(5, 12, 3, crowds=0.0)
    nothing = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))] * len(records)
    overall = evaluate(records, nothing, "abcd").overall
    assert overall.map50 == overall.recall == overall.f1 == 0.0
    assert math.isnan(overall.precision)
    assert math.isnan(overall.per_class[3]["ap50"])
    assert overall.per_class[3]["n_boxes"] == 0
    empty = evaluate([], [], "a").overall
    assert math.isnan(empty.map50)
    assert to_plain(empty.to_json())["map50"] is None


def test_counts_at_a_confidence_are_those_of_the_pairs() -> None:
    box = [[0, 0, 10, 10]]
    record = Record("a", Path("a"), 50, 50, boxes=[*box, [20, 20, 30, 30]], classes=[0, 0])
    found = Detections([*box, [0, 0, 10, 9], [40, 40, 50, 50]], [0.9, 0.6, 0.3], [0, 0, 0])
    matches = match([record], [found], ["fish"])
    at = {level: aggregate(matches, confidence=level).point for level in (0.2, 0.5, 0.6, 0.95)}
    assert [(int(p.true[0]), int(p.false[0]), int(p.missed[0])) for p in at.values()] == [
        (1, 2, 1),
        (1, 1, 1),
        (1, 1, 1),
        (0, 0, 2),
    ]


def test_curves_and_best_confidence_equal_ultralytics(shared_data: Path) -> None:
    peer = pytest.importorskip("ultralytics.utils.metrics", reason="needs ultralytics").ap_per_class
    from marauder.evaluation.curves import confidence_curves

    records = read_yolo_labels(shared_data / "aquarium", limit=200)
    random = np.random.default_rng(0)
    detections = [
        Detections(found.boxes, random.random(len(found)), found.classes)  # distinct, as its sort is not stable
        for found in perturbed_detections(records, 7)
    ]
    matches = match(records, detections, [str(number) for number in range(7)])
    paired = matches.pair_segment < 7
    right = np.zeros((len(matches.detection_score), 1), bool)
    right[matches.pair_detection[paired & matches.pair_true], 0] = True
    *_, precision, recall, f1, grid, _ = peer(
        right, matches.detection_score, matches.detection_class, matches.box_class
    )
    curves = confidence_curves(matches, np.ones(len(records), np.int32))
    np.testing.assert_allclose(curves.precision, precision, atol=1e-12)
    np.testing.assert_allclose(curves.recall, recall, atol=1e-12)
    np.testing.assert_allclose(curves.f1, f1, atol=1e-12)
    result = aggregate(matches, least_confidence=0.0)
    index = int(np.flatnonzero(grid == result.confidence)[0])
    from ultralytics.utils.metrics import smooth

    assert index == smooth(f1.mean(0), 0.1).argmax()
    np.testing.assert_allclose(result.point.f1[curves.classes], f1[:, index], atol=0.02)  # they interpolate
    # These scores say nothing, so the best F1 lies where everything counts: too low to run a detector at.
    assert result.confidence < 0.05 <= aggregate(matches).confidence < 0.06


@pytest.mark.parametrize("least", [0.0, 0.05, 0.3, 0.9])
def test_the_operating_point_is_the_best_of_those_that_are_high_enough(least: float) -> None:
    records, detections = random_case(3, 30, 3)
    matches = match(records, detections, "abc")
    free, found = aggregate(matches, least_confidence=0.0).confidence, aggregate(matches, least_confidence=least)
    assert found.confidence >= least
    assert free < least or found.confidence == free, "a floor below the best point changes nothing"
    assert evaluate(records, detections, "abc", least_confidence=least).overall.confidence == found.confidence


def test_pictures_nobody_labelled_take_no_part() -> None:
    records, detections = random_case(11, 6, 2, crowds=0.0)
    unlabelled = Record("x", Path("x"), 400, 400, labelled=False)
    ghosts = Detections([[0, 0, 50, 50]] * 20, np.full(20, 0.99), [0] * 20)
    with_it = evaluate([unlabelled, *records], [ghosts, *detections], "ab").overall
    assert_same(with_it, evaluate(records, detections, "ab").overall)


def test_attribute_slices_partition_and_leave_out_small_ones() -> None:
    records, detections = random_case(2, 40, 2)
    slices = attribute_slices(records, minimum=10)
    assert {"site=reef", "site=wreck"} < set(slices)
    depth = [name for name in slices if name.startswith("depth=")]
    assert len(depth) == 4  # forty values: cut at the quartiles
    assert np.array_equal(np.sum([slices[name] for name in depth], axis=0), np.ones(40))
    assert attribute_slices(records, minimum=21) == {}
    result = evaluate(records, detections, "ab", {**slices, "deep": lambda record: record.attributes["depth"] > 30})
    assert result.slices["site=reef"].pictures == 20
    assert result.slices["deep"].pictures == 9
    assert result.slices["deep"].confidence == result.overall.confidence
    plain = to_plain(result.to_json())
    assert plain["slices"]["site=reef"]["per_class"][0]["name"] == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detections": []}, "1 records, but detections for 0"),
        ({"detections": [Detections([[0, 0, 1, 1]], [0.5], [7])]}, "has class 7, there are 1 names"),
        ({"detections": [Detections([[0, 0, 1, np.nan]], [0.5], [0])]}, "key: a detection is not made of finite"),
        ({"detections": [Detections([[0, 0, 1, 1]], [np.inf], [0])]}, "key: a detection is not made of finite"),
        ({"slices": {"bad": np.ones(3, bool)}}, "boolean mask over 1 pictures"),
        ({"slices": {"bad": np.ones(1, int)}}, "boolean mask"),
    ],
)
def test_input_that_cannot_be_evaluated_is_named(change: dict, message: str) -> None:
    arguments = {
        "records": [Record("key", Path("a"), 9, 9)],
        "detections": [Detections([[0, 0, 1, 1]], [0.5], [0])],
        "names": ["fish"],
    }
    with pytest.raises(ValueError, match=message):
        evaluate(**{**arguments, **change})
