"""Drift: every engine finds real change and leaves handfuls of clips of one data set alone; the gate judges."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from marauder.core.plugins import names, resolve
from marauder.data.pictures import decode_picture
from marauder.data.profile import Profile, profile_dataset
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset
from marauder.gates.drift import DriftEvidence, DriftGate, DriftSettings, drift_evidence
from marauder.gates.drift_embeddings import _area, comparable, embedding_drift
from marauder.gates.drift_noise import Column, Kind, Noise, columns_of, deals, noise_of, significant_p_value
from marauder.testing.drift_engines import DriftEngineContract, clips, halves

SCIPY = DriftSettings(engine="scipy")


@pytest.fixture(scope="module")
def aquarium_data(shared_data: Path) -> Dataset:
    return read_dataset(shared_data / "aquarium", format="yolo")


@pytest.fixture(scope="module")
def aquarium(aquarium_data: Dataset) -> Profile:
    return profile_dataset(aquarium_data)


@pytest.fixture(scope="module")
def deepfish(shared_data: Path) -> Profile:
    return profile_dataset(read_dataset(shared_data / "deepfish", format="yolo"))


@pytest.fixture(scope="module")
def dark_and_green(aquarium_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Every third group of aquarium, photographed deeper down: less light, least of all red."""
    folder = tmp_path_factory.mktemp("deeper")
    groups = sorted({record.group for record in aquarium_data})[::3]
    records = []
    for record in aquarium_data:
        if record.group in groups:
            path = folder / f"{record.key.replace('/', '_')}.jpg"
            picture = decode_picture(record.picture) * np.array([0.4, 0.8, 0.6])
            cv2.imwrite(str(path), picture.astype(np.uint8)[:, :, ::-1])
            records.append(replace(record, picture=path))
    return profile_dataset(aquarium_data.with_records(records))


@pytest.mark.parametrize("name", names("drift_engine"))
class TestEveryEngine(DriftEngineContract):
    """All there are, and on real pictures too."""

    def test_halves_of_real_data_do_not_drift(self, name: str, aquarium: Profile, deepfish: Profile) -> None:
        for profile, seed in ((aquarium, 0), (aquarium, 1), (deepfish, 0)):
            found = self.engine(name).compare(*halves(profile, seed))
            assert len(found) == 12 and not [item for item in found if item.drifted]

    def test_another_data_set_drifts(self, name: str, aquarium: Profile, deepfish: Profile) -> None:
        expected = {"brightness", "contrast", "width", "height", "sharpness", "boxes", "class"}
        assert self.drifted(name, aquarium, deepfish) >= expected

    def test_darker_and_greener_pictures_drift_in_what_changed_alone(
        self, name: str, aquarium: Profile, dark_and_green: Profile
    ) -> None:
        known = set(dark_and_green.groups)
        others = aquarium.take([place for place, group in enumerate(aquarium.groups) if group not in known])
        drifted = self.drifted(name, others, dark_and_green)
        assert drifted >= {"brightness", "contrast", "red", "blue_red"}
        assert drifted.isdisjoint({"width", "height", "boxes", "box_size", "class"})


def test_evidently_leaves_its_page(aquarium: Profile, tmp_path: Path) -> None:
    evidence = drift_evidence(*halves(aquarium, 0), DriftSettings(), tmp_path)
    page = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert evidence.report == "drift.html" and "brightness" in page and page.lstrip().startswith("<!DOCTYPE html>")
    assert evidence.engine == "evidently" and DriftGate(DriftSettings()).judge(evidence).answer == "pass"
    assert [path.name for path in tmp_path.iterdir()] == ["drift.html"]
    again = drift_evidence(*halves(aquarium, 0), SCIPY, tmp_path)
    assert again.report is None and not list(tmp_path.iterdir()), "the page of another comparison does not stay"


def test_clips_raise_no_false_alarms_where_a_test_of_frames_does() -> None:
    """Thirty frames of one clip are no thirty pictures: two sets of clips drawn from one source."""
    ours = theirs = 0
    for seed in range(40):
        here, there = clips(2 * seed), clips(2 * seed + 1)
        ours += bool(drift_evidence(here, there, DriftSettings(engine="scipy", permutations=200)).drifted)
        theirs += any(stats.ks_2samp(here.numeric[name], there.numeric[name]).pvalue < 0.05 for name in here.numeric)
    assert ours <= 5, "at most 5 % are allowed, and so 5 of 40 with 95 % certainty"
    assert theirs == 40


def test_change_of_every_clip_is_found() -> None:
    found = [bool(drift_evidence(clips(seed), clips(100 + seed, shift=1.5), SCIPY).drifted) for seed in range(10)]
    assert all(found)


columns = st.tuples(
    st.sampled_from(["numeric", "categorical"]), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6)
)


