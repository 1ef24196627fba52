"""From what a format says to a data set: whose picture an entry is, sizes, classes, keys, and what was passed over.

A picture that two entries mean is one record with the boxes of both. What cannot be used is left out and told; files
that lie there unread are told, too.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from marauder.core.errors import UserError, printable
from marauder.core.plugins import names as plugin_names
from marauder.core.plugins import resolve
from marauder.data.boxes import clean_boxes
from marauder.data.formats.base import SPLIT_NAMES, Entry, Finding, Findings, Format, Parsed, ReadOptions
from marauder.data.formats.source import PICTURE_FOLDERS, NameIndex, Source
from marauder.data.formats.text import rotated
from marauder.data.groups import group_of
from marauder.data.picture_files import Header, PictureError, is_picture, path_exists, read_headers
from marauder.data.records import Dataset, Problem, Record, box_columns, joined
from marauder.data.stored import RECORDS_FILE

HEADER_BLOCK = 4096
LABEL_SUFFIXES = (".txt", ".xml", ".json", ".csv", ".jsonl", ".manifest", ".parquet")
SIDE_FILES = re.compile(
    r"^(readme.*|licen[cs]e.*|notes?|citation.*|changelog.*|requirements.*|classes|names|labels|label_config|data|"
    r"sha256sums|checksums?|dataset|organize|records|hashes|set_aside|summary|preprocess.*|progress|journal)$",
    re.IGNORECASE,
)
"""What lies beside labels and is none; by name without suffix."""
LOSING = frozenset(
    {
        "label-without-picture",
        "label-syntax",
        "label-unreadable",
        "label-encoding",
        "label-meaning",
        "number-invalid",
        "class-missing",
        "class-unknown",
        "class-several",
        "shape-unknown",
        "shape-without-extent",
        "picture-ambiguous",
        "id-twice",
        "size-mismatch",
    }
)
"""Kinds for which labels are left out."""


def assemble(layout: Format, source: Source, options: ReadOptions, findings: Findings, parsed: Parsed) -> Dataset:
    """The records that the entries make. Pictures are looked for below ``options.pictures``, else below the source."""
    if not parsed.entries:
        first = "".join(f"\n  {_problem(finding)}" for finding in findings.list[:5])
        raise UserError(f"{source.path}: no picture in this data set of the format {layout.name}{first}")
    _Placing(source, options, findings).place(parsed.entries)
    names = _index_classes(parsed, options, source, findings)
    _give_keys(parsed.entries, source)
    problems: list[Problem] = []
    entries, records = _finish(parsed.entries, names, options, problems, findings, parsed.pictures_required)
    records = _join(entries, records, findings)
    _tell_unread(layout, source, options, parsed, findings)
    told = [*(_problem(finding) for finding in _summed_up(findings.list)), *problems]
    # Boxes of pictures that cannot be read are no lost labels.
    unread = {id(entry) for entry in parsed.entries if entry.labels} - {id(entry) for entry in entries}
    if not unread and not any(len(record.boxes) for record in records):
        lost = next((problem for problem in told if problem.kind in LOSING), None)
        if lost is not None:
            message = f"not one label of this data set can be used, so that it is none; first: {lost}"
            told.insert(0, Problem(str(source.path), None, "labels-lost", message))
    return Dataset(names, tuple(records), str(source.path), tuple(told))


class _Placing:
    """Finds the pictures of entries that name them."""

    def __init__(self, source: Source, options: ReadOptions, findings: Findings) -> None:
        self.source, self.findings = source, findings
        self.elsewhere = Source(options.pictures, clock=source.clock) if options.pictures is not None else None
        self.root = options.pictures or source.root
        self.moved: Counter[Path] = Counter()
        self.outside: Counter[Path] = Counter()
        self.examples: dict[tuple[str, Path], str] = {}
        self._folders: dict[tuple[Path, str | None], list[str]] = {}

    def place(self, entries: Iterable[Entry]) -> None:
        """Give every entry its ``picture``: where it lies, or would lie."""
        for entry in entries:
            self.findings.tick()
            if entry.picture is None:
                entry.picture = self._find(entry)
            if "\0" in str(entry.picture):  # which no file's name can hold
                entry.picture = Path(str(entry.picture).replace("\0", "\ufffd"))
        for kind, counts, words in (
            ("root-moved", self.moved, "pictures are not where it says; found by the end of their paths"),
            ("picture-outside", self.outside, "pictures lie outside the folder of this data set"),
        ):
            for file, count in counts.items():
                self.findings.add(kind, f"{count} {words}, for example {self.examples[kind, file]}", file)

    def _find(self, entry: Entry) -> Path:
        index = self._index()
        folders = self.folders(entry)
        undecided: list[str] = []
        found = None
        for position, name in enumerate(entry.names):
            direct = self._as_stated(entry, name)
            if direct is not None:
                return direct
            match = index.find(name, folders)
            if match is None:
                continue
            if match.others and not undecided:
                undecided = [match.name, *match.others]
            if match.others or (undecided and match.name not in undecided):
                continue
            found = self.root / match.name
            as_said = match.whole and found.name == PurePosixPath(name.replace("\\", "/")).name
            if not as_said and position == 0 and entry.file.stem != found.stem:
                self._count(self.moved, "root-moved", entry.file, f"{name} -> {match.name}")
            self._tell_stale(entry, position, found)
            return found
        if undecided:
            message = f"{entry.names[0]}: may be {' or '.join(undecided[:3])}; name the folder of the right one"
            self.findings.add("picture-ambiguous", message, entry.file, entry.line, entry)
            entry.labelled = False
            return self.root / undecided[0]
        first = entry.names[0] if entry.names else "without a name"
        inside = [part for part in first.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        base = self.root / folders[0] if folders else self.root
        return base / (inside[-1] if inside else "without a name")

    def _tell_stale(self, entry: Entry, position: int, found: Path) -> None:
        """A file beside its picture may name another one that is here as well, or none."""
        for name in entry.names[1:] if position == 0 and entry.file.stem == found.stem else ():
            stated = PurePosixPath(name.replace("\\", "/")).name
            if stated and stated.rpartition(".")[0] not in ("", found.stem):
                message = f"names the picture {stated}, and belongs to {found.name} by its own name; that one counts"
                self.findings.add("filename-stale", message, entry.file, entry.line, entry)
                return

    def _as_stated(self, entry: Entry, name: str) -> Path | None:
        """The file itself, where a path is absolute or climbs out of its folder."""
        text = name.replace("\\", "/")
        if not (text.startswith("/") or ".." in text.split("/")):
            return None
        place = Path(os.path.normpath(entry.file.parent / text))
        if not (is_picture(place) and path_exists(place)):
            return None
        if not place.is_relative_to(self.source.root) and not place.is_relative_to(self.root):
            self._count(self.outside, "picture-outside", entry.file, str(place))
        return place

    def _count(self, counts: Counter[Path], kind: str, file: Path, example: str) -> None:
        counts[file] += 1
        self.examples.setdefault((kind, file), example)

    def _index(self) -> NameIndex:
        return (self.elsewhere or self.source).pictures

    def folders(self, entry: Entry) -> list[str]:
        """Where the pictures of a label file usually stand, nearest first, relative to the root."""
        key = (entry.file.parent, entry.split)
        if key not in self._folders:
            own = self.source.relative(entry.file.parent) if self.elsewhere is None else ""
            own = "" if own in (".", entry.file.parent.as_posix()) else own
            above = own.rpartition("/")[0]
            words = [*([entry.split] if entry.split else []), entry.file.stem.removeprefix("instances_")]
            found = []
            for base in dict.fromkeys((own, above, "")):
                prefix = f"{base}/" if base else ""
                for folder in ("", *PICTURE_FOLDERS[:-1]):
                    place = f"{prefix}{folder}".rstrip("/")
                    found += [f"{place}/{word}".lstrip("/") for word in words] + [place]
            self._folders[key] = list(dict.fromkeys(found))
        return self._folders[key]


def _index_classes(parsed: Parsed, options: ReadOptions, source: Source, findings: Findings) -> tuple[str, ...]:
    """The class names; every label's ``class_name`` becomes a number, one past the last name where it has none."""
    labels = [label for entry in parsed.entries for label in entry.labels]
    if parsed.numbered and isinstance(parsed.names, dict):
        stated = dict(enumerate(options.names, parsed.first or 0)) if options.names is not None else parsed.names
        if stated:
            names = tuple(stated.get(index, f"class_{index}") for index in range(max(stated) + 1))
        else:
            names = _numbered_names([int(label.class_name) for label in labels], source, findings)
    else:
        known: list[str] = list(
            dict.fromkeys(parsed.names.values() if isinstance(parsed.names, dict) else parsed.names)
        )
        known = known if options.names is None else list(options.names)
        if options.names is None:
            used = {label.class_name for label in labels if isinstance(label.class_name, str)}
            known += sorted(used - set(known))
        names = tuple(known)
        index_of = {name: index for index, name in reversed(list(enumerate(names)))}
        for label in labels:
            # A class that the names leave out is out of range, so that it is told like any other.
            named = label.class_name if isinstance(label.class_name, str) else f"number {label.class_name}"
            label.place, label.class_name = named, index_of.get(named, len(names))
    for name, count in Counter(names).items():
        if count > 1:
            message = f"{count} classes are called {name!r}, so that they are one; give each a name of its own"
            findings.add("class-name-twice", message, source.path)
    return names


