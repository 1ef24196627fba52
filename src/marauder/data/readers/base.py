"""What every reader of a data set layout shares: the interface, its options, and how a record is put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from marauder.core.errors import UserError
from marauder.data.boxes import clean_boxes
from marauder.data.groups import group_of
from marauder.data.picture_files import Header, PictureError, read_headers
from marauder.data.records import Attribute, Dataset, Problem, Record, box_columns

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


class Reader(ABC):
    """Turns one on-disk layout into a data set of records.

    A reader never ends on one bad picture or label line: it goes on and adds a ``Problem`` with file and line to the
    data set. Boxes of its records are clipped to the picture, without degenerate or duplicate ones. It raises
    ``UserError`` only when nothing at all can be read.
    """

    name: str = ""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether ``path`` (a file or a folder) holds this layout. Reads little; never raises on foreign content."""

    @abstractmethod
    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Read the data set at ``path``."""


@dataclass(eq=False)
class Draft:
    """A picture and its labels as a source states them, before sizes are known and boxes are mended.

    ``boxes``: (N, 4); as fractions of the picture with ``relative``, else in pixels. ``lines``: the label file's line
    of each box (0: unknown), ``line``: that of the picture. ``details``: what each box says of itself (occluded ...).
    ``label_file`` is named in problems. ``width``/``height``: as stated, 0 where not.
    """

    key: str
    picture: Path
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    details: list[dict[str, Attribute]] = field(default_factory=list)
    label_file: str = ""
    line: int = 0
    relative: bool = False
    width: int = 0
    height: int = 0
    group: str | None = None
    split: str | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)
    labelled: bool = True

    def add(
        self,
        box: tuple[float, float, float, float],
        class_index: int,
        ignored: bool = False,
        line: int = 0,
        details: Mapping[str, Attribute] | None = None,
    ) -> None:
        """Append one box."""
        self.boxes.append(box)
        self.classes.append(class_index)
        self.ignored.append(ignored)
        self.lines.append(line)
        self.details.append(dict(details or {}))


def finish(
    drafts: Sequence[Draft],
    class_count: int | None,
    options: ReadOptions,
    problems: list[Problem],
    pictures_required: bool = True,
) -> list[Record]:
    """Make records of drafts: read the pictures' headers, scale and mend the boxes, note every defect in ``problems``.

    A picture that cannot be read is left out with a problem. Without ``pictures_required`` a missing picture is no
    problem as long as the source states its size.
    """
    records = []
    for draft, header in zip(drafts, read_headers([draft.picture for draft in drafts])):
        size = _size(draft, header, problems, pictures_required)
        if size is not None:
            records.append(_record(draft, size, class_count, options, problems))
    return records


def _size(
    draft: Draft, header: Header | PictureError, problems: list[Problem], pictures_required: bool
) -> tuple[int, int] | None:
    stated = (draft.width, draft.height)
    if isinstance(header, PictureError):
        if header.kind == "missing" and not pictures_required and min(stated) > 0:
            draft.attributes["picture_missing"] = True
            return stated
        in_labels = header.kind == "missing" and bool(draft.label_file)
        place, line = (draft.label_file, draft.line or None) if in_labels else (str(draft.picture), None)
        message = f"{draft.picture}: {header.detail}" if header.kind == "missing" else header.detail
        problems.append(Problem(place, line, f"picture-{header.kind}", message, draft.key))
        return None
    if header.orientation != 1:
        message = f"stored rotated (EXIF orientation {header.orientation}); tools that ignore EXIF misplace its boxes"
        problems.append(Problem(str(draft.picture), None, "picture-rotated", message, draft.key))
    actual = (header.width, header.height)
    if min(stated) > 0 and stated != actual and not draft.relative:
        note = f"the labels say {stated[0]}x{stated[1]} pixels, the picture has {actual[0]}x{actual[1]}"
        scaled = abs(stated[0] * actual[1] - stated[1] * actual[0]) <= max(*stated, *actual)
        if scaled:
            factors = (actual[0] / stated[0], actual[1] / stated[1])
            draft.boxes = [
                (a * factors[0], b * factors[1], c * factors[0], d * factors[1]) for a, b, c, d in draft.boxes
            ]
            note += "; boxes scaled to the picture"
        kind = "size-scaled" if scaled else "size-mismatch"
        problems.append(Problem(draft.label_file or str(draft.picture), draft.line or None, kind, note, draft.key))
    return actual


def _record(
    draft: Draft,
    size: tuple[int, int],
    class_count: int | None,
    options: ReadOptions,
    problems: list[Problem],
) -> Record:
    width, height = size
    boxes = np.array(draft.boxes, np.float64).reshape(-1, 4)
    if draft.relative:
        boxes = boxes * np.array([width, height, width, height], np.float64)
    clean = clean_boxes(boxes, np.array(draft.classes, np.int64), width, height, class_count)
    for finding in clean.findings:
        place, line = draft.label_file or str(draft.picture), draft.lines[finding.index] or None
        # A file that holds the labels of many pictures says too little without the picture.
        message = finding.message if line is not None else f"{draft.key}: {finding.message}"
        problems.append(Problem(place, line, finding.kind, message, draft.key))
    return Record(
        key=draft.key,
        picture=draft.picture,
        width=width,
        height=height,
        boxes=clean.boxes,
        classes=np.array(draft.classes, np.int64)[clean.kept],
        ignored=np.array(draft.ignored, bool)[clean.kept],
        group=draft.group or group_for_key(draft.key, options.group_pattern),
        split=draft.split,
        attributes=draft.attributes,
        labelled=draft.labelled,
        box_attributes=box_columns([draft.details[index] for index in clean.kept.tolist()]),
    )


def group_for_key(key: str, pattern: str | None) -> str:
    """The group of a picture by its key: by its name, with the folder for names that are a frame number alone."""
    path = PurePosixPath(key)
    folders = [part for part in path.parts[:-1] if part.lower() not in SPLIT_NAMES]
    return group_of(path.name, pattern, "/".join(folders))


def unique_keys(pictures: Iterable[tuple[Path, Path]]) -> list[str]:
    """Keys of (picture, root) pairs: the path below the root without ``images`` folders and suffix, made unique."""
    keys: list[str] = []
    taken: set[str] = set()
    for picture, root in pictures:
        try:
            relative = PurePosixPath(picture.relative_to(root).as_posix())
        except ValueError:
            relative = PurePosixPath(picture.name)
        parts = [part for part in relative.parent.parts if part.lower() not in ("images", "jpegimages")]
        key = "/".join((*parts, relative.stem))
        if key in taken:
            key = "/".join((*parts, relative.name))
        number = 2
        while key in taken:
            key = "/".join((*parts, f"{relative.stem}-{number}"))
            number += 1
        taken.add(key)
        keys.append(key)
    return keys


def make_keys_unique(drafts: Iterable[Draft]) -> None:
    """Number keys that stand twice; those of a split get its name in front."""
    taken: set[str] = set()
    for draft in drafts:
        key, number = draft.key, 2
        if key in taken and draft.split:
            key = f"{draft.split}/{draft.key}"
        while key in taken:
            key, number = f"{draft.key}-{number}", number + 1
        taken.add(key)
        draft.key = key
