"""Which strategy is used when, how measures become one score, and what settings are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.core.settings import load_settings
from marauder.selection.choosing import choose, combined_scores, rank_shares
from marauder.selection.estimate_reliability import expected_boxes, fit_box_line
from marauder.selection.features import why_alike
from marauder.selection.pool_scores import PoolScores
from marauder.selection.price import PriceSettings, estimate_price
from marauder.selection.settings import SelectionSettings
from marauder.testing.strategies import make_pool, make_settings


@pytest.mark.parametrize("name", ["hybrid", "uncertainty"])
def test_with_few_labels_typical_pictures_are_chosen_and_that_is_said(name: str) -> None:
    choice = choose(make_pool(labelled_share=0.01), make_settings(strategy=name))
    assert choice.strategy == "typical"
    assert any("only 1.0 % of the pictures are labelled (the limit is 2 %)" in note for note in choice.notes)
    assert {pick.kind for pick in choice.picks} >= {"typical", "random"}


@pytest.mark.parametrize("name", ["hybrid", "uncertainty"])
@pytest.mark.parametrize("share", [0.5, None])
def test_a_detector_that_is_not_to_be_trusted_gives_typical_pictures(name: str, share: float | None) -> None:
    pool = make_pool(labelled_share=share, distrust="it sees nothing")
    choice = choose(pool, make_settings(strategy=name, min_labelled_share=0))
    assert choice.strategy == "typical"
    assert any("uncertainty means nothing here: it sees nothing; typical pictures" in note for note in choice.notes)


def test_what_changes_the_choice_is_told_first_and_apart() -> None:
    pool = make_pool(labelled_share=0.01, by_look="its features hardly differ")
    choice = choose(pool, make_settings(slice_quotas={"site=reef": 190}))
    assert [note.partition(":")[0] for note in choice.changes] == [
        "the detector's uncertainty means nothing here",
        "likeness is that of how pictures look (light, colour, layout)",
    ]
    assert choice.notes[:2] == choice.changes and any("quota of site=reef" in note for note in choice.notes[2:])
    unchanged = choose(make_pool(labelled_share=None), make_settings())
    assert not unchanged.changes and any("--labeled" in note for note in unchanged.notes)


def test_features_of_a_collapsed_detector_are_told_from_those_of_one_that_sees() -> None:
    features = make_pool().features
    assert why_alike(features) == "" and why_alike(features[:1]) == ""
    collapsed = features[0] + np.random.default_rng(0).normal(0, 1e-5, features.shape).astype(np.float32)
    assert "hardly differ from picture to picture" in why_alike(collapsed)


@pytest.mark.parametrize("name", ["hybrid", "uncertainty"])
def test_a_picture_without_a_doubt_is_never_called_uncertain(name: str) -> None:
    doubtful = np.zeros(200, bool)
    doubtful[::20] = True
    pool = make_pool(scores=np.where(doubtful, 0.9, 0.4), doubtful=doubtful)
    choice = choose(pool, make_settings(strategy=name, most_per_group=None, random_share=0))
    unsure = {pick.index for pick in choice.picks if pick.kind == "uncertain"}
    assert unsure == set(np.flatnonzero(doubtful).tolist())
    assert {pick.kind for pick in choice.picks} == {"uncertain", "typical"} and len(choice.picks) == 30
    assert sum("is uncertain about too few pictures" in note for note in choice.notes) == 1
    none = choose(make_pool(scores=np.zeros(200)), make_settings(strategy=name))
    assert "uncertain" not in {pick.kind for pick in none.picks} and len(none.picks) == 30


def test_equal_scores_are_drawn_by_the_seed_and_not_by_name() -> None:
    pool = make_pool(400, scores=np.full(400, 0.5))
    drawn = [
        choose(pool, make_settings(strategy="uncertainty", random_share=0, most_per_group=None, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] and set(drawn[0].indices().tolist()) != set(drawn[2].indices().tolist())
    assert drawn[0].indices().max() > 200, "the first names came first"
    assert not any("surer" in pick.reason or "least certain" in pick.reason for pick in drawn[0].picks)


def test_the_limit_can_be_moved() -> None:
    assert choose(make_pool(labelled_share=0.01), make_settings(min_labelled_share=0)).strategy == "hybrid"
    assert choose(make_pool(labelled_share=0.3), make_settings(min_labelled_share=0.5)).strategy == "typical"
    assert choose(make_pool(labelled_share=0.01), make_settings(strategy="k_center")).strategy == "k_center"


def test_an_unknown_labelled_share_is_no_reason_to_switch_but_is_told() -> None:
    choice = choose(make_pool(labelled_share=None), make_settings())
    assert choice.strategy == "hybrid" and any("--labeled" in note for note in choice.notes)


def test_without_a_detector_the_default_is_typical_and_uncertainty_is_refused() -> None:
    pool = make_pool(scores=None)
    choice = choose(pool, make_settings())
    assert choice.strategy == "typical" and all(pick.score is None for pick in choice.picks)
    assert any("no detector" in note for note in choice.notes)
    with pytest.raises(UserError, match="--model"):
        choose(pool, make_settings(strategy="uncertainty"))


@pytest.mark.parametrize("quota", [{"class_quotas": {"whale": 3}}, {"slice_quotas": {"site=moon": 3}}])
def test_quotas_of_what_does_not_exist_are_refused(quota: dict[str, dict[str, int]]) -> None:
    with pytest.raises(UserError, match=r"whale|site=moon"):
        choose(make_pool(), make_settings(**quota))


def test_quotas_count_what_chance_has_brought() -> None:
    pool = make_pool(class_counts=np.ones((200, 3)), boxes=np.full(200, 3.0))
    choice = choose(pool, make_settings(random_share=0.5, class_quotas={"class 0": 15}))
    assert not [pick for pick in choice.picks if pick.kind == "quota"]


def test_a_large_random_share_of_a_budget_in_boxes_leaves_the_rest_its_part() -> None:
    pool = make_pool(boxes=np.full(200, 2.0))
    choice = choose(pool, make_settings(count=1000, budget_boxes=40, random_share=0.25, most_per_group=None))
    kinds = [pick.kind for pick in choice.picks]
    assert len(kinds) == 20 and kinds.count("random") == 5


def test_the_seed_moves_what_is_drawn() -> None:
    pool = make_pool()
    drawn = [choose(pool, make_settings(strategy="random", seed=seed)).indices().tolist() for seed in (0, 1)]
    assert drawn[0] != drawn[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=30))
def test_ranks_keep_the_order_and_are_shared_by_equals(values: list[float]) -> None:
    array = np.array(values)
    ranks = rank_shares(array)
    assert ((ranks >= 0) & (ranks <= 1)).all()
    above, below = np.triu_indices(len(array), 1)
    assert (np.sign(array[above] - array[below]) == np.sign(ranks[above] - ranks[below])).all()
    assert np.isclose(ranks.mean(), 0.5)


def test_scores_are_combined_by_rank_and_weight() -> None:
    measures = {"a": np.array([0.0, 1.0, 1000.0]), "b": np.array([3.0, 2.0, 1.0])}
    assert combined_scores(measures, {}).tolist() == [0.5, 0.5, 0.5]
    assert combined_scores(measures, {"b": 0}).tolist() == [0.0, 0.5, 1.0]
    assert combined_scores(measures, {"a": 3}).tolist() == [0.25, 0.5, 0.75]
    with pytest.raises(ValueError, match="weighs more than 0"):
        combined_scores(measures, {"a": 0, "b": 0})


def test_all_mistakes_of_the_settings_are_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        load_settings(
            SelectionSettings, None,
            ["measures=[entropie]", "strategy=best", "weights.margin=-1", "slice_quotas.reef=3", "count=0"], pool="p",
        )  # fmt: skip
    said = str(error.value)
    assert said.startswith("5 mistakes")
    for words in (
        "no measure named 'entropie'",
        "no strategy named 'best'",
        "weights are 0 or more",
        "ATTRIBUTE=VALUE",
    ):
        assert words in said


def test_off_needs_no_quotes(tmp_path: Path) -> None:
    words = ["calibration=off", "class_difficulty=off"]
    file = tmp_path / "select.yaml"
    file.write_text("".join(f"{word.replace('=', ': ')}\n" for word in words), encoding="utf-8")
    for path, overrides in ((None, words), (file, [])):
        made = load_settings(SelectionSettings, path, overrides, pool="p")
        assert (made.calibration, made.class_difficulty) == ("off", "off")
    with pytest.raises(UserError, match="calibration"):
        load_settings(SelectionSettings, None, ["calibration=on"], pool="p")


def test_an_ensemble_needs_two_models_and_adds_its_measures() -> None:
    with pytest.raises(UserError, match="two models"):
        load_settings(SelectionSettings, None, ["use_ensemble=true"], pool="p", models=["a.pt"])
    both = load_settings(SelectionSettings, None, ["use_ensemble=true"], pool="p", models=["a.pt,b.pt"])
    assert [str(path) for path in both.scoring_models()] == ["a.pt", "b.pt"]
    assert set(both.all_measures()) == {"entropy", "margin", "mutual_information", "predictive_entropy"}
    alone = both.model_copy(update={"use_ensemble": False})
    assert [str(path) for path in alone.scoring_models()] == ["a.pt"] and alone.all_measures() == ("entropy", "margin")


def test_a_price_is_pictures_and_boxes() -> None:
    price = estimate_price(
        100, 400, PriceSettings(per_box=0.1, per_picture=0.5, seconds_per_box=9, seconds_per_picture=36)
    )
    assert (price.amount, price.hours) == (90.0, 2.0)
    assert "400 boxes" in price.words() and "2.0 hours" in price.words()
    unknown = estimate_price(100, None, PriceSettings(per_picture=0.5))
    assert unknown.boxes is None and unknown.amount == 50 and "not known" in unknown.words()


def test_a_pool_without_names_says_so_for_quotas() -> None:
    pool = replace(make_pool(classes=0, boxes=np.ones(200)), names=())
    with pytest.raises(UserError, match="no detector is used"):
        choose(pool, make_settings(class_quotas={"fish": 1}))


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(0, 60)), min_size=1, max_size=30),
)
def test_the_line_from_expected_to_true_boxes_keeps_their_mean(pairs: list[tuple[float, int]]) -> None:
    expected, true = np.array(pairs, np.float64).T
    intercept, slope = fit_box_line(expected, true)
    assert intercept >= 0 and slope >= 0
    assert (intercept + slope * expected).mean() == pytest.approx(true.mean(), abs=1e-6)


def test_expected_boxes_are_those_that_a_detector_which_misses_most_would_have_found() -> None:
    expected = np.array([0.0, 1.0, 2.0, 5.0])
    assert fit_box_line(expected, 2 + 4 * expected) == pytest.approx((2, 4))
    scores = PoolScores(np.arange(4), {}, np.zeros((4, 2)), np.zeros((4, 1)), expected, np.ones(4, np.int64))
    notes: list[str] = []
    settings = make_settings()
    assert expected_boxes(scores, [], settings, notes) == pytest.approx(expected) and not notes
    found = expected_boxes(replace(scores, box_line=(2.0, 4.0)), [], settings, notes)
    assert found == pytest.approx([2, 6, 10, 22])
    assert notes[0].endswith("10.0 a picture instead of 2.0")
