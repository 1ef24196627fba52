"""Trained detectors on disk: ``NAME.safetensors`` (which holds numbers only) and ``NAME.pt`` (for Ultralytics)."""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from marauder.core.errors import UserError
from marauder.core.files import to_plain, write_bytes
from marauder.core.plain import Plain
from marauder.core.version import __version__
from marauder.models.naming import FAMILIES, SCALES, SUFFIXES, model_file
from marauder.models.ultralytics_adapter import (
    DetectionModel,
    build_detector,
    class_branch_width,
    load_foreign_checkpoint,
)

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class LoadedDetector:
    """A detector in evaluation mode with what its file says of it."""

    model: DetectionModel
    names: tuple[str, ...]
    image_size: int
    metadata: Plain
    path: Path


def operating_confidence(measured: Any) -> float | None:
    """The score, 0 to 1, with the best F1 on validation pictures, in what was ``measured`` when a detector was saved;
    ``None``: not said."""
    confidence = measured.get("confidence") if isinstance(measured, Mapping) else None
    return float(confidence) if isinstance(confidence, (int, float)) and 0 < confidence <= 1 else None


def save_detector(model: DetectionModel, stem: Path, image_size: int, metadata: Plain) -> dict[str, str]:
    """Write ``stem.safetensors`` and ``stem.pt``; returns each file's SHA-256 by name.

    The same weights and metadata give the same bytes. ``image_size``: pixels of the long side the detector was
    trained at. Weights are stored in float32, so that both files predict the same boxes.
    """
    plain, description = _plain_copy(model, image_size, metadata)
    weights = stem.with_name(stem.name + ".safetensors")
    encoded = json.dumps(description, sort_keys=True)
    # These first: after a kill between the two, ``restore_detector`` makes the other from them.
    hashes = {weights.name: _write_tensors(plain, weights, encoded)}
    buffer = io.BytesIO()
    train_args = {"task": "detect", "imgsz": image_size, "model": description["architecture"]}
    torch.save({"model": plain, "ema": None, "train_args": train_args, "marauder": encoded}, buffer)
    checkpoint = stem.with_name(stem.name + ".pt")
    hashes[checkpoint.name] = write_bytes(checkpoint, buffer.getvalue())
    return hashes


def save_safetensors(detector: LoadedDetector, path: Path) -> str | None:
    """Write an opened detector as ``path``, a ``.safetensors`` file alone, that predicts the same boxes; returns its
    SHA-256. ``None``, and no file, where it is of no architecture that is built here."""
    architecture = detector.metadata.get("architecture") or _architecture_of(detector)
    if architecture is None:
        return None
    metadata = {name: value for name, value in detector.metadata.items() if name != "foreign"}
    plain, description = _plain_copy(detector.model, detector.image_size, metadata)
    description["architecture"] = architecture
    return _write_tensors(plain, path, json.dumps(description, sort_keys=True))


def _architecture_of(detector: LoadedDetector) -> str | None:
    """The architecture whose tensors are those of a foreign detector, by name and shape."""
    own = {name: tensor.shape for name, tensor in detector.model.state_dict().items()}
    numbers, width = sum(shape.numel() for shape in own.values()), class_branch_width(detector.model)
    for family in FAMILIES:
        for scale in SCALES:
            try:
                built = build_detector(f"{family}{scale}", detector.names, branch_width=width)
            except UserError:  # a width that this architecture does not have
                continue
            shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
            if shapes == own:
                return f"{family}{scale}"
            # The others of the family are larger still, and take seconds to build.
            if sum(shape.numel() for shape in shapes.values()) > numbers:
                break
    return None


def _plain_copy(model: DetectionModel, image_size: int, metadata: Plain) -> tuple[DetectionModel, Plain]:
    """A copy of the model as it is stored, and what is said of it."""
    # A copy: the model that is saved may continue training.
    plain = copy.deepcopy(model).cpu().float().eval()
    plain.criterion = None
    # A dict, as Ultralytics expects in a file; ``prepare`` makes a namespace of it again.
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
        "class_branch_width": class_branch_width(plain),
        "image_size": image_size,
        "marauder": __version__,
    }
    return plain, description


