"""The predictor of a folder: its model, or its ensemble, used as the description beside it says
(``prediction.folder_description``)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.core.files import fingerprint
from marauder.core.plugins import names as plugin_names
from marauder.core.plugins import resolve
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.ensemble import open_ensemble
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription, read_description
from marauder.prediction.format import PredictorFormat
from marauder.prediction.predictor import Description, Predictor
from marauder.prediction.viewing import in_views


class FolderPredictor(Predictor):
    """The model of a folder, with the folder's names, size, calibration and thresholds."""

    def __init__(self, path: Path, inner: Predictor, said: FolderDescription) -> None:
        names = said.names if said.names is not None else inner.names
        if len(names) != len(inner.names):
            raise UserError(
                f"{path / DESCRIPTION_FILE}: names {len(names)} classes, {said.model} has {len(inner.names)}; name each"
            )
        size = inner.input_size(said.image_size)
        super().__init__(path, Description(names, size, inner.stride, inner.accepts, inner.metadata), inner.device)
        if said.calibration is None:
            # On the scale of the model's own scores, which a calibration changes.
            self.thresholds = inner.thresholds
        self.inner, self.calibration, self.said = inner, said.calibration, said
        if said.calibration is not None and said.calibration.names != names:
            raise UserError(
                f"{path / DESCRIPTION_FILE}: calibrates {', '.join(said.calibration.names)}; the classes are "
                f"{', '.join(names)}: fit the calibration on this model"
            )
        if said.thresholds is not None:
            if set(said.thresholds) != set(names):
                raise UserError(f"{path / DESCRIPTION_FILE}: thresholds needs a number for each of {', '.join(names)}")
            self.thresholds = np.array([said.thresholds[name] for name in names], np.float64)

    @property
    def network(self) -> DetectionModel:
        """The network of the model."""
        return self.inner.network

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model and of what the folder says of it."""
        return fingerprint([self.inner.digest, self.said.to_json()])

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Predictor.run``."""
        return self.inner.run(images)


class FolderFormat(PredictorFormat):
    """Folders with a ``predictor.json``."""

    name = "folder"
    title = "Predictor folder"

    def open(self, path: Path) -> Predictor:
        """See ``PredictorFormat.open``."""
        said = read_description(path)
        if said.ensemble is not None:
            return in_views(open_ensemble(path, said, self.settings), said)
        model = path / said.model
        kind = model.suffix.removeprefix(".").lower()
        if kind not in plugin_names("predictor"):
            raise UserError(f"{path / DESCRIPTION_FILE}: model {said.model!r} is of no kind that can be opened")
        return in_views(FolderPredictor(path, resolve("predictor", kind)(self.settings).open(model), said), said)
