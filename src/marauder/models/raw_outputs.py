"""What a detector's head puts out before anything is thrown away: scores of every class, sides with their spread.

The network up to the head runs once; the head's last layers can be run again and again on what it gave
(``models.dropout``). Candidates are suppressed without regard to class, so that a box keeps the scores of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.ops import nms

from marauder.models.ultralytics_adapter import DetectionModel

ANCHORS_LOOKED_AT, ANCHORS_IN_ALL = 1000, 3000
"""Anchors of a picture that go into suppression, the best scores: of each class, and of all together. The time that
suppression takes grows with the square of their number."""


@dataclass(frozen=True, eq=False)
class HeadInputs:
    """``maps``: what the head is fed, one (B, channels, h, w) a stride. ``features``: float32 (B, D) of unit length,
    the mean over the map that the backbone ends with."""

    maps: tuple[torch.Tensor, ...]
    features: torch.Tensor


@dataclass(frozen=True, eq=False)
class BranchFeatures:
    """What the last 1×1 convolutions of the head's two branches are fed, by stride."""

    box: tuple[torch.Tensor, ...]
    scores: tuple[torch.Tensor, ...]


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """Of every anchor point A: ``boxes`` (B, A, 4) x0 y0 x1 y1 in pixels of the input; ``scores`` (B, A, classes) in
    0..1, each class for itself; ``side_deviation`` (B, A, 4) in pixels, left top right bottom, see ``decode_sides``
    (``None`` for a head that puts out no distributions)."""

    boxes: torch.Tensor
    scores: torch.Tensor
    side_deviation: torch.Tensor | None


def detection_head(model: DetectionModel) -> Any:
    """The last layer of the model."""
    layers: Any = model.model
    return layers[-1]


def branches(model: DetectionModel) -> tuple[list[nn.Sequential], list[nn.Sequential]]:
    """The box and the class branches of the head in use, one a stride; each ends with a 1×1 convolution."""
    head = detection_head(model)
    used = head.one2one if head.end2end else head.one2many
    return list(used["box_head"]), list(used["cls_head"])


def backbone_map(model: DetectionModel, images: torch.Tensor) -> torch.Tensor:
    """The map (B, D, h, w) that the backbone ends with; its layers stand in a row, each fed by the one before."""
    maps: Any = images
    description: Any = model.yaml
    layers: Any = model.model
    for layer in layers[: len(description["backbone"])]:
        if layer.f != -1:
            raise ValueError(f"backbone layer {layer.i} takes more than what the layer before it gives")
        maps = layer(maps)
    assert isinstance(maps, torch.Tensor)
    return maps


def run_to_head(model: DetectionModel, images: torch.Tensor) -> HeadInputs:
    """Everything up to the head. ``images``: float (B, 3, H, W) in 0..1, sides multiples of the stride."""
    layers: Any = model.model
    description: Any = model.yaml
    saved: Any = model.save
    backbone_end = len(description["backbone"]) - 1
    kept: list[Any] = []
    current: Any = images
    features = images.new_zeros((len(images), 0))
    for layer in layers[:-1]:
        current = layer(_input_of(layer, current, kept))
        # As Ultralytics' own forward: maps that no later layer asks for do not stay in memory.
        kept.append(current if layer.i in saved else None)
        if layer.i == backbone_end:
            features = nn.functional.normalize(current.float().mean(dim=(2, 3)), dim=1)
    return HeadInputs(tuple(kept[source] if source != -1 else current for source in layers[-1].f), features)


def _input_of(layer: Any, current: Any, kept: Sequence[Any]) -> Any:
    if layer.f == -1:
        return current
    if isinstance(layer.f, int):
        return kept[layer.f]
    return [current if source == -1 else kept[source] for source in layer.f]


def run_branches(model: DetectionModel, maps: Sequence[torch.Tensor]) -> BranchFeatures:
    """The head's branches up to, not with, their last convolution."""
    box, scores = branches(model)
    return BranchFeatures(
        tuple(branch[:-1](values) for branch, values in zip(box, maps, strict=True)),
        tuple(branch[:-1](values) for branch, values in zip(scores, maps, strict=True)),
    )


def finish_scores(model: DetectionModel, features: BranchFeatures) -> torch.Tensor:
    """Scores of every anchor and class (B, A, classes) in 0..1; draws anew where there is dropout in the branches."""
    return _finish(branches(model)[1], features.scores).sigmoid()


