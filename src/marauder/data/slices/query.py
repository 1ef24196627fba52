"""A small query language over named values: ``depth > 20 and weather in ['rain', 'fog']``.

It reads like Python and is parsed by Python's own parser, but nothing is ever executed: only comparisons (also
chained), ``and``, ``or``, ``not``, ``in``, arithmetic on numbers, constants and names are let through.

Logic is three-valued, as in SQL (Kleene, "Introduction to Metamathematics", 1952): what compares with a missing value,
or with a value of another kind (a text with a number), is unknown; ``not`` of unknown is unknown; only what is true
belongs to the slice. A picture without a depth is thus neither in ``depth > 20`` nor in ``not depth > 20``;
``depth is None`` finds it. NaN counts as missing. Numbers are compared in double precision; a division by zero is
unknown.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from marauder.data.slices.query_tree import (
    Arithmetic,
    Comparison,
    Condition,
    Contains,
    Flag,
    Junction,
    Literal,
    Missing,
    Name,
    Negation,
    Query,
    QueryError,
    Value,
    modulo,
)

if TYPE_CHECKING:
    import polars

LONGEST = 10_000
DEEPEST = 100
"""Characters and nested levels of a query; more is a mistake, and would only exhaust the parser."""

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
_WORDS = {"and", "or", "not", "in", "is", "True", "False", "None"}
_TOKEN = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\W\d]\w*|&&|\|\|")
_MEANT = {"true": "True", "false": "False", "null": "None", "none": "None", "nil": "None"}
NAMES_OF_ANY_SPELLING = "attribute"
"""``attribute['time-of-day']`` names what is no identifier."""


def parse_query(text: str) -> Query:
    """Read a query. Raises ``QueryError`` with the column of the first thing that does not belong."""
    line = " ".join(text.splitlines()).strip()
    if not line:
        raise QueryError("the query is empty; write for example: depth > 20", text, 0)
    if len(line) > LONGEST:
        raise QueryError(f"the query is longer than {LONGEST:,} characters; use a list of ids", line[:60] + "…", 0)
    code, spelled = _spell_out_keywords(line)
    try:
        tree = ast.parse(code, mode="eval")
    except SyntaxError as error:
        place = max(0, (error.offset or 1) - 1)
        meant = " (equal is written ==)" if line[place : place + 2].startswith("=") else ""
        raise QueryError(f"cannot be read: {error.msg}{meant}", line, place) from None
    except (RecursionError, MemoryError, ValueError):
        raise QueryError("cannot be read: nested too deeply, or not text", line[:60] + "…", 0) from None
    return Query(line, _Translator(line, spelled).condition(tree.body, 0))


def to_polars(
    text: str,
    schema: Mapping[str, Any] | None = None,
    column: Callable[[str], polars.Expr] | None = None,
) -> polars.Expr:
    """The query as a polars expression that is true or false, never null: for ``LazyFrame.filter``.

    ``schema``: types of the columns (``frame.collect_schema()``). With it the expression agrees with
    ``evaluate_query`` in every case and unknown names raise ``QueryError``; without, the columns must be of the kinds
    that the query compares them with. ``column``: how to reach an attribute; ``polars.col`` by default.
    """
    from marauder.data.slices.query_polars import translate

    return translate(parse_query(text), schema, column)


def _spell_out_keywords(line: str) -> tuple[str, dict[int, str]]:
    """Let attributes have the names of Python's keywords (``class``): replaced by as many letters, and where."""
    spelled: dict[int, str] = {}

    def replace(found: re.Match[str]) -> str:
        word = found[0]
        if word in ("&&", "||"):
            raise QueryError(f"write {'and' if word == '&&' else 'or'!r} instead of {word!r}", line, found.start())
        if keyword.iskeyword(word) and word not in _WORDS:
            spelled[found.start()] = word
            return "x" * len(word)
        return word

    return _TOKEN.sub(replace, line), spelled