@given(columns)
@settings(max_examples=60, deadline=None)
def test_distances_of_deals_are_those_of_scipy(case: tuple[Kind, int, int, int]) -> None:
    """Each deal's distance, computed for all at once, against scipy on the values dealt."""
    kind, first, second, seed = case
    random = np.random.default_rng(seed)
    counts = (int(random.integers(first, 40)), int(random.integers(second, 40)))
    units = [np.concatenate([np.arange(least), random.integers(0, least, count - least)]) + before
             for least, count, before in ((first, counts[0], 0), (second, counts[1], first))]  # fmt: skip
    draw: Callable[[int], np.ndarray] = (
        (lambda count: np.round(random.normal(0, 2, count), int(random.integers(0, 4))))
        if kind == "numeric"
        else (lambda count: random.choice(["a", "b", "c", "d"], count))
    )
    column = Column("x", kind, draw(counts[0]), draw(counts[1]), units[0], units[1])
    dealt = deals(first, second, 20, seed)
    noise = noise_of(column, dealt)
    values, owners = np.concatenate([column.reference, column.current]), np.concatenate(units)
    engine = resolve("drift_engine", "scipy")()
    distances = []
    for row in [np.arange(first + second) < first, *dealt]:
        here = np.asarray(row, bool)[owners]
        side = Column("x", kind, values[here], values[~here], owners[here], owners[~here])
        distances.append(engine.measure([side], {"x": 0.1}, None)["x"])
    assert noise.value == pytest.approx(distances[0], rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(noise.dealt, np.sort(distances[1:]), rtol=1e-6, atol=1e-6)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.floats(0, 10), st.floats(0.001, 0.6))
def test_a_distance_reaches_its_limit_exactly_when_its_p_value_counts(
    dealt: list[float], value: float, rate: float
) -> None:
    noise = Noise(value, np.sort(np.array(dealt)))
    near = np.abs(noise.dealt - value) <= 1e-6 * max(value, 1e-6)
    if not near.any():  # within rounding of a deal either answer will do
        assert (value >= noise.limit(rate)) == (noise.p_value <= rate + 1e-12)


@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=30), st.floats(0.01, 0.3))
def test_the_rate_of_false_discoveries_is_held_as_scipy_holds_it(p_values: list[float], rate: float) -> None:
    adjusted = stats.false_discovery_control(p_values)
    if np.abs(adjusted - rate).min() > 1e-9:
        counted = np.array(p_values) <= significant_p_value(p_values, rate)
        np.testing.assert_array_equal(counted, adjusted <= rate)


def embedded(profile: Profile, seed: int, shift: float = 0.0, weights: str = "w") -> Profile:
    random = np.random.default_rng(seed)
    numbers = np.unique(np.array(profile.groups), return_inverse=True)[1]
    levels = random.normal(0, 1, (numbers.max() + 1, 16))
    levels[:, 0] += shift
    vectors = levels[numbers] + random.normal(0, 0.3, (len(profile), 16))
    return profile.with_embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), weights)


def test_embeddings_of_clips_raise_no_false_alarms_and_change_is_found() -> None:
    p_values, areas = [], []
    for seed in range(40):
        sides = embedded(clips(2 * seed), 2 * seed), embedded(clips(2 * seed + 1), 2 * seed + 1)
        found = embedding_drift(*sides, permutations=200, seed=0)
        p_values.append(found.p_value)
        areas.append(found.auc)
    assert sum(p <= 0.05 for p in p_values) <= 5 and 0.3 < np.mean(areas) < 0.6
    changed = embedding_drift(embedded(clips(0), 0), embedded(clips(1), 1, shift=2.0), permutations=200, seed=0)
    assert changed.auc > 0.8 and changed.p_value < 0.01 and changed.chance < changed.auc
    assert (changed.dimensions, changed.pictures, changed.weights) == (16, (720, 720), "w")


def test_embeddings_of_one_data_set_with_itself_are_not_told_apart() -> None:
    same = embedded(clips(0), 0)
    assert embedding_drift(same, same, permutations=200, seed=0).auc == pytest.approx(0.5, abs=0.02)


def test_embeddings_are_compared_only_when_the_same_weights_made_them() -> None:
    plain, first, other = clips(0), embedded(clips(0), 0), embedded(clips(1), 1, weights="other")
    assert comparable(first, embedded(clips(1), 1)) is None
    assert "different weights" in str(comparable(first, other))
    assert "reference profile has no embeddings" in str(comparable(plain, first))
    assert "this run's profile has no embeddings" in str(comparable(first, plain))
    with pytest.raises(ValueError, match="different weights"):
        embedding_drift(first, other, 100, 0)
    evidence = drift_evidence(first, other, SCIPY)
    assert evidence.embeddings is None and "different weights" in evidence.embeddings_why_not and evidence.features


