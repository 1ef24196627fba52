"""Fitting a picture into a detector's input: scale, pad, and the way back for boxes.

The rules are those of Ultralytics' predictor, so that the same weights give the same boxes in both: scale to fit, pad
evenly with grey 114, sides a multiple of the stride.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

GREY = 114


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture of ``width`` × ``height`` lies inside an input of ``input_width`` × ``input_height`` pixels."""

    width: int
    height: int
    scaled_width: int
    scaled_height: int
    left: int
    top: int
    input_width: int
    input_height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.input_height, self.input_width

    def apply(self, picture: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the input picture, uint8 (input_height, input_width, 3), for a uint8 (height, width, 3) picture."""
        canvas = np.empty((self.input_height, self.input_width, 3), np.uint8) if out is None else out
        canvas[:] = GREY
        if picture.shape[:2] != (self.scaled_height, self.scaled_width):
            picture = cv2.resize(picture, (self.scaled_width, self.scaled_height), interpolation=cv2.INTER_LINEAR)
        canvas[self.top : self.top + self.scaled_height, self.left : self.left + self.scaled_width] = picture
        return canvas

    def restore(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) x0 y0 x1 y1 from the input back to the picture, clipped to it; float64."""
        # Sides were rounded to whole pixels, so that the two gains differ a little.
        gains = np.array([self.scaled_width / self.width, self.scaled_height / self.height] * 2)
        restored = (np.asarray(boxes, np.float64) - [self.left, self.top, self.left, self.top]) / gains
        return np.clip(restored, 0.0, [self.width, self.height, self.width, self.height])


def fit(width: int, height: int, size: int, stride: int = 32, square: bool = False) -> Letterbox:
    """The letterbox of a ``width`` × ``height`` picture for inputs whose long side is ``size`` pixels.

    ``square=False`` pads only to the next multiple of ``stride``; ``square=True`` pads to ``size`` × ``size``.
    """
    gain = min(size / height, size / width)
    scaled_width, scaled_height = max(1, round(width * gain)), max(1, round(height * gain))
    spare_width, spare_height = size - scaled_width, size - scaled_height
    if not square:
        spare_width, spare_height = spare_width % stride, spare_height % stride
    # Ultralytics' rounding: of an odd number of spare pixels the odd one goes to the right and the bottom.
    left, top = round(spare_width / 2 - 0.1), round(spare_height / 2 - 0.1)
    return Letterbox(
        width,
        height,
        scaled_width,
        scaled_height,
        left,
        top,
        scaled_width + spare_width,
        scaled_height + spare_height,
    )


def fit_rectangle(width: int, height: int, input_width: int, input_height: int) -> Letterbox:
    """The letterbox of a ``width`` × ``height`` picture in an input of fixed size, which need not be square."""
    gain = min(input_height / height, input_width / width)
    scaled_width, scaled_height = max(1, round(width * gain)), max(1, round(height * gain))
    left = round((input_width - scaled_width) / 2 - 0.1)
    top = round((input_height - scaled_height) / 2 - 0.1)
    return Letterbox(width, height, scaled_width, scaled_height, left, top, input_width, input_height)
