"""Starting a detector from other weights: every tensor that fits by name and shape, with an account.

The last layers of the class branch have a row for each class; these are taken by class name. The branch's hidden layers
are as wide as the number of classes made them where they were first trained, so ``start_detector`` builds the detector
at the width of the source: otherwise a fine-tune would begin with an untrained branch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from marauder.core.errors import UserError
from marauder.core.wording import counted
from marauder.models.files import load_detector
from marauder.models.ultralytics_adapter import DetectionModel, build_detector, class_branch_width

_LAYER = re.compile(r"model\.(\d+)\.")
_CLASS_ROWS = re.compile(r"model\.\d+\.cv3\.\d+\.\d+\.(weight|bias)")
"""The last layer of the class branch at each stride, which has a row for each class."""
_HEAD_INPUT = re.compile(r"model\.\d+\.cv2\.0\.0\.conv\.weight")
"""The first layer of the box branch: what the head is fed, whatever the number of classes."""


@dataclass(frozen=True)
class TransferAccount:
    """What became of every tensor, by name: of those in ``source``, which were ``taken``, which went row by row
    (``by_class``), and which were left because they have ``other_shape`` here, have rows of
    ``other_classes`` only, are ``unknown`` here, or are not of the backbone, which alone was wanted (``beyond``); of
    the model's own, which are ``missing`` in what was taken and stay as initialised.

    ``classes_taken`` and ``classes_initialised``: where rows went by class name, whose were taken and whose stay as
    initialised. ``branch_widths``: channels of the class branch, as in the source, and as the number of classes alone
    would make it; ``None`` where they are the same. ``shapes``: of every tensor, in the model where it has it, else in
    the source; ``numbers``: how many numbers were taken.
    """

    source: Path
    taken: tuple[str, ...]
    other_shape: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    beyond: tuple[str, ...] = ()
    by_class: tuple[str, ...] = ()
    other_classes: tuple[str, ...] = ()
    classes_taken: tuple[str, ...] = ()
    classes_initialised: tuple[str, ...] = ()
    branch_widths: tuple[int, int] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: int = 0

    def summary(self) -> str:
        """What was taken over, in a line for everyone."""
        count = len(self.taken) + len(self.by_class)
        tensors = counted(count + len(self.missing), "tensor")
        words = f"starts with the weights of {self.source.name}: {count} of the network's {tensors} taken from it"
        words += f"; {len(self.missing)}, which do not fit, are untrained at first" if self.missing else ""
        if self.classes_taken or self.classes_initialised:
            classes = counted(len(self.classes_taken) + len(self.classes_initialised), "class", "classes")
            words += f"; {len(self.classes_taken) or 'none'} of {classes} known by name"
        return words

    def describe(self) -> str:
        """The account in a few lines."""
        by_class = f"{len(self.by_class)} by class name, " if self.by_class else ""
        lines = [
            f"weights from {self.source}: {len(self.taken)} tensors taken, {by_class}{len(self.missing)} stay as "
            f"initialised ({self.numbers:,} numbers taken)",
            *self._class_branch(),
        ]
        for words, names in self._left():
            if names:
                lines.append(f"  left, {words}: {_few(names)}")
        return "\n".join(lines)

    def listing(self) -> str:
        """The account of every single tensor: a heading and a line each with its shape."""
        parts = [
            ("taken", self.taken),
            ("taken row by row, by class name", self.by_class),
            *((f"left, {words}", names) for words, names in self._left()),
            ("not in the source or left there: stays as initialised", self.missing),
        ]
        lines = [self.describe().splitlines()[0], *self._class_branch()]
        for words, names in parts:
            lines += ["", f"{words}: {len(names)}", *(f"  {name} {self._shape(name)}" for name in names)]
        return "\n".join(lines) + "\n"

    def _class_branch(self) -> list[str]:
        lines = []
        if self.branch_widths is not None:
            kept, own = self.branch_widths
            lines.append(f"  class branch: {kept} channels wide as in the source, not {own}, so that its layers fit")
        if self.classes_taken or self.classes_initialised:
            count = len(self.classes_taken) + len(self.classes_initialised)
            line = f"  classes taken by name: {len(self.classes_taken)} of {count}"
            line += f" ({_few(self.classes_taken)})" if self.classes_taken else ""
            initialised = self.classes_initialised
            lines.append(line + (f"; as initialised: {_few(initialised)}" if initialised else ""))
        return lines

    def _left(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            ("another shape", self.other_shape),
            ("rows of other classes", self.other_classes),
            ("no place here", self.unknown),
            ("not of the backbone", self.beyond),
        )

    def _shape(self, name: str) -> str:
        return "x".join(str(side) for side in self.shapes.get(name, ())) or "one number"


@dataclass(frozen=True)
class _Source:
    """Weights to start from. ``names``: of the classes in the order of their rows; empty: the file does not say."""

    path: Path
    state: Mapping[str, torch.Tensor]
    names: tuple[str, ...]


def start_detector(
    architecture: str, names: Sequence[str], seed: int = 0, weights: Path | None = None, backbone: Path | None = None
) -> tuple[DetectionModel, list[TransferAccount]]:
    """A detector as ``build_detector`` makes it, started from the detector ``weights`` and the pretrained ``backbone``
    where given, with an account of each.

    Its class branch is as wide as that of ``weights``. Raises ``UserError`` as ``load_matching`` does.
    """
    model, accounts = build_detector(architecture, names, seed), []
    if weights is not None:
        source, own = _read_source(weights), class_branch_width(model)
        width = _branch_width_of(source, model)
        if width != own:
            try:
                model = build_detector(architecture, names, seed, width)
            except UserError as error:
                raise UserError(f"{weights}: {error}") from None
        accounts.append(_transfer(model, source, own))
    # The backbone last, over the detector's: where both are given it is the more particular.
    if backbone is not None:
        accounts.append(load_matching(model, backbone, backbone_only=True))
    return model, accounts


def load_matching(model: DetectionModel, path: Path, backbone_only: bool = False) -> TransferAccount:
    """Copy into ``model`` every tensor of ``path`` that fits; with ``backbone_only`` those of the backbone layers.

    ``path``: a detector (``.pt``, ``.safetensors``) or a plain ``.safetensors`` state of the same layer names. Where
    the file names its classes, their rows are taken by name. The model's class branch keeps its width:
    ``start_detector`` builds one that fits. Raises ``UserError`` when less than half of the tensors fit, which is never
    what was meant.
    """
    source = _read_source(path)
    if backbone_only:
        return _transfer_backbone(model, source)
    return _transfer(model, source, class_branch_width(model))


def _transfer_backbone(model: DetectionModel, source: _Source) -> TransferAccount:
    own, state = model.state_dict(), source.state
    layers = len(model.yaml["backbone"])  # type: ignore[index]
    inside = {name: tensor for name, tensor in state.items() if _layer_of(name) < layers}
    beyond = tuple(name for name in state if name not in inside)
    wanted = sum(_layer_of(name) < layers for name in own)
    return _take(model, _Source(source.path, inside, ()), wanted, beyond)


def _transfer(model: DetectionModel, source: _Source, own_width: int) -> TransferAccount:
    """``own_width``: of the class branch as the number of classes alone would make it."""
    width, wanted = class_branch_width(model), len(model.state_dict())
    return _take(model, source, wanted, (), (width, own_width) if width != own_width else None)


def _take(
    model: DetectionModel,
    source: _Source,
    wanted: int,
    beyond: tuple[str, ...],
    widths: tuple[int, int] | None = None,
) -> TransferAccount:
    """Copy what fits. ``wanted``: how many tensors would be, at best."""
    own, state = model.state_dict(), source.state
    names = tuple(str(model.names[key]) for key in sorted(model.names))
    rows = _matching_rows(names, source.names)
    of_classes = [n for n in state if n in own and _CLASS_ROWS.fullmatch(n)] if rows is not None else []
    # A row's weights and its bias go together: a bias alone means nothing.
    alike = tuple(of_classes) if all(own[n].shape[1:] == state[n].shape[1:] for n in of_classes) else ()
    by_class, other_classes = (alike, ()) if rows else ((), alike)
    taken = tuple(n for n in state if n in own and n not in of_classes and own[n].shape == state[n].shape)
    if len(taken) + len(by_class) < wanted / 2:
        architecture = getattr(model, "marauder_architecture", "it")
        raise UserError(
            f"{source.path}: only {len(taken)} of {wanted} tensors fit {architecture}; "
            "train with the architecture the weights were made for (--model)"
        )
    with torch.no_grad():
        for name in taken:
            own[name].copy_(state[name])
        for name in by_class:
            for at, row in (rows or {}).items():
                own[name][at].copy_(state[name][row])
    matched = {names[at] for at in rows or ()} if by_class else set()
    return TransferAccount(
        source.path,
        taken,
        other_shape=tuple(n for n in state if n in own and n not in {*taken, *alike}),
        unknown=tuple(n for n in state if n not in own),
        missing=tuple(n for n in own if n not in {*taken, *by_class}),
        beyond=beyond,
        by_class=by_class,
        other_classes=other_classes,
        classes_taken=tuple(name for name in names if name in matched),
        classes_initialised=tuple(name for name in names if name not in matched) if of_classes else (),
        branch_widths=widths,
        shapes={name: tuple(tensor.shape) for name, tensor in {**state, **own}.items()},
        numbers=sum(own[name].numel() for name in taken)
        + sum(own[name][0].numel() * len(matched) for name in by_class),
    )


def _matching_rows(own: Sequence[str], theirs: Sequence[str]) -> dict[int, int] | None:
    """The source's row of each class that both have, by the number of the class here; ``None`` where rows stay where
    they are, because the classes are the same or the source does not name its own."""
    # Ultralytics names the classes of a detector by their numbers where nobody has named them.
    if tuple(own) == tuple(theirs) or all(name == str(at) for at, name in enumerate(theirs)):
        return None
    exact = {name: at for at, name in enumerate(theirs)}
    loose = {_loosely(name): at for at, name in enumerate(theirs)}
    found = {at: exact.get(name, loose.get(_loosely(name))) for at, name in enumerate(own)}
    return {at: row for at, row in found.items() if row is not None}


def _loosely(name: str) -> str:
    """A class name as compared: "Sea_urchin" is "sea urchin"."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _branch_width_of(source: _Source, model: DetectionModel) -> int:
    """The width of the source's class branch where its head is fed as that of ``model``, else the model's own width."""
    own = model.state_dict()
    fed = [name for name in source.state if _HEAD_INPUT.fullmatch(name) and name in own]
    if fed and all(source.state[name].shape[1] == own[name].shape[1] for name in fed):
        for name, tensor in source.state.items():
            if _CLASS_ROWS.fullmatch(name) and name in own and tensor.ndim == 4:
                return int(tensor.shape[1])
    return class_branch_width(model)


def _read_source(path: Path) -> _Source:
    if path.suffix != ".safetensors" or not path.is_file():
        detector = load_detector(path)
        return _Source(path, detector.model.state_dict(), detector.names)
    try:
        with safe_open(path, framework="pt") as stored:
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - it is no dict
            described = json.loads((stored.metadata() or {}).get("marauder", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); restore it or make it again") from None
    return _Source(path, state, tuple(str(name) for name in described.get("names", ())))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _layer_of(name: str) -> int:
    found = _LAYER.match(name)
    # A tensor that belongs to no numbered layer is not of the backbone.
    return int(found.group(1)) if found else 10**6
