"""What every exchange format shares: the package that goes out, the answers that come back, and how names are found.

A format writes one zip (``write``); what comes back is read by the format of data.formats that it names, from a folder
that was already unpacked safely.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from marauder.annotation.packing import Entry, pack
from marauder.core.clock import Clock
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings
from marauder.data.records import Attribute, Problem
from marauder.data.taxonomy import normalise

Size = tuple[int, int]
"""Width and height in pixels of the picture as displayed."""


@dataclass(frozen=True, eq=False)
class Item:
    """One picture of a package and what a model suggests for it.

    ``file``: its name in the package, unique there even without suffix and without regard to case. ``picture``: the
    file whose bytes are packed. ``boxes``: float64 (N, 4), x0 y0 x1 y1 in pixels. ``classes``: int64 (N,), indices
    into the package's names. ``scores``: float64 (N,) in 0..1, or ``None`` where boxes have none.
    """

    key: str
    file: str
    picture: Path
    width: int
    height: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        object.__setattr__(self, "classes", np.asarray(self.classes, np.int64).reshape(-1))
        if self.scores is not None:
            object.__setattr__(self, "scores", np.asarray(self.scores, np.float64).reshape(-1))
        if len(self.boxes) != len(self.classes) or (self.scores is not None and len(self.scores) != len(self.boxes)):
            raise ValueError(f"{self.file}: boxes, classes and scores differ in number")


@dataclass(frozen=True, eq=False)
class Package:
    """What one annotator receives. ``name``: the zip's name without suffix. ``guidelines``: the folder written by
    ``annotation.guidelines``, packed as ``guidelines/``, or ``None``. ``readme``: what the provider is told first."""

    name: str
    batch: str
    names: tuple[str, ...]
    items: tuple[Item, ...]
    guidelines: Path | None = None
    readme: str = ""


@dataclass(frozen=True, eq=False)
class Answer:
    """What an annotator says of one picture. No boxes: looked at, nothing there.

    ``file``: the picture's name in the package. ``boxes``: float64 (N, 4), finite, x0 y0 x1 y1 in pixels of the picture
    as it was sent: neither clipped nor ordered. ``class_names``: N names as delivered (see ``match_class``).
    ``attributes``: what single boxes say of themselves (occluded, crowd ...), N mappings, or none at all.
    """

    file: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    class_names: tuple[str, ...] = ()
    attributes: tuple[Mapping[str, Attribute], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        if len(self.boxes) != len(self.class_names) or len(self.attributes) not in (0, len(self.boxes)):
            raise ValueError(f"{self.file}: boxes, class names and attributes differ in number")


@dataclass(frozen=True, eq=False)
class Reading:
    """A delivery as read. ``answers``: by the picture's name in the package; a picture without an entry was not
    answered. ``problems``: ``path`` is the delivered file relative to the folder, ``key`` the picture's name in the
    package where it is known. ``names``: class names as delivered. ``strangers``: pictures that are none of ours.
    """

    answers: dict[str, Answer]
    problems: tuple[Problem, ...] = ()
    names: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()


class ExchangeFormat(Plugin[Settings], ABC):
    """One exchange format: how a package is laid out, and how a delivery of that layout is read."""

    layout: str = ""
    """The format of data.formats that reads it, where that has another name."""
    how_to: str = ""
    """What the package's README says about loading it into a tool."""

    def write(self, package: Package, folder: Path, clock: Clock) -> Path:
        """Write ``folder/<package.name>.zip`` with its SHA256SUMS and return its path.

        The same package gives the same bytes. Raises ``Interrupted`` when the clock says so; no half zip stays.
        """
        return pack(self.entries(package), folder / f"{package.name}.zip", clock)

    @abstractmethod
    def entries(self, package: Package) -> Iterator[Entry]:
        """The files of the zip, pictures included."""


def match_class(name: str, names: Sequence[str]) -> int | None:
    """The index of ``name`` among ``names``: as it is, else without regard to case, spaces and punctuation."""
    # As written first: two classes may differ by punctuation alone.
    if name in names:
        return list(names).index(name)
    wanted = _folded(name)
    found = [index for index, known in enumerate(names) if _folded(known) == wanted]
    # Two that fold alike: which is meant cannot be known.
    return found[0] if len(found) == 1 else None


def _folded(name: str) -> str:
    # Names that hold no Latin letter fold to nothing and are compared as they stand.
    return normalise(name) or name.strip().casefold()
