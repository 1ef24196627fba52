"""What a query is made of: its tree of conditions and values, and the error that names a place in its text."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from marauder.core.errors import UserError

MIRRORED = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
"""Comparisons with their sides exchanged."""
ARITHMETIC = ("+", "-", "*", "/", "//", "%")


class QueryError(UserError):
    """A query that cannot be read or asks for what is not there; names the column (from 1) and the text."""

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(f"{message} (column {position + 1} of: {text})")


@dataclass(frozen=True)
class Node:
    """A value or a condition, and where it is in the text (from 0).

    Values: ``literal`` (``value``: float, str, bool or None, which is missing), ``name`` (``value``: of an attribute),
    and two parts of one of ``ARITHMETIC``. Conditions: two parts of a comparison in ``MIRRORED``, a literal on the
    right where one side is a literal; ``missing`` (one part), ``matches`` (one part and, as ``value``, a regular
    expression made from LIKE or from ``'text' in name``); ``not`` of one part, ``and`` and ``or`` of any number.
    """

    operator: str
    parts: tuple[Node, ...] = ()
    value: float | str | bool | None = None
    position: int = 0

    @property
    def is_value(self) -> bool:
        """Whether it is a value, not a condition."""
        return self.operator in ("literal", "name", *ARITHMETIC)

    @cached_property
    def height(self) -> int:
        """Levels below it."""
        return 1 + max((part.height for part in self.parts), default=0)


@dataclass(frozen=True)
class Query:
    """A query that was read: its text and its tree."""

    text: str
    root: Node

    @property
    def names(self) -> dict[str, int]:
        """The attributes it asks for, each with its first place in the text (from 0)."""
        found: dict[str, int] = {}
        for node in sorted(walk(self.root), key=lambda one: one.position):
            if node.operator == "name":
                found.setdefault(str(node.value), node.position)
        return found

    def require(self, known: Collection[str]) -> None:
        """Raise ``QueryError`` for the first name that is not among ``known``, with what was perhaps meant."""
        for name, position in self.names.items():
            if name not in known:
                raise QueryError(unknown_name(name, known), self.text, position)


def unknown_name(name: str, known: Collection[str], what: str = "attribute") -> str:
    """Words for a name that does not exist: what was perhaps meant, and what there is."""
    close = difflib.get_close_matches(name, known, 1)
    meant = f"; did you mean {close[0]!r}?" if close else ";"
    return f"no {what} {name!r}{meant} there are: {', '.join(sorted(known)) or 'none'}"


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for part in node.parts:
        yield from walk(part)