def test_pictures_without_a_vector_are_left_out() -> None:
    here, there = embedded(clips(0), 0), embedded(clips(1), 1, shift=2.0)
    assert here.embeddings is not None
    holes = here.embeddings.copy()
    holes[::5] = np.nan
    found = embedding_drift(here.with_embeddings(holes, "w"), there, permutations=200, seed=0)
    assert found.pictures == (576, 720) and found.auc > 0.8


@given(st.integers(0, 10**6), st.integers(2, 40))
def test_the_area_is_that_of_mann_and_whitney(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(random.normal(0, 1, (count, 3)), 1)
    labels = np.zeros((count, 3))
    labels[: int(random.integers(1, count))] = 1
    for column in range(3):
        sides = scores[labels[:, column] > 0, column], scores[labels[:, column] == 0, column]
        expected = stats.mannwhitneyu(*sides).statistic / (len(sides[0]) * len(sides[1]))
        assert _area(scores, labels)[column] == pytest.approx(expected, abs=1e-9)


def test_shared_groups_count_on_both_sides() -> None:
    """A data set that grew: the old clips stand on both sides, the new ones on one."""
    old = clips(0)
    both, apart, first, second = columns_of(old, old)
    assert (first, second, apart) == (24, 24, []) and len(both) == 13
    assert both[0].current_units.min() == 24
    grown = old.take([*range(len(old)), *range(30)])
    assert not drift_evidence(old, grown, SCIPY).drifted


def test_without_a_reference_the_gate_is_off_and_says_so() -> None:
    verdict = DriftGate(SCIPY).judge(drift_evidence(None, clips(0), SCIPY))
    assert verdict.answer == "off" and "becomes the reference" in verdict.why


def test_a_reference_that_should_be_there_is_missed() -> None:
    evidence = drift_evidence(None, clips(0), SCIPY, why_no_reference="the registry does not answer")
    verdict = DriftGate(SCIPY).judge(evidence)
    assert verdict.answer == "warn"
    assert verdict.why == "could not be compared with production: the registry does not answer"


@pytest.mark.parametrize(("few", "frames"), [(5, 30), (24, 1)])
def test_too_little_to_compare_is_warned_of_not_passed(few: int, frames: int) -> None:
    evidence = drift_evidence(clips(0), clips(1, shift=9, clips=few, frames=frames), SCIPY)
    verdict = DriftGate(SCIPY).judge(evidence)
    assert verdict.answer == "warn" and "too little to compare" in verdict.why and f"of {few} here" in verdict.why


def test_the_gate_warns_and_fails_at_its_shares(aquarium: Profile, deepfish: Profile) -> None:
    evidence = drift_evidence(aquarium, deepfish, SCIPY)
    assert 0.5 < evidence.share < 1
    for changed, answer in (
        ({}, "fail"),
        ({"severity": "warn"}, "warn"),
        ({"share_fails": 1.0}, "warn"),
        ({"share_fails": 1.0, "share_warns": 0.99}, "pass"),
    ):
        verdict = DriftGate(SCIPY.model_copy(update=changed)).judge(evidence)
        assert verdict.answer == answer, changed
    assert "width 480 → 360" in DriftGate(SCIPY).judge(evidence).why


def test_embeddings_alone_can_warn_and_fail() -> None:
    sides = embedded(clips(0), 0), embedded(clips(1), 1, shift=2.0)
    evidence = replace(drift_evidence(*sides, SCIPY), features=drift_evidence(sides[0], sides[0], SCIPY).features)
    assert evidence.embeddings is not None and evidence.share == 0
    for area, p_value, answer in (
        (0.95, 0.001, "fail"),
        (0.75, 0.001, "warn"),
        (0.6, 0.001, "pass"),
        (0.95, 0.2, "pass"),
    ):
        found = replace(evidence, embeddings=replace(evidence.embeddings, auc=area, p_value=p_value))
        verdict = DriftGate(SCIPY).judge(found)
        assert verdict.answer == answer and f"AUC {area:.2f}" in verdict.why
        assert verdict.value == (area if answer != "pass" else verdict.value)


def test_settings_that_contradict_themselves_are_refused() -> None:
    for wrong in ({"share_warns": 0.6}, {"embedding_warns": 0.95}, {"engine": "none"}):
        with pytest.raises(ValidationError):
            DriftSettings.model_validate(wrong)


def test_evidence_is_the_same_every_time() -> None:
    sides = embedded(clips(0), 0), embedded(clips(1, shift=0.5), 1)
    assert drift_evidence(*sides, SCIPY) == drift_evidence(*sides, SCIPY)
    assert isinstance(drift_evidence(*sides, SCIPY), DriftEvidence)


def test_reading_the_settings_loads_nothing_heavy() -> None:
    code = (
        "import sys, marauder.gates.drift, marauder.gates.contract, marauder.gates.sanity, marauder.gates.determinism;"
        "heavy = {'torch', 'scipy', 'cv2', 'pandas', 'evidently', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
