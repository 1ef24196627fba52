"""Pictures and videos that words on a command line name: files, folders, patterns."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.core.errors import UserError, printable
from marauder.core.files import fingerprint
from marauder.data.picture_files import is_picture
from marauder.data.video_files import is_video

WILD = re.compile(r"[*?[]")
MODELS = frozenset({".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".torchscript", ".engine"})
"""Suffixes that say what a word is that was meant for another option."""
LONGEST_NAME = 180
"""Bytes of a file name: systems end at 255, and frames put their number behind it."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One picture or video. ``key``: its path below the folder that was named, with ``/``, unique among all."""

    key: str
    path: Path
    video: bool


def find_media(words: Sequence[str | Path], excluded: Path | None = None, pictures: bool = True) -> list[MediaFile]:
    """The files that ``words`` name, each once, in the order of words and then of names (numbers in them by value).

    A word is a file, a folder or a pattern such as ``dives/**/*.mp4``; of the two latter, hidden files and what lies
    below ``excluded``, where results go, are left out. A file named by itself that has no picture's suffix counts as a
    video. ``pictures``: else videos alone are looked for. Raises ``UserError`` for a word that names nothing.
    """
    found: dict[str, tuple[str, MediaFile]] = {}
    for word in words:
        listed = [(root, path) for root, path in _named(str(word), excluded) if pictures or not is_picture(path)]
        if not listed:
            kinds = "picture or video" if pictures else "video"
            raise UserError(f"{word}: names no {kinds}; give files, folders, or patterns in quotes")
        for root, path in listed:
            key = printable(path.relative_to(root).as_posix())  # a name that is no text must not end all tables
            media = MediaFile(key, path, not is_picture(path))
            found.setdefault(os.path.realpath(path), (root.absolute().name, media))
    return _with_unique_keys(list(found.values()))


def why_nothing(word: str) -> str | None:
    """Why a word names no picture, video, folder or pattern of them, in words; ``None``: it may."""
    if Path(word).suffix.lower() in MODELS:
        kind = "a model or checkpoint, no picture or video"
        return f"{word}: {kind}; a model goes behind --model, and --resume takes no file here: it resumes by itself"
    if WILD.search(word) or Path(word).exists():
        return None
    return f"{word}: no such file or folder; check the path"


def _named(word: str, excluded: Path | None) -> list[tuple[Path, Path]]:
    """The files of a word, each with the folder that its key is relative to."""
    path = Path(word)
    if path.is_dir():
        return [(path, file) for file in _below(path, excluded)]
    if path.exists():
        return [(path.parent, path)]
    nothing = why_nothing(word)
    if nothing is not None:
        raise UserError(nothing)
    wild = next(place for place, part in enumerate(path.parts) if WILD.search(part))
    root = Path(*path.parts[:wild])
    matches = sorted(root.glob("/".join(path.parts[wild:])), key=natural_order)
    skipped = excluded.resolve() if excluded is not None else None
    files = (file for match in matches for file in (_below(match, excluded) if match.is_dir() else [match]))
    return [
        (root, file)
        for file in dict.fromkeys(files)
        if (is_picture(file) or is_video(file))
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        # The parents of a name in the folder are the folder itself and all above it.
        and (skipped is None or skipped not in (file.parent / "_").resolve().parents)
    ]


def _below(folder: Path, excluded: Path | None) -> Iterator[Path]:
    skipped = excluded.resolve() if excluded is not None else None
    seen: set[str] = set()
    found = []
    for directory, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen or (skipped is not None and Path(real) == skipped):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(directory, name) for name in files if is_picture(name) or is_video(name)]
    yield from sorted(found, key=natural_order)


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts ``frame-2`` before ``frame-10``, folder by folder; names equal but for case by their letters."""
    # "\0" sorts before every letter, so that the files of a folder stand together.
    parts = re.split(r"(\d+)", path.as_posix().replace("/", "\0"))
    return [(0, int(part), part) if place % 2 else (1, 0, part) for place, part in enumerate(parts)]


def _with_unique_keys(found: list[tuple[str, MediaFile]]) -> list[MediaFile]:
    """Keys that several files share get the name of the folder that was named before them, then a number."""
    # Results are named by keys, and many disks take A and a for one name.
    shared = Counter(media.key.lower() for _, media in found)
    taken: set[str] = set()
    unique = []
    for root, media in found:
        key = f"{root}/{media.key}" if shared[media.key.lower()] > 1 else media.key
        base, number = key, 1
        while key.lower() in taken:
            number += 1
            key = f"{number}/{base}"
        taken.add(key.lower())
        unique.append(replace(media, key=key))
    return unique


def flat_names(files: Sequence[MediaFile]) -> dict[str, str]:
    """By key, a name for each file in one folder: ``dive1/GX01.MP4`` becomes ``dive1__GX01.MP4``.

    Unique without regard to case, those of pictures without their suffix, too. Names that would not be, or would be too
    long for a file, get a part of the key's hash.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for media in files:
        name = re.sub(r"[^\w.+-]+", "_", media.key.replace("/", "__")).strip("_") or "file"
        suffix = Path(name).suffix if len(Path(name).suffix) < 8 else ""
        stem = name.removesuffix(suffix)
        if (name if media.video else stem).lower() in taken or len(name.encode()) > LONGEST_NAME:
            stem = f"{stem[: LONGEST_NAME // 4]}-{fingerprint(media.key)[:10]}"
        names[media.key] = stem + suffix
        taken.add((stem + suffix if media.video else stem).lower())
    return names
