"""What the methods share: a student and its slowly following teacher, three levels, global and dense terms, their sums.

Teacher as a moving average: Tarvainen & Valpola, "Mean teachers", NeurIPS 2017. Nothing that is learned across pictures
(queues, centres) changes within an update: the vectors that an update's teacher gave are put aside and taken in by
``updated``, from all ranks in their order. So negatives and centres do not depend on how a batch is cut into
micro-batches or spread over ranks; only the batch normalisation sees the micro-batch, as in detection.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from itertools import permutations
from pathlib import Path

import torch
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import nn

from marauder.core.randomness import stream
from marauder.models.pretraining.base import LEVELS, Outputs, PretrainingMethod
from marauder.models.pretraining.correspondence import choose, locate, sample, take
from marauder.models.pretraining.network import STRIDES, Backbone, build_backbone
from marauder.models.pretraining.settings import MethodSettings

TERMS = ("global", "dense")
KEYS_A_MAP = 2
"""Places of each view and level whose dense vectors go into queues and centres."""


class Tower(nn.Module):
    """A backbone with a head a level for whole views and one for places."""

    def __init__(self, backbone: Backbone, heads: dict[str, list[nn.Module]]) -> None:
        super().__init__()
        self.backbone = backbone
        self.global_heads = nn.ModuleList(heads["global"])
        self.dense_heads = nn.ModuleList(heads["dense"])

    def forward(self, views: torch.Tensor) -> dict[str, torch.Tensor]:
        """``global_p3`` (N, D), ``dense_p3`` (N, D, h, w), ... of ``views`` (N, 3, S, S)."""
        found = {}
        for place, maps in enumerate(self.backbone(views)):
            found[f"global_{LEVELS[place]}"] = self.global_heads[place](maps.mean(dim=(2, 3)))
            count, channels, height, width = maps.shape
            cells = maps.permute(0, 2, 3, 1).reshape(-1, channels)
            projected = self.dense_heads[place](cells).reshape(count, height, width, -1)
            found[f"dense_{LEVELS[place]}"] = projected.permute(0, 3, 1, 2)
        return found


class TwoTowers(PretrainingMethod):
    """Student, teacher and the comparison of all ordered pairs of views; what is compared how is the method's."""

    def __init__(self, architecture: str, settings: MethodSettings, seed: int, init: Path | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.loss_names = tuple(f"{term}_{level}" for term in TERMS for level in LEVELS)
        backbone = build_backbone(architecture, seed, init)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(seed, "pretraining heads").integers(2**31)))
            heads = {term: [self.build_head(term, channels) for channels in backbone.channels] for term in TERMS}
            self.student = Tower(backbone, heads)
            self.build_rest()
        self.teacher = copy.deepcopy(self.student)
        deactivate_requires_grad(self.teacher)
        self.turn: torch.Tensor
        # In the state: after a resume the places are chosen as they would have been.
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        shares = torch.tensor(settings.levels) / max(sum(settings.levels), 1e-9)
        weights = torch.cat([settings.global_weight * shares, settings.dense_weight * shares])
        self.weights: torch.Tensor
        self.register_buffer("weights", weights, persistent=False)

    @abstractmethod
    def build_head(self, term: str, channels: int) -> nn.Module:
        """The head of a level with so many channels, for ``global`` or ``dense``: rows (N, channels) to rows (N, D)."""

    @abstractmethod
    def build_rest(self) -> None:
        """What the method has beyond the towers; in the stream of random numbers that the heads come from."""

    @abstractmethod
    def predict(self, term: str, rows: torch.Tensor, place: int) -> torch.Tensor:
        """What the student's rows (N, D) of a term and level become before they are compared."""

    @abstractmethod
    def compare(self, name: str, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Loss (N,) of the student's rows against the teacher's (N, D), float32, of the part ``name`` of the loss."""

    @abstractmethod
    def put_aside(self, name: str, keys: torch.Tensor) -> None:
        """Teacher rows (N, D) of this update, to be taken in once it is done."""

    @abstractmethod
    def take_in(self) -> None:
        """Take in what was put aside on all ranks."""

    def forward(self, views: torch.Tensor) -> Outputs:
        """See ``PretrainingMethod``: ``student_global_p3`` (B, V, D), ``teacher_dense_p5`` (B, V, D, h, w), ..."""
        pictures, count = views.shape[:2]
        flat = views.flatten(0, 1)
        with torch.no_grad():
            outputs = {f"teacher_{name}": rows for name, rows in self.teacher(flat).items()}
        for name, rows in self.student(flat).items():
            term, level = name.split("_")
            if term == "global":
                rows = self.predict(term, rows, LEVELS.index(level))
            outputs[f"student_{name}"] = rows
        return {name: rows.unflatten(0, (pictures, count)) for name, rows in outputs.items()}

    def loss(self, outputs: Outputs, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``PretrainingMethod``; each part is the mean over ordered pairs of views, and over places."""
        matrices = batch["matrices"]
        pictures, count = matrices.shape[:2]
        pairs = list(permutations(range(count), 2))
        sums = []
        for name in self.loss_names:
            student, teacher = outputs[f"student_{name}"], outputs[f"teacher_{name}"].detach().float()
            term, level = name.split("_")
            stride = STRIDES[LEVELS.index(level)]
            total = student.new_zeros((), dtype=torch.float32)
            for one, other in pairs:
                if term == "global":
                    total = total + self.compare(name, student[:, one].float(), teacher[:, other]).sum()
                else:
                    total = total + self._dense(
                        name, student[:, one], teacher[:, other], matrices[:, (one, other)], stride
                    )
            sums.append(total / len(pairs))
            # Measuring must leave queues and centres as they are.
            if self.training:
                self.put_aside(name, self._representatives(term, teacher))
        return torch.stack(sums) * self.weights, torch.tensor(float(pictures), device=matrices.device)

    def _dense(
        self, name: str, student: torch.Tensor, teacher: torch.Tensor, matrices: torch.Tensor, stride: int
    ) -> torch.Tensor:
        """Sum over pictures of the mean over places that both views show; a picture without any adds nothing."""
        height, width = student.shape[-2:]
        places, valid = locate(matrices[:, 0], matrices[:, 1], height, width, stride)
        cells, known = choose(valid, self.settings.points, self.turn)
        queries = take(student, cells).float()
        keys = sample(teacher, places.gather(1, cells[..., None].expand(-1, -1, 2)))
        each = self.compare(name, queries.flatten(0, 1), keys.flatten(0, 1)).view(known.shape)
        return (torch.where(known, each, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)).sum()

    def _representatives(self, term: str, teacher: torch.Tensor) -> torch.Tensor:
        """Rows (N, D) that stand for an update's teacher vectors: all global ones, a few places of every map."""
        flat = teacher.flatten(0, 1)
        if term == "global":
            return flat
        every = torch.ones(len(flat), flat[0, 0].numel(), dtype=torch.bool, device=flat.device)
        return take(flat, choose(every, KEYS_A_MAP, self.turn)[0]).flatten(0, 1)

    @torch.no_grad()
    def updated(self, step: int, steps: int) -> None:
        """See ``PretrainingMethod``. The momentum rises from ``settings.momentum`` to 1 along half a cosine."""
        momentum = cosine_schedule(min(step, steps), steps, self.settings.momentum, 1.0)
        update_momentum(self.student, self.teacher, momentum)
        self.take_in()
        self.turn += 1

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """See ``PretrainingMethod``."""
        found: list[torch.Tensor] = self.student.backbone(images)
        return found

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """See ``PretrainingMethod``."""
        return self.student.backbone.detector_state()
