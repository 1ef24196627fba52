"""Contact sheets show pictures, boxes in the right place and unreadable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_sets
from PIL import Image

from marauder.data.contact_sheets import Tile, contact_sheet, draw_tile, tile_of
from marauder.data.records import Record


def test_size_and_formats(tmp_path: Path):
    tiles = [Tile(np.full((60, 80, 3), 90, np.uint8), f"picture {n} – ø") for n in range(5)]
    for suffix in (".png", ".jpg", ".webp"):
        path = contact_sheet(tiles, tmp_path / f"sheet{suffix}", columns=2, tile_width=160, title="Title")
        with Image.open(path) as image:
            assert image.width == 2 * (160 + 6) + 6
            assert image.height > 3 * 120
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_boxes_are_drawn_where_they_are():
    black = np.zeros((100, 200, 3), np.uint8)
    tile = Tile(black, boxes=np.array([[50.0, 20, 150, 80]]), colours=[(255, 0, 0)])
    image = np.asarray(draw_tile(tile, 400, 300))
    assert image.shape == (200, 400, 3)
    red = np.argwhere(image[:, :, 0] > 200)
    assert np.abs(red.min(axis=0) - [40, 100]).max() <= 2
    assert np.abs(red.max(axis=0) - [160, 300]).max() <= 2


def test_boxes_of_a_large_jpeg_that_is_decoded_small(tmp_path: Path):
    path = tmp_path / "large.jpg"
    Image.new("RGB", (1600, 1200), (0, 0, 0)).save(path)
    record = Record("k", path, 1600, 1200, np.array([[400.0, 300, 1200, 900]]), np.array([0]))
    image = np.asarray(draw_tile(tile_of(record, ["fish"]), 320, 240))
    bright = np.argwhere(image.max(axis=2) > 150)
    assert np.abs(bright.max(axis=0) - [180, 240]).max() <= 2


def test_rotated_pictures_stand_upright(tmp_path: Path):
    path = small_sets.picture(tmp_path / "a.jpg", orientation=6)
    assert draw_tile(Tile(path), 300, 300).size == (225, 300)


def test_an_unreadable_picture_is_a_tile_that_says_so(tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"x")
    assert contact_sheet([Tile(tmp_path / "bad.jpg"), Tile(tmp_path / "none.jpg")], tmp_path / "s.png").exists()


def test_the_widest_caption_stays_under_its_own_tile(tmp_path: Path):
    dark = np.zeros((30, 40, 3), np.uint8)
    sheet = contact_sheet([Tile(dark, "picture-unreadable:\n" + "W" * 90), Tile(dark)], tmp_path / "s.png", 2, 200)
    pixels = np.asarray(Image.open(sheet)).astype(int)
    bottom = pixels[-24:, 206 + 2 :]  # under the second tile, which has no caption
    assert pixels[-24:, :206].max() > 200 > bottom.max()


def test_what_is_said_in_place_of_a_picture_needs_none(tmp_path: Path):
    tile = draw_tile(Tile(tmp_path / "a.xml", instead="picture that does not exist"), 300, 200)
    assert tile.size == (300, 200) and np.asarray(tile).max() > 200


def test_mistakes(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], tmp_path / "s.png")
    with pytest.raises(ValueError, match="is one of"):
        contact_sheet([Tile(np.zeros((4, 4, 3), np.uint8))], tmp_path / "s.gif")
    with pytest.raises(ValueError, match="1 boxes but 2 labels"):
        Tile(np.zeros((4, 4, 3), np.uint8), boxes=np.zeros((1, 4)), labels=["a", "b"])


def test_tiles_have_the_shape_of_most_pictures(tmp_path: Path):
    upright, wide = np.zeros((400, 300, 3), np.uint8), np.zeros((90, 300, 3), np.uint8)
    sheet = contact_sheet([Tile(upright), Tile(upright), Tile(wide)], tmp_path / "sheet.png", 3, 300)
    assert Image.open(sheet).size == (3 * 306 + 6, 400 + 20 + 6 + 6)
    assert Image.open(contact_sheet([Tile(wide)], tmp_path / "wide.png", 1, 300)).size[1] == 150 + 32


def test_captions_are_shortened_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda self, place, text, **how: written.append(text))
    names = [f"IMG_8590_MOV-{number}_jpg.rf.0123456789abcdef0123456789abcdef-{number}" for number in (3, 4)]
    contact_sheet([Tile(np.zeros((30, 40, 3), np.uint8), name) for name in names], tmp_path / "sheet.png", 2, 200)
    assert len(set(written)) == 2 and all(len(text) <= 30 and "…" in text for text in written)
    assert [text[-2:] for text in written] == ["-3", "-4"]
