"""Which pictures of a pool are labelled already: the same file and copies of it, not whatever is called alike."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from marauder.selection.pool_reading import read_pool
from marauder.selection.settings import SelectionSettings


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path: Path, seed: int) -> Path:
    """An uncompressed picture: all of them have one size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (48, 64, 3)).astype(np.uint8))
    return path


def test_a_picture_of_the_same_name_and_size_is_another_one(tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    for number in (0, 1):
        picture = write(labelled / "images" / "train" / f"frame_{number}.bmp", number)
        text = picture.parents[2] / "labels" / "train" / f"frame_{number}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("0 0.5 0.5 0.2 0.2\n")
    (labelled / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [fish]\n")
    copy = write(tmp_path / "pool" / "dive1" / "frame_0.bmp", 0)
    other = write(tmp_path / "pool" / "dive2" / "frame_0.bmp", 7)
    link = tmp_path / "pool" / "dive3" / "renamed.bmp"
    link.parent.mkdir()
    link.symlink_to(labelled / "images" / "train" / "frame_1.bmp")
    assert other.stat().st_size == copy.stat().st_size
    settings = SelectionSettings(pool=tmp_path / "pool", labelled=labelled / "data.yaml", output=tmp_path / "out")
    found = read_pool(settings)
    assert [record.picture for record in found.pool] == [other]
    assert sorted(found.left_out.values()) == ["are labelled already"] * 2
