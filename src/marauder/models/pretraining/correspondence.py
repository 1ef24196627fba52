"""Which places of two views show the same place of the source picture, from the geometry of the views alone.

Dense pairs by geometry rather than by likeness of features: Xie et al., "Propagate Yourself" (PixPro), CVPR 2021;
Bardes et al., "VICRegL", NeurIPS 2022.
"""

from __future__ import annotations

import torch
from torch.nn import functional

GOLDEN_RATIO, SILVER_RATIO = 0.6180339887498949, 0.41421356237309515


def locate(
    matrices: torch.Tensor, others: torch.Tensor, height: int, width: int, stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cells of one view's map lie in another view of the same picture.

    ``matrices``, ``others``: float (B, 3, 3), view pixels to source pixels. The map has ``height`` × ``width`` cells
    of ``stride`` pixels; both views have the same size. Returns (B, height · width, 2) x and y as -1..1 from border to
    border of the other view, and bool (B, height · width): inside it.
    """
    device = matrices.device
    rows = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
    columns = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    cells = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x.flatten())])
    across = torch.linalg.solve(others.float(), matrices.float())
    placed = across @ cells
    depth = placed[:, 2]
    positive = depth > 1e-6
    placed = placed[:, :2] / torch.where(positive, depth, torch.ones_like(depth))[:, None]
    size = torch.tensor([width * stride, height * stride], device=device, dtype=torch.float32)
    places = (placed.transpose(1, 2) / size) * 2 - 1
    return places, positive & (places.abs() <= 1).all(dim=-1)


def choose(valid: torch.Tensor, count: int, turn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` cells of each row of bool (B, N), valid ones first, spread over the map: a function of ``turn`` ().

    Returns positions int64 (B, count) and whether each is valid. The choice for a row does not depend on other rows.
    """
    length = valid.shape[1]
    cells = torch.arange(1, length + 1, device=valid.device, dtype=torch.float64)
    # Multiples of the golden ratio, modulo 1, spread evenly however many are taken; ``turn`` shifts the choice.
    # In float64, as the product grows with the updates.
    order = torch.frac(cells * GOLDEN_RATIO + turn.double() * SILVER_RATIO)
    # The 2 puts valid cells first, as the fractions stay below 1.
    picked = (valid.double() * 2 + order).topk(min(count, length), dim=1).indices
    return picked, valid.gather(1, picked)


def take(maps: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Vectors (B, count, D) at ``cells`` (B, count) of ``maps`` (B, D, h, w)."""
    rows = torch.arange(len(maps), device=maps.device)[:, None]
    return maps.flatten(2).transpose(1, 2)[rows, cells]


def sample(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Vectors (B, count, D) of ``maps`` (B, D, h, w) at ``places`` (B, count, 2) in -1..1, bilinearly."""
    found = functional.grid_sample(maps.float(), places[:, None], padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)
