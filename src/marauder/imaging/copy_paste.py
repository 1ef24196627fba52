"""Copy-paste of rare species into training pictures, with blending that respects the water of the place.

An animal is cut out softly (imaging.cut_outs), brought to a plausible size, put where it hides no other animal and
where the water is most like its own, and then seen through the water of that place: its colours are moved in the
logarithm of light by the difference of the backgrounds (water takes a share of the light, which is a shift there), and
it is blurred until it is no sharper than the picture.

Sources: Dwibedi, Misra, Hebert, "Cut, Paste and Learn", ICCV 2017 (soft borders against artefacts at the seam); Ghiasi
et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021 (boxes of what is
covered are cut or dropped); Reinhard, Ashikhmin, Gooch, Shirley, "Color Transfer between Images", IEEE Computer
Graphics and Applications 21(5), 2001 (means and deviations in a logarithmic space).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from marauder.imaging.augmentation import Source
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.imaging.cut_outs import animal_mask, covered_share, cut_outs

__all__ = ["CopyPasteSettings", "cut_outs", "draw_count", "paste"]

PLACES = 12
"""Random places that are compared for each animal."""

VISIBLE = 0.5
"""Share of a pixel that must be animal for it to count into the box."""

# The logarithm of light starts here: near 0 a single grey level would count as a great difference.
DARKEST = 4.0 / 255
MOST_SHIFT = 1.4
"""Natural logarithm of the largest change of light of a channel (a factor of 4)."""

BRIGHTEST = -0.12
"""Logarithm of light that the brightest tenth of an animal may reach by brightening: nothing burns out."""

DEVIATIONS = (0.75, 1.25)
"""Limits of the change of contrast."""

BLURS = (0.0, 0.6, 0.9, 1.3, 1.8)


def draw_count(settings: CopyPasteSettings, random: np.random.Generator) -> int:
    """How many animals a training picture gets: 0, or 1 to ``settings.most``."""
    pasted, count = random.random(), int(random.integers(1, settings.most + 1))
    return count if pasted < settings.probability else 0


def paste(target: Source, donors: Sequence[Source], settings: CopyPasteSettings, random: np.random.Generator) -> Source:
    """``target`` with every donor pasted that finds a place; the inputs stay as they are.

    ``donors``: from ``cut_outs``: a picture with background around its one box. Boxes of the result are those of the
    target first, cut where an animal hides their rim and dropped where it hides more than ``settings.covered`` of them,
    then those of the pasted animals as far as they are visible. Without a place the picture stays as it is.
    """
    picture, boxes, classes, trusts = target.picture, target.boxes, target.classes, target.trusted()
    for donor in donors:
        resized = _resize(donor, picture.shape[:2], settings, random)
        if resized is None:
            continue
        mask = animal_mask(resized.picture, resized.boxes[0], int(random.integers(2**31 - 1)))
        corner = _choose_place(picture, boxes, resized, mask, settings, random)
        if corner is None:
            continue
        if picture is target.picture:
            picture = picture.copy()
        visible = _blend(picture, resized.picture, mask, corner, settings.match)
        kept, cut = _cut_hidden(boxes, visible, corner, settings.covered)
        rows, columns = np.nonzero(visible)
        added = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
        boxes = np.concatenate([cut, (added + np.tile(corner, 2))[None]])
        classes = np.concatenate([classes[kept], donor.classes])
        trusts = np.concatenate([trusts[kept], donor.trusted()])
    known = trusts if target.trusts is not None else None
    return Source(picture, boxes, classes, target.ignored, known)


def _resize(
    donor: Source, shape: tuple[int, ...], settings: CopyPasteSettings, random: np.random.Generator
) -> Source | None:
    """The donor at the size at which it is pasted, perhaps mirrored; nothing if it would be too small."""
    gain, mirrored = random.uniform(1 - settings.scale, 1 + settings.scale), random.random() < settings.flip
    sides = donor.boxes[0, 2:] - donor.boxes[0, :2]
    gain = min(gain, settings.most_enlarged, settings.largest * min(shape[:2]) / sides.max())
    height, width = donor.picture.shape[:2]
    size = (max(1, round(width * gain)), max(1, round(height * gain)))
    if (sides * gain).min() < settings.least_side or size[0] > shape[1] or size[1] > shape[0]:
        return None
    picture = cv2.resize(donor.picture, size, interpolation=cv2.INTER_AREA if gain < 1 else cv2.INTER_LINEAR)
    box = donor.boxes[0] * ([size[0] / width, size[1] / height] * 2)
    if mirrored:
        picture = cv2.flip(picture, 1)
        box = np.array([size[0] - box[2], box[1], size[0] - box[0], box[3]])
    return Source(picture, box[None], donor.classes)


def _choose_place(
    picture: np.ndarray,
    boxes: np.ndarray,
    donor: Source,
    mask: np.ndarray,
    settings: CopyPasteSettings,
    random: np.random.Generator,
) -> tuple[int, int] | None:
    """Left and top of the cut-out at the free place, of some random ones, whose background is most like its own."""
    height, width = donor.picture.shape[:2]
    room = np.array([picture.shape[1] - width + 1, picture.shape[0] - height + 1])
    # Drawn before the mask is looked at: the draws that follow must not depend on what GrabCut found.
    corners = (random.random((PLACES, 2)) * room).astype(np.int64)
    if not (mask >= VISIBLE).any():
        return None
    own = _log_light(cv2.mean(donor.picture, (mask < 0.05).astype(np.uint8))[:3])
    best, nearest = None, np.inf
    for left, top in corners.tolist():
        box = donor.boxes[0] + [left, top, left, top]
        hidden = covered_share(box, boxes)
        if len(boxes) and max(hidden.max(), _shares_of(boxes, box).max()) > settings.overlap:
            continue
        place = picture[top : top + height, left : left + width]
        difference = float(np.abs(_log_light(cv2.mean(place)[:3]) - own).sum())
        if difference < nearest:
            best, nearest = (left, top), difference
    return best


def _shares_of(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Share of each of ``boxes`` (N, 4) that ``box`` covers: float64 (N,)."""
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    return covered_share(box, boxes) * (box[2:] - box[:2]).prod() / areas


