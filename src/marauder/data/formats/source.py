"""The files of a data set or of an unpacked delivery: listed once, found by whatever tools make of their names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from marauder.core.clock import Clock
from marauder.data.formats.text import sniff
from marauder.data.picture_files import is_picture

SKIPPED = ("__MACOSX", "guidelines")
UPLOAD_PREFIX = re.compile(r"^(?!(?:19|20)\d\d[01]\d[0-3]\d-)[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file; a date is none of it."""
PICTURE_FOLDERS = ("images", "Images", "JPEGImages")
ENDING = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?|gif|heic|jfif|jp2|ppm|avif|txt|xml|json|csv)$", re.IGNORECASE)
MOST_NEXT_DOOR = 20_000
"""Files that are looked at in a folder beside the one that was named."""
MARKS = re.compile(r'"([A-Za-z_-]{2,24})"\s*:|<([A-Za-z_:.-]{2,40})|(fathomnet\.org)')


class Source:
    """What lies at ``path``, a file or a folder.

    ``delivery``: it came from outside: links are not followed, and nothing outside of it is looked at. ``root``: the
    folder that names are relative to; for a file the one it lies in, or the one around ``annotations/``.
    """

    def __init__(self, path: Path, delivery: bool = False, clock: Clock | None = None) -> None:
        self.path, self.delivery, self.clock = path, delivery, clock
        folder = path.parent if path.is_file() else path
        is_part = path.is_file() and folder.name.lower() in ("annotations", "labels") and folder.parent != folder
        self.root = folder.parent if is_part else folder
        self.odd_names: list[str] = []
        """Names that are no text in this system's encoding; such files cannot be named anywhere and are left out."""

    @cached_property
    def files(self) -> list[str]:
        """Every file below the root, sorted, by path with ``/``; hidden ones and our own guidelines left out."""
        found: list[str] = []
        seen: set[str] = set()
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            place = os.path.join(self.root, folder)  # noqa: PTH118 - of large trees
            if self.clock is not None:
                self.clock.check()
            real = os.path.realpath(place)
            # A link may lead back to a folder above itself.
            if real in seen:
                continue
            seen.add(real)
            try:
                # A fixed order, as of two links to one folder the first met counts; the last appended is popped first.
                entries = sorted(os.scandir(place), key=lambda entry: entry.name, reverse=True)
            except OSError:
                continue
            for entry in entries:
                name = entry.name
                if name.startswith(".") or not self._is_text(place, name) or (self.delivery and entry.is_symlink()):
                    continue
                if entry.is_file():  # no pipe, which would be waited for without end
                    found.append(folder + name)
                elif entry.is_dir() and not (self.delivery and name in SKIPPED):
                    waiting.append(f"{folder}{name}/")
        return sorted(found)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files whose names end so, in any capitals; the one that was named, where a file was."""
        if self.path.is_file():
            return [self.path] if self.path.suffix.lower() in suffixes else []
        return [self.root / name for name in self.files if name.lower().endswith(suffixes)]

    def marks(self, path: Path) -> Marks:
        """What the beginning and end of a file say of its format; read once."""
        if path not in self._marks:
            text = sniff(path)
            found = {next(filter(None, groups)).rpartition(":")[2] for groups in MARKS.findall(text)}
            self._marks[path] = Marks(text[:2000], frozenset(found))
        return self._marks[path]

    @cached_property
    def _marks(self) -> dict[Path, Marks]:
        return {}

    @cached_property
    def pictures(self) -> NameIndex:
        """The pictures below the root."""
        return NameIndex([name for name in self.files if is_picture(name)])

    def below(self, folder: Path | None) -> Source:
        """The files of another folder (``None``: these), listed once."""
        if folder is None or folder == self.root:
            return self
        if folder not in self._below:
            self._below[folder] = Source(folder, self.delivery, self.clock)
        return self._below[folder]

    @cached_property
    def _below(self) -> dict[Path, Source]:
        return {}

    def relative(self, path: Path) -> str:
        """``path`` as below the root, or as it is."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def shown(self, path: Path) -> Path:
        """``path`` as messages name it: like the source, relative where that was named so."""
        return path if self.path.is_absolute() or not path.is_absolute() else Path(os.path.relpath(path))

    def _is_text(self, directory: str, name: str) -> bool:
        if name.isascii():
            return True
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            self.odd_names.append(f"{directory}/{name}")
            return False
        return True


@dataclass(frozen=True, slots=True)
class Marks:
    """``start``: the first characters of a file; ``keys``: JSON keys and XML elements near its beginning and end."""

    start: str
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Match:
    """The name that was found. ``agreed``: how many parts of the path agree; ``whole``: all of them do. ``stated``: the
    folder that the path names. ``others``: more names that agree as well, so that nobody knows which is meant."""

    name: str
    agreed: int
    whole: bool
    stated: str = ""
    others: tuple[str, ...] = ()


