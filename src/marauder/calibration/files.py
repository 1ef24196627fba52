"""The files of a calibrated model: ``<name>/`` with weights, description, report and card, and ``<name>.pt`` beside it.

<output>/<name>/predictor.json   names, calibration, thresholds, views
<output>/<name>/<weights>        the model's file, unchanged; of an ensemble its members' files and folders
<output>/<name>/calibration.json report.html card.md
<output>/<name>.pt               the weights for Ultralytics; our commands take it for the folder. Not of an ensemble
<output>/<name>.done.json        what all of it was made from, and the hashes
<output>/.calibrate/<name>/      what the views showed, so that nothing is looked at twice
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import atomic_path, hash_file, write_json
from marauder.core.wording import counted
from marauder.prediction.folder_description import (
    DESCRIPTION_FILE,
    FolderDescription,
    read_description,
    stands_for,
    write_predictor_folder,
)

FIGURES, PAGE, CARD = "calibration.json", "report.html", "card.md"


@dataclass(frozen=True)
class CalibratedFiles:
    """Where one model's files lie, below ``output``, under its ``name``."""

    output: Path
    name: str

    @property
    def folder(self) -> Path:
        """The predictor folder."""
        return self.output / self.name

    @property
    def checkpoint(self) -> Path:
        """The file for Ultralytics, which stands for the folder."""
        return self.output / f"{self.name}.pt"

    @property
    def marker(self) -> Path:
        """What says that the model is done."""
        return self.output / f"{self.name}.done.json"

    @property
    def state(self) -> Path:
        """What the work is continued from."""
        return self.output / ".calibrate" / self.name

    def all(self) -> list[Path]:
        """Every file that is there, ``marker`` left out."""
        inside = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [*inside, *([self.checkpoint] if self.checkpoint.is_file() else [])]


def same_named(models: Sequence[Path]) -> list[str]:
    """What is wrong with ``models`` as a list: files that are named twice, or beside another of the same weights."""
    resolved = [path.expanduser().resolve() for path in models]
    twice = [path for path, count in Counter(resolved).items() if count > 1]
    found = [f"{path}: is named twice; name each model once" for path in twice]
    stems = Counter(path.with_suffix("") for path in set(resolved) if path.is_file())
    found += [
        f"{stem}: is named with several endings; a training leaves the same weights in both files: name one of them"
        for stem, count in stems.items()
        if count > 1
    ]
    return found


def unfit_names(names: Sequence[str], models: Sequence[Path]) -> list[str]:
    """What is wrong with ``names`` as names of ``models``; none at all are as good as one for each."""
    if not names:
        return []
    found = []
    if len(names) != len(models):
        each = "give each of them one of its own, or give none"
        found.append(f"{counted(len(names), 'name')} for {counted(len(models), 'model')}: {each}")
    # ``<name>.pt`` lies beside the folders.
    return found + [f"{name}: a name does not end in .pt" for name in names if name.endswith(".pt")]


def source_of(model: Path) -> tuple[Path, FolderDescription]:
    """The file of weights that ``model`` names, or the folder of an ensemble, and what a folder says of it. Raises
    ``UserError`` for a folder that is calibrated already."""
    folder = stands_for(model)
    if not folder.is_dir():
        return folder, FolderDescription(folder.name)
    said = read_description(folder)
    # What an ensemble says of its fused scores is replaced; its members keep their own calibration.
    ours = said.views is not None or said.stands_in is not None
    if ours or (said.calibration is not None and said.ensemble is None):
        raise UserError(f"{folder / DESCRIPTION_FILE}: is calibrated already; name the model that it was made from")
    return (folder if said.ensemble is not None else folder / said.model), said


def what_it_needs(said: FolderDescription) -> list[str]:
    """What a calibrated folder needs to work, where that is more than one file: lines for people."""
    if said.ensemble is None:
        return []
    members = ", ".join(member.model for member in said.ensemble.members)
    return [
        f"an ensemble of {members}: they lie in the folder, which can be moved and copied as a whole and needs nothing "
        "else; there is no .pt beside it, for Ultralytics knows no ensembles: name the folder"
    ]


def write_calibrated(files: CalibratedFiles, weights: Path, said: FolderDescription) -> None:
    """Write the checkpoint, where the weights are a detector's, and then the folder, whose description comes last.

    An ensemble's members are copied with it; Ultralytics knows no ensembles, so there is no checkpoint then.
    """
    if said.ensemble is not None:
        _copy_members(weights, files.folder, said)
        return
    stands_in = None
    if weights.suffix == ".pt":
        with atomic_path(files.checkpoint) as temporary:
            shutil.copyfile(weights, temporary)
        stands_in = hash_file(files.checkpoint)
    elif weights.suffix == ".safetensors":
        from marauder.models.files import load_detector, save_detector

        loaded = load_detector(weights)
        scratch = files.state / "checkpoint"
        save_detector(loaded.model, scratch / files.name, loaded.image_size, loaded.metadata)
        with atomic_path(files.checkpoint) as temporary:
            shutil.copyfile(scratch / f"{files.name}.pt", temporary)
        shutil.rmtree(scratch)
        stands_in = hash_file(files.checkpoint)
    write_predictor_folder(files.folder, weights, replace(said, stands_in=stands_in))


def _copy_members(ensemble: Path, folder: Path, said: FolderDescription) -> None:
    assert said.ensemble is not None
    folder.mkdir(parents=True, exist_ok=True)
    for member in said.ensemble.members:
        source = ensemble / member.model
        if source.is_dir():
            shutil.copytree(source, folder / member.model, dirs_exist_ok=True)
            continue
        with atomic_path(folder / member.model) as temporary:
            shutil.copyfile(source, temporary)
    write_json(folder / DESCRIPTION_FILE, said.to_json())
