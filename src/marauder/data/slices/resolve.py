"""From ``slices.yaml`` to masks over records: which pictures each slice takes, and which of their boxes count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.errors import UserError
from marauder.core.layers import read_layer_or_mistakes
from marauder.core.mistakes import Mistake, MistakesError
from marauder.core.plain import PlainMapping
from marauder.core.settings import examine_layer, put_right
from marauder.data.records import Record
from marauder.data.slices.columns import Values, box_columns, picture_columns, plain
from marauder.data.slices.counting import Counter
from marauder.data.slices.mask import Limit, SliceMask
from marauder.data.slices.query import parse_query
from marauder.data.slices.query_tree import Query, unknown_name
from marauder.data.slices.settings import FEWEST_PICTURES, SliceSettings, SlicesSettings
from marauder.data.slices.sizes import SIZES, Area, allowed_area, expand_sizes, intersect_areas
from marauder.data.slices.values import attribute_slices, value_masks

MOST_VALUES = 100
"""An attribute with more values than this makes no slices, even where ``by`` asks for them."""
QUARTERED_FROM = 12
"""Numbers with more distinct values than this are cut at their quartiles."""


@dataclass(frozen=True, eq=False)
class SliceBook:
    """The slices of a file. ``ids``: picture keys of the slices that list some. ``lines``: where each slice
    starts, ``(name,)``, and where each of its keys is, ``(name, "where")``."""

    slices: Mapping[str, SliceSettings]
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)
    path: Path | None = None
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def apply(self, records: Sequence[Record], names: Sequence[str]) -> list[SliceMask]:
        """The slices over ``records``, in the file's order; ``names``: of the classes.

        An attribute that a picture does not have is missing there, so a name that no picture has makes an empty slice:
        ``check.check`` tells. Raises ``UserError`` for a ``by`` with too many values.
        """
        return _Application(self, records, names).masks()


def load_slices(path: Path | str) -> SliceBook:
    """Read ``slices.yaml``. Raises one ``UserError`` that lists every mistake with its line."""
    book, mistakes = examine_slices(path)
    if mistakes:
        raise MistakesError(mistakes, str(path))
    return book


def examine_slices(path: Path | str) -> tuple[SliceBook, list[Mistake]]:
    """As ``load_slices``, with the mistakes instead of an error; the book then holds what could be read, and is good
    for finding more of them."""
    place = Path(path)
    layer = read_layer_or_mistakes(place)
    if layer.mistakes:
        return SliceBook({}, path=place), list(layer.mistakes)
    if not layer.content.get("slices") and not set(layer.content) - {"slices"}:
        words = (
            "defines no slices; write one below the word slices, for example\n"
            "  slices:\n    deep:\n      where: depth > 20"
        )
        return SliceBook({}, path=place), [Mistake(words, str(place))]
    layer = put_right(SlicesSettings, layer)
    settings, mistakes = examine_layer(SlicesSettings, layer)
    slices = _raw_slices(layer.content)
    ids: dict[str, frozenset[str]] = {}
    # As they were written, so that these mistakes are reported with those of form.
    for name, one in slices.items():
        where = layer.places.get(("slices", name, "all_of"), "")
        mistakes += [Mistake(f"slices.{name}.all_of: {words}", where) for words in _wrong_members(name, slices)]
        try:
            keys = _read_ids(one.get("ids"), place.parent)
        except UserError as error:
            mistakes.append(Mistake(f"slices.{name}.ids: {error}", layer.places[("slices", name, "ids")]))
        else:
            ids |= {name: keys} if keys is not None else {}
    known = settings.slices or {}
    lines = {
        keys[1:]: int(place.rpartition(":")[2])
        for keys, place in layer.places.items()
        if keys[0] == "slices" and len(keys) in (2, 3) and keys[1] in known
    }
    return SliceBook(known, ids, place, lines), mistakes


def automatic_slices(
    records: Sequence[Record], names: Sequence[str], minimum: int = FEWEST_PICTURES
) -> list[SliceMask]:
    """What a run looks at without a slices.yaml: values of attributes (``site=reef``), box sizes (``size=small``),
    classes (``class=fish``); each with at least ``minimum`` pictures that speak for it, and none that is the whole."""
    counter = Counter(records)
    everything = np.ones(len(records), bool)
    found = {name: SliceMask(name, mask) for name, mask in attribute_slices(records, minimum).items()}
    for attribute in ("size", "class"):
        for name, part in _parts_by(attribute, attribute, records, names).items():
            mask = SliceMask(name, everything, part.boxes, part.area)
            held = counter.count(mask)
            if held.pictures >= minimum and held.boxes < counter.counting.sum():
                found[name] = mask
    return list(found.values())


@dataclass(frozen=True, eq=False)
class _Part:
    """What a slice takes, before it has a name."""

    pictures: np.ndarray
    boxes: np.ndarray | None = None
    area: Area | None = None

    def within(self, other: _Part) -> _Part:
        """What both take."""
        boxes = self.boxes if other.boxes is None else other.boxes if self.boxes is None else self.boxes & other.boxes
        return _Part(self.pictures & other.pictures, boxes, intersect_areas(self.area, other.area))


class _Application:
    """A book applied to some records."""

    def __init__(self, book: SliceBook, records: Sequence[Record], names: Sequence[str]) -> None:
        self.book, self.records, self.names = book, records, names
        where = {name: parse_query(one.where) for name, one in book.slices.items() if one.where is not None}
        self.where = _answers(where, picture_columns(records, _names(where)), len(records))
        self.of_boxes = {
            name: expand_sizes(parse_query(one.boxes)) for name, one in book.slices.items() if one.boxes is not None
        }
        count = sum(len(record.boxes) for record in records)
        self.boxes = _answers(self.of_boxes, box_columns(records, _names(self.of_boxes), names), count)
        self.counter = Counter(records)
        self.parts: dict[str, _Part] = {}

    def masks(self) -> list[SliceMask]:
        """All slices, those with ``by`` as one for each value."""
        return [mask for name, settings in self.book.slices.items() for mask in self.masks_of(name, settings)]

    def masks_of(self, name: str, settings: SliceSettings) -> list[SliceMask]:
        """The slice itself, or with ``by`` one for each value that enough pictures have."""
        limits = {metric: Limit(one.minimum, one.maximum) for metric, one in settings.limits.items()}
        parts = {name: self.part(name)}
        if settings.by is not None:
            values = _parts_by(name, settings.by, self.records, self.names)
            parts = {label: parts[name].within(part) for label, part in values.items()}
        masks = [
            SliceMask(label, part.pictures, part.boxes, part.area, settings.protected, limits, settings.description)
            for label, part in parts.items()
        ]
        if settings.by is None:
            return masks
        return [mask for mask in masks if self.counter.count(mask).pictures >= settings.minimum_pictures]

    def part(self, name: str) -> _Part:
        """What ``where``, ``boxes``, ``ids`` and ``all_of`` leave."""
        if name not in self.parts:
            part = _Part(np.ones(len(self.records), bool))
            if name in self.where:
                part = part.within(_Part(self.where[name]))
            if name in self.book.ids:
                part = part.within(
                    _Part(np.array([record.key in self.book.ids[name] for record in self.records], bool))
                )
            if name in self.of_boxes:
                part = part.within(_Part(part.pictures, self.boxes[name], allowed_area(self.of_boxes[name])))
            # Terminates: load_slices has refused circles.
            for other in self.book.slices[name].all_of:
                part = part.within(self.part(other))
            self.parts[name] = part
        return self.parts[name]


def _names(queries: Mapping[str, Query]) -> list[str]:
    return sorted({name for query in queries.values() for name in query.names})


def _answers(queries: Mapping[str, Query], columns: Mapping[str, Values], count: int) -> dict[str, np.ndarray]:
    """Which of ``count`` rows each query takes: bool (count,)."""
    if not queries:
        return {}
    try:
        from marauder.data.slices.query_polars import evaluate_query, frame_of
    except ModuleNotFoundError as error:
        raise UserError(
            f"queries of slices need the package {error.name!r}, which is not installed; install marauder with the "
            "extra 'data'"
        ) from None
    frame = frame_of(columns, count)
    return {name: evaluate_query(query, frame) for name, query in queries.items()}


def _parts_by(prefix: str, attribute: str, records: Sequence[Record], names: Sequence[str]) -> dict[str, _Part]:
    """A part for each value of an attribute of boxes or pictures, by ``prefix=value``; boxes' attributes come first."""
    everything = np.ones(len(records), bool)
    if attribute == "size":
        area = np.asarray(box_columns(records, ["area"], names)["area"])
        inside = {name: (area >= low) & (area <= high) for name, (low, high) in SIZES.items()}
        return {f"{prefix}={name}": _Part(everything, mask, SIZES[name]) for name, mask in inside.items() if mask.any()}
    if attribute == "class":
        kinds = np.concatenate([record.classes for record in records]) if records else np.zeros(0, np.int64)
        return {
            f"{prefix}={name}": _Part(everything, kinds == index)
            for index, name in enumerate(names)
            if (kinds == index).any()
        }
    of_boxes = box_columns(records, [attribute], names)
    column = of_boxes or picture_columns(records, [attribute])
    masks = value_masks(prefix, plain(column[attribute]), QUARTERED_FROM, MOST_VALUES) if column else {}
    if masks is None:
        raise UserError(f"{attribute!r} has more than {MOST_VALUES} values; write the slices that matter by themselves")
    return {label: _Part(everything, mask) if of_boxes else _Part(mask) for label, mask in masks.items()}


