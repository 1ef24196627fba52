"""Pictures from bytes and back: decoded upright, refused when damaged, encoded in the format of their name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from marauder.data import picture_files
from marauder.data.picture_files import Decoded, PictureError


class BadPictureError(Exception):
    """A file that cannot be used as a picture; the message says why, without the path."""


def decode(content: bytes) -> np.ndarray:
    """The picture as displayed (EXIF rotation applied): uint8 (H, W, 3), blue, green, red.

    The pixels are those that training sees (``data.picture_files.decode``). Empty, damaged and truncated files raise
    ``BadPictureError``.
    """
    return decode_stored(content).pixels


def decode_stored(content: bytes) -> Decoded:
    """The same with how the picture was stored: EXIF orientation and bits a channel."""
    try:
        decoded = picture_files.decode(content, Path("picture"))
    except PictureError as error:
        raise BadPictureError(error.detail) from None
    return replace(decoded, pixels=cv2.cvtColor(decoded.pixels, cv2.COLOR_RGB2BGR))


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
