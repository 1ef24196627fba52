"""Looks at slices beside the data: names that do not exist, slices that are empty, tiny or the same as another."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Literal as OneOf

import numpy as np

from marauder.core.mistakes import Mistake, MistakesError, nearest
from marauder.data.records import Dataset, Record
from marauder.data.slices.columns import (
    KINDS,
    NUMBER,
    TEXT,
    Values,
    box_columns,
    box_names,
    picture_columns,
    picture_names,
    plain,
)
from marauder.data.slices.counting import Counter, SliceCount
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.query import parse_query
from marauder.data.slices.query_tree import (
    ARITHMETIC,
    MIRRORED,
    Node,
    Query,
    QueryError,
    unknown_name,
    walk,
)
from marauder.data.slices.resolve import MOST_VALUES, SliceBook
from marauder.data.slices.settings import SliceSettings
from marauder.data.slices.sizes import expand_sizes

FEWEST_BOXES = 50
"""Average precision over fewer boxes says little."""
FEWEST_GROUPS = 5
"""With fewer groups (clips) no interval can be given."""
IDS_SHOWN = 3
VALUES_SHOWN = 12


@dataclass(frozen=True)
class SliceFinding:
    """Something to know about a slice. ``error``: the slice cannot mean what was written; ``warning``: it can, but
    says little or nothing. ``place``: file and line; ``split``: ``None`` for the data set as a whole; ``field``: the
    key of the slice in the file that is wrong, empty where it is the slice as a whole."""

    slice: str
    severity: OneOf["error", "warning"]
    kind: str
    message: str
    split: str | None = None
    place: str = ""
    field: str = ""

    def as_mistake(self) -> Mistake:
        """The finding in a list of mistakes: one in a key is called as those in the file's form are."""
        if self.field:
            return Mistake(f"slices.{self.slice}.{self.field}: {self.message}", self.place)
        of_split = f" ({self.split})" if self.split is not None else ""
        return Mistake(f"{self.slice}{of_split}: {self.message}", self.place)

    def __str__(self) -> str:
        return str(self.as_mistake())


@dataclass(frozen=True)
class SliceRow:
    """A slice in one split of the data: what it holds."""

    split: str
    mask: SliceMask
    count: SliceCount


def check(book: SliceBook, dataset: Dataset, split: str | None = None) -> list[SliceFinding]:
    """Everything to know about the slices of a book in a data set, errors first; in each split, or one of them.

    Raises ``UserError`` for a split that does not exist.
    """
    findings = list(check_names(book, dataset))
    broken = {finding.slice for finding in findings if finding.severity == "error"}
    # Applying a book with a broken "by" raises, so nothing in it could be counted.
    if not any(book.slices[name].by is not None for name in broken):
        for row_split, rows in _by_split(count_slices(book, dataset, split)).items():
            records = _records_of(dataset, row_split)
            findings += _sizes(book, rows, row_split, broken)
            findings += _equals(book, rows, row_split, records)
    return sorted(findings, key=lambda finding: finding.severity)


def count_slices(book: SliceBook, dataset: Dataset, split: str | None = None) -> list[SliceRow]:
    """Each slice in each split (``all`` where the data set has none), or in one split."""
    rows = []
    for name in [split] if split is not None else list(dataset.splits()) or ["all"]:
        records = _records_of(dataset, name) if split is None else dataset.split(split).records
        counter = Counter(records)
        rows += [SliceRow(name, mask, counter.count(mask)) for mask in book.apply(records, dataset.names)]
    return rows


def refuse_mistakes(findings: Sequence[SliceFinding]) -> None:
    """Raise one ``UserError`` with all errors among ``findings``, if there are any."""
    errors = [finding.as_mistake() for finding in findings if finding.severity == "error"]
    if errors:
        raise MistakesError(errors, "the slices")


def _records_of(dataset: Dataset, split: str) -> tuple[Record, ...]:
    return dataset.split(split).records if dataset.splits() else dataset.records


def _by_split(rows: Sequence[SliceRow]) -> dict[str, list[SliceRow]]:
    found: dict[str, list[SliceRow]] = {}
    for row in rows:
        found.setdefault(row.split, []).append(row)
    return found


def _owner(book: SliceBook, label: str) -> str:
    """The slice of the file that a mask comes from; those of ``by`` are called ``name=value``."""
    return label if label in book.slices else label.partition("=")[0]


def _place(book: SliceBook, name: str, field: str = "") -> str:
    owner = _owner(book, name)
    line = book.lines.get((owner, field), book.lines.get((owner,)))
    return f"{book.path}:{line}" if book.path is not None and line is not None else ""


