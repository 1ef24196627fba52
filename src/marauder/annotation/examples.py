"""Example crops of a class for the guidelines: clear boxes of labelled pictures, from as many clips as there are."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from marauder.core.randomness import stream
from marauder.data.contact_sheets import colour_of, draw_boxes
from marauder.data.picture_files import PictureError, load_rgb
from marauder.data.records import Record

CONTEXT = 0.35
"""Share of a box's longer side that is shown around it: a class is recognised by its surroundings too."""
LONG_SIDE = 260
LEAST_SIDE = 24
"""Pixels; smaller boxes are no clear examples, and are taken only where a class has no others."""
CANDIDATES = 4
"""Boxes looked at for each one shown."""
ALIKE = 0.7
"""Correlation of two small grey copies from which two crops count as the same view."""
UNCLEAR = ("occluded", "truncated", "difficult", "crowd")


def example_crops(records: Sequence[Record], class_index: int, count: int, seed: int) -> list[bytes]:
    """Up to ``count`` JPEG files, each a crop around one box of the class with the box drawn in.

    ``records``: labelled ones. Large boxes that stand free of the border and of other boxes come first, one of each
    group (clip) before a second; ties are drawn by ``seed``. Pictures that cannot be read are passed over.
    """
    shown: list[np.ndarray] = []
    crops: list[bytes] = []
    alike: list[bytes] = []
    for record, box in _ranked(records, class_index, seed)[: count * CANDIDATES]:
        if len(crops) == count:
            break
        try:
            image, drawn = _cut(load_rgb(record.picture), record, box)
        except PictureError:
            continue  # the data set's own check tells of it
        look = _look(image)
        crop = _drawn(image, drawn, class_index)
        if any(float((look * other).mean()) > ALIKE for other in shown):
            alike.append(crop)  # the same animal in the next frame says nothing new
        else:
            shown.append(look)
            crops.append(crop)
    return (crops + alike)[:count]


def _ranked(records: Sequence[Record], class_index: int, seed: int) -> list[tuple[Record, np.ndarray]]:
    candidates = []
    for record in records:
        for position in np.flatnonzero((record.classes == class_index) & ~record.ignored).tolist():
            # A stream of its own for each box: more labels elsewhere change nothing about this tie.
            draw = float(stream(seed, "example", record.key, position).random())
            candidates.append((-_clearness(record, position), draw, record, record.boxes[position]))
    # By the numbers alone: records cannot be compared.
    candidates.sort(key=lambda one: one[:2])
    of_group: dict[str, int] = {}
    ranked = []
    for order, (_, _, record, box) in enumerate(candidates):
        turn = of_group.get(record.group, 0)
        of_group[record.group] = turn + 1
        ranked.append((turn, order, record, box))
    ranked.sort(key=lambda one: one[:2])
    return [(record, box) for _, _, record, box in ranked]


def _clearness(record: Record, position: int) -> float:
    """From 0: the share of the picture the box fills (no more than a fifth counts), less for what hides it."""
    x0, y0, x1, y1 = record.boxes[position]
    side = min(x1 - x0, y1 - y0)
    area = (x1 - x0) * (y1 - y0)
    clear = min(area / (record.width * record.height), 0.2)
    margin = 0.01 * min(record.width, record.height)
    if min(x0, y0, record.width - x1, record.height - y1) < margin:
        clear *= 0.3
    others = np.delete(record.boxes, position, axis=0)
    if len(others):
        across = np.clip(np.minimum(others[:, 2], x1) - np.maximum(others[:, 0], x0), 0, None)
        down = np.clip(np.minimum(others[:, 3], y1) - np.maximum(others[:, 1], y0), 0, None)
        clear *= 1.0 - min(1.0, float((across * down).max() / max(area, 1e-9))) * 0.8
    hidden = any(
        record.box_attributes[name][position] in (True, 1) for name in UNCLEAR if name in record.box_attributes
    )
    return clear * (0.2 if hidden else 1.0) * (0.1 if side < LEAST_SIDE else 1.0)


def _cut(pixels: np.ndarray, record: Record, box: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The crop around a box, its longer side ``LONG_SIDE`` pixels, and where the box lies in it: (1, 4)."""
    height, width = pixels.shape[:2]
    # Boxes count in pixels of the record; the file may have another size by now.
    scale = np.array([width / record.width, height / record.height] * 2)
    x0, y0, x1, y1 = box * scale
    around = CONTEXT * max(x1 - x0, y1 - y0)
    left, top = max(0, int(x0 - around)), max(0, int(y0 - around))
    right, bottom = min(width, int(np.ceil(x1 + around))), min(height, int(np.ceil(y1 + around)))
    image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    gain = LONG_SIDE / max(image.size)
    size = (max(1, round(image.width * gain)), max(1, round(image.height * gain)))
    return image.resize(size, Image.Resampling.LANCZOS), (np.array([[x0, y0, x1, y1]]) - [left, top, left, top]) * gain


def _look(image: Image.Image) -> np.ndarray:
    """A small grey copy (16, 16) with mean 0 and variance 1: the mean of two copies' product is their correlation."""
    grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), np.float64)
    spread = float(grey.std())
    return np.asarray((grey - grey.mean()) / spread) if spread > 0 else np.zeros((16, 16))


def _drawn(image: Image.Image, box: np.ndarray, class_index: int) -> bytes:
    """The crop with its box as JPEG. A light rim lets the box be seen on any colour of water."""
    draw_boxes(image, box + np.array([-2, -2, 2, 2]), (), [(255, 255, 255)])
    draw_boxes(image, box, (), [colour_of(class_index)])
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
