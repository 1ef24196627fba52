"""Two versions side by side, overall and slice by slice, from their ``eval_report.json``. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from marauder.core.plain import PlainMapping

OVERALL = "overall"
LEFT_BETTER, RIGHT_BETTER, UNCLEAR = "the first is better", "the second is better", "no clear difference"
SAME, MISSING = "the same", "not measured in both"


@dataclass(frozen=True)
class Side:
    """What one report says of a slice: ``value`` (NaN: undefined), its interval if there is one, and how many
    pictures it was measured on."""

    value: float
    interval: tuple[float, float] | None
    pictures: int | None


@dataclass(frozen=True)
class ComparedSlice:
    """A slice under two versions. ``tested``: there are intervals, so that ``reading`` says more than the sign.
    ``paired``: bounds of the difference on the same pictures, where one run was compared with the other."""

    name: str
    left: Side
    right: Side
    protected: bool
    reading: str
    tested: bool
    paired: tuple[float, float] | None = None

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.right.value - self.left.value


def compare_reports(left: PlainMapping, right: PlainMapping, metric: str) -> list[ComparedSlice]:
    """All pictures first, then the slices of either report, in their order.

    Where one of the runs was compared with the other, as its production, the paired interval of the difference tells.
    Else a version counts as better where the two intervals do not overlap, which is cautious on the same pictures.
    """
    slices = [_mapping(report, "slices") for report in (left, right)]
    rows = [_compare(OVERALL, _mapping(left, OVERALL), _mapping(right, OVERALL), metric, _paired(left, right))]
    for name in dict.fromkeys([*slices[0], *slices[1]]):
        rows.append(_compare(name, _mapping(slices[0], name), _mapping(slices[1], name), metric, _paired(left, right)))
    return rows


def _paired(left: PlainMapping, right: PlainMapping) -> Literal["left", "right"] | None:
    """Which report holds the comparison with the other one as production."""
    for holder, other, name in ((right, left, "right"), (left, right, "left")):
        run = _mapping(holder, "lineage").get("production_run")
        if run and run == other.get("run_id"):
            return "right" if name == "right" else "left"
    return None


def differences_of_data(left: PlainMapping, right: PlainMapping) -> list[str]:
    """Reasons why figures of the two reports are not measured alike, in plain words; empty: none is known."""
    found = []
    if left.get("split") != right.get("split"):
        found.append(f"the first was measured on the split {left.get('split')}, the second on {right.get('split')}")
    counts = [_pictures(_mapping(report, OVERALL)) for report in (left, right)]
    if None not in counts and counts[0] != counts[1]:
        found.append(f"the first was measured on {counts[0]} pictures, the second on {counts[1]}")
    return found


def summary(rows: Sequence[ComparedSlice]) -> str:
    """How often which version is better, in one line."""
    tested = [row for row in rows if row.tested]
    if not tested:
        return "Neither report has intervals: the differences may be noise."
    parts = [f"{sum(row.reading == reading for row in tested)} × {reading}" for reading in _ORDER]
    return ", ".join(part for part in parts if not part.startswith("0 ")) + "."


_ORDER = (LEFT_BETTER, RIGHT_BETTER, UNCLEAR, SAME)


def _compare(
    name: str, left: PlainMapping, right: PlainMapping, metric: str, holder: Literal["left", "right"] | None
) -> ComparedSlice:
    sides = _side(left, metric), _side(right, metric)
    paired = _change(right, metric) if holder == "right" else _change(left, metric) if holder == "left" else None
    if paired is not None and holder == "left":
        # That report took the other one for production, so that its difference runs the other way.
        paired = (-paired[1], -paired[0])
    tested = paired is not None or all(side.interval is not None for side in sides)
    protected = bool(left.get("protected") or right.get("protected"))
    return ComparedSlice(name, *sides, protected, _reading(*sides, paired), tested, paired)


def _change(row: PlainMapping, metric: str) -> tuple[float, float] | None:
    bounds = _mapping(_mapping(row, "changes"), metric)
    low, high = _number(bounds.get("low")), _number(bounds.get("high"))
    return (low, high) if low <= high else None


def _reading(left: Side, right: Side, paired: tuple[float, float] | None) -> str:
    if math.isnan(left.value) or math.isnan(right.value):
        return MISSING
    if paired is not None:
        return RIGHT_BETTER if paired[0] > 0 else LEFT_BETTER if paired[1] < 0 else UNCLEAR
    if left.value == right.value:
        return SAME
    if left.interval is None or right.interval is None:
        return (
            "the second" if right.value > left.value else "the first"
        ) + " is higher; without intervals, maybe noise"
    if left.interval[1] < right.interval[0]:
        return RIGHT_BETTER
    return LEFT_BETTER if right.interval[1] < left.interval[0] else UNCLEAR


def _side(row: PlainMapping, metric: str) -> Side:
    bounds = _mapping(_mapping(row, "intervals"), metric)
    # A missing bound is NaN, for which the comparison below is false.
    low, high = _number(bounds.get("low")), _number(bounds.get("high"))
    return Side(_number(row.get(metric)), (low, high) if low <= high else None, _pictures(row))


def _pictures(row: PlainMapping) -> int | None:
    pictures = row.get("n", row.get("pictures"))
    return pictures if isinstance(pictures, int) else None


def _mapping(parent: PlainMapping, name: str) -> PlainMapping:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
