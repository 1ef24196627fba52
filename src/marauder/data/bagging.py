"""Bagging by group: each member of an ensemble learns from its own draw of whole groups (clips, deployments).

Breiman, "Bagging Predictors", Machine Learning 24(2), 1996, draws as many cases as there are, with replacement. Frames
of one clip are no independent cases, so that groups are drawn. A draw is a mapping, not a copy: a record of a group
that was drawn twice is twice in the epoch. No class is lost by it: groups of rare classes are always in, and a class
that no group of the draw shows gets one of its own, which is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from marauder.core.randomness import stream
from marauder.core.settings import Settings
from marauder.core.wording import counted
from marauder.data.records import Record


class BaggingSettings(Settings):
    """Which groups of the training pictures a training learns from; the seed is ``training.seed``."""

    kind: Literal["none", "bootstrap", "share"] = Field(
        "none", description="none: all groups; bootstrap: drawn with replacement; share: drawn without"
    )
    share: float = Field(1.0, gt=0, le=1, description="groups drawn, as a share of all there are")
    rare_groups: int = Field(
        2,
        ge=0,
        description="all groups of a class are in where it has at most so many; else one, where none is drawn",
    )

    @property
    def is_off(self) -> bool:
        """Every group is in once."""
        return self.kind == "none"


@dataclass(frozen=True, eq=False)
class Bag:
    """``records``: those that are in, in their order; ``times``: how often, int64 (N,), 1 or more. ``groups``: how many
    there are and how many of them are in; ``kept``: groups that were not drawn and are in for a class, by the class."""

    records: tuple[Record, ...]
    times: np.ndarray
    groups: tuple[int, int]
    kept: Mapping[str, tuple[str, ...]]

    def describe(self) -> str:
        """A line for people."""
        there, inside = self.groups
        words = f"bagging: {inside:,} of {counted(there, 'group')}, {counted(len(self.records), 'picture')}"
        if self.kept:
            classes = ", ".join(f"{name} ({', '.join(groups)})" for name, groups in self.kept.items())
            words += f"; in though they were not drawn, so that a class stays: {classes}"
        return words


def draw_bag(records: Sequence[Record], names: Sequence[str], settings: BaggingSettings, seed: int) -> Bag:
    """The bag of ``records`` (of the split train) for a seed. A class that they show is shown in the bag, too.

    The same records, settings and seed give the same bag, in whatever order the records come.
    """
    groups = sorted({record.group for record in records})
    if settings.is_off or not groups:
        return Bag(tuple(records), np.ones(len(records), np.int64), (len(groups), len(groups)), {})
    times = _drawn(groups, settings, seed)
    showing = _groups_of_classes(records, names)
    kept = _kept(times, showing, settings.rare_groups, seed)
    for added in kept.values():
        times |= {group: max(times[group], 1) for group in added}
    inside = [record for record in records if times[record.group]]
    counts = np.array([times[record.group] for record in inside], np.int64)
    return Bag(tuple(inside), counts, (len(groups), sum(count > 0 for count in times.values())), kept)


def _drawn(groups: Sequence[str], settings: BaggingSettings, seed: int) -> dict[str, int]:
    """How often each group was drawn."""
    wanted = max(1, round(settings.share * len(groups)))
    random = stream(seed, "bagging")
    if settings.kind == "bootstrap":
        chosen = random.integers(len(groups), size=wanted)
    else:
        chosen = random.permutation(len(groups))[:wanted]
    counts = np.bincount(chosen, minlength=len(groups))
    return {group: int(count) for group, count in zip(groups, counts, strict=True)}


def _groups_of_classes(records: Sequence[Record], names: Sequence[str]) -> dict[str, list[str]]:
    """The groups that show each class (ignored boxes do not count), sorted; classes without boxes are left out."""
    found: dict[str, set[str]] = {}
    for record in records:
        for number in np.unique(record.classes[~record.ignored]).tolist():
            found.setdefault(names[number], set()).add(record.group)
    return {name: sorted(found[name]) for name in names if name in found}


def _kept(
    times: Mapping[str, int], showing: Mapping[str, Sequence[str]], rare: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Groups that have to be in beside those drawn, by the class that needs them."""
    inside = {group for group, count in times.items() if count}
    kept: dict[str, tuple[str, ...]] = {}
    for name, groups in showing.items():
        if len(groups) <= rare:
            missing = [group for group in groups if group not in inside]
        elif inside.isdisjoint(groups):
            missing = [groups[int(stream(seed, "bagging", name).integers(len(groups)))]]
        else:
            missing = []
        if missing:
            kept[name] = tuple(missing)
            inside.update(missing)
    return kept
