"""What a format makes of a file: an entry for each picture with its labels, and findings for everything odd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from marauder.core.clock import Clock
from marauder.data.records import Attribute

Box = tuple[float, float, float, float]
"""x0 y0 x1 y1."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders and files that mean a split, and the split they mean."""


def split_in(words: Iterable[str]) -> str | None:
    """The split that the first of ``words`` to mean one means, in any capitals."""
    return next((SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES), None)


DOUBTFUL_LABELS = (
    "label-unreadable",
    "label-syntax",
    "label-meaning",
    "label-encoding",
    "number-invalid",
    "class-unknown",
    "class-missing",
    "class-several",
    "shape-unknown",
    "shape-without-extent",
    "size-mismatch",
    "id-twice",
    "picture-ambiguous",
)
"""Kinds of findings that leave in doubt what a picture shows: a label of it is not read, or not known to be its own."""

FINDINGS_OF_A_PICTURE = 20
"""Findings of one kind kept of one picture in one file; what comes after says nothing new."""
FINDINGS_OF_A_FILE = 1000


@dataclass(eq=False, slots=True)
class Label:
    """One box as stated, with finite numbers, neither ordered nor clipped.

    ``class_name``: text, or a number in formats that number their classes. ``place`` names the box in messages.
    ``turn``: degrees by which it is turned clockwise about its top left corner (``about_corner``) or its centre.
    """

    box: Box
    class_name: str | int
    line: int | None = None
    place: str = ""
    ignored: bool = False
    details: Mapping[str, Attribute] = field(default_factory=dict)
    turn: float = 0.0
    about_corner: bool = False


@dataclass(eq=False, slots=True)
class Entry:
    """What a file says of one picture.

    ``names``: names, paths or addresses that may mean the picture, surest first. ``picture``: where it lies, if that is
    known already. ``file`` and ``line``: where it is said. ``relative``: boxes are fractions of the picture, else
    pixels. ``width``/``height``: pixels as stated, 0 where not. ``labelled``: False where not checked, or nothing of
    what is said can be used. ``key``: as the source numbers it, or "". ``sought``: of a
    picture that was not found, the name that was looked for and, in words, where.
    """

    names: tuple[str, ...]
    file: Path
    line: int | None = None
    picture: Path | None = None
    labels: list[Label] = field(default_factory=list)
    relative: bool = False
    width: float = 0.0
    height: float = 0.0
    labelled: bool = True
    key: str = ""
    group: str | None = None
    split: str | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)
    sought: tuple[str, str] | None = None


@dataclass(eq=False, slots=True)
class Finding:
    """Something wrong or worth knowing. ``entry``: the picture it belongs to, if any. ``count``: how many of its kind
    it stands for."""

    kind: str
    message: str
    file: Path
    line: int | None = None
    entry: Entry | None = None
    count: int = 1


class Findings:
    """Collects findings. ``guess``: whether text of no stated encoding is read as Latin-1 with a finding (its names are
    compared with known ones anyway) or not at all. ``clock`` is asked now and then, so that reading ends in time."""

    def __init__(self, guess: bool = False, clock: Clock | None = None) -> None:
        self.guess, self.clock = guess, clock
        self.list: list[Finding] = []
        self._seen: dict[tuple[str, Path, int], int] = {}
        self._more: dict[tuple[str, Path, int], Finding] = {}
        self._ticks = 0

    def add(
        self, kind: str, message: str, file: Path, line: int | None = None, entry: Entry | None = None, count: int = 1
    ) -> None:
        """Note a finding. Of one kind in one picture, or in one file, only the first ones are kept one by one; the
        last stands for the rest."""
        # No other entry can get this id: the finding that was noted first keeps its entry alive.
        place = (kind, file, id(entry) if entry is not None else 0)
        seen = self._seen[place] = self._seen.get(place, 0) + 1
        if seen <= (FINDINGS_OF_A_PICTURE if entry is not None else FINDINGS_OF_A_FILE):
            self.list.append(Finding(kind, message, file, line, entry, count))
            return
        if place not in self._more:
            self._more[place] = Finding(kind, "", file, line, entry, 0)
            self.list.append(self._more[place])
        more = self._more[place]
        more.count += count
        more.message = f"and {more.count:,} more like it"

    def tick(self) -> None:
        """Called once an entry; raises ``Interrupted`` when it is time to stop."""
        self._ticks += 1
        if self.clock is not None and self._ticks % 256 == 0:
            self.clock.check()
