"""YOLO text: Ultralytics' ``data.yaml`` with folders or list files, darknet's ``obj.data``, or a bare folder of both.

A label line is ``class x_centre y_centre width height`` as fractions of the picture. Longer lines are outlines
(``class x1 y1 x2 y2 x3 y3 …``, oriented boxes among them), or, where ``data.yaml`` states ``kpt_shape``, a box with
keypoints behind it. What plain YOLO cannot hold (groups, attributes, ignored boxes, splits of unlabelled pictures) is
taken from ``records.jsonl`` beside the ``data.yaml``, where data.writers left one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plain import PlainMapping
from marauder.core.wording import counted
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import SPLIT_NAMES, Box, Entry, Findings, Label, split_in
from marauder.data.formats.source import Listing, Source, stem
from marauder.data.formats.text import class_list, clean_text, envelope, lines_of, numbers, read_text
from marauder.data.formats.yolo_settings import (
    UNLABELLED_KEY,
    is_settings,
    names_of,
    read_darknet,
    read_settings,
    settings_below,
    settings_file,
)
from marauder.data.formats.yolo_splits import Places, label_path, resolved, text_file
from marauder.data.picture_files import path_exists
from marauder.data.stored import RECORDS_FILE, stored_rows

CLASS_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels")
LABEL_FOLDERS = frozenset({"labels", "label", "obj_train_data", "obj_valid_data", "obj_test_data"})
NO_LABELS = re.compile(r"^(classes|names|train|val|valid|test|obj|labels|readme.*|notes?|licen[cs]e)$", re.IGNORECASE)
LARGEST_FRACTION = 2.0
"""A box may reach over the border, but a value above this is in pixels or per cent."""
LARGEST_CLASS = 10**9
LEAST_FILL = 0.4
"""Share of a box's side that the keypoints in it cover at least; the points of an outline say less, read as a box."""


class YoloReader(Reader):
    """YOLO's text files, in every layout that tools write."""

    name = "yolo"
    title = "YOLO text files"

    def files(self, source: Source) -> list[Path]:
        if source.path.is_file():
            return [source.path] if is_settings(source.path) else []
        settings = settings_file(source)
        if settings is not None:
            return [settings]
        texts = [path for path in source.with_suffix(".txt", ".names", ".labels") if not _beside_labels(source, path)]
        if source.delivery:
            in_place = [path for path in texts if path.parent.name.lower() in LABEL_FOLDERS]
            return in_place or [path for path in texts if _starts_with_a_label(source.marks(path).start)]
        found = _labels_of_pictures(source, texts) or (_paired_folders(source) if texts else [])
        if found or source.pictures.names:
            return found
        return [path for path in texts if _starts_with_a_label(source.marks(path).start)]

    def declared(self, source: Source) -> bool:
        return source.path.is_dir() and settings_file(source) is not None

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        work = _Reading(source, options, findings)
        return work.delivery() if source.delivery else work.data_set()


