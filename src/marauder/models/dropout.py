"""Monte Carlo dropout in the head of a detector that was trained without: channels left out before its last layers.

Source: Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016; whole channels as in Tompson et al.,
"Efficient object localization using convolutional networks", CVPR 2015. Before a 1×1 convolution that amounts to
sampling its weights once for the whole picture, so that neighbouring anchors vote with the same sampled function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from marauder.core.errors import UserError
from marauder.core.randomness import stream
from marauder.models.raw_outputs import branches
from marauder.models.ultralytics_adapter import DetectionModel


def dropout_seed(seed: int, picture: str, number: int) -> int:
    """The seed of one pass over one picture: a function of the picture and the pass, not of the batch it is in."""
    return int(stream(seed, "dropout", picture, number).integers(2**62))


class HeadDropout:
    """Masks for the inputs of the head's last convolutions, drawn anew with ``draw`` before each pass."""

    def __init__(self, convolutions: Sequence[nn.Conv2d], rate: float) -> None:
        self.convolutions, self.rate = convolutions, rate
        self.widths = [convolution.in_channels for convolution in convolutions]
        self._masks: list[torch.Tensor] | None = None

    def draw(self, seeds: Sequence[int]) -> None:
        """Draw the masks of a batch, one seed a picture. Channels that stay are scaled by 1 / (1 - rate)."""
        rows = []
        for seed in seeds:
            # A generator a picture, on the processor: masks depend neither on the batch nor on the device.
            generator = torch.Generator().manual_seed(seed)
            rows.append(torch.rand(sum(self.widths), generator=generator) >= self.rate)
        kept = torch.stack(rows).float() / (1 - self.rate)
        self._masks = list(kept.split(self.widths, dim=1))

    def mask(self, number: int, values: torch.Tensor) -> torch.Tensor:
        """``values`` (B, channels, h, w), the input of convolution ``number``, with this pass's channels left out."""
        if self._masks is None:
            raise RuntimeError("draw() comes before the first pass with dropout")
        chosen = self._masks[number]
        if len(chosen) != len(values):
            raise RuntimeError(f"masks were drawn for {len(chosen)} pictures, the batch has {len(values)}")
        return values * chosen.to(values)[:, :, None, None]


@contextmanager
def head_dropout(model: DetectionModel, rate: float) -> Iterator[HeadDropout]:
    """Put dropout of ``rate`` (0 to below 1) before the last convolution of each of the head's branches, for a block.

    Afterwards the model is as it was. Raises ``UserError`` for a head whose branches end otherwise.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate is from 0 to below 1, not {rate}")
    convolutions: list[nn.Conv2d] = []
    for branch in (part for parts in branches(model) for part in parts):
        last = branch[-1]
        if not isinstance(last, nn.Conv2d):
            raise UserError(
                f"dropout cannot be put into this detector: its head ends with {type(last).__name__}, not with a "
                "convolution; use several models (--use-ensemble) instead"
            )
        convolutions.append(last)
    dropout = HeadDropout(convolutions, rate)

    def hook(number: int) -> Any:
        return lambda _module, inputs: (dropout.mask(number, inputs[0]),)

    handles = [layer.register_forward_pre_hook(hook(number)) for number, layer in enumerate(convolutions)]
    try:
        yield dropout
    finally:
        for handle in handles:
            handle.remove()