def _write_tensors(plain: DetectionModel, path: Path, encoded: str) -> str:
    """Write the tensors of a model with its description (JSON); returns the file's SHA-256."""
    # safetensors refuses tensors that are not contiguous.
    tensors = {key: value.contiguous() for key, value in plain.state_dict().items()}
    return write_bytes(path, safetensors_bytes(tensors, metadata={"marauder": encoded}))


def restore_detector(stem: Path) -> Plain | None:
    """The metadata of the detector in ``stem.safetensors`` and ``stem.pt``; ``None`` unless one of them is whole.

    One that is lost, or damaged, is written anew from the other; where both are whole and differ, as after a kill
    between the two, the safetensors stand and the ``.pt`` is written anew.
    """
    found = _open_if_whole(stem.with_name(stem.name + ".safetensors"))
    other = _open_if_whole(stem.with_name(stem.name + ".pt"))
    # A .pt that Marauder did not write is not what this training left.
    if found is None and (other is None or other.metadata.get("foreign")):
        return None
    whole = found or other
    assert whole is not None
    if found is None or other is None or not _same(found, other):
        if found is not None and other is not None:
            log.warning("%s: is not the model of %s; rewritten from it", other.path, found.path.name)
        save_detector(whole.model, stem, whole.image_size, whole.metadata)
    return whole.metadata


def load_detector(path: Path | str) -> LoadedDetector:
    """Open a detector written by ``save_detector`` or, through the restricted door, one of Ultralytics' own.

    The file that is named is the one that is read: a ``.pt`` always through the door, whatever lies beside it. Raises
    ``UserError`` with the file and the remedy when it cannot be opened.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a detector is a .pt or .safetensors file")
    model_file(path)
    return _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickled(path)


def _open_if_whole(path: Path) -> LoadedDetector | None:
    try:
        return load_detector(path)
    except UserError:
        return None


def _same(one: LoadedDetector, other: LoadedDetector) -> bool:
    """Whether two detectors have the same description and the same weights, bit for bit."""
    first, second = one.model.state_dict(), other.model.state_dict()
    return (
        one.metadata == other.metadata
        and first.keys() == second.keys()
        and all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    )


def _load_pickled(path: Path) -> LoadedDetector:
    model, image_size, noted = load_foreign_checkpoint(path)
    if noted is not None:
        # Built anew, it answers to the last bit as from the safetensors: the layout of tensors in memory is another.
        return _build(path, noted, model.state_dict())
    names = tuple(model.names[key] for key in sorted(model.names))
    return LoadedDetector(model.eval(), names, image_size, {"image_size": image_size, "foreign": True}, path)


def _load_safetensors(path: Path) -> LoadedDetector:
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); restore it or train again") from None
    if "marauder" not in header:
        raise UserError(f"{path}: holds weights but no description of the detector; expected a file Marauder wrote")
    return _build(path, header["marauder"], tensors)


def _build(path: Path, described: str, tensors: Mapping[str, torch.Tensor]) -> LoadedDetector:
    """The detector that ``described`` (JSON, see ``save_detector``) names, with its weights."""
    try:
        metadata = json.loads(described)
        architecture, names = str(metadata["architecture"]), tuple(str(name) for name in metadata["names"])
        image_size = int(metadata["image_size"])
        # Older files do not say it: theirs follows from the number of classes.
        width = int(metadata["class_branch_width"]) if "class_branch_width" in metadata else None
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: its description cannot be read ({error}); restore the file") from None
    try:
        model = build_detector(architecture, names, branch_width=width)
        model.load_state_dict(tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except RuntimeError:
        raise UserError(
            f"{path}: its weights are not those of a {architecture} of {len(names)} classes, which it says it is; "
            "restore the file"
        ) from None
    return LoadedDetector(model.eval(), names, image_size, metadata, path)
