"""YOLO text: Ultralytics' ``data.yaml`` with folders or list files, or a bare folder of images and labels.

A label line is ``class x_centre y_centre width height`` as fractions of the picture, or ``class x1 y1 x2 y2 x3 y3 …``
(a polygon, read as the box around it). What plain YOLO cannot hold (groups, attributes, ignored boxes, splits of
unlabelled pictures) is taken from ``records.jsonl`` beside the ``data.yaml``, where data.writers left one.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import read_lines
from marauder.data.picture_files import common_suffix_match, find_pictures, is_picture, path_exists
from marauder.data.readers.base import SPLIT_NAMES, Draft, Reader, ReadOptions, finish, unique_keys
from marauder.data.records import Dataset, Problem

SPLIT_KEYS = ("train", "val", "test")
UNLABELLED_KEY = "unlabelled"
RECORDS_FILE = "records.jsonl"
CLASS_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "labels.txt", "names.txt")


@dataclass
class _Source:
    """Where a YOLO data set's pictures stand: (picture, split) in order, below ``root``; ``names`` where it has any."""

    root: Path
    names: tuple[str, ...] | None
    pictures: list[tuple[Path, str | None]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class YoloReader(Reader):
    """Reads Ultralytics data sets and bare folders of YOLO labels."""

    name = "yolo"

    def recognises(self, path: Path) -> bool:
        if path.is_file():
            return path.suffix.lower() in (".yaml", ".yml") and _is_data_yaml(path)
        return _find_yaml(path) is not None or bool(_bare_image_folders(path)) or _labels_beside_pictures(path)

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        yaml_file = path if path.is_file() else _find_yaml(path)
        source = _from_yaml(yaml_file) if yaml_file is not None else _from_folder(path)
        if not source.pictures:
            raise UserError(
                f"{path}: no pictures found for this YOLO data set"
                + "".join(f"\n  {problem}" for problem in source.problems[:5])
                + "\nput pictures in images/ and labels in labels/, or name their folders in data.yaml"
            )
        rows = (row for row in read_lines(source.root / RECORDS_FILE) if isinstance(row, dict))
        stored = {str(row.get("file")): row for row in rows}
        names = options.names or source.names
        keys = unique_keys((picture, source.root) for picture, _ in source.pictures)
        drafts, label_files = [], set()
        for key, (picture, split) in zip(keys, source.pictures):
            row = stored.get(_relative_name(picture, source.root), {})
            label_file = source.root / row["label"] if "label" in row else label_path(picture)
            label_files.add(os.fspath(label_file))
            draft = Draft(str(row.get("key", key)), picture, split=split, relative=True, label_file=str(label_file))
            _read_labels(label_file, draft, source.problems, options, expected=row.get("labelled", True))
            _apply_stored(draft, row)
            drafts.append(draft)
        source.problems.extend(_orphans(source.root, label_files))
        if names is None:
            highest = max((index for draft in drafts for index in draft.classes), default=-1)
            names = tuple(f"class_{index}" for index in range(highest + 1))
            if names:
                message = f"no class names; called {names[0]} to {names[-1]} (give names, or write a classes.txt)"
                source.problems.append(Problem(str(yaml_file or path), None, "names-missing", message))
        required = not any("label" in row for row in stored.values())
        records = finish(drafts, len(names), options, source.problems, pictures_required=required)
        return Dataset(names, tuple(records), str(path), tuple(source.problems))


def label_path(picture: Path) -> Path:
    """Where Ultralytics looks for a picture's labels: the last ``images`` folder becomes ``labels``, suffix .txt."""
    parts = list(picture.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _relative_name(picture: Path, root: Path) -> str:
    return picture.relative_to(root).as_posix() if picture.is_relative_to(root) else picture.as_posix()


def _read_labels(label_file: Path, draft: Draft, problems: list[Problem], options: ReadOptions, expected: bool) -> None:
    try:
        content = label_file.read_bytes()
    except FileNotFoundError:
        draft.labelled = options.missing_label == "empty"
        if expected:
            message = f"no label file {label_file} (read as {options.missing_label})"
            problems.append(Problem(str(draft.picture), None, "picture-without-label", message, draft.key))
        return
    except OSError as error:
        draft.labelled = False
        problems.append(
            Problem(str(label_file), None, "label-unreadable", f"cannot be read ({error.strerror})", draft.key)
        )
        return
    for number, line in enumerate(content.decode("utf-8", "replace").lstrip("\ufeff").splitlines(), 1):
        if line.strip():
            try:
                index, box = parse_label_line(line)
            except ValueError as error:
                problems.append(Problem(str(label_file), number, "label-syntax", str(error), draft.key))
            else:
                draft.add(box, index, line=number)


def parse_label_line(line: str) -> tuple[int, tuple[float, float, float, float]]:
    """Class and box (x0, y0, x1, y1 as fractions of the picture) of one label line. Raises ``ValueError``."""
    fields = line.split()
    try:
        values = [float(text) for text in fields]
    except ValueError:
        raise ValueError(f"not numbers: {line.strip()[:60]!r}") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"not finite: {line.strip()[:60]!r}")
    if not values[0].is_integer():
        raise ValueError(f"the class {fields[0]} is no whole number")
    if len(values) == 5:
        x, y, width, height = values[1:]
        return int(values[0]), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(values) >= 7 and len(values) % 2:
        xs, ys = values[1::2], values[2::2]
        return int(values[0]), (min(xs), min(ys), max(xs), max(ys))
    raise ValueError(f"{len(values)} values; a box has 5 (class x y width height), a polygon 7 or more, odd")


def _apply_stored(draft: Draft, row: dict[str, Any]) -> None:
    if not row:
        return
    draft.group = row.get("group")
    draft.split = row.get("split")
    draft.labelled = bool(row.get("labelled", draft.labelled))
    draft.attributes = dict(row.get("attributes", {}))
    draft.width, draft.height = row.get("size", (0, 0))
    for index, *box in row.get("ignored", []):
        x0, y0, x1, y1 = box
        draft.add((x0, y0, x1, y1), int(index), ignored=True)
    columns = row.get("box_attributes", {})
    # Labels that were edited since no longer go with what was said of the boxes.
    if all(len(column) == len(draft.boxes) for column in columns.values()):
        for name, column in columns.items():
            for details, value in zip(draft.details, column):
                if value is not None:
                    details[name] = value


def _orphans(root: Path, label_files: set[str]) -> list[Problem]:
    """Label files below ``root`` that belong to no picture; folders that serve another data set are not looked at."""
    problems = []
    in_use = {parent for folder in {Path(file).parent for file in label_files} for parent in (folder, *folder.parents)}
    for folder in _label_folders(root):
        for file in sorted(folder.rglob("*.txt")) if folder in in_use else ():
            if os.fspath(file) not in label_files and file.name != "classes.txt":
                problems.append(Problem(str(file), None, "label-without-picture", "no picture belongs to these labels"))
    return problems


def _label_folders(root: Path) -> list[Path]:
    nested = sorted(folder / "labels" for folder in root.iterdir() if (folder / "labels").is_dir())
    return [folder for folder in (root / "labels", *nested) if folder.is_dir()]


def _find_yaml(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    candidates = [folder / "data.yaml", folder / "data.yml", folder / "dataset.yaml"]
    candidates += sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    return next((file for file in candidates if file.is_file() and _is_data_yaml(file)), None)


def _is_data_yaml(path: Path) -> bool:
    try:
        content = _load_yaml(path)
    except UserError:
        # A broken data.yaml is still one: reading it then names the line.
        return path.name in ("data.yaml", "data.yml")
    named = bool({"names", "nc"} & content.keys())
    return "train" in content or (named and bool({*SPLIT_KEYS, UNLABELLED_KEY} & content.keys()))


def _load_yaml(path: Path) -> dict[str, Any]:
    from marauder.core.settings import read_yaml_mapping

    return read_yaml_mapping(path)[0]


def _from_yaml(file: Path) -> _Source:
    content = _load_yaml(file)
    source = _Source(_root(file, content), _names(content, file))
    own = file.parent
    stated = content.get("path")
    if stated and not _resolved(str(stated), own).is_dir():
        message = f"path: {stated} does not exist; using the folder of this file"
        source.problems.append(Problem(str(file), None, "root-moved", message))
    seen: set[Path] = set()
    for key in (*SPLIT_KEYS, UNLABELLED_KEY):
        entries = content.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            for picture in _entry_pictures(str(entry), file, source):
                if picture in seen:
                    message = f"listed more than once (again under {key})"
                    source.problems.append(Problem(str(picture), None, "picture-listed-twice", message))
                    continue
                seen.add(picture)
                source.pictures.append((picture, key if key != UNLABELLED_KEY else None))
    return source


def _root(file: Path, content: dict[str, Any]) -> Path:
    stated = content.get("path")
    root = _resolved(str(stated), file.parent) if stated else file.parent
    return root if root.is_dir() else file.parent


def _resolved(text: str, base: Path) -> Path:
    """``text`` below ``base``, without ``..`` steps, links left as they are."""
    return Path(os.path.normpath(base / Path(text.replace("\\", "/")).expanduser()))


def _names(content: dict[str, Any], file: Path) -> tuple[str, ...] | None:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        try:
            by_index = {int(index): str(name) for index, name in names.items()}
        except (TypeError, ValueError):
            raise UserError(f"{file}: names: the keys must be class numbers, like '0: lionfish'") from None
        if min(by_index, default=0) < 0:
            raise UserError(f"{file}: names: class numbers start at 0")
        return tuple(by_index.get(index, f"class_{index}") for index in range(max(by_index, default=-1) + 1))
    if isinstance(names, list):
        return tuple(str(name) for name in names)
    if names is not None:
        raise UserError(f"{file}: names: expected a list of class names, or numbers with names")
    return tuple(f"class_{index}" for index in range(count)) if isinstance(count, int) else None


def _entry_pictures(entry: str, file: Path, source: _Source) -> list[Path]:
    """Pictures of one ``train:``/``val:``/``test:`` entry: a folder, a list file, or one picture."""
    place = _resolved(entry, source.root)
    if not path_exists(place):
        moved = common_suffix_match(entry, [source.root, file.parent])
        if moved is None:
            message = f"{entry}: no such folder or list file below {source.root}"
            source.problems.append(Problem(str(file), None, "split-missing", message))
            return []
        source.problems.append(Problem(str(file), None, "root-moved", f"{entry} does not exist; using {moved}"))
        place = moved
    if place.is_dir():
        return find_pictures(place)
    return [place] if is_picture(place) else _list_file(place, source)


def _list_file(file: Path, source: _Source) -> list[Path]:
    pictures, moved = [], 0
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        base = file.parent if text.startswith("./") else source.root
        picture = _resolved(text, base)
        if not path_exists(picture):
            found = common_suffix_match(text, dict.fromkeys([base, source.root, file.parent]))
            if found is None and not (source.root / RECORDS_FILE).exists():
                message = f"listed picture {text} does not exist"
                source.problems.append(Problem(str(file), number, "picture-missing", message))
                continue
            moved += found is not None
            picture = found or picture
        pictures.append(picture)
    if moved:
        message = f"{moved} listed pictures have moved; found below {source.root}"
        source.problems.append(Problem(str(file), None, "root-moved", message))
    return pictures


def _bare_image_folders(folder: Path) -> list[tuple[Path, str | None]]:
    """Folders of pictures that have labels/ beside them, with their split: images/, train/images/, …"""
    if not folder.is_dir():
        return []
    found: list[tuple[Path, str | None]] = []
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        found.append((folder / "images", None))
    for child in sorted(folder.iterdir()):
        if (child / "images").is_dir() and (child / "labels").is_dir():
            found.append((child / "images", SPLIT_NAMES.get(child.name.lower())))
    return found


def _labels_beside_pictures(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    first = next((child for child in sorted(folder.iterdir()) if is_picture(child)), None)
    return first is not None and first.with_suffix(".txt").is_file()


def _from_folder(folder: Path) -> _Source:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    source = _Source(folder, _class_file(folder))
    folders = _bare_image_folders(folder) or [(folder, None)]
    for place, split in folders:
        for picture in find_pictures(place):
            below = picture.relative_to(place).parts[0].lower() if split is None else ""
            source.pictures.append((picture, split or SPLIT_NAMES.get(below)))
    return source


def _class_file(folder: Path) -> tuple[str, ...] | None:
    for name in CLASS_FILES:
        file = folder / name
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return None
