"""Detection as a task for the engine: the YOLO model and its loss, keyed samples, and evaluation by matching once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from marauder.core.randomness import stream
from marauder.data.balancing import Resampling
from marauder.data.pictures import PictureStore, UnreadablePictureError, scaled_size
from marauder.data.records import Record
from marauder.data.slices.mask import SliceMask
from marauder.engine.task import Batch, LocalBatch, SampleContext, SampleKey, Trouble
from marauder.evaluation.curves import LEAST_CONFIDENCE
from marauder.imaging.augmentation import AugmentationSettings, Source, compose
from marauder.imaging.letterbox import GREY
from marauder.models.focal import FocalLoss
from marauder.models.ignored_places import IGNORED_BOXES, IGNORED_INDEX
from marauder.models.loss_gains import GAINS, LOSS_NAMES, LossGains
from marauder.models.transfer import start_detector
from marauder.models.trusts import TRUSTS
from marauder.models.ultralytics_adapter import DetectionLossSums, DetectionModel
from marauder.prediction.settings import MEASURING, PredictionSettings
from marauder.tasks.detection.evaluator import DetectionEvaluator
from marauder.tasks.detection.loss_settings import FocalSettings
from marauder.tasks.detection.multi_scale import SizePlan
from marauder.tasks.detection.pasting import UNTRUSTED, PastePlan, Pasting

log = logging.getLogger("marauder")


SliceBook = Callable[[Sequence[Record], tuple[str, ...]], Sequence[SliceMask]]


@dataclass(frozen=True)
class DetectionPlan:
    """What is trained on what. ``training`` and ``validation`` hold labelled records only; with ``trusts``
    ``training`` also those that a teacher labelled."""

    architecture: str
    names: tuple[str, ...]
    training: Sequence[Record]
    validation: Sequence[Record]
    image_size: int
    seed: int
    augmentation: AugmentationSettings
    weights: Path | None = None
    backbone: Path | None = None
    inference: PredictionSettings = MEASURING
    loss: LossGains = GAINS
    focal: FocalSettings = field(default_factory=FocalSettings)
    critical: tuple[str, ...] = ()
    """Names of the critical classes, whose figures the evaluator adds."""
    others_floor: float | None = None
    least_confidence: float = LEAST_CONFIDENCE
    """The operating point that the evaluator finds is no lower score than this."""
    floors: tuple[float, float] = (0.5, 0.5)
    """Least precision and least recall of the figures that the evaluator takes at floors."""
    resampling: Resampling | None = None
    """Which training record each sample of an epoch is; ``None``: each once."""
    close_mosaic_epochs: int = 0
    """Last epochs of the training whose samples are no mosaics."""
    pasting: PastePlan | None = None
    donors: Sequence[Record] = ()
    """Pictures beside the training records that something is cut out of (places after theirs)."""
    book: SliceBook | None = None
    """Gives the slices that are measured after each epoch."""
    multi_scale: SizePlan | None = None
    """Which size the samples of each update have; ``None``: always ``image_size``, at which validation is in any
    case."""
    trusts: Sequence[np.ndarray] | None = None
    """How far each box of each training record is to be learned: float64 (N,), 0..1; ``None``: all wholly."""


class DetectionTask:
    """Brings a detector's training to the engine (``marauder.engine.task.Task``)."""

    loss_names: tuple[str, ...] = LOSS_NAMES

    def __init__(self, plan: DetectionPlan, cache_folder: Path | None, cache_bytes: int) -> None:
        self.plan = plan
        self.ignores = (plan.multi_scale is not None and plan.multi_scale.varies) or any(
            record.ignored.any() for record in plan.training
        )
        # Samples, not pictures: with resampling a picture may stand at several places of an epoch.
        self.training_length = plan.resampling.length if plan.resampling is not None else len(plan.training)
        # At the largest size: what is drawn larger than it is stored shows no more than before.
        stored = plan.multi_scale.largest if plan.multi_scale is not None else plan.image_size
        self.training_store = PictureStore(plan.training, stored, cache_folder, cache_bytes)
        # Not kept on disk: few of them, and each seldom drawn.
        self.donor_store = PictureStore(plan.donors, stored, None, 0)
        self.pasting = Pasting(plan.pasting, self._donor) if plan.pasting is not None and plan.pasting.active else None
        # What the training pictures leave: those are read most.
        spare = cache_bytes - int(self.training_store.offsets[-1])
        self.validation_store = PictureStore(plan.validation, plan.image_size, cache_folder, max(spare, 0))
        self.evaluator = DetectionEvaluator(
            plan.validation,
            plan.names,
            self.validation_store,
            plan.inference,
            plan.book,
            plan.critical,
            plan.others_floor,
            plan.least_confidence,
            plan.floors,
        )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What the evaluator always measures."""
        return self.evaluator.metric_names

    def build_model(self, seed: int) -> DetectionModel:
        """The detector, from ``plan.weights`` and ``plan.backbone`` where given, else random."""
        plan = self.plan
        model, accounts = start_detector(plan.architecture, plan.names, seed, plan.weights, plan.backbone)
        for account in accounts:
            log.info(account.describe())
        return model

    def criterion(self, model: torch.nn.Module) -> Any:
        """The detection loss in sums."""
        assert isinstance(model, DetectionModel)
        focal, loss = self.plan.focal, self.plan.loss
        if not focal.enabled:
            return DetectionLossSums(model, loss).sums
        weights = [focal.class_weights.get(name, 1.0) for name in self.plan.names] if focal.class_weights else None
        return DetectionLossSums(model, loss, FocalLoss(focal.gamma, focal.alpha), weights).sums

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        """The last epochs have no mosaic; the size is the plan's, or that of the update."""
        closing, sizes = epoch >= epochs - self.plan.close_mosaic_epochs, self.plan.multi_scale
        if sizes is None:
            return SampleContext(closing)
        return SampleContext(closing, sizes.at(epoch, step, epochs), self.plan.image_size)

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        """Draw the samples of ``keys``; a picture that cannot be read becomes plain grey and is reported."""
        # Loaded in a worker process: what it cannot read travels back with the batch.
        set_aside: dict[str, str] = {}
        samples = [self._sample(key, context, set_aside) for key in keys]
        tensors = {
            # Bytes, not floats: a quarter of what travels from the workers and to the GPU.
            "images": torch.from_numpy(np.stack([sample.picture for sample in samples])),
            "batch_idx": _numbers([sample.boxes for sample in samples]),
            "cls": torch.from_numpy(np.concatenate([sample.classes for sample in samples])).float()[:, None],
            "bboxes": _fractions([(sample.boxes, sample.picture) for sample in samples]),
        }
        if self.plan.trusts is not None:
            tensors[TRUSTS] = torch.from_numpy(np.concatenate([sample.trusted() for sample in samples])).float()
        if self.ignores:
            tensors[IGNORED_INDEX] = _numbers([sample.ignored for sample in samples])
            tensors[IGNORED_BOXES] = _fractions([(sample.ignored, sample.picture) for sample in samples])
        return LocalBatch(tensors, list(keys), set_aside)

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` with their boxes."""
        if start == 0 and stop >= len(batch["images"]):
            return batch
        part = {"images": batch["images"][start:stop]}
        # Boxes lie in one list for all samples; their sample's number counts from the part's first.
        for index, others in (("batch_idx", ("cls", "bboxes", TRUSTS)), (IGNORED_INDEX, (IGNORED_BOXES,))):
            if index in batch:
                chosen = (batch[index] >= start) & (batch[index] < stop)
                part[index] = batch[index][chosen] - start
                part |= {name: batch[name][chosen] for name in others if name in batch}
        return part

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Images as float (B, 3, S, S) in 0..1, channels last in memory."""
        # ``permute`` moves no bytes and ``float`` keeps the strides: channels last, as the trainer lays out the model.
        return batch["images"].permute(0, 3, 1, 2).float().div_(255)

    def updated(self, model: torch.nn.Module, step: int, steps: int) -> None:
        """A detector has no part that follows its weights."""

    def predict(self, model: torch.nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        """This rank's share of the validation pictures."""
        return self.evaluator.predict(model, rank, size, should_stop)

    def score(self, shares: list[Any]) -> dict[str, float]:
        """What the evaluator says of all ranks' predictions."""
        return self.evaluator.score(shares)

    def trouble(self, metrics: Mapping[str, float]) -> Trouble | None:
        """What an evaluation of a detector shows is judged by the watches of the engine."""
        return None

    def describe_batch(self, keys: list[SampleKey]) -> list[str]:
        """Files of the samples' first pictures (a mosaic has three more, a function of the key)."""
        return [str(self.plan.training[self._record(key.epoch, key.index)].picture) for key in keys]

    def close(self, remove: bool = False) -> None:
        """Let go of the stored pictures; ``remove`` deletes them."""
        self.training_store.close(remove)
        self.validation_store.close(remove)

    def _record(self, epoch: int, index: int) -> int:
        """The training record of a sample."""
        resampling = self.plan.resampling
        return index if resampling is None else resampling.record_at(self.plan.seed, epoch, index)

    def _sample(self, key: SampleKey, context: SampleContext, set_aside: dict[str, str]) -> Source:
        random = stream(self.plan.seed, "sample", key.epoch, key.index)
        chosen = [key.index]
        # Drawn whether or not a mosaic follows: what comes after does not depend on it.
        draw, partners = random.random(), random.integers(self.training_length, size=3)
        if draw < self.plan.augmentation.mosaic and not context.closing:
            chosen += [int(partner) for partner in partners]
        sources = [self._source(self._record(key.epoch, index), set_aside) for index in chosen]
        if self.pasting is not None:
            sources = [self.pasting.apply(source, key.epoch, key.index, place) for place, source in enumerate(sources)]
        size = context.image_size or self.plan.image_size
        augmentation, sizes = self.plan.augmentation, self.plan.multi_scale
        # After pasting: at every size it is the same picture.
        sources = [_scaled(source, self.training_store.long_side, size) for source in sources]
        if sizes is None or not sizes.varies:
            return compose(sources, size, augmentation, random)
        return compose(sources, size, augmentation, random, sizes.zoom(augmentation.scale), sizes.least_box)

    def _source(self, index: int, set_aside: dict[str, str]) -> Source:
        record = self.plan.training[index]
        try:
            picture = self.training_store.get(index)
        except UnreadablePictureError as error:
            set_aside[str(error.path)] = error.reason
            # Of the size that it would have: the rest of the sample is drawn as ever.
            width, height = self.training_store.sizes[index]
            return Source(np.full((height, width, 3), GREY, np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64))
        return _with_boxes(picture, record, None if self.plan.trusts is None else self.plan.trusts[index])

    def _donor(self, place: int) -> tuple[Source, float] | None:
        """A picture that something is cut out of, and its scale."""
        count = len(self.plan.training)
        store, index = (self.training_store, place) if place < count else (self.donor_store, place - count)
        try:
            picture = store.get(index)
        except UnreadablePictureError:
            return None  # reported when it is a sample itself
        record = store.records[index]
        source = _with_boxes(picture, record)
        if self.plan.trusts is not None and place < count:
            # Only what a person labelled is pasted; what a teacher found may still cover it.
            sure = self.plan.trusts[index][~record.ignored] == 1
            source = replace(source, classes=np.where(sure, source.classes, UNTRUSTED))
        # Pixels of the store for one of the picture: hard negatives are written in the picture's.
        return source, picture.shape[1] / record.width


def _scaled(source: Source, stored: int, size: int) -> Source:
    """A source whose picture is stored for a long side of ``stored`` pixels, for one of ``size``."""
    height, width = source.picture.shape[:2]
    if stored == size:
        return source
    # Not by area, which would show less noise and softer edges than the pictures that the model is used on.
    picture = cv2.resize(source.picture, scaled_size(width, height, size), interpolation=cv2.INTER_LINEAR)
    gains = [picture.shape[1] / width, picture.shape[0] / height] * 2
    return replace(source, picture=picture, boxes=source.boxes * gains, ignored=source.ignored * gains)


def _numbers(boxes: Sequence[np.ndarray]) -> torch.Tensor:
    """For each box of all samples the number of its sample: float (N,)."""
    return torch.from_numpy(np.repeat(np.arange(len(boxes)), [len(one) for one in boxes])).float()


def _fractions(boxes: Sequence[tuple[np.ndarray, np.ndarray]]) -> torch.Tensor:
    """The boxes of all samples, each with its square picture, as Ultralytics' loss takes them: float (N, 4), centre
    and sides as fractions of the picture."""
    found = []
    for corners, picture in boxes:
        x0, y0, x1, y1 = corners.T / picture.shape[0]
        found.append(np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1))
    return torch.from_numpy(np.concatenate(found)).float()


def _with_boxes(picture: np.ndarray, record: Record, trusts: np.ndarray | None = None) -> Source:
    # A crowd is neither an animal to learn nor water.
    counted = ~record.ignored
    gains = [picture.shape[1] / record.width, picture.shape[0] / record.height] * 2
    boxes, known = record.boxes * gains, None if trusts is None else trusts[counted]
    return Source(picture, boxes[counted], record.classes[counted], boxes[~counted], known)
