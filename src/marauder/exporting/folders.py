"""The files of the models that were named, and which folder the exports of each go to: no two models share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import UserError
from marauder.models.naming import explain_missing

BEST = "best"
UNTELLING = frozenset({"best", "last", "model", "weights"})
"""File names that say nothing of the model; its folder does."""


def weight_files(models: Sequence[Path]) -> list[Path]:
    """``models``, each file once. Raises ``UserError`` for files that are missing, and for both files of one model."""
    missing = [why for path in models if (why := explain_missing(path)) is not None]
    if missing:
        raise UserError("\n".join(missing))
    chosen = list({path.resolve(): path for path in models}.values())
    stems = Counter(path.resolve().with_suffix("") for path in chosen)
    for path in chosen:
        if stems[path.resolve().with_suffix("")] > 1:
            raise UserError(
                f"{path}: is named beside a file of the same name and another kind; a training leaves the same weights "
                "in both: name one of them"
            )
    return chosen


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
