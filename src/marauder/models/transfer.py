"""Starting a detector from other weights: every tensor that fits by name and shape, with an account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """What became of every tensor, by name: of those in ``source``, which were ``taken``, and which were left because
    they have ``other_shape`` here, are ``unknown`` here, or are not of the backbone, which alone was wanted
    (``beyond``); of the model's own, which are ``missing`` in what was taken and stay as initialised.

    ``shapes``: of every tensor, in the model where it has it, else in the source; ``numbers``: how many numbers were
    taken.
    """

    source: Path
    taken: tuple[str, ...]
    other_shape: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    beyond: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: int = 0

    def describe(self) -> str:
        """The account in a few lines."""
        lines = [
            f"weights from {self.source}: {len(self.taken)} tensors taken, {len(self.missing)} stay as initialised "
            f"({self.numbers:,} numbers taken)"
        ]
        for words, names in self._left():
            if names:
                shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
                lines.append(f"  left, {words}: {shown}")
        return "\n".join(lines)

    def listing(self) -> str:
        """The account of every single tensor: a heading and a line each with its shape."""
        parts = [("taken", self.taken), *((f"left, {words}", names) for words, names in self._left())]
        parts.append(("not in the source or left there: stays as initialised", self.missing))
        lines = [self.describe().splitlines()[0]]
        for words, names in parts:
            lines += ["", f"{words}: {len(names)}", *(f"  {name} {self._shape(name)}" for name in names)]
        return "\n".join(lines) + "\n"

    def _left(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            ("another shape", self.other_shape),
            ("no place here", self.unknown),
            ("not of the backbone", self.beyond),
        )

    def _shape(self, name: str) -> str:
        return "x".join(str(side) for side in self.shapes.get(name, ())) or "one number"


def load_matching(model: DetectionModel, path: Path, backbone_only: bool = False) -> TransferAccount:
    """Copy into ``model`` every tensor of ``path`` that fits; with ``backbone_only`` those of the backbone layers.

    ``path``: a detector (``.pt``, ``.safetensors``) or a plain ``.safetensors`` state of the same layer names. Raises
    ``UserError`` when less than half of the tensors fit, which is never what was meant.
    """
    state = _read_state(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    own = model.state_dict()
    layers = len(model.yaml["backbone"])  # type: ignore[index]
    beyond: tuple[str, ...] = ()
    if backbone_only:
        beyond = tuple(name for name in state if _layer_of(name) >= layers)
        state = {name: tensor for name, tensor in state.items() if _layer_of(name) < layers}
    taken = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    other_shape = tuple(n for n in state if n in own and n not in taken)
    unknown = tuple(n for n in state if n not in own)
    missing = tuple(n for n in own if n not in taken)
    shapes |= {name: tuple(tensor.shape) for name, tensor in own.items()}
    numbers = sum(tensor.numel() for tensor in taken.values())
    account = TransferAccount(path, tuple(taken), other_shape, unknown, missing, beyond, shapes, numbers)
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
    # A tensor that belongs to no numbered layer is not of the backbone.
    return int(found.group(1)) if found else 10**6
