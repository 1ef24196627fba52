"""Files that travel with the pictures and hold paths: data.yaml, picture lists, COCO JSON. Their paths follow the tree.

Afterwards the output is complete in itself: ``data.yaml`` has no root (readers then take its own folder), lists name
pictures relative to themselves with a leading ``./``; this is how Ultralytics resolves both.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from marauder.core.plain import Plain
from marauder.data.picture_files import is_picture

SPLIT_KEYS = ("train", "val", "test", "minival")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """New content of a file, and notes on what could not be made to point into the output."""

    content: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Companions:
    """The files below ``source`` that hold paths. ``lists``: picture lists that a data.yaml names, relative paths."""

    source: Path
    lists: frozenset[str]

    @classmethod
    def of(cls, source: Path, paths: list[str]) -> Companions:
        """Look through the data.yaml files among ``paths`` for the lists they name."""
        root = source.resolve()
        lists: set[str] = set()
        for path in paths:
            if path.endswith((".yaml", ".yml")):
                content = _read_data_yaml(root / path)
                if content is not None:
                    lists.update(_named_lists(root, path, content))
        return cls(root, frozenset(lists))

    def rewritten(self, path: str) -> Rewritten | None:
        """The file with its paths changed, or ``None`` where it can be copied as it is."""
        if path in self.lists:
            return self._rewritten_list(path)
        if path.endswith((".yaml", ".yml")):
            return self._rewritten_data_yaml(path)
        if path.endswith(".json"):
            return self._rewritten_json(path)
        return None

    def _rewritten_data_yaml(self, path: str) -> Rewritten | None:
        content = _read_data_yaml(self.source / path)
        if content is None:
            return None
        notes: list[str] = []
        changed = {key: value for key, value in content.items() if key != "path"}
        for key in SPLIT_KEYS:
            value = content.get(key)
            if isinstance(value, str):
                changed[key] = self._new_entry(path, content, value, notes)
            elif isinstance(value, list):
                changed[key] = [self._new_entry(path, content, str(entry), notes) for entry in value]
        if changed == content:
            return None
        text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
        return Rewritten(text.encode("utf-8"), tuple(notes))

    def _new_entry(self, path: str, content: Plain, entry: str, notes: list[str]) -> str:
        found = _locate(self.source, path, content, entry)
        if found is None:
            notes.append(f"{path}: {entry} was not found and is left as it was")
            return entry
        if not found.is_relative_to(self.source):
            notes.append(f"{path}: {found} is outside the input folder; its pictures are not enhanced")
            return str(found)
        return Path(os.path.relpath(found, (self.source / path).parent)).as_posix()

    def _rewritten_list(self, path: str) -> Rewritten | None:
        folder = (self.source / path).parent
        # A list may begin with a byte order mark and hold names in any encoding: their bytes go out as they came.
        text = (self.source / path).read_text(encoding="utf-8-sig", errors="surrogateescape")
        lines, missing = [], 0
        for line in text.splitlines():
            entry = line.strip()
            found = _existing(self.source, folder, entry) if entry else None
            if found is not None and found.is_relative_to(self.source):
                lines.append(f"./{Path(os.path.relpath(found, folder)).as_posix()}")
            else:
                missing += bool(entry)
                lines.append(line)
        notes = (f"{path}: {missing} lines name no picture below the input folder",) if missing else ()
        return Rewritten("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"), notes)

    def _rewritten_json(self, path: str) -> Rewritten | None:
        """COCO files whose ``file_name`` is absolute and below the input become relative to the file's own folder."""
        raw = (self.source / path).read_bytes()
        # Looked for in the bytes: most JSON files need no parsing, and some are large.
        if b'"images"' not in raw or b'"file_name"' not in raw or str(self.source).encode() not in raw:
            return None
        try:
            content = json.loads(raw)
        except ValueError:
            return None
        images = content.get("images") if isinstance(content, dict) else None
        changed = False
        for image in images if isinstance(images, list) else []:
            name = image.get("file_name") if isinstance(image, dict) else None
            if isinstance(name, str) and Path(name).is_absolute() and Path(name).is_relative_to(self.source):
                relative = os.path.relpath(name, (self.source / path).parent)
                image["file_name"] = Path(relative).as_posix()
                changed = True
        return Rewritten(json.dumps(content, ensure_ascii=False).encode("utf-8")) if changed else None


def _read_data_yaml(path: Path) -> Plain | None:
    """The content of a data.yaml, ``None`` for other YAML and for what is not YAML at all."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(content, dict) or not any(key in content for key in SPLIT_KEYS):
        return None
    return content


def _named_lists(source: Path, path: str, content: Plain) -> set[str]:
    named: set[str] = set()
    for key in SPLIT_KEYS:
        value = content.get(key)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str) and entry.endswith(".txt"):
                found = _locate(source, path, content, entry)
                if found is not None and found.is_relative_to(source) and found.is_file():
                    named.add(found.relative_to(source).as_posix())
    return named


def _locate(source: Path, path: str, content: Plain, entry: str) -> Path | None:
    """What an entry of a data.yaml names, tried as Ultralytics does, then below the input by its last parts."""
    own = (source / path).parent
    root = content.get("path")
    roots = [own / str(root)] if root else []
    for folder in (*roots, own, source):
        # Ultralytics, too, reads ``../images`` as ``images`` where it finds nothing else.
        for name in (entry, entry.removeprefix("../")):
            candidate = Path(os.path.normpath(folder / name))
            if candidate.exists():
                return candidate
    return _by_last_parts(entry, (own, source))


def _existing(source: Path, folder: Path, entry: str) -> Path | None:
    """The picture that a line of a list names."""
    for start in (folder, source):
        candidate = Path(os.path.normpath(start / entry))
        if candidate.is_file():
            return candidate
    return _by_last_parts(entry, (folder, source)) if is_picture(entry) else None


def _by_last_parts(entry: str, folders: tuple[Path, ...]) -> Path | None:
    """For paths of another machine: the longest run of last parts that exists below one of ``folders``."""
    parts = [part for part in PurePosixPath(entry.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    for first in range(len(parts)):
        for folder in folders:
            candidate = folder.joinpath(*parts[first:])
            if candidate.exists():
                return candidate
    return None
