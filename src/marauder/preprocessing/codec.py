"""Pictures from bytes and back: decoded upright, refused when damaged, encoded in the format of their name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"
EXIF_HEADER = b"Exif\x00\x00"
JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


class BadPictureError(Exception):
    """A file that cannot be used as a picture; the message says why, without the path."""


def decode(content: bytes) -> np.ndarray:
    """The picture as displayed (EXIF rotation applied): uint8 (H, W, 3), blue, green, red.

    16-bit pictures come as 8-bit, transparency is dropped. Empty, damaged and truncated files raise
    ``BadPictureError``; OpenCV alone would fill the missing part of a truncated JPEG with grey.
    """
    if not content:
        raise BadPictureError("the file is empty")
    if is_truncated(content):
        raise BadPictureError("the picture is truncated: its end is missing")
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadPictureError(f"cannot be decoded ({error.err or 'decoder error'})") from None
    if picture is None:
        raise BadPictureError("cannot be decoded: damaged, or no picture that OpenCV reads")
    return picture


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker; other formats are left to the decoder.

    In a JPEG the marker is looked for behind the first scan, where it cannot occur by chance (ITU-T T.81, B.1.1.5);
    a thumbnail in the EXIF block has one of its own.
    """
    if content.startswith(PNG_START):
        return b"IEND" not in content[-1024:] and b"IEND" not in content
    if not content.startswith(JPEG_START):
        return False
    scan = _position_of_scan(content)
    return scan is None or content.rfind(END_OF_IMAGE, scan) < 0


def has_rotation(content: bytes) -> bool:
    """Whether an EXIF orientation other than upright may be stored, so that the bytes must not be copied as they are.

    Anything but a JPEG counts as rotated when it holds EXIF data at all.
    """
    if not content.startswith(JPEG_START):
        return b"eXIf" in content or b"EXIF" in content
    return _orientation(content) != 1


def encode(picture: np.ndarray, suffix: str, quality: int) -> bytes:
    """Encode uint8 (H, W, 3), blue, green, red, in the format of the file name suffix (``.jpg``, ``.PNG``, ...)."""
    parameters = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }.get(suffix.lower(), [])
    done, content = cv2.imencode(suffix.lower(), picture, parameters)
    if not done:
        raise BadPictureError(f"a picture of this size cannot be written as {suffix}")
    return content.tobytes()


def read_bytes(path: Path) -> bytes:
    """The file's content; what the system refuses to read raises ``BadPictureError``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPictureError(f"cannot be read ({error.strerror})") from None


def _position_of_scan(content: bytes) -> int | None:
    """Where the first scan's segment starts, or ``None`` if the headers end before it."""
    for marker, start, _ in _segments(content):
        if marker == START_OF_SCAN:
            return start
    return None


def _orientation(content: bytes) -> int:
    """EXIF orientation of a JPEG, 1..8; 1 when none is stored, 0 when the EXIF block cannot be followed."""
    for marker, start, end in _segments(content):
        if marker == START_OF_SCAN:
            return 1
        if marker == 0xE1 and content[start : start + 6] == EXIF_HEADER:
            return _orientation_in_tiff(content[start + 6 : end])
    return 1


def _segments(content: bytes) -> list[tuple[int, int, int]]:
    """Marker, start and end of the payload of each segment up to and with the first scan."""
    found: list[tuple[int, int, int]] = []
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        found.append((marker, position + 4, position + 2 + length))
        if marker == START_OF_SCAN:
            break
        position += 2 + length
    return found


def _orientation_in_tiff(tiff: bytes) -> int:
    if tiff[:2] not in (b"II", b"MM") or len(tiff) < 8:
        return 0

    def number(start: int, length: int) -> int:
        return int.from_bytes(tiff[start : start + length], "little" if tiff[:2] == b"II" else "big")

    directory = number(4, 4)
    for index in range(number(directory, 2)):
        entry = directory + 2 + 12 * index
        if number(entry, 2) == 0x0112:
            return number(entry + 8, 2)
    return 1
