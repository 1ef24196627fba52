"""Splits that keep every group whole and balance classes as far as the groups allow; pure and deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.randomness import stream
from marauder.data.records import Dataset


def checked_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """``fractions``, if they are positive and sum to 1. Raises ``ValueError``."""
    shares = list(fractions.values())
    if not all(math.isfinite(one) and one > 0 for one in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError("give positive shares that sum to 1")
    return dict(fractions)


Fractions = Annotated[dict[str, float], AfterValidator(checked_fractions)]
"""A setting: the share of each split by its name."""
DEFAULT_FRACTIONS: dict[str, float] = {"train": 0.7, "val": 0.2, "test": 0.1}
SWEEPS = 20
MOST_SHAKES = 60
SHAKEN_GROUPS = 20_000
"""Groups looked at in all shakes together: small sets, where it matters most, get most shakes."""


def split_dataset(
    dataset: Dataset,
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    keep_existing: bool = False,
    clock: Clock | None = None,
) -> Dataset:
    """Give every record a split so that no group is in two.

    ``fractions``: share of each split by name (positive, sum 1). With ``keep_existing`` a group whose records already
    have a split stays there whole (in the one most of its records name); only groups without one are spread.

    Two steps. Groups, those with the rarest class first, go where that class is most wanted (iterative
    stratification, Sechidis et al., "On the stratification of multi-label data", ECML PKDD 2011, on groups instead of
    samples). Then an iterated local search moves single groups while the chi-square distance between wanted and
    reached counts, of pictures and of every class's boxes, falls; a class that two or more groups hold is worth
    having in every split. The clock is asked between groups (``Interrupted``).

    Raises ``UserError`` for fractions that are not positive or do not sum to 1.
    """
    names = list(fractions)
    shares = np.array([fractions[name] for name in names], np.float64)
    try:
        checked_fractions(fractions)
    except ValueError as error:
        raise UserError(f"split fractions {dict(fractions)}: {error}") from None
    if not len(dataset):
        return dataset
    groups, counts = _group_counts(dataset)
    fixed = _existing_splits(dataset, groups, names) if keep_existing else np.full(len(groups), -1)
    wanted = counts.sum(axis=0)[:, None] * shares[None, :]
    order = stream(seed, "splits").permutation(len(groups))
    clock = clock or Clock()
    assigned = _assign(counts, wanted, fixed, order, clock)
    assigned = _improve(counts, wanted, fixed, order, assigned, seed, clock)
    of_group = {group: names[index] for group, index in zip(groups, assigned.tolist())}
    return dataset.with_records(replace(record, split=of_group[record.group]) for record in dataset)


def _group_counts(dataset: Dataset) -> tuple[list[str], np.ndarray]:
    """Group names in sorted order, and int64 (groups, 1 + classes): pictures, then boxes of each class that occurs."""
    groups = sorted({record.group for record in dataset})
    row_of = {group: row for row, group in enumerate(groups)}
    counts = np.zeros((len(groups), 1 + len(dataset.names)), np.int64)
    for record in dataset:
        row = counts[row_of[record.group]]
        row[0] += 1
        np.add.at(row, 1 + record.classes[~record.ignored], 1)
    # A class without a box has nothing to balance.
    return groups, counts[:, counts.sum(axis=0) > 0]


def _existing_splits(dataset: Dataset, groups: list[str], names: list[str]) -> np.ndarray:
    votes = np.zeros((len(groups), len(names)), np.int64)
    row_of = {group: row for row, group in enumerate(groups)}
    for record in dataset:
        if record.split in names:
            votes[row_of[record.group], names.index(record.split)] += 1
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def _assign(counts: np.ndarray, wanted: np.ndarray, fixed: np.ndarray, order: np.ndarray, clock: Clock) -> np.ndarray:
    """Split index of every group: the rarest class's groups first, largest first, each to where it is most wanted."""
    assigned = fixed.copy()
    lacking = wanted.copy()
    for group in np.flatnonzero(fixed >= 0):
        lacking[:, fixed[group]] -= counts[group]
    # The seed decides between groups of equal counts.
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    holders = (counts > 0).sum(axis=0)
    # Column 0 counts pictures, which every group has, and so comes last.
    for column in np.argsort(holders + (np.arange(counts.shape[1]) == 0) * (len(counts) + 1), kind="stable"):
        candidates = np.flatnonzero((assigned < 0) & (counts[:, column] > 0))
        for group in candidates[np.lexsort((position[candidates], -counts[candidates, column]))]:
            clock.check()
            need = np.stack([lacking[column], lacking[0]])
            choice = int(np.lexsort((-need[1], -need[0]))[0])
            assigned[group] = choice
            lacking[:, choice] -= counts[group]
    return assigned


