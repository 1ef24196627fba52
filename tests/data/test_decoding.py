"""One picture, one set of pixels: every kind of picture gives the same to all who decode it, or is refused by all."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from marauder.data.duplicates import hash_picture
from marauder.data.manifests.measure import LONG_SIDE, measure_picture, shrunk
from marauder.data.picture_files import PictureError, load_rgb, load_small_grey, pointer_hint, read_header
from marauder.data.pictures import UnreadablePictureError, decode_picture
from marauder.preprocessing.codec import BadPictureError, decode

HEIGHT, WIDTH = 24, 40
DRAW = np.random.default_rng(7)
BYTES = DRAW.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
DEEP = DRAW.integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)
TWELVE = DEEP >> 4
SHARES = DRAW.random((HEIGHT, WIDTH), dtype=np.float32)
REFUSALS = (PictureError, UnreadablePictureError, BadPictureError)

USERS: dict[str, Callable[[Path], np.ndarray]] = {
    "training": decode_picture,
    "thumbnails": load_rgb,
    "statistics": shrunk,
    "step 0": lambda path: decode(path.read_bytes())[..., ::-1],
}
"""All give uint8 (H, W, 3), red first."""


def by_pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    """``pixels``: grey, or red first."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(suffix, pixels)[1])


def packed_tiff(values: np.ndarray) -> bytes:
    """A grey TIFF of 12 bits a pixel, two pixels in three bytes."""
    first, second = values[:, ::2], values[:, 1::2]
    data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8).tobytes()
    tags = {256: WIDTH, 257: HEIGHT, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: HEIGHT, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag > 270 else 3, 1, value) for tag, value in tags.items())
    content = b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return content + data


def in_three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def palette() -> Image.Image:
    return Image.fromarray(BYTES[..., :3]).quantize(16)


