"""Detector inputs for checking an export: real pictures fitted as Ultralytics fits them, or seeded patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import fingerprint, hash_file
from marauder.core.randomness import stream
from marauder.data.picture_files import find_pictures
from marauder.data.pictures import UnreadablePictureError, decode_picture
from marauder.exporting.base import GraphOptions
from marauder.imaging.letterbox import fit, fit_rectangle

PATTERN_WIDTH, PATTERN_HEIGHT = 640, 480


@dataclass(frozen=True)
class Pictures:
    """Pictures to check with: uint8 (H, W, 3), red first, each with its name. ``real``: False for patterns.

    ``identity`` changes when any of them does. ``skipped``: what could not be read, in words.
    """

    names: tuple[str, ...]
    images: tuple[np.ndarray, ...] = field(repr=False)
    real: bool
    identity: str
    source: str
    skipped: tuple[str, ...] = ()


def load_pictures(folder: Path | None, count: int, seed: int) -> Pictures:
    """``count`` pictures spread evenly over ``folder`` (and below), or as many patterns when there is no folder.

    Raises ``UserError`` when the folder holds no readable picture.
    """
    if folder is None:
        images = tuple(pattern(seed, index) for index in range(count))
        names = tuple(f"pattern {index}" for index in range(count))
        return Pictures(names, images, False, fingerprint(["patterns", 1, seed, count]), f"{count} generated patterns")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --pictures names a folder of pictures")
    found = find_pictures(folder)
    read: list[np.ndarray] = []
    keys: list[str] = []
    hashes: list[str] = []
    skipped: list[str] = []
    for path in _spread(found, count):
        try:
            read.append(decode_picture(path))
        except UnreadablePictureError as error:
            skipped.append(str(error))
            continue
        keys.append(path.relative_to(folder).as_posix())
        hashes.append(hash_file(path))
    if not read:
        reason = f"none of the {len(skipped)} tried can be read" if skipped else "no pictures in it"
        raise UserError(f"{folder}: {reason}; --pictures names a folder of JPEG or PNG pictures")
    identity = fingerprint([keys, hashes])
    source = f"{len(keys)} pictures of {folder}"
    return Pictures(tuple(keys), tuple(read), True, identity, source, tuple(skipped))


def pattern(seed: int, index: int) -> np.ndarray:
    """A generated picture with soft colour and some fish-like ellipses: uint8 (480, 640, 3)."""
    draw = stream(seed, "export-pattern", index)
    coarse = draw.uniform(20, 150, (6, 8, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (PATTERN_WIDTH, PATTERN_HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(draw.integers(3, 12))):
        centre = (int(draw.integers(0, PATTERN_WIDTH)), int(draw.integers(0, PATTERN_HEIGHT)))
        axes = (int(draw.integers(6, 90)), int(draw.integers(4, 40)))
        colour = tuple(float(value) for value in draw.uniform(0, 255, 3))
        cv2.ellipse(picture, centre, axes, float(draw.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    noise = draw.normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def make_batches(images: Sequence[np.ndarray], options: GraphOptions, stride: int) -> list[np.ndarray]:
    """Inputs float32 (B, 3, H, W) in 0..1 that the exported graph accepts, every picture in one of them.

    A static graph gets full batches of its own shape, the last filled up with its last picture. A dynamic one gets
    pictures padded as little as the stride allows, two of a shape together where there are two.
    """
    shapes: dict[tuple[int, int], list[np.ndarray]] = {}
    for image in images:
        height, width = image.shape[:2]
        if options.dynamic:
            letterbox = fit(width, height, max(options.height, options.width), stride)
        else:
            letterbox = fit_rectangle(width, height, options.width, options.height)
        shapes.setdefault(letterbox.shape, []).append(letterbox.apply(image))
    length = max(options.batch, 2) if options.dynamic else options.batch
    batches = []
    for same in shapes.values():
        for start in range(0, len(same), length):
            chosen = same[start : start + length]
            if not options.dynamic:
                # The model gets the same batches: what fills them up is compared like the rest.
                chosen = chosen + [chosen[-1]] * (length - len(chosen))
            stacked = np.stack(chosen).transpose(0, 3, 1, 2)
            batches.append(np.ascontiguousarray(stacked, np.float32) / np.float32(255))
    return batches


def _spread(paths: list[Path], count: int) -> list[Path]:
    """``count`` of the paths, evenly spaced."""
    if len(paths) <= count:
        return paths
    return [paths[index] for index in np.linspace(0, len(paths) - 1, count).round().astype(int)]
