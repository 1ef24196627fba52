"""Picture files: which files are pictures, their size as displayed (header only), small grey copies, full RGB
arrays.

Sizes and arrays are those of the picture as displayed: the EXIF orientation (TIFF/EP tag 274) is applied.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
ORIENTATION_TAG = 274
HEADER_THREADS = 8
# Pillow reports bytes that cannot be a picture with any of these; ImportError comes from Ultralytics, which replaces
# Image.open when imported and then wants another package for every file that Pillow does not know.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    MemoryError,
    EOFError,
    IndexError,
    ImportError,
)


class PictureError(Exception):
    """A picture that cannot be used. ``kind`` is one of ``missing``, ``empty``, ``unreadable``,
    ``truncated``."""

    def __init__(self, path: Path, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.path, self.kind, self.detail = path, kind, detail


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a picture say: size in pixels as displayed, EXIF orientation 1..8 (1: stored
    upright)."""

    width: int
    height: int
    orientation: int = 1


def is_picture(path: Path | str) -> bool:
    """Whether the file name has a picture's suffix and is not hidden."""
    name = os.path.basename(path)  # noqa: PTH119 - called for every file of large folders
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def find_pictures(folder: Path) -> list[Path]:
    """All pictures below ``folder``, sorted by path; hidden folders are skipped, linked folders followed
    once."""
    found: list[Path] = []
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(Path(directory, name) for name in files if is_picture(name))
    return sorted(found)


def read_header(path: Path) -> Header:
    """Size and orientation from the header alone. Raises ``PictureError``."""
    with _opened(path) as image:
        width, height = image.size
        orientation = _orientation(image)
    if orientation >= 5:
        width, height = height, width
    return Header(width, height, orientation)


def read_headers(paths: Sequence[Path], threads: int = HEADER_THREADS) -> list[Header | PictureError]:
    """Headers of many pictures, in order, read in threads so that slow storage is waited for once, not 10,000
    times."""

    def read_block(block: Sequence[Path]) -> list[Header | PictureError]:
        results: list[Header | PictureError] = []
        for path in block:
            try:
                results.append(read_header(path))
            except PictureError as error:
                results.append(error)
        return results

    blocks = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    if len(blocks) < 2:
        return read_block(paths)
    with ThreadPoolExecutor(threads) as pool:
        return [header for block in pool.map(read_block, blocks) for header in block]


def load_rgb(path: Path, at_least: int | None = None) -> np.ndarray:
    """The picture as displayed: uint8 (H, W, 3). Raises ``PictureError``.

    With ``at_least`` a JPEG may come at 1/2, 1/4 or 1/8 of its size (decoded so at once, much faster), but
    with no side below ``at_least`` pixels.
    """
    with _opened(path) as image:
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        _load(path, image)
        upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        return np.asarray(upright.convert("RGB"))


def load_small_grey(path: Path, width: int, height: int) -> np.ndarray:
    """The whole picture as displayed, squeezed to ``height`` x ``width`` grey levels: uint8 (height, width).

    Reads the whole file (a JPEG at reduced scale), so that a truncated one raises ``PictureError``.
    """
    with _opened(path) as image:
        image.draft("L", (width * 4, height * 4))
        _load(path, image)
        upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        return np.asarray(upright.convert("L").resize((width, height), Image.Resampling.BOX))


def common_suffix_match(stale: str, roots: Iterable[Path]) -> Path | None:
    """Find a path whose root no longer exists: the longest trailing part of ``stale`` that exists under one
    of ``roots``."""
    parts = [part for part in stale.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        for root in roots:
            candidate = root.joinpath(*parts[start:])
            if path_exists(candidate):
                return candidate
    return None


def path_exists(path: Path) -> bool:
    """Whether something is at ``path``; a name too long or with a NUL byte, which no file can have, is not there."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for such names


def _opened(path: Path) -> ImageFile.ImageFile:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise PictureError(path, "missing", "the picture does not exist") from None
    except DECODER_ERRORS as error:
        # os.path.isfile, unlike Path.is_file, is False for a name too long to be one.
        if os.path.isfile(path) and path.stat().st_size == 0:  # noqa: PTH113
            raise PictureError(path, "empty", "the file has no bytes") from None
        raise PictureError(path, "unreadable", f"not a readable picture ({plain_reason(error)})") from None


def _load(path: Path, image: Image.Image) -> None:
    try:
        image.load()
    except DECODER_ERRORS as error:
        text = plain_reason(error)
        cut = "truncated" in text.lower() or isinstance(error, EOFError)
        raise PictureError(path, "truncated" if cut else "unreadable", f"the pixels cannot be read ({text})") from None


def plain_reason(error: BaseException) -> str:
    """What one of ``DECODER_ERRORS`` says of the picture, without paths and objects."""
    if isinstance(error, ImportError):
        return "cannot identify image file"  # what Pillow says before Ultralytics asks for another package
    text = str(error).split(" <_io")[0].split(" '/")[0].split(" b'")[0].strip()
    return text or type(error).__name__


def _orientation(image: Image.Image) -> int:
    # Image.getexif of a PNG without the tag decodes all pixels to look for a late one; no header read may do
    # that.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return 1  # a broken EXIF block says nothing of the orientation; the pixels may still be fine
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
