"""What queries ask for: values of pictures and of boxes, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from marauder.data.records import Record

NUMBER, TEXT, TRUTH = "numbers", "text", "true or false"
KINDS: dict[type, str] = {float: NUMBER, str: TEXT, bool: TRUTH}
"""Kinds of values by the type that ``plain`` gives them; only values of the same kind can be compared."""
PICTURE_NAMES = ("key", "group", "split", "width", "height", "box_count", "labelled")
"""What every picture has, beside its own attributes: ``box_count`` is the number of boxes that are not ignored."""
BOX_NAMES = ("class", "area", "width", "height", "relative_area", "aspect")
"""What every box has, beside its own attributes: sizes in pixels, ``relative_area`` as share of the picture (0..1),
``aspect`` as width by height."""

Values = Sequence[Any] | np.ndarray


def plain(values: Values) -> list[float | str | bool | None]:
    """Numbers as float; ``None`` for NaN and for what is no number, text or truth value."""
    made: list[float | str | bool | None] = []
    for value in values.tolist() if isinstance(values, np.ndarray) else values:
        if isinstance(value, (bool, np.bool_)):
            made.append(bool(value))
        elif isinstance(value, str):
            made.append(str(value))
        else:
            number = isinstance(value, (int, float, np.number)) and not np.isnan(value)
            made.append(float(value) if number else None)
    return made


def picture_names(records: Sequence[Record]) -> list[str]:
    """All names that a query over these pictures can ask for."""
    return sorted({*PICTURE_NAMES, *(name for record in records for name in record.attributes)})


def picture_columns(records: Sequence[Record], names: Sequence[str]) -> dict[str, Values]:
    """The values of ``names``; a name that no picture has gets none."""
    columns: dict[str, Values] = {}
    for name in names:
        if name == "box_count":
            columns[name] = [int((~record.ignored).sum()) for record in records]
        elif name in PICTURE_NAMES:
            columns[name] = [getattr(record, name) for record in records]
        elif any(name in record.attributes for record in records):
            columns[name] = [record.attributes.get(name) for record in records]
    return columns


def box_names(records: Sequence[Record]) -> list[str]:
    """All names that a query over the boxes of these pictures can ask for."""
    return sorted({*BOX_NAMES, *(name for record in records for name in record.box_attributes)})


def box_columns(records: Sequence[Record], names: Sequence[str], classes: Sequence[str]) -> dict[str, Values]:
    """The values of ``names`` over all boxes of all pictures, one after the other; ``classes``: their names."""
    boxes = np.concatenate([record.boxes for record in records]) if records else np.zeros((0, 4))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    picture = np.repeat([float(record.width * record.height) for record in records], [len(r.boxes) for r in records])
    # A data set made in memory may hold boxes without height and pictures without size.
    with np.errstate(all="ignore"):
        built_in: dict[str, Callable[[], Values]] = {
            "class": lambda: [classes[index] for record in records for index in record.classes.tolist()],
            "area": lambda: width * height,
            "width": lambda: width,
            "height": lambda: height,
            "relative_area": lambda: width * height / picture,
            "aspect": lambda: width / height,
        }
        columns = {name: built_in[name]() for name in names if name in built_in}
    for name in names:
        if name not in built_in and any(name in record.box_attributes for record in records):
            columns[name] = [value for record in records for value in _box_values(record, name)]
    return columns


def _box_values(record: Record, name: str) -> list[Any]:
    """A record's box attribute; an empty text says nothing."""
    values = record.box_attributes.get(name)
    if values is None:
        return [None] * len(record.boxes)
    return [None if value == "" else value for value in values.tolist()]