def _numbered_names(indices: Sequence[int], source: Source, findings: Findings) -> tuple[str, ...]:
    """Names made up for numbers alone; a number far beyond the others is a mistake and gets none."""
    used = sorted({index for index in indices if index >= 0})
    while used and used[-1] >= max(1000, 10 * len(used)):
        used.pop()
    names = tuple(f"class_{index}" for index in range(used[-1] + 1 if used else 0))
    if names:
        message = f"no class names; called {names[0]} to {names[-1]} (give names, or write a classes.txt)"
        findings.add("names-missing", message, source.path)
    return names


def _give_keys(entries: Sequence[Entry], source: Source) -> None:
    """Keys that are unique, but the same for entries that mean the same picture in the same split."""
    lacking = [entry for entry in entries if not entry.key]
    pictures = list(dict.fromkeys(_place(entry) for entry in lacking))
    made = dict(zip(pictures, unique_keys((picture, source.root) for picture in pictures)))
    for entry in lacking:
        entry.key = made[_place(entry)]
    owners: dict[str, tuple[Path, str | None]] = {}
    for entry in entries:
        owner, key, number = (_place(entry), entry.split), entry.key, 2
        if owners.get(key, owner) != owner and entry.split:
            key = f"{entry.split}/{entry.key}"
        while owners.setdefault(key, owner) != owner:
            key, number = f"{entry.key}-{number}", number + 1
        entry.key = key


