"""Picture files that are none: the reason is plain, whatever library looks first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import marauder.models.ultralytics_adapter  # noqa: F401 - Ultralytics replaces Image.open, and asks for its package
from marauder.data.formats.deepfish import _mask_boxes
from marauder.data.picture_files import PictureError, load_rgb, load_small_grey, read_header


@pytest.mark.parametrize("read", [read_header, load_rgb, lambda path: load_small_grey(path, 8, 8)])
def test_text_in_the_place_of_a_picture_is_told_plainly(read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture at all", encoding="utf-8")
    with pytest.raises(PictureError) as error:
        read(tmp_path / "text.png")
    assert (error.value.kind, str(error.value)) == ("unreadable", "not a readable picture (cannot identify image file)")


def test_text_in_the_place_of_a_mask_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_text("no mask at all", encoding="utf-8")
    assert _mask_boxes(tmp_path / "mask.png") == "the mask cannot be read (cannot identify image file)"
