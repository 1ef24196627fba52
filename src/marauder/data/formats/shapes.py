"""What becomes of a shape that somebody drew: a label with an upright box, or a refusal, in the same words for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.data.formats.entries import Box, Entry, Findings, Label
from marauder.data.formats.text import clean_text, envelope, numbers, pairs

WITHOUT_EXTENT = {
    **dict.fromkeys(("point", "points", "keypoint"), "a point"),
    **dict.fromkeys(("line", "linestrip", "linestring", "polyline"), "a line"),
    "wholeframe": "a label of the whole picture",
}


class Refused(Exception):  # noqa: N818 - no error: an answer
    """Why a shape makes no label: the kind of the finding and its words."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind, self.words = kind, words


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a shape stands, so that what is odd about it can be told. ``file``: ``None`` for that of its entry."""

    findings: Findings
    entry: Entry
    place: str
    line: int | None = None
    file: Path | None = None

    def tell(self, kind: str, words: str) -> None:
        """Note a finding about this shape."""
        self.findings.add(kind, f"{self.place}: {words}", self.file or self.entry.file, self.line, self.entry)

    def add(self, make: Callable[..., Label | None], *given: object) -> Label | None:
        """Give the entry the label that ``make`` makes of this, if any; why it refuses is told."""
        try:
            label = make(self, *given)
        except Refused as refused:
            self.tell(refused.kind, refused.words)
            return None
        if label is not None:
            self.entry.labels.append(label)
        return label

    def class_of(self, *names: str) -> str:
        """The class of a shape with these names: the first; that there are more is told."""
        found = list(dict.fromkeys(filter(None, names)))
        if not found:
            raise Refused("class-missing", "no label; name its class")
        if len(found) > 1:
            self.several(found)
        return found[0]

    def several(self, names: Sequence[str]) -> None:
        """Tell that the shape has several classes."""
        self.tell("class-several", f"several labels ({', '.join(names[:6])}); which is meant? Keep one")

    def converted(self, what: str, turn: float = 0.0) -> None:
        """Tell that the shape, or a box turned by so many degrees, is no upright box."""
        turned = "turned " if turn % 360 else ""
        self.tell("shape-converted", f"{turned}{what}; the upright box around it is taken")


def check_kind(kind: str, kinds: Collection[str]) -> None:
    """Refuse a shape without extent, and one that is none of ``kinds``."""
    if kind in WITHOUT_EXTENT:
        raise Refused("shape-without-extent", f"{WITHOUT_EXTENT[kind]} has no extent; draw a box")
    if kind not in kinds:
        raise Refused("shape-unknown", f"no box can be made of {clean_text(kind, 40)!r}; draw a box")


def unusable(what: str, given: object) -> Refused:
    """The refusal of what is no usable numbers."""
    return Refused("number-invalid", f"{what} {clean_text(given, 80)} is not usable numbers; draw it again")


def usable(what: str, given: object, count: int) -> list[float]:
    """Exactly ``count`` numbers."""
    found = numbers(given, count)
    if found is None:
        raise unusable(what, given)
    return found


def outline(kind: str, given: object, least: int = 3) -> Box:
    """The box around at least so many points, given as pairs or as numbers one after the other."""
    points = pairs(given)
    if points is None or len(points) < least:
        raise unusable(f"{kind} (at least {least} points)", given)
    return extended(kind, envelope(points))


def centred(kind: str, place: Sequence[float]) -> Box:
    """The box around a centre: x, y, and how far it reaches sideways and downwards."""
    x, y, across, down = place
    if across < 0 or down < 0:
        raise unusable(kind, list(place))
    return extended(kind, (x - across, y - down, x + across, y + down))


def extended(kind: str, box: Box) -> Box:
    """The box, if it is more than a point."""
    if box[:2] == box[2:]:
        raise Refused("shape-without-extent", f"its {kind} is a point and has no extent; draw a box")
    return box
