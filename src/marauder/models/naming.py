"""Names of detectors: which architectures there are, and which file one is read from. Asking needs no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.core.mistakes import nearest

FAMILIES = ("yolov8", "yolo11")
SCALES = "tnsmlx"
"""Of each family, small to large; ``t`` is one of Marauder's own."""
_NAME = re.compile(rf"({'|'.join(FAMILIES)})([{SCALES}])")
BEST = "best"
UNTELLING = frozenset({"best", "last", "model", "weights"})
"""File names that say nothing of the model; its folder does."""
SUFFIXES = (".pt", ".safetensors")
"""Of files that hold a detector. A training leaves both, of the same weights; later they may be of two models."""


def detector_names() -> list[str]:
    """The architectures that can be built, small to large."""
    return [f"{family}{scale}" for family in FAMILIES for scale in SCALES]


def family_and_scale(name: str) -> tuple[str, str] | None:
    """``("yolov8", "n")`` of ``yolov8n``, ``YOLOv8n`` or ``yolov8n.pt``; ``None``: no architecture is called so."""
    found = _NAME.fullmatch(name.removesuffix(".yaml").removesuffix(".pt").lower())
    return (found[1], found[2]) if found is not None else None


def unknown_detector(name: str) -> str:
    """What to say of a ``name`` that is no architecture's."""
    words = f"no detector named {name!r}{nearest(name, detector_names())}"
    return words + ("; to start from a file, name it as weights" if name.endswith(SUFFIXES) else "")


def model_file(path: Path) -> Path:
    """``path``, if it is a file. Raises ``UserError`` where it is not, with the one of the other kind beside it."""
    missing = explain_missing(path)
    if missing is not None:
        raise UserError(missing)
    return path


def weights_hash(path: Path) -> str:
    """SHA-256 of the file that a detector is read from. Raises ``UserError`` where there is none."""
    return hash_file(model_file(path))


def not_weights(path: Path) -> str | None:
    """Why the file at ``path`` cannot hold weights, as far as its first bytes tell; ``None``: it may."""
    with path.open("rb") as stream:
        head = stream.read(8)
    if path.suffix == ".safetensors":
        # The length of its header comes first.
        good = len(head) == 8 and 0 < int.from_bytes(head, "little") <= path.stat().st_size - 8
    else:
        good = head.startswith((b"PK\x03\x04", b"\x80"))  # an archive, or the pickle of older versions of PyTorch
    return None if good else f"{path}: holds no weights: it is damaged, or only stands for them; copy it here again"


def explain_missing(path: Path) -> str | None:
    """Why no detector can be read from ``path``, and what to do; ``None``: the file is there."""
    if path.is_file():
        return None
    beside = [other for suffix in SUFFIXES if (other := path.with_suffix(suffix)).is_file()]
    remedy = f"there is {beside[0]}: name it, if it is meant" if beside else "check the path"
    return f"{path}: no such file; {remedy}"


def folder_names(paths: Sequence[Path]) -> list[str]:
    """A folder name for each path: ``baseline/best.pt`` gives ``baseline``, ``reef.pt`` gives ``reef``; where that is
    taken twice, as many folders above are put in front as it takes to tell them apart.
    """
    parts = [_telling_parts(path) for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["-".join(part[-depth:]) for part, depth in zip(parts, depths)]
        counts = Counter(names)
        again = [index for index, name in enumerate(names) if counts[name] > 1 and depths[index] < len(parts[index])]
        if not again:
            break
        for index in again:
            depths[index] += 1
    taken: set[str] = set()
    for index, name in enumerate(names):
        number, free = 2, name
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        taken.add(free)
        names[index] = free
    return names


def _telling_parts(path: Path) -> list[str]:
    # Ultralytics puts a run's files into RUN/weights: the name to go by is that of the folder above.
    folders = [part for part in path.resolve().parent.parts[1:] if part != "weights"]
    stem = path.stem
    if stem in UNTELLING and folders:
        return folders if stem == BEST else [*folders[:-1], f"{folders[-1]}-{stem}"]
    return [*folders, stem]
