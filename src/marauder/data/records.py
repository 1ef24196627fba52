"""The one model of a data set: records of a picture, its size, its boxes and classes, its attributes and its group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from marauder.core.errors import UserError
from marauder.data.boxes import iou_matrix

SAME_OBJECT = 0.5
"""Intersection over union from which two boxes of one class are the same object, labelled twice."""

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault that a reader noted before reading on. ``line`` counts from 1; ``key``: the record's, if it has one;
    ``count``: how many of its kind it stands for."""

    path: str
    line: int | None
    kind: str
    message: str
    key: str = ""
    count: int = 1

    def __str__(self) -> str:
        return f"{self.path}{f':{self.line}' if self.line is not None else ''}: {self.message}"


def counted(problems: Iterable[Problem]) -> Counter[str]:
    """How often each kind occurs, in order of first appearance."""
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.kind] += problem.count
    return counts


@dataclass(frozen=True, eq=False)
class Record:
    """One picture and what is known of it.

    ``picture``: path of the file (need not exist for annotation-only sets). ``width``/``height``: pixels as displayed,
    that is after EXIF rotation. ``boxes``: float64 (N, 4), x0 y0 x1 y1 in pixels of the displayed picture.
    ``classes``: int64 (N,), indices into the data set's names. ``ignored``: bool (N,), boxes that neither reward nor
    punish a detection (COCO crowds, VOC difficult ones). ``group``: pictures of one group (clip, deployment,
    near-duplicates) never stand on two sides of a split. ``labelled``: False when it was not checked, so that an
    empty box list means "unknown", not "none". ``box_attributes``: what is known of single boxes (occluded,
    truncated ...), each (N,); a box that says nothing holds NaN among numbers, "" in text, None among flags.
    """

    key: str
    picture: Path
    width: int
    height: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    group: str = ""
    split: str | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)
    labelled: bool = True
    box_attributes: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        classes = np.asarray(self.classes, np.int64).reshape(-1)
        ignored = np.asarray(self.ignored, bool).reshape(-1)
        if not len(ignored):
            ignored = np.zeros(len(boxes), bool)
        if not len(boxes) == len(classes) == len(ignored):
            raise ValueError(f"{self.key}: {len(boxes)} boxes, {len(classes)} classes, {len(ignored)} ignored flags")
        columns = {name: np.asarray(values).reshape(-1) for name, values in self.box_attributes.items()}
        for name, column in columns.items():
            if len(column) != len(boxes):
                raise ValueError(f"{self.key}: {len(boxes)} boxes, {len(column)} values of the box attribute {name!r}")
        fields = {"boxes": boxes, "classes": classes, "ignored": ignored, "box_attributes": columns}
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if not self.group:
            object.__setattr__(self, "group", self.key)

    def with_boxes(self, chosen: np.ndarray) -> Record:
        """The record with some of its boxes. ``chosen``: bool (N,), or positions in the order wanted."""
        return replace(
            self,
            boxes=self.boxes[chosen],
            classes=self.classes[chosen],
            ignored=self.ignored[chosen],
            box_attributes={name: column[chosen] for name, column in self.box_attributes.items()},
        )

    def normalised_boxes(self) -> np.ndarray:
        """Boxes as centre x, centre y, width, height in 0..1 of the picture: float64 (N, 4)."""
        x0, y0, x1, y1 = self.boxes.T if len(self.boxes) else np.zeros((4, 0))
        scale = np.array([self.width, self.height, self.width, self.height], np.float64)
        return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1) / scale


def box_columns(details: Sequence[Mapping[str, Attribute]]) -> dict[str, np.ndarray]:
    """What N boxes say of themselves as columns (N,), in sorted order of their names.

    A column is float64 (NaN: not said), text ("": not said; one text among the values makes all of them text), or, of
    flags, bool, or object where not every box has one (None: not said).
    """
    columns: dict[str, np.ndarray] = {}
    for name in sorted({name for detail in details for name in detail}):
        values = [detail.get(name) for detail in details]
        if any(isinstance(value, str) for value in values):
            columns[name] = np.array(["" if value is None else str(value) for value in values], np.str_)
        elif all(isinstance(value, bool) for value in values):
            columns[name] = np.array(values, bool)
        elif all(value is None or isinstance(value, bool) for value in values):
            columns[name] = np.array(values, object)
        else:
            columns[name] = np.array([np.nan if value is None else float(value) for value in values], np.float64)
    return columns


def joined(record: Record, others: Iterable[Record]) -> Record:
    """``record`` with the boxes of other records of the same picture that it lacks; its own stay as they are.

    A box is lacking when none is left that it can be paired with, one to one: the same class and an overlap of at least
    ``SAME_OBJECT``, the closest pairs first. Unlabelled records add nothing; a record without boxes is returned as is.
    """
    for other in others:
        if not other.labelled:
            continue
        lacking = ~_paired(other, record)
        if not lacking.any():
            record = record if record.labelled else replace(record, labelled=True)
            continue
        new = other.with_boxes(lacking)
        record = replace(
            record,
            boxes=np.concatenate([record.boxes, new.boxes]),
            classes=np.concatenate([record.classes, new.classes]),
            ignored=np.concatenate([record.ignored, new.ignored]),
            box_attributes=box_columns([*_details(record), *_details(new)]),
            labelled=True,
        )
    return record