def _place(entry: Entry) -> Path:
    assert entry.picture is not None  # every entry was placed before
    return entry.picture


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


def _finish(
    entries: Sequence[Entry],
    names: tuple[str, ...],
    options: ReadOptions,
    problems: list[Problem],
    findings: Findings,
    pictures_required: bool,
) -> tuple[list[Entry], list[Record]]:
    """Records of the entries whose pictures can be used: headers read, boxes scaled and mended."""
    kept, records = [], []
    for start in range(0, len(entries), HEADER_BLOCK):
        if findings.clock is not None:
            findings.clock.check()
        block = entries[start : start + HEADER_BLOCK]
        for entry, header in zip(block, read_headers([_place(entry) for entry in block])):
            size = _size(entry, header, problems, pictures_required)
            if size is not None:
                kept.append(entry)
                records.append(_record(entry, size, names, options, problems))
    return kept, records


def _size(
    entry: Entry, header: Header | PictureError, problems: list[Problem], pictures_required: bool
) -> tuple[int, int] | None:
    """Width and height of the picture, with the boxes brought to it; ``None`` for one that cannot be used."""
    picture, stated = str(entry.picture), (round(entry.width), round(entry.height))
    if isinstance(header, PictureError):
        if header.kind == "missing" and not pictures_required and min(stated) > 0:
            entry.attributes["picture_missing"] = True
            return stated
        missing = header.kind == "missing"
        place, line = (str(entry.file), entry.line) if missing and str(entry.file) else (picture, None)
        message = f"{picture}: {header.detail}" if missing else header.detail
        problems.append(Problem(place, line, f"picture-{header.kind}", message, entry.key))
        return None
    actual = (header.width, header.height)
    turned = header.orientation >= 5 and stated == actual[::-1] != actual and not entry.relative
    if header.orientation != 1:
        message = f"stored rotated (EXIF orientation {header.orientation}); tools that ignore EXIF misplace its boxes"
        problems.append(Problem(picture, None, "picture-rotated", message, entry.key))
    if turned:
        for label in entry.labels:
            label.box = _upright(label.box, header.orientation, stated)
        message = f"the boxes are those of the {stated[0]}x{stated[1]} pixels as stored; turned with the picture"
        problems.append(Problem(str(entry.file), entry.line, "boxes-turned", message, entry.key))
    elif min(stated) > 0 and stated != actual:
        note = f"the labels say {stated[0]}x{stated[1]} pixels, the picture has {actual[0]}x{actual[1]}"
        if abs(stated[0] * actual[1] - stated[1] * actual[0]) > max(*stated, *actual):
            message = f"{note}, of another shape: is it another picture?"
            problems.append(Problem(str(entry.file), entry.line, "size-mismatch", message, entry.key))
            entry.labels = []
            return None
        if not entry.relative:
            across, down = actual[0] / stated[0], actual[1] / stated[1]
            for label in entry.labels:
                x0, y0, x1, y1 = label.box
                label.box = (x0 * across, y0 * down, x1 * across, y1 * down)
            message = f"{note}; boxes scaled to the picture"
            problems.append(Problem(str(entry.file), entry.line, "size-scaled", message, entry.key))
    return actual


