"""Starting a detector from other weights: every tensor that fits by name and shape, with an account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from marauder.core.errors import UserError
from marauder.models.files import load_detector
from marauder.models.ultralytics_adapter import DetectionModel

_LAYER = re.compile(r"model\.(\d+)\.")


@dataclass(frozen=True)
class TransferAccount:
    """What was taken from ``source`` and what was left, by tensor name; ``missing`` stayed as they were."""

    source: Path
    taken: tuple[str, ...]
    other_shape: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]

    def describe(self) -> str:
        """The account in a few lines."""
        lines = [
            f"weights from {self.source}: {len(self.taken)} tensors taken, {len(self.missing)} stay as initialised"
        ]
        for words, names in (("another shape", self.other_shape), ("no place here", self.unknown)):
            if names:
                shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
                lines.append(f"  left, {words}: {shown}")
        return "\n".join(lines)


def load_matching(model: DetectionModel, path: Path, backbone_only: bool = False) -> TransferAccount:
    """Copy into ``model`` every tensor of ``path`` that fits; with ``backbone_only`` those of the backbone layers.

    ``path``: a detector (``.pt``, ``.safetensors``) or a plain ``.safetensors`` state of the same layer names. Raises
    ``UserError`` when less than half of the tensors fit, which is never what was meant.
    """
    state = _read_state(path)
    own = model.state_dict()
    layers = len(model.yaml["backbone"])  # type: ignore[index]
    if backbone_only:
        state = {name: tensor for name, tensor in state.items() if _layer_of(name) < layers}
    taken = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    other_shape = tuple(n for n in state if n in own and n not in taken)
    unknown = tuple(n for n in state if n not in own)
    missing = tuple(n for n in own if n not in taken)
    account = TransferAccount(path, tuple(taken), other_shape, unknown, missing)
    wanted = [name for name in own if not backbone_only or _layer_of(name) < layers]
    if len(taken) < len(wanted) / 2:
        raise UserError(
            f"{path}: only {len(taken)} of {len(wanted)} tensors fit {getattr(model, 'marauder_architecture', 'it')}; "
            "train with the architecture the weights were made for (--model)"
        )
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    return account


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors" and path.is_file():
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: is damaged ({error}); restore it or make it again") from None
    loaded: nn.Module = load_detector(path).model
    return loaded.state_dict()


def _layer_of(name: str) -> int:
    found = _LAYER.match(name)
    return int(found.group(1)) if found else 10**6