class NameIndex:
    """Finds names (paths with ``/``) by what tools make of them: the longest end of a path that agrees, then the name
    in other capitals, with blanks replaced, with Label Studio's prefix, with another suffix or none."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.exact = set(self.names)
        self._whole: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for name in self.names:
            folded = fold(name.rpartition("/")[2])
            self._whole.setdefault(folded, []).append(name)
            self._stems.setdefault(stem(folded), []).append(name)

    def find(self, text: str, folders: Sequence[str] = ()) -> Match | None:
        """The name that ``text`` means; below one of ``folders``, if it is there."""
        composed = unicodedata.normalize("NFC", text[:4096])
        best: Match | None = None
        for spelling in _spellings(composed):
            parts = [part for part in spelling.split("/") if part not in ("", ".", "..")]
            if not parts:
                continue
            for folder in folders:
                direct = "/".join((*([folder] if folder else []), *parts))
                if direct in self.exact:
                    return Match(direct, len(parts), True, fold("/".join(parts[:-1])))
            last = fold(parts[-1])
            # The surest first: the whole name, then its stem, then a name that is nothing but a stem; then all
            # three again without the prefix of an upload.
            keys = [(name, key) for name in dict.fromkeys((last, UPLOAD_PREFIX.sub("", last))) for key in (0, 1, 2)]
            tables = (self._whole, self._stems, self._stems)
            found = (_best(tables[key].get(stem(name) if key == 1 else name, ()), parts, folders) for name, key in keys)
            match = next((one for one in found if one is not None), None)
            if match is not None and (best is None or match.agreed > best.agreed):
                best = match
        return best


def _best(candidates: Sequence[str], parts: Sequence[str], folders: Sequence[str]) -> Match | None:
    """Of names that agree in their last part those that agree in most of the parts before it."""
    if not candidates:
        return None
    agreeing = [_agreement(name, parts) for name in candidates]
    most = max(agreeing)
    best = [name for name, count in zip(candidates, agreeing) if count == most]
    if len(best) > 1:
        # The same spelling before another one; then a folder where pictures usually stand.
        same = [name for name in best if unicodedata.normalize("NFC", name.rpartition("/")[2]) == parts[-1]]
        best = same or best
        for folder in folders if len(best) > 1 else ():
            near = [name for name in best if name.rpartition("/")[0] == folder]
            if len(near) == 1:
                best = near
                break
    return Match(best[0], most, most == len(parts), fold("/".join(parts[:-1])), tuple(best[1:]))


def _agreement(name: str, parts: Sequence[str]) -> int:
    count = 1
    for one, other in zip(name.split("/")[-2::-1], parts[-2::-1]):
        if fold(one) != fold(other):
            break
        count += 1
    return count


def _spellings(text: str) -> list[str]:
    plain = text.replace("\\", "/")
    # Label Studio serves local files as /data/local-files/?d=PATH, which people write without the quoting, too.
    found = [plain.partition("/local-files/?d=")[2] or plain]
    if not any(mark in plain for mark in "%?:#"):
        return found
    try:
        parts = urlsplit(plain)  # other addresses end in a query of keys
        found += [value for values in parse_qs(parts.query).values() for value in values]
        found += [unquote(parts.path), unquote(plain)]
    except ValueError:
        pass  # no address
    return found


def fold(name: str) -> str:
    """A name as compared: uploading replaces blanks; some disks store accents decomposed and ignore case."""
    return unicodedata.normalize("NFC", name).casefold().strip().replace(" ", "_")


def stem(name: str) -> str:
    """A name without the suffix of a picture or label file; other dots belong to the name."""
    return ENDING.sub("", name)


def next_door(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Files with one of ``suffixes`` in the folders beside ``folder``, and in those of its name beside the one around
    it, as ``labels/train`` is of ``images/train``: by the stems of their names as ``fold`` has them."""
    here = folder.absolute()
    around = [place for place in _folders_in(here.parent) if place != here]
    around += [place / here.name for place in _folders_in(here.parent.parent) if place != here.parent]
    found: dict[str, Path] = {}
    for place in around:
        with suppress(OSError), os.scandir(place) as entries:
            # A home directory may hold anything.
            for entry in islice(entries, MOST_NEXT_DOOR):
                if entry.name.lower().endswith(tuple(suffixes)) and not entry.name.startswith("."):
                    found.setdefault(stem(fold(entry.name)), Path(entry.path))
    return found


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    except OSError:
        return []


class Listing:
    """Finds a file by its path though capitals or the form of accents differ, listing each folder once."""

    def __init__(self) -> None:
        self._folders: dict[Path, set[str]] = {}
        self._folded: dict[Path, dict[str, str]] = {}

    def find(self, path: Path, parents: int = 8) -> Path | None:
        """The file at ``path``, or the one whose name and last ``parents`` folders differ in capitals only."""
        folder, name = path.parent, path.name
        if folder not in self._folders:
            try:
                self._folders[folder] = set(os.listdir(folder))  # noqa: PTH208 - names only, of large folders
            except (OSError, ValueError):  # ValueError: a NUL byte in it
                self._folders[folder] = set()
        names = self._folders[folder]
        if name in names:
            return path
        if not names and parents and folder != path:
            other = self.find(folder, parents - 1)
            return self.find(other / name, 0) if other is not None and other != folder else None
        if folder not in self._folded:
            # Reversed, so that the first of names that differ in capitals only is the one that stays.
            self._folded[folder] = {fold(one): one for one in sorted(names, reverse=True)}
        found = self._folded[folder].get(fold(name))
        return path.with_name(found) if found is not None else None