def _upright(
    box: tuple[float, float, float, float], orientation: int, stored: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box of the stored pixels in the picture as displayed. EXIF 2.32, tag 274: 5 to 8 swap the sides."""
    width, height = stored
    x0, y0, x1, y1 = box
    if orientation in (6, 7):
        y0, y1 = height - y1, height - y0
    if orientation in (7, 8):
        x0, x1 = width - x1, width - x0
    return y0, x0, y1, x1


def _record(
    entry: Entry, size: tuple[int, int], names: tuple[str, ...], options: ReadOptions, problems: list[Problem]
) -> Record:
    width, height = size
    boxes = np.array([label.box for label in entry.labels], np.float64).reshape(-1, 4)
    if entry.relative:
        boxes = boxes * np.array([width, height, width, height], np.float64)
    for index, label in enumerate(entry.labels):
        if label.turn % 360:
            x0, y0, x1, y1 = boxes[index].tolist()
            boxes[index] = rotated((x0, y0, x1, y1), label.turn, label.about_corner)
    classes = np.array([label.class_name for label in entry.labels], np.int64)
    clean = clean_boxes(boxes, classes, width, height, len(names))
    for finding in clean.findings:
        label = entry.labels[finding.index]
        message = finding.message
        if finding.kind == "class-unknown" and label.place:
            message = f"class {label.place}: none of the names"
        # A file that holds the labels of many pictures says too little without the picture.
        message = message if label.line is not None else f"{entry.key}: {message}"
        problems.append(Problem(str(entry.file), label.line, finding.kind, message, entry.key, finding.count))
    return Record(
        key=entry.key,
        picture=_place(entry),
        width=width,
        height=height,
        boxes=clean.boxes,
        classes=classes[clean.kept],
        ignored=np.array([label.ignored for label in entry.labels], bool)[clean.kept],
        group=entry.group or group_for_key(entry.key, options.group_pattern),
        split=entry.split,
        attributes=entry.attributes,
        labelled=entry.labelled,
        box_attributes=box_columns([entry.labels[index].details for index in clean.kept.tolist()]),
    )


def group_for_key(key: str, pattern: str | None) -> str:
    """The group of a picture by its key: by its name, with the folder for names that are a frame number alone."""
    path = PurePosixPath(key)
    folders = [part for part in path.parts[:-1] if part.lower() not in SPLIT_NAMES]
    return group_of(path.name, pattern, "/".join(folders))


def _join(entries: Sequence[Entry], records: Sequence[Record], findings: Findings) -> list[Record]:
    """One record for each picture and split: halves of a picture's labels would each teach that the rest is water."""
    by_picture: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        by_picture.setdefault(os.path.normpath(record.picture), []).append(position)
    united: dict[int, Record] = {}
    for positions in by_picture.values():
        if len(positions) == 1:
            united[positions[0]] = records[positions[0]]
            continue
        members = [records[position] for position in positions]
        first = entries[positions[0]]
        places = dict.fromkeys(
            f"{entries[p].file.name}{f':{line}' if (line := entries[p].line) else ''}" for p in positions
        )
        message = (
            f"{members[0].picture.name} has {len(positions)} entries ({', '.join(places)}); their boxes are joined"
        )
        findings.add("picture-twice", message, first.file, first.line, first)
        for split in dict.fromkeys(member.split for member in members):
            own = [position for position in positions if records[position].split == split]
            others = [records[position] for position in (*own[1:], *(p for p in positions if p not in own))]
            united[own[0]] = joined(records[own[0]], others)
    return [united[position] for position in sorted(united)]


def _tell_unread(layout: Format, source: Source, options: ReadOptions, parsed: Parsed, findings: Findings) -> None:
    """Findings on what lies beside what was read: pictures, labels, other formats. Counted, with an example."""
    for name in source.odd_names:
        message = "its name is no text in UTF-8, so that no label or list can name it; rename it (left out)"
        findings.add("name-unreadable", message, Path(printable(name)))
    root = parsed.root or source.root
    if source.path.is_file() and source.path.suffix.lower() not in (".yaml", ".yml"):
        return  # the one file that was named was read
    if (root / RECORDS_FILE).is_file():
        return  # written by us: what lies beside is ours, too
    used = {os.path.realpath(path) for path in parsed.used}
    used |= {os.path.realpath(_place(entry)) for entry in parsed.entries}
    rest = [source.root / name for name in source.files if (source.root / name).is_relative_to(root)]
    foreign = _foreign_folders(root, source, rest, used)
    rest = [path for path in rest if not any(path.is_relative_to(folder) for folder in foreign)]
    rest = [path for path in rest if os.path.realpath(path) not in used]
    others = _other_formats(layout, source, {path for path in rest if not is_picture(path)}, findings)
    by_folder: dict[tuple[str, str], list[Path]] = {}
    for path in rest:
        top = source.relative(path).rpartition("/")[0].partition("/")[0]
        if is_picture(path) and options.pictures is None:
            by_folder.setdefault(("picture-without-label", top), []).append(path)
        elif path.suffix.lower() in LABEL_SUFFIXES and path not in others and not SIDE_FILES.match(path.stem):
            by_folder.setdefault(("file-unread", top), []).append(path)
    for (kind, top), files in by_folder.items():
        what = "pictures" if kind == "picture-without-label" else "files that may hold labels"
        example = source.relative(files[0])
        message = (
            f"{len(files)} {what} in {top or source.root.name}/ belong to nothing that was read, such as {example}"
        )
        findings.add(kind, f"{message} (left out)", files[0])


def _foreign_folders(root: Path, source: Source, rest: Sequence[Path], used: set[str]) -> list[Path]:
    """Folders below the root that are data sets of their own and of which nothing was read."""
    marks = {path.parent for path in rest if path.name in ("dataset.json", "data.yaml", "dataset.yaml")} - {root}
    places = {os.path.dirname(path) for path in used}  # noqa: PTH120 - of many files
    reached = [folder for folder in marks if any(place.startswith(os.path.realpath(folder)) for place in places)]
    return [folder for folder in marks if folder not in reached]


def _other_formats(layout: Format, source: Source, rest: set[Path], findings: Findings) -> set[Path]:
    """Files of other formats, told with the option that reads them."""
    found: set[Path] = set()
    for name in plugin_names("reader"):
        if name in (layout.name, "pictures", "yolo") or {name, layout.name} == {"coco", "fathomnet"}:
            continue
        files = [path for path in resolve("reader", name)().files(source) if path in rest - found]
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            message = (
                f"{files[0].name}{more}: labels in the format {name}, not read; --format {name} reads them instead"
            )
            findings.add("format-unread", message, files[0])
            found |= set(files)
    return found


def _summed_up(found: Sequence[Finding]) -> list[Finding]:
    """Findings of which one line says all: that shapes became the boxes around them."""
    kept = [finding for finding in found if finding.kind != "shape-converted"]
    shapes = [finding for finding in found if finding.kind == "shape-converted"]
    if shapes:
        message = f"labels that are no upright boxes: the box around each is taken; first: {shapes[0].message}"
        kept.append(replace(shapes[0], message=message, entry=None))
    return kept


def _problem(finding: Finding) -> Problem:
    entry = finding.entry
    return Problem(str(finding.file), finding.line, finding.kind, finding.message, entry.key if entry else "")
