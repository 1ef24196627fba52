"""Opening what came from outside (zip, folder or single file) without trusting any of it.

Nothing is written outside the target: names are checked as text before any file is made, the target is new and holds
no link, and files are created exclusively. What is refused (steps out of the folder, links, devices, encrypted or
overlapping entries, bombs, names that stand twice) is a finding and the rest is taken; a file that cannot be opened
at all, or that is too large as a whole, is refused as a whole. Sources: APPNOTE.TXT 6.3.10 (PKWARE) for the format;
Fifield, "A better zip bomb" (WOOT 2019) for overlapping entries.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from marauder.core.clock import Clock
from marauder.core.errors import printable
from marauder.core.files import writing

BLOCK_BYTES = 1 << 20
LOCAL_HEADER_BYTES, DIRECTORY_HEADER_BYTES = 30, 46
END, END_BYTES, MOST_COMMENT = b"PK\5\6", 22, 1 << 16
END64, END64_BYTES, LOCATOR64, LOCATOR64_BYTES = b"PK\6\6", 56, b"PK\6\7", 20
ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
UTF8_FLAG = 0x800
JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._[^/]*$)", re.IGNORECASE)
"""What operating systems leave behind; skipped without a word."""
READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    IndexError,
    OSError,
)
"""What ``zipfile`` raises for damage: bad CRC or stream, cut end, unknown compression, headers that make no sense."""
EMPTY_TYPE, REGULAR, FOLDER = 0, stat.S_IFREG, stat.S_IFDIR


@dataclass(frozen=True, slots=True)
class Limits:
    """What a delivery may unpack to, all its archives together.

    ``total_bytes`` and ``entry_bytes``: unpacked. ``ratio``: unpacked to packed bytes of an entry, and of all archives
    together, above ``ratio_from_bytes`` (deflate ends at 1032; labels in JSON reach some 30). ``nesting``: archives
    within archives.
    """

    total_bytes: int = 50 << 30
    entry_bytes: int = 2 << 30
    entries: int = 500_000
    ratio: float = 200.0
    ratio_from_bytes: int = 16 << 20
    nesting: int = 1
    depth: int = 12
    path_bytes: int = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What was refused or mended. ``entry``: its name in the delivery ("" for the whole). ``taken``: it was mended and
    taken all the same."""

    entry: str
    kind: str
    message: str
    taken: bool = False


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A file that lies in the target now."""

    size: int
    sha256: str


@dataclass(eq=False)
class Unpacked:
    """``files``: by path below ``folder``, ``/`` between names. ``refused``: why the whole was, else ``None``."""

    folder: Path
    files: dict[str, UnpackedFile] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    refused: str | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


class _TooMuchError(Exception):
    """A limit on the whole was passed; nothing more is unpacked."""


def unpack(delivery: Path, target: Path, limits: Limits | None = None, clock: Clock | None = None) -> Unpacked:
    """Put the files of ``delivery`` into ``target``, which is emptied first.

    A zip inside is opened once more into a folder of its name, under the same limits. The clock is asked between
    files (``Interrupted``; called again it starts over). Errors of the disk under ``target`` are raised.
    """
    # ``rmtree`` refuses links, and what one leads to is not ours to empty.
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    work = _Work(Unpacked(target), limits or Limits(), clock)
    try:
        if delivery.is_symlink():
            raise _TooMuchError(f"{delivery.name} is a link; put the file or folder itself there")
        if delivery.is_dir():
            work.take_folder(delivery)
        # By content: a zip may be called anything.
        elif zipfile.is_zipfile(delivery):
            work.take_archive(delivery, "", 0)
        else:
            work.take_file(delivery, safe_name(delivery.name, work.limits)[0] or "delivery")
    except _TooMuchError as error:
        work.result.refused = str(error)
        work.result.findings.append(Finding("", "delivery-refused", str(error)))
    return work.result


def safe_name(name: str, limits: Limits | None = None) -> tuple[str, str]:
    """(path to use, "") for an entry's name, or ("", why it is refused).

    The path has ``/`` between names and none that is empty, ``.`` or ``..``; it is Unicode in form NFC. Backslashes
    are read as separators, as the tools that write them mean them.
    """
    limits = limits or Limits()
    if any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        return "", "its name has control characters or is not valid text"
    # macOS writes names decomposed, others composed: in one form, equal names are equal.
    text = unicodedata.normalize("NFC", name.replace("\\", "/"))
    if text.startswith("/"):
        return "", "its name is an absolute path"
    if re.match(r"[A-Za-z]:", text):
        return "", "its name begins with a drive letter"
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "", "its name leads out of the folder"
    if not parts:
        return "", "it has no name"
    if len(parts) > limits.depth:
        return "", f"its folders are more than {limits.depth} deep"
    if len(text.encode()) > limits.path_bytes or any(len(part.encode()) > 200 for part in parts):
        return "", "its name is too long"
    return "/".join(parts), ""


class _Work:
    """One unpacking: what it made so far, and what of the limits is used up."""

    def __init__(self, result: Unpacked, limits: Limits, clock: Clock | None) -> None:
        self.result, self.limits, self.clock = result, limits, clock
        self.used_bytes = self.entries = self.packed_bytes = self.stated_bytes = 0

    def find(self, entry: str, kind: str, message: str, taken: bool = False) -> None:
        self.result.findings.append(Finding(printable(entry), kind, message, taken))

    def count_entries(self, more: int = 1) -> None:
        self.entries += more
        if self.entries > self.limits.entries:
            raise _TooMuchError(f"more than {self.limits.entries:,} entries; send it in parts")

    def count_stated(self, more: int) -> None:
        """Count what entries say they unpack to (``write`` holds them to it), before any of them is opened."""
        # Headers may lie, so ``write`` counts again; but an honest giant is refused before anything is written.
        self.stated_bytes += more
        if self.stated_bytes > self.limits.total_bytes:
            raise _TooMuchError(self.too_large)
        times = self.stated_bytes / max(1, self.packed_bytes)
        if self.stated_bytes > self.limits.ratio_from_bytes and times > self.limits.ratio:
            raise _TooMuchError(f"unpacks to {times:.0f} times its size (a zip bomb)")

    @property
    def too_large(self) -> str:
        return f"unpacks to more than {self.limits.total_bytes / 1e9:.3g} GB; send it in parts"

    def write(self, source: IO[bytes], name: str, most: int | None = None) -> bool:
        """Copy ``source`` to a new file ``name`` below the target, within the limits; ``False`` with a finding when it
        does not go. Errors of ``source`` pass through, the half file is removed."""
        path = self.result.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Exclusively and not through a link: two entries may differ by case alone, on a disk that ignores it.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.find(name, "entry-twice", "a file and a folder of one name, or the same name twice; not taken")
            return False
        digest, size, whole = hashlib.sha256(), 0, False
        allowed = self.limits.entry_bytes if most is None else min(most, self.limits.entry_bytes)
        try:
            with writing(path), os.fdopen(descriptor, "wb") as stream:
                while block := source.read(BLOCK_BYTES):
                    size += len(block)
                    self.used_bytes += len(block)
                    if self.used_bytes > self.limits.total_bytes:
                        raise _TooMuchError(self.too_large)
                    if size > allowed:
                        # More than its own header says: the header lies.
                        self.find(name, "entry-bomb", f"unpacks to more than {allowed:,} bytes; not taken")
                        return False
                    digest.update(block)
                    stream.write(block)
            whole = True
        finally:
            # Whatever ended the copy, half a label file must not be read as a whole one.
            if not whole:
                path.unlink(missing_ok=True)
        self.result.files[name] = UnpackedFile(size, digest.hexdigest())
        return True

    def take_file(self, path: Path, name: str) -> None:
        """Copy one file of a folder, or the delivery itself, if it is a regular file when it is opened."""
        try:
            # Non-blocking: opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            self.find(name, "entry-unreadable", f"cannot be read ({error.strerror}); not taken")
            return
        with os.fdopen(descriptor, "rb") as stream:
            # Asked of what was opened, not of the path: it may have been swapped in between.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self.find(name, "entry-no-file", "is not a regular file; skipped")
                return
            self.write(stream, name)

    def take_folder(self, folder: Path) -> None:
        """Copy the regular files below ``folder``; links are not followed."""
        for path, kind in _walk(folder):
            if self.clock is not None:
                self.clock.check()
            # UTF-8 whatever the locale says; bytes that are none stay as surrogates, and are refused as a name.
            shown = os.fsencode(path.relative_to(folder)).decode("utf-8", "surrogateescape")
            if JUNK.search(shown):
                continue
            self.count_entries()
            name, why = safe_name(shown, self.limits)
            if kind == "link":
                self.find(shown, "entry-link", "is a link; not followed, not taken")
            elif kind == "other":
                self.find(shown, "entry-no-file", "is a device, pipe or socket; not taken")
            elif kind == "unreadable":
                self.find(shown, "entry-unreadable", "is a folder that cannot be read; not taken")
            elif why:
                self.find(shown, "entry-name", f"{why}; not taken")
            elif path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
                self.take_archive(path, name[: -len(".zip")], 0)
            else:
                self.take_file(path, name)

    def take_archive(self, path: Path, prefix: str, level: int) -> None:
        """Unpack the zip at ``path`` below ``prefix``. ``level`` counts the archives around it."""
        # Before ``zipfile`` makes an object of each.
        self.count_entries(directory_entries(path, self.limits.entries - self.entries) or 0)
        if level == 0:
            # Bytes of an inner archive were unpacked from the outer one: counted again they would allow twice as much.
            self.packed_bytes += path.stat().st_size
        try:
            archive = zipfile.ZipFile(path)
        except READ_ERRORS as error:
            if not prefix:
                raise _TooMuchError(f"is not a readable zip ({error}); pack it again") from None
            self.find(prefix + ".zip", "archive-unreadable", f"is not a readable zip ({error}); not taken")
            return
        with archive:
            infos = archive.infolist()
            # Before any entry is opened: overlaps are how a small file unpacks to petabytes within every other limit.
            overlapping = _overlapping(infos, archive.start_dir)
            names = [_entry_name(info) for info in infos]
            placed = [safe_name(name, self.limits)[0] for name in names]
            twice = {name for name, count in Counter(placed).items() if name and count > 1}
            wanted: list[tuple[zipfile.ZipInfo, str, str]] = []
            for position, info in enumerate(infos):
                if names[position].endswith(("/", "\\")) or JUNK.search(names[position]):
                    continue
                name, why = safe_name(names[position], self.limits)
                shown = f"{prefix}/{names[position]}" if prefix else names[position]
                why = why or _entry_refusal(info, self.limits)
                kind = "entry-name" if not name else "entry-refused"
                if position in overlapping:
                    why, kind = "its bytes are those of another entry too (a zip bomb)", "entry-bomb"
                elif name in twice:
                    why, kind = "its name occurs more than once, so it is not known which is meant", "entry-twice"
                if why:
                    self.find(shown, kind, f"{why}; not taken")
                    continue
                if names[position] != info.filename or "\\" in names[position]:
                    self.find(
                        shown, "entry-name-mended", "its name was not written as the format requires; corrected", True
                    )
                wanted.append((info, f"{prefix}/{name}" if prefix else name, shown))
            # All of the archive at once: entry by entry, each could look harmless.
            self.count_stated(sum(info.file_size for info, _, _ in wanted))
            inner: list[str] = []
            for info, full, shown in wanted:
                if self.clock is not None:
                    self.clock.check()
                if self._take_entry(archive, info, full, shown) and full.lower().endswith(".zip"):
                    inner.append(full)
            for full in inner:
                self._open_inner(full, level + 1)

    def _take_entry(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, shown: str) -> bool:
        try:
            with archive.open(info) as source:
                return self.write(source, name, info.file_size)
        except READ_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of a disk; what a bad stream raises has no number
            self.find(shown, "entry-damaged", f"cannot be unpacked ({error}); not taken")
            return False

    def _open_inner(self, name: str, level: int) -> None:
        path = self.result.folder / name
        if not zipfile.is_zipfile(path):
            return
        if level > self.limits.nesting:
            self.find(name, "archive-nested", "an archive in an archive in an archive; not opened")
        else:
            self.take_archive(path, name[: -len(".zip")], level)
        # Its files stand in for it; left there, the zip would be a stranger among the labels.
        path.unlink()
        del self.result.files[name]


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """What lies below ``folder``, sorted, each with ``file``, ``link``, ``other`` or ``unreadable``; links are not
    followed."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield folder, "unreadable"
        return
    for entry in ordered:
        path = Path(entry.path)
        if entry.is_symlink():
            yield path, "link"
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path)
        else:
            yield path, "file" if entry.is_file(follow_symlinks=False) else "other"


