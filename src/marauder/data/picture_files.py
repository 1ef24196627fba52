"""Picture files: which files are pictures, their size as displayed (header only), and what pixels they have.

Sizes and arrays are those of the picture as displayed: the EXIF orientation (TIFF/EP tag 274) is applied. Whoever
trains on a picture, measures, compares or shows it decodes it with ``decode``, so that all see the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

DECODING_VERSION = 1
"""Raised whenever a picture gives other pixels than before, so that what was kept of the old ones is made anew."""

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
ORIENTATION_TAG = 274
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_PHOTOMETRIC = 256, 257, 258, 262
WHITE_IS_ZERO = 0
HEADER_THREADS = 8
JPEG_START, PNG_START, WEBP_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF"
TIFF_STARTS = (b"II*\x00", b"MM\x00*")
START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"
TRUNCATED = "the file is truncated: its end is missing"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
DVC_LEVELS = 4
"""Folders above a missing picture that are looked at for being tracked by DVC."""
# OpenCV gives the pixels that Pillow gives, in less time.
FAST_FORMATS = frozenset({"JPEG", "MPO", "PNG", "BMP", "WEBP"})
FAST_MODES = frozenset({"L", "RGB", "RGBA"})
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
    """A picture that cannot be used. ``kind`` is one of ``missing``, ``empty``, ``unreadable``, ``truncated``."""

    def __init__(self, path: Path, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.path, self.kind, self.detail = path, kind, detail


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a picture say: size in pixels as displayed, EXIF orientation 1..8 (1: stored upright)."""

    width: int
    height: int
    orientation: int = 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels as displayed, uint8 (H, W, 3), red first; how they were stored: EXIF orientation 1..8, bits a channel."""

    pixels: np.ndarray
    orientation: int
    bits: int


def is_picture(path: Path | str) -> bool:
    """Whether the file name has a picture's suffix and is not hidden."""
    name = os.path.basename(path)  # noqa: PTH119 - called for every file of large folders
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def find_pictures(folder: Path) -> list[Path]:
    """All pictures below ``folder``, sorted by path; hidden folders are skipped, linked folders followed once."""
    found = (Path(directory, name) for directory, files in walk_once(folder) for name in files if is_picture(name))
    return sorted(found)


