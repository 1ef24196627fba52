"""Animals cut out of training pictures: a region around a box, and a soft mask of what in it is the animal.

Boxes tell no outline. The mask is found by GrabCut on a reduced copy (Rother, Kolmogorov, Blake, "GrabCut: interactive
foreground extraction using iterated graph cuts", SIGGRAPH 2004): what lies outside the box is background for sure. A
mask that fills hardly anything of the box, or all of it, is no outline; an ellipse with soft borders stands in.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from marauder.imaging.augmentation import Source
from marauder.imaging.copy_paste_settings import CopyPasteSettings

MASK_SIDE = 64
"""Longer side, in pixels, of the copy on which the outline is looked for."""

ROUNDS = 3
PLAUSIBLE_SHARE = (0.15, 0.92)
"""Share of the box that an animal fills; outside of these GrabCut has lost it."""

BORDER = 1.5
"""Pixels within which a box counts as cut off by the picture's border."""

MOST_COVERED = 0.1
"""Share of a cut-out's box that other boxes may cover."""


def cut_outs(source: Source, classes: Iterable[int], settings: CopyPasteSettings) -> list[Source]:
    """The animals of some classes in a picture, each as a picture of its own with one box.

    Left out are those smaller than ``settings.least_side``, cut off by the picture's border, or covered by other boxes.
    """
    wanted = np.isin(source.classes, np.array(sorted(set(classes)), np.int64))
    height, width = source.picture.shape[:2]
    found = []
    for index in np.flatnonzero(wanted):
        box = source.boxes[index]
        sides = box[2:] - box[:2]
        inside = (box[:2] >= BORDER).all() and box[2] <= width - BORDER and box[3] <= height - BORDER
        others = np.delete(source.boxes, index, axis=0)
        if sides.min() < settings.least_side or not inside or covered_share(box, others).sum() > MOST_COVERED:
            continue
        room = np.maximum(settings.margin * sides, 4.0)
        x0, y0 = np.maximum(np.floor(box[:2] - room), 0).astype(int).tolist()
        x1, y1 = np.minimum(np.ceil(box[2:] + room), (width, height)).astype(int).tolist()
        part = np.ascontiguousarray(source.picture[y0:y1, x0:x1])
        found.append(Source(part, (box - [x0, y0, x0, y0])[None], source.classes[index : index + 1]))
    return found


def covered_share(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of ``box`` (4,) that each of ``others`` (N, 4) covers: float64 (N,)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.maximum(sides, 0).prod(axis=1) / max(float((box[2:] - box[:2]).prod()), 1e-9)


def animal_mask(picture: np.ndarray, box: np.ndarray, seed: int) -> np.ndarray:
    """How much of each pixel belongs to the animal in ``box``: float32 (h, w), 0..1, 0 outside of the box.

    ``picture``: uint8 (h, w, 3), the box with some background around it. ``seed`` fixes the draws of GrabCut.
    """
    height, width = picture.shape[:2]
    gain = min(1.0, MASK_SIDE / max(height, width))
    size = (max(8, round(width * gain)), max(8, round(height * gain)))
    scale = np.array([size[0] / width, size[1] / height] * 2)
    x0, y0, x1, y1 = np.clip(np.rint(box * scale), 0, [size[0], size[1]] * 2).astype(int).tolist()
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    mask = _grab_cut(small, (x0, y0, x1, y1), seed)
    share = float(mask[y0:y1, x0:x1].mean()) if x1 > x0 and y1 > y0 else 0.0
    if not PLAUSIBLE_SHARE[0] <= share <= PLAUSIBLE_SHARE[1]:
        mask = _ellipse(size, (x0, y0, x1, y1))
    soft = cv2.GaussianBlur(mask, (0, 0), 0.7)
    soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    # Steeper than the enlarged mask: a border of one to two pixels, as a lens draws it.
    steep = 0.5 + (soft - 0.5) * np.float32(max(1.0, min(1.0 / gain, 3.0)))
    return np.clip(steep, np.float32(0), np.float32(1))


def _grab_cut(small: np.ndarray, box: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """The largest piece of what GrabCut takes for the animal, holes filled: float32 (h, w) of 0 and 1."""
    x0, y0, x1, y1 = box
    labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    if x1 - x0 < 3 or y1 - y0 < 3 or (labels.size - (x1 - x0) * (y1 - y0)) < 20:
        return np.zeros(small.shape[:2], np.float32)
    labels[y0:y1, x0:x1] = cv2.GC_PR_FGD
    cv2.setRNGSeed(seed)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    animal = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    outlines, _ = cv2.findContours(animal, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(small.shape[:2], np.float32)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1.0, cv2.FILLED)
    return filled


def _ellipse(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """1 in the middle of the ellipse inside the box, falling to 0 at its border: float32 (h, w)."""
    x0, y0, x1, y1 = box
    columns = (np.arange(size[0], dtype=np.float32) + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    rows = (np.arange(size[1], dtype=np.float32) + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    radius = np.sqrt(columns[None, :] ** 2 + rows[:, None] ** 2)
    return np.clip((1.0 - radius) / 0.25, 0, 1).astype(np.float32)
