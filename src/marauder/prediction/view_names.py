"""Names of the views of a picture at which a predictor may look, and what each is. Reading them needs no torch.

A view is named by words joined with ``+``: ``flip``, ``flip_vertical``, ``turn_90``, ``turn_180``, ``turn_270``,
``scale_1.25`` (the input's long side times that), ``tiles_2x2`` (rows x columns that overlap by a fifth, each as large
in the input as the picture would be), ``brightness``, ``colour``; ``plain`` is the picture as it is. They are views of
the picture itself, not of the input: what is enlarged has the picture's own detail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marauder.core.errors import UserError
from marauder.core.mistakes import nearest
from marauder.prediction.geometry import Chain, Change, CutOut, FlipHorizontal, FlipVertical, QuarterTurn, Shape, tiles
from marauder.prediction.views import CAST, DARKER

PLAIN = "plain"
TILE_OVERLAP = 0.2
"""Share of a tile's side that its neighbour sees, too: an animal up to that size is whole in one of them."""
MOST_TILES, LEAST_GAIN, MOST_GAIN = 8, 0.25, 4.0
EXAMPLES = (
    "flip",
    "flip_vertical",
    "turn_90",
    "turn_180",
    "turn_270",
    "scale_1.25",
    "tiles_2x2",
    "brightness",
    "colour",
)


@dataclass(frozen=True)
class Gains(Change):
    """Red, green and blue times a gain each; every box stays where it is."""

    gains: tuple[float, float, float]

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """See ``Change``."""
        return np.clip(np.rint(picture * np.array(self.gains)), 0, 255).astype(np.uint8)

    def shape(self, shape: Shape) -> Shape:
        """See ``Change``."""
        return shape

    def forward(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        return boxes

    def back(self, boxes: np.ndarray, shape: Shape) -> np.ndarray:
        """See ``Change``."""
        return boxes


WORDS: dict[str, Change] = {
    "flip": FlipHorizontal(),
    "flip_vertical": FlipVertical(),
    "turn_90": QuarterTurn(1),
    "turn_180": QuarterTurn(2),
    "turn_270": QuarterTurn(3),
    "brightness": Gains((DARKER, DARKER, DARKER)),
    "colour": Gains(CAST),
}


AS_IT_IS = Chain()


@dataclass(frozen=True)
class PictureView:
    """``changes``: of the whole picture or of each tile. ``gain``: of the input's long side. ``rows``, ``columns``: of
    tiles, 1 and 1 for the whole picture."""

    name: str
    changes: Chain = AS_IT_IS
    gain: float = 1.0
    rows: int = 1
    columns: int = 1

    def looks(self, shape: Shape) -> list[tuple[CutOut, Chain]]:
        """The parts of a picture of ``shape`` that are looked at, and the whole way from the picture to each."""
        parts = tiles(shape, self.rows, self.columns, TILE_OVERLAP)
        return [(part, Chain((part, *self.changes.changes))) for part in parts]

    @property
    def at_another_size(self) -> bool:
        """Whether the input is larger or smaller than that of a plain look."""
        return self.gain != 1

    @property
    def cost(self) -> float:
        """Pixels of the input, beside those of one plain look, about."""
        return self.gain**2 * self.rows * self.columns


def find_picture_views(names: Sequence[str]) -> tuple[PictureView, ...]:
    """The views of these names, which a view is not in twice. Raises ``UserError`` for one that is none."""
    views = tuple(_view(name) for name in names)
    if len(set(names)) < len(names):
        raise UserError(f"views: {', '.join(names)}: names one twice")
    return views


def _view(name: str) -> PictureView:
    view = PictureView(name)
    if name == PLAIN:
        return view
    for word in name.split("+"):
        scaled = re.fullmatch(r"scale_(\d+(?:\.\d+)?)", word)
        cut = re.fullmatch(r"tiles_(\d+)x(\d+)", word)
        if word in WORDS:
            view = replace(view, changes=Chain((*view.changes.changes, WORDS[word])))
        elif scaled and view.gain == 1 and LEAST_GAIN <= float(scaled[1]) <= MOST_GAIN:
            view = replace(view, gain=float(scaled[1]))
        elif cut and view.rows * view.columns == 1 and all(1 <= int(count) <= MOST_TILES for count in cut.groups()):
            view = replace(view, rows=int(cut[1]), columns=int(cut[2]))
        else:
            raise UserError(
                f"views: {name!r} has {word!r}, which is no view{nearest(word, EXAMPLES)}; there are {PLAIN}, "
                f"{', '.join(EXAMPLES)}, joined with + (scale from {LEAST_GAIN} to {MOST_GAIN:g}, tiles up to "
                f"{MOST_TILES}x{MOST_TILES}, each once)"
            )
    return view
