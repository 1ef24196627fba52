"""Decoding pictures, and a store that decodes each one once: scaled pixels in one memory-mapped file, filled lazily.

Any number of processes may read and fill a store at once: two that decode the same picture write the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import atomic_path, fingerprint, write_bytes
from marauder.data.manifests.journal import Stamp, stamp_of
from marauder.data.picture_files import DECODING_VERSION, PictureError, load_rgb
from marauder.data.records import Record

EMPTY, FILLED, UNREADABLE = 0, 1, 2


class UnreadablePictureError(Exception):
    """A picture file that is missing, empty, truncated or no picture; the message names it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def decode_picture(path: Path) -> np.ndarray:
    """The picture as displayed (EXIF rotation applied): uint8 (H, W, 3), red first.

    Raises ``UnreadablePictureError``.
    """
    try:
        return load_rgb(path)
    except PictureError as error:
        raise UnreadablePictureError(path, error.detail) from None


def decode_record(record: Record) -> np.ndarray:
    """The picture of a record, as ``decode_picture``; one of another size than the record says is not readable."""
    picture = decode_picture(record.picture)
    height, width = picture.shape[:2]
    if (width, height) != (record.width, record.height):
        reason = f"is {width}×{height} pixels, its record says {record.width}×{record.height}"
        raise UnreadablePictureError(record.picture, reason)
    return picture


def scaled_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Width and height after scaling so that the longer side has ``long_side`` pixels."""
    gain = min(long_side / height, long_side / width)
    return max(1, round(width * gain)), max(1, round(height * gain))


def scale_picture(picture: np.ndarray, long_side: int) -> np.ndarray:
    """Scale a picture so that its longer side has ``long_side`` pixels (bilinear, as detectors' letterboxes do)."""
    height, width = picture.shape[:2]
    size = scaled_size(width, height, long_side)
    return picture if size == (width, height) else cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


class PictureStore:
    """Scaled pictures of a list of records, decoded at first use and kept in ``folder`` up to a size limit.

    ``long_side``: pixels of the longer side. Above ``maximum_bytes`` nothing is kept and every use decodes. Content
    written before a machine's restart is not trusted, since it may not have reached the disk.
    """

    def __init__(self, records: Sequence[Record], long_side: int, folder: Path | None, maximum_bytes: int) -> None:
        self.records = records
        self.long_side = long_side
        self.sizes = [scaled_size(record.width, record.height, long_side) for record in records]
        lengths = np.array([width * height * 3 for width, height in self.sizes], np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.kept = folder is not None and 0 < self.offsets[-1] <= maximum_bytes
        self._pixels: np.ndarray | None = None
        self._states: np.ndarray | None = None
        if folder is not None and self.kept:
            self._path = folder / f"pictures_{self._identity()[:16]}"
            self._create()

    def get(self, index: int) -> np.ndarray:
        """The scaled picture, uint8 (h, w, 3), red first; read-only. Raises ``UnreadablePictureError``."""
        if not self.kept:
            return self._decode(index)
        pixels, states = self._open()
        width, height = self.sizes[index]
        slot = pixels[self.offsets[index] : self.offsets[index + 1]].reshape(height, width, 3)
        if states[index] == EMPTY:
            try:
                # The state is set after the pixels: a process that looks in between decodes the picture for itself.
                slot[:] = self._decode(index)
            except UnreadablePictureError:
                states[index] = UNREADABLE
                raise
            states[index] = FILLED
        if states[index] == UNREADABLE:
            raise UnreadablePictureError(self.records[index].picture, "no readable picture")
        return slot

    def close(self, remove: bool = False) -> None:
        """Let go of the file; ``remove`` deletes it."""
        self._pixels = self._states = None
        if remove and self.kept:
            for suffix in (".pixels", ".states", ".boot"):
                self._path.with_suffix(suffix).unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, object]:
        # Workers map the file anew; pickled, a memmap becomes a copy of every pixel in it.
        return {**self.__dict__, "_pixels": None, "_states": None}

    def _decode(self, index: int) -> np.ndarray:
        return scale_picture(decode_record(self.records[index]), self.long_side)

    def _identity(self) -> str:
        return fingerprint(
            [
                self.long_side,
                DECODING_VERSION,
                [_file_stamp(record.picture) for record in self.records],
            ]
        )

    def _create(self) -> None:
        boot = self._path.with_suffix(".boot")
        current = _boot_identity()
        if boot.exists() and boot.read_bytes() == current and self._path.with_suffix(".pixels").exists():
            return
        # From here to the last line nothing in these files counts: a kill in between leaves no .boot.
        boot.unlink(missing_ok=True)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        needed, free = int(self.offsets[-1]), shutil.disk_usage(self._path.parent).free
        if needed > free:
            # Writing to a mapped file on a full disk would end the process without a word.
            raise UserError(
                f"{self._path.parent}: decoded pictures need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; make "
                "room, or set cache_gigabytes lower (0: decode at every use)"
            )
        for suffix, length in ((".pixels", int(self.offsets[-1])), (".states", len(self.records))):
            with atomic_path(self._path.with_suffix(suffix)) as temporary, temporary.open("wb") as stream:
                # Zeros without writing them: EMPTY is 0, and a hole takes no room on the disk.
                stream.truncate(length)
        write_bytes(boot, current)

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        if self._pixels is None or self._states is None:
            self._pixels = np.memmap(self._path.with_suffix(".pixels"), np.uint8, "r+")
            self._states = np.memmap(self._path.with_suffix(".states"), np.uint8, "r+")
        return self._pixels, self._states


def picture_identity(records: Sequence[Record]) -> list[list[str | int]]:
    """What tells whether pictures are still the same: key, place, length and times of change of each file."""
    return [[record.key, *_file_stamp(record.picture)] for record in records]


def _file_stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError:
        return str(path.absolute()), -1, -1, -1


def _boot_identity() -> bytes:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_bytes() if path.exists() else b"unknown"
