"""Step 8 as a job: for each model the views that are worth their time, calibrated scores and thresholds, as one folder
that is used like a model. The same command continues; what is done is not done again."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.calibration.files import FIGURES, PAGE, CalibratedFiles, source_of, what_it_needs, write_calibrated
from marauder.calibration.finding import Found, Pictures, find, pictures_of
from marauder.calibration.judging import with_calibration
from marauder.calibration.report import write_report
from marauder.calibration.settings import CalibrateSettings
from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import fingerprint, remove_leftovers
from marauder.core.locks import exclusive
from marauder.core.settings import Decides
from marauder.core.work import Work, claim
from marauder.data.check import told
from marauder.data.pictures import picture_identity
from marauder.data.reading import read_dataset
from marauder.data.records import Detections
from marauder.data.repair import without_doubtful
from marauder.prediction.folder_description import FolderDescription, read_description
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import Predictor
from marauder.prediction.records import DecodedPictures, detect
from marauder.prediction.settings import MEASURING

log = logging.getLogger("marauder")
FORMAT = 2
"""Raised whenever the same settings and pictures would give other files."""
CHECKED_PICTURES = 8


@dataclass(frozen=True)
class Calibrated:
    """One model that is done. ``words``: what came of it, a line each. ``again``: it was done before."""

    name: str
    folder: Path
    checkpoint: Path | None
    words: tuple[str, ...]
    again: bool = False

    @property
    def needs(self) -> list[str]:
        """What goes with it, where that is more than one file."""
        return what_it_needs(read_description(self.folder))


@dataclass(frozen=True)
class CalibrateSummary:
    """What a calibration did."""

    models: tuple[Calibrated, ...]

    def message(self) -> str:
        """What happened, in a few lines for each model."""
        lines = []
        for model in self.models:
            lines.append(f"{model.name}{' (done before)' if model.again else ''}:")
            lines += [f"  {words}" for words in model.words]
            beside = f", for Ultralytics {model.checkpoint}" if model.checkpoint is not None else ""
            lines.append(f"  model: {model.folder}{beside}; report: {model.folder / PAGE}")
            lines += [f"  {words}" for words in model.needs]
        return "\n".join(lines)


def calibrate_models(settings: CalibrateSettings, clock: Clock) -> CalibrateSummary:
    """Calibrate every model of ``settings``; see the module.

    Raises ``UserError`` for what the user must mend, ``Interrupted`` when the clock says so: the same call goes on.
    """
    dataset = read_dataset(settings.data, clock=clock)
    for line in told(dataset.problems):
        log.warning("%s", line)
    dataset, _ = without_doubtful(dataset)
    pictures = pictures_of(dataset, settings)
    unknown = [name for name in settings.critical if name not in dataset.names]
    if unknown:
        raise UserError(f"critical: {', '.join(unknown)}: not among the classes {', '.join(dataset.names)}")
    every = [CalibratedFiles(settings.output, name) for name in settings.model_names]
    # All of them before the first: a refusal must not wait for hours of work.
    sources = [source_of(model) for model in settings.models]
    for model, files in zip(settings.models, every, strict=True):
        if model.resolve().is_relative_to(files.folder.resolve()):
            raise UserError(f"{model}: is where its calibrated model would be written; name another --output")
        claim(files.folder, files.marker, "calibrated model")
    with exclusive(settings.output / ".calibrate" / "lock", f"the calibration in {settings.output}"):
        remove_leftovers(settings.output)
        models = []
        for model, files, source in zip(settings.models, every, sources, strict=True):
            clock.check()
            models.append(_calibrate(model, source, files, pictures, settings, clock))
    return CalibrateSummary(tuple(models))


def _calibrate(
    model: Path,
    source: tuple[Path, FolderDescription],
    files: CalibratedFiles,
    pictures: Pictures,
    settings: CalibrateSettings,
    clock: Clock,
) -> Calibrated:
    predictor = open_predictor(model, settings.device, settings.image_size)
    weights, said = source
    own_names = predictor.names
    if not predictor.number_as(pictures.names):
        raise UserError(
            f"{model}: its classes are {', '.join(own_names)}; the data set has {', '.join(pictures.names)}: calibrate "
            "on pictures of the same classes"
        )
    work = Work(files.marker, _made_from(settings, predictor, pictures))
    if settings.fresh:
        shutil.rmtree(files.state, ignore_errors=True)
    elif (known := work.done()) is not None:
        return Calibrated(files.name, files.folder, _there(files), tuple(known["words"]), again=True)
    left = work.sealed()
    work.begin()
    found = find(predictor, pictures, settings, files.state / "looks", clock)
    clock.check()
    views = None if not found.search.helps else found.search.kept
    description = replace(
        said,
        names=said.names if said.names is not None else own_names,
        # Of an ensemble only where it was asked for: each member has a size of its own.
        image_size=predictor.image_size if said.ensemble is None else settings.image_size or said.image_size,
        calibration=found.fitted.calibration.numbered_as(own_names),
        thresholds={one.name: one.threshold for one in found.thresholds},
        views=views,
        view_fusion=settings.views.fusion,
    )
    shutil.rmtree(files.folder, ignore_errors=True)
    if files.checkpoint.name in left:
        # Ours, perhaps of a single model; an ensemble of the same name leaves none.
        files.checkpoint.unlink(missing_ok=True)
    write_calibrated(files, weights, description)
    _check(files, found, pictures, settings)
    words = tuple(found.words())
    write_report(files, model, found, pictures.splits, settings, words)
    work.finish(files.all(), {"words": list(words), "figures": f"{files.name}/{FIGURES}"})
    return Calibrated(files.name, files.folder, _there(files), words)


def _there(files: CalibratedFiles) -> Path | None:
    return files.checkpoint if files.checkpoint.is_file() else None


def _made_from(settings: CalibrateSettings, predictor: Predictor, pictures: Pictures) -> Any:
    # Models and pictures count by what they hold, wherever they lie.
    decisions = decided(settings, Decides.RESULT, by_content=False)
    deciding = {name: value for name, value in decisions.items() if name not in ("models", "data")}
    records = [record for part in (pictures.fitting, pictures.judging or ()) for record in part]
    labels = [
        [one.key, one.group, one.boxes.tolist(), one.classes.tolist(), one.ignored.tolist(), one.split]
        for one in records
    ]
    return [FORMAT, predictor.digest, pictures.names, deciding, fingerprint([labels, picture_identity(records)])]


def _check(files: CalibratedFiles, found: Found, pictures: Pictures, settings: CalibrateSettings) -> None:
    """Open what was written and look with it: it must answer as was measured. Raises ``UserError``."""
    predictor = open_predictor(files.folder, settings.device)
    predictor.number_as(pictures.names)
    # Spread over all of them, for neighbours are frames of one clip.
    count = min(CHECKED_PICTURES, len(found.records))
    places = np.linspace(0, len(found.records) - 1, count).round().astype(int)
    some = [found.records[place] for place in places]
    answers = detect(predictor, some, DecodedPictures(some), range(count), replace(MEASURING, batch=settings.batch))
    for place, answer in zip(places, answers or (), strict=True):
        expected = with_calibration(found.detections[place], found.fitted.calibration)
        if answer.detections is None or not alike(answer.detections, expected):
            raise UserError(
                f"{files.folder}: does not answer as it was measured on {found.records[place].key}; run the command "
                "again, and report it if that does not help"
            )


def alike(one: Detections, other: Detections) -> bool:
    """Whether both hold the same boxes but for rounding, as batches of other sizes make: of the surest each has one
    within a tenth of a pixel and a hundredth of the score."""
    for first, second in ((one, other), (other, one)):
        for box, score, number in zip(first.boxes[:10], first.scores[:10], first.classes[:10], strict=True):
            near = (np.abs(second.boxes - box).max(axis=1, initial=0) < 0.1) & (second.classes == number)
            if not (near & (np.abs(second.scores - score) < 0.01)).any():
                return False
    return True
