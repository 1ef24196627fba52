"""Self-distillation: the student gives the same distribution over learned prototypes as its teacher does.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (DINO), ICCV 2021: the teacher's side is
centred and sharpened, which is what keeps it from collapsing; no negatives are needed. The dense term says the same of
places that two views share, as iBOT (Zhou et al., ICLR 2022) does of tokens, with pairs by geometry.
"""

from __future__ import annotations

import warnings

import torch
from lightly.models.modules.center import Center
from lightly.models.modules.heads import DINOProjectionHead
from torch import nn

from marauder.models.pretraining.gathering import gather_rows
from marauder.models.pretraining.towers import TwoTowers


class FollowedCenter(Center):
    """Lightly's centre, moved once an update by the mean over everything that all ranks saw in it."""

    def __init__(self, dimension: int, momentum: float) -> None:
        super().__init__((1, dimension), momentum=momentum)
        self.total: torch.Tensor
        # Not in the state: empty after each update, and checkpoints are taken between updates.
        self.register_buffer("total", torch.zeros(1, dimension + 1), persistent=False)

    @torch.no_grad()
    def put_aside(self, rows: torch.Tensor) -> None:
        """Rows (N, K) of this update."""
        self.total[0, :-1] += rows.sum(dim=0)
        self.total[0, -1] += len(rows)

    @torch.no_grad()
    def take_in(self) -> None:
        """Move towards the mean of the rows of this update."""
        total = gather_rows(self.total).sum(dim=0, keepdim=True)
        if float(total[0, -1]) > 0:
            self.update(total[:, :-1] / total[:, -1:])
        self.total.zero_()


class SelfDistillation(TwoTowers):
    """DINO on P3, P4 and P5, for whole views and for places; see the head of this file."""

    name = "distillation"
    title = "Self-distillation"

    def build_head(self, term: str, channels: int) -> nn.Module:
        """DINO's head: three layers, unit length, prototypes of unit length."""
        settings = self.settings
        batch_norm = settings.head_batch_norm and term == "global"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Lightly's form of weight_norm, replaced right here
            head = DINOProjectionHead(
                channels, settings.hidden, settings.output, settings.prototypes, batch_norm=batch_norm
            )
            nn.utils.remove_weight_norm(head.last_layer)
        # The older form cannot be copied once it has computed a weight; this one can.
        nn.utils.parametrizations.weight_norm(head.last_layer)
        # The lengths of the prototypes, which stay one.
        head.last_layer.parametrizations.weight.original0.requires_grad_(False)
        return head

    def build_rest(self) -> None:
        """A centre for each part of the loss."""
        settings = self.settings
        self.centers = nn.ModuleDict(
            {name: FollowedCenter(settings.prototypes, settings.center_momentum) for name in self.loss_names}
        )

    def predict(self, term: str, rows: torch.Tensor, place: int) -> torch.Tensor:
        """Student and teacher are compared as they are: the centre makes the difference."""
        return rows

    def compare(self, name: str, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each row, equation 1 of DINO, with its centring and sharpening of the teacher.

        Lightly's ``DINOLoss`` gives the mean over a batch and moves its centre at every call; sums that add up over a
        batch that is cut need each row by itself.
        """
        center = self._center(name).value
        wanted = torch.softmax((keys - center) / self.settings.teacher_temperature, dim=1)
        return -(wanted * torch.log_softmax(queries / self.settings.student_temperature, dim=1)).sum(dim=1)

    def put_aside(self, name: str, keys: torch.Tensor) -> None:
        """For the centre of that part of the loss."""
        self._center(name).put_aside(keys)

    def take_in(self) -> None:
        """All centres."""
        for name in self.loss_names:
            self._center(name).take_in()

    def _center(self, name: str) -> FollowedCenter:
        center = self.centers[name]
        assert isinstance(center, FollowedCenter)
        return center
