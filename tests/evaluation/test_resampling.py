"""Resampling many draws at once against aggregating each draw: the same numbers, for every metric it offers."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_cases import perturbed_detections, random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.randomness import stream
from marauder.data.slices.mask import SliceMask
from marauder.evaluation import resampling
from marauder.evaluation.group_draws import Draws, draw_groups, draw_names
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.resampling import METRICS, resample
from marauder.evaluation.slice_pairs import restrict


def each_picture_once(pictures: int) -> Draws:
    return Draws(np.arange(pictures), np.ones((pictures, 1), np.int32))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.3, 0.7, 1.0]), at_once=st.sampled_from([1, 400_000]))
def test_every_metric_equals_aggregating_each_draw(seed: int, share: float, at_once: int) -> None:
    records, detections = random_case(seed, pictures=9, most_boxes=6, most_detections=12)
    random = np.random.default_rng(seed)
    boxes = random.random(sum(len(record.boxes) for record in records)) < share
    mask = SliceMask("some", random.random(len(records)) < share, boxes if seed % 2 else None)
    matches = restrict(match(records, detections, "abc"), records, mask)
    draws = draw_groups(records, 11, seed)
    before, resampling.NUMBERS_AT_ONCE = resampling.NUMBERS_AT_ONCE, at_once
    try:
        found = {metric: resample(matches, draws, metric, confidence=0.4) for metric in METRICS}
    finally:
        resampling.NUMBERS_AT_ONCE = before
    for draw in range(draws.number):
        expected = aggregate(matches, confidence=0.4, weights=draws.weights(draw))
        for metric in METRICS:
            np.testing.assert_allclose(found[metric][draw], getattr(expected, metric), rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_at_weight_one_it_is_the_metric_itself(seed: int) -> None:
    records, detections = random_case(seed)
    matches = match(records, detections, "abc")
    for metric in METRICS:
        value = resample(matches, each_picture_once(len(records)), metric, confidence=0.5)
        np.testing.assert_allclose(value, [getattr(aggregate(matches, confidence=0.5), metric)], rtol=0, atol=1e-12)


def test_unlabelled_pictures_are_never_drawn_and_their_groups_neither() -> None:
    from dataclasses import replace

    records, _ = random_case(3, pictures=8)
    records = [replace(record, labelled=index % 4 != 0) for index, record in enumerate(records)]  # the whole of clip0
    draws = draw_groups(records, 50, seed=1)
    assert draws.counts.shape == (3, 50)
    assert (draws.counts.sum(axis=0) == 3).all()
    matches = match(records, perturbed_detections(records, 3), "abc")
    assert not any(draws.weights(number)[~matches.counted].any() for number in range(50))
    assert np.isfinite(resample(matches, draws, "map50")).all()


def test_pictures_without_any_box_give_nothing_to_measure() -> None:
    records, _ = random_case(1, pictures=4, most_boxes=0)
    matches = match(records, perturbed_detections(records, 3), "abc")
    assert np.isnan(resample(matches, draw_groups(records, 5, 0), "map50_95")).all()
    assert np.isnan(resample(matches, draw_groups(records, 5, 0), "recall", confidence=0.1)).all()


def test_other_metrics_and_a_missing_confidence_are_refused() -> None:
    records, detections = random_case(1)
    matches = match(records, detections, "abc")
    with pytest.raises(ValueError, match="no metric named 'accuracy'"):
        resample(matches, draw_groups(records, 2, 0), "accuracy")
    with pytest.raises(ValueError, match="give the confidence"):
        resample(matches, draw_groups(records, 2, 0), "recall")


def test_draws_are_those_of_the_generators_one_after_the_other() -> None:
    names = [f"clip {number % 7}" for number in range(30)]
    once = stream(3, "one for all")
    drawn = draw_names(names, 40, lambda draw: once)
    expected = stream(3, "one for all").integers(0, 7, (40, 7))
    np.testing.assert_array_equal(drawn.counts, np.stack([np.bincount(row, minlength=7) for row in expected], axis=1))
    weights = drawn.weights_from_original()
    assert (weights[:, 0] == 1).all() and weights.shape == (30, 41)
    for draw in (0, 17, 39):
        np.testing.assert_array_equal(weights[:, 1 + draw], drawn.weights(draw))
    assert draw_names([], 40, lambda draw: once).weights_from_original().shape == (0, 41)
