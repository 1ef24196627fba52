"""The files of the models that were named, and which folder the exports of each go to: no two models share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import UserError
from marauder.models.naming import explain_missing
from marauder.models.naming import folder_names as folder_names
from marauder.prediction.folder_description import DESCRIPTION_FILE, read_description


def _why_not(path: Path) -> str | None:
    """Why ``path`` is no single network's file, and what to name; ``None``: it is."""
    if not path.is_dir():
        return explain_missing(path)
    if not (path / DESCRIPTION_FILE).is_file():
        return f"{path}: is a folder; name the .pt or .safetensors file in it"
    said = read_description(path)
    if said.ensemble is None:
        return f"{path}: here the network alone is used, without calibration and thresholds: name {path / said.model}"
    members = [path / member.model for member in said.ensemble.members]
    files = [one / read_description(one).model if one.is_dir() else one for one in members]
    return f"{path}: is an ensemble, and here one network is needed: name its members, {', '.join(map(str, files))}"


def weight_files(models: Sequence[Path]) -> list[Path]:
    """``models``, each file once. Raises ``UserError`` for files that are missing, and for both files of one model."""
    missing = [why for path in models if (why := _why_not(path)) is not None]
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
