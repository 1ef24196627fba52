"""Queries as polars expressions, for manifests that are too large to become records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from marauder.core.errors import UserError
from marauder.data.slices.columns import ABSENT, NUMBER, OPERATORS, TEXT, TRUTH
from marauder.data.slices.query_tree import (
    MIRRORED,
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

UNKNOWN = pl.lit(None, dtype=pl.Boolean)


@dataclass(frozen=True)
class _Typed:
    """An expression and the kind of its values; ``None``: not known before the frame is."""

    expression: pl.Expr
    kind: int | None


def translate(
    query: Query, schema: Mapping[str, Any] | None = None, column: Callable[[str], pl.Expr] | None = None
) -> pl.Expr:
    """See ``query.to_polars``."""
    if schema is not None:
        query.require(list(schema))
    return _Translation(schema, column or pl.col).condition(query.root).fill_null(False)


class _Translation:
    def __init__(self, schema: Mapping[str, Any] | None, column: Callable[[str], pl.Expr]) -> None:
        self.schema, self.column = schema, column

    def condition(self, node: Condition) -> pl.Expr:
        if isinstance(node, Junction):
            parts = [self.condition(part) for part in node.parts]
            if not parts:
                return pl.lit(False)
            return pl.any_horizontal(parts) if node.operator == "or" else pl.all_horizontal(parts)
        if isinstance(node, Negation):
            return ~self.condition(node.part)
        if isinstance(node, Comparison):
            return self.comparison(node)
        value = self.value(node.value)
        if isinstance(node, Missing):
            return value.expression.is_null()
        if isinstance(node, Contains):
            fits = value.kind in (TEXT, None)
            return value.expression.str.contains(node.text, literal=True) if fits else UNKNOWN
        return value.expression if value.kind in (TRUTH, None) else UNKNOWN

    def comparison(self, node: Comparison) -> pl.Expr:
        left, right, operator = self.value(node.left), self.value(node.right), node.operator
        if isinstance(node.left, Literal):
            # polars 2.1 gives one row instead of all for a literal compared with a column of nulls on its right.
            left, right, operator = right, left, MIRRORED[operator]
        if left.kind is None and right.kind is not None:
            left = _assumed(left, right.kind)
        elif right.kind is None and left.kind is not None:
            right = _assumed(right, left.kind)
        ordered = operator not in ("==", "!=")
        if left.kind != right.kind or left.kind == ABSENT or (ordered and left.kind == TRUTH):
            return UNKNOWN
        result: pl.Expr = OPERATORS[operator](left.expression, right.expression)
        return result

    def value(self, node: Value) -> _Typed:
        if isinstance(node, Literal):
            return _literal(node)
        if isinstance(node, Name):
            expression = self.column(node.name)
            return _Typed(expression, None) if self.schema is None else _typed(node, expression, self.schema[node.name])
        return self.arithmetic(node)

    def arithmetic(self, node: Arithmetic) -> _Typed:
        left, right = (_assumed(self.value(side), NUMBER) for side in (node.left, node.right))
        if left.kind != NUMBER or right.kind != NUMBER:
            return _Typed(pl.lit(None, dtype=pl.Float64), ABSENT)
        a, b = left.expression, right.expression
        if node.operator in ("/", "//", "%"):
            b = pl.when(b != 0).then(b)
        if node.operator == "%":
            result = modulo(a, b, lambda one: one.floor())
        elif node.operator == "//":
            result = (a / b).floor()
        else:
            result = {"+": a.__add__, "-": a.__sub__, "*": a.__mul__, "/": a.__truediv__}[node.operator](b)
        return _Typed(result.fill_nan(None), NUMBER)


def _literal(node: Literal) -> _Typed:
    if node.value is None:
        return _Typed(pl.lit(None), ABSENT)
    if isinstance(node.value, bool):
        return _Typed(pl.lit(node.value), TRUTH)
    if isinstance(node.value, str):
        return _Typed(pl.lit(node.value), TEXT)
    return _Typed(pl.lit(node.value, dtype=pl.Float64), NUMBER)


def _typed(node: Name, expression: pl.Expr, kind: Any) -> _Typed:
    """A column of a known type, made comparable."""
    if kind.is_numeric():
        return _Typed(expression.cast(pl.Float64).fill_nan(None), NUMBER)
    if kind == pl.Boolean:
        return _Typed(expression, TRUTH)
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return _Typed(expression.cast(pl.String), TEXT)
    if kind == pl.Null:
        return _Typed(expression, ABSENT)
    raise UserError(f"attribute {node.name!r} holds {kind}, which a query cannot compare; store text or numbers")


def _assumed(value: _Typed, kind: int) -> _Typed:
    """A column of unknown type, taken to be of the kind that it meets."""
    if value.kind is not None:
        return value
    if kind == NUMBER:
        return _Typed(value.expression.cast(pl.Float64, strict=False).fill_nan(None), NUMBER)
    return _Typed(value.expression, kind)
