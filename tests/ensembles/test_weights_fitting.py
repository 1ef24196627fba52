"""What is fitted on some groups is judged on others; members that add nothing are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import NAMES, finds, looked, pictures

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.ensembles.fitting import (
    BY_CLASS,
    EQUAL,
    LEAST_SHARE,
    CrossFitted,
    Precisions,
    class_weights_of,
    cross_fit,
    divide,
    fit,
    weightings,
)
from marauder.ensembles.judging import Judge, contributions, measured
from marauder.ensembles.looking import Looked
from marauder.ensembles.settings import EnsembleSettings
from marauder.evaluation.metrics import aggregate
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription

BOTH = np.ones((2, 2), bool)


def settings(**changes: object) -> EnsembleSettings:
    """Settings of an ensemble; its members and data are not opened here."""
    here = {"members": ["a", "b"], "data": ".", "draws": 200, "folds": 3, **changes}
    return EnsembleSettings.model_validate(here)


def crossed(
    seen: Looked, folder: Path, knows: np.ndarray | None = None, key: str = "k", **changes: object
) -> CrossFitted:
    knows = np.ones((len(seen.found), len(NAMES)), bool) if knows is None else knows
    return cross_fit(seen, knows, NAMES, settings(**changes), Clock(), folder, key)


def judge(seen: Looked) -> Judge:
    return Judge(seen.records, NAMES, "map50", 300, 0)


@given(groups=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), folds=st.integers(2, 6))
def test_no_group_is_divided_and_no_part_is_empty(groups: list[str], folds: int) -> None:
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="one group"):
            divide(groups, folds, 0)
        return
    part = divide(groups, folds, 0)
    assert all(len({part[place] for place, one in enumerate(groups) if one == name}) == 1 for name in set(groups))
    assert set(part.tolist()) == set(range(min(folds, len(set(groups)))))
    # A function of the names, not of their order.
    assert np.array_equal(divide(groups[::-1], folds, 0), part[::-1])


def test_what_is_fitted_for_a_part_does_not_depend_on_the_part(tmp_path: Path) -> None:
    records = pictures(36, 12)
    seen = looked(records, finds(records, 1, 0.8), finds(records, 2, 0.6))
    before = crossed(seen, tmp_path / "1")
    # Other labels in the pictures of part 0.
    other = pictures(36, 12, seed=9)
    mixed = tuple(
        replace(one, boxes=new.boxes, classes=new.classes) if part == 0 else one
        for one, new, part in zip(records, other, before.part, strict=True)
    )
    after = crossed(replace(seen, records=mixed), tmp_path / "2")
    assert after.fits[0].to_json() == before.fits[0].to_json()
    assert after.fits[1].to_json() != before.fits[1].to_json()


def test_fits_are_kept_and_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = pictures(30, 10)
    seen = looked(records, finds(records, 1, 0.8), finds(records, 2, 0.6))
    whole = crossed(seen, tmp_path / "whole")
    asked = []
    stops = Clock()
    monkeypatch.setattr(stops, "stop_reason", lambda _=0.0: asked.append(1) or ("enough" if len(asked) > 20 else None))
    with pytest.raises(Interrupted):
        cross_fit(seen, BOTH, NAMES, settings(), stops, tmp_path / "parts", "k")
    made = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert 0 < len(made) < 3
    stamp = (tmp_path / "parts" / made[0]).stat().st_mtime_ns
    again = crossed(seen, tmp_path / "parts")
    assert (tmp_path / "parts" / made[0]).stat().st_mtime_ns == stamp
    assert [one.to_json() for one in again.fits] == [one.to_json() for one in whole.fits]
    # Made from something else: made anew; and so is a damaged one.
    crossed(seen, tmp_path / "parts", key="other")
    assert (tmp_path / "parts" / made[0]).stat().st_mtime_ns != stamp
    (tmp_path / "parts" / made[0]).write_text("{", encoding="utf-8")
    assert crossed(seen, tmp_path / "parts", key="other").fits[0].to_json() == whole.fits[0].to_json()


def test_an_ensemble_of_members_with_errors_of_their_own_is_shown_to_be_better(tmp_path: Path) -> None:
    records = pictures(90, 30)
    members = [finds(records, seed, 0.6) for seed in (1, 2, 3)]
    seen = looked(records, *members)
    found = crossed(seen, tmp_path)
    adds = contributions(found, judge(seen), lambda: None)
    assert all(one.better for one in adds.of) and not adds.removed
    fused = found.fused()
    result = measured(judge(seen), fused, [found.alone(k) for k in range(3)], [fused] * 3, None, 0)
    assert result.against_best.better and result.ensemble[0].map50 > max(one.map50 for one, _ in result.members)
    # The same members, so the ensemble without one is no other.
    assert [one.delta for one in result.adds] == [0, 0, 0]
    off = result.correlation[~np.eye(3, dtype=bool)]
    assert np.all(np.abs(off) < 0.3) and np.all(result.disagreement[~np.eye(3, dtype=bool)] > 0.2)


def test_of_two_that_are_alike_one_can_be_left_out_and_noise_as_well(tmp_path: Path) -> None:
    records = pictures(90, 30)
    good, other = finds(records, 1, 0.7), finds(records, 2, 0.7)
    noise = finds(records, 4, 0.0, false=6.0)
    seen = looked(records, good, good, other, noise)
    found = crossed(seen, tmp_path)
    adds = contributions(found, judge(seen), lambda: None)
    removed = {place for place, _ in adds.removed}
    assert 3 in removed and len(removed & {0, 1}) == 1 and 2 not in removed
    correlation = measured(judge(seen), found.fused(), [found.alone(k) for k in range(4)], [], None, 0).correlation
    assert correlation[0, 1] == pytest.approx(1.0) and correlation[0, 2] < 0.4
    # Two stay, whatever they add.
    twins = crossed(looked(records, good, good), tmp_path / "twins")
    assert contributions(twins, judge(seen), lambda: None).removed == ()


def test_a_class_that_a_member_does_not_know_costs_nothing(tmp_path: Path) -> None:
    records = pictures(60, 20)
    first, second = finds(records, 1, 0.8), finds(records, 2, 0.8, knows=(0,))
    knows = np.array([[True, True], [True, False]])
    found = crossed(looked(records, first, second), tmp_path, knows)
    matches = judge(found.looked).matches
    fused, alone = aggregate(matches(found.fused())), aggregate(matches(found.alone(0)))
    # Rays are the first member's alone; fish are better for the second one.
    assert fused.ap[0, 0, 1] == pytest.approx(alone.ap[0, 0, 1], abs=0.02)
    assert fused.ap[0, 0, 0] > alone.ap[0, 0, 0] + 0.05
    for one in found.fits:
        assert one.recipe.weights[1, 1] == 0 and np.all(one.recipe.weights[knows] > 0)


def test_settings_that_the_user_names_are_not_fitted(tmp_path: Path) -> None:
    records = pictures(30, 10)
    seen = looked(records, finds(records, 1, 0.8), finds(records, 2, 0.2))
    fitted = fit(seen, BOTH, NAMES, settings(options={"overlap": 0.33}, weights=False), Clock())
    assert fitted.recipe.options == {"overlap": 0.33} and fitted.weighing == EQUAL
    assert np.array_equal(fitted.recipe.weights, BOTH)
    assert not [words for words, _ in fitted.tried if "overlap" in words or "weights" in words]
    free = fit(seen, BOTH, NAMES, settings(), Clock())
    assert free.value >= fitted.value and len(free.tried) > len(fitted.tried)


def test_weights_follow_precision_where_boxes_say_so() -> None:
    found = Precisions(np.array([[0.8, 0.2], [0.4, 0.4], [0.0, np.nan]]), np.array([2000, 2000]))
    knows = np.array([[True, True], [True, True], [True, False]])
    by = {(words, power): weights for words, power, weights in weightings(found, knows)}
    classwise = by[BY_CLASS, 1.0]
    np.testing.assert_allclose(classwise[:2], [[1, 0.5], [0.5, 1]], atol=0.02)
    assert classwise[2].tolist() == [LEAST_SHARE, 0]
    few = Precisions(found.by_class, np.array([2000, 0]))
    leaning = {(words, power): weights for words, power, weights in weightings(few, knows)}[BY_CLASS, 1.0]
    # Nothing is known of the second class: the mean of the member stands for it.
    assert leaning[0, 1] == 1.0
    for weights in by.values():
        assert np.all(weights[knows] >= LEAST_SHARE) and np.all(weights <= 1) and np.all(weights[~knows] == 0)


@given(seed=st.integers(0, 1000))
def test_weights_are_read_as_they_are_written(seed: int) -> None:
    random = np.random.default_rng(seed)
    knows = random.random((3, 2)) < 0.8
    knows[:, 0] = True
    weights = np.where(knows, random.uniform(0.05, 1, (3, 2)), 0.0)
    described = [MemberDescription(f"{k}", *one) for k, one in enumerate(class_weights_of(weights, NAMES))]
    known = [[name for name, one in zip(NAMES, row, strict=True) if one] for row in knows]
    read = EnsembleDescription(tuple(described)).weights(known, NAMES)
    np.testing.assert_allclose(read, weights / weights.max())
