"""Box sizes in queries over boxes: ``size = 'small'`` as COCO means it, and the areas that a query allows."""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf

from marauder.data.slices.query_tree import Node, Query, QueryError, walk

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}
"""Areas in square pixels, both ends included, as in COCO's evaluation code: a box on an end belongs to both sizes."""

Area = tuple[float, float]
_NUMBER = re.compile(r"[-+]?[\w.]+")
_INVERSE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def expand_sizes(query: Query) -> Query:
    """The query over boxes with ``size = 'small'`` written as areas, and classes whose names are numbers as text:
    ``class = 007``. Raises ``QueryError`` for a size that does not exist."""

    def expand(node: Node) -> Node:
        if node.operator in ("and", "or", "not"):
            return replace(node, parts=tuple(expand(part) for part in node.parts))
        if node.operator in ("=", "<>") and node.parts[0].value == "class":
            return replace(node, parts=(node.parts[0], _as_written(node.parts[1], query.text)))
        place = next((one.position for one in walk(node) if (one.operator, one.value) == ("name", "size")), None)
        if place is None:
            return node
        literal = node.parts[-1]
        if node.operator in ("=", "<>") and literal.operator == "literal" and literal.value in SIZES:
            area = Node("name", (), "area", place)
            ends = zip((">=", "<="), SIZES[str(literal.value)])
            bounds = (Node(sign, (area, Node("literal", (), end, place)), None, place) for sign, end in ends)
            inside = Node("and", tuple(bounds), None, place)
            return inside if node.operator == "=" else Node("not", (inside,), None, place)
        raise QueryError(f"size is one of {', '.join(map(repr, SIZES))}; compare it with = or in", query.text, place)

    return Query(query.text, expand(query.root))


def _as_written(literal: Node, text: str) -> Node:
    """A number as the text that is in the query: it is the name of a class."""
    found = _NUMBER.match(text, literal.position) if isinstance(literal.value, float) else None
    return replace(literal, value=found[0]) if found is not None else literal


def allowed_area(query: Query) -> Area | None:
    """The square pixels, both ends included, outside of which no box can be in the slice; None: no bound."""
    low, high = _allowed(query.root, True)
    return None if (low, high) == (-inf, inf) else (max(low, 0.0), high)


def intersect_areas(first: Area | None, second: Area | None) -> Area | None:
    """What both allow."""
    if first is None or second is None:
        return first if second is None else second
    return max(first[0], second[0]), min(first[1], second[1])


def _allowed(node: Node, wanted: bool) -> Area:
    """Areas for which ``node`` can be ``wanted``."""
    if node.operator == "not":
        return _allowed(node.parts[0], not wanted)
    if node.operator in ("and", "or") and node.parts:
        lows, highs = zip(*(_allowed(part, wanted) for part in node.parts))
        both = (node.operator == "and") == wanted
        return (max(lows), min(highs)) if both else (min(lows), max(highs))
    if node.operator not in _INVERSE:
        return -inf, inf
    name, literal = node.parts
    if (name.operator, name.value) != ("name", "area") or not isinstance(literal.value, float):
        return -inf, inf
    operator = node.operator if wanted else _INVERSE[node.operator]
    low = literal.value if operator in ("=", ">", ">=") else -inf
    high = literal.value if operator in ("=", "<", "<=") else inf
    return low, high
