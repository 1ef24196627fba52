"""What attributes a data set has: of pictures and of boxes, each with its values or its range, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marauder.data.records import Dataset

MOST_VALUES = 8


@dataclass(frozen=True)
class AttributeRow:
    """An attribute: how many pictures or boxes have it, and which values they have."""

    name: str
    count: int
    values: str


def attribute_rows(dataset: Dataset) -> dict[str, list[AttributeRow]]:
    """Attributes by title, sorted by name: ``attributes of pictures`` and ``attributes of boxes``."""
    of_pictures: dict[str, list[Any]] = {}
    of_boxes: dict[str, list[Any]] = {}
    for record in dataset:
        for name, value in record.attributes.items():
            of_pictures.setdefault(name, []).append(value)
        for name, column in record.box_attributes.items():
            # NaN, which says nothing, is not equal to itself.
            said = [value for value in column.tolist() if value is not None and value != "" and value == value]
            of_boxes.setdefault(name, []).extend(said)
    found = {"attributes of pictures": of_pictures, "attributes of boxes": of_boxes}
    return {
        title: [AttributeRow(name, len(values), describe_values(values)) for name, values in sorted(columns.items())]
        for title, columns in found.items()
    }


def describe_values(values: Sequence[Any]) -> str:
    """``0.4 to 12 (median 3.1)`` for numbers, ``rain 12, sun 9`` for the rest, most frequent first."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if values and len(numbers) == len(values):
        return f"{min(numbers):.6g} to {max(numbers):.6g} (median {float(np.median(numbers)):.6g})"
    counts = Counter(str(value) for value in values)
    shown = [f"{value} {count:,}" for value, count in counts.most_common(MOST_VALUES)]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")