def walk_once(folder: Path, passing_over: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every folder from ``folder`` on with the names of its files, in the order of paths; hidden folders, and the one
    named ``passing_over`` at the top, are skipped, linked folders followed once."""
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        skipped = {passing_over} if not seen else set()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skipped)
        yield directory, files


def read_header(path: Path) -> Header:
    """Size and orientation from the header alone. Raises ``PictureError``."""
    with _opened(path) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):  # Pillow turns the size of a TIFF itself
            width, height = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
        orientation = _orientation(image)
    if orientation >= 5:
        width, height = height, width
    return Header(width, height, orientation)


def read_headers(paths: Sequence[Path], threads: int = HEADER_THREADS) -> list[Header | PictureError]:
    """Headers of many pictures, in order; read in threads, so that slow storage is not waited for once a picture."""

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
    """The picture as displayed: uint8 (H, W, 3), red first. Raises ``PictureError``.

    With ``at_least`` a JPEG may come at 1/2, 1/4 or 1/8 of its size (decoded so at once, much faster), but
    with no side below ``at_least`` pixels.
    """
    return decode(_content(path), path, (at_least, at_least) if at_least else None).pixels


def load_small_grey(path: Path, width: int, height: int) -> np.ndarray:
    """The whole picture as displayed, squeezed to ``height`` x ``width`` grey levels: uint8 (height, width).

    Reads the whole file (a JPEG at reduced scale, its brightness alone), so that a truncated one raises
    ``PictureError``.
    """
    pixels = decode(_content(path), path, (width * 4, height * 4), grey=True).pixels
    return np.asarray(Image.fromarray(pixels).convert("L").resize((width, height), Image.Resampling.BOX))


def decode(content: bytes, path: Path, at_least: tuple[int, int] | None = None, grey: bool = False) -> Decoded:
    """The pixels of the picture file ``content``. Raises ``PictureError``, which names ``path``.

    Transparency is dropped, CMYK and CIELAB are converted, 16 bits a channel become their high byte. A 16-bit picture
    with no value above 4095 is taken for one of 12 bits (read as 16 it would be all but black), of which the high 8 are
    kept. Whole numbers of 32 bits are taken for 8, 12 or 16 bits, whichever holds them all; floating-point values for
    shares of 1 if none is above 1, else for levels up to 255. Anything else is refused.

    ``at_least``: width and height in pixels, as stored; a JPEG may come at 1/2, 1/4 or 1/8 of its size, but not below.
    ``grey``: a JPEG may come as its brightness alone, uint8 (H, W).
    """
    image = _opened(path, content)
    # Checked first, since a decoder may fill what is missing with grey and say nothing.
    if _is_cut(content):
        raise PictureError(path, "truncated", TRUNCATED)
    orientation, bits = _orientation(image), _bits(image, content)
    turn, pixels = orientation, None
    if image.format in FAST_FORMATS and image.mode in FAST_MODES and bits <= 8:
        pixels = _fast_pixels(content, image, at_least, grey)
    if pixels is None:
        try:
            image.load()
        except DECODER_ERRORS as error:
            raise _refusal(path, content, plain_reason(error)) from None
        pixels = _converted(path, content, image, bits)
        turn = 1 if image.format == "TIFF" else orientation  # Pillow and OpenCV turn a TIFF themselves
    return Decoded(_turned(pixels, turn), orientation, bits)


def pointer_hint(head: bytes) -> str | None:
    """What to do if a file that starts with ``head`` only stands for the real one in Git LFS, else ``None``."""
    return "Git LFS pointer, not the file itself: run `git lfs pull`" if head.startswith(LFS_POINTER) else None


def common_suffix_match(stale: str, roots: Iterable[Path]) -> Path | None:
    """Find a path whose root no longer exists: the longest end of ``stale`` that exists under one of ``roots``."""
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise missing_picture(path) from None
    except DECODER_ERRORS as error:
        raise _refusal(path, None, plain_reason(error)) from None


def _opened(path: Path, content: bytes | None = None) -> ImageFile.ImageFile:
    """The picture with its header read, from ``content`` or else from the file."""
    try:
        return Image.open(path if content is None else BytesIO(content))
    except FileNotFoundError:
        raise missing_picture(path) from None
    except DECODER_ERRORS as error:
        raise _refusal(path, _content(path) if content is None else content, plain_reason(error)) from None


def missing_picture(path: Path) -> PictureError:
    """The error for a picture that is not there; it says so if the picture or a folder above it is tracked by DVC."""
    place = path.absolute()
    tracked = any(os.path.isfile(f"{one}.dvc") for one in (place, *place.parents[:DVC_LEVELS]))  # noqa: PTH113
    return PictureError(
        path, "missing", "tracked by DVC and not here: run `dvc pull`" if tracked else "the picture does not exist"
    )


def _refusal(path: Path, content: bytes | None, reason: str) -> PictureError:
    """The error for a file that holds no readable picture; ``content`` is ``None`` if it cannot be read at all."""
    if content == b"":
        return PictureError(path, "empty", "the file has no bytes")
    if content is not None and (hint := pointer_hint(content)):
        return PictureError(path, "unreadable", hint)
    if "truncated" in reason.lower() or (content is not None and _is_cut(content)):
        return PictureError(path, "truncated", TRUNCATED)
    if content is not None and content.startswith(TIFF_STARTS):
        reason += "; should it be a TIFF of a rare kind, convert it to 8-bit RGB"
    return PictureError(path, "unreadable", f"not a readable picture ({reason})")


def _is_cut(content: bytes) -> bool:
    """Whether a file ends before it says it does.

    In a JPEG the end marker is looked for behind the first scan, where it cannot occur by chance (ITU-T T.81, B.1.1.5);
    a thumbnail in the EXIF block has one of its own.
    """
    if content.startswith(JPEG_START):
        return content.rfind(END_OF_IMAGE, _position_of_scan(content)) < 0
    if content.startswith(PNG_START):
        return content.rfind(b"IEND") < 0
    if content.startswith(WEBP_START):
        # RIFF states the length of what follows its first 8 bytes.
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    # The first directory of a TIFF is often at its end; bytes 4 to 7 say where.
    return content.startswith(TIFF_STARTS) and len(content) <= int.from_bytes(content[4:8], order)


def _position_of_scan(content: bytes) -> int:
    """Where the payload of a JPEG's first scan segment starts; 0 if the segments before it cannot be followed."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == START_OF_SCAN:
            return position + 4
        # Any number of 0xFF may stand before a marker.
        position += 1 if marker == 0xFF else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return 0


def _bits(image: ImageFile.ImageFile, content: bytes) -> int:
    """Bits a channel as stored; Pillow's mode does not tell those of colour pictures."""
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(TIFF_BITS, (1,))))
    return content[24] if image.format == "PNG" else 8  # in the chunk IHDR, always the first


