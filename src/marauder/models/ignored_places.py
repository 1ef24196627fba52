"""Places of a picture that a detector is not to learn from: what it says there is neither right nor wrong.

An animal that a small input size leaves a pixel or two of is no example of an animal, but water it is not either: as
background it would teach the detector to overlook what it should find at a larger size (Singh and Davis, "An Analysis
of Scale Invariance in Object Detection - SNIP", CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

IGNORED_INDEX, IGNORED_BOXES = "ignored_idx", "ignored_bboxes"
"""In a batch: for each ignored box the number of its picture (M,), and the boxes (M, 4), centre and sides in 0..1.
Batches without any lack both."""


class LossOutside(nn.Module):
    """A loss of scores (B, A, classes) and targets that counts 0 in the ``cells`` (B, A) set for the call, except where
    an animal is learned. With ``cells`` ``None`` it is ``loss``, to the last bit."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.cells: torch.Tensor | None = None

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each score, of the shape of ``scores``."""
        values: torch.Tensor = self.loss(scores, targets)
        if self.cells is None:
            return values
        left_out = self.cells & (targets == 0).all(-1)
        return values.masked_fill(left_out[..., None], 0.0)


def ignored_cells(
    index: torch.Tensor, boxes: torch.Tensor, pictures: int, grids: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """The cells that ignored boxes touch: bool (B, A), for as many ``pictures``; cells level by level, row by row.

    ``index`` (M,), ``boxes`` (M, 4): see ``IGNORED_BOXES``. ``grids``: rows and columns of each level.
    """
    touched = []
    for height, width in grids:
        row, column = (torch.arange(side, device=boxes.device) for side in (height, width))
        sides = boxes.new_tensor([width, height])
        low, high = (boxes[:, :2] - boxes[:, 2:] / 2) * sides, (boxes[:, :2] + boxes[:, 2:] / 2) * sides
        # A cell reaches from its number to the next.
        across = (column < high[:, :1]) & (column + 1 > low[:, :1])
        down = (row < high[:, 1:]) & (row + 1 > low[:, 1:])
        touched.append((down[:, :, None] & across[:, None, :]).flatten(1))
    of_box = torch.cat(touched, 1)
    found = torch.zeros(pictures, of_box.shape[1], dtype=torch.int32, device=boxes.device)
    return found.index_add_(0, index.long(), of_box.int()) > 0
