"""Several detectors as one predictor: each picture is decoded once and letterboxed once for each size of input, every
member looks at it, and what they find is fused (``fusing``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.core.files import fingerprint
from marauder.core.plugins import make, resolve
from marauder.core.plugins import names as plugin_names
from marauder.data.records import Detections
from marauder.imaging.letterbox import Letterbox
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.batching import chunks_of_one_shape
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription
from marauder.prediction.format import OpeningSettings
from marauder.prediction.fusing.base import Fusion
from marauder.prediction.postprocessing import PostprocessingRules, report_scores
from marauder.prediction.predictor import Description, Predictor
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import PREDICTING

RAW_SHARE = 1e-6
"""Of a calibrated score that the score before calibration makes up: where a curve is level, boxes keep their order."""


@dataclass(frozen=True, slots=True)
class Unfitted(Letterbox):
    """A picture as it is: members whose inputs differ in size fit it each for themselves."""

    @classmethod
    def of(cls, width: int, height: int) -> Unfitted:
        """The picture of ``width`` × ``height`` pixels."""
        return cls(width, height, width, height, 0, 0, width, height)


def calibrated(calibration: ScoreCalibration | None, found: Detections) -> Detections:
    """``found`` with the scores that ``calibration`` makes of a member's own, best first; of several that are equal,
    those come first that the member scores higher."""
    if calibration is None or not len(found):
        return found
    scores = calibration.apply_to(found.scores, found.classes)
    scores = (1.0 - RAW_SHARE) * scores + RAW_SHARE * found.scores
    order = np.argsort(-scores, kind="stable")
    return Detections(found.boxes[order], scores[order], found.classes[order])


class EnsemblePredictor(Predictor):
    """Members with a way of fusing. Thresholds and calibration, where it has any, are of the fused scores.

    The order of the members decides nothing. What settings say of suppression (``iou``, ``multi_label``) is asked of
    each member; ``confidence`` only of the fused boxes, so that it changes none of them. ``image_size`` is that of
    every member, where it is given; without, each has its own.
    """

    def __init__(self, path: Path, members: Sequence[Predictor], said: FolderDescription) -> None:
        if said.ensemble is None or said.names is None:
            raise ValueError("an ensemble's description names its members and its classes")
        size = max(member.image_size for member in members)
        stride = max(member.stride for member in members)
        super().__init__(path, Description(said.names, size, stride), members[0].device)
        self.members, self.said, self.ensemble = tuple(members), said, said.ensemble
        self.fusion: Fusion[Any] = make(
            "fusion", self.ensemble.fusion, self.ensemble.options, f"{path / DESCRIPTION_FILE}: ensemble.options"
        )
        self.calibration = said.calibration
        if said.thresholds is not None:
            self.thresholds = np.array([said.thresholds[name] for name in said.names], np.float64)

    @property
    def network(self) -> DetectionModel:
        """An ensemble has none. Raises ``UserError``."""
        raise UserError(f"{self._alone()}: has no network of its own; name a model file of a member for that")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the members and of what the folder says of them."""
        return fingerprint([[member.digest for member in self.members], self.said.to_json()])

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """An ensemble has no raw answers: its members number their places each in their own way. Raises
        ``UserError``."""
        raise UserError(f"{self._alone()}: puts out fused boxes, no raw ones; name a model file of a member for that")

    def _alone(self) -> str:
        named = ", ".join(member.model for member in self.ensemble.members)
        return f"{self.path}: an ensemble ({named})"

    def use_size(self, image_size: int | None) -> None:
        """See ``Predictor.use_size``."""
        for member in self.members:
            member.use_size(image_size)
        self.image_size = max(member.image_size for member in self.members)

    def input_size(self, image_size: int | None = None) -> int:
        """See ``Predictor.input_size``: the largest of the members'."""
        return max(member.input_size(image_size) for member in self.members)

    def letterbox(self, width: int, height: int, image_size: int | None = None) -> Letterbox:
        """See ``Predictor.letterbox``. Where the members want different inputs, or one looks in several views, the
        picture as it is (``Unfitted``)."""
        inputs = {_input_of(member, image_size) for member in self.members}
        if len(inputs) > 1 or any(member.fits_by_itself for member in self.members):
            return Unfitted.of(width, height)
        return self.members[0].letterbox(width, height, image_size)

    @property
    def takes_other_sizes(self) -> bool:
        """See ``Predictor.takes_other_sizes``. Not where members fit pictures by themselves, nor where their inputs
        differ: one size for all would be another change for each."""
        alike = len({_input_of(member, None) for member in self.members}) == 1
        return alike and all(one.takes_other_sizes and not one.fits_by_itself for one in self.members)

    def number_as(self, names: Sequence[str]) -> bool:
        """See ``Predictor.number_as``."""
        if sorted(names) != sorted(self.names) or len(set(names)) < len(names):
            return False
        places = [self.names.index(name) for name in names]
        self.thresholds = None if self.thresholds is None else self.thresholds[places]
        self.calibration = None if self.calibration is None else self.calibration.numbered_as(names)
        # Members are numbered by name whenever they have looked.
        self.names = tuple(names)
        return True

    def weights(self) -> np.ndarray:
        """How much each member counts for each class: float64 (K, C); 0: it does not know the class."""
        return self.ensemble.weights([member.names for member in self.members], self.names)

    def find(
        self, inputs: Sequence[np.ndarray], frames: Sequence[Letterbox], rules: PostprocessingRules
    ) -> list[Detections]:
        """See ``Predictor.find``."""
        seen = [
            [self._numbered(member, calibrated(member.calibration, one)) for one in found]
            for member, found in zip(self.members, self.find_each(inputs, frames, rules), strict=True)
        ]
        weights = self.weights()
        return [judged(self.fusion.fuse(one, weights), rules) for one in zip(*seen, strict=True)]

    def find_each(
        self, inputs: Sequence[np.ndarray], frames: Sequence[Letterbox], rules: PostprocessingRules
    ) -> list[list[Detections]]:
        """What each member finds, before its calibration and in its own numbers of classes, from ``least`` up."""
        own = PostprocessingRules(
            self.ensemble.least, rules.iou, max(rules.max_detections, PREDICTING.max_detections), rules.multi_label
        )
        if not any(isinstance(frame, Unfitted) for frame in frames):
            return [member.find(inputs, frames, own) for member in self.members]
        fitted: dict[Any, tuple[list[Letterbox], list[np.ndarray]]] = {}
        found = []
        for member in self.members:
            key = _input_of(member, None)
            if key not in fitted:
                places = [member.frame(frame.width, frame.height) for frame in frames]
                fitted[key] = (places, [place.apply(one) for place, one in zip(places, inputs, strict=True)])
            found.append(_find_in_shapes(member, *fitted[key], own))
        return found

    def _numbered(self, member: Predictor, found: Detections) -> Detections:
        """``found`` with the ensemble's numbers of classes, without classes that it lacks."""
        if member.names == self.names:
            return found
        numbers = np.array([self.names.index(name) if name in self.names else -1 for name in member.names], np.int64)
        classes = numbers[found.classes]
        known = classes >= 0
        return Detections(found.boxes[known], found.scores[known], classes[known])


