"""How far two people, or a person and a model, agree on the boxes of the same pictures; arrays in, numbers out.

Boxes are paired one to one whatever their class, so that a difference of class is seen as one. Class agreement is
Cohen's kappa (Cohen, "A coefficient of agreement for nominal scales", 1960) over the classes and one more answer,
"missed", for a box that the other side does not have. Since nobody writes down what both miss, that kappa is a harsh
one, and with one class alone it says little; the kappa of paired boxes only accompanies it. Intervals are percentile
bootstraps over groups of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.core.randomness import stream
from marauder.data.boxes import iou_matrix
from marauder.evaluation.group_draws import draw_names, percentiles

DRAWS = 500
LEVEL = 0.95
SAME_CLASS_BONUS = 1e-3
"""Of two pairings that overlap equally well the one with equal classes is taken."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """Boxes of two sides of one picture. ``first``, ``second``: int64 (M,), positions of the paired ones; ``iou``:
    float64 (M,), their overlap. ``first_alone``, ``second_alone``: positions of those without a partner."""

    first: np.ndarray
    second: np.ndarray
    iou: np.ndarray
    first_alone: np.ndarray
    second_alone: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """What one side says of a picture: ``boxes`` float64 (N, 4), x0 y0 x1 y1; ``classes`` int64 (N,)."""

    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the bounds of its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PictureAgreement:
    """One picture: its boxes on each side, how many were paired, how many of these have different classes, and the
    mean overlap of the pairs (NaN without any)."""

    key: str
    first: int
    second: int
    paired: int
    other_class: int
    mean_iou: float


@dataclass(frozen=True, eq=False)
class Agreement:
    """``mean_iou``: of paired boxes. ``kappa``: -1..1, of classes with "missed" as an answer; ``class_kappa``: of
    the classes of paired boxes. ``found_by_both``: share of objects that both have, 2 M / (N1 + N2).
    ``well_located``: share of pairs above the IoU that counts as such. ``table``: int64 (K + 1, K + 1), first side's
    class by second side's, the last row and column "missed"."""

    pictures: tuple[PictureAgreement, ...]
    mean_iou: Figure
    kappa: Figure
    class_kappa: Figure
    found_by_both: Figure
    well_located: float
    table: np.ndarray

    @property
    def boxes(self) -> int:
        """Objects that at least one side has."""
        return int(self.table.sum())


