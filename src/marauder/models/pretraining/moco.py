"""Momentum contrast: tell the teacher's vector of the same picture, or place, from those of other pictures.

In the family of MoCo v3 (Chen, Xie & He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV
2021): symmetrised InfoNCE, momentum encoder, prediction head. MoCo v3 takes its negatives from batches of thousands;
with the batches of one machine they come from a queue of teacher keys instead, as in MoCo v2 (Chen et al., 2020). The
dense term is that of DenseCL (Wang et al., "Dense Contrastive Learning", CVPR 2021), with pairs by geometry.
"""

from __future__ import annotations

import torch
from lightly.loss.ntx_ent_loss import NTXentLoss
from lightly.models.modules.heads import DenseCLProjectionHead, MoCoProjectionHead
from torch import nn
from torch.nn import functional

from marauder.models.pretraining.base import LEVELS
from marauder.models.pretraining.gathering import gather_rows
from marauder.models.pretraining.towers import TwoTowers


class KeyQueue(nn.Module):
    """The newest ``size`` teacher keys, of unit length; random directions until enough have come.

    Takes the place of Lightly's memory bank, which changes at every forward pass and is not in ``state_dict``. Keys of
    an update wait in ``waiting``, which only buffers hold, so that an update which did not fit into memory and is done
    again leaves none behind.
    """

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        self.keys: torch.Tensor
        self.waiting: torch.Tensor
        self.count: torch.Tensor
        self.register_buffer("keys", functional.normalize(torch.randn(size, dimension), dim=1))
        self.register_buffer("waiting", torch.zeros(size, dimension), persistent=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(
        self, output: torch.Tensor, labels: torch.Tensor | None = None, update: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``output`` as it is, and the negatives (D, size); nothing is taken in here, whatever ``update`` says."""
        return output, self.keys.clone().T

    @torch.no_grad()
    def put_aside(self, rows: torch.Tensor) -> None:
        """Rows (N, D) that wait until the update is done; of more than the queue holds, the newest."""
        size, free = len(self.keys), len(self.keys) - int(self.count)
        rows = functional.normalize(rows.float(), dim=1)[-size:]
        if len(rows) > free:
            self.waiting.copy_(self.waiting.roll(free - len(rows), dims=0))
            self.count.fill_(size - len(rows))
        start = int(self.count)
        self.waiting[start : start + len(rows)] = rows
        self.count += len(rows)

    @torch.no_grad()
    def take_in(self) -> None:
        """The waiting rows of all ranks push the oldest keys out."""
        rows = gather_rows(self.waiting[: int(self.count)])[-len(self.keys) :]
        self.keys.copy_(torch.cat([self.keys[len(rows) :], rows]))
        self.count.zero_()


class QueueContrast(NTXentLoss):
    """Lightly's InfoNCE over a ``KeyQueue``, one value a row instead of the mean, so that sums can be built."""

    def __init__(self, temperature: float, size: int, dimension: int) -> None:
        super().__init__(temperature)
        # Called as Lightly calls its own, see KeyQueue.forward; kept under this one name, or it would be saved twice.
        self.memory_bank = KeyQueue(size, dimension)
        self.cross_entropy = nn.CrossEntropyLoss(reduction="none")


class MomentumContrast(TwoTowers):
    """MoCo v3 on P3, P4 and P5, with queues, and DenseCL's term beside it; see the head of this file."""

    name = "moco"
    title = "Momentum contrast"

    def build_head(self, term: str, channels: int) -> nn.Module:
        """MoCo v3's projection for whole views, DenseCL's for places."""
        hidden, output = self.settings.hidden, self.settings.output
        if term == "global":
            return MoCoProjectionHead(channels, hidden, output, num_layers=2, batch_norm=self.settings.head_batch_norm)
        return DenseCLProjectionHead(channels, hidden, output)

    def build_rest(self) -> None:
        """MoCo v3's prediction heads, and a queue for each part of the loss."""
        hidden, output = self.settings.hidden, self.settings.output
        batch_norm = self.settings.head_batch_norm
        self.predictors = nn.ModuleList(
            MoCoProjectionHead(output, hidden, output, num_layers=2, batch_norm=batch_norm) for _ in LEVELS
        )
        contrast = {
            name: QueueContrast(self.settings.temperature, self.settings.queue, output) for name in self.loss_names
        }
        self.contrast = nn.ModuleDict(contrast)

    def predict(self, term: str, rows: torch.Tensor, place: int) -> torch.Tensor:
        """The student guesses the teacher's vector of a whole view; places are compared as they are (DenseCL)."""
        predicted: torch.Tensor = self.predictors[place](rows)
        return predicted

    def compare(self, name: str, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """InfoNCE of each row, van den Oord et al. (2018): -log softmax over its key and the queue, at the key."""
        found: torch.Tensor = self.contrast[name](queries, keys)
        return found

    def put_aside(self, name: str, keys: torch.Tensor) -> None:
        """Into the queue of that part of the loss, once the update is done."""
        self._queue(name).put_aside(keys)

    def take_in(self) -> None:
        """All queues."""
        for name in self.loss_names:
            self._queue(name).take_in()

    def _queue(self, name: str) -> KeyQueue:
        contrast = self.contrast[name]
        assert isinstance(contrast, QueueContrast)
        return contrast.memory_bank
