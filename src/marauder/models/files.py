"""Trained detectors on disk: ``NAME.safetensors`` (which Marauder reads back) and ``NAME.pt`` (for Ultralytics)."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from marauder.core.errors import UserError
from marauder.core.files import to_plain, write_bytes
from marauder.core.version import __version__
from marauder.models.ultralytics_adapter import (
    DetectionModel,
    build_detector,
    load_foreign_checkpoint,
    prepare,
)


@dataclass(frozen=True)
class LoadedDetector:
    """A detector in evaluation mode with what its file says of it."""

    model: DetectionModel
    names: tuple[str, ...]
    image_size: int
    metadata: dict[str, Any]
    path: Path


def save_detector(model: DetectionModel, stem: Path, image_size: int, metadata: dict[str, Any]) -> dict[str, str]:
    """Write ``stem.safetensors`` and ``stem.pt``; returns each file's SHA-256 by name.

    The same weights and metadata give the same bytes. ``image_size``: pixels of the long side the detector was
    trained at. Weights are stored in float32, so that both files predict the same boxes.
    """
    plain = copy.deepcopy(model).cpu().float().eval()
    plain.criterion = None
    plain.args = {  # type: ignore[assignment]
        "task": "detect",
        "imgsz": image_size,
        "model": getattr(plain, "marauder_architecture", ""),
    }
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    for module in plain.modules():
        for cached in ("shape", "anchors", "strides"):
            vars(module).pop(cached, None)  # the head remembers the shape of its last input
    names = [plain.names[key] for key in sorted(plain.names)]
    description = {
        **to_plain(metadata),
        "architecture": getattr(plain, "marauder_architecture", ""),
        "names": names,
        "image_size": image_size,
        "marauder": __version__,
    }
    tensors = {key: value.contiguous() for key, value in plain.state_dict().items()}
    hashes = {}
    weights = stem.with_name(stem.name + ".safetensors")
    encoded = json.dumps(description, sort_keys=True)
    hashes[weights.name] = write_bytes(weights, safetensors_bytes(tensors, metadata={"marauder": encoded}))
    buffer = io.BytesIO()
    train_args = {"task": "detect", "imgsz": image_size, "model": description["architecture"]}
    torch.save({"model": plain, "ema": None, "train_args": train_args, "marauder": encoded}, buffer)
    checkpoint = stem.with_name(stem.name + ".pt")
    hashes[checkpoint.name] = write_bytes(checkpoint, buffer.getvalue())
    return hashes


def restore_detector(stem: Path) -> bool:
    """Whether ``stem.safetensors`` and ``stem.pt`` are whole, after writing a lost one anew from the other."""
    try:
        found = _load_safetensors(stem.with_name(stem.name + ".safetensors"))
    except UserError:
        found = None
    try:
        model, image_size, encoded = load_foreign_checkpoint(stem.with_name(stem.name + ".pt"))
    except UserError:
        if found is not None:
            save_detector(found.model, stem, found.image_size, found.metadata)
        return found is not None
    if found is None:
        if encoded is None:
            return False
        metadata = json.loads(encoded)
        model = prepare(model, metadata["names"], metadata["architecture"])
        save_detector(model, stem, image_size, metadata)
    return True


def load_detector(path: Path | str) -> LoadedDetector:
    """Open a detector written by ``save_detector`` or, through the restricted door, one of Ultralytics' own.

    For ``NAME.pt`` with ``NAME.safetensors`` beside it the latter is read: it holds numbers only. Raises ``UserError``
    with the file and the remedy when it cannot be opened.
    """
    path = Path(path)
    weights = path.with_suffix(".safetensors")
    if path.suffix == ".safetensors" or (path.suffix == ".pt" and weights.is_file()):
        return _load_safetensors(weights)
    if path.suffix != ".pt":
        raise UserError(f"{path}: a detector is a .pt or .safetensors file")
    model, image_size, _ = load_foreign_checkpoint(path)
    names = tuple(model.names[key] for key in sorted(model.names))
    return LoadedDetector(model.eval(), names, image_size, {"image_size": image_size, "foreign": True}, path)


def _load_safetensors(path: Path) -> LoadedDetector:
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); restore it or train again") from None
    if "marauder" not in header:
        raise UserError(f"{path}: holds weights but no description of the detector; expected a file Marauder wrote")
    metadata = json.loads(header["marauder"])
    model = build_detector(metadata["architecture"], metadata["names"])
    model.load_state_dict(tensors)
    return LoadedDetector(model.eval(), tuple(metadata["names"]), int(metadata["image_size"]), metadata, path)
