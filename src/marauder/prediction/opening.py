"""Opening a model by its path: the file that is named is the one that is read, its suffix says what it is."""

from __future__ import annotations

from pathlib import Path

import torch

from marauder.core.errors import UserError
from marauder.core.plugins import make, names
from marauder.prediction.folder_description import stands_for
from marauder.prediction.format import PredictorFormat
from marauder.prediction.predictor import Predictor

KIND = "predictor"
FOLDER = "folder"


def open_predictor(
    path: Path | str,
    device: str | torch.device = "auto",
    image_size: int | None = None,
    threads: int | None = None,
    fuse: bool = False,
) -> Predictor:
    """Open a detector of Marauder or Ultralytics: a .pt, .safetensors, .onnx or .torchscript file, or a folder.

    A ``.pt`` that ``stands_for`` a folder is opened as that folder.

    ``device``, ``threads``, ``fuse``: see ``OpeningSettings``. ``image_size``: instead of the model's own, pixels
    of the long side. Raises ``UserError`` with the file and the remedy where that cannot be done.
    """
    path = stands_for(Path(path))
    kind = FOLDER if path.is_dir() else path.suffix.removeprefix(".").lower()
    if kind not in names(KIND):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; check the path")
        known = ", ".join(f".{name}" for name in names(KIND) if name != FOLDER)
        raise UserError(f"{path}: no model that can be opened; a model is a {known} file, or a predictor folder")
    opening: PredictorFormat = make(KIND, kind, {"device": str(device), "threads": threads, "fuse": fuse})
    predictor = opening.open(path)
    predictor.use_size(image_size)
    return predictor
