"""Mistakes in what users write: each with its place, gathered from any number of files and shown as one list."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError

FEW = 12
"""So many names are listed in a message; of more, the nearest ones and where the whole list is."""
ARGUMENT, OPTION, OVERRIDE = "argument ", "option ", "override "
"""How places begin that are no files: arguments of a Python function, and what is typed on a command line."""
_FILE_AND_LINE = re.compile(r"^(?P<file>.+):(?P<line>\d+)$")
_PLACED = re.compile(r"(?P<file>[^\n:]+):(?P<line>\d+): (?P<words>.+)", re.DOTALL)
_SETTINGS_FILES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Mistake:
    """What is wrong and what to do, in one line. ``place``: ``file:line``, the option or the override; may be empty.

    ``of_this_machine``: it is none on a machine that has what this one lacks.
    """

    words: str
    place: str = ""
    of_this_machine: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.words}" if self.place else self.words


class MistakesError(UserError):
    """All mistakes of one command: those of the command line first, then each file's by line.

    ``name``: what they were found in, named where their places do not name more, and the file that comes first.
    ``typed``: places on the command line, in its order.
    """

    def __init__(self, mistakes: Iterable[Mistake], name: str = "", typed: Sequence[str] = ()) -> None:
        self.mistakes = _in_order(tuple(dict.fromkeys(mistakes)), name, typed)
        lines = [str(one).replace("\n", "\n  ") for one in self.mistakes]
        super().__init__(
            lines[0] if len(lines) == 1 else "\n".join([_headline(self.mistakes, name), *(f"  {one}" for one in lines)])
        )


class Mistakes:
    """Gathers mistakes of any number of sources.

    ``with mistakes.gathered(): …`` keeps what the block raises; ``demand_none`` raises all of them as one.
    """

    def __init__(self, found: Iterable[Mistake] = ()) -> None:
        self.found: list[Mistake] = list(found)

    def add(self, mistakes: Iterable[Mistake]) -> None:
        """Keep further mistakes."""
        self.found += mistakes

    @contextmanager
    def gathered(self, place: str = "") -> Iterator[None]:
        """Keep the ``UserError`` that the block raises; ``place`` goes before one that brings no list of its own."""
        try:
            yield
        except UserError as error:
            self.found += mistakes_in(error, place)

    def all_of(self, *parts: tuple[str, Callable[[], Any]]) -> list[Any]:
        """What each part returns, an option's flag and a call. Raises ``MistakesError`` with all there are by then."""
        results = []
        for flag, call in parts:
            with self.gathered(f"{OPTION}{flag}"):
                results.append(call())
        self.demand_none()
        return results

    def demand_none(self, name: str = "") -> None:
        """Raise ``MistakesError`` if there are any."""
        if self.found:
            raise MistakesError(self.found, name)


def mistakes_in(error: UserError, place: str = "") -> list[Mistake]:
    """The mistakes that an error lists, or the error as one."""
    if isinstance(error, MistakesError):
        return list(error.mistakes)
    placed = _PLACED.fullmatch(str(error)) if not place else None
    # "MLflow at localhost:5000: no answer" has the same form.
    if placed and (placed["file"].endswith(_SETTINGS_FILES) or Path(placed["file"]).exists()):
        return [Mistake(placed["words"], f"{placed['file']}:{placed['line']}")]
    return [Mistake(str(error), place)]


def is_typed(place: str) -> bool:
    """Whether a place is a word of the command line, or an argument."""
    return place.startswith((ARGUMENT, OPTION, OVERRIDE))


def _in_order(mistakes: Sequence[Mistake], name: str, typed: Sequence[str]) -> tuple[Mistake, ...]:
    files, order = {name: 0}, {place: number for number, place in enumerate(typed)}

    def rank(one: Mistake) -> tuple[int, int, int]:
        if is_typed(one.place):
            return 0, order.get(one.place, len(order)), 0
        if not one.place:
            return 1, 0, 0
        found = _FILE_AND_LINE.match(one.place)
        file, line = (found["file"], int(found["line"])) if found else (one.place, 0)
        return 2, files.setdefault(file, len(files)), line

    return tuple(sorted(mistakes, key=rank))


FURTHER = 0.2
"""How much less alike (``difflib``'s ratio) than the nearest name another may be that is named beside it."""


def nearest(name: str, known: Collection[str], all_of_them: str = "") -> str:
    """What was perhaps meant by ``name``, to put behind a message: the nearest of ``known``, and all of them where they
    are few. ``all_of_them``: where the whole list is, in words."""
    near = near_names(name, known, 3)
    words = f"; did you mean {' or '.join(near)}?" if near else ""
    if len(known) <= FEW:
        there = " There" if near else "; there"
        return f"{words}{there} {'are' if len(known) != 1 else 'is'}: {', '.join(known) or 'none'}"
    if near and all_of_them:
        return f"{words} ({all_of_them})"
    return words + (f"; {all_of_them}" if all_of_them else "")


def near_names(name: str, known: Iterable[str], most: int) -> list[str]:
    """Those of ``known`` that are written like ``name``, in any capitals, the nearest first, ``most`` at most; none
    that is far less alike than the nearest."""
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lower, most)
    alike = [difflib.SequenceMatcher(None, one, name.lower()).ratio() for one in near]
    return [lower[one] for one, ratio in zip(near, alike, strict=True) if ratio > alike[0] - FURTHER]


def abbreviated(word: str, known: Iterable[str]) -> list[str]:
    """Those of ``known`` whose first letters ``word`` is: ``learning_rate`` for ``lr``."""
    return [one for one in known if "_" in one and word.lower() == "".join(part[:1] for part in one.split("_"))]


def _headline(mistakes: Sequence[Mistake], name: str) -> str:
    count = f"{len(mistakes)} mistakes"
    typed = [one for one in mistakes if is_typed(one.place) and not one.place.startswith(ARGUMENT)]
    arguments = [one for one in mistakes if one.place.startswith(ARGUMENT)]
    files = {match["file"] for one in mistakes if (match := _FILE_AND_LINE.match(one.place))}
    if len(files) > 1:
        return f"{count}:"
    # A file is not to blame for words that were typed.
    where = files.pop() if files else name if not typed and not arguments else ""
    places = [f"in {where}"] * bool(where) + ["on the command line"] * bool(typed) + ["in arguments"] * bool(arguments)
    return f"{count} {' and '.join(places)}:" if places else f"{count}:"
