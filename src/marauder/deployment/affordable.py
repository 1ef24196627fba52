"""Which members of an ensemble a day's energy is enough for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from marauder.deployment.profile import Profile

MOST_COMPARED = 14
"""Of more members than this not all subsets are compared: the cheapest are taken."""


def affordable(profile: Profile, budget: float, contributions: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """The largest set of members, in their order, whose inference and wake time need at most ``budget`` watt-hours a
    day and leave time for every picture; of several as large, the one that contributes most, then the one that needs
    least. ``contributions``: what each adds, by name, where that is known. Empty: not one fits."""
    names = [one.name for one in profile.members if one.runs]
    known = contributions or {}
    if len(names) > MOST_COMPARED:
        return _cheapest(profile, names, budget)
    for size in range(len(names), 0, -1):
        fitting = [chosen for chosen in combinations(names, size) if _fits(profile, chosen, budget)]
        if fitting:
            return max(
                fitting,
                key=lambda chosen: (
                    round(sum(known.get(name, 0.0) for name in chosen), 12),
                    -round(profile.day_of(chosen).budgeted, 9),
                ),
            )
    return ()


def _cheapest(profile: Profile, names: Sequence[str], budget: float) -> tuple[str, ...]:
    costs = {one.name: one.milliseconds or 0.0 for one in profile.members}
    chosen: list[str] = []
    for name in sorted(names, key=lambda name: costs[name]):
        if not _fits(profile, [*chosen, name], budget):
            break
        chosen.append(name)
    return tuple(name for name in names if name in chosen)


def _fits(profile: Profile, names: Sequence[str], budget: float) -> bool:
    day = profile.day_of(names)
    return day.fits and day.budgeted <= budget
