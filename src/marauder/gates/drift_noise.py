"""How far apart two profiles lie that differ by nothing but which clips they got: distances, and their noise.

Frames of one clip are alike, so a test that counts frames as independent finds drift between any two halves of one data
set. Here the unit of chance is the group: groups are dealt anew to the two sides, whole, and the distance is measured
again each time (block permutation; Winkler et al., "Multi-level block permutation", NeuroImage 123, 2015). What chance
reaches often enough is no drift, however many frames stand behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from marauder.core.randomness import stream
from marauder.data.profile import Profile

Kind = Literal["numeric", "categorical"]
LEAST_DEVIATION = 1e-3
CHUNK_VALUES = 4_000_000
"""Values held at once while distances of many deals are taken (16 MB)."""


@dataclass(frozen=True, eq=False)
class Column:
    """A feature on both sides: values and, beside each, its unit (the number of its group among the dealt ones)."""

    name: str
    kind: Kind
    reference: np.ndarray
    current: np.ndarray
    reference_units: np.ndarray
    current_units: np.ndarray


@dataclass(frozen=True, eq=False)
class Noise:
    """A column's distance and, sorted ascending, the distances of the deals."""

    value: float
    dealt: np.ndarray

    @property
    def p_value(self) -> float:
        """Share of deals that reach the distance, the real one counted in: (1 + reached) / (1 + deals)."""
        # Deals that give the same distance but for rounding have reached it.
        reached = len(self.dealt) - int(np.searchsorted(self.dealt, self.value * (1 - 1e-9), "left"))
        return (1 + reached) / (1 + len(self.dealt))

    def limit(self, p_value: float) -> float:
        """The distance above which ``p_value`` is reached; infinite where the deals are too few to tell."""
        allowed = int(np.floor(p_value * (1 + len(self.dealt)) + 1e-9)) - 1
        if allowed < 0:
            return float("inf")
        if allowed >= len(self.dealt):
            return 0.0
        # Clearly above: engines take the same distance in other ways and may differ in the last digits.
        return float(np.nextafter(self.dealt[len(self.dealt) - 1 - allowed], np.inf)) * (1 + 1e-9)


def columns_of(reference: Profile, current: Profile) -> tuple[list[Column], list[str], int, int]:
    """The features that both sides know, the names of those that only one knows, and the units of each side."""
    units = [_units(profile) for profile in (reference, current)]
    first, second = int(units[0].max(initial=-1)) + 1, int(units[1].max(initial=-1)) + 1
    # Numbered on from the reference's units: a clip on both sides is two units, each of which is dealt for itself.
    sides = (_features(reference, units[0]), _features(current, units[1] + first))
    columns, apart = [], []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        found = [side.get(name) for side in sides]
        if found[0] is None or found[1] is None or found[0][0] != found[1][0]:
            apart.append(name)
        else:
            (kind, here, where), (_, there, whence) = found[0], found[1]
            columns.append(Column(name, kind, here, there, where, whence))
    return columns, apart, first, second


def deals(reference_units: int, current_units: int, count: int, seed: int) -> np.ndarray:
    """``count`` ways to deal the units to two sides as large as they are: float32 (count, units), 1 = reference."""
    total = reference_units + current_units
    dealt = np.zeros((count, total), np.float32)
    for number in range(count):
        # A stream for each deal: the first ones stay what they are when more are asked for.
        dealt[number, stream(seed, "drift deal", number).permutation(total)[:reference_units]] = 1
    return dealt


def noise_of(column: Column, dealt: np.ndarray) -> Noise:
    """The column's distance and those of the deals."""
    real = np.zeros((1, dealt.shape[1]), np.float32)
    real[0, np.unique(column.reference_units)] = 1
    way = _wasserstein if column.kind == "numeric" else _jensen_shannon
    distances = way(column, np.concatenate([real, dealt]))
    # A deal that leaves one side empty has no distance; taken for infinite, it can only hide drift.
    return Noise(float(distances[0]), np.sort(np.nan_to_num(distances[1:], nan=np.inf)))