def _raw_slices(content: PlainMapping) -> dict[str, PlainMapping]:
    slices = content.get("slices")
    if not isinstance(slices, dict):
        return {}
    return {str(name): one for name, one in slices.items() if isinstance(one, dict)}


def _members(one: PlainMapping) -> list[str]:
    members = one.get("all_of")
    return [str(member) for member in members] if isinstance(members, list) else []


def _wrong_members(name: str, slices: Mapping[str, PlainMapping]) -> list[str]:
    """What is wrong with a slice's ``all_of``, in words."""
    found = []
    for member in _members(slices[name]):
        if member not in slices:
            found.append(unknown_name(member, set(slices) - {name}, "slice"))
        elif slices[member].get("by") is not None:
            found.append(f"{member!r} is many slices (it has 'by'); name single ones")
        elif _reaches(member, name, slices, set()):
            found.append(f"{member!r} leads back to {name!r}")
    return found


def _reaches(start: str, goal: str, slices: Mapping[str, PlainMapping], seen: set[str]) -> bool:
    """Whether ``all_of`` leads from one slice to another."""
    if start == goal:
        return True
    seen.add(start)
    ahead = [member for member in _members(slices.get(start, {})) if member not in seen]
    return any(_reaches(member, goal, slices, seen) for member in ahead)


def _read_ids(ids: Any, folder: Path) -> frozenset[str] | None:
    """The keys of a list, or of a text file beside the settings; ``None`` where there is no list."""
    if isinstance(ids, list):
        return frozenset(str(key) for key in ids)
    if not isinstance(ids, str):
        return None
    file = folder / Path(ids).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{file}: cannot be read ({reason}); write one picture key a line") from None
    keys = [line.strip() for line in text.splitlines()]
    return frozenset(key for key in keys if key and not key.startswith("#"))
