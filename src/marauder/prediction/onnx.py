"""ONNX files, 8-bit ones among them, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from marauder.core.errors import UserError
from marauder.engine.distributed import choose_device
from marauder.prediction.export_metadata import describe_exported
from marauder.prediction.format import PredictorFormat
from marauder.prediction.predictor import Description, InputShape, Predictor

GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
HALF = "tensor(float16)"
_STATES = onnxruntime.capi.onnxruntime_pybind11_state
_UNREADABLE = (
    _STATES.InvalidProtobuf,
    _STATES.InvalidGraph,
    _STATES.InvalidArgument,
    _STATES.NotImplemented,
    _STATES.NoSuchFile,
    _STATES.Fail,
)


class OnnxPredictor(Predictor):
    """A detector as an ONNX graph with one input, pictures, and the boxes as its first output."""

    def __init__(
        self, path: Path, description: Description, device: torch.device, session: onnxruntime.InferenceSession
    ) -> None:
        super().__init__(path, description, device)
        self.session = session
        given = session.get_inputs()[0]
        self._input, self._kind = given.name, np.float16 if given.type == HALF else np.float32

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Predictor.run``. Pictures are handed over in the memory of the processor."""
        pictures = np.ascontiguousarray(images.cpu().numpy(), self._kind)
        answer: Any = self.session.run(None, {self._input: pictures})[0]
        return torch.from_numpy(np.asarray(answer, np.float32))


class OnnxFormat(PredictorFormat):
    """ONNX files, on the processor or, with the package for it, on a GPU."""

    name = "onnx"
    title = "ONNX"

    def open(self, path: Path) -> OnnxPredictor:
        """See ``PredictorFormat.open``."""
        threads, device = self.settings.threads, _device(path, self.settings.device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Worker threads that continue spinning after a run would slow down whatever else runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if threads is not None:
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        providers = [CPU] if device.type == "cpu" else [(GPU, {"device_id": device.index or 0}), CPU]
        try:
            session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; check the path, or export again") from None
        except _UNREADABLE as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: is not a readable ONNX file ({reason}); export again") from None
        metadata = session.get_modelmeta().custom_metadata_map
        description = describe_exported(path, metadata, _accepts(path, session))
        # Wherever the graph runs, pictures and answers pass through the processor's memory.
        return OnnxPredictor(path, description, torch.device("cpu"), session)


def _device(path: Path, setting: str) -> torch.device:
    """The device to compute on. Unless somebody changed it, the installed package is the one without GPUs."""
    device = choose_device(setting)
    if device.type == "cpu" or GPU in onnxruntime.get_available_providers():
        return device
    if setting == "auto":
        return torch.device("cpu")
    raise UserError(
        f"{path}: the ONNX Runtime installed here has no GPU; install onnxruntime-gpu, or choose --device cpu"
    )


def _accepts(path: Path, session: onnxruntime.InferenceSession) -> InputShape:
    """What the graph's input says; dimensions that may differ are names there."""
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] not in (3, "channels"):
        raise UserError(f"{path}: takes input of shape {shape}; expected pictures as (batch, 3, height, width)")
    batch, _, height, width = (size if isinstance(size, int) else None for size in shape)
    return InputShape(batch, None if height is None or width is None else (height, width))