def _log_light(colour: Sequence[float] | np.ndarray) -> np.ndarray:
    """Logarithm of linear light of levels 0..255 (transfer curve: a square, as in imaging.formation)."""
    return 2 * np.log(np.maximum(np.asarray(colour, np.float64) / 255, DARKEST))


def _blend(
    picture: np.ndarray, donor: np.ndarray, mask: np.ndarray, corner: tuple[int, int], match: float
) -> np.ndarray:
    """Draw the animal into ``picture`` at ``corner``; returns where it is visible: bool (h, w)."""
    left, top = corner
    place = picture[top : top + donor.shape[0], left : left + donor.shape[1]]
    matched = match_water(donor, place, mask, match) if match else donor
    sigma = _blur_needed(matched, picture)
    if sigma:
        matched = cv2.GaussianBlur(matched, (0, 0), sigma)
        mask = cv2.GaussianBlur(mask, (0, 0), sigma)
    weight = cv2.merge([mask, mask, mask])
    difference = cv2.subtract(matched, place, dtype=cv2.CV_32F)
    place[:] = cv2.add(cv2.multiply(difference, weight), place, dtype=cv2.CV_8U)
    return mask >= VISIBLE


def match_water(donor: np.ndarray, place: np.ndarray, mask: np.ndarray, strength: float) -> np.ndarray:
    """The cut-out with the colours of its background moved towards those of the place: uint8 (h, w, 3).

    In the logarithm of light each channel becomes (value - mean of own background) x deviation + mean of the place,
    deviation that of the place over the own one within ``DEVIATIONS``; as a table of 256 levels a channel.
    ``strength`` 0..1: share of the way. ``mask``: float32 (h, w), what is animal.
    """
    outside = (mask < 0.05).astype(np.uint8)
    if not outside.any():
        return donor
    table = (2 * np.log(np.maximum(np.arange(256) / 255, DARKEST))).astype(np.float32)
    own_mean, own_spread = (part.ravel() for part in cv2.meanStdDev(cv2.LUT(donor, table), mask=outside))
    mean, spread = (part.ravel() for part in cv2.meanStdDev(cv2.LUT(place, table), mask=outside))
    shift = strength * np.clip(mean - own_mean, -MOST_SHIFT, MOST_SHIFT)
    # The 0.1 damps the ratio of two backgrounds that hardly vary, which would be noise over noise.
    ratio = 1 + strength * (np.clip((spread + 0.1) / (own_spread + 0.1), *DEVIATIONS) - 1)
    moved = (table[:, None] - own_mean) * ratio + own_mean + shift
    animal = (mask >= VISIBLE).astype(np.uint8)
    tops = [_upper_level(donor, channel, animal) for channel in range(3)]
    # All channels go back by the same amount, so that the water's colour stays.
    burnt = max(moved[top, channel] - max(BRIGHTEST, float(table[top])) for channel, top in enumerate(tops))
    moved -= max(burnt, 0.0)
    levels = np.clip(np.rint(255 * np.exp(moved / 2)), 0, 255)
    return cv2.LUT(donor, levels.astype(np.uint8)[None])