def _fast_pixels(
    content: bytes, image: ImageFile.ImageFile, at_least: tuple[int, int] | None, grey: bool
) -> np.ndarray | None:
    """Pixels as stored, by OpenCV; ``None`` if it refuses the file."""
    import cv2

    # With IMREAD_COLOR_RGB these give colours; with IMREAD_COLOR as well, OpenCV refuses.
    reduced = {
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        1: cv2.IMREAD_GRAYSCALE,
    }
    jpeg = image.format in ("JPEG", "MPO")
    reach = min(image.width // at_least[0], image.height // at_least[1]) if at_least and jpeg else 1
    flags = next((flags for scale, flags in reduced.items() if reach >= scale), cv2.IMREAD_GRAYSCALE)
    flags |= cv2.IMREAD_IGNORE_ORIENTATION | (0 if grey and jpeg else cv2.IMREAD_COLOR_RGB)
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None


def _converted(path: Path, content: bytes, image: Image.Image, bits: int) -> np.ndarray:
    """Pixels of a loaded picture of any kind as uint8 (H, W, 3), by the rules of ``decode``."""
    if image.mode.startswith(("I", "F")):
        levels = _levels(path, np.asarray(image), bits)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
            levels = 255 - levels
        return np.repeat(levels[..., None], 3, axis=2)
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None  # None only where it works in place
        return np.asarray(converted)
    image.info.pop("transparency", None)  # dropped anyway, and Pillow warns of it
    pixels = np.asarray(image.convert("RGB"))
    if bits == 16 and pixels.max() < 16:
        # Pillow keeps the high bytes of colours only, and these say that no value is above 4095.
        import cv2

        # With IMREAD_COLOR_RGB, OpenCV 5.0 gives noise for a TIFF of 16 bits.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        deep = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if deep is None:
            raise _refusal(path, content, "the low bytes of its 16-bit colours cannot be decoded")
        pixels = _levels(path, deep[..., ::-1], bits)
    return pixels


def _levels(path: Path, values: np.ndarray, bits: int) -> np.ndarray:
    """Levels 0..255 of values that take more than 8 bits, by the rules of ``decode``."""
    low, high = values.min(), values.max()
    floating = values.dtype.kind == "f"
    # Negated as a whole, since NaN makes every comparison false.
    if not (low >= 0 and high <= (255 if floating else 65535)):
        found = "some of its values are not numbers" if np.isnan(low) else f"its values run from {low:g} to {high:g}"
        raise PictureError(path, "unreadable", f"{found}, so its brightness is unknown: convert it to 8-bit RGB")
    if floating:
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    shift = 0 if bits == 32 and high <= 255 else 4 if high <= 4095 else 8
    return (values >> shift).astype(np.uint8)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels stored with an EXIF orientation, 1..8, as displayed."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::down, ::right])


def plain_reason(error: BaseException) -> str:
    """What one of ``DECODER_ERRORS`` says of the picture, without paths and objects."""
    if isinstance(error, ImportError):
        return "cannot identify image file"  # what Pillow says before Ultralytics asks for another package
    text = str(error).split(" <_io")[0].split(" '/")[0].split(" b'")[0].strip()
    return text or type(error).__name__


def _orientation(image: Image.Image) -> int:
    # Image.getexif of a PNG without the tag decodes all pixels to look for a late one; no header read may do that.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return 1  # a broken EXIF block says nothing of the orientation; the pixels may still be fine
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
