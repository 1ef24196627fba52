"""Answers queries with polars: on a frame of values of pictures or boxes, or on a manifest too large for records."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from marauder.core.errors import UserError
from marauder.data.slices.columns import KINDS, NUMBER, TEXT, TRUTH, Values, plain
from marauder.data.slices.query_tree import Node, Query

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CALCULATE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}

_UNKNOWN = pl.lit(None, dtype=pl.Boolean)


def frame_of(columns: Mapping[str, Values], count: int) -> pl.DataFrame:
    """``count`` values for each name as typed columns; those of several kinds as a struct with a field for each."""
    return pl.DataFrame({name: _series(values) for name, values in columns.items()} or None, height=count)


def evaluate_query(query: Query, frame: pl.DataFrame) -> np.ndarray:
    """Which of N rows a query takes: bool (N,); a name that is no column is absent in every row."""
    answer = _Translation(frame.schema).condition(query.root).fill_null(False)
    return frame.with_columns(answer.alias("answer"))["answer"].to_numpy()


def to_polars(query: Query, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """The query as an expression that is true or false, never null: for ``LazyFrame.filter``.

    ``schema``: types of the frame's columns. Raises ``QueryError`` for a name that is none of them.
    """
    query.require(schema)
    return _Translation(schema).condition(query.root).fill_null(False)


def _series(values: Values) -> pl.Series:
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        return pl.Series(values)
    cells = plain(values)
    fields = [
        pl.Series(KINDS[kind], [cell if type(cell) is kind else None for cell in cells])
        for kind in sorted({type(cell) for cell in cells} - {type(None)}, key=str)
    ]
    if len(fields) > 1:
        return pl.DataFrame(fields).to_struct()
    return fields[0] if fields else pl.Series([None] * len(cells), dtype=pl.Null)


class _Translation:
    """Turns a tree into an expression. A value is an expression for each kind that it can have, null in rows where it
    is of another kind, so that what compares values of unlike kinds is null."""

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self.schema = schema

    def condition(self, node: Node) -> pl.Expr:
        """True, false, or null where unknown."""
        if node.operator in ("and", "or", "not"):
            parts = [self.condition(part) for part in node.parts]
            if node.operator == "not":
                return ~parts[0]
            # The False is for IN (), which no value is in.
            return pl.any_horizontal(pl.lit(False), *parts) if node.operator == "or" else pl.all_horizontal(parts)
        values = [self.value(part) for part in node.parts]
        if node.operator == "missing":
            return pl.all_horizontal(pl.lit(True), *(one.is_null() for one in values[0].values()))
        if node.operator == "matches":
            return values[0][TEXT].str.contains(str(node.value)) if TEXT in values[0] else _UNKNOWN
        left, right = values
        kinds = [kind for kind in left if kind in right and (kind != TRUTH or node.operator in ("=", "<>"))]
        return pl.coalesce([_COMPARE[node.operator](left[kind], right[kind]) for kind in kinds] or _UNKNOWN)

    def value(self, node: Node) -> dict[str, pl.Expr]:
        """By kind; numbers are never NaN."""
        values = self.raw(node)
        return {kind: one.fill_nan(None) if kind == NUMBER else one for kind, one in values.items()}

    def raw(self, node: Node) -> dict[str, pl.Expr]:
        """By kind. No operand is twice in what is made of it, else nested arithmetic would grow without bounds."""
        if node.operator == "literal":
            return {KINDS[type(node.value)]: pl.lit(node.value)} if node.value is not None else {}
        if node.operator == "name":
            return _attribute(str(node.value), self.schema)
        left, right = (self.raw(part).get(NUMBER, pl.lit(None, dtype=pl.Float64)) for part in node.parts)
        if node.operator in ("/", "//", "%"):
            # Unknown, where polars would give infinity.
            right = right.replace(0.0, None)
        return {NUMBER: _CALCULATE[node.operator](left, right)}


def _attribute(name: str, schema: Mapping[str, pl.DataType]) -> dict[str, pl.Expr]:
    """A column by the kinds of its values."""
    column, kind = pl.col(name), schema.get(name, pl.Null())
    if kind.is_numeric():
        return {NUMBER: column.cast(pl.Float64)}
    if kind == pl.Boolean:
        return {TRUTH: column}
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return {TEXT: column.cast(pl.String)}
    if kind == pl.Null:
        return {}
    if isinstance(kind, pl.Struct) and all(field.name in KINDS.values() for field in kind.fields):
        return {field.name: column.struct.field(field.name) for field in kind.fields}
    raise UserError(f"attribute {name!r} holds {kind}, which a query cannot compare; store text or numbers")
