"""Slices without matching again: equal to the subset, to the class, and close to COCO's sizes; every aggregation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_peer import coco_evaluation
from evaluation_cases import perturbed_detections, random_case, read_yolo_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import automatic_slices
from marauder.data.slices.sizes import SIZES
from marauder.evaluation.curves import confidence_curves
from marauder.evaluation.epoch import epoch_metrics
from marauder.evaluation.evaluate import evaluate
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import Metrics, aggregate, precision_at_recall
from marauder.evaluation.outcomes import picture_outcomes
from marauder.evaluation.picture_weights import picture_weights
from marauder.evaluation.reliability import calibrate
from marauder.evaluation.roc import presence_curves
from marauder.evaluation.slice_pairs import restrict

SEEDS = st.integers(0, 2**32 - 1)


def assert_same(first: Metrics, second: Metrics) -> None:
    """Every number of the two agrees, NaN with NaN."""
    for name in ("ap", "recall_reached", "recall_1", "recall_10", "boxes_of"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=0, atol=1e-12)
    for name in ("true", "false", "boxes"):
        np.testing.assert_array_equal(getattr(first.point, name), getattr(second.point, name))
    assert first.confidence == pytest.approx(second.confidence, abs=1e-12)
    assert (first.pictures, first.boxes, first.detections) == (second.pictures, second.boxes, second.detections)


def everything(records: list[Record]) -> np.ndarray:
    return np.ones(len(records), bool)


def flat_classes(records: list[Record]) -> np.ndarray:
    return np.concatenate([record.classes for record in records])


def flat_areas(records: list[Record]) -> np.ndarray:
    boxes = np.concatenate([record.boxes for record in records])
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def same_everywhere(first: Matches, second: Matches, pictures: np.ndarray) -> None:
    """Every aggregation of the two agrees; ``second`` has only the ``pictures`` (indices) of the first."""
    assert_same(aggregate(first), aggregate(second))
    np.testing.assert_allclose(precision_at_recall(first), precision_at_recall(second), atol=1e-12)
    curves = [confidence_curves(one, picture_weights(one, None, None)) for one in (first, second)]
    np.testing.assert_allclose(curves[0].f1, curves[1].f1, atol=1e-12)
    outcomes = picture_outcomes(first, 0.4)
    for place, alone in zip(pictures, picture_outcomes(second, 0.4), strict=True):
        assert outcomes[place].labelled == alone.labelled
        for name in ("right", "wrong", "found", "missed"):
            np.testing.assert_array_equal(getattr(outcomes[place], name), getattr(alone, name))
    assert not any(outcomes[place].labelled for place in set(range(first.pictures)) - set(pictures.tolist()))
    np.testing.assert_equal(calibrate(first, 0.4).to_json(), calibrate(second, 0.4).to_json())
    np.testing.assert_equal(
        [one.to_json() for one in presence_curves(first)], [one.to_json() for one in presence_curves(second)]
    )


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, count=st.sampled_from([1, 4]))
def test_a_slice_of_pictures_equals_evaluating_them_alone(seed: int, count: int) -> None:
    records, detections = random_case(seed, 10, count)
    names = [str(number) for number in range(count)]
    mask = np.random.default_rng(seed).random(len(records)) < 0.5
    if not mask.any():
        mask[0] = True
    chosen = np.flatnonzero(mask)
    sliced = restrict(match(records, detections, names), records, SliceMask("half", mask))
    alone = match([records[i] for i in chosen], [detections[i] for i in chosen], names)
    same_everywhere(sliced, alone, chosen)
    weights = np.random.default_rng(seed).integers(0, 3, len(records))
    assert_same(
        aggregate(sliced, confidence=0.5, weights=weights), aggregate(alone, confidence=0.5, weights=weights[chosen])
    )


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_a_slice_of_classes_equals_the_classes_alone(seed: int) -> None:
    """Detections and boxes of other classes might as well not be there."""
    records, detections = random_case(seed, 8, 3)
    chosen = np.isin(flat_classes(records), (0, 2)) if any(len(r.boxes) for r in records) else np.zeros(0, bool)
    mask = SliceMask("some", everything(records), chosen)
    matches = match(records, detections, "abc")
    present = {int(k) for r in records for k, ignored in zip(r.classes, r.ignored) if k != 1 and not ignored}
    only = [record.classes != 1 for record in records]
    bare = [
        replace(record, boxes=record.boxes[keep], classes=record.classes[keep], ignored=record.ignored[keep])
        for record, keep in zip(records, only, strict=True)
    ]
    found = []
    for one in detections:
        keep = np.isin(one.classes, list(present))
        found.append(Detections(one.boxes[keep], one.scores[keep], one.classes[keep]))
    sliced = restrict(matches, records, mask)
    alone = match(bare, found, "abc")
    assert_same(aggregate(sliced, confidence=0.4), aggregate(alone, confidence=0.4))
    np.testing.assert_equal(calibrate(sliced, 0.4).to_json(), calibrate(alone, 0.4).to_json())
    whole = aggregate(matches)
    for index in present:
        np.testing.assert_array_equal(aggregate(sliced).ap[:, :, index], whole.ap[:, :, index])
    assert np.isnan(aggregate(sliced).ap[:, :, 1]).all()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_fast_ways_of_evaluate_equal_restricting(seed: int) -> None:
    records, detections = random_case(seed, 10, 3)
    random = np.random.default_rng(seed)
    classes = np.concatenate([np.zeros(0, np.int64), *(record.classes for record in records)])
    pictures = random.random(len(records)) < 0.6
    masks = [
        SliceMask("pictures", pictures),
        SliceMask("class", everything(records), classes == 1),
        SliceMask("two classes of some pictures", pictures, classes != 0),
        SliceMask("any boxes", pictures, random.random(len(classes)) < 0.5),
        SliceMask("small", everything(records), flat_areas(records) <= 1024, (0.0, 1024.0)),
        SliceMask("nothing", np.zeros(len(records), bool)),
        SliceMask("no boxes", everything(records), np.zeros(len(classes), bool)),
    ]
    result = evaluate(records, detections, "abc", masks)
    assert [mask.name for mask in result.masks] == list(result.slices)
    for mask in masks:
        sliced = result.slice_matches(mask.name)
        assert result.slice_matches(mask.name) is sliced
        assert_same(result.slices[mask.name], aggregate(sliced, confidence=result.overall.confidence))
    for value in epoch_metrics(result).values():
        assert 0 <= value <= 1


def test_boxes_that_do_not_count_excuse_what_lies_on_them() -> None:
    near, far = [0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 80.0, 80.0]
    record = Record("a", Path("a"), 100, 100, boxes=[near, far], classes=[0, 0])
    ghost, large = [30.0, 0.0, 40.0, 10.0], [0.0, 40.0, 45.0, 95.0]
    found = Detections([near, far, ghost, large], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])
    matches = match([record], [found], ["fish"])
    whole = aggregate(matches, confidence=0.5).point
    assert (int(whole.true[0]), int(whole.false[0]), int(whole.missed[0])) == (2, 2, 0)
    one = SliceMask("near", np.array([True]), np.array([True, False]))
    point = aggregate(restrict(matches, [record], one), confidence=0.5).point
    assert (int(point.true[0]), int(point.false[0]), int(point.missed[0])) == (1, 2, 0)
    small = replace(one, area=(0.0, 1024.0))  # the large false detection is no false small one
    restricted = restrict(matches, [record], small)
    point = aggregate(restricted, confidence=0.5).point
    assert (int(point.true[0]), int(point.false[0]), int(point.missed[0])) == (1, 1, 0)
    (outcome,) = picture_outcomes(restricted, 0.5)
    assert (outcome.right.tolist(), outcome.wrong.tolist(), outcome.found.tolist()) == ([0], [2], [0])


def assert_near_coco(records: list[Record], detections: list[Detections], count: int, most: float) -> float:
    """The largest difference in mAP50-95 of a size; COCO pairs anew for each size, we excuse."""
    names = [str(number) for number in range(count)]
    areas = flat_areas(records)
    masks = [
        SliceMask(name, everything(records), (areas >= low) & (areas <= high), (low, high))
        for name, (low, high) in SIZES.items()
    ]
    result = evaluate(records, detections, names, masks)
    peer = coco_evaluation(records, detections, count).stats[3:6]
    ours = [result.slices[name].map50_95 for name in SIZES]
    counts = [[result.slices[name].boxes, int(result.overall.boxes_of[i + 1].sum())] for i, name in enumerate(SIZES)]
    assert all(one == other for one, other in counts)
    assert all(np.isnan(our) == (theirs < 0) for our, theirs in zip(ours, peer, strict=True))
    differences = [abs(our - theirs) for our, theirs in zip(ours, peer, strict=True) if theirs >= 0]
    largest = max(differences, default=0.0)
    assert largest <= most, (ours, peer)
    return largest


@pytest.mark.parametrize(("folder", "count"), [("aquarium", 7), ("deepfish", 1)])
def test_sizes_are_near_coco_on_real_labels(shared_data: Path, folder: str, count: int) -> None:
    records = read_yolo_labels(shared_data / folder, limit=400)
    assert_near_coco(records, perturbed_detections(records, count), count, most=1e-5)


def test_sizes_equal_coco_where_boxes_stand_apart() -> None:
    """Excusing differs only where a detection overlaps boxes of two sizes by half or more."""
    records, detections = [], []
    random = np.random.default_rng(0)
    for index in range(60):
        corner = np.array([[0, 0], [150, 0], [0, 150], [150, 150]], np.float64)
        size = random.choice([20.0, 32.0, 60.0, 96.0, 120.0], (4, 1)) * random.choice([1.0, 0.9], (4, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        records.append(Record(str(index), Path(str(index)), 300, 300, boxes, random.integers(0, 2, 4)))
        shift = random.normal(0, 0.06, (4, 4)) * np.tile(size, 2)
        detections.append(Detections(boxes + shift, random.random(4), records[-1].classes))
    assert assert_near_coco(records, detections, 2, most=1e-9) <= 1e-9


def test_slices_of_a_run_and_numbers_of_an_epoch(shared_data: Path) -> None:
    records = read_yolo_labels(shared_data / "aquarium")
    records = [replace(r, attributes={"clip": "video" if "MOV" in r.key else "photo"}) for r in records]
    names = ["fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"]
    masks = automatic_slices(records, names)
    result = evaluate(records, perturbed_detections(records, 7), names, masks)
    assert {"clip=photo", "clip=video", "size=small", "class=fish"} <= set(result.slices)
    numbers = epoch_metrics(result)
    assert numbers["map50"] == result.overall.map50
    assert numbers["ap50/fish"] == result.overall.per_class[0]["ap50"] == numbers["slice/class=fish/map50"]
    assert numbers["size/small"] == result.overall.map_small
    assert numbers["slice/clip=video/recall"] == result.slices["clip=video"].recall
    assert {"d_ece", "la_ece", "lrp", "precision", "recall", "f1", "map50_95"} <= set(numbers)
    assert "d_ece" not in epoch_metrics(result, calibration=False)
    empty = evaluate(records[:1], [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))], names)
    assert "precision" not in epoch_metrics(empty)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (SliceMask("bad", np.ones(2, bool)), "slice 'bad': pictures are a boolean mask over 1 pictures"),
        (SliceMask("bad", np.ones(1, bool), np.ones(1, bool)), "slice 'bad': boxes are a boolean mask over 2 boxes"),
    ],
)
def test_masks_of_another_shape_are_refused(mask: SliceMask, message: str) -> None:
    record = Record("a", Path("a"), 9, 9, boxes=[[0, 0, 1, 1]] * 2, classes=[0, 0])
    matches = match([record], [Detections([], [], [])], "a")
    with pytest.raises(ValueError, match=message):
        restrict(matches, [record], mask)


def test_two_slices_of_one_name_are_refused() -> None:
    record = Record("a", Path("a"), 9, 9)
    masks = [SliceMask("same", np.ones(1, bool))] * 2
    with pytest.raises(ValueError, match="two slices of one name: same"):
        evaluate([record], [Detections([], [], [])], "a", masks)