def check_names(book: SliceBook, dataset: Dataset) -> Iterator[SliceFinding]:
    """What is wrong whatever the split: names and values that the data set does not have."""
    records, names = dataset.records, dataset.names
    of_pictures, of_boxes = picture_names(records), box_names(records)
    keys = {record.key for record in records}
    for name, settings in book.slices.items():
        for field, known, other in (("where", of_pictures, of_boxes), ("boxes", of_boxes, of_pictures)):
            text = getattr(settings, field)
            if text is None:
                continue
            query = parse_query(text) if field == "where" else expand_sizes(parse_query(text))
            elsewhere = "boxes" if field == "where" else "where"
            unknown = [name for name in query.names if name not in known]
            hints = {name: f"; it is an attribute for '{elsewhere}'" for name in unknown if name in other}
            for one in unknown:
                position = query.names[one]
                words = str(QueryError(unknown_name(one, known) + hints.get(one, ""), query.text, position))
                place = _place(book, name, field)
                yield SliceFinding(name, "error", "unknown-attribute", words, place=place, field=field)
            columns = (
                picture_columns(records, list(query.names))
                if field == "where"
                else box_columns(records, list(query.names), names)
            )
            for severity, kind, words in _of_other_kinds(query, columns):
                yield SliceFinding(name, severity, kind, words, place=_place(book, name, field), field=field)
        yield from _unknown_classes(name, settings, names, _place(book, name, "boxes"))
        yield from _wrong_by(name, settings, of_pictures, of_boxes, dataset, _place(book, name, "by"))
        missing = sorted(book.ids.get(name, frozenset()) - keys)
        if missing:
            shown = ", ".join(missing[:IDS_SHOWN]) + (" …" if len(missing) > IDS_SHOWN else "")
            words = f"{len(missing):,} of {len(book.ids[name]):,} are not keys of pictures: {shown}"
            yield SliceFinding(name, "error", "unknown-id", words, place=_place(book, name, "ids"), field="ids")


def check_classes(book: SliceBook, classes: Sequence[str]) -> Iterator[SliceFinding]:
    """The part of ``check_names`` that needs no more of the data set than its ``classes``."""
    for name, settings in book.slices.items():
        yield from _unknown_classes(name, settings, classes, _place(book, name, "boxes"))


def _unknown_classes(name: str, settings: SliceSettings, classes: Sequence[str], place: str) -> Iterator[SliceFinding]:
    """Classes that the data set does not have; one that only has no box is no mistake."""
    if settings.boxes is None:
        return
    query = expand_sizes(parse_query(settings.boxes))
    for node in walk(query.root):
        if node.operator not in ("=", "<>") or [part.value for part in node.parts[:1]] != ["class"]:
            continue
        wanted = node.parts[1].value
        if isinstance(wanted, str) and wanted not in classes:
            told = f"no class named {wanted!r}{nearest(wanted, classes, '`marauder data check` lists the classes')}"
            words = str(QueryError(told, query.text, node.parts[1].position))
            yield SliceFinding(name, "error", "unknown-class", words, place=place, field="boxes")


def _wrong_by(
    name: str, settings: SliceSettings, of_pictures: list[str], of_boxes: list[str], dataset: Dataset, place: str
) -> Iterator[SliceFinding]:
    attribute = settings.by
    if attribute is None:
        return
    known = {*of_pictures, *of_boxes, "size"}
    if attribute not in known:
        words = unknown_name(attribute, known)
        yield SliceFinding(name, "error", "unknown-attribute", words, place=place, field="by")
        return
    columns = box_columns(dataset.records, [attribute], dataset.names) or picture_columns(dataset.records, [attribute])
    values = {value for column in columns.values() for value in plain(column)} - {None}
    texts = sum(isinstance(value, (str, bool)) for value in values)
    if texts and len(values) > MOST_VALUES:
        words = f"{attribute!r} has {len(values):,} values, more than {MOST_VALUES}; write the slices that matter"
        yield SliceFinding(name, "error", "too-many-values", words, place=place, field="by")


