"""Box sizes in queries over boxes: ``size == 'small'`` as COCO means it, and the areas that a query allows."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from marauder.data.slices.query_tree import (
    MIRRORED,
    Comparison,
    Condition,
    Junction,
    Literal,
    Name,
    Negation,
    Query,
    QueryError,
    walk,
)

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}
"""Areas in square pixels, both ends included, as in COCO's evaluation code: a box on an end belongs to both sizes."""

Area = tuple[float, float]
_INVERSE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def expand_sizes(query: Query) -> Query:
    """The query with ``size == 'small'`` written as areas. Raises ``QueryError`` for a size that does not exist."""

    def expand(node: Condition) -> Condition:
        if isinstance(node, Junction):
            return replace(node, parts=tuple(expand(part) for part in node.parts))
        if isinstance(node, Negation):
            return replace(node, part=expand(node.part))
        place = next((n.position for n in walk(node) if isinstance(n, Name) and n.name == "size"), None)
        if place is None:
            return node
        if isinstance(node, Comparison) and node.operator in ("==", "!="):
            literal = node.right if isinstance(node.right, Literal) else node.left
            if isinstance(literal, Literal) and literal.value in SIZES:
                low, high = SIZES[str(literal.value)]
                inside = Junction("and", (_bound(">=", low, place), _bound("<=", high, place)), place)
                return inside if node.operator == "==" else Negation(inside, place)
        raise QueryError(f"size is one of {', '.join(map(repr, SIZES))}; compare it with == or in", query.text, place)

    return Query(query.text, expand(query.root))


def _bound(operator: str, area: float, place: int) -> Comparison:
    return Comparison(operator, Name("area", place), Literal(area, place), place)


def allowed_area(query: Query) -> Area | None:
    """The square pixels, both ends included, outside of which no box can be in the slice; None: no bound."""
    low, high = _allowed(query.root, True)
    return None if (low, high) == (-inf, inf) else (max(low, 0.0), high)


def intersect_areas(first: Area | None, second: Area | None) -> Area | None:
    """What both allow."""
    if first is None or second is None:
        return first if second is None else second
    return max(first[0], second[0]), min(first[1], second[1])


def _allowed(node: Condition, wanted: bool) -> Area:
    """Areas for which ``node`` can be ``wanted``."""
    if isinstance(node, Negation):
        return _allowed(node.part, not wanted)
    if isinstance(node, Junction) and node.parts:
        parts = [_allowed(part, wanted) for part in node.parts]
        lows, highs = zip(*parts)
        both = (node.operator == "and") == wanted
        return (max(lows), min(highs)) if both else (min(lows), max(highs))
    if not isinstance(node, Comparison):
        return -inf, inf
    name, literal, operator = node.left, node.right, node.operator
    if isinstance(name, Literal):
        name, literal, operator = literal, name, MIRRORED[operator]
    if not (isinstance(name, Name) and name.name == "area" and isinstance(literal, Literal)):
        return -inf, inf
    if not isinstance(literal.value, float):
        return -inf, inf
    operator = operator if wanted else _INVERSE[operator]
    low = literal.value if operator in ("==", ">", ">=") else -inf
    high = literal.value if operator in ("==", "<", "<=") else inf
    return low, high
