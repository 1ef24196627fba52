"""A pretrained backbone on disk: ``NAME.safetensors``, tensors named as in the detector, with a description."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from marauder.core.files import to_plain, write_bytes
from marauder.core.plain import Plain
from marauder.core.version import __version__

HEADER = "marauder_backbone"


def save_backbone(state: dict[str, torch.Tensor], path: Path, metadata: Plain) -> str:
    """Write ``state`` in float32 atomically; returns the file's SHA-256. The same content gives the same bytes."""
    tensors = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous() for name, tensor in state.items()
    }
    described = json.dumps({**to_plain(metadata), "marauder": __version__}, sort_keys=True)
    return write_bytes(path, safetensors_bytes(tensors, metadata={HEADER: described}))


def describe_backbone(path: Path) -> Plain | None:
    """What the file says of itself; ``None`` for one that is missing, damaged, or no backbone of Marauder's."""
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            for name in stored.keys():  # noqa: SIM118 - it is no dict
                stored.get_tensor(name)
    except (SafetensorError, OSError):
        return None
    if HEADER not in header:
        return None
    content: Plain = json.loads(header[HEADER])
    return content