def significant_p_value(p_values: Sequence[float], rate: float) -> float:
    """The largest p value that counts so that of all that count at most ``rate`` are false on average.

    Benjamini & Hochberg, "Controlling the false discovery rate", JRSS B 57, 1995. Where none counts: what a single one
    would need, ``rate`` / number of p values.
    """
    ordered = np.sort(np.asarray(p_values, np.float64))
    if not len(ordered):
        return rate
    passing = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / len(ordered))
    return float(ordered[passing[-1]]) if len(passing) else rate / len(ordered)


def _units(profile: Profile) -> np.ndarray:
    return np.unique(np.array(profile.groups, np.str_), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _features(profile: Profile, units: np.ndarray) -> dict[str, tuple[Kind, np.ndarray, np.ndarray]]:
    of_boxes = units[profile.box_picture]
    found: dict[str, tuple[Kind, np.ndarray, np.ndarray]] = {}
    for values, where, name in [
        *((values, units, name) for name, values in profile.numeric.items()),
        *((values, of_boxes, name) for name, values in profile.box_numeric.items()),
    ]:
        known = np.isfinite(values)
        if known.any():
            found[name] = ("numeric", values[known].astype(np.float64), where[known])
    if len(profile.box_class):
        found["class"] = ("categorical", profile.box_class, of_boxes)
    found |= {name: ("categorical", values, units) for name, values in profile.categories.items() if len(values)}
    return found


def _wasserstein(column: Column, dealt: np.ndarray) -> np.ndarray:
    """First Wasserstein distance over the reference's standard deviation (at least 0.001), for every deal.

    The area between the two distribution functions, and so exact; the form that Evidently calls ``wasserstein``.
    """
    values = np.concatenate([column.reference, column.current])
    units = np.concatenate([column.reference_units, column.current_units])
    order = np.argsort(values, kind="stable")
    values, units = values[order], units[order]
    gaps = np.diff(values)
    # Variances come from sums of squares below, which would cancel for values far from 0.
    centred = values - values.mean()
    sums = np.stack([np.bincount(units, weight, dealt.shape[1]) for weight in (None, centred, centred**2)], axis=1)
    count, first, second = (dealt.astype(np.float64) @ sums).T
    distances = np.empty(len(dealt))
    rows = max(1, CHUNK_VALUES // max(len(values), 1))
    positions = np.arange(1, len(values) + 1)
    for start in range(0, len(dealt), rows):
        here = np.cumsum(dealt[start : start + rows][:, units], axis=1, dtype=np.float64)
        total = here[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.abs(here / total - (positions - here) / (len(values) - total))[:, :-1]
        distances[start : start + rows] = apart @ gaps
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(np.maximum(second / count - (first / count) ** 2, 0))
    return distances / np.maximum(deviation, LEAST_DEVIATION)


def _jensen_shannon(column: Column, dealt: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance of the shares of each value, natural logarithm, 0..0.83, for every deal.

    Source: Endres & Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory 49(7), 2003.
    """
    values = np.concatenate([column.reference, column.current])
    units = np.concatenate([column.reference_units, column.current_units])
    found, codes = np.unique(values, return_inverse=True)
    counts = np.zeros((dealt.shape[1], len(found)))
    np.add.at(counts, (units, codes.reshape(-1)), 1)
    here = dealt.astype(np.float64) @ counts
    there = counts.sum(axis=0) - here
    with np.errstate(invalid="ignore", divide="ignore"):
        here, there = here / here.sum(axis=1, keepdims=True), there / there.sum(axis=1, keepdims=True)
        middle = (here + there) / 2
        # 0 * side, not 0: a side without any value stays NaN.
        parts = [np.where(side > 0, side * np.log(side / middle), 0 * side) for side in (here, there)]
    return np.sqrt(np.maximum((parts[0] + parts[1]).sum(axis=1) / 2, 0))
