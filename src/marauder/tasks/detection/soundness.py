"""Signs that a detector is damaged or has never learned: its figures are true, and say nothing about the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from marauder.data.records import Detections

ALIKE = 1e-3
"""Best scores of pictures that vary by less than this share say that the detector hardly reacts to their content."""


def doubts_of_weights(network: nn.Module) -> list[str]:
    """What is wrong with the numbers of a network, a sentence each: not finite, or one value throughout a tensor."""
    tensors = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    # Tensors of one dimension are alike in many a sound network: biases of 0, scales of 1.
    weights = {name: value for name, value in tensors.items() if value.ndim > 1 and value.numel() > 1}
    constant = [
        name for name, value in weights.items() if name not in broken and bool((value == value.flatten()[0]).all())
    ]
    found = []
    if broken:
        found.append(f"{_of(broken, tensors)} hold numbers that are not finite (NaN or infinite): the file is damaged")
    if constant:
        found.append(f"{_of(constant, weights)} hold the same number throughout: nothing was ever learned into them")
    return found


def doubts_of_answers(detections: Sequence[Detections]) -> list[str]:
    """What is odd about the detections of all pictures taken together, a sentence each."""
    scores = np.concatenate([one.scores for one in detections]) if detections else np.empty(0)
    if not len(scores):
        return [f"nothing was found in any of {len(detections)} pictures, at any score"] if detections else []
    if len(scores) > 1 and np.ptp(scores) <= ALIKE * scores.max():
        return [
            f"all {len(scores):,} detections have nearly the same score, {scores.max():.3g}: it distinguishes nothing"
        ]
    best = np.array([one.scores.max(initial=0) for one in detections])
    if len(best) > 1 and np.ptp(best) <= ALIKE * best.max():
        return [
            f"the best score is about {best.max():.3g} in every picture: the detector hardly reacts to their content"
        ]
    return []


def _of(named: Sequence[str], among: dict[str, torch.Tensor]) -> str:
    return f"{len(named)} of {len(among)} weight tensors ({named[0]}{', ...' if len(named) > 1 else ''})"
