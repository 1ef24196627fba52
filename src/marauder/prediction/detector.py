"""Detectors that PyTorch runs: .safetensors and .pt files of Marauder, .pt files of Ultralytics, models in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch

from marauder.engine.distributed import choose_device
from marauder.models.files import LoadedDetector, load_detector, operating_confidence
from marauder.models.ultralytics_adapter import DetectionModel, input_stride
from marauder.prediction.format import PredictorFormat
from marauder.prediction.predictor import Description, Predictor


class DetectorPredictor(Predictor):
    """A detector as a network of PyTorch, on the device it is on."""

    def __init__(self, loaded: LoadedDetector) -> None:
        description = Description(
            loaded.names,
            loaded.image_size,
            input_stride(loaded.model),
            metadata=loaded.metadata,
            confidence=operating_confidence(loaded.metadata.get("metrics")),
        )
        super().__init__(loaded.path, description, next(loaded.model.parameters()).device)
        self.model = loaded.model

    @classmethod
    def of_model(cls, model: DetectionModel, names: tuple[str, ...], image_size: int) -> Self:
        """A predictor of a model that is in memory; see ``evaluating`` for one in training."""
        return cls(LoadedDetector(model, names, image_size, {}, Path(type(model).__name__)))

    @property
    def network(self) -> DetectionModel:
        """The network."""
        return self.model

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Predictor.run``."""
        answer = self.model(images)
        return answer if isinstance(answer, torch.Tensor) else answer[0]  # a network made ready for export gives one


class SafetensorsFormat(PredictorFormat):
    """Files that ``models.files`` writes. ``settings.threads`` sets the number for this whole process."""

    name = "safetensors"
    title = "Detector of Marauder"

    def open(self, path: Path) -> DetectorPredictor:
        """See ``PredictorFormat.open``."""
        loaded = load_detector(path)
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        device, model = choose_device(self.settings.device), loaded.model
        if self.settings.fuse:
            model = model.fuse(verbose=False)
            if device.type == "cpu":
                # Pictures come with their colours last; weights laid out likewise save turning each layer's input.
                model = model.to(memory_format=torch.channels_last)
        return DetectorPredictor(replace(loaded, model=model.to(device)))


class CheckpointFormat(SafetensorsFormat):
    """Checkpoints of Ultralytics, and those that Marauder writes for it."""

    name = "pt"
    title = "Checkpoint of Ultralytics"


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; afterwards the mode that the model was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
