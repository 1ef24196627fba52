"""Near-duplicate frames of one clip are thinned before pretraining, or the longest clips dominate it.

Within a group (clip, deployment) one picture of each cluster of near-duplicates is kept; of the rest, a group keeps at
most ``most_per_group``, spread evenly in time. Groups never thin each other. What is near: data.duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from marauder.core.clock import Clock
from marauder.core.settings import Settings
from marauder.data.duplicates import DEFAULT_DISTANCE, PictureHash, hash_pictures, near_clusters
from marauder.data.picture_files import PictureError
from marauder.data.records import Record

CHECKED_EVERY = 200


class ThinningSettings(Settings):
    """How many pictures of a group are kept."""

    near_duplicates: bool = Field(True, description="keep one picture of each cluster of near-duplicates of a group")
    distance: int = Field(
        DEFAULT_DISTANCE, ge=0, le=16, description="bits of 64 by which hashes of near-duplicates differ at most"
    )
    most_per_group: int = Field(300, ge=0, description="at most so many pictures of a group; 0: no limit")


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """What became of a group: pictures ``found``, left out as ``near`` another or ``over`` the limit, ``unreadable``,
    and ``kept``."""

    found: int
    near: int
    over: int
    unreadable: int

    @property
    def kept(self) -> int:
        """Pictures that are left."""
        return self.found - self.near - self.over - self.unreadable


@dataclass(frozen=True, eq=False)
class Thinned:
    """``kept``: int64, positions of the records that are left, ascending. ``groups``: group to its account, in sorted
    order. ``unreadable``: what kept pictures from being hashed."""

    kept: np.ndarray
    groups: dict[str, GroupAccount]
    unreadable: tuple[PictureError, ...] = ()

    def total(self) -> GroupAccount:
        """The account of all groups together."""
        parts = self.groups.values()
        return GroupAccount(
            sum(part.found for part in parts),
            sum(part.near for part in parts),
            sum(part.over for part in parts),
            sum(part.unreadable for part in parts),
        )

    def describe(self) -> str:
        """One line for the log."""
        total = self.total()
        unreadable = f", {total.unreadable:,} cannot be read" if total.unreadable else ""
        return (
            f"{total.kept:,} of {total.found:,} pictures kept: {total.near:,} are near-duplicates within their clip, "
            f"{total.over:,} over the limit of a clip{unreadable}"
        )


def thin(
    records: Sequence[Record],
    settings: ThinningSettings,
    hashes: Sequence[PictureHash | PictureError] | None = None,
    clock: Clock | None = None,
    store: Path | None = None,
) -> Thinned:
    """Choose the records that are left; deterministic, whatever the order of the records.

    ``hashes``: those of the records' pictures, if known; otherwise they are computed, kept in ``store`` (a
    JSON-lines file, so that an interrupted run continues) and the clock is asked (raises ``Interrupted``). Pictures
    that cannot be read are not kept.
    """
    if hashes is None:
        pictures = [record.picture for record in records]
        hashes = hash_pictures(pictures, clock, store, label="looking for near-duplicate frames")
    if len(hashes) != len(records):
        raise ValueError(f"{len(records)} records, {len(hashes)} hashes")
    members: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        members.setdefault(record.group, []).append(index)
    kept: list[int] = []
    groups: dict[str, GroupAccount] = {}
    for number, group in enumerate(sorted(members)):
        if clock is not None and number % CHECKED_EVERY == 0:
            clock.check()
        in_time = sorted(members[group], key=lambda index: natural_key(records[index].key))
        readable = [index for index in in_time if isinstance(hashes[index], PictureHash)]
        single = _without_near(readable, hashes, settings.distance) if settings.near_duplicates else readable
        chosen = [single[place] for place in spread_evenly(len(single), settings.most_per_group)]
        groups[group] = GroupAccount(
            len(in_time), len(readable) - len(single), len(single) - len(chosen), len(in_time) - len(readable)
        )
        kept.extend(chosen)
    unreadable = tuple(found for found in hashes if isinstance(found, PictureError))
    return Thinned(np.array(sorted(kept), np.int64), groups, unreadable)


def natural_key(name: str) -> tuple[tuple[int, int | str, str], ...]:
    """Sort key by which numbers inside names count as numbers: frame-9 before frame-10.

    >>> sorted(["f10", "f9", "f009"], key=natural_key)
    ['f009', 'f9', 'f10']
    """
    parts = re.split(r"([0-9]+)", name)
    # The digits themselves stand behind the number, so that f9 and f009 do not tie.
    return tuple((0, int(part), part) if number % 2 else (1, part, "") for number, part in enumerate(parts))


def spread_evenly(count: int, most: int) -> list[int]:
    """At most ``most`` positions of 0..count-1, the middles of equal stretches; all of them for ``most`` 0."""
    if most == 0 or count <= most:
        return list(range(count))
    return [((2 * place + 1) * count) // (2 * most) for place in range(most)]


def _without_near(positions: Sequence[int], hashes: Sequence[PictureHash | PictureError], distance: int) -> list[int]:
    """The first of each cluster of near-duplicates, and all that are in none."""
    usable = [found for found in (hashes[index] for index in positions) if isinstance(found, PictureHash)]
    dropped = {positions[place] for cluster in near_clusters(usable, distance) for place in cluster[1:]}
    return [index for index in positions if index not in dropped]
