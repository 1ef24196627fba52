"""The reader plug point: what every format is asked.

A format only says what a file states. Whose picture an entry is, and what becomes of a doubt, is decided behind it: for
data sets by ``assembling``, for deliveries by ``annotation.formats.answers``.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings
from marauder.data.formats.entries import Entry, Findings
from marauder.data.formats.source import Source


@dataclass(eq=False, slots=True)
class Parsed:
    """What a format read. ``names``: class names in the source's order; where labels hold numbers, the name of each
    number (``numbered``), and none at all where nothing states them; a number among named classes has no name.
    ``first``: the number of the first class where they are numbered without names, ``None``: unknown. ``used``: the
    files read for labels and settings, so that what lies unread below ``root`` (``None``: the source's) can be told.
    ``pictures_required``: whether a picture that is not here is a fault; else labels alone are worth reading.
    ``file_a_picture``: every picture has a label file of its own, so that one without is not checked; ``listed``: the
    splits that lists give to such pictures, by their paths as ``Source.pictures`` has them."""

    entries: list[Entry]
    names: list[str] | dict[int, str] = field(default_factory=list)
    numbered: bool = False
    used: set[Path] = field(default_factory=set)
    root: Path | None = None
    first: int | None = None
    pictures_required: bool = True
    file_a_picture: bool = False
    listed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """What a user may tell a reader.

    ``names``: class names in order (they win over those of the source). ``group_pattern``: regular
    expression for groups (data.groups). ``pictures``: the pictures' folder where that is not beside the labels.
    ``parts``: which of a source's label sets (DeepFish: Classification, Localization, Segmentation).
    ``missing_label``: what a picture without a label file means, ``unlabelled`` (not checked) or ``empty`` (checked,
    and nothing found). ``uris``: beginnings of addresses (``s3://bucket/``) and the local folders in their
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


class Reader(Plugin[Settings], ABC):
    """One format. It never ends on one bad line or picture: it notes a finding and continues. ``UserError`` is raised
    only when nothing at all can be read."""

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
