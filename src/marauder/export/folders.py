"""Which file a model is read from, and which folder its exports go to, so that no two models share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import UserError

BEST = "best"
UNTELLING = frozenset({"best", "last", "model", "weights"})
"""File names that say nothing of the model; its folder does."""


def weight_files(models: Sequence[Path]) -> list[Path]:
    """The files that ``load_detector`` reads for these paths, each once. Raises ``UserError`` with what is missing."""
    missing = [path for path in models if not path.is_file() and not path.with_suffix(".safetensors").is_file()]
    if missing:
        names = ", ".join(str(path) for path in missing)
        raise UserError(f"{names}: no such file; check the paths after --models")
    chosen = []
    for path in models:
        beside = path.with_suffix(".safetensors")
        chosen.append(beside if path.suffix == ".pt" and beside.is_file() else path)
    return list({path.resolve(): path for path in chosen}.values())


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
    folders = [part for part in path.resolve().parent.parts[1:] if part != "weights"]
    stem = path.stem
    if stem in UNTELLING and folders:
        return folders if stem == BEST else [*folders[:-1], f"{folders[-1]}-{stem}"]
    return [*folders, stem]
