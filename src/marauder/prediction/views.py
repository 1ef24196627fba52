"""Small changes of a network's input that leave its animals what and where they are, and the way back for boxes.

Step 3 asks whether a detector stays of the same mind. What a predictor looks at several times, to find more, are
``picture_views``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marauder.core.errors import UserError
from marauder.imaging.letterbox import GREY
from marauder.prediction.geometry import FlipHorizontal

if TYPE_CHECKING:
    import torch

SHRUNK = 0.8
"""Side lengths in the view ``scale``."""
DARKER = 0.75
"""Brightness in the view ``brightness``."""
CAST = (0.8, 1.0, 1.1)
"""Gains of red, green and blue in the view ``colour``: a few metres more of water."""


@dataclass(frozen=True)
class View:
    """``change``: inputs float (B, 3, H, W) in 0..1 to inputs of the same shape. ``back``: boxes (N, 4) found there,
    and the input's height and width, to boxes in the unchanged input."""

    change: Callable[[torch.Tensor], torch.Tensor]
    back: Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def _flip(images: torch.Tensor) -> torch.Tensor:
    return images.flip(3)


def _shrink(images: torch.Tensor) -> torch.Tensor:
    import torch

    height, width = _shrunk_shape((images.shape[2], images.shape[3]))
    canvas = torch.full_like(images, GREY / 255)
    canvas[:, :, :height, :width] = torch.nn.functional.interpolate(
        images, size=(height, width), mode="bilinear", antialias=True
    )
    return canvas


def _shrink_back(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    height, width = _shrunk_shape(shape)
    return np.asarray(boxes / np.array([width / shape[1], height / shape[0]] * 2))


def _shrunk_shape(shape: tuple[int, int]) -> tuple[int, int]:
    return max(1, round(shape[0] * SHRUNK)), max(1, round(shape[1] * SHRUNK))


def _cast(images: torch.Tensor) -> torch.Tensor:
    return (images * images.new_tensor(CAST)[:, None, None]).clamp(max=1)


def _same_place(boxes: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
    return boxes


VIEWS = {
    "flip": View(_flip, FlipHorizontal().back),
    "scale": View(_shrink, _shrink_back),
    "brightness": View(lambda images: images * DARKER, _same_place),
    "colour": View(_cast, _same_place),
}


def find_views(names: tuple[str, ...]) -> tuple[View, ...]:
    """The views by name. Raises ``UserError`` for an unknown name."""
    for name in names:
        if name not in VIEWS:
            raise UserError(f"views: no view named {name!r}; choose of: {', '.join(VIEWS)}")
    return tuple(VIEWS[name] for name in names)
