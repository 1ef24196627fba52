"""Fixtures, what a board tests its own engine by: real pictures, the inputs made of them, the detector's answers.

Two layers, so that an engine is judged apart from the board's JPEG decoder and OpenCV: letterboxed inputs with raw
answers, and pictures (PNG, which every decoder reads alike) with the boxes that Marauder finds in them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.data.groups import group_of
from marauder.data.picture_files import find_pictures
from marauder.data.pictures import UnreadablePictureError, decode_picture
from marauder.prediction.folder import FolderPredictor
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription, read_description, stands_for
from marauder.prediction.opening import open_predictor
from marauder.prediction.postprocessing import EVERY_BOX
from marauder.prediction.predictor import Predictor
from marauder.prediction.settings import PREDICTING

MOST_TIMES_INPUT = 2
"""Pictures of fixtures are no larger than so many times the input: a bundle is carried over thin lines."""


@dataclass(frozen=True)
class Fixture:
    """``picture``, ``canvas``: uint8 (H, W, 3), red first, the picture and the input made of it. ``raw``: float32
    (4 + classes, A). ``animals``: class, score, box in pixels of the picture, and how far above its threshold."""

    name: str
    picture: np.ndarray
    canvas: np.ndarray
    raw: np.ndarray
    animals: tuple[Plain, ...]

    def files(self) -> dict[str, bytes]:
        """The files of the bundle by name."""
        encoded = cv2.imencode(".png", self.picture[:, :, ::-1])[1].tobytes()
        return {
            f"fixtures/{self.name}.png": encoded,
            f"fixtures/{self.name}_input.npy": _npy(self.canvas),
            f"fixtures/{self.name}_raw.npy": _npy(self.raw),
        }


def description_of(source: Path) -> FolderDescription | None:
    """What the folder says that ``source`` (a checkpoint) stands for; ``None``: it stands for itself."""
    folder = stands_for(source)
    return read_description(folder) if folder.is_dir() and (folder / DESCRIPTION_FILE).is_file() else None


def reference_predictor(graph: Path, source: Path) -> Predictor:
    """The graph (ONNX, float32, of fixed size) with calibration and thresholds of what it was made from: one look."""
    said, inner = description_of(source), open_predictor(graph, "cpu")
    if said is None:
        return inner
    # The graph has a size of its own, and a board looks once.
    return FolderPredictor(stands_for(source), inner, replace(said, views=None, image_size=None))


def describe_rules(predictor: Predictor) -> Plain:
    """How raw answers become boxes, in plain values for the board's runner."""
    rules = predictor.rules(PREDICTING)
    thresholds = rules.thresholds if rules.thresholds is not None else np.full(len(predictor.names), rules.least)
    curves = None
    if rules.calibration is not None:
        curves = [[said.tolist(), right.tolist()] for said, right in rules.calibration.curves]
    return {
        "least": rules.least,
        "iou": rules.iou,
        "candidates": rules.max_detections if rules.thresholds is None else EVERY_BOX,
        "max_detections": rules.max_detections,
        "several_labels": rules.multi_label,
        "thresholds": thresholds.tolist(),
        "curves": curves,
    }


def make_fixtures(predictor: Predictor, pictures: Sequence[np.ndarray]) -> list[Fixture]:
    """A fixture of each picture, uint8 (H, W, 3), red first, reduced to ``MOST_TIMES_INPUT`` times the input."""
    assert predictor.accepts.size is not None, "a board's graph has a fixed size"
    most = MOST_TIMES_INPUT * max(predictor.accepts.size)
    thresholds = describe_rules(predictor)["thresholds"]
    found = []
    for number, picture in enumerate(pictures):
        reduced = _reduced(picture, most)
        height, width = reduced.shape[:2]
        canvas = predictor.letterbox(width, height).apply(reduced)
        raw = predictor.run_inputs([canvas])[0].numpy()
        told = predictor.predict([reduced])[0]
        animals = tuple(
            {
                "class": predictor.names[int(kind)],
                "score": float(score),
                "box": [float(side) for side in box],
                "above": float(score) - thresholds[int(kind)],
            }
            for box, score, kind in zip(told.boxes, told.scores, told.classes, strict=True)
        )
        found.append(Fixture(f"picture_{number:02d}", reduced, canvas, raw, animals))
    return found


def diverse_pictures(folder: Path, count: int) -> tuple[list[np.ndarray], list[str], list[str]]:
    """``count`` pictures of a folder (and below) from as many clips as there are: pixels, names, what was set aside.

    Raises ``UserError`` where there is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a folder of pictures from where the board will look")
    pictures: list[np.ndarray] = []
    names: list[str] = []
    aside: list[str] = []
    for path in _in_turn(find_pictures(folder)):
        if len(pictures) == count:
            break
        try:
            pictures.append(decode_picture(path))
        except UnreadablePictureError as error:
            aside.append(str(error))
            continue
        names.append(path.relative_to(folder).as_posix())
    if not pictures:
        raise UserError(f"{folder}: holds no picture that can be read; name a folder of pictures")
    return pictures, names, aside


def _in_turn(paths: Sequence[Path]) -> list[Path]:
    """One of each clip, then a second of each, and so on; spread within a clip rather than neighbours."""
    clips: dict[str, list[Path]] = {}
    for path in sorted(paths):
        clips.setdefault(group_of(path.stem, folder=path.parent.name), []).append(path)
    spread = [_spread(frames) for frames in clips.values()]
    longest = max((len(frames) for frames in spread), default=0)
    return [frames[turn] for turn in range(longest) for frames in spread if turn < len(frames)]


def _spread(frames: list[Path]) -> list[Path]:
    """The frames so that any first few of them are far apart: the middle, then the middles of the halves."""
    ordered, parts = [], [frames]
    while parts:
        part = parts.pop(0)
        if part:
            middle = len(part) // 2
            ordered.append(part[middle])
            parts += [part[:middle], part[middle + 1 :]]
    return ordered


def _reduced(picture: np.ndarray, most: int) -> np.ndarray:
    height, width = picture.shape[:2]
    if max(height, width) <= most:
        return picture
    gain = most / max(height, width)
    size = (max(1, round(width * gain)), max(1, round(height * gain)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