def _of_other_kinds(
    query: Query, columns: Mapping[str, Values]
) -> Iterator[tuple[OneOf["error", "warning"], str, str]]:
    """Comparisons that no value in the data can ever meet."""
    held = {name: set(plain(values)) - {None} for name, values in columns.items()}
    told: set[tuple[object, object]] = set()
    for one, wanted in _wanted_kinds(query):
        present = {KINDS[type(value)] for value in held.get(str(one.value), ())}
        if present and wanted not in present and (one.value, wanted) not in told:
            told.add((one.value, wanted))
            words = f"{one.value!r} holds {' and '.join(sorted(present))}, but is compared with {wanted}"
            yield "error", "other-kind", str(QueryError(words, query.text, one.position))
    for node in walk(query.root):
        if node.operator not in ("=", "<>") or [part.operator for part in node.parts] != ["name", "literal"]:
            continue
        one, literal = node.parts[0], node.parts[1].value
        # Classes are judged by their names, whether or not they have boxes.
        if one.value == "class":
            continue
        # By exact type: true and false are numbers to Python, but of a kind of their own here.
        values = {value for value in held.get(str(one.value), ()) if type(value) is type(literal)}
        if values and literal not in values and (one.value, literal) not in told:
            told.add((one.value, literal))
            close = difflib.get_close_matches(literal, map(str, values), 1) if isinstance(literal, str) else []
            meant = f"; did you mean {close[0]!r}?" if close else ";"
            words = f"{one.value!r} is never {_shown(literal)}{meant} it is: {_listed(values)}"
            yield "warning", "unknown-value", str(QueryError(words, query.text, one.position))


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _listed(values: set[Any]) -> str:
    """Values that there are, of one kind; many numbers as the range they lie in."""
    if len(values) > VALUES_SHOWN and all(isinstance(value, float) for value in values):
        return f"{min(values):g} to {max(values):g}"
    some = [f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values)[:VALUES_SHOWN]]
    return ", ".join(some) + (" …" if len(values) > VALUES_SHOWN else "")


def _wanted_kinds(query: Query) -> Iterator[tuple[Node, str]]:
    """Names with the kind of value that the query compares them with."""
    for node in walk(query.root):
        for one, other in zip(node.parts, node.parts[::-1]):
            if one.operator != "name":
                continue
            if node.operator in ARITHMETIC or (node.operator in MIRRORED and other.operator in ARITHMETIC):
                yield one, NUMBER
            elif node.operator == "matches":
                yield one, TEXT
            elif node.operator in MIRRORED and other.operator == "literal":
                yield one, KINDS[type(other.value)]


def _sizes(book: SliceBook, rows: Sequence[SliceRow], split: str, broken: set[str]) -> Iterator[SliceFinding]:
    """Slices with nothing or little in them, and values of ``by`` that are all too few."""
    found = {_owner(book, row.mask.name) for row in rows}
    for name in [name for name in book.slices if name not in found and name not in broken]:
        words = f"empty: no value of {book.slices[name].by!r} has {book.slices[name].minimum_pictures} pictures"
        yield SliceFinding(name, "warning", "empty", words, split, _place(book, name))
    for row in rows:
        name, count = row.mask.name, row.count
        least = book.slices[_owner(book, name)].minimum_pictures
        if _owner(book, name) in broken:
            continue
        if not count.pictures:
            words = "empty: no labelled picture" + ("; its protection has nothing to judge" * row.mask.protected)
            yield SliceFinding(name, "warning", "empty", words, split, _place(book, name))
            continue
        few = [
            f"{held:,} {what} of at least {needed}"
            for what, held, needed in (
                ("pictures", count.pictures, least),
                ("boxes", count.boxes, FEWEST_BOXES),
                ("groups", count.groups, FEWEST_GROUPS),
            )
            if held < needed
        ]
        if few:
            yield SliceFinding(name, "warning", "tiny", f"tiny: {', '.join(few)}", split, _place(book, name))


def _equals(book: SliceBook, rows: Sequence[SliceRow], split: str, records: Sequence[Record]) -> Iterator[SliceFinding]:
    """Slices of the same pictures and boxes as an earlier one, or as the whole."""
    counter = Counter(records)
    whole = SliceMask("", np.ones(len(records), bool))
    seen = {_content(counter, whole): "the whole split"}
    for row in rows:
        if row.count.pictures:
            key = _content(counter, row.mask)
            if key in seen:
                words = f"takes the same pictures and boxes as {seen[key]}"
                yield SliceFinding(row.mask.name, "warning", "equal", words, split, _place(book, row.mask.name))
            seen.setdefault(key, f"{row.mask.name!r}")


def _content(counter: Counter, mask: SliceMask) -> tuple[bytes, bytes]:
    """What makes two slices the same: their labelled pictures and the boxes that count."""
    return np.packbits(mask.pictures & counter.labelled).tobytes(), np.packbits(counter.boxes(mask)).tobytes()
