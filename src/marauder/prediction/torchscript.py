"""TorchScript files, run by PyTorch."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
import torchvision  # noqa: F401 - registers the operators that a scripted detector may name

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.engine.distributed import choose_device
from marauder.prediction.export_metadata import describe_exported
from marauder.prediction.format import PredictorFormat
from marauder.prediction.predictor import Description, Predictor

METADATA_FILE = "config.txt"
"""Name of the extra file that holds the metadata (JSON), in Ultralytics' exports and in ours."""


class TorchScriptPredictor(Predictor):
    """A detector as a traced graph."""

    def __init__(
        self, path: Path, description: Description, device: torch.device, graph: torch.jit.ScriptModule
    ) -> None:
        super().__init__(path, description, device)
        self.graph = graph

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Predictor.run``."""
        answer: torch.Tensor = self.graph(images)
        return answer


class TorchScriptFormat(PredictorFormat):
    """Traced files. ``settings.threads`` sets the number for this whole process."""

    name = "torchscript"
    title = "TorchScript"

    def open(self, path: Path) -> TorchScriptPredictor:
        """See ``PredictorFormat.open``."""
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        device = choose_device(self.settings.device)
        if not path.is_file():
            raise UserError(f"{path}: no such file; check the path, or export again")
        extra: Plain = {METADATA_FILE: ""}
        with warnings.catch_warnings():
            # torch says at every load that TorchScript is on its way out.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                graph = torch.jit.load(str(path), map_location=device, _extra_files=extra).eval()
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{path}: is not a readable TorchScript file ({reason}); export again") from None
        return TorchScriptPredictor(path, describe_exported(path, _metadata(path, extra[METADATA_FILE])), device, graph)


def _metadata(path: Path, text: str | bytes) -> Plain:
    if not text:
        return {}
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: its {METADATA_FILE} is not JSON ({error}); export again") from None
    return content if isinstance(content, dict) else {}
