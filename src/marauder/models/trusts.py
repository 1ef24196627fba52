"""How far a box is to be learned: its trust, the probability that it is right.

A box of a person's label has the trust 1. One that another detector found has the share of such boxes that are right,
its calibrated score p. Its cells' targets, and with them the weight of its place and the count that the loss is divided
by, are multiplied by p. Binary cross-entropy is linear in its target, so that this is the loss that is to be expected
if the box is right with probability p and background otherwise; so are the box and the distribution loss.

Sources: targets that are probabilities, Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015;
boxes of a teacher weighed by its scores, Xu et al., "End-to-End Semi-Supervised Object Detection with Soft Teacher",
ICCV 2021.
"""

from __future__ import annotations

import torch

TRUSTS = "trusts"
"""In a batch: the trust of each box (N,), 0..1, in the order of the boxes. Batches without it trust all of them."""


def by_picture(index: torch.Tensor, trusts: torch.Tensor, pictures: int, most: int) -> torch.Tensor:
    """Trusts (N,) in the order of the assigner's boxes: float (``pictures``, ``most``), 1 where there is no box.

    ``index`` (N,): the number of each box's picture, rising.
    """
    places = index.long()
    counts = torch.zeros(pictures + 1, dtype=torch.long, device=index.device)
    counts.scatter_add_(0, places + 1, torch.ones_like(places))
    within = torch.arange(len(places), device=index.device) - counts.cumsum(0)[places]
    found = torch.ones(pictures, most, dtype=torch.float32, device=index.device)
    found[places, within] = trusts.float()
    return found


def of_cells(trusts: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The trust of the box that each cell is assigned to: float (B, A). ``trusts``: (B, most), ``boxes``: (B, A), its
    place; of a cell without a box any."""
    return trusts.gather(1, boxes.long())
