"""What a query is made of: its tree of conditions and values, and the error that names a place in its text."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from marauder.core.errors import UserError

MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
"""Comparisons with their sides exchanged."""


class QueryError(UserError):
    """A query that cannot be read or asks for what is not there; names the column (from 1) and the text."""

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(f"{message} (column {position + 1} of: {text})")


@dataclass(frozen=True)
class Literal:
    """A constant: float, str, bool or None (missing)."""

    value: float | str | bool | None
    position: int


@dataclass(frozen=True)
class Name:
    """The value of an attribute."""

    name: str
    position: int


@dataclass(frozen=True)
class Arithmetic:
    """``left operator right`` of numbers; ``operator``: + - * / // %."""

    operator: str
    left: Value
    right: Value
    position: int


@dataclass(frozen=True)
class Comparison:
    """``left operator right``; ``operator``: == != < <= > >=."""

    operator: str
    left: Value
    right: Value
    position: int


@dataclass(frozen=True)
class Missing:
    """``value is None``; never unknown."""

    value: Value
    position: int


@dataclass(frozen=True)
class Contains:
    """``'text' in name``: the attribute's text contains it."""

    text: str
    value: Name
    position: int


@dataclass(frozen=True)
class Flag:
    """An attribute that is true or false by itself, or the constant True or False."""

    value: Name | Literal
    position: int


@dataclass(frozen=True)
class Junction:
    """``and`` or ``or`` of two or more conditions; ``or`` of none is false."""

    operator: str
    parts: tuple[Condition, ...]
    position: int


@dataclass(frozen=True)
class Negation:
    """``not part``."""

    part: Condition
    position: int


Value = Literal | Name | Arithmetic
Condition = Comparison | Missing | Contains | Flag | Junction | Negation
Node = Value | Condition


@dataclass(frozen=True)
class Query:
    """A query that was read: its text and its tree."""

    text: str
    root: Condition

    @property
    def names(self) -> dict[str, int]:
        """The attributes it asks for, each with the place in the text (from 0) where it stands first."""
        found: dict[str, int] = {}
        for node in walk(self.root):
            if isinstance(node, Name):
                found.setdefault(node.name, node.position)
        return found

    def require(self, known: Collection[str], hint: str = "") -> None:
        """Raise ``QueryError`` for the first name that is not among ``known``, with what was perhaps meant."""
        for name, position in self.names.items():
            if name not in known:
                raise QueryError(unknown_name(name, known) + hint, self.text, position)


def unknown_name(name: str, known: Collection[str], what: str = "attribute") -> str:
    """Words for a name that does not exist: what was perhaps meant, and what there is."""
    close = difflib.get_close_matches(name, known, 1)
    meant = f"; did you mean {close[0]!r}?" if close else ";"
    return f"no {what} {name!r}{meant} there are: {', '.join(sorted(known)) or 'none'}"


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, from left to right."""
    yield node
    if isinstance(node, (Arithmetic, Comparison)):
        below: tuple[Node, ...] = (node.left, node.right)
    elif isinstance(node, (Missing, Contains, Flag)):
        below = (node.value,)
    elif isinstance(node, Junction):
        below = node.parts
    elif isinstance(node, Negation):
        below = (node.part,)
    else:
        below = ()
    for part in below:
        yield from walk(part)


def modulo(left: Any, right: Any, floor: Callable[[Any], Any]) -> Any:
    """The remainder with the sign of ``right``, by the same operations for numbers, arrays and columns."""
    return left - right * floor(left / right)
