"""What every format shares: the entry it makes of a picture, the findings it notes, and the interface.

A format only says what a file states. Whose picture an entry is, and what becomes of a doubt, is decided behind it: for
data sets by ``assembling``, for deliveries by ``annotation.formats.answers``.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.data.records import Attribute

if TYPE_CHECKING:
    from marauder.data.formats.source import Source

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
    pixels. ``width``/``height``: pixels as stated, 0 where not. ``labelled``: False where nobody looked, or nothing of
    what is said can be used. ``key``: as the source numbers it, or "".
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


@dataclass(eq=False, slots=True)
class Parsed:
    """What a format read. ``names``: class names in the source's order; where labels hold numbers, the name of each
    number (``numbered``), and none at all where nothing states them; a number among named classes has no name.
    ``first``: the number of the first class where they are numbered without names, ``None``: unknown. ``used``: the
    files read for labels and settings, so that what lies unread below ``root`` (``None``: the source's) can be told.
    ``pictures_required``: whether a picture that is not here is a fault; else labels alone are worth reading."""

    entries: list[Entry]
    names: list[str] | dict[int, str] = field(default_factory=list)
    numbered: bool = False
    used: set[Path] = field(default_factory=set)
    root: Path | None = None
    first: int | None = None
    pictures_required: bool = True


@dataclass(frozen=True)
class ReadOptions:
    """What a user may tell a reader.

    ``names``: class names in order (they win over those of the source). ``group_pattern``: regular
    expression for groups (data.groups). ``pictures``: the pictures' folder where that is not beside the labels.
    ``parts``: which of a source's label sets (DeepFish: Classification, Localization, Segmentation).
    ``missing_label``: what a picture without a label file means, ``unlabelled`` (nobody looked) or ``empty`` (someone
    looked and found nothing). ``uris``: beginnings of addresses (``s3://bucket/``) and the local folders in their
    place, for manifests.
    """

    names: tuple[str, ...] | None = None
    group_pattern: str | None = None
    pictures: Path | None = None
    parts: tuple[str, ...] | None = None
    missing_label: str = "unlabelled"
    uris: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.missing_label not in ("unlabelled", "empty"):
            raise UserError(f"missing_label is 'unlabelled' or 'empty', not {self.missing_label!r}")
        if self.pictures is not None and not self.pictures.is_dir():
            raise UserError(f"{self.pictures}: no such folder of pictures; check --pictures")
        if self.names is not None:  # composed, as the names that labels bear
            object.__setattr__(self, "names", tuple(unicodedata.normalize("NFC", name) for name in self.names))


class Format(ABC):
    """One format. It never ends on one bad line or picture: it notes a finding and goes on. ``UserError`` is raised
    only when nothing at all can be read."""

    name: str = ""

    @abstractmethod
    def files(self, source: Source) -> list[Path]:
        """The files of ``source`` that are in this format; none where it does not hold it. Reads little, never raises
        on foreign content."""

    def declared(self, source: Source) -> bool:
        """Whether the source says itself that it is in this format, whatever else lies in it."""
        return False

    @abstractmethod
    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        """Everything that ``source`` says in this format."""