def finish(model: DetectionModel, features: BranchFeatures) -> RawOutputs:
    """Boxes, scores and spread of the sides of every anchor."""
    head = detection_head(model)
    distributions = _finish(branches(model)[0], features.box)
    distances, deviation = decode_sides(distributions, int(head.reg_max))
    points, strides = anchor_points([tuple(values.shape[2:]) for values in features.box], head.stride.tolist())
    points, strides = points.to(distances), strides.to(distances)
    boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1) * strides
    return RawOutputs(boxes, finish_scores(model, features), None if deviation is None else deviation * strides)


def _finish(used: Sequence[nn.Sequential], features: Sequence[torch.Tensor]) -> torch.Tensor:
    done = [branch[-1](values).flatten(2) for branch, values in zip(used, features, strict=True)]
    return torch.cat(done, dim=2).transpose(1, 2).float()


def decode_sides(distributions: torch.Tensor, bins: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Distances of the four sides from the anchor and how unsure they are, both (B, A, 4) in strides.

    ``distributions``: logits (B, A, 4 · bins). The distance is the mean of the distribution over 0 .. bins - 1 (Li et
    al., "Generalized focal loss", NeurIPS 2020). Its variance has a floor: a distance between two bins has to be
    spread over both, with variance f (1 - f), f its fractional part, and that is what training teaches for a side that
    is known exactly. The deviation is the root of the variance above that floor; 0 for a side that is certain.
    ``None`` with one bin: such heads put out distances, no distributions.
    """
    if bins == 1:
        return distributions, None
    shares = distributions.unflatten(2, (4, bins)).softmax(dim=-1)
    places = torch.arange(bins, dtype=shares.dtype, device=shares.device)
    mean = shares @ places
    variance = (shares * (places - mean[..., None]) ** 2).sum(dim=-1)
    fraction = mean - mean.floor()
    return mean, (variance - fraction * (1 - fraction)).clamp(min=0).sqrt()


def anchor_points(shapes: Sequence[tuple[int, ...]], strides: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres of the cells of all maps, x y (A, 2) in strides, and the stride of each (A, 1) in pixels."""
    points, sizes = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        points.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
        sizes.append(torch.full((height * width, 1), float(stride)))
    return torch.cat(points), torch.cat(sizes)


def keep_candidates(raw: RawOutputs, confidence: float, overlap: float, most: int) -> list[torch.Tensor]:
    """Anchors of each picture that stand for a box of their own: int64 (N,), best score first.

    Those whose best class reaches ``confidence``, after suppression without regard to class at IoU ``overlap``, at most
    ``most``. Where there are more, the best of every best class comes first, then the second of each, and so on: many
    boxes of a common class must not crowd out the few of a rare one, and many classes must not make many boxes.
    """
    kept = []
    for boxes, scores in zip(raw.boxes, raw.scores, strict=True):
        best, kinds = scores.max(dim=1)
        chosen = torch.nonzero(best >= confidence).flatten()
        # Stable: candidates of equal score stand in the order of their anchors, always.
        chosen = chosen[torch.argsort(best[chosen], descending=True, stable=True)]
        chosen = chosen[_ranks(kinds[chosen]) < ANCHORS_LOOKED_AT]
        chosen = chosen[_in_turns(kinds[chosen], ANCHORS_IN_ALL)]
        chosen = chosen[nms(boxes[chosen], best[chosen], overlap)]
        kept.append(chosen[_in_turns(kinds[chosen], most)])
    return kept


def _ranks(kinds: torch.Tensor) -> torch.Tensor:
    """How many of the same kind stand before each of ``kinds`` (N,): int64 (N,)."""
    together = torch.argsort(kinds, stable=True)
    counts = torch.unique_consecutive(kinds[together], return_counts=True)[1]
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    ranks = torch.empty_like(together)
    ranks[together] = torch.arange(len(kinds), device=kinds.device) - starts
    return ranks


def _in_turns(kinds: torch.Tensor, most: int) -> torch.Tensor:
    """Places of at most ``most`` of ``kinds`` (N,), the first of every kind before the second of any; ascending."""
    return torch.argsort(_ranks(kinds), stable=True)[:most].sort().values