class _Reading:
    def __init__(self, source: Source, options: ReadOptions, findings: Findings) -> None:
        self.source, self.options, self.findings = source, options, findings
        self.names: dict[int, str] = {}
        self.keypoints: tuple[int, int] | None = None
        """Number and values of the keypoints that a line has beyond a box; ``outlines``: there are none."""
        self.outlines = False
        self.listing = Listing()
        self.used: set[Path] = set()
        self.long_lines: list[tuple[Entry, int, list[float]]] = []
        self.settings: Path | None = None

    def delivery(self) -> Parsed:
        """Entries of label files; the pictures they belong to are known elsewhere."""
        for path in self.source.with_suffix(".yaml", ".yml"):
            if not self.names and "names" in self.source.marks(path).start:
                self._try_settings(path)
        if not self.names:
            self._take_class_lists()
        texts = self.source.with_suffix(".txt")
        inside = [path for path in texts if LABEL_FOLDERS & {*self.source.relative(path).lower().split("/")[:-1]}]
        # In a folder of labels any name may be that of a picture.
        texts = (
            [path for path in inside if path not in self.used]
            if inside
            else [path for path in texts if not _beside_labels(self.source, path)]
        )
        entries = []
        for path in texts:
            entry = Entry((path.stem, path.name), path, relative=True)
            self._read_labels(path, entry)
            entries.append(entry)
        if not entries:
            message = "no label files (labels/*.txt) in the delivery; export it as YOLO"
            self.findings.add("label-syntax", message, self.source.root)
        return self._parsed(entries, self.source.root)

    def data_set(self) -> Parsed:
        """Entries of pictures, with the labels that belong to each."""
        path = self.source.path
        self.settings = path if path.is_file() else settings_file(self.source)
        below = [] if self.settings is not None else settings_below(self.source)
        if len(below) > 1:
            told = ", ".join(str(one) for one in below[:3])
            raise UserError(f"{path}: holds {len(below)} data sets with their own names ({told}); name one of them")
        self.settings = self.settings or next(iter(below), None)
        root, pictures = self._listed() if self.settings is not None else self._found()
        if not pictures:
            told = "".join(f"\n  {finding.file}: {finding.message}" for finding in self.findings.list[:5])
            absent = [name for name in self.source.files if name.lower().endswith(".dvc")]
            told += f"\n  {absent[0]}: tracked by DVC and not here: run `dvc pull`" if absent else ""
            raise UserError(
                f"{path}: no pictures found for this YOLO data set{told}"
                "\nput pictures in images/ and labels in labels/, name their folders in data.yaml, or give --pictures"
            )
        rows = stored_rows(root)
        stored = {str(row.get("file")): row for row in rows}
        self.used.add(root / RECORDS_FILE)
        apart = self._labels_apart()
        entries = []
        for picture, split, listed in pictures:
            self.findings.tick()
            row = stored.get(_name_below(picture, root)) if stored else None
            label = self._label_of(picture, listed) or apart.get(picture)
            # Written with mode "reference": the pictures lie elsewhere, and no rule leads from them to their labels.
            label = root / row["label"] if row and "label" in row else label
            entry = Entry((), label or picture, picture=picture, relative=True, split=split)
            self._read_of_picture(label, entry, row)
            entries.append(entry)
        self._tell_orphans(root, {picture.parent for picture, _, _ in pictures})
        parsed = self._parsed(entries, root)
        parsed.pictures_required = not any("label" in row for row in rows)
        return parsed

    def _parsed(self, entries: list[Entry], root: Path) -> Parsed:
        self._read_long_lines()
        if self.settings is not None:
            self.used.add(self.settings)
        return Parsed(entries, self.names, True, self.used, root)

    # Settings and names

    def _listed(self) -> tuple[Path, list[tuple[Path, str | None, Path]]]:
        """Root and pictures (with split, and the path as listed) of a data.yaml or obj.data."""
        file = self.settings
        assert file is not None
        content = read_darknet(file, self.findings) if file.suffix.lower() == ".data" else read_settings(file)
        self._take_names(content, file)
        stated = content.get("path")
        root = resolved(str(stated), file.parent) if stated else file.parent
        if not root.is_dir():
            message = f"path: {clean_text(stated)} does not exist; using the folder of this file"
            self.findings.add("root-moved", message, file)
            root = file.parent
        tree = self.source.below(root)
        places = Places(file, root, tree, self.options, self.findings, self.used)
        split_of = {**{key: name for key, name in SPLIT_NAMES.items() if key in content}, UNLABELLED_KEY: None}
        places.climbing = places.climbs(content, list(split_of))
        owner: dict[Path, str] = {}
        repeated: list[tuple[str, list[Path]]] = []
        pictures: list[tuple[Path, str | None, Path]] = []
        for key, split in split_of.items():
            stated = content.get(key)
            again: list[Path] = []
            for entry in stated if isinstance(stated, list) else [stated] if stated else []:
                for picture, listed in places.pictures(clean_text(entry, 4096)):
                    if picture in owner:
                        again.append(picture)
                        continue
                    owner[picture] = key
                    pictures.append((picture, split, listed))
            if again:
                repeated.append((key, again))
        # A split may have two names (val and valid), so that only all of them together show whether it is empty.
        filled = {split for _, split, _ in pictures}
        for key, again in repeated:
            split = split_of[key]
            if split is not None and split not in filled:
                others = " and ".join(dict.fromkeys(owner[picture] for picture in again))
                stated = clean_text(content.get(key), 200)
                message = (
                    f"{split} has no picture of its own: {key} names the same as {others} ({stated}). "
                    f"Give {key} other pictures, or divide these: marauder data split"
                )
                self.findings.add("split-same", message, file)
            else:
                times = counted(len(again), "picture")
                message = f"{times} listed more than once (again under {key}), for example {again[-1]}"
                self.findings.add("picture-listed-twice", message, file)
        outside = [path for path, _, _ in pictures if not path.is_relative_to(file.parent)]
        if outside and self.options.pictures is None and not (root / RECORDS_FILE).is_file():
            are = counted(len(outside), "picture is", "pictures are")
            message = f"{are} outside the folder of this file, for example {outside[0]}"
            self.findings.add("picture-outside", message, file)
        return root, pictures

    def _found(self) -> tuple[Path, list[tuple[Path, str | None, Path]]]:
        """The pictures of a folder without settings: those in images/, else those in folders that hold labels, too."""
        root = self.source.root
        for path in self.source.with_suffix(".yaml", ".yml"):
            if path.parent == root and not self.names and "names" in self.source.marks(path).start:
                self._try_settings(path)
        self._take_class_lists()
        if self.options.pictures is not None:
            place = self.options.pictures
            found = [place / name for name in self.source.below(place).pictures.names]
        else:
            found = [root / name for name in self.source.pictures.names]
            paired = set(_paired_folders(self.source))
            texts = {path.parent for path in self.source.with_suffix(".txt")}
            below = [path for path in found if any(parent in paired for parent in path.parents)]
            found = below or [path for path in found if path.parent in texts]
        pictures: list[tuple[Path, str | None, Path]] = []
        for path in found:
            base = root if path.is_relative_to(root) else self.options.pictures or root
            pictures.append((path, split_in(path.relative_to(base).parts[:-1]), path))
        return root, pictures

    def _try_settings(self, path: Path) -> None:
        try:
            self._take_names(read_settings(path), path)
        except UserError as error:
            message = f"{clean_text(str(error))}; class names are not taken from it"
            self.findings.add("label-syntax", message, path)

    def _take_names(self, content: PlainMapping, file: Path) -> None:
        self.used.add(file)
        shape = content.get("kpt_shape")
        self.outlines = "kpt_shape" in content and str(shape).strip().lower() in ("", "null", "~", "none")
        values = numbers(shape, 2)
        if values is not None and values[0] >= 1 and values[1] in (2, 3):
            self.keypoints = int(values[0]), int(values[1])
        elif not self.outlines and shape is not None:
            raise UserError(f"{file}: kpt_shape: {clean_text(shape)} is not [number of keypoints, 2 or 3]")
        stated = content.get("names")
        if isinstance(stated, str) and stated.strip():
            places = [resolved(stated, base) for base in (file.parent, file.parent.parent)]
            places += [path for path in self.source.with_suffix(".names") if path.name == Path(stated).name]
            named = next((path for path in places if path.is_file()), None)
            if named is None:
                raise UserError(f"{file}: names: {clean_text(stated)} is neither a file nor a list of class names")
            self.used.add(named)
            self.names = class_list(named, self.findings)
            return
        self.names = names_of(stated, content.get("nc"), file, self.findings)
        self._take_class_lists(file if self.names else None)

    def _take_class_lists(self, first: Path | None = None) -> None:
        """Names of class lists. Several (Roboflow leaves one a split) must agree; names known from ``first`` count."""
        files = self.source.with_suffix(".txt", ".names", ".labels")
        for path in sorted(files, key=lambda path: (len(path.parts), path)):
            if path.name.lower() not in CLASS_FILES or self.source.relative(path).count("/") > 1:
                continue
            # Separate findings: labels.txt may turn out to hold labels, and then nothing must be reported here.
            names = class_list(path, Findings())
            if not names or all(_is_label(name) for name in names.values()):
                continue
            self.used.add(path)
            if not self.names:
                self.names, first = class_list(path, self.findings), path
            elif names != self.names and first is not None:
                message = f"names other classes than {first.name}; which holds? "
                if first.suffix.lower() not in (".yaml", ".yml"):
                    raise UserError(f"{path}: {message}Make them one ({first})")
                self.findings.add("names-missing", f"{message}{first.name} counts", path)

    # Labels

    def _labels_apart(self) -> dict[Path, Path]:
        """Label files by the pictures that lie apart from them, in ``options.pictures``."""
        folder, found = self.options.pictures, {}
        claims: dict[str, list[Path]] = {}
        for path in self.source.with_suffix(".txt") if folder is not None else ():
            name = self.source.relative(path).rpartition(".")[0]
            aside = _beside_labels(self.source, path)
            match = None if aside else self.source.below(folder).pictures.find(name)
            if match is not None and not match.others:
                claims.setdefault(match.name, []).append(path)
        for name, paths in claims.items():
            if folder is not None and len(paths) == 1:
                found[folder / name] = paths[0]
        return found

    def _label_of(self, picture: Path, listed: Path) -> Path | None:
        """The label file of a picture: where Ultralytics looks for it, else beside it; in any capitals."""
        for path in dict.fromkeys((listed, picture)):
            for place in dict.fromkeys((label_path(path), text_file(str(path)))):
                if (found := self.listing.find(place)) is not None:
                    return found
        return None

    def _read_of_picture(self, label: Path | None, entry: Entry, row: PlainMapping | None) -> None:
        if label is None or not path_exists(label):
            entry.labelled = self.options.missing_label == "empty"
            if row is None or row.get("labelled", True):
                message = f"no label file (read as {self.options.missing_label})"
                self.findings.add("picture-without-label", message, entry.picture or entry.file, None, entry)
        else:
            self._read_labels(label, entry)
        if row is not None:
            _apply_stored(entry, row)

    def _read_labels(self, path: Path, entry: Entry) -> None:
        self.findings.tick()
        self.used.add(path)
        text = read_text(path, self.findings)
        if text is None:
            entry.labelled = False
            # read_text has just said why; the doubt belongs to this picture.
            self.findings.list[-1].entry = entry
            return
        for line, content in enumerate(lines_of(text.lstrip("\ufeff")), 1):
            if content.strip():
                try:
                    self._take_line(content, line, entry)
                except ValueError as error:
                    self.findings.add("label-syntax", f"{clean_text(str(error))}", path, line, entry)

    def _take_line(self, content: str, line: int, entry: Entry) -> None:
        index, values = parse_line(content)
        keypoints = self.keypoints
        if len(values) == 4 or (keypoints is not None and len(values) == 4 + keypoints[0] * keypoints[1]):
            box = _box_at(values)
        elif keypoints is not None:
            wanted = 5 + keypoints[0] * keypoints[1]
            raise ValueError(f"{len(values) + 1} values; kpt_shape {list(keypoints)} requires {wanted} (or 5)")
        elif len(values) >= 6 and len(values) % 2 == 0:
            box = envelope(list(zip(values[::2], values[1::2])))
            # Decided when all files are read: a single line does not show whether it is an outline or a pose.
            self.long_lines.append((entry, line, values))
        else:
            hint = "; keypoints need kpt_shape in data.yaml" if len(values) > 5 else ""
            raise ValueError(
                f"{len(values) + 1} values; a box has 5 (class x y width height), an outline 7 or more, odd{hint}"
            )
        if max(map(abs, box)) > LARGEST_FRACTION:
            message = f"{clean_text(content, 60)!r}: fractions of the picture are expected, not pixels or per cent"
            self.findings.add("number-invalid", message, entry.file, line, entry)
        elif abs(index) > LARGEST_CLASS:
            shown = clean_text(content, 60)
            self.findings.add("class-missing", f"{shown!r}: no class number", entry.file, line, entry)
        else:
            entry.labels.append(Label(box, index, line))

    def _read_long_lines(self) -> None:
        """Say what the long lines were read as, or that nobody can know it."""
        posed = [found for found in self.long_lines if _reads_as_pose(found[2])]
        if not self.outlines and len(posed) * 2 > len(self.long_lines):
            where = self.settings or self.source.path
            count = len(posed[0][2]) - 4
            shape = f"[{count // 2}, 2]" if count % 3 else f"[{count // 3}, 3] or [{count // 2}, 2]"
            for entry, line, _ in self.long_lines:
                message = (
                    "a box with keypoints or an outline? Most long lines look like keypoints: state "
                    f"kpt_shape: {shape} in {where.name if where.suffix else 'a data.yaml'}, or null for outlines"
                )
                self.findings.add("label-meaning", message, entry.file, line, entry)
            return
        for entry, line, _ in self.long_lines:
            self.findings.add("shape-converted", "outline; the box around it is taken", entry.file, line, entry)

    def _tell_orphans(self, root: Path, folders: set[Path]) -> None:
        """Label files that belong to no picture, in the folders that serve this data set: those that labels were read
        from, and folders of labels beside some of the pictures (``folders``: those that hold any)."""
        homes = {parent for folder in folders for parent in (folder, *folder.parents)}
        serving = {path.parent for path in self.used}
        read = {parent for folder in serving for parent in (folder, *folder.parents) if root in parent.parents}
        tree = self.source.below(root)
        rest = [root / name for name in tree.files if name.lower().endswith(".txt")]
        rest = [path for path in rest if path not in self.used and not _beside_labels(tree, path)]
        # Links are followed only where something is left over: resolving every path takes long.
        real = {os.path.realpath(path) for path in self.used} if rest else set()
        for path in (path for path in rest if os.path.realpath(path) not in real):
            around = [parent for parent in path.parents if parent.name.lower() in LABEL_FOLDERS and parent != root]
            beside = any(parent.parent in homes and parent not in homes for parent in around)
            in_labels = around and (beside or self.options.pictures is not None or read & {*path.parents})
            if in_labels or (path.parent in read | serving and _starts_with_a_label(tree.marks(path).start)):
                self.used.add(path)
                self.findings.add("label-without-picture", "no picture belongs to these labels", path)


