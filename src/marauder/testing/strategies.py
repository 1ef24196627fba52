"""The contract of strategies of selection, and small pools of pictures, as figures, to choose from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marauder.core.plugins import resolve
from marauder.selection.basket import Pool
from marauder.selection.choosing import choose
from marauder.selection.settings import SelectionSettings
from marauder.selection.strategies.base import Strategy


def unit(points: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32."""
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def make_pool(count: int = 200, labelled: int = 20, seed: int = 0, classes: int = 3, **changes: Any) -> Pool:
    """Pictures around twelve scenes, in clips of about ten frames."""
    generator = np.random.default_rng(seed)
    scenes = generator.standard_normal((12, 16))

    def draw(number: int) -> np.ndarray:
        return unit(scenes[generator.integers(0, 12, number)] + 0.3 * generator.standard_normal((number, 16)))

    counts = generator.poisson(0.6, (count, classes)).astype(np.float64)
    fields: dict[str, Any] = {
        "features": draw(count),
        "scores": generator.random(count),
        "class_counts": counts,
        "boxes": counts.sum(axis=1),
        "groups": np.sort(generator.integers(0, max(1, count // 10), count)),
        "centres": draw(labelled) if labelled else np.zeros((0, 16), np.float32),
        "centre_counts": generator.poisson(0.6, (labelled, classes)).astype(np.float64),
        "names": tuple(f"class {index}" for index in range(classes)),
        "slices": {"site=reef": generator.random(count) < 0.3},
        "labelled_share": labelled / (labelled + count),
    }
    return Pool(**{**fields, **changes})


def scores_of(pool: Pool) -> np.ndarray:
    """The scores of a pool that has some."""
    assert pool.scores is not None
    return pool.scores


def make_settings(**changes: Any) -> SelectionSettings:
    """Settings of a choice of 30 pictures."""
    return SelectionSettings(**{"pool": "pool", "count": 30, "most_per_group": 5, **changes})


class StrategyContract:
    """What every strategy promises. A subclass is parametrized over ``name``."""

    def test_is_known_by_its_name(self, name: str) -> None:
        kind = resolve("strategy", name)
        assert issubclass(kind, Strategy) and kind.name == name

    def test_chooses_the_wanted_number_each_once(self, name: str) -> None:
        choice = choose(make_pool(), make_settings(strategy=name))
        assert choice.strategy == name
        assert len(choice.picks) == 30 == len(set(choice.indices().tolist()))

    def test_keeps_to_the_number_of_a_clip(self, name: str) -> None:
        pool = make_pool()
        choice = choose(pool, make_settings(strategy=name, count=60, most_per_group=2))
        assert np.bincount(pool.groups[choice.indices()]).max() <= 2
        # Twenty clips of two pictures each is all there can be, and that is told.
        assert len(choice.picks) == 2 * len(np.unique(pool.groups))
        assert any("most_per_group" in note for note in choice.notes)

    @pytest.mark.parametrize("budget", [1, 7, 40])
    def test_keeps_the_budget_in_boxes(self, name: str, budget: int) -> None:
        pool = make_pool()
        choice = choose(pool, make_settings(strategy=name, count=150, budget_boxes=budget, most_per_group=None))
        spent = pool.boxes[choice.indices()].sum()
        assert spent <= budget
        left = np.setdiff1d(np.arange(len(pool)), choice.indices())
        used = budget - spent < 1 or (pool.boxes[left] > budget - spent).all()
        assert len(choice.picks) == 150 or used, "room was left unused"

    def test_a_spent_budget_takes_no_pictures_that_look_empty(self, name: str) -> None:
        counts = np.zeros((200, 3))
        counts[::2] = 1.0
        pool = make_pool(class_counts=counts, boxes=counts.sum(axis=1))
        choice = choose(pool, make_settings(strategy=name, count=200, budget_boxes=15, most_per_group=None))
        # Five pictures with boxes spend it; of the hundred without any, only those that came in between are taken.
        assert pool.boxes[choice.indices()].sum() == 15
        assert len(choice.picks) < 50

    def test_draws_its_random_share_from_the_whole_pool(self, name: str) -> None:
        choice = choose(make_pool(), make_settings(strategy=name, random_share=0.2))
        drawn = [pick.index for pick in choice.picks if pick.kind == "random"]
        if name == "random":
            assert len(drawn) == 30
            return
        assert len(drawn) == 6
        other = "k_center" if name != "k_center" else "uncertainty"
        same = choose(make_pool(), make_settings(strategy=other, random_share=0.2))
        assert drawn == [pick.index for pick in same.picks if pick.kind == "random"]
        first = [pick.kind == "random" for pick in choice.picks[:15]]
        assert sum(first) == 3, "random picks are spread evenly over the order"

    def test_meets_quotas(self, name: str) -> None:
        pool = make_pool()
        wanted = make_settings(strategy=name, class_quotas={"class 1": 20}, slice_quotas={"site=reef": 15})
        choice = choose(pool, wanted)
        assert (pool.class_counts[choice.indices(), 1] >= 0.5).sum() >= 20
        assert pool.slices["site=reef"][choice.indices()].sum() >= 15
        assert len(choice.picks) == 30

    def test_says_which_quota_cannot_be_met(self, name: str) -> None:
        pool = make_pool()
        rare = np.zeros(len(pool), bool)
        rare[:2] = True
        choice = choose(
            replace(pool, slices={"site=wreck": rare}), make_settings(strategy=name, slice_quotas={"site=wreck": 9})
        )
        assert {0, 1} <= set(choice.indices().tolist())
        assert any("site=wreck is 9 pictures, 2 could be chosen" in note for note in choice.notes)

    def test_the_same_input_gives_the_same_picks(self, name: str) -> None:
        assert choose(make_pool(), make_settings(strategy=name)) == choose(make_pool(), make_settings(strategy=name))

    def test_takes_all_of_a_pool_that_is_smaller_than_the_budget(self, name: str) -> None:
        pool = make_pool(12)
        choice = choose(pool, make_settings(strategy=name, most_per_group=None))
        assert sorted(choice.indices().tolist()) == list(range(12))
        assert any("all of them" in note for note in choice.notes)

    def test_pictures_that_are_all_alike_are_no_obstacle(self, name: str) -> None:
        pool = make_pool()
        alike = replace(pool, features=np.repeat(pool.features[:1], len(pool), axis=0), scores=np.zeros(len(pool)))
        assert len(choose(alike, make_settings(strategy=name)).picks) == 30

    def test_nothing_labelled_and_no_classes_are_no_obstacle(self, name: str) -> None:
        pool = make_pool(labelled=0, classes=0, boxes=np.full(200, 2.0), labelled_share=0.5)
        assert len(choose(pool, make_settings(strategy=name)).picks) == 30

    def test_every_pick_says_why(self, name: str) -> None:
        for pick in choose(make_pool(), make_settings(strategy=name)).picks:
            assert len(pick.reason) > 20 and pick.score is not None
