"""What lies in a predictor folder: a model file with a description of how it is to be used, nothing that is executed.

``predictor.json`` names the model file and may state class names, image size, calibration and thresholds::

    {"format": 1, "model": "best.safetensors", "names": ["fish", "ray"], "image_size": 640,
     "thresholds": {"fish": 0.3, "ray": 0.2}, "calibration": null, "views": ["plain", "flip"],
     "view_fusion": "weighted_boxes", "stands_in": null}

An ensemble names several instead (``prediction.ensemble_description``).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, atomic_path, hash_file, read_json, write_json
from marauder.core.plain import Plain, PlainMapping
from marauder.prediction.ensemble_description import EnsembleDescription, parse_ensemble
from marauder.prediction.score_calibration import ScoreCalibration

log = logging.getLogger("marauder")
DESCRIPTION_FILE = "predictor.json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class FolderDescription:
    """What ``predictor.json`` says. ``model``: name of the file beside it, empty for an ensemble, whose members
    ``ensemble`` names. ``None`` elsewhere: as the model says. ``views``: names of the ``picture_views`` that are looked
    at, ``view_fusion``: how they are fused; ``None``: one plain look. ``stands_in``: SHA-256 of the ``<folder>.pt``
    beside the folder that ``stands_for`` it."""

    model: str
    names: tuple[str, ...] | None = None
    image_size: int | None = None
    calibration: ScoreCalibration | None = None
    thresholds: Mapping[str, float] | None = None
    ensemble: EnsembleDescription | None = None
    views: tuple[str, ...] | None = None
    view_fusion: str = "weighted_boxes"
    stands_in: str | None = None

    def to_json(self) -> Plain:
        """Plain values, as they stand in ``predictor.json``."""
        return {
            "format": FORMAT,
            "model": self.model,
            "names": self.names,
            "image_size": self.image_size,
            "thresholds": None if self.thresholds is None else dict(self.thresholds),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            # Only where there is one: what older folders say keeps its digest.
            **({} if self.ensemble is None else {"ensemble": self.ensemble.to_json()}),
            **({} if self.views is None else {"views": self.views, "view_fusion": self.view_fusion}),
            **({} if self.stands_in is None else {"stands_in": self.stands_in}),
        }


def read_description(folder: Path) -> FolderDescription:
    """What a predictor folder says. Raises ``UserError`` for one that is none, or whose description is wrong."""
    file = folder / DESCRIPTION_FILE
    if not file.is_file():
        raise UserError(f"{folder}: no predictor folder, which holds {DESCRIPTION_FILE}; name a model file in it")
    try:
        content = read_json(file)
    except DamagedFileError as error:
        raise UserError(str(error)) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file}: is not a description of a predictor that this version reads (format {FORMAT})")
    if content.get("ensemble") is not None:
        return replace(_parsed(file, "", content), ensemble=parse_ensemble(file, content["ensemble"]))
    model = content.get("model")
    # A folder may come from anywhere: its description must not lead to files outside it.
    if not isinstance(model, str) or Path(model).name != model or model in ("", ".."):
        raise UserError(f"{file}: model {model!r} must be the name of a file in the same folder")
    return _parsed(file, model, content)


def _parsed(file: Path, model: str, content: PlainMapping) -> FolderDescription:
    names, size, thresholds = content.get("names"), content.get("image_size"), content.get("thresholds")
    if names is not None and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(f"{file}: names must be a list of class names")
    if size is not None and not (isinstance(size, int) and size > 0):
        raise UserError(f"{file}: image_size {size!r} must be a number of pixels")
    if thresholds is not None and not (
        isinstance(thresholds, dict) and all(_is_share(value) for value in thresholds.values())
    ):
        raise UserError(f"{file}: thresholds must give each class a number from 0 to 1")
    calibration = None
    if content.get("calibration") is not None:
        try:
            calibration = ScoreCalibration.from_json(content["calibration"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file}: calibration cannot be read ({error!r}); fit it again") from None
    views = content.get("views")
    if views is not None and not (isinstance(views, list) and views and all(isinstance(view, str) for view in views)):
        raise UserError(f"{file}: views must be a list of names")
    fusion, stands_in = content.get("view_fusion", FolderDescription.view_fusion), content.get("stands_in")
    if not isinstance(fusion, str):
        raise UserError(f"{file}: view_fusion {fusion!r} must be the name of a way of fusing")
    return FolderDescription(
        model,
        None if names is None else tuple(names),
        size,
        calibration,
        thresholds,
        views=None if views is None else tuple(views),
        view_fusion=fusion,
        stands_in=stands_in if isinstance(stands_in, str) else None,
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def stands_for(path: Path) -> Path:
    """The folder beside ``<folder>.pt`` for which that file stands (``FolderDescription.stands_in``), else ``path``.

    A checkpoint opens in Ultralytics, which knows nothing of views and calibration; whoever names it here means all of
    it. A file of other bytes than the folder says is only itself, which a warning tells.
    """
    folder = path.with_suffix("")
    if path.suffix != ".pt" or not path.is_file() or not (folder / DESCRIPTION_FILE).is_file():
        return path
    said = read_description(folder)
    if said.stands_in is None:
        return path
    if said.stands_in == hash_file(path):
        return folder
    log.warning(
        "%s: is not the file that %s was made with, so it is used without its calibration, thresholds and views; name "
        "the folder to use them, or calibrate again",
        path,
        folder / DESCRIPTION_FILE,
    )
    return path


def write_predictor_folder(folder: Path, model: Path, said: FolderDescription | None = None) -> Path:
    """Copy ``model`` into ``folder`` with the description ``said``; returns the folder. The description comes last."""
    said = replace(said, model=model.name) if said is not None else FolderDescription(model.name)
    with atomic_path(folder / model.name) as temporary:
        shutil.copyfile(model, temporary)
    return write_description(folder, said)


def write_description(folder: Path, said: FolderDescription) -> Path:
    """Write what is said of what lies in ``folder``; returns the folder."""
    write_json(folder / DESCRIPTION_FILE, said.to_json())
    return folder
