"""One slice for each value of an attribute: what a run uses without a slices.yaml, and ``by:`` within one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from marauder.data.records import Record


def attribute_slices(records: Sequence[Record], minimum: int = 10, maximum_values: int = 12) -> dict[str, np.ndarray]:
    """A slice for each value of each attribute, named ``attribute=value``, of at least ``minimum`` labelled pictures.

    Numbers with more than ``maximum_values`` distinct values are cut at their quartiles (``depth=3.2 to 7.5``); other
    attributes with more values (a file name, say) make no slices, nor does a value that all pictures share.
    """
    names = sorted({name for record in records for name in record.attributes})
    slices: dict[str, np.ndarray] = {}
    for name in names:
        values = [record.attributes.get(name) for record in records]
        found = value_masks(name, values, maximum_values, maximum_values)
        if found is not None and len({value for value in values if value is not None}) > 1:
            slices.update(found)
    labelled = np.array([record.labelled for record in records], bool)
    return {name: mask for name, mask in slices.items() if minimum <= int((mask & labelled).sum())}


def value_masks(name: str, values: Sequence[Any], quartered_from: int, most: int) -> dict[str, np.ndarray] | None:
    """Where each value is: masks bool (N,) by ``name=value``, or ``None`` with more than ``most`` values.

    Numbers with more than ``quartered_from`` distinct values are cut at their quartiles. ``None`` is no value.
    """
    present = {value for value in values if value is not None}
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present)
    if numeric and len(present) > quartered_from:
        return _quartiles(name, values)
    if len(present) > most:
        return None
    ordered = sorted(present, key=lambda value: (str(type(value)), value))
    return {f"{name}={_show(value)}": np.array([other == value for other in values], bool) for value in ordered}


def _quartiles(name: str, values: Sequence[Any]) -> dict[str, np.ndarray]:
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    # Quartiles coincide where one value is frequent.
    edges = np.unique(np.nanquantile(numbers, (0, 0.25, 0.5, 0.75, 1)))
    slices = {}
    for index, (low, high) in enumerate(pairwise(edges)):
        # The last stretch includes its upper end; the others leave theirs to the next one.
        below = numbers <= high if index == len(edges) - 2 else numbers < high
        slices[f"{name}={low:.4g} to {high:.4g}"] = (numbers >= low) & below
    return slices


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
