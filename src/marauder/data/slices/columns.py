"""Values of records as typed columns, and queries answered on them: pictures' attributes, boxes' attributes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marauder.data.records import Record
from marauder.data.slices.query_tree import (
    Arithmetic,
    Comparison,
    Condition,
    Contains,
    Junction,
    Literal,
    Missing,
    Name,
    Negation,
    Query,
    Value,
    modulo,
)

ABSENT, NUMBER, TEXT, TRUTH = range(4)
KIND_NAMES = ("nothing", "numbers", "text", "True or False")
PICTURE_NAMES = ("key", "group", "split", "width", "height", "box_count", "labelled")
"""What every picture has, beside its own attributes: ``box_count`` is the number of boxes that are not ignored."""
BOX_NAMES = ("class", "area", "width", "height", "relative_area", "aspect")
"""What every box has, beside its own attributes: sizes in pixels, ``relative_area`` as share of the picture (0..1),
``aspect`` as width by height."""

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Column:
    """Values of one name, of mixed kinds: ``kinds`` int8 (N,), one of ABSENT, NUMBER, TEXT, TRUTH; ``numbers`` float64
    (N,), for NUMBER and TRUTH (0 or 1); ``texts`` object (N,), for TEXT. N may be 1: the same for all."""

    kinds: np.ndarray
    numbers: np.ndarray
    texts: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    def of(cls, values: Sequence[Any] | np.ndarray) -> Column:
        """The column of plain values; ``None``, NaN and what is no number, text or truth value count as absent."""
        array = values if isinstance(values, np.ndarray) else None
        if array is not None and array.dtype.kind in "iufb":
            numbers = array.astype(np.float64)
            kind = TRUTH if array.dtype.kind == "b" else NUMBER
            kinds = np.where(np.isnan(numbers), ABSENT, kind).astype(np.int8)
            return cls(kinds, numbers, np.full(len(numbers), None, object))
        count = len(values)
        kinds, numbers, texts = np.zeros(count, np.int8), np.full(count, np.nan), np.full(count, None, object)
        for index, value in enumerate(values):
            if isinstance(value, str):
                kinds[index], texts[index] = TEXT, str(value)
            elif isinstance(value, (bool, np.bool_)):
                kinds[index], numbers[index] = TRUTH, value
            elif isinstance(value, (int, float, np.number)) and not np.isnan(value):
                kinds[index], numbers[index] = NUMBER, value
        return cls(kinds, numbers, texts)

    @classmethod
    def joined(cls, columns: Sequence[Column]) -> Column:
        """One column after the other."""
        if not columns:
            return cls.of([])
        parts = zip(*((column.kinds, column.numbers, column.texts) for column in columns))
        return cls(*(np.concatenate(part) for part in parts))

    def values(self) -> list[Any]:
        """As plain Python values; None where absent."""
        plain: list[Any] = [None] * len(self)
        for index, kind in enumerate(self.kinds.tolist()):
            if kind == TEXT:
                plain[index] = self.texts[index]
            elif kind == TRUTH:
                plain[index] = bool(self.numbers[index])
            elif kind == NUMBER:
                plain[index] = float(self.numbers[index])
        return plain


@dataclass(frozen=True, eq=False)
class _Truth:
    """Three-valued: ``true`` and ``false``, bool (N,) or (1,), never both; neither: unknown."""

    true: np.ndarray
    false: np.ndarray


def evaluate_query(query: Query, columns: Mapping[str, Any], count: int) -> np.ndarray:
    """Which of ``count`` rows a query takes: bool (count,).

    ``columns``: a ``Column``, an array or a list of ``count`` values for each name; a name without one is absent in
    every row.
    """
    ready = {name: columns[name] for name in query.names if name in columns}
    typed = {name: one if isinstance(one, Column) else Column.of(one) for name, one in ready.items()}
    for name, column in typed.items():
        if len(column) != count:
            raise ValueError(f"{name}: {len(column)} values for {count} rows")
    with np.errstate(all="ignore"):
        return np.broadcast_to(_condition(query.root, typed).true, (count,)).copy()


def _condition(node: Condition, columns: Mapping[str, Column]) -> _Truth:
    if isinstance(node, Junction):
        return _junction(node, [_condition(part, columns) for part in node.parts])
    if isinstance(node, Negation):
        inner = _condition(node.part, columns)
        return _Truth(inner.false, inner.true)
    value = _value(node.left if isinstance(node, Comparison) else node.value, columns)
    if isinstance(node, Comparison):
        return _compare(node.operator, value, _value(node.right, columns))
    if isinstance(node, Missing):
        return _Truth(value.kinds == ABSENT, value.kinds != ABSENT)
    if isinstance(node, Contains):
        found = np.array([text is not None and node.text in text for text in value.texts], bool)
        return _Truth(found, (value.kinds == TEXT) & ~found)
    return _Truth(*((value.kinds == TRUTH) & (value.numbers == wanted) for wanted in (1, 0)))


def _junction(node: Junction, parts: list[_Truth]) -> _Truth:
    if node.operator == "or":
        true, false = np.zeros(1, bool), np.ones(1, bool)
        for part in parts:
            true, false = true | part.true, false & part.false
    else:
        true, false = np.ones(1, bool), np.zeros(1, bool)
        for part in parts:
            true, false = true & part.true, false | part.false
    return _Truth(true, false)


def _compare(name: str, left: Column, right: Column) -> _Truth:
    known = (left.kinds == right.kinds) & (left.kinds != ABSENT)
    if name not in ("==", "!="):
        known &= left.kinds != TRUTH
    result = np.broadcast_to(OPERATORS[name](left.numbers, right.numbers), known.shape).copy()
    texts = np.flatnonzero(known & (left.kinds == TEXT))
    if len(texts):
        first, second = (np.broadcast_to(column.texts, known.shape)[texts] for column in (left, right))
        result[texts] = OPERATORS[name](first, second).astype(bool)
    return _Truth(known & result, known & ~result)


def _value(node: Value, columns: Mapping[str, Column]) -> Column:
    if isinstance(node, Literal):
        return Column.of([node.value])
    if isinstance(node, Name):
        return columns[node.name] if node.name in columns else Column.of([None])
    left, right = _value(node.left, columns), _value(node.right, columns)
    result = _calculate(node, left.numbers, right.numbers)
    known = (left.kinds == NUMBER) & (right.kinds == NUMBER) & ~np.isnan(result)
    if node.operator in ("/", "//", "%"):
        known &= right.numbers != 0
    return Column(np.where(known, NUMBER, ABSENT).astype(np.int8), result, np.full(len(known), None, object))


def _calculate(node: Arithmetic, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if node.operator == "%":
        return np.asarray(modulo(left, right, np.floor))
    if node.operator == "//":
        return np.floor(left / right)
    function = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[node.operator]
    return np.asarray(function(left, right))


def picture_names(records: Sequence[Record]) -> list[str]:
    """All names that a query over these pictures can ask for."""
    return sorted({*PICTURE_NAMES, *(name for record in records for name in record.attributes)})


def picture_columns(records: Sequence[Record], names: Sequence[str]) -> dict[str, Column]:
    """The columns of ``names``; a name that no picture has gets none."""
    built_in: dict[str, Callable[[Record], Any]] = {
        "key": lambda record: record.key,
        "group": lambda record: record.group,
        "split": lambda record: record.split,
        "width": lambda record: record.width,
        "height": lambda record: record.height,
        "box_count": lambda record: int((~record.ignored).sum()),
        "labelled": lambda record: record.labelled,
    }
    columns = {}
    for name in names:
        if name in built_in:
            columns[name] = Column.of([built_in[name](record) for record in records])
        elif any(name in record.attributes for record in records):
            columns[name] = Column.of([record.attributes.get(name) for record in records])
    return columns


def box_names(records: Sequence[Record]) -> list[str]:
    """All names that a query over the boxes of these pictures can ask for."""
    return sorted({*BOX_NAMES, *(name for record in records for name in record.box_attributes)})


def box_columns(records: Sequence[Record], names: Sequence[str], classes: Sequence[str]) -> dict[str, Column]:
    """The columns of ``names`` over all boxes of all pictures, one after the other; ``classes``: their names."""
    boxes = np.concatenate([record.boxes for record in records]) if records else np.zeros((0, 4))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    picture = np.repeat([float(record.width * record.height) for record in records], [len(r.boxes) for r in records])
    with np.errstate(all="ignore"):
        built_in: dict[str, Callable[[], Any]] = {
            "class": lambda: _class_names(records, classes),
            "area": lambda: width * height,
            "width": lambda: width,
            "height": lambda: height,
            "relative_area": lambda: width * height / picture,
            "aspect": lambda: width / height,
        }
        columns = {name: Column.of(built_in[name]()) for name in names if name in built_in}
    for name in names:
        if name not in built_in and any(name in record.box_attributes for record in records):
            columns[name] = Column.joined([_box_column(record, name) for record in records])
    return columns


def _class_names(records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    return [classes[index] for record in records for index in record.classes.tolist()]


def _box_column(record: Record, name: str) -> Column:
    """A record's box attribute; an empty text says nothing."""
    values = record.box_attributes.get(name)
    if values is None:
        return Column.of([None] * len(record.boxes))
    return Column.of(values if values.dtype.kind in "iufb" else [value if value != "" else None for value in values])
