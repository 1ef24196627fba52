"""Delivered pictures against those that went out: compressed anew is the same, moved or mirrored is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from marauder.annotation.same_picture import same_picture
from marauder.core.randomness import stream
from marauder.data.picture_files import PictureError

Change = Callable[[Image.Image], Image.Image]


def shifted(pixels: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        padded = np.pad(np.asarray(image), ((0, 0), (pixels, 0), (0, 0)), mode="edge")
        return Image.fromarray(np.ascontiguousarray(padded[:, : image.width]))

    return change


def cropped(image: Image.Image) -> Image.Image:
    across, down = image.width // 20, image.height // 20
    return image.crop((across, down, image.width - across, image.height - down)).resize(image.size)


SAME: dict[str, tuple[Change, int]] = {
    "quality 30": (lambda image: image, 30),
    "quality 70": (lambda image: image, 70),
    "brighter": (lambda image: image.point(lambda value: min(255, int(value * 1.2 + 10))), 85),
}
CHANGED: dict[str, Change] = {
    "mirrored": ImageOps.mirror,
    "flipped": ImageOps.flip,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "shifted by 40": shifted(40),
    "shifted by 15": shifted(15),
    "cropped": cropped,
}


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "aquarium").rglob("*.jpg"))[::20][:12]


def made_again(picture: Path, change: Change, quality: int, folder: Path) -> tuple[Path, tuple[int, int]]:
    with Image.open(picture) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    target = folder / "again.jpg"
    change(upright).save(target, quality=quality)
    return target, upright.size


@pytest.mark.parametrize("name", SAME)
def test_a_picture_encoded_anew_is_the_same(pictures: list[Path], tmp_path: Path, name: str) -> None:
    change, quality = SAME[name]
    for picture in pictures:
        again, size = made_again(picture, change, quality, tmp_path)
        assert same_picture(picture, again, size), picture.name


@pytest.mark.parametrize("name", CHANGED)
def test_a_picture_whose_objects_lie_elsewhere_is_another(pictures: list[Path], tmp_path: Path, name: str) -> None:
    assert len(pictures) > 5
    for picture in pictures:
        again, size = made_again(picture, CHANGED[name], 90, tmp_path)
        assert not same_picture(picture, again, size), picture.name


def test_pictures_without_structure_are_compared_by_their_grey(tmp_path: Path) -> None:
    generator = stream(1, "flat")
    paths = []
    for name, grey in (("a", 60.0), ("b", 63.0), ("c", 160.0)):
        paths.append(tmp_path / f"{name}.png")
        noise = generator.normal(grey, 0.3, (120, 160)).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(paths[-1])
    assert same_picture(paths[0], paths[1], (160, 120)) and not same_picture(paths[0], paths[2], (160, 120))


def test_a_cut_file_is_told(pictures: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(pictures[0].read_bytes()[:3000])
    with pytest.raises(PictureError):
        same_picture(pictures[0], cut, (100, 100))
