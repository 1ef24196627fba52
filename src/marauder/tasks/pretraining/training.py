"""Pretraining as a task for the engine: keyed views, a method's loss in sums, signs of collapse after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marauder.core.randomness import stream
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.records import Record
from marauder.engine.task import Batch, LocalBatch, SampleContext, SampleKey, Trouble
from marauder.imaging.letterbox import fit
from marauder.imaging.underwater_view_settings import ViewSettings
from marauder.imaging.underwater_views import View, draw_views
from marauder.models.pretraining.base import PretrainingMethod, build_method
from marauder.models.pretraining.settings import MethodSettings
from marauder.models.pretraining.signs import FEWEST, CollapseSettings, Signs, judge, measure_signs
from marauder.tasks.pretraining.settings import SIGNS

START = "start/"
"""Before the names of the same signs of the weights that training started from."""
SETTLED = 0.95
"""Until this share of the running statistics comes from pictures, features in evaluation mode say nothing."""
STRIDE = 32
TRIED = 16
"""Pictures tried in the place of one that cannot be read."""
REMEDY = (
    "Training on would not help a detector. Change it and start over with --fresh; docs/step1_pretraining.md "
    "describes each setting"
)


@dataclass(frozen=True)
class PretrainingTaskPlan:
    """What is pretrained on what. ``source_size``: pixels of the long side that pictures are kept at; ``image_size``:
    of a side of a view."""

    architecture: str
    method: str
    settings: MethodSettings
    views: ViewSettings
    training: Sequence[Record]
    held_out: Sequence[Record]
    image_size: int
    source_size: int
    seed: int
    init: Path | None = None
    collapse: CollapseSettings = field(default_factory=CollapseSettings)


class PretrainingTask:
    """Brings a backbone's pretraining to the engine (``marauder.engine.task.Task``)."""

    metric_names: tuple[str, ...] = SIGNS

    def __init__(self, plan: PretrainingTaskPlan, cache_folder: Path | None, cache_bytes: int) -> None:
        self.plan = plan
        self.training_length = len(plan.training)
        self.store = PictureStore(plan.training, plan.source_size, cache_folder, cache_bytes)
        spare = cache_bytes - int(self.store.offsets[-1])
        self.held_out_store = PictureStore(plan.held_out, plan.image_size, cache_folder, max(spare, 0))
        # Known only to the method, and building one takes time: asked when first needed.
        self._loss_names: tuple[str, ...] | None = None
        self._start: dict[str, float] | None = None

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The parts of the method's loss."""
        if self._loss_names is None:
            self._loss_names = tuple(self.build_model(self.plan.seed).loss_names)
        return self._loss_names

    def build_model(self, seed: int) -> PretrainingMethod:
        """The method around the backbone, from ``plan.init`` where given, else random."""
        plan = self.plan
        method = build_method(plan.method, plan.architecture, plan.settings, seed, plan.init)
        self._loss_names = tuple(method.loss_names)
        return method

    def criterion(self, model: torch.nn.Module) -> Any:
        """The method's own loss."""
        return _method(model).loss

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        """Views are drawn alike from the first update to the last."""
        return SampleContext()

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        """Draw the views of ``keys``; a picture that cannot be read is replaced by the next one, and reported."""
        set_aside: dict[str, str] = {}
        size = context.image_size or self.plan.image_size
        drawn = [self.views_of(key, size, set_aside) for key in keys]
        pictures = np.stack([[view.picture for view in views] for views in drawn])
        # Where each view lies in its picture: places of two views are compared by it.
        matrices = np.stack([[view.matrix for view in views] for views in drawn]).astype(np.float32)
        tensors = {"views": torch.from_numpy(pictures), "matrices": torch.from_numpy(matrices)}
        return LocalBatch(tensors, list(keys), set_aside)

    def views_of(self, key: SampleKey, size: int, set_aside: dict[str, str]) -> list[View]:
        """The views of a sample, ``size`` pixels a side: a function of the seed, the epoch and the index besides."""
        picture = self._picture(key.index, set_aside)
        random = stream(self.plan.seed, "view", key.epoch, key.index)
        return draw_views(picture, size, self.plan.views, random)

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop``."""
        return {name: tensor[start:stop] for name, tensor in batch.items()}

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Views as float (B, V, 3, S, S) in 0..1."""
        return batch["views"].permute(0, 1, 4, 2, 3).float().div_(255)

    def updated(self, model: torch.nn.Module, step: int, steps: int) -> None:
        """The teacher follows, queues and centres take in what it saw."""
        _method(model).updated(step, steps)

    def predict(self, model: torch.nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        """Features of this rank's share of the held-out pictures, pairs of position and (D,), and how far the running
        statistics have settled; ``None``: stopped."""
        share = range(rank, len(self.plan.held_out), size)
        found = look(model, self.plan.held_out, self.held_out_store, share, should_stop)
        return (found, settled_share(model)) if found is not None else None

    def score(self, shares: list[Any]) -> dict[str, float]:
        """Signs of collapse of the held-out pictures' features; NaN where fewer than two could be read."""
        # Back into order: the signs are sums of floats, and must not depend on the number of ranks.
        pairs = sorted((pair for found, _ in shares for pair in found), key=lambda pair: int(pair[0]))
        start = {f"{START}{name}": value for name, value in self.start_signs().items()}
        return {**signs_of([row for _, row in pairs]), "settled": min(share for _, share in shares), **start}

    def start_signs(self) -> dict[str, float]:
        """The same signs of the weights that training starts from."""
        if self._start is None:
            # Built anew, also after a resume: the weights in training are no longer those of the start.
            method = self.build_model(self.plan.seed)
            found = look(method, self.plan.held_out, self.held_out_store, range(len(self.plan.held_out)))
            self._start = signs_of([row for _, row in found or ()])
        return self._start

    def trouble(self, metrics: Mapping[str, float]) -> Trouble | None:
        """Collapse, in the words of ``models.pretraining.signs``."""
        why = collapse_in(metrics, self.plan.collapse)
        return Trouble(why, REMEDY) if why else None

    def describe_batch(self, keys: list[SampleKey]) -> list[str]:
        """Files of the samples."""
        return [str(self.plan.training[key.index].picture) for key in keys]

    def close(self, remove: bool = False) -> None:
        """Let go of the stored pictures; ``remove`` deletes them."""
        self.store.close(remove)
        self.held_out_store.close(remove)

    def _picture(self, index: int, set_aside: dict[str, str]) -> np.ndarray:
        for offset in range(min(TRIED, self.training_length)):
            try:
                # The next picture instead: two views of plain grey would teach that everything is alike.
                return self.store.get((index + offset) % self.training_length)
            except UnreadablePictureError as error:
                set_aside[str(error.path)] = error.reason
        side = self.plan.source_size
        return np.full((side, side, 3), 114, np.uint8)


@torch.inference_mode()
def look(
    model: torch.nn.Module,
    records: Sequence[Record],
    store: PictureStore,
    indices: Sequence[int],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[tuple[int, np.ndarray]] | None:
    """Features of whole pictures, float32 (D,), by position; those that cannot be read are left out.

    One picture at a time, so that what it gives does not depend on which process looks at it. ``None``: stopped.
    """
    method = _method(model)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found = []
    try:
        for index in indices:
            if should_stop():
                return None
            try:
                picture = store.get(index)
            except UnreadablePictureError:
                continue
            box = fit(records[index].width, records[index].height, store.long_side, STRIDE)
            image = torch.from_numpy(box.apply(picture)).to(device).permute(2, 0, 1)[None].float().div_(255)
            found.append((index, method.features(image)[0].float().cpu().numpy()))
    finally:
        # Also when stopped: the trainer's model must be in the mode that it was given in.
        model.train(training)
    return found


def signs_of(rows: Sequence[np.ndarray]) -> dict[str, float]:
    """``SIGNS`` of feature vectors, with how many ``pictures`` they rest on and how many were ``not_finite``."""
    # One NaN would make every sign NaN, and a sign that is none reads like nothing to say.
    finite = [row for row in rows if np.isfinite(row).all()]
    about = {"pictures": float(len(finite)), "not_finite": float(len(rows) - len(finite))}
    if len(finite) < 2:
        return {**dict.fromkeys(SIGNS, float("nan")), **about}
    signs = measure_signs(np.stack(finite))
    return {**{name: float(getattr(signs, name)) for name in SIGNS}, **about}


def collapse_in(metrics: Mapping[str, float], settings: CollapseSettings) -> str:
    """Why the features that gave ``metrics`` (``start/...``: those before training) count as collapsed; empty: they do
    not, or nothing can be said yet (``unjudged``)."""
    if metrics["not_finite"]:
        return f"the features of {metrics['not_finite']:.0f} held-out pictures are not finite; lower the learning rate"
    if unjudged(metrics):
        return ""
    signs, start = _signs(metrics, ""), _signs(metrics, START)
    return (judge(signs, settings, start) or "") if signs is not None else ""


def unjudged(metrics: Mapping[str, float]) -> str:
    """Why ``metrics`` say nothing of collapse, neither that there is some nor that there is none; empty: they do."""
    if metrics["settled"] < SETTLED:
        return f"too few updates for the running statistics ({math.floor(100 * metrics['settled'])} % settled)"
    # Not "<": NaN must count as too few.
    if not metrics["pictures"] >= FEWEST:
        return f"too few held-out pictures could be read ({metrics['pictures']:.0f}, at least {FEWEST} are needed)"
    return ""


def settled_share(model: torch.nn.Module) -> float:
    """How much of the backbone's running statistics comes from pictures and not from where they began: 0 to 1."""
    method = _method(model)
    # The least settled layer counts: what follows it sees its features.
    counts = [int(count) for name, count in method.backbone_state().items() if name.endswith("num_batches_tracked")]
    momenta = [module.momentum or 1.0 for module in method.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    # What is left of the initial statistics shrinks by (1 - momentum) with every batch.
    return 1 - (1 - min(momenta)) ** min(counts) if counts and momenta else 1.0


def _signs(metrics: Mapping[str, float], prefix: str) -> Signs | None:
    if not metrics.get(f"{prefix}pictures", 0.0) >= 2:
        return None
    values = {name: metrics[f"{prefix}{name}"] for name in SIGNS}
    return Signs(**values, pictures=int(metrics[f"{prefix}pictures"]))


def _method(model: torch.nn.Module) -> PretrainingMethod:
    assert isinstance(model, PretrainingMethod)
    return model
