"""Mistakes in what users write: each with its place, gathered from any number of files and told as one list."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from marauder.core.errors import UserError

FEW = 12
"""So many names are listed in a message; of more, the nearest ones and where the whole list is."""
_FILE_AND_LINE = re.compile(r"^(?P<file>.+):\d+$")


@dataclass(frozen=True)
class Mistake:
    """What is wrong and what to do, in one line. ``place``: ``file:line``, the option or the override; may be empty."""

    words: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.words}" if self.place else self.words


class MistakesError(UserError):
    """All mistakes of one command. ``name``: what they were found in, named where their places do not name more."""

    def __init__(self, mistakes: Iterable[Mistake], name: str = "") -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
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

    def demand_none(self, name: str = "") -> None:
        """Raise ``MistakesError`` if there are any."""
        if self.found:
            raise MistakesError(self.found, name)


def mistakes_in(error: UserError, place: str = "") -> list[Mistake]:
    """The mistakes that an error lists, or the error as one."""
    return list(error.mistakes) if isinstance(error, MistakesError) else [Mistake(str(error), place)]


def nearest(name: str, known: Collection[str], all_of_them: str = "") -> str:
    """What was perhaps meant by ``name``, to put behind a message: the nearest of ``known``, and all of them where they
    are few. ``all_of_them``: where the whole list is, in words."""
    lower = {one.lower(): one for one in known}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, 3)]
    words = f"; did you mean {' or '.join(near)}?" if near else ""
    if len(known) <= FEW:
        return f"{words}; there {'are' if len(known) != 1 else 'is'}: {', '.join(known) or 'none'}"
    return words + (f"; {all_of_them}" if all_of_them else "")


def _headline(mistakes: Sequence[Mistake], name: str) -> str:
    count = f"{len(mistakes)} mistakes"
    typed = [one for one in mistakes if one.place.startswith(("override ", "option "))]
    files = {match["file"] for one in mistakes if (match := _FILE_AND_LINE.match(one.place))}
    if len(files) > 1:
        return f"{count}:"
    # A file is not to blame for words that were typed.
    where = files.pop() if files else name if not typed else ""
    places = [f"in {where}"] * bool(where) + ["on the command line"] * bool(typed)
    return f"{count} {' and '.join(places)}:" if places else f"{count}:"
