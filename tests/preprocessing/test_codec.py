"""Pictures from bytes: rotation is applied and told, damage is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preprocessing_folders import hazy_picture, write_rotated

from marauder.preprocessing.codec import BadPictureError, decode, decode_stored, encode

JPEG = encode(hazy_picture(1), ".jpg", 95)
PNG = encode(hazy_picture(1), ".png", 95)


def test_png_survives_and_jpeg_comes_close() -> None:
    assert np.array_equal(decode(PNG), hazy_picture(1))
    assert np.abs(decode(JPEG).astype(int) - hazy_picture(1)).mean() < 3


@settings(deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_picture_cut_anywhere_is_refused(share: float) -> None:
    for content in (JPEG, PNG):
        with pytest.raises(BadPictureError):
            decode(content[: int(share * len(content))])


def test_whole_pictures_are_not_called_truncated() -> None:
    decode(JPEG + b"trailing bytes of a camera")


def test_a_thumbnail_in_the_header_does_not_hide_a_cut() -> None:
    thumbnail = b"Exif\x00\x00" + JPEG
    header = b"\xff\xd8\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = header + JPEG[2:]
    assert np.array_equal(decode(whole), decode(JPEG))
    with pytest.raises(BadPictureError, match="truncated"):
        decode(whole[:-200])


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff", b"GIF89a" + bytes(50)])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(BadPictureError):
        decode(content)


@pytest.mark.parametrize(
    ("orientation", "shape", "bright"), [(1, (40, 60), "left"), (6, (60, 40), "top"), (3, (40, 60), "right")]
)
def test_rotation_is_applied_and_told(tmp_path: Path, orientation: int, shape: tuple[int, int], bright: str) -> None:
    write_rotated(tmp_path / "picture.jpg", orientation)
    content = (tmp_path / "picture.jpg").read_bytes()
    picture = decode(content)
    assert picture.shape[:2] == shape
    halves = {
        "left": picture[:, : shape[1] // 2],
        "right": picture[:, shape[1] // 2 :],
        "top": picture[: shape[0] // 2],
    }
    assert halves[bright].mean() > 180
    assert decode_stored(content).orientation == orientation


def test_both_byte_orders_of_exif_are_read() -> None:
    entry = {"big": b"MM\x00*", "little": b"II*\x00"}
    for order, start in entry.items():

        def number(value: int, length: int, order: str = order) -> bytes:
            return value.to_bytes(length, "little" if order == "little" else "big")

        tiff = start + number(8, 4) + number(1, 2) + number(0x0112, 2) + number(3, 2) + number(1, 4) + number(8, 2)
        block = b"Exif\x00\x00" + tiff + bytes(6)
        content = b"\xff\xd8\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + JPEG[2:]
        assert decode_stored(content).orientation == 8


@settings(deadline=None, max_examples=200)
@given(position=st.integers(0, len(JPEG) - 1), value=st.integers(0, 255))
def test_damaged_bytes_never_raise_anything_else(position: int, value: int) -> None:
    content = JPEG[:position] + bytes([value]) + JPEG[position + 1 :]
    with contextlib.suppress(BadPictureError):
        decode(content)
