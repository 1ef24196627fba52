"""Which detectors step 7 goes on from: files, patterns and folders of ensembles, each detector once and by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.exporting.folders import folder_names
from marauder.models.naming import SUFFIXES, explain_missing
from marauder.runs.settings import AUTO
from marauder.runs.start_weights import FOLDER

EARLIER = ("critical", "baseline")
"""The steps whose detector is gone on from, the first that is there."""
MEMBERS = ("best.pt", "*/best.pt", "members/*/best.pt", "*.pt")
"""Where a folder has its detectors: its own, as a run leaves it, or several; the first of these that finds any."""
ENSEMBLE = "predictor.json"


@dataclass(frozen=True)
class Source:
    """A detector to go on from. ``name``: of its result. ``folder``: where that goes. ``own``: the settings are those
    of the run in ``folder`` itself, begun before."""

    name: str
    path: Path
    folder: Path
    own: bool = False


def sources_of(
    named: Sequence[str], weights: Path, output: Path, is_made: Callable[[Path], bool] = lambda _: False
) -> list[Source]:
    """The detectors of ``named`` (``ensemble_models``), or the one that ``weights`` is, with folders below ``output``.

    ``is_made``: whether a file is not there yet but will be. Raises ``UserError``, a line for each that is missing.
    """
    if not named and weights.parent.absolute() == (output / FOLDER).absolute():
        # The settings that a run keeps in its folder name the copy that it started from.
        return [Source(output.absolute().name, weights, output, own=True)]
    problems: list[str] = []
    paths: list[Path] = []
    for one in named or ():
        # A name alone may be that of another step's folder beside the output.
        found = files_of(one, is_made) or (files_of(str(output.parent / one)) if len(Path(one).parts) == 1 else [])
        if not found:
            problems.append(_why_none(one))
        paths += found
    if not named:
        paths = [_earlier(output, is_made) if weights == AUTO else weights]
        problems += [why for path in paths if not is_made(path) and (why := explain_missing(path)) is not None]
    if problems:
        raise UserError("\n".join(problems))
    chosen = list({path.resolve(): path for path in paths}.values())
    names = [_as_name(name) for name in folder_names(chosen)]
    return [Source(name, path, output / name) for name, path in zip(names, chosen)]


def files_of(named: str, is_made: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """The files of detectors that a name means, in order; empty: none."""
    path = Path(named)
    if path.is_dir():
        return _in_folder(path)
    if _is_pattern(named) and not path.exists():
        root = Path(path.anchor or ".")
        found = sorted(root.glob(str(path.relative_to(root))))
        files = [one for one in found if one.suffix in SUFFIXES and one.is_file()]
        # A pattern such as ensemble/* names folders.
        return files or [file for one in found if one.is_dir() for file in _in_folder(one)]
    return [path] if path.suffix in SUFFIXES and (path.is_file() or is_made(path)) else []


def _in_folder(folder: Path) -> list[Path]:
    description = folder / ENSEMBLE
    if description.is_file():
        content = read_json(description)
        # Members of an ensemble are folders or files beside its description, and so is a predictor's one model.
        members = (content.get("ensemble") or {}).get("members") or [content]
        inner = [folder / str(one["model"]) for one in members if one.get("model") not in (None, "", ".")]
        return [file for one in inner for file in (_in_folder(one) if one.is_dir() else [one]) if file.is_file()]
    for pattern in MEMBERS:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if found:
            return found
    return []


def _earlier(output: Path, is_made: Callable[[Path], bool]) -> Path:
    candidates = [output.parent / name / "best.pt" for name in EARLIER]
    for path in candidates:
        if path.is_file() or is_made(path):
            return path
    raise UserError(
        f"there is no detector to go on from ({', '.join(map(str, candidates))}): name one (--base-model), or several "
        "(--ensemble-models)"
    )


def _is_pattern(named: str) -> bool:
    return any(letter in named for letter in "*?[")


def _why_none(named: str) -> str:
    path = Path(named)
    if path.is_dir():
        return f"{named}: holds no detector (looked for {', '.join((*MEMBERS, ENSEMBLE))})"
    if _is_pattern(named):
        return f"{named}: no .pt or .safetensors file is called so; check the pattern"
    if path.suffix not in SUFFIXES:
        return f"{named}: detectors are .pt or .safetensors files, or folders that hold some"
    return explain_missing(path) or f"{named}: no such file; check the path"


def _as_name(name: str) -> str:
    """Without what names of projects and folders may not have."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:40]
    return kept or "model"