KINDS: dict[str, tuple[bytes, np.ndarray]] = {
    "16-bit grey PNG": (by_opencv(".png", DEEP[..., 0]), in_three(DEEP[..., 0] >> 8)),
    "16-bit colour PNG": (by_opencv(".png", DEEP[..., :3]), DEEP[..., :3] >> 8),
    "16-bit alpha PNG": (by_opencv(".png", DEEP), DEEP[..., :3] >> 8),
    "16-bit grey TIFF": (by_opencv(".tif", DEEP[..., 0]), in_three(DEEP[..., 0] >> 8)),
    "16-bit colour TIFF": (by_opencv(".tif", DEEP[..., :3]), DEEP[..., :3] >> 8),
    "16-bit negative TIFF": (
        by_pillow(Image.fromarray(DEEP[..., 0]), "TIFF", tiffinfo={262: 0}),
        in_three(255 - (DEEP[..., 0] >> 8)),
    ),
    "12 bits in a grey PNG": (by_opencv(".png", TWELVE[..., 0]), in_three(TWELVE[..., 0] >> 4)),
    "12 bits in a colour PNG": (by_opencv(".png", TWELVE[..., :3]), TWELVE[..., :3] >> 4),
    "12 bits in an alpha PNG": (by_opencv(".png", np.dstack([TWELVE[..., :3], DEEP[..., 3]])), TWELVE[..., :3] >> 4),
    "12 bits in a grey TIFF": (by_opencv(".tif", TWELVE[..., 0]), in_three(TWELVE[..., 0] >> 4)),
    "12 bits in a colour TIFF": (by_opencv(".tif", TWELVE[..., :3]), TWELVE[..., :3] >> 4),
    "12-bit TIFF": (packed_tiff(TWELVE[..., 0]), in_three(TWELVE[..., 0] >> 4)),
    "32-bit TIFF, 8 bits": (
        by_pillow(Image.fromarray(BYTES[..., 0].astype(np.int32)), "TIFF"),
        in_three(BYTES[..., 0]),
    ),
    "32-bit TIFF, 16 bits": (
        by_pillow(Image.fromarray(DEEP[..., 0].astype(np.int32)), "TIFF"),
        in_three(DEEP[..., 0] >> 8),
    ),
    "float TIFF, shares": (by_pillow(Image.fromarray(SHARES), "TIFF"), in_three(np.rint(SHARES * 255))),
    "float TIFF, levels": (by_pillow(Image.fromarray(SHARES * 200 + 9), "TIFF"), in_three(np.rint(SHARES * 200 + 9))),
    "grey PNG": (by_pillow(Image.fromarray(BYTES[..., 0]), "PNG"), in_three(BYTES[..., 0])),
    "1-bit PNG": (by_pillow(Image.fromarray(BYTES[..., 0] > 99), "PNG"), in_three((BYTES[..., 0] > 99) * 255)),
    "LA PNG": (by_pillow(Image.fromarray(BYTES[..., :2], "LA"), "PNG"), in_three(BYTES[..., 0])),
    "RGBA PNG": (by_pillow(Image.fromarray(BYTES), "PNG"), BYTES[..., :3]),
    "RGBA TIFF": (by_pillow(Image.fromarray(BYTES), "TIFF"), BYTES[..., :3]),
    "RGBA WebP": (by_pillow(Image.fromarray(BYTES), "WEBP", lossless=True, exact=True), BYTES[..., :3]),
    "RGB BMP": (by_pillow(Image.fromarray(BYTES[..., :3]), "BMP"), BYTES[..., :3]),
    "palette PNG": (
        by_pillow(palette(), "PNG", transparency=bytes([0, 100, *[255] * 14])),
        np.asarray(palette().convert("RGB")),
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_gives_the_right_pixels_to_all(kind: str, tmp_path: Path) -> None:
    content, expected = KINDS[kind]
    path = tmp_path / "picture.png"  # the name decides nothing
    path.write_bytes(content)
    for user, read in USERS.items():
        assert np.array_equal(read(path), expected), user
    small = Image.fromarray(expected.astype(np.uint8)).convert("L").resize((18, 16), Image.Resampling.BOX)
    assert np.array_equal(load_small_grey(path, 18, 16), np.asarray(small))
    assert hash_picture(path).grey == small.tobytes()
    assert measure_picture(shrunk(path)) == measure_picture(expected.astype(np.uint8))


def test_cielab_and_cmyk_become_what_they_show(tmp_path: Path) -> None:
    smooth = cv2.resize(BYTES[:4, :6, :3], (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    lab = Image.new("LAB", (WIDTH, HEIGHT), (140, 158, 108))  # L* 54.9, a* 30, b* -20
    shown = cv2.cvtColor(np.array([[[140 / 2.55, 30, -20]]], np.float32), cv2.COLOR_LAB2RGB)[0, 0] * 255
    cmyk = by_pillow(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=98)
    for content, expected, far in ((by_pillow(lab, "TIFF"), shown, 3), (cmyk, smooth, 12)):
        (tmp_path / "picture.tif").write_bytes(content)
        found = {user: read(tmp_path / "picture.tif") for user, read in USERS.items()}
        assert np.abs(found["training"] - expected.astype(float)).max() < far
        assert all(np.array_equal(found["training"], pixels) for pixels in found.values())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stored_turned_are_upright_for_all(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    colours, grey = Image.fromarray(BYTES[..., :3]), Image.fromarray(DEEP[..., 0])
    levels = in_three(DEEP[..., 0] >> 8)
    jpeg = by_pillow(colours, "JPEG", exif=exif, quality=90)
    kinds = [
        (by_pillow(colours, "PNG", exif=exif), BYTES[..., :3]),
        (by_pillow(colours, "TIFF", exif=exif), BYTES[..., :3]),
        (by_pillow(colours, "TIFF", exif=exif, compression="tiff_lzw"), BYTES[..., :3]),
        (by_pillow(colours, "WEBP", exif=exif, lossless=True), BYTES[..., :3]),
        (jpeg, np.asarray(Image.open(io.BytesIO(jpeg)))),
        (by_pillow(palette(), "PNG", exif=exif), np.asarray(palette().convert("RGB"))),
        (by_pillow(grey, "PNG", exif=exif), levels),
        (by_pillow(grey, "TIFF", exif=exif), levels),
    ]
    path = tmp_path / "picture.jpg"
    for content, stored in kinds:
        path.write_bytes(content)
        reference = Image.fromarray(stored)
        reference.getexif()[274] = orientation
        expected = np.asarray(ImageOps.exif_transpose(reference))
        for user, read in USERS.items():
            assert np.array_equal(read(path), expected), user
        header = read_header(path)
        assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)


@pytest.mark.parametrize(
    "values",
    [
        np.where(SHARES > 0.5, np.float32("nan"), SHARES),
        np.where(SHARES > 0.5, np.float32("inf"), SHARES),
        SHARES - 0.5,
        SHARES * 4000,
        DEEP[..., 0].astype(np.int32) - 5000,
        DEEP[..., 0].astype(np.int32) * 3,
    ],
    ids=["nan", "infinite", "negative", "beyond 255", "negative whole", "beyond 16 bits"],
)
def test_what_cannot_be_shown_truthfully_is_refused_by_all_with_the_remedy(values: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    Image.fromarray(values).save(path)
    for read in (*USERS.values(), hash_picture):
        with pytest.raises(REFUSALS, match="convert it to 8-bit RGB") as error:
            read(path)
        assert getattr(error.value, "kind", "unreadable") == "unreadable"


def test_a_kind_of_tiff_that_is_not_read_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    path.write_bytes(by_opencv(".tif", np.dstack([SHARES] * 3)))
    for read in (*USERS.values(), hash_picture, read_header):
        with pytest.raises(REFUSALS, match="convert it to 8-bit RGB"):
            read(path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})],
)
def test_a_picture_cut_anywhere_is_called_truncated_by_all(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    smooth = cv2.resize(BYTES[:6, :10, :3], (160, 120), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[274] = 6
    whole = by_pillow(Image.fromarray(smooth), kind, exif=exif, **options)
    for kept in (len(whole) // 5, len(whole) // 2, len(whole) - 300, len(whole) - 20):
        (tmp_path / "cut.jpg").write_bytes(whole[:kept])
        for read in (*USERS.values(), hash_picture):
            with pytest.raises(REFUSALS, match="truncated") as error:
                read(tmp_path / "cut.jpg")
            assert getattr(error.value, "kind", "truncated") == "truncated"


def test_real_pictures_are_decoded_as_opencv_does(shared_data: Path) -> None:
    paths = sorted((shared_data / "aquarium/images").rglob("*.jpg"))[::25]
    paths += sorted((shared_data / "deepfish").rglob("*.jpg"))[::60]
    assert len(paths) > 30
    for path in paths:
        content = path.read_bytes()
        reference = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(decode_picture(path), reference), path
        assert np.array_equal(load_rgb(path), np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")))
        with Image.open(path) as image:
            image.draft("RGB", (100, 100))
            assert np.array_equal(load_rgb(path, 100), np.asarray(ImageOps.exif_transpose(image)))
        with Image.open(path) as image:
            image.draft("L", (72, 64))
            small = ImageOps.exif_transpose(image).convert("L").resize((18, 16), Image.Resampling.BOX)
            assert np.array_equal(load_small_grey(path, 18, 16), np.asarray(small))
        assert max(shrunk(path).shape) <= LONG_SIDE


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n", encoding="utf-8")
    for read in (*USERS.values(), hash_picture, read_header):
        with pytest.raises(REFUSALS, match=r"Git LFS pointer.*git lfs pull"):
            read(path)
    assert pointer_hint(b"0 0.5 0.5 0.1 0.1\n") is None


@pytest.mark.parametrize("tracked", ["a/b/picture.jpg.dvc", "a/b.dvc", "a.dvc"])
def test_a_picture_that_dvc_keeps_elsewhere_is_named(tracked: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "picture.jpg"
    path.parent.mkdir(parents=True)
    for read in (decode_picture, load_rgb, hash_picture, read_header):
        with pytest.raises(REFUSALS, match="does not exist"):
            read(path)
    (tmp_path / tracked).write_text("outs: []\n", encoding="utf-8")
    for read in (decode_picture, load_rgb, hash_picture, read_header):
        with pytest.raises(REFUSALS, match="dvc pull"):
            read(path)