def _name_below(picture: Path, root: Path) -> str:
    """How ``records.jsonl`` names a picture."""
    return picture.relative_to(root).as_posix() if picture.is_relative_to(root) else picture.as_posix()


def parse_line(line: str) -> tuple[int, list[float]]:
    """Class number and the other values of a label line. Raises ``ValueError`` for what is no such line."""
    fields = line.split()
    if "_" in line or not line.isascii():  # which float() would read as numbers
        raise ValueError(f"not numbers: {line.strip()[:60]!r}")
    try:
        values = [float(text) for text in fields]
    except ValueError:
        raise ValueError(f"not numbers: {line.strip()[:60]!r}") from None
    if not math.isfinite(sum(map(abs, values))):
        raise ValueError(f"not finite: {line.strip()[:60]!r}")
    if not values or not values[0].is_integer():
        raise ValueError(f"the class {''.join(fields[:1])} is not a whole number")
    return int(values[0]), values[1:]


def _box_at(values: Sequence[float]) -> Box:
    """The box of centre x, centre y, width, height."""
    x, y, width, height = values[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _reads_as_pose(values: Sequence[float]) -> bool:
    """Whether the first four of the values look like a box that holds the points behind them, rather than like the
    first two points of an outline. Every small outline lies within such a box; so the points must fill it, too."""
    rest = values[4:]
    triples = len(rest) % 3 == 0 and all(value in (0.0, 1.0, 2.0) for value in rest[2::3])
    step = 3 if triples else 2
    # Keypoints that are not visible are written as 0 0.
    points = [(x, y) for x, y in zip(rest[::step], rest[1::step]) if (x, y) != (0.0, 0.0)]
    x0, y0, x1, y1 = _box_at(values)
    if len(points) < 2 or min(values[2:4]) <= 0 or min(x0, y0) < -0.01 or max(x1, y1) > 1.01:
        return False
    if not all(x0 - 0.01 <= x <= x1 + 0.01 and y0 - 0.01 <= y <= y1 + 0.01 for x, y in points):
        return False
    left, top, right, bottom = envelope(points)
    if max((right - left) / values[2], (bottom - top) / values[3]) < LEAST_FILL:
        return False
    if len(values) == 8 and all(
        abs(values[i] + values[i + 4] - values[i + 2] - values[(i + 6) % 8]) < 2e-3 for i in (0, 1)
    ):
        return False  # the corners of an oriented box: opposite ones have the same middle
    corners = (values[:2], values[2:4])  # were it an outline
    margin = 0.25 * max(right - left, bottom - top)
    near = [left - margin <= x <= right + margin and top - margin <= y <= bottom + margin for x, y in corners]
    return len(points) < 3 or not all(near)


def _apply_stored(entry: Entry, row: PlainMapping) -> None:
    entry.key = str(row.get("key") or entry.key)
    entry.group, entry.split = row.get("group"), row.get("split")
    entry.labelled = bool(row.get("labelled", entry.labelled)) and entry.labelled
    entry.attributes = dict(row.get("attributes", {}))
    entry.width, entry.height = row.get("size", (0, 0))
    for index, x0, y0, x1, y1 in row.get("ignored", []):
        entry.labels.append(Label((x0, y0, x1, y1), int(index), ignored=True))
    columns = row.get("box_attributes", {})
    # Labels that were edited since no longer go with what was said of the boxes.
    if all(len(column) == len(entry.labels) for column in columns.values()):
        for position, label in enumerate(entry.labels):
            values = {name: column[position] for name, column in columns.items()}
            label.details = {name: value for name, value in values.items() if value is not None}


def _is_label(line: str) -> bool:
    try:
        return len(parse_line(line)[1]) >= 4
    except (ValueError, OverflowError):
        return False


def _starts_with_a_label(text: str) -> bool:
    return _is_label(next((line for line in lines_of(text) if line.strip()), ""))


def _beside_labels(source: Source, path: Path) -> bool:
    """Whether a text is by its name one that lies beside labels, and neither its folder nor its text say otherwise."""
    aside = bool(NO_LABELS.match(path.stem)) and path.parent.name.lower() not in LABEL_FOLDERS
    return aside and not _starts_with_a_label(source.marks(path).start)


def _labels_of_pictures(source: Source, texts: Sequence[Path]) -> list[Path]:
    """Of text files those that stand beside a picture of the same name."""
    stems = {stem(name) for name in source.pictures.names}
    return [path for path in texts if stem(source.relative(path)) in stems]


def _paired_folders(source: Source) -> list[Path]:
    """Folders called images that have a folder called labels beside them, in any capitals."""
    folders = {parent for name in source.files for parent in Path(name).parents}
    labels = {folder.parent for folder in folders if folder.name.lower() == "labels"}
    found = [folder for folder in folders if folder.name.lower() == "images" and folder.parent in labels]
    return sorted(source.root / folder for folder in found)
