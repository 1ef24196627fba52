"""Boards that a bundle is made for: which TensorRT versions they run, by JetPack (``facts/boards.json``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from marauder.bundles.parser_table import FACTS
from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.core.mistakes import nearest


@dataclass(frozen=True)
class JetPack:
    """One of NVIDIA's system images. ``tensorrt``: its version; ``refused``: why no bundle is made for it, or empty."""

    name: str
    tensorrt: str
    refused: str = ""


@dataclass(frozen=True)
class Board:
    """``jetpacks``: of the board, oldest first; ``tensorrt``: versions of a machine without JetPacks. ``int8``: whether
    its GPU computes in int8."""

    name: str
    title: str
    int8: bool
    jetpacks: tuple[JetPack, ...]
    tensorrt: tuple[str, ...] = ()

    def versions(self, jetpack: str | None) -> tuple[str, ...]:
        """The TensorRT versions that a bundle serves: of all JetPacks of the board, or of one.

        Raises ``UserError`` for a JetPack that the board does not have, or that is refused.
        """
        if jetpack is None:
            return self.tensorrt + tuple(one.tensorrt for one in self.jetpacks if not one.refused)
        by_name = {one.name: one for one in self.jetpacks}
        found = by_name.get(jetpack) or by_name.get(".".join(jetpack.split(".")[:2]))
        if found is None:
            there = ", ".join(name for name, one in by_name.items() if not one.refused) or "none: leave it out"
            raise UserError(f"jetpack {jetpack}: {self.title} has {there}{nearest(jetpack, list(by_name))}")
        if found.refused:
            raise UserError(f"jetpack {jetpack}: {found.refused}")
        return (found.tensorrt,)


@cache
def boards() -> dict[str, Board]:
    """All boards by name."""
    return {name: _board(name, said) for name, said in read_json(FACTS / "boards.json")["boards"].items()}


def find_board(name: str) -> Board:
    """The board of a name. Raises ``UserError`` for one that is not known."""
    known = boards()
    if name not in known:
        raise UserError(f"target {name!r}: no such board{nearest(name, list(known))}")
    return known[name]


def _board(name: str, said: Any) -> Board:
    jetpacks = tuple(
        JetPack(one, facts["tensorrt"], facts.get("refused", "")) for one, facts in said["jetpacks"].items()
    )
    return Board(name, said["title"], bool(said["int8"]), jetpacks, tuple(said.get("tensorrt", ())))
