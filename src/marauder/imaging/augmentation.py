"""Training augmentation of pictures with boxes: mosaic, affine, flip and colour, drawn in one pass over the output.

Each source picture is warped straight into the output with one composed matrix; no intermediate canvas is made. The
parameters are those that YOLO training uses, so that recipes carry over.

Sources: mosaic, Bochkovskiy et al., "YOLOv4", 2020 (section 3.3); ranges and the box filter, Ultralytics' published
hyper-parameters (``scale``, ``translate``, ``hsv_h`` and so on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from pydantic import Field

from marauder.core.settings import Settings
from marauder.imaging.letterbox import GREY

# What is left of a box must be longer than this many pixels each way, show this share of its area, and be no sliver.
MINIMUM_SIDE = 2.0
MINIMUM_VISIBLE = 0.1
MAXIMUM_ASPECT = 100.0


class AugmentationSettings(Settings):
    """Strengths of the training augmentation; 0 switches one off."""

    mosaic: float = Field(1.0, ge=0, le=1, description="probability that a sample is a mosaic of four pictures")
    degrees: float = Field(0.0, ge=0, le=180, description="rotation, drawn from ± this many degrees")
    translate: float = Field(0.1, ge=0, le=1, description="shift, drawn from ± this share of the side")
    scale: float = Field(0.5, ge=0, lt=1, description="zoom, drawn from 1 ± this")
    shear: float = Field(0.0, ge=0, le=45, description="shear, drawn from ± this many degrees")
    flip_horizontal: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    flip_vertical: float = Field(0.0, ge=0, le=1, description="probability of an upside-down flip")
    hue: float = Field(0.015, ge=0, le=0.5, description="hue shift, drawn from ± this share of the circle")
    saturation: float = Field(0.7, ge=0, le=1, description="saturation gain, drawn from 1 ± this")
    value: float = Field(0.4, ge=0, le=1, description="brightness gain, drawn from 1 ± this")


@dataclass(frozen=True, slots=True)
class Source:
    """A picture, uint8 (h, w, 3), boxes float64 (N, 4) x0 y0 x1 y1 in its pixels, classes int64 (N,).

    ``ignored``: float64 (M, 4), places that are not to be learned from, as an animal or as background. ``trusts``:
    float64 (N,), 0..1, how far each box is to be learned (``models.trusts``); ``None``: all wholly.
    """

    picture: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    trusts: np.ndarray | None = None

    def trusted(self) -> np.ndarray:
        """The trust of each box: float64 (N,)."""
        return np.ones(len(self.boxes)) if self.trusts is None else self.trusts


def compose(
    sources: Sequence[Source],
    size: int,
    settings: AugmentationSettings,
    random: np.random.Generator,
    zoom_range: tuple[float, float] | None = None,
    ignored_side: float | None = None,
) -> Source:
    """Draw one training sample of ``size`` × ``size`` pixels from one source, or from four as a mosaic.

    The draws from ``random`` depend on the settings and the number of sources only: at another size it is the same
    sample, larger or smaller. The source pictures' long sides should be about ``size`` pixels. Boxes that end up tiny
    or mostly outside are dropped, and with them their trusts; what is ignored is cut as far as it is seen at all.
    ``zoom_range``: in place of 1 ± ``settings.scale``. ``ignored_side``: boxes whose shorter side ends up with no more
    pixels, at least ``MINIMUM_SIDE``, are ignored instead; ``None``: dropped.
    """
    if len(sources) not in (1, 4):
        raise ValueError(f"a sample is made of 1 or 4 pictures, not {len(sources)}")
    offsets, canvas_side = _mosaic_offsets(sources, size, random) if len(sources) == 4 else _centred(sources[0], size)
    zoom_range = zoom_range or (1 - settings.scale, 1 + settings.scale)
    matrix, zoom = _draw_affine(canvas_side, size, settings, zoom_range, random)
    matrix = _draw_flips(size, settings, random) @ matrix
    output = np.full((size, size, 3), GREY, np.uint8)
    boxes, classes, trusts, ignored = [], [], [], []
    for source, (left, top) in zip(sources, offsets, strict=True):
        placed = matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]], np.float64)
        _warp_into(output, source.picture, placed)
        moved, visible = _move_boxes(source.boxes, placed, zoom, size)
        short = (moved[:, 2:] - moved[:, :2]).min(1)
        keep = visible & (short > (ignored_side or MINIMUM_SIDE))
        boxes.append(moved[keep])
        classes.append(source.classes[keep])
        trusts.append(source.trusted()[keep])
        if ignored_side is not None:
            ignored.append(moved[visible & ~keep])
        if len(source.ignored):
            ignored.append(_seen(_move_boxes(source.ignored, placed, zoom, size)[0]))
    _shift_colour(output, settings, random)
    learned = Source(output, np.concatenate(boxes), np.concatenate(classes))
    if any(source.trusts is not None for source in sources):
        learned = replace(learned, trusts=np.concatenate(trusts))
    return replace(learned, ignored=np.concatenate(ignored)) if ignored else learned


def _seen(boxes: np.ndarray) -> np.ndarray:
    """Those of ``boxes`` (N, 4) of which anything is in the picture: a rest of what is ignored is no water either."""
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def _mosaic_offsets(
    sources: Sequence[Source], size: int, random: np.random.Generator
) -> tuple[list[tuple[float, float]], int]:
    """Top-left corners of the four pictures around a random point of a canvas of twice the size."""
    centre_x, centre_y = (int(value) for value in random.uniform(0.5 * size, 1.5 * size, 2))
    corners = []
    for number, source in enumerate(sources):
        height, width = source.picture.shape[:2]
        corners.append((centre_x - width * (number % 2 == 0), centre_y - height * (number < 2)))
    return corners, 2 * size


def _centred(source: Source, size: int) -> tuple[list[tuple[float, float]], int]:
    height, width = source.picture.shape[:2]
    # The rounding of imaging.letterbox, so that training and prediction place a picture alike.
    return [(round((size - width) / 2 - 0.1), round((size - height) / 2 - 0.1))], size


def _draw_affine(
    canvas_side: int,
    size: int,
    settings: AugmentationSettings,
    zoom_range: tuple[float, float],
    random: np.random.Generator,
) -> tuple[np.ndarray, float]:
    angle = np.deg2rad(random.uniform(-settings.degrees, settings.degrees))
    zoom = random.uniform(*zoom_range)
    shear_x, shear_y = np.tan(np.deg2rad(random.uniform(-settings.shear, settings.shear, 2)))
    shift_x, shift_y = random.uniform(0.5 - settings.translate, 0.5 + settings.translate, 2) * size
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    to_centre = np.array([[1, 0, -canvas_side / 2], [0, 1, -canvas_side / 2], [0, 0, 1]])
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    slant = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
    shift = np.array([[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]])
    return shift @ slant @ turn @ to_centre, zoom


def _draw_flips(size: int, settings: AugmentationSettings, random: np.random.Generator) -> np.ndarray:
    flip = np.eye(3)
    # Both drawn in any case: switching one flip off leaves the other's draws as they were.
    horizontal, vertical = random.random(2)
    if horizontal < settings.flip_horizontal:
        flip = np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1]], np.float64) @ flip
    if vertical < settings.flip_vertical:
        flip = np.array([[1, 0, 0], [0, -1, size], [0, 0, 1]], np.float64) @ flip
    return flip


def _warp_into(output: np.ndarray, picture: np.ndarray, matrix: np.ndarray) -> None:
    """Draw ``picture`` through ``matrix`` (continuous coordinates) over its own part of ``output`` only."""
    height, width = picture.shape[:2]
    size = output.shape[0]
    corners = matrix[:2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    x0, y0 = np.maximum(np.floor(corners.min(1)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, size)
    if x1 <= x0 or y1 <= y0:
        return
    # OpenCV's coordinates are those of pixel centres, boxes and corners are continuous: half a pixel apart.
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    to_part = np.array([[1, 0, -0.5 - x0], [0, 1, -0.5 - y0], [0, 0, 1]])
    part = output[y0:y1, x0:x1]
    # BORDER_TRANSPARENT: where the picture does not reach, dst keeps what earlier pictures drew there.
    warped = cv2.warpAffine(
        picture,
        (to_part @ matrix @ to_corner)[:2],
        (int(x1 - x0), int(y1 - y0)),
        dst=np.ascontiguousarray(part),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
    part[:] = warped


def _move_boxes(boxes: np.ndarray, matrix: np.ndarray, zoom: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What is left of boxes (N, 4) in the output, and which of them are enough in it and no slivers: bool (N,)."""
    x0, y0, x1, y1 = boxes.T
    points = np.stack([x0, y0, x1, y0, x0, y1, x1, y1], 1).reshape(-1, 4, 2) @ matrix[:2, :2].T + matrix[:2, 2]
    moved = np.clip(np.concatenate([points.min(1), points.max(1)], 1), 0, size)
    # At the new zoom: what the zoom makes smaller is not cut off.
    before = (boxes[:, 2:] - boxes[:, :2]) * zoom
    after = moved[:, 2:] - moved[:, :2]
    long, short = after.max(1), after.min(1)
    visible = (after.prod(1) > MINIMUM_VISIBLE * before.prod(1)) & (long < MAXIMUM_ASPECT * np.maximum(short, 1e-9))
    return moved, visible


def _shift_colour(picture: np.ndarray, settings: AugmentationSettings, random: np.random.Generator) -> None:
    hue, saturation, value = random.uniform(-1, 1, 3) * [settings.hue, settings.saturation, settings.value]
    if not (settings.hue or settings.saturation or settings.value):
        return
    levels = np.arange(256, dtype=np.float64)
    tables = np.stack(
        [
            # Hue has 180 levels in 8-bit HSV, two degrees each.
            (levels + hue * 180) % 180,
            np.clip(levels * (1 + saturation), 0, 255),
            np.clip(levels * (1 + value), 0, 255),
        ],
        axis=1,
    ).astype(np.uint8)
    shifted = cv2.LUT(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), tables[None])
    cv2.cvtColor(shifted, cv2.COLOR_HSV2RGB, dst=picture)