def judged(found: Detections, rules: PostprocessingRules) -> Detections:
    """Fused boxes as they are reported: calibrated, of the classes that are wanted, from their thresholds up."""
    if rules.classes is not None:
        wanted = np.isin(found.classes, rules.classes)
        found = Detections(found.boxes[wanted], found.scores[wanted], found.classes[wanted])
    return report_scores(found.above(rules.least), rules)


def open_ensemble(path: Path, said: FolderDescription, settings: OpeningSettings) -> EnsemblePredictor:
    """The ensemble of a predictor folder, its members opened as ``settings`` say.

    Raises ``UserError`` for a member that is not there or cannot be opened, and for classes that nobody knows.
    """
    file = path / DESCRIPTION_FILE
    if said.ensemble is None:
        raise ValueError(f"{file} describes no ensemble")
    if said.names is None:
        raise UserError(f"{file}: an ensemble must name its classes")
    if said.thresholds is not None and set(said.thresholds) != set(said.names):
        raise UserError(f"{file}: thresholds needs a number for each of {', '.join(said.names)}")
    if said.calibration is not None and said.calibration.names != said.names:
        raise UserError(f"{file}: calibrates {', '.join(said.calibration.names)}; fit the calibration on this ensemble")
    members = [_open_member(path / member.model, file, settings) for member in said.ensemble.members]
    known = {name for member in members for name in member.names}
    if strange := [name for name in said.names if name not in known]:
        raise UserError(f"{file}: names {', '.join(strange)}, which no member knows")
    if said.image_size is not None:
        for member in members:
            member.use_size(said.image_size)
    return EnsemblePredictor(path, members, said)


def _open_member(path: Path, file: Path, settings: OpeningSettings) -> Predictor:
    kind = "folder" if path.is_dir() else path.suffix.removeprefix(".").lower()
    if not path.exists():
        raise UserError(f"{file}: the member {path.name} is not there; copy the whole folder again")
    if kind not in plugin_names("predictor"):
        raise UserError(f"{file}: the member {path.name!r} is of no kind that can be opened")
    member: Predictor = resolve("predictor", kind)(settings).open(path)
    return member


def _input_of(member: Predictor, image_size: int | None) -> tuple[Any, ...]:
    """What decides how a picture is fitted into the input of a member."""
    return (member.fits_by_itself, member.accepts.size, member.input_size(image_size), member.stride)


def _find_in_shapes(
    member: Predictor, frames: Sequence[Letterbox], inputs: Sequence[np.ndarray], rules: PostprocessingRules
) -> list[Detections]:
    """What a member finds in inputs of several shapes."""
    found: dict[int, Detections] = {}
    for chunk in chunks_of_one_shape(range(len(frames)), lambda place: frames[place].shape, len(frames)):
        looked = member.find([inputs[place] for place in chunk], [frames[place] for place in chunk], rules)
        found |= zip(chunk, looked, strict=True)
    return [found[place] for place in range(len(frames))]
