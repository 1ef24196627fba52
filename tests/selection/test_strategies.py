"""Every strategy in the table of plug points passes the contract; and what each is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.plugins import names
from marauder.selection.basket import Basket, Pool
from marauder.selection.choosing import choose
from marauder.selection.clustering import members_by_cluster, nearest, weighted_means
from marauder.selection.diversity import AHEAD, GreedyCover, conditioned_features
from marauder.selection.strategies.base import Space
from marauder.selection.strategies.typical import typicality
from marauder.testing.strategies import StrategyContract, make_pool, make_settings, scores_of, unit


@pytest.mark.parametrize("name", names("strategy"))
class TestEveryStrategy(StrategyContract):
    """All there are."""


@pytest.mark.parametrize("name", ["hybrid", "k_center", "k_medoids", "typical"])
def test_what_is_labelled_repels(name: str) -> None:
    """Two equal heaps of pictures, one labelled: the other gets nearly all picks."""
    generator = np.random.default_rng(3)
    axes = np.eye(2, 16)
    side = generator.permutation(np.repeat([0, 1], 100))
    features = unit(axes[side] + 0.05 * generator.standard_normal((200, 16)))
    centres = unit(axes[np.zeros(60, int)] + 0.05 * generator.standard_normal((60, 16)))
    pool = make_pool(labelled=60, features=features, centres=centres, scores=np.full(200, 0.5))
    wanted = make_settings(strategy=name, random_share=0, category_share=0, most_per_group=None, count=20)
    chosen = side[choose(pool, wanted).indices()]
    assert chosen.mean() >= 0.8
    unaware = replace(pool, centres=centres[:0], centre_counts=np.zeros((0, 3)))
    assert side[choose(unaware, wanted).indices()].mean() < 0.75


def test_uncertainty_takes_the_highest_scores() -> None:
    pool = make_pool()
    choice = choose(pool, make_settings(strategy="uncertainty", random_share=0, most_per_group=None))
    assert choice.indices().tolist() == np.argsort(-scores_of(pool), kind="stable")[:30].tolist()


def test_the_price_counts_where_asked() -> None:
    pool = make_pool(scores=np.full(200, 0.5))
    choice = choose(pool, make_settings(strategy="uncertainty", random_share=0, most_per_group=None, price_weight=1.0))
    left = np.setdiff1d(np.arange(200), choice.indices())
    assert pool.boxes[choice.indices()].max() <= pool.boxes[left].min()


def test_hybrid_takes_uncertain_pictures_of_every_scene() -> None:
    pool = make_pool(600)
    hybrid = choose(pool, make_settings(random_share=0, candidate_factor=4)).indices()
    surest_candidate = np.sort(scores_of(pool))[-120]
    assert scores_of(pool)[hybrid].min() >= surest_candidate
    alone = choose(pool, make_settings(strategy="uncertainty", random_share=0)).indices()

    def reach(chosen: np.ndarray) -> float:
        return float(nearest(pool.features, np.concatenate([pool.features[chosen], pool.centres]))[1].mean())

    assert reach(hybrid) < reach(alone)


@pytest.mark.parametrize("labelled", [0, 1, 9])
@pytest.mark.parametrize("count", [30, 500, AHEAD + 700])
def test_the_greedy_cover_is_that_of_the_plain_algorithm(count: int, labelled: int) -> None:
    generator = np.random.default_rng(count + labelled)
    points = generator.standard_normal((count, 6)).astype(np.float32)
    centres = generator.standard_normal((labelled, 6)).astype(np.float32)
    number = min(count, 150)
    cover, open_points = GreedyCover(points, centres), np.ones(count, bool)
    ours = []
    for _ in range(number):
        found = cover.farthest(open_points)
        assert found is not None
        ours.append(found[0])
        open_points[found[0]] = False
        cover.add(found[0])
    every = points.astype(np.float64)
    distances = np.full(count, np.inf)
    for centre in centres.astype(np.float64):
        distances = np.minimum(distances, ((every - centre) ** 2).sum(axis=1))
    plain = [ours[0]] if not labelled else []
    for index in plain:
        distances = np.minimum(distances, ((every - every[index]) ** 2).sum(axis=1))
    while len(plain) < number:
        candidates = distances.copy()
        candidates[plain] = -1
        plain.append(int(candidates.argmax()))
        distances = np.minimum(distances, ((every - every[plain[-1]]) ** 2).sum(axis=1))
    assert ours == plain


def test_the_greedy_cover_ends_when_nothing_is_open() -> None:
    cover = GreedyCover(np.eye(3, dtype=np.float32), np.zeros((0, 3), np.float32))
    assert cover.farthest(np.zeros(3, bool)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 1000))
def test_nearest_is_the_nearest(points: int, centres: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    own, others = generator.standard_normal((points, 5)), generator.standard_normal((centres, 5))
    numbers, distances = nearest(own.astype(np.float32), others.astype(np.float32))
    if not centres:
        assert np.isinf(distances).all() and (numbers == -1).all()
        return
    wanted = ((own[:, None] - others) ** 2).sum(axis=2)
    assert np.allclose(distances, wanted.min(axis=1), atol=1e-4)
    assert np.allclose(wanted[np.arange(points), numbers], wanted.min(axis=1), atol=1e-4)


def test_clusters_are_as_tight_as_those_of_scikit_learn() -> None:
    from sklearn.cluster import KMeans

    points = make_pool(1500, seed=5).features
    free = np.full(len(points), np.inf, np.float32)
    ours = weighted_means(points, np.ones(len(points)), 40, free, np.random.default_rng(0))
    peer = KMeans(40, init="random", n_init=1, random_state=0).fit(points).cluster_centers_.astype(np.float32)
    assert nearest(points, ours)[1].mean() <= 1.05 * nearest(points, peer)[1].mean()


def test_a_medoid_is_the_member_with_the_least_sum_of_distances() -> None:
    points = make_pool(300, seed=2).features
    free = np.full(len(points), np.inf, np.float32)
    ones = np.ones(len(points))
    centres = weighted_means(points, ones, 8, free, np.random.default_rng(0), rounds=100)
    clusters = members_by_cluster(points, centres, free, ones)
    assert sorted(np.concatenate(clusters).tolist()) == list(range(300))
    assert [len(members) for members in clusters] == sorted((len(members) for members in clusters), reverse=True)
    for members in clusters:
        sums = ((points[members][:, None].astype(np.float64) - points[members]) ** 2).sum(axis=(1, 2))
        assert sums[0] <= sums.min() * 1.001


def test_conditioned_likeness_is_what_its_words_say() -> None:
    pool = make_pool(20)
    joined = conditioned_features(pool.features, pool.class_counts, 0.3)
    assert np.allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-5)
    shares = np.concatenate([pool.class_counts, np.ones((20, 1))], axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    wanted = 0.7 * pool.features @ pool.features.T + 0.3 * np.sqrt(shares) @ np.sqrt(shares).T
    assert np.allclose(joined @ joined.T, wanted, atol=1e-5)


def test_the_typical_one_stands_where_points_are_dense() -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(0, 0.1, (40, 3)), generator.normal(4, 3, (20, 3))]).astype(np.float32)
    assert typicality(points)[:40].min() > typicality(points)[40:].max()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.integers(1, 20),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 30)),
    st.randoms(use_true_random=False),
)
def test_a_basket_keeps_its_promises_whatever_is_offered(
    groups: list[int], count: int, most: int, boxes: int | None, random: object
) -> None:
    number = len(groups)
    pool = make_pool(number, groups=np.array(groups), slices={})
    basket = Basket(pool, count, boxes, most)
    for index in [random.randrange(number) for _ in range(3 * number)]:  # type: ignore[attr-defined]
        was_open = bool(basket.open[index]) and basket.left > 0
        assert basket.offer(index, "random", "because") == was_open
    taken = basket.taken()
    assert len(set(taken.tolist())) == len(taken) <= count
    assert np.bincount(pool.groups[taken], minlength=1).max() <= most
    assert boxes is None or pool.boxes[taken].sum() <= boxes


def test_candidates_of_one_endless_clip_do_not_crowd_out_the_others() -> None:
    pool = make_pool(400, groups=np.where(np.arange(400) < 300, 0, np.arange(400)))
    scores = np.where(pool.groups == 0, 0.9, 0.5)
    choice = choose(replace(pool, scores=scores), make_settings(random_share=0, most_per_group=5))
    chosen = pool.groups[choice.indices()]
    assert (chosen == 0).sum() == 5 and len(chosen) == 30


def test_a_space_knows_the_distance_to_what_is_labelled() -> None:
    pool = make_pool()
    space = Space(pool, make_settings(category_share=0))
    wanted = ((pool.features[:, None].astype(np.float64) - pool.centres) ** 2).sum(axis=2).min(axis=1)
    assert np.allclose(space.labelled_distances, wanted, atol=1e-4)


def test_a_pool_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="boxes, groups"):
        Pool(
            np.zeros((3, 2), np.float32), None, np.zeros((3, 0)), np.zeros(2), np.zeros(4, int),
            np.zeros((0, 2), np.float32), np.zeros((0, 0)),
        )  # fmt: skip


def test_class_balance_takes_scarce_classes_and_no_crowds_of_common_ones() -> None:
    counts = np.zeros((200, 3))
    counts[:100, 0] = 2.0  # two fish
    counts[100:150, 0] = 30.0  # a school
    counts[150:175, 1] = 1.0  # a ray
    counts[175:, 2] = 1.0  # a starfish
    pool = make_pool(class_counts=counts, boxes=counts.sum(axis=1), centre_counts=np.tile([5.0, 0.0, 1.0], (20, 1)))
    wanted = make_settings(strategy="class_balance", count=150, budget_boxes=60, random_share=0, most_per_group=None)
    choice = choose(pool, wanted)
    chosen = pool.class_counts[choice.indices()].sum(axis=0)
    assert chosen[1] > 10 and chosen[2] > 5
    assert choice.indices()[:20].min() >= 150, "scarce ones come first, and a school must be worth all its boxes"
    assert "may show class 1, of which 0 boxes are labelled or chosen" in choice.picks[0].reason


def test_class_balance_takes_what_differs_among_pictures_of_equal_boxes() -> None:
    counts = np.zeros((200, 3))
    counts[:, 1] = 1.0
    pool = make_pool(class_counts=counts, boxes=counts.sum(axis=1))
    points = pool.features.copy()
    points[:190] = pool.centres[0]
    pool = replace(pool, features=points)
    wanted = make_settings(strategy="class_balance", count=8, random_share=0, category_share=0, most_per_group=None)
    assert min(choose(pool, wanted).indices()) >= 190


def test_hybrid_can_balance_classes_among_the_uncertain() -> None:
    pool = make_pool(count=400)
    choice = choose(pool, make_settings(cover="class_balance", random_share=0, candidate_factor=2))
    assert {pick.kind for pick in choice.picks} == {"balance"}
    assert scores_of(pool)[choice.indices()].min() > 0.5


def test_class_balance_counts_the_boxes_that_a_detector_misses() -> None:
    counts = np.zeros((200, 3))
    counts[:, 0] = 1.0
    pool = make_pool(class_counts=counts, boxes=np.full(200, 4.0), centre_counts=np.zeros((20, 3)))
    choice = choose(pool, make_settings(strategy="class_balance", count=3, random_share=0, most_per_group=None))
    assert [pick.reason.partition("which ")[2].split()[0] for pick in choice.picks] == ["0", "4", "8"]
