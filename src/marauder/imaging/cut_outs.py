"""Animals cut out of training pictures: a region around a box, and a soft mask of what in it is the animal.

Boxes tell no outline. The mask is found by GrabCut on a reduced copy (Rother, Kolmogorov, Blake, "GrabCut: interactive
foreground extraction using iterated graph cuts", SIGGRAPH 2004): what lies outside the box is background for sure, and
it starts from the pixels inside that are unlike all main colours outside. A mask that fills hardly anything of the box,
or all of it, or does not reach the box's sides, is no outline; an ellipse with soft borders stands in.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from marauder.imaging.augmentation import Source
from marauder.imaging.copy_paste_settings import CopyPasteSettings

MASK_SIDE = 64
"""Longer side, in pixels, of the copy on which the outline is looked for."""

COLOURS = 5
"""Main colours of what surrounds an animal: GrabCut's own number of components."""

CORE = 0.12
"""Half axes of the ellipse in the middle of a box that is animal for sure, as share of the box's sides."""

LEAST_EXTENT, GOOD_EXTENT = 0.5, 0.85
"""Share of the box that the outline's bounding box must fill, and from which no other outline is looked for."""

ROUNDS = 2
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
    mask = _outline(small, (x0, y0, x1, y1), seed)
    if mask is None:
        mask = _ellipse(size, (x0, y0, x1, y1))
    soft = cv2.GaussianBlur(mask, (0, 0), 0.7)
    soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    # Steeper than the enlarged mask: a border of one to two pixels, as a lens draws it.
    steep = 0.5 + (soft - 0.5) * np.float32(max(1.0, min(1.0 / gain, 3.0)))
    return np.clip(steep, np.float32(0), np.float32(1))


def _outline(small: np.ndarray, box: tuple[int, int, int, int], seed: int) -> np.ndarray | None:
    """The better of the outlines that GrabCut finds from two starts: float32 (h, w) of 0 and 1, if it is plausible."""
    x0, y0, x1, y1 = box
    outside = small.shape[0] * small.shape[1] - (x1 - x0) * (y1 - y0)
    if x1 - x0 < 4 or y1 - y0 < 4 or outside < 8 * COLOURS:
        return None
    # k-means and GrabCut draw from OpenCV's own generator, which otherwise continues from call to call.
    cv2.setRNGSeed(seed)
    small = cv2.medianBlur(small, 3)
    best, most = None, LEAST_EXTENT
    for start in (_unlike_background(small, box), np.ones((y1 - y0, x1 - x0), bool)):
        mask = _grab_cut(small, box, start)
        share = float(mask[y0:y1, x0:x1].mean())
        extent = _extent(mask, box)
        if PLAUSIBLE_SHARE[0] <= share <= PLAUSIBLE_SHARE[1] and extent > most:
            best, most = mask, extent
        if most > GOOD_EXTENT:
            break
    return best


def _unlike_background(small: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Pixels of the box whose colour is far from all main colours of what surrounds it: bool, the box's shape."""
    x0, y0, x1, y1 = box
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab).astype(np.float32)
    around = np.ones(small.shape[:2], bool)
    around[y0:y1, x0:x1] = False
    samples = lab[around]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 8, 1.0)
    start = np.zeros((len(samples), 1), np.int32)
    _, labels, centres = cv2.kmeans(samples, COLOURS, start, criteria, 1, cv2.KMEANS_PP_CENTERS)
    inside = lab[y0:y1, x0:x1].reshape(-1, 3)
    nearest = np.full(len(inside), np.inf, np.float32)
    for index, centre in enumerate(centres):
        own = samples[np.ravel(labels) == index]
        # A main colour of a single tone has no spread; without the 3 everything would be far from it.
        spread = own.std(axis=0) + np.float32(3) if len(own) else np.float32(6)
        nearest = np.minimum(nearest, (((inside - centre) / spread) ** 2).sum(axis=1))
    levels = np.minimum(np.sqrt(nearest) * 20, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(levels > threshold).reshape(y1 - y0, x1 - x0)


def _grab_cut(small: np.ndarray, box: tuple[int, int, int, int], start: np.ndarray) -> np.ndarray:
    """The largest piece of what GrabCut takes for the animal, holes filled: float32 (h, w) of 0 and 1.

    ``start``: what in the box is probably animal; the rest is probably background, and all around the box surely.
    """
    x0, y0, x1, y1 = box
    filled = np.zeros(small.shape[:2], np.float32)
    # GrabCut splits either side into so many components, and fails with fewer pixels.
    if start.sum() < COLOURS:
        return filled
    labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    labels[y0:y1, x0:x1] = np.where(start, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    middle = ((x0 + x1) // 2, (y0 + y1) // 2)
    core = (max(1, round(CORE * (x1 - x0))), max(1, round(CORE * (y1 - y0))))
    cv2.ellipse(labels, middle, core, 0, 0, 360, cv2.GC_FGD, cv2.FILLED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    animal = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    outlines, _ = cv2.findContours(animal, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1.0, cv2.FILLED)
    return filled


def _extent(mask: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """How much of the box the mask's own bounding box fills, 0..1: an animal touches all sides of its box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    area = (rows[-1] + 1 - rows[0]) * (columns[-1] + 1 - columns[0])
    return float(area / ((box[2] - box[0]) * (box[3] - box[1])))


def _ellipse(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """1 in the middle of the ellipse inside the box, falling to 0 at its border: float32 (h, w)."""
    x0, y0, x1, y1 = box
    columns = (np.arange(size[0], dtype=np.float32) + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    rows = (np.arange(size[1], dtype=np.float32) + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    radius = np.sqrt(columns[None, :] ** 2 + rows[:, None] ** 2)
    return np.clip((1.0 - radius) / 0.25, 0, 1).astype(np.float32)
