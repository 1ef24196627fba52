"""Small folders of pictures with labels, for the tests of preprocessing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

STATE_FILES = (".journal.jsonl", ".lock")


def hazy_picture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A green, hazy scene, uint8 (height, width, 3), blue, green, red."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(30, 220, (8, 10, 3)).astype(np.uint8)
    scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    veiled = 0.35 * scene + 0.65 * np.array([150, 180, 70]) + draw.integers(-3, 4, scene.shape)
    return np.clip(veiled, 0, 255).astype(np.uint8)


def write_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def make_folder(root: Path, count: int = 6, side: int = 96) -> Path:
    """Pictures in ``images/{train,val}`` with YOLO labels, a ``data.yaml`` with an absolute root and a mask."""
    for index in range(count):
        split = "val" if index % 3 == 0 else "train"
        suffix = ".png" if index % 4 == 1 else ".jpg"
        write_picture(root / "images" / split / f"frame_{index:03d}{suffix}", hazy_picture(index, side, side * 4 // 3))
        label = root / "labels" / split / f"frame_{index:03d}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"0 0.5 0.5 0.{index % 8 + 1} 0.2\n")
    write_picture(root / "masks" / "frame_000.png", np.full((side, side, 3), 3, np.uint8))
    names = "names:\n  0: fish\n"
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: {root}/images/val\nnc: 1\n{names}")
    return root


def write_rotated(path: Path, orientation: int) -> None:
    """A JPEG of 60 × 40 pixels, left half bright, with an EXIF orientation."""
    pixels = np.full((40, 60, 3), 30, np.uint8)
    pixels[:, :30] = 220
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` but the journal and the lock, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in STATE_FILES
    }
