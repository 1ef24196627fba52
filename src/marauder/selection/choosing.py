"""Choosing pictures of a pool: pure, from figures to picks with their reasons. The same input gives the same picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from marauder.core.errors import UserError
from marauder.core.plugins import make
from marauder.selection.basket import Basket, Pick, Pool
from marauder.selection.settings import SelectionSettings
from marauder.selection.strategies.base import Space, Strategy
from marauder.selection.strategies.random import KIND, Random


@dataclass(frozen=True)
class Choice:
    """What was chosen, the most wanted first (random ones spread among them), by which strategy, and notes on it.

    ``changes``: those of the ``notes`` that say that pictures were chosen by something else than was asked for.
    """

    picks: tuple[Pick, ...]
    strategy: str
    notes: tuple[str, ...]
    changes: tuple[str, ...] = ()

    def indices(self) -> np.ndarray:
        """Places in the pool: int64 (number of picks,)."""
        return np.array([pick.index for pick in self.picks], np.int64)


def choose(pool: Pool, settings: SelectionSettings) -> Choice:
    """Choose at most ``settings.count`` pictures of ``pool`` within ``settings.budget_boxes``.

    First the share drawn at random, from the whole pool; then what quotas of classes and slices lack; then the
    strategy. Raises ``UserError`` for a strategy that needs a detector where there is none, and for quotas of classes
    or slices that do not exist.
    """
    notes: list[str] = []
    changes: list[str] = []
    strategy = choose_strategy(pool, settings, notes, changes)
    if pool.by_look:
        changes.append(f"likeness is that of how pictures look (light, colour, layout): {pool.by_look}")
    basket = Basket(pool, settings.count, settings.budget_boxes, settings.most_per_group)
    space = Space(pool, settings, notes)
    whole = np.ones(len(pool), bool)
    if not isinstance(strategy, Random):
        # First, since a sample of what a strategy has left over is no sample of the pool.
        _draw_at_random(space, basket, whole)
    _meet_quotas(space, basket, strategy)
    if basket.left > 0:
        strategy.fill(space, basket, whole, basket.left)
    if basket.left > 0:
        notes.append(_why_fewer(pool, settings, basket))
    return Choice(tuple(_interleaved(basket.picks)), strategy.name, (*changes, *notes), tuple(changes))


def _interleaved(picks: list[Pick]) -> list[Pick]:
    """Random pictures spread evenly among the others, so that whoever labels only the first ones has some of both."""
    drawn = [pick for pick in picks if pick.kind == KIND]
    others = [pick for pick in picks if pick.kind != KIND]
    placed = [((place + 0.5) / len(part), pick) for part in (others, drawn) for place, pick in enumerate(part)]
    return [pick for _, pick in sorted(placed, key=lambda item: item[0])]


def choose_strategy(pool: Pool, settings: SelectionSettings, notes: list[str], changes: list[str]) -> Strategy:
    """The strategy that fits what is known; ``changes`` names another one than was asked for."""
    asked: Strategy = make("strategy", settings.strategy)
    if not asked.needs_scores:
        return asked
    typical: Strategy = make("strategy", "typical")
    if pool.scores is None:
        # hybrid is the default: a user who named no strategy gets one that needs no detector.
        if settings.strategy != "hybrid":
            raise UserError(f"strategy {settings.strategy!r} needs a detector; name one with --model")
        changes.append("no detector was named, so typical pictures were chosen by how they look, not uncertain ones")
        return typical
    if pool.distrust or pool.by_look:
        why = pool.distrust or "it sees the same in every picture"
        changes.append(
            f"the detector's uncertainty means nothing here: {why}; typical pictures were chosen instead of "
            f"uncertain ones"
        )
        return typical
    if pool.labelled_share is None:
        notes.append(
            "the number of labelled pictures is unknown, so uncertain pictures were chosen; name the labelled data "
            "with --labeled, so that similar pictures are left out"
        )
        return asked
    if pool.labelled_share < settings.min_labelled_share:
        changes.append(
            f"only {100 * pool.labelled_share:.1f} % of the pictures are labelled (the limit is "
            f"{100 * settings.min_labelled_share:g} %): a detector that has seen so little is unsure of the wrong "
            "pictures, so typical ones were chosen instead of uncertain ones (min_labelled_share=0 switches this off)"
        )
        return typical
    return asked


def combined_scores(measures: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """One score in 0..1 a picture from several measures, float64 (N,): the weighted mean of its ranks.

    Ranks and not values, since the measures have different units and tails. Equal values share a rank; the least
    uncertain picture has 0, the most uncertain 1. Measures not in ``weights`` weigh 1. Raises ``ValueError`` without a
    measure that weighs anything.
    """
    used = {name: float(weights.get(name, 1.0)) for name in sorted(measures)}
    whole = sum(used.values())
    if whole <= 0:
        raise ValueError("no measure of uncertainty weighs more than 0")
    parts = [weight * rank_shares(np.asarray(measures[name], np.float64)) for name, weight in used.items() if weight]
    total: np.ndarray = np.sum(parts, axis=0) / whole
    return total


def rank_shares(values: np.ndarray) -> np.ndarray:
    """Rank of each value among all, as a share: 0 the least, 1 the greatest, equal ones their mean; float64 (N,)."""
    if len(values) < 2:
        return np.zeros(len(values))
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right") - 1
    shares: np.ndarray = (low + high) / 2 / (len(values) - 1)
    return shares


def _draw_at_random(space: Space, basket: Basket, whole: np.ndarray) -> None:
    share = space.settings.random_share
    # Of a budget in boxes the random pictures take their share, too, and not what they happen to hold.
    if np.isfinite(basket.boxes_left):
        mean = float(space.pool.boxes.mean()) if len(space.pool) else 0.0
        fitting = basket.count if mean <= 0 else min(basket.count, int(basket.boxes_left / mean))
        Random().fill(space, basket, whole, round(share * fitting))
        return
    Random().fill(space, basket, whole, round(share * min(basket.count, len(space.pool))))


def _meet_quotas(space: Space, basket: Basket, strategy: Strategy) -> None:
    """Take what quotas still lack, the scarcest class or slice first, by the strategy among their pictures."""
    wanted = [(name, space.pool.expects(name), count, "class") for name, count in space.settings.class_quotas.items()]
    for name, count in space.settings.slice_quotas.items():
        if name not in space.pool.slices:
            raise UserError(f"slice_quotas: no picture of the pool has {name}; check attribute and value")
        wanted.append((name, space.pool.slices[name], count, "slice"))
    for name, mask, count, what in sorted(wanted, key=lambda quota: (int(quota[1].sum()), quota[0])):
        # Random picks and those of other quotas count: a picture may serve several.
        lacking = count - int(mask[basket.taken()].sum())
        start = len(basket.picks)
        if lacking > 0:
            strategy.fill(space, basket, mask, lacking)
        words = f"{name} is expected in it (quota)" if what == "class" else f"belongs to {name} (quota)"
        for place in range(start, len(basket.picks)):
            pick = basket.picks[place]
            basket.picks[place] = Pick(pick.index, "quota", f"{words}; {pick.reason}", None, pick.score)
        reached = int(mask[basket.taken()].sum())
        if reached < count:
            space.notes.append(
                f"the quota of {name} is {count:,} pictures, {reached:,} could be chosen "
                f"({int(mask.sum()):,} of the pool qualify)"
            )


def _why_fewer(pool: Pool, settings: SelectionSettings, basket: Basket) -> str:
    taken, asked = len(basket.picks), settings.count
    if taken == len(pool):
        return f"{asked:,} pictures were requested and the pool holds {taken:,}: all of them were chosen"
    limits = []
    if settings.budget_boxes is not None:
        limits.append(f"the budget of {settings.budget_boxes:,} boxes is used up (budget_boxes)")
    if settings.most_per_group is not None:
        limits.append(f"clips give {settings.most_per_group:,} pictures at most (most_per_group)")
    return f"{taken:,} of {asked:,} pictures were chosen: {', or '.join(limits)}"
