"""The slices as the report shows them: one row each, protected ones first, then worst to best, with what changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.evaluation.comparison import Comparison, SliceDelta
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.intervals import OVERALL, Interval
from marauder.evaluation.metrics import Metrics
from marauder.evaluation.reliability import Calibration, calibrate
from marauder.reporting.evidence import RunEvidence

FEW_BOXES = 50
"""Below this many boxes an average precision says little (docs/evaluation.md)."""
FEW_GROUPS = 5
"""With fewer groups of pictures an interval would say more than is known."""
SIGNIFICANT = 0.05
"""Adjusted p-values up to this mark a loss that is more than noise."""
NARROWEST_SPREAD = 0.1
"""Colours run over at least this much on either side of the whole, so that trifles stay pale."""


@dataclass(frozen=True)
class Column:
    """A metric of the table: its title, its name in the JSON, and which end is the good one."""

    title: str
    name: str
    higher_is_better: bool = True


COLUMNS = (
    Column("mAP50", "map50"),
    Column("mAP50-95", "map50_95"),
    Column("precision", "precision"),
    Column("recall", "recall"),
    Column("F1", "f1"),
    Column("D-ECE", "d_ece", higher_is_better=False),
)


@dataclass(frozen=True)
class Change:
    """The difference from production: candidate minus production, with its interval where one was drawn (else NaN).

    ``p``: adjusted, of a loss. ``significant``: more than noise (``is_significant``); ``None`` where that was not
    asked. ``better`` says whether the difference goes the good way.
    """

    delta: float
    low: float
    high: float
    p: float
    significant: bool | None
    better: bool


@dataclass(frozen=True)
class Cell:
    """One metric of one slice. ``shade`` runs from -1 (worst) over 0 (as all pictures) to 1 (best), NaN: undefined."""

    column: Column
    value: float
    shade: float
    interval: Interval | None
    change: Change | None


@dataclass(frozen=True, eq=False)
class Row:
    """One slice, or all pictures (``name`` is then ``OVERALL``). ``groups``: those with a box that counts."""

    name: str
    protected: bool
    description: str
    pictures: int
    boxes: int
    groups: int
    metrics: Metrics
    cells: tuple[Cell, ...]

    @property
    def whole(self) -> bool:
        """Whether this row is all pictures."""
        return self.name == OVERALL

    @property
    def small(self) -> bool:
        """Whether there is too little in it to believe its figures to the second decimal."""
        return self.boxes < FEW_BOXES or self.groups < FEW_GROUPS

    def value(self, name: str) -> float:
        """A metric of the row by its name; NaN where undefined."""
        return next(cell.value for cell in self.cells if cell.column.name == name)


def slice_rows(evidence: RunEvidence) -> list[Row]:
    """All pictures, then protected slices, then the others, each from the lowest mAP50 up, undefined ones last."""
    result = evidence.result
    values = _values_by_slice(result)
    before = _values_by_slice(evidence.production_result) if evidence.production_result is not None else {}
    changes = changes_by_slice(evidence.comparison)
    spreads = {column.name: _spread(values, column.name) for column in COLUMNS}
    masks = {mask.name: mask for mask in result.masks}

    def row(name: str, metrics: Metrics) -> Row:
        mask = masks.get(name)
        intervals = dict(evidence.intervals) if name == OVERALL else {}
        if name in evidence.slice_intervals:
            intervals[evidence.interval_metric] = evidence.slice_intervals[name]
        cells = []
        for column in COLUMNS:
            value = values[name][column.name]
            # Only the metric that was compared has tests; the others show the plain difference.
            tested = changes.get(name) if evidence.comparison and evidence.comparison.metric == column.name else None
            cells.append(
                Cell(
                    column,
                    value,
                    _shade(value, values[OVERALL][column.name], spreads[column.name], column),
                    intervals.get(column.name),
                    _change(column, value, before.get(name, {}).get(column.name, math.nan), tested),
                )
            )
        return Row(
            name,
            mask is not None and mask.protected,
            mask.description if mask is not None else "",
            metrics.pictures,
            metrics.boxes,
            _groups(evidence, name),
            metrics,
            tuple(cells),
        )

    parts = [row(name, metrics) for name, metrics in result.slices.items()]
    parts.sort(key=_order)
    return [row(OVERALL, result.overall), *parts]


def changes_by_slice(comparison: Comparison | None) -> dict[str, SliceDelta]:
    """The lines of a comparison by slice, the whole under ``OVERALL``; empty without one."""
    if comparison is None:
        return {}
    return {OVERALL: comparison.overall, **{one.name: one for one in comparison.slices}}


def adjusted_p(change: SliceDelta) -> float:
    """Of a loss, adjusted for the slices beside it: the protected ones for a protected slice, else all."""
    return change.p_all if change.p_protected is None else change.p_protected


def is_significant(change: SliceDelta) -> bool:
    """Whether a slice differs from production by more than noise: a loss beyond the comparison's margin by its adjusted
    p-value, a gain by its interval (no test was made for gains)."""
    return change.enough and (adjusted_p(change) <= SIGNIFICANT if change.delta < 0 else change.low > 0)


def _groups(evidence: RunEvidence, name: str) -> int:
    """Groups of pictures that hold a box which counts, as the comparison counts them."""
    result = evidence.result
    matches = result.matches if name == OVERALL else result.slice_matches(name)
    segment, picture = matches.targets
    # The first K segments are those of all sizes.
    counting = np.unique(picture[segment < len(matches.names)])
    return len({evidence.records[place].group for place in counting})


def _order(row: Row) -> tuple[bool, bool, float, str]:
    value = row.value("map50")
    return (not row.protected, math.isnan(value), 0.0 if math.isnan(value) else value, row.name)


def calibration_of(result: EvaluationResult, name: str = OVERALL) -> Calibration:
    """How far confidences can be trusted, on all pictures or on a slice."""
    matches = result.matches if name == OVERALL else result.slice_matches(name)
    return calibrate(matches, result.overall.confidence)


def _values_by_slice(result: EvaluationResult) -> dict[str, dict[str, float]]:
    """The columns' values of the whole, under ``OVERALL``, and of every slice."""
    return {
        name: {
            column.name: calibration_of(result, name).d_ece if column.name == "d_ece" else getattr(part, column.name)
            for column in COLUMNS
        }
        for name, part in {OVERALL: result.overall, **result.slices}.items()
    }


def _spread(values: dict[str, dict[str, float]], name: str) -> float:
    apart = [abs(part[name] - values[OVERALL][name]) for part in values.values()]
    return max([NARROWEST_SPREAD, *(value for value in apart if not math.isnan(value))])


def _shade(value: float, whole: float, spread: float, column: Column) -> float:
    shade = (value - whole) / spread
    return shade if column.higher_is_better or math.isnan(shade) else -shade


def _change(column: Column, value: float, before: float, tested: SliceDelta | None) -> Change | None:
    """What changed: as the comparison tested it, else the plain difference from production's own evaluation."""
    if tested is not None and not math.isnan(tested.delta):
        delta, low, high, p = tested.delta, tested.low, tested.high, adjusted_p(tested)
        significant: bool | None = is_significant(tested)
    elif not math.isnan(value - before):
        delta, low, high, p, significant = value - before, math.nan, math.nan, math.nan, None
    else:
        return None
    return Change(delta, low, high, p, significant, (delta > 0) == column.higher_is_better and delta != 0)


def protected_names(rows: Sequence[Row]) -> list[str]:
    """Names of the protected slices, in the table's order."""
    return [row.name for row in rows if row.protected]
