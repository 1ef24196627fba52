"""Reads queries, which are SQL conditions over named values: ``depth > 20 AND weather IN ('rain', 'fog')``.

``=``, ``<>``, ``<``, ``<=``, ``>``, ``>=``, ``AND``, ``OR``, ``NOT``, ``IN (...)``, ``LIKE``, ``BETWEEN``, ``IS NULL``,
arithmetic on numbers, constants and names; keywords in any case. Python's forms are read as well: ``==`` and ``!=``,
chained comparisons, ``in [...]``, ``'text' in name``, ``is None``, ``r'text'``, a note behind ``#`` at the end. There
are no functions, and nothing is executed.

Logic is three-valued, as in SQL (Kleene, "Introduction to Metamathematics", 1952): what compares with a missing value,
or with a value of another kind (a text with a number), is unknown; ``NOT`` of unknown is unknown; only what is true
belongs to the slice. A picture without a depth is thus neither in ``depth > 20`` nor in ``NOT depth > 20``;
``depth IS NULL`` finds it. NaN counts as missing. Numbers are compared in double precision; a division by zero is
unknown.

The parser is our own, because ``polars.sql_expr`` (2.1) names no place in a mistake, misreads chained comparisons, has
clocks and subqueries, takes minutes for some texts of a few kilobytes, and a long one ends the whole process.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from typing import Any

from marauder.data.slices.query_tree import MIRRORED, Node, Query, QueryError

LONGEST = 10_000
DEEPEST = 100
"""Characters and nested levels of a query; more is a mistake, and would only exhaust parser and evaluation."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>[uUrR]?(?:'(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*"))
    |(?P<number>\.?\d(?:[eE][+-]\d|[\w.])*)
    |(?P<name>`[^`]+`|attribute\s*\[\s*(?P<any>'[^']+'|"[^"]+")\s*\])
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>\*\*|//|<=|>=|<>|==|!=|&&|\|\||\S))""",
    re.VERBOSE,
)
"""``attribute['time-of-day']``, or the name in backquotes, names what is no identifier."""
_SPELLINGS = {"==": "=", "!=": "<>"}
_MEANT = {"&&": "and", "&": "and", "||": "or", "|": "or"}
_REFUSED = {"(": "a function call", ".": "a dotted name", "[": "an index"}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CONSTANTS = {"true": True, "false": False, "none": None}
_NO_OPERANDS = {("word", token) for token in ("and", "or", "in", "is")}
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 9)
_STRENGTH = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys((*MIRRORED, "not", "in", "is", "like", "between"), _COMPARISON),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
    "**": _POWER,
}
_FOLD: dict[str, Callable[[float, float], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": lambda a, b: math.floor(a / b),
    "%": lambda a, b: a - b * math.floor(a / b),
    "**": operator.pow,
}


def parse_query(text: str) -> Query:
    """Read a query. Raises ``QueryError`` with the column of the first thing that does not belong."""
    # On one line, so that the columns in messages can be counted off.
    lines = text.strip().splitlines()
    line = " ".join(lines)
    if not line:
        raise QueryError("the query is empty; write for example: depth > 20", text, 0)
    if len(line) > LONGEST:
        raise QueryError(f"the query is longer than {LONGEST:,} characters; use a list of ids", line[:60] + "…", 0)
    parser = _Parser(line, len(line) - len(lines[-1]))
    root = parser.condition(parser.expression(_OR, 0))
    if parser.kind:
        raise parser.unexpected(root)
    return Query(line, root)


class _Parser:
    """Precedence climbing (Richards and Whitby-Strevens, "BCPL", 1979) over one token at a time.

    ``kind``: of the token at hand, "" at the end; ``token``: the token, keywords in lower case; ``place``: its column.
    ``last_line``: the column where the last line of what was written begins.
    """

    def __init__(self, text: str, last_line: int) -> None:
        self.text, self.end, self.last_line, self.kind = text, 0, last_line, ""
        self.advance()

    def advance(self) -> None:
        """Go to the next token."""
        self.behind_text = self.kind == "text"
        found = _TOKEN.match(self.text, self.end)
        if found is not None and found["sign"] == "#":
            if found.start("sign") < self.last_line:
                raise self.refusal("a comment after # must be at the end of the query", found.start("sign"))
            self.kind, self.token, self.spelled, self.place = "", "", "", found.start("sign")
            return
        if found is None:  # only spaces are no token
            self.kind, self.token, self.spelled, self.place = "", "", "", len(self.text)
            return
        self.kind = next(kind for kind in ("text", "number", "name", "word", "sign") if found[kind] is not None)
        self.spelled, self.place, self.end = found[self.kind], found.start(self.kind), found.end()
        self.token = _SPELLINGS.get(self.spelled, self.spelled)
        if self.kind == "name":
            self.token = (found["any"] or self.spelled)[1:-1]
        elif self.kind == "word":
            self.token = self.spelled.lower()

    def take(self, token: str) -> bool:
        """Go on if the token at hand is this keyword or sign."""
        found = self.kind in ("word", "sign") and self.token == token
        if found:
            self.advance()
        return found

    def refusal(self, message: str, position: int | None = None) -> QueryError:
        """The error about a place; by default about the token at hand."""
        return QueryError(message, self.text, self.place if position is None else position)

    def unexpected(self, before: Node | None = None) -> QueryError:
        """The error about a token that does not belong here."""
        if not self.kind:
            return self.refusal("cannot be read: something is missing at the end")
        if self.token in _MEANT:
            return self.refusal(f"write {_MEANT[self.token]!r} instead of {self.token!r}")
        if self.kind == "text" and self.behind_text:
            return self.refusal("two texts in a row; write them as one, or a comma between them")
        if before is not None and before.is_value and self.token in _REFUSED:
            return self.refusal(
                f"{_REFUSED[self.token]} cannot be used in a query; allowed are comparisons, and, or, not, in, like, "
                "between, is null, arithmetic, constants and names",
                before.position,
            )
        return self.refusal(f"cannot be read: {self.spelled} does not belong here")

    def node(self, kind: str, *parts: Node, value: Any = None, position: int) -> Node:
        """A node, unless it is nested too deeply."""
        made = Node(kind, parts, value, position)
        if made.height > DEEPEST:
            raise self.too_deep(position)
        return made

    def too_deep(self, position: int) -> QueryError:
        """The error about too many levels."""
        return self.refusal(f"more than {DEEPEST} levels of parentheses or operators", position)

    def condition(self, node: Node) -> Node:
        """What must be true or false; a name by itself is asked whether it is true."""
        if not node.is_value:
            return node
        if node.operator == "name" or isinstance(node.value, bool):
            return self.node("=", node, Node("literal", (), True, node.position), position=node.position)
        raise self.refusal("is a value, not a condition; compare it, for example: depth > 20", node.position)

    def value(self, node: Node) -> Node:
        """What must be a value."""
        if not node.is_value:
            raise self.refusal("a condition is used where a value is needed", node.position)
        return node

    def expression(self, weakest: int, depth: int) -> Node:
        """All that binds at least as strongly as ``weakest``."""
        if depth > DEEPEST:
            raise self.too_deep(self.place)
        left = self.operand(depth + 1)
        while self.kind in ("word", "sign"):
            sign, strength = self.token, _STRENGTH.get(self.token, 0)
            if strength < weakest:
                if not strength and self.token not in _CLOSING.values() and self.token != ",":
                    raise self.unexpected(left)
                break
            if strength == _COMPARISON:
                left = self.comparisons(self.value(left), depth + 1)
                continue
            self.advance()
            # Powers bind to the right, everything else to the left.
            right = self.expression(strength + (sign != "**"), depth + 1)
            if strength > _COMPARISON:
                left = self.arithmetic(sign, left, right)
            else:
                both = (self.condition(left), self.condition(right))
                # A chain becomes one node, or a long one would be too deep.
                parts = [part for one in both for part in (one.parts if one.operator == sign else (one,))]
                left = self.node(sign, *parts, position=left.position)
        return left

    def operand(self, depth: int) -> Node:
        """A constant, a name, something in parentheses, or one of these behind a sign or ``not``."""
        kind, token, spelled, place = self.kind, self.token, self.spelled, self.place
        if not kind or (kind, token) in _NO_OPERANDS or (kind == "sign" and token not in ("+", "-", "(")):
            raise self.unexpected()
        self.advance()
        if kind in ("text", "number") or (kind == "word" and token in _CONSTANTS):
            return Node("literal", (), self.constant(kind, token, place), place)
        if kind == "word" and token == "null":
            raise self.refusal("nothing is equal to NULL; write IS NULL", place)
        if kind == "word" and token == "not":
            return self.node("not", self.condition(self.expression(_NOT, depth)), position=place)
        if kind != "sign":
            return Node("name", (), token if kind == "name" else spelled, place)
        if token == "(":
            inner = self.expression(_OR, depth)
            if not self.take(")"):
                raise self.unexpected(inner)
            return inner
        factor = Node("literal", (), -1.0 if token == "-" else 1.0, place)
        return self.arithmetic("*", factor, self.expression(_SIGN, depth))

    def constant(self, kind: str, token: str, place: int) -> float | str | bool | None:
        """The value of a text, with SQL's doubled quotes or Python's backslashes; of a number; of a keyword."""
        if kind == "word":
            return _CONSTANTS[token]
        if kind == "text":
            quote, raw = token[-1], token[0] in "rR"
            body = token[token.index(quote) + 1 : -1]
            if body.startswith(quote):
                # Python reads '''fog''' as fog, SQL as 'fog'.
                raise self.refusal(
                    "three quotation marks in a row: write 'fog', or \"'fog'\" if they belong to it", place
                )
            # Escapes are matched first, so that the quote of one is not taken for the first of a doubled quote.
            single = quote if raw else "\\" + quote
            body = re.sub(rf"\\.|{quote * 2}", lambda found: found[0].replace(quote * 2, single), body)
            if raw:
                return body
            token = quote + body + quote
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a backslash before a letter that it means nothing for is a backslash
                # Reads constants alone; nothing is run.
                constant: str | complex = ast.literal_eval(token)
        except (SyntaxError, ValueError):
            raise self.refusal(f"cannot be read: {token}", place) from None
        if isinstance(constant, str):
            return constant
        if isinstance(constant, complex) or abs(constant) >= 1e300:
            raise self.refusal("only numbers below 1e300, texts, true, false and null can be constants", place)
        return float(constant)

    def comparisons(self, left: Node, depth: int) -> Node:
        """A chain of comparisons (``10 < depth <= 20``), a predicate (``depth IS NULL``), or one behind the other."""
        links, place = [], left.position
        while self.kind == "sign" and self.token in MIRRORED:
            sign = self.token
            self.advance()
            right = self.value(self.expression(_SUM, depth))
            links.append(self.comparison(sign, left, right))
            left = right
        negated = self.take("not")
        predicates = {"in": self.membership, "like": self.like, "between": self.between, "is": self.missing}
        predicate = predicates.get(self.token) if self.kind == "word" else None
        if predicate is not None:
            self.advance()
            negated = self.take("not") or negated
            link = predicate(left, depth)
            links.append(self.node("not", link, position=link.position) if negated else link)
        elif negated:
            raise self.unexpected()
        return links[0] if len(links) == 1 else self.node("and", *links, position=place)

    def comparison(self, sign: str, left: Node, right: Node) -> Node:
        """``left sign right``; ``== None`` asks whether a value is missing, as Python's readers expect."""
        for one, other in ((left, right), (right, left)):
            if one.operator == "literal" and isinstance(one.value, (bool, type(None))):
                if sign not in ("=", "<>"):
                    raise self.refusal(f"{one.value} has no order; use = or <>", one.position)
                if one.value is None:
                    missing = self.node("missing", other, position=left.position)
                    return missing if sign == "=" else self.node("not", missing, position=left.position)
        if left.operator == "literal" != right.operator:
            return self.node(MIRRORED[sign], right, left, position=left.position)
        return self.node(sign, left, right, position=left.position)

    def missing(self, left: Node, depth: int) -> Node:
        """What follows ``is``."""
        if not self.take("null") and not self.take("none"):
            raise self.refusal("'is' works with NULL only; write =")
        return self.node("missing", left, position=left.position)

    def between(self, left: Node, depth: int) -> Node:
        """``low and high`` behind ``between``, both included."""
        low = self.value(self.expression(_SUM, depth))
        if not self.take("and"):
            raise self.unexpected(low)
        high = self.value(self.expression(_SUM, depth))
        bounds = (self.comparison(">=", left, low), self.comparison("<=", left, high))
        return self.node("and", *bounds, position=left.position)

    def like(self, left: Node, depth: int) -> Node:
        """A pattern behind ``like``: ``%`` is any text, ``_`` any character, a backslash takes the next as it is."""
        pattern = self.expression(_SUM, depth)
        if left.operator != "name" or not isinstance(pattern.value, str) or pattern.operator != "literal":
            raise self.refusal("'like' wants a name before it and a text behind it: key like '%MOV%'", pattern.position)
        wild = {"%": ".*", "_": "."}
        parts = [wild.get(part, re.escape(part[-1])) for part in re.findall(r"(?s)\\.|.", pattern.value)]
        return self.node("matches", left, value=f"(?s)^{''.join(parts)}$", position=left.position)

    def membership(self, left: Node, depth: int) -> Node:
        """What follows ``in``: a list of constants, or a name that holds a text."""
        place, closing = self.place, _CLOSING.get(self.token, "") if self.kind == "sign" else ""
        items = []
        if closing:
            self.advance()
            while not self.take(closing):
                items.append(self.value(self.expression(_SUM, depth)))
                if not self.take(",") and self.token != closing:
                    raise self.unexpected(items[-1])
        else:
            items.append(self.expression(_SUM, depth))
        named = next((item for item in items if item.operator != "literal"), None)
        if closing and named is None:
            equal = (self.comparison("=", left, item) for item in items)
            return self.node("or", *equal, position=left.position)
        is_text = left.operator == "literal" and isinstance(left.value, str)
        if is_text and len(items) == 1 and named is not None and named.operator == "name" and closing in ("", ")"):
            return self.node("matches", named, value=f"(?s){re.escape(str(left.value))}", position=left.position)
        if named is not None and closing:
            raise self.refusal("a list holds constants only", named.position)
        raise self.refusal(
            "'in' wants a list behind it (weather in ('rain', 'fog')) or a text before it ('MOV' in key)", place
        )

    def arithmetic(self, sign: str, left: Node, right: Node) -> Node:
        """``left sign right`` of numbers; of two constants their result."""
        literal = True
        for operand in (self.value(left), self.value(right)):
            literal &= operand.operator == "literal"
            if operand.operator == "literal" and not isinstance(operand.value, float):
                raise self.refusal(f"{operand.value!r} is not a number to calculate with", operand.position)
        if not literal and sign == "**":
            raise self.refusal("powers of attributes are not supported; multiply, as in width * width", left.position)
        if not literal:
            return self.node(sign, left, right, position=left.position)
        try:
            result = _FOLD[sign](left.value, right.value)  # type: ignore[arg-type]
        except (ZeroDivisionError, OverflowError):
            result = math.nan
        if isinstance(result, complex) or not math.isfinite(result):
            raise self.refusal("these constants make no number", left.position)
        return Node("literal", (), float(result), left.position)