class _Balance:
    """Counts reached by an assignment, and what it costs: the chi-square distance to the wanted ones."""

    def __init__(self, counts: np.ndarray, wanted: np.ndarray, clock: Clock) -> None:
        self.counts, self.clock = counts, clock
        self.aims = np.maximum(wanted.T, 1e-9)
        # Pictures weigh as much as all classes together, so that the fractions hold.
        self.weights = np.ones(len(wanted))
        self.weights[0] = max(1, len(wanted) - 1)
        self.scale = self.weights / (self.aims * np.maximum(wanted.sum(axis=1), 1))
        # A class that two or more groups hold is worth having in every split.
        self.presence = self.weights * ((counts > 0).sum(axis=0) >= 2)

    def cost(self, reached: np.ndarray, split: int) -> float:
        """Cost of one split that has reached these counts."""
        distance = ((reached - self.aims[split]) ** 2 * self.scale[split]).sum()
        return float(distance + self.presence[reached <= 0].sum())

    def descend(self, assigned: np.ndarray, movable: list[int]) -> float:
        """Move single groups, in place, while that lowers the cost, at most ``SWEEPS`` rounds; returns the cost."""
        splits = len(self.aims)
        reached = [self.counts[assigned == split].sum(axis=0) for split in range(splits)]
        costs = [self.cost(reached[split], split) for split in range(splits)]
        for _ in range(SWEEPS):
            moved = False
            for group in movable:
                self.clock.check()
                here = int(assigned[group])
                without = reached[here] - self.counts[group]
                cost_without = self.cost(without, here)
                others = [split for split in range(splits) if split != here]
                with_it = {split: self.cost(reached[split] + self.counts[group], split) for split in others}
                best = min(others, key=lambda split: with_it[split] - costs[split], default=here)
                # A gain within rounding is no gain: groups would move back and forth until the sweeps are used up.
                if best == here or with_it[best] - costs[best] + cost_without - costs[here] > -1e-12:
                    continue
                costs[here], costs[best] = cost_without, with_it[best]
                reached[here], reached[best] = without, reached[best] + self.counts[group]
                assigned[group] = best
                moved = True
            if not moved:
                break
        return sum(costs)


def _improve(
    counts: np.ndarray,
    wanted: np.ndarray,
    fixed: np.ndarray,
    order: np.ndarray,
    assigned: np.ndarray,
    seed: int,
    clock: Clock,
) -> np.ndarray:
    """Iterated local search: descend, shake a few groups, descend again, keep the best."""
    balance = _Balance(counts, wanted, clock)
    movable = [int(group) for group in order if fixed[group] < 0]
    best = assigned.copy()
    best_cost = balance.descend(best, movable)
    if not movable or wanted.shape[1] < 2:
        return best
    generator = stream(seed, "splits", "shake")
    for _ in range(min(MOST_SHAKES, SHAKEN_GROUPS // len(movable))):
        trial = best.copy()
        shaken = generator.choice(movable, size=min(len(movable), max(2, len(movable) // 10)), replace=False)
        trial[shaken] = generator.integers(0, wanted.shape[1], len(shaken))
        cost = balance.descend(trial, movable)
        if cost < best_cost - 1e-12:
            best, best_cost = trial, cost
    return best


@dataclass(frozen=True)
class SplitRow:
    """One line of a split's report: ``pictures`` or a class name, its count in each split, and its groups in all."""

    name: str
    counts: dict[str, int]
    groups: int


def split_report(dataset: Dataset) -> list[SplitRow]:
    """Pictures, groups and boxes of every class in each split; records without a split count under ``-``."""
    splits = sorted({record.split or "-" for record in dataset}, key=_split_order)
    pictures = dict.fromkeys(splits, 0)
    group_sets: dict[str, set[str]] = {split: set() for split in splits}
    boxes = {split: np.zeros(len(dataset.names), np.int64) for split in splits}
    holders: list[set[str]] = [set() for _ in dataset.names]
    for record in dataset:
        split = record.split or "-"
        pictures[split] += 1
        group_sets[split].add(record.group)
        # A data set under inspection may hold classes without a name.
        known = (record.classes >= 0) & (record.classes < len(dataset.names)) & ~record.ignored
        np.add.at(boxes[split], record.classes[known], 1)
        for index in np.unique(record.classes[known]).tolist():
            holders[index].add(record.group)
    total = len({record.group for record in dataset})
    rows = [
        SplitRow("pictures", pictures, total),
        SplitRow("groups", {split: len(group_sets[split]) for split in splits}, total),
    ]
    for index, name in enumerate(dataset.names):
        rows.append(SplitRow(name, {split: int(boxes[split][index]) for split in splits}, len(holders[index])))
    return rows


def leaking_groups(dataset: Dataset) -> dict[str, list[str]]:
    """Groups that stand in more than one split: group to its splits."""
    splits_of: dict[str, set[str]] = {}
    for record in dataset:
        if record.split is not None:
            splits_of.setdefault(record.group, set()).add(record.split)
    return {group: sorted(splits, key=_split_order) for group, splits in sorted(splits_of.items()) if len(splits) > 1}


def _split_order(name: str) -> tuple[int, str]:
    known = ("train", "val", "test")
    return (known.index(name) if name in known else len(known), name)
