"""The probe's verdict: yes for features that know the class, no for worse ones, unclear for equal ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.evaluation.probe import (
    STRENGTHS,
    _ridge,
    assign_folds,
    average_precision,
    compare_probes,
    held_out_scores,
)

NAMES = ("fish", "ray", "starfish", "background")


def labels(groups: int = 40, each: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes and groups of crops; the third class is rare."""
    random = np.random.default_rng(seed)
    return random.choice(4, groups * each, p=(0.4, 0.2, 0.1, 0.3)), np.repeat([f"g{i}" for i in range(groups)], each)


def knowing(classes: np.ndarray, how_much: float, seed: int = 1) -> np.ndarray:
    """Features of noise, in which the class shows as a shift of ``how_much``."""
    random = np.random.default_rng(seed)
    return random.normal(size=(len(classes), 12)) + how_much * np.eye(4, 12)[classes]


def test_better_features_say_yes_and_worse_ones_no() -> None:
    classes, groups = labels()
    poor, good = knowing(classes, 0.3), knowing(classes, 2.0, seed=2)
    result = compare_probes(poor, good, classes, groups, NAMES)
    assert result.verdict == "yes"
    assert 0 < result.low < result.gain < result.high
    assert result.gain == pytest.approx(result.after - result.before)
    assert set(result.by_class) == set(NAMES)
    back = compare_probes(good, poor, classes, groups, NAMES)
    assert back.verdict == "no"
    assert (back.gain, back.low, back.high) == pytest.approx((-result.gain, -result.high, -result.low))


def test_equal_features_are_unclear() -> None:
    classes, groups = labels()
    one = knowing(classes, 1.0)
    assert compare_probes(one, one, classes, groups, NAMES).verdict == "unclear"
    assert compare_probes(one, one, classes, groups, NAMES).gain == 0
    verdicts = [
        compare_probes(knowing(classes, 1.0, 10 + i), knowing(classes, 1.0, 50 + i), classes, groups, NAMES).verdict
        for i in range(20)
    ]
    assert verdicts.count("unclear") >= 16  # 95 % intervals, and noise that is drawn twice


def test_one_clip_that_is_all_alike_does_not_make_it_sure() -> None:
    """A gain that comes from one group of many crops is not a sure gain."""
    classes, groups = labels(groups=8, each=4)
    classes = np.concatenate([classes, np.full(60, 1)])
    groups = np.concatenate([groups, np.full(60, "big")])
    before = knowing(classes, 0.5)
    after = before.copy()
    after[groups == "big", 0] += 1.0
    assert compare_probes(before, after, classes, groups, NAMES).verdict == "unclear"


def test_scale_and_dead_dimensions_do_not_matter() -> None:
    classes, groups = labels()
    one = knowing(classes, 1.0)
    other = np.concatenate([one * np.geomspace(1e-3, 1e3, 12), np.full((len(one), 3), 7.0)], axis=1)
    result = compare_probes(one, other, classes, groups, NAMES)
    assert result.gain == pytest.approx(0, abs=1e-9)


def test_clips_are_not_learned_by_heart() -> None:
    """Features that name the clip, and a class that comes with the clip: nothing is gained on clips not seen."""
    classes, groups = labels(groups=24, each=8)
    classes = np.repeat(np.arange(24) % 4, 8)
    by_clip = np.eye(24)[np.repeat(np.arange(24), 8)]
    noise = np.random.default_rng(0).normal(size=(len(classes), 24))
    assert compare_probes(noise, by_clip, classes, groups, NAMES).verdict != "yes"


def test_crops_that_could_not_be_read_are_left_out() -> None:
    classes, groups = labels()
    one, other = knowing(classes, 0.3), knowing(classes, 2.0)
    one[3] = np.nan
    other[5] = np.nan
    left = np.delete(np.arange(len(classes)), [3, 5])
    result = compare_probes(one, other, classes, groups, NAMES)
    assert result == compare_probes(one[left], other[left], classes[left], groups[left], NAMES)
    assert result.crops == len(classes) - 2


@pytest.mark.parametrize("rows", [0, 8])
def test_too_little_to_tell(rows: int) -> None:
    classes, groups = labels()
    features = knowing(classes, 2.0)
    result = compare_probes(features[:rows], features[:rows], classes[:rows], groups[:rows], NAMES)
    assert result.verdict == "unclear"
    assert "too little is labelled" in result.why


def test_average_precision_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    for _ in range(20):
        scores = random.integers(0, 12, 60) / 3
        positive = random.random(60) < 0.3
        times = random.integers(0, 4, (60, 5))
        ours = average_precision(scores, positive, times)
        theirs = [metrics.average_precision_score(positive, scores, sample_weight=times[:, i]) for i in range(5)]
        np.testing.assert_allclose(ours, theirs)
    assert np.isnan(average_precision(scores, np.zeros(60, bool), times)).all()


def test_ridge_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    classes, _ = labels(10)
    features, others = knowing(classes, 1.0), knowing(classes, 1.0, 3)
    scaled, ahead = ((x - features.mean(0)) / features.std(0) for x in (features, others))
    targets = np.stack([classes == k for k in range(3)], axis=1).astype(float)
    label = np.concatenate([targets, 1 - targets.sum(1, keepdims=True)], axis=1)
    weight = (label / label.sum(0)).sum(1)
    found = _ridge(features, targets, others)
    for number, strength in enumerate(STRENGTHS):
        model = linear.Ridge(alpha=strength).fit(scaled, targets, sample_weight=weight / weight.sum())
        np.testing.assert_allclose(found[number], model.predict(ahead), atol=1e-8)


@given(st.integers(5, 30), st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_folds_keep_groups_whole(groups: int, folds: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), random.integers(0, groups, 100)])
    classes = random.integers(0, 3, len(group))
    fold = assign_folds(classes, group, folds, seed)
    assert all(len(np.unique(fold[group == number])) == 1 for number in range(groups))
    assert len(np.unique(fold)) == folds
    np.testing.assert_array_equal(fold, assign_folds(classes, group, folds, seed))


def test_rows_of_a_fold_do_not_teach_its_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marauder.evaluation.probe.STRENGTHS", (1e-2,))  # no choice of strength comes between
    classes, _ = labels(10)
    features = knowing(classes, 1.0)
    fold = np.arange(len(classes)) % 3
    changed = classes.copy()
    changed[fold == 1] = np.roll(changed[fold == 1], 1)
    one, other = (held_out_scores(features, which, fold, [0, 1, 2]) for which in (classes, changed))
    np.testing.assert_array_equal(one[fold == 1], other[fold == 1])
    assert not np.array_equal(one[fold != 1], other[fold != 1])
