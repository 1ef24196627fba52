"""A predictor folder: a model file with a description of how it is to be used, and nothing that is executed.

``predictor.json`` names the model file and may state class names, image size, calibration and thresholds::

    {"format": 1, "model": "best.safetensors", "names": ["fish", "ray"], "image_size": 640,
     "thresholds": {"fish": 0.3, "ray": 0.2}, "calibration": null}
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, atomic_path, fingerprint, read_json, write_json
from marauder.core.plain import Plain, PlainMapping
from marauder.core.plugins import names as plugin_names
from marauder.core.plugins import resolve
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.format import PredictorFormat
from marauder.prediction.predictor import Description, Predictor
from marauder.prediction.score_calibration import ScoreCalibration

DESCRIPTION_FILE = "predictor.json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class FolderDescription:
    """What ``predictor.json`` says. ``model``: name of the file beside it; ``None`` elsewhere: as the model says."""

    model: str
    names: tuple[str, ...] | None = None
    image_size: int | None = None
    calibration: ScoreCalibration | None = None
    thresholds: Mapping[str, float] | None = None


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
        return fingerprint([self.inner.digest, _plain(self.said)])

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Predictor.run``."""
        return self.inner.run(images)


class FolderFormat(PredictorFormat):
    """Folders with a ``predictor.json``."""

    name = "folder"
    title = "Predictor folder"

    def open(self, path: Path) -> FolderPredictor:
        """See ``PredictorFormat.open``."""
        said = read_description(path)
        model = path / said.model
        kind = model.suffix.removeprefix(".").lower()
        if kind not in plugin_names("predictor"):
            raise UserError(f"{path / DESCRIPTION_FILE}: model {said.model!r} is of no kind that can be opened")
        return FolderPredictor(path, resolve("predictor", kind)(self.settings).open(model), said)


def read_description(folder: Path) -> FolderDescription:
    """What a predictor folder says. Raises ``UserError`` for one that is none, or whose description is wrong."""
    file = folder / DESCRIPTION_FILE
    if not file.is_file():
        raise UserError(f"{folder}: no predictor folder, which holds {DESCRIPTION_FILE}; name a model file in it")
    try:
        content = read_json(file)
    except DamagedFileError as error:
        raise UserError(str(error)) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file}: is not a description of a predictor that this version reads (format {FORMAT})")
    model = content.get("model")
    # A folder may come from anywhere: its description must not lead to files outside it.
    if not isinstance(model, str) or Path(model).name != model or not model:
        raise UserError(f"{file}: model {model!r} must be the name of a file in the same folder")
    return _parsed(file, model, content)


def _parsed(file: Path, model: str, content: PlainMapping) -> FolderDescription:
    names, size, thresholds = content.get("names"), content.get("image_size"), content.get("thresholds")
    if names is not None and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(f"{file}: names must be a list of class names")
    if size is not None and not (isinstance(size, int) and size > 0):
        raise UserError(f"{file}: image_size {size!r} must be a number of pixels")
    if thresholds is not None and not (
        isinstance(thresholds, dict) and all(_is_share(value) for value in thresholds.values())
    ):
        raise UserError(f"{file}: thresholds must give each class a number from 0 to 1")
    calibration = None
    if content.get("calibration") is not None:
        try:
            calibration = ScoreCalibration.from_json(content["calibration"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file}: calibration cannot be read ({error!r}); fit it again") from None
    return FolderDescription(model, None if names is None else tuple(names), size, calibration, thresholds)


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def write_predictor_folder(folder: Path, model: Path, said: FolderDescription | None = None) -> Path:
    """Copy ``model`` into ``folder`` with the description ``said``; returns the folder. The description comes last."""
    said = replace(said, model=model.name) if said is not None else FolderDescription(model.name)
    with atomic_path(folder / model.name) as temporary:
        shutil.copyfile(model, temporary)
    write_json(folder / DESCRIPTION_FILE, _plain(said))
    return folder


def _plain(said: FolderDescription) -> Plain:
    return {
        "format": FORMAT,
        "model": said.model,
        "names": said.names,
        "image_size": said.image_size,
        "thresholds": None if said.thresholds is None else dict(said.thresholds),
        "calibration": None if said.calibration is None else said.calibration.to_json(),
    }
