"""A predictor: a model file of whatever format, opened, that turns pictures into boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.core.plain import PlainMapping
from marauder.data.records import Detections
from marauder.imaging.letterbox import Letterbox, fit, fit_rectangle
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.batching import chunks_of_one_shape
from marauder.prediction.postprocessing import PostprocessingRules, postprocess
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import PREDICTING, PredictionSettings

CPU_BATCH, GPU_BATCH = 4, 16


@dataclass(frozen=True)
class InputShape:
    """What a model file accepts. ``batch``: pictures a call, ``None`` for any number. ``size``: height and width in
    pixels, ``None`` for any multiples of the stride."""

    batch: int | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Description:
    """What a model file says of itself. ``names[i]``: name of class ``i``; ``image_size``: pixels of the long side that
    the model was made for; ``stride``: what the sides of its input are multiples of; ``metadata``: all of it, as it
    is in the file. ``confidence``: its operating point, the score with the best F1 on its validation pictures;
    ``None``: it says none."""

    names: tuple[str, ...]
    image_size: int
    stride: int
    accepts: InputShape = InputShape()
    metadata: PlainMapping = field(default_factory=dict)
    confidence: float | None = None


class Predictor(ABC):
    """A detector that is ready to look at pictures.

    ``path``: the file that was read. ``names``, ``image_size``, ``stride``, ``accepts``, ``metadata``: as in
    ``Description``. ``calibration``: from the model's scores to shares that are right; ``thresholds``: least score of
    each class (C,), used where settings name no confidence; without others the model's operating point. A
    subclass runs what a ``PredictorFormat`` opened.
    """

    def __init__(self, path: Path, description: Description, device: torch.device) -> None:
        self.path, self.device = path, device
        self.names, self.image_size = description.names, description.image_size
        self.stride, self.accepts, self.metadata = description.stride, description.accepts, description.metadata
        self.calibration: ScoreCalibration | None = None
        point = description.confidence
        self.thresholds: np.ndarray | None = None if point is None else np.full(len(self.names), point)
        self._places: list[int] | None = None

    @abstractmethod
    def run(self, images: torch.Tensor) -> torch.Tensor:
        """What the model puts out: float32 (B, 4 + classes, A), centre-size boxes in pixels of the input, then scores.

        ``images``: float32 (B, 3, H, W) in 0..1, red first, on ``device``, of a shape that ``accepts`` allows.
        """

    @property
    def network(self) -> DetectionModel:
        """The network itself, for what only it can tell (``models.raw_outputs``). Raises ``UserError`` without one."""
        raise UserError(
            f"{self.path}: what a model sees inside can be read only from a .pt or .safetensors detector; name that"
        )

    @property
    def best_batch(self) -> int:
        """Pictures that should go through the model together where nobody names a number.

        A processor's caches hold what a few pictures need: with 16 a YOLOv8n takes a tenth longer for each than with 4.
        """
        return CPU_BATCH if self.device.type == "cpu" else GPU_BATCH

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file that was read."""
        return hash_file(self.path)

    def letterbox(self, width: int, height: int, image_size: int | None = None) -> Letterbox:
        """How a picture of ``width`` × ``height`` is fitted into the input; see ``PredictionSettings.image_size``."""
        size = self.input_size(image_size)
        if self.accepts.size is not None:
            return fit_rectangle(width, height, self.accepts.size[1], self.accepts.size[0])
        return fit(width, height, size, self.stride)

    @property
    def fits_by_itself(self) -> bool:
        """Whether ``find`` looks at pictures as they are, and fits them into inputs of its own."""
        return False

    @property
    def takes_other_sizes(self) -> bool:
        """Whether pictures can be looked at larger or smaller than usual, by ``image_size`` of ``letterbox``."""
        return self.accepts.size is None

    def frame(self, width: int, height: int, image_size: int | None = None) -> Letterbox:
        """How a picture is handed to ``find``: letterboxed, unless that looks at pictures as they are."""
        return self.letterbox(width, height, image_size)

    def input_size(self, image_size: int | None = None) -> int:
        """Long side of the input in pixels. Raises ``UserError`` where the file takes another size only."""
        if self.accepts.size is not None:
            if image_size is not None and image_size != max(self.accepts.size):
                height, width = self.accepts.size
                raise UserError(f"{self.path}: takes pictures of {width}x{height} pixels only, not of {image_size}")
            return max(self.accepts.size)
        size = image_size if image_size is not None else self.image_size
        return -(-size // self.stride) * self.stride

    def use_size(self, image_size: int | None) -> None:
        """Look at pictures at this size from now on; ``None``: at the model's own, rounded up to the stride."""
        self.image_size = self.input_size(image_size)

    def images(self, inputs: Sequence[np.ndarray]) -> torch.Tensor:
        """Letterboxed pictures uint8 (H, W, 3) of one shape as ``run`` takes them."""
        return torch.from_numpy(np.stack(inputs)).to(self.device).permute(0, 3, 1, 2).float().div_(255)

    def number_as(self, names: Sequence[str]) -> bool:
        """Number the classes as ``names`` does, from now on, where they are the same in any order; whether they are."""
        if tuple(names) == self.names:
            return True
        if sorted(names) != sorted(self.names) or len(set(names)) < len(names):
            return False
        places = [self.names.index(name) for name in names]
        self._places = places if self._places is None else [self._places[place] for place in places]
        self.thresholds = None if self.thresholds is None else self.thresholds[places]
        self.calibration = None if self.calibration is None else self.calibration.numbered_as(names)
        self.names = tuple(names)
        return True

    @torch.inference_mode()
    def run_inputs(self, inputs: Sequence[np.ndarray]) -> torch.Tensor:
        """``run`` for letterboxed pictures uint8 (H, W, 3) of one shape, however many the file takes at a time."""
        at_once = self.accepts.batch or len(inputs)
        outputs = []
        for start in range(0, len(inputs), at_once):
            part = list(inputs[start : start + at_once])
            # A graph of fixed batch size takes no less; the answers to what fills it up are dropped.
            filled = part + part[-1:] * (at_once - len(part) if self.accepts.batch else 0)
            outputs.append(self.run(self.images(filled))[: len(part)])
        found = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return found if self._places is None else found[:, [0, 1, 2, 3, *(4 + place for place in self._places)]]

    def rules(self, settings: PredictionSettings) -> PostprocessingRules:
        """``settings`` as they apply to this predictor. Raises ``UserError`` for classes that it does not know."""
        return PostprocessingRules.of(settings, self.names, self.thresholds, self.calibration, str(self.path))

    def find(
        self, inputs: Sequence[np.ndarray], frames: Sequence[Letterbox], rules: PostprocessingRules
    ) -> list[Detections]:
        """The boxes in pictures uint8 (H, W, 3) of one shape, as ``frames`` fitted them (``frame``), in pixels of the
        pictures. One look by one model; what looks several times, or with several models, overrides it."""
        return postprocess(self.run_inputs(inputs), frames, rules)

    def predict(self, pictures: Sequence[np.ndarray], settings: PredictionSettings = PREDICTING) -> list[Detections]:
        """The boxes of each of ``pictures``, uint8 (H, W, 3) red first, of any sizes; in pixels of the picture.

        Neither the order of the pictures nor the batch they are in changes what is found in one, except for rounding.
        Raises ``ValueError`` for arrays that are no such pictures.
        """
        for number, picture in enumerate(pictures):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                raise ValueError(f"picture {number}: {picture.dtype} {picture.shape} is not uint8 (height, width, 3)")
        rules = self.rules(settings)
        frames = [self.frame(one.shape[1], one.shape[0], settings.image_size) for one in pictures]
        batch = settings.batch or self.best_batch
        found: dict[int, Detections] = {}
        for chunk in chunks_of_one_shape(range(len(pictures)), lambda place: frames[place].shape, batch):
            inputs = [frames[place].apply(pictures[place]) for place in chunk]
            found |= zip(chunk, self.find(inputs, [frames[place] for place in chunk], rules), strict=True)
        return [found[place] for place in range(len(pictures))]
