"""The detectors of an ensemble: opened, checked against the data set and each other, copied into its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_bytes
from marauder.core.mistakes import Mistake, Mistakes
from marauder.data.records import Detections
from marauder.exporting.folders import folder_names
from marauder.models.files import load_detector, save_safetensors
from marauder.prediction.folder_description import (
    DESCRIPTION_FILE,
    FolderDescription,
    read_description,
    stands_for,
    write_description,
)
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import Predictor
from marauder.prediction.score_calibration import ScoreCalibration, identity_curve

WEIGHTS = "model.safetensors"
PLACE = "option --members"


@dataclass(frozen=True, eq=False)
class Member:
    """A detector that takes part. ``name``: of its folder in the ensemble. ``path``: as the user named it. ``digest``:
    of the file or folder as it was given. ``predictor``: opened, without calibration and thresholds of its own.
    ``said``: what its predictor folder says of it, if it is one."""

    name: str
    path: Path
    digest: str
    predictor: Predictor
    said: FolderDescription | None

    def knows(self, names: Sequence[str]) -> np.ndarray:
        """Which of the classes ``names`` it knows: bool (C,)."""
        return np.array([name in self.predictor.names for name in names], bool)

    def numbered_as(self, names: Sequence[str], found: Detections) -> Detections:
        """``found`` with the numbers of the classes ``names``; boxes of other classes are left out."""
        numbers = np.array([names.index(name) if name in names else -1 for name in self.predictor.names], np.int64)
        classes = numbers[found.classes]
        known = classes >= 0
        return Detections(found.boxes[known], found.scores[known], classes[known])

    def own_calibration(self, fitted: ScoreCalibration) -> ScoreCalibration:
        """``fitted``, of the data set's classes, for the member's own; what the data set lacks stays as it is."""
        own = self.predictor.names
        places = [fitted.names.index(name) if name in fitted.names else None for name in own]
        curves = tuple(identity_curve() if place is None else fitted.curves[place] for place in places)
        methods = tuple("none" if place is None else fitted.methods[place] for place in places)
        precision = {name: value for name, value in fitted.average_precision.items() if name in own}
        return ScoreCalibration(own, curves, methods, precision)


def open_members(
    paths: Sequence[Path], names: Sequence[str], device: str, image_size: int | None, place: str = PLACE
) -> list[Member]:
    """The detectors in ``paths``, opened. ``names``: classes of the data set.

    Raises ``MistakesError`` with all that is wrong: files that cannot be opened, ensembles, members that know none of
    the classes, classes that nobody knows, the same detector twice, and members that share no class.
    """
    mistakes, opened = Mistakes(), []
    for path, name in zip(paths, folder_names(paths), strict=True):
        with mistakes.gathered(place):
            opened.append(_open(path, name, device, image_size))
    mistakes.add(Mistake(words, place) for words in _contradictions(opened, names, complete=not mistakes.found))
    mistakes.demand_none()
    return opened


def _open(path: Path, name: str, device: str, image_size: int | None) -> Member:
    said, path = None, stands_for(path)
    if path.is_dir():
        said = read_description(path)
        if said.ensemble is not None:
            named = ", ".join(str(path / member.model) for member in said.ensemble.members)
            raise UserError(f"{path}: is an ensemble; name its members instead: {named}")
    predictor = open_predictor(path, device, image_size)
    digest = predictor.digest
    # Fitted anew here, on the scale of the model's own scores.
    predictor.calibration, predictor.thresholds = None, None
    return Member(name, path, digest, predictor, said)


def _contradictions(members: Sequence[Member], names: Sequence[str], complete: bool) -> list[str]:
    """What is wrong with members though each can be opened. ``complete``: these are all of them."""
    found, known = [], np.zeros(len(names), np.int64)
    by_digest: dict[str, Path] = {}
    for member in members:
        same = by_digest.setdefault(member.digest, member.path)
        if same is not member.path:
            found.append(f"{member.path}: is the same model as {same}; name it once")
        twice = {name for name in member.predictor.names if member.predictor.names.count(name) > 1}
        if twice:
            found.append(f"{member.path}: names {', '.join(sorted(twice))} twice")
        if not member.knows(names).any():
            own = ", ".join(member.predictor.names[:12])
            found.append(f"{member.path}: knows none of the data set's classes ({', '.join(names)}); it knows {own}")
        known += member.knows(names)
    if complete and not found:
        if strange := [name for name, count in zip(names, known, strict=True) if not count]:
            found.append(f"no member knows {', '.join(strange)}, of the data set's classes; add one that does")
        elif (known < 2).all():
            found.append("the members share no class of the data set, so that there is nothing to fuse")
    return found


def write_member(member: Member, calibration: ScoreCalibration, folder: Path) -> dict[Path, str]:
    """Put a member into ``folder`` as a predictor folder with its calibration; returns SHA-256 by file.

    Detectors become safetensors; those of an architecture that is not built here, and exported files, are copied.
    """
    source = member.path if member.said is None else member.path / member.said.model
    said = member.said or FolderDescription("")
    target, digest = folder / WEIGHTS, None
    if source.suffix == ".pt":
        digest = save_safetensors(load_detector(source), target)
    if digest is None:
        target = folder / f"model{source.suffix}"
        digest = write_bytes(target, source.read_bytes())
    size = member.predictor.image_size
    said = replace(said, model=target.name, image_size=size, calibration=calibration, thresholds=None, stands_in=None)
    write_description(folder, said)
    description = folder / DESCRIPTION_FILE
    return {target: digest, description: hash_file(description)}