def pair_boxes(first: View, second: View, least_iou: float = 0.5) -> Pairing:
    """Pair boxes one to one so that the sum of overlaps is greatest (Kuhn, "The Hungarian method", 1955); pairs below
    ``least_iou`` do not count."""
    everything = np.arange(len(first.boxes)), np.arange(len(second.boxes))
    nothing = np.zeros(0, np.int64)
    if not len(first.boxes) or not len(second.boxes):
        return Pairing(nothing, nothing, np.zeros(0), *everything)
    # Two seconds to import, which only a comparison of boxes needs.
    from scipy.optimize import linear_sum_assignment

    iou = iou_matrix(first.boxes, second.boxes)
    same = first.classes[:, None] == second.classes[None, :]
    # What overlaps too little gains nothing: with small gains, two poor pairs could push out one good one.
    gain = np.where(iou >= least_iou, iou + SAME_CLASS_BONUS * same, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    # scipy pairs off the whole of the smaller side, even at a gain of zero.
    kept = iou[rows, columns] >= least_iou
    rows, columns = rows[kept], columns[kept]
    return Pairing(
        rows, columns, iou[rows, columns], np.setdiff1d(everything[0], rows), np.setdiff1d(everything[1], columns)
    )


def agree(
    keys: Sequence[str],
    first: Sequence[View],
    second: Sequence[View],
    class_count: int,
    least_iou: float = 0.5,
    well_located_iou: float = 0.75,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Agreement:
    """Compare two sides over pictures ``keys``. ``groups``: of each picture (a clip), drawn whole for the intervals.

    Raises ``ValueError`` when the lists differ in length.
    """
    if not len(keys) == len(first) == len(second) == len(groups if groups is not None else keys):
        raise ValueError("keys, views and groups differ in length")
    rows, cells, both, pictures = [], [], [], []
    well = 0
    for one, other, key in zip(first, second, keys):
        pairing = pair_boxes(one, other, least_iou)
        differ = one.classes[pairing.first] != other.classes[pairing.second]
        mean = float(pairing.iou.mean()) if len(pairing.iou) else float("nan")
        counts = (len(one.boxes), len(other.boxes), len(pairing.iou))
        pictures.append(PictureAgreement(key, *counts, int(differ.sum()), mean))
        rows.append([*counts, pairing.iou.sum()])
        well += int((pairing.iou >= well_located_iou).sum())
        cells.append(_cells(one, other, pairing, class_count))
        # ``_cells`` puts the pairs first.
        both.append(cells[-1][: len(pairing.iou)])
    sums = np.array(rows, np.float64).reshape(-1, 4)
    names = list(groups) if groups is not None else list(keys)
    drawn = draw_names(np.array(names, object).astype(str), DRAWS, lambda draw: stream(seed, "agreement", draw + 1))
    draws = np.ascontiguousarray(drawn.weights_from_original().T, np.float64)
    paired = sums[:, 2].sum()
    return Agreement(
        pictures=tuple(pictures),
        mean_iou=_figure(draws @ sums[:, 3], draws @ sums[:, 2]),
        kappa=_kappa(cells, class_count, draws),
        class_kappa=_kappa(both, class_count, draws),
        found_by_both=_figure(draws @ (2 * sums[:, 2]), draws @ (sums[:, 0] + sums[:, 1])),
        well_located=float(well / paired) if paired else float("nan"),
        table=_table(cells, class_count),
    )


def kappa_of(table: np.ndarray) -> float:
    """Cohen's kappa of a square table of counts: float in -1..1; NaN without counts, 1 where both sides only ever give
    the same one answer (0 / 0 by the formula)."""
    total = table.sum()
    if not total:
        return float("nan")
    observed = np.trace(table) / total
    expected = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return 1.0 if expected >= 1.0 else float((observed - expected) / (1.0 - expected))


def _cells(one: View, other: View, pairing: Pairing, missed: int) -> np.ndarray:
    """Cells of the table, one a box or pair, as ``row * (missed + 1) + column``."""
    width = missed + 1
    return np.concatenate(
        [
            one.classes[pairing.first] * width + other.classes[pairing.second],
            one.classes[pairing.first_alone] * width + missed,
            missed * width + other.classes[pairing.second_alone],
        ]
    ).astype(np.int64)


def _table(cells: Sequence[np.ndarray], class_count: int) -> np.ndarray:
    width = class_count + 1
    flat = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    return np.bincount(flat, minlength=width * width).reshape(width, width)


def _figure(above: np.ndarray, below: np.ndarray) -> Figure:
    # The first row of the draws is the data as they are, the others make the interval.
    values = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return Figure(float(values[0]), *percentiles(values[1:], LEVEL))


def _kappa(cells: Sequence[np.ndarray], class_count: int, draws: np.ndarray) -> Figure:
    # Counts by picture for the cells in use alone: a whole table a picture would be (K + 1)² wide.
    used, place = np.unique(np.concatenate(cells) if cells else np.zeros(0, np.int64), return_inverse=True)
    counts = np.zeros((len(cells), len(used)))
    picture = np.repeat(np.arange(len(cells)), [len(part) for part in cells])
    np.add.at(counts, (picture, place), 1)
    width = class_count + 1
    values = []
    for weights in draws @ counts:
        table = np.zeros(width * width)
        table[used] = weights
        values.append(kappa_of(table.reshape(width, width)))
    return Figure(values[0], *percentiles(np.array(values[1:]), LEVEL))