class _Translator:
    """Turns Python's tree into a query's, refusing what does not belong."""

    def __init__(self, text: str, spelled: Mapping[int, str]) -> None:
        self.text, self.spelled = text, spelled
        self.encoded = text.encode("utf-8")

    def position(self, node: ast.AST) -> int:
        """Place of a node in the text; Python counts bytes."""
        return len(self.encoded[: getattr(node, "col_offset", 0)].decode("utf-8", "ignore"))

    def refusal(self, node: ast.AST, message: str) -> QueryError:
        """The error about a node."""
        return QueryError(message, self.text, self.position(node))

    def condition(self, node: ast.expr, depth: int) -> Condition:
        """What is true or false."""
        place = self.position(node)
        if depth > DEEPEST:
            raise self.refusal(node, f"more than {DEEPEST} levels of parentheses or operators")
        if isinstance(node, ast.BoolOp):
            operator = "and" if isinstance(node.op, ast.And) else "or"
            return Junction(operator, tuple(self.condition(part, depth + 1) for part in node.values), place)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Negation(self.condition(node.operand, depth + 1), place)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            links = tuple(
                self.link(left, operator, right, depth + 1)
                for left, operator, right in zip(operands, node.ops, operands[1:])
            )
            return links[0] if len(links) == 1 else Junction("and", links, place)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            raise self.refusal(node, f"write {'and' if isinstance(node.op, ast.BitAnd) else 'or'!r} between conditions")
        value = self.value(node, depth)
        if isinstance(value, Name) or (isinstance(value, Literal) and isinstance(value.value, bool)):
            return Flag(value, place)
        raise self.refusal(node, "is a value, not a condition; compare it, for example: depth > 20")

    def link(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, depth: int) -> Condition:
        """One comparison of a chain."""
        place = self.position(left)
        if isinstance(operator, (ast.In, ast.NotIn)):
            inside = self.membership(left, right, depth)
            return inside if isinstance(operator, ast.In) else Negation(inside, place)
        first, second = self.value(left, depth), self.value(right, depth)
        if isinstance(operator, (ast.Is, ast.IsNot)):
            if not (isinstance(second, Literal) and second.value is None):
                raise self.refusal(right, "'is' asks for None only; write ==")
            equal = isinstance(operator, ast.Is)
            return Missing(first, place) if equal else Negation(Missing(first, place), place)
        return self.comparison(_COMPARISONS[type(operator)], first, second, place)

    def comparison(self, operator: str, left: Value, right: Value, place: int) -> Condition:
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Literal) and isinstance(one.value, (bool, type(None))):
                if operator not in ("==", "!="):
                    raise QueryError(f"{one.value} has no order; use == or !=", self.text, one.position)
                if one.value is None:
                    missing = Missing(other, place)
                    return missing if operator == "==" else Negation(missing, place)
        return Comparison(operator, left, right, place)

    def membership(self, left: ast.expr, right: ast.expr, depth: int) -> Condition:
        """``name in [values]`` or ``'text' in name``."""
        place = self.position(left)
        value = self.value(left, depth)
        if isinstance(right, (ast.List, ast.Tuple, ast.Set)):
            items = [self.value(item, depth) for item in right.elts]
            for item, node in zip(items, right.elts):
                if not isinstance(item, Literal):
                    raise self.refusal(node, "a list holds constants only")
            return Junction("or", tuple(self.comparison("==", value, item, place) for item in items), place)
        container = self.value(right, depth)
        if isinstance(container, Name) and isinstance(value, Literal) and isinstance(value.value, str):
            return Contains(value.value, container, place)
        raise self.refusal(right, "'in' wants a list behind it (weather in ['rain', 'fog']) or a text before it "
                           "('MOV' in key)")  # fmt: skip

    def value(self, node: ast.expr, depth: int) -> Value:
        """A constant, a name or arithmetic."""
        place = self.position(node)
        if depth > DEEPEST:
            raise self.refusal(node, f"more than {DEEPEST} levels of parentheses or operators")
        if isinstance(node, ast.Constant):
            return self.literal(node)
        if isinstance(node, ast.Name):
            name = self.spelled.get(place, node.id)
            if name in _MEANT:
                raise self.refusal(node, f"write {_MEANT[name]} instead of {name}")
            return Name(name, place)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            called = isinstance(node.value, ast.Name) and node.value.id == NAMES_OF_ANY_SPELLING
            if called and isinstance(node.slice.value, str):
                return Name(node.slice.value, place)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
            return self.arithmetic(node, "*", Literal(sign, place), self.value(node.operand, depth + 1))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self.value(node.left, depth + 1), self.value(node.right, depth + 1)
            return self.arithmetic(node, _ARITHMETIC[type(node.op)], left, right)
        if isinstance(node, (ast.Compare, ast.BoolOp)) or isinstance(getattr(node, "op", None), ast.Not):
            raise self.refusal(node, "a condition stands where a value is needed")
        raise self.refusal(node, f"{_describe(node)} cannot stand in a query; it knows comparisons, and, or, not, in, "
                          "arithmetic, constants and names")  # fmt: skip

    def literal(self, node: ast.Constant) -> Literal:
        value = node.value
        if value is None or isinstance(value, (bool, str)):
            return Literal(value, self.position(node))
        if isinstance(value, (int, float)) and abs(value) < 1e300:
            return Literal(float(value), self.position(node))
        raise self.refusal(node, "only numbers below 1e300, texts, True, False and None can be constants")

    def arithmetic(self, node: ast.expr, operator: str, left: Value, right: Value) -> Value:
        place = self.position(node)
        for operand in (left, right):
            if isinstance(operand, Literal) and (isinstance(operand.value, (str, bool)) or operand.value is None):
                raise QueryError(f"{operand.value!r} is no number to calculate with", self.text, operand.position)
        if isinstance(left, Literal) and isinstance(right, Literal):
            return self.folded(node, operator, float(left.value or 0), float(right.value or 0))
        if operator == "**":
            raise self.refusal(node, "powers of attributes cannot be asked for; multiply, as in width * width")
        return Arithmetic(operator, left, right, place)

    def folded(self, node: ast.expr, operator: str, left: float, right: float) -> Literal:
        """Arithmetic of two constants."""
        try:
            result = FOLD[operator](left, right)
        except (ZeroDivisionError, OverflowError):
            result = math.nan
        if isinstance(result, complex) or not math.isfinite(result):
            raise self.refusal(node, "these constants make no number")
        return Literal(float(result), self.position(node))


FOLD: dict[str, Callable[[float, float], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: math.floor(a / b),
    "%": lambda a, b: modulo(a, b, math.floor),
    "**": lambda a, b: a**b,
}


def _describe(node: ast.expr) -> str:
    known: dict[type[ast.expr], str] = {
        ast.Call: "a function call",
        ast.Attribute: "a dotted name",
        ast.Subscript: "an index",
        ast.JoinedStr: "an f-string",
        ast.List: "a list by itself",
        ast.Tuple: "a list by itself",
        ast.Dict: "a mapping",
    }
    return known.get(type(node), "this")