def _paired(first: Record, second: Record) -> np.ndarray:
    """Which boxes of ``first`` have a partner of their own in ``second``: bool (N,)."""
    pairs: list[tuple[float, int, int]] = []
    # In blocks, since a label file may hold tens of thousands of boxes.
    for start in range(0, len(first.boxes), 256):
        block = slice(start, start + 256)
        overlap = iou_matrix(first.boxes[block], second.boxes)
        overlap *= first.classes[block, None] == second.classes[None, :]
        rows, columns = np.nonzero(overlap >= SAME_OBJECT)
        pairs += zip((-overlap[rows, columns]).tolist(), (rows + start).tolist(), columns.tolist())
    paired, taken = np.zeros(len(first.boxes), bool), np.zeros(len(second.boxes), bool)
    # By falling overlap, then by place, so that ties are settled alike everywhere.
    for _, row, column in sorted(pairs):
        if not paired[row] and not taken[column]:
            paired[row] = taken[column] = True
    return paired


def _details(record: Record) -> list[dict[str, Attribute]]:
    """What each box says of itself, as ``box_columns`` takes it."""
    columns = {name: column.tolist() for name, column in record.box_attributes.items()}
    details = [{name: values[place] for name, values in columns.items()} for place in range(len(record.boxes))]
    # Only NaN is not equal to itself.
    return [
        {name: value for name, value in one.items() if value not in (None, "") and value == value} for one in details
    ]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records with their class names. ``names[i]`` is the name of class ``i``; ``problems`` is what the reader met."""

    names: tuple[str, ...]
    records: tuple[Record, ...]
    source: str = ""
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "records", tuple(self.records))
        object.__setattr__(self, "problems", tuple(self.problems))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def splits(self) -> dict[str, int]:
        """Number of records in each named split, in order of first appearance."""
        counts: dict[str, int] = {}
        for record in self.records:
            if record.split is not None:
                counts[record.split] = counts.get(record.split, 0) + 1
        return counts

    def split(self, name: str) -> Dataset:
        """The records of one split. Raises ``UserError`` when there are none."""
        chosen = [record for record in self.records if record.split == name]
        if not chosen:
            known = ", ".join(self.splits()) or "none"
            # The reader of a data.yaml knows when a split is there by name alone.
            for problem in self.problems:
                if problem.kind == "split-same" and problem.message.startswith(f"{name} "):
                    raise UserError(str(problem))
            raise UserError(
                f"{self.source or 'data set'}: no split named {name!r} (there are: {known}); "
                "`marauder manifest write --fractions train=0.7,val=0.15,test=0.15` makes splits that never "
                "divide a clip"
            )
        return self.with_records(chosen)

    def with_records(self, records: Iterable[Record]) -> Dataset:
        """The same names and source with other records."""
        return replace(self, records=tuple(records))

    def class_counts(self) -> np.ndarray:
        """Boxes of each class, ignored ones left out: int64 (number of names,)."""
        counts = np.zeros(len(self.names), np.int64)
        for record in self.records:
            # With += a class would count once a picture.
            np.add.at(counts, record.classes[~record.ignored], 1)
        return counts


def merge(datasets: Sequence[Dataset], source: str = "") -> Dataset:
    """Put data sets together: names are united in order of first appearance, keys prefixed where they would clash."""
    names = list(dict.fromkeys(name for dataset in datasets for name in dataset.names))
    index_of = {name: index for index, name in enumerate(names)}
    seen: set[str] = set()
    records: list[Record] = []
    problems: list[Problem] = []
    for number, dataset in enumerate(datasets):
        lookup = np.array([index_of[name] for name in dataset.names], np.int64)
        renamed = {record.key: f"{number}-{record.key}" for record in dataset if record.key in seen}
        for record in dataset:
            classes = lookup[record.classes] if len(record.classes) else record.classes
            records.append(replace(record, key=renamed.get(record.key, record.key), classes=classes))
        seen.update(record.key for record in records)
        problems += [replace(problem, key=renamed.get(problem.key, problem.key)) for problem in dataset.problems]
    return Dataset(tuple(names), tuple(records), source, tuple(problems))


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector says of one picture, best score first.

    ``boxes``: float64 (M, 4), x0 y0 x1 y1 in pixels of the displayed picture. ``scores``: float64 (M,) in 0..1.
    ``classes``: int64 (M,). ``own_scores``: float64 (M,), the model's own scores where ``scores`` are calibrated ones:
    a rising curve makes many scores equal, and of these the one with the higher own score comes first; ``None``:
    ``scores`` are the model's own.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    own_scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float64).reshape(-1))
        object.__setattr__(self, "classes", np.asarray(self.classes, np.int64).reshape(-1))
        if not len(self.boxes) == len(self.scores) == len(self.classes):
            raise ValueError(f"{len(self.boxes)} boxes, {len(self.scores)} scores, {len(self.classes)} classes")
        if self.own_scores is not None:
            object.__setattr__(self, "own_scores", np.asarray(self.own_scores, np.float64).reshape(-1))
            if len(self.own_scores) != len(self.scores):
                raise ValueError(f"{len(self.scores)} scores, {len(self.own_scores)} own ones")

    def __len__(self) -> int:
        return len(self.scores)

    def chosen(self, places: np.ndarray | slice) -> Detections:
        """Those at ``places``, an index, a mask or a slice, in its order."""
        own = None if self.own_scores is None else self.own_scores[places]
        return Detections(self.boxes[places], self.scores[places], self.classes[places], own)

    def above(self, confidence: float) -> Detections:
        """Those with a score of at least ``confidence``."""
        return self.chosen(self.scores >= confidence)

    def surest(self, most: int) -> Detections:
        """The first ``most``, which are those of the highest scores."""
        return self.chosen(slice(most))