def _upper_level(picture: np.ndarray, channel: int, mask: np.ndarray) -> int:
    """The level (0..255) that a tenth of the masked pixels exceeds; 0 for an empty mask."""
    counts = np.cumsum(cv2.calcHist([picture], [channel], mask, [256], [0, 256]).ravel())
    return int(np.searchsorted(counts, 0.9 * counts[-1])) if counts[-1] else 0


def _blur_needed(donor: np.ndarray, picture: np.ndarray) -> float:
    """Sigma of the least blur, of a few, that makes the cut-out no sharper than the picture it comes into."""
    allowed = 1.15 * _sharpness(picture)
    for sigma in BLURS:
        if _sharpness(cv2.GaussianBlur(donor, (0, 0), sigma) if sigma else donor) <= allowed:
            return sigma
    return BLURS[-1]


def _sharpness(picture: np.ndarray) -> float:
    """How steep its steepest edges are: the Laplacian exceeded by 2 % of the pixels, in grey levels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    steepness = cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S))
    counts = np.cumsum(cv2.calcHist([steepness], [0], None, [256], [0, 256]).ravel())
    return float(np.searchsorted(counts, 0.98 * counts[-1])) + 1


def _cut_hidden(
    boxes: np.ndarray, visible: np.ndarray, corner: tuple[int, int], most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Existing boxes after the animal lies before them: positions kept, int64 (M,), and float64 (M, 4) what is seen."""
    left, top = corner
    kept, cut = [], []
    for index, box in enumerate(boxes):
        x0, y0, x1, y1 = _pixels(box - [left, top, left, top])
        inner = visible[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        if not inner.any():
            kept.append(index)
            cut.append(box)
            continue
        free = np.ones((y1 - y0, x1 - x0), bool)
        rows, columns = max(-y0, 0), max(-x0, 0)
        free[rows : rows + inner.shape[0], columns : columns + inner.shape[1]] = ~inner
        if 1 - free.mean() > most:
            continue
        seen_rows, seen_columns = np.flatnonzero(free.any(axis=1)), np.flatnonzero(free.any(axis=0))
        seen = np.array([seen_columns[0], seen_rows[0], seen_columns[-1] + 1, seen_rows[-1] + 1], np.float64)
        seen += [x0 + left, y0 + top, x0 + left, y0 + top]
        kept.append(index)
        cut.append(np.concatenate([np.maximum(box[:2], seen[:2]), np.minimum(box[2:], seen[2:])]))
    return np.array(kept, np.int64), np.array(cut, np.float64).reshape(-1, 4)


def _pixels(box: np.ndarray) -> tuple[int, int, int, int]:
    """The pixels that a box touches, at least one."""
    x0, y0 = np.floor(box[:2]).astype(int).tolist()
    x1, y1 = np.ceil(box[2:]).astype(int).tolist()
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
