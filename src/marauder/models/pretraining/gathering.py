"""Rows of tensors from all ranks, in their order, when ranks have different numbers of them."""

from __future__ import annotations

import torch
from torch import distributed


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows (N, D) of every rank one after another; in one process ``rows`` themselves."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return rows
    size = distributed.get_world_size()
    length = torch.tensor([len(rows)], device=rows.device)
    lengths = [torch.zeros_like(length) for _ in range(size)]
    distributed.all_gather(lengths, length)
    longest = max(int(other) for other in lengths)
    # all_gather takes tensors of one shape only.
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.zeros_like(padded) for _ in range(size)]
    distributed.all_gather(parts, padded)
    return torch.cat([part[: int(other)] for part, other in zip(parts, lengths, strict=True)])