def directory_entries(path: Path, most: int) -> int | None:
    """Entries in the directory of a zip, found and walked through as ``zipfile`` does it, but without an object for
    each; counting ends above ``most``. ``None`` where there is no whole directory, which is written last.

    The number that the end of the zip states is not looked at: it may lie.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - END_BYTES - MOST_COMMENT - END64_BYTES - LOCATOR64_BYTES))
        tail = stream.read()
        # As ``zipfile`` looks: an end without a comment first, else the last one in the tail.
        plain = tail[-END_BYTES:].startswith(END) and tail.endswith(b"\0\0")
        at = len(tail) - END_BYTES if plain else tail.rfind(END)
        if at < 0 or len(tail) - at < END_BYTES:
            return None
        (length,) = struct.unpack_from("<L", tail, at + 12)
        # By the directory's length, not by the offset that is stated: bytes may stand before the zip.
        start = size - len(tail) + at - length
        # The 64-bit end and its locator stand directly before the plain one.
        head = tail[max(0, at - END64_BYTES - LOCATOR64_BYTES) : at]
        if head.startswith(END64) and head[END64_BYTES:].startswith(LOCATOR64):
            (length,) = struct.unpack_from("<Q", head, 40)
            start = size - len(tail) + at - len(head) - length
        if start < 0:
            return None
        stream.seek(start)
        count = walked = 0
        while walked < length and count <= most:
            header = stream.read(DIRECTORY_HEADER_BYTES)
            if len(header) < DIRECTORY_HEADER_BYTES or not header.startswith(b"PK\1\2"):
                return None
            rest = sum(struct.unpack_from("<3H", header, 28))  # name, extra field and comment
            stream.seek(rest, os.SEEK_CUR)
            walked += DIRECTORY_HEADER_BYTES + rest
            count += 1
    return count


def _entry_name(info: zipfile.ZipInfo) -> str:
    """The name that was meant: ``zipfile`` reads names without the UTF-8 flag as code page 437, though most tools
    write UTF-8 without saying so. A NUL byte, at which ``zipfile`` cuts, stays in (and is refused later)."""
    name = info.orig_filename if "\0" in info.orig_filename else info.filename
    if info.flag_bits & UTF8_FLAG or name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _entry_refusal(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Why an entry is not opened at all, by what its header says; "" if it may be."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "it is a link"
    if kind not in (EMPTY_TYPE, REGULAR, FOLDER):
        return "it is a device, pipe or socket"
    if info.flag_bits & ENCRYPTED_FLAGS:
        return "it is encrypted; pack it without a password"
    if info.file_size > limits.entry_bytes:
        return f"it unpacks to {info.file_size / 1e9:.3g} GB"
    if info.file_size > limits.ratio_from_bytes and info.file_size > limits.ratio * max(1, info.compress_size):
        return f"it unpacks to {info.file_size / max(1, info.compress_size):.0f} times its size (a zip bomb)"
    return ""


def _overlapping(infos: list[zipfile.ZipInfo], directory: int) -> set[int]:
    """Positions of entries whose packed bytes reach into another entry or into the central directory."""
    order = sorted(range(len(infos)), key=lambda position: infos[position].header_offset)
    found: set[int] = set()
    reach, furthest = -1, -1
    for position in order:
        info = infos[position]
        # Without name and extra field, whose lengths only the local header knows: short, so never a false alarm.
        end = info.header_offset + LOCAL_HEADER_BYTES + info.compress_size
        if info.header_offset < reach:
            found |= {position, furthest}
        if end > directory:
            found.add(position)
        if end > reach:
            reach, furthest = end, position
    return found
