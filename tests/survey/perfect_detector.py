"""A clip of generated scenes as a video, and a detector that knows what is in it: it recognises frames by their pixels.

Run as a program, it is the command line of Marauder with that detector in place of every model:
``python perfect_detector.py TRUTH.json SECONDS predict --model ...``, each call of the detector taking SECONDS.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from marauder.data.records import Detections
from marauder.prediction.settings import PredictionSettings
from marauder.scenes.rendering import ClipRenderer
from marauder.scenes.species import NAMES

WIDTH, HEIGHT, RATE = 192, 144, 10.0
SCORES = (0.9, 0.8, 0.7, 0.6, 0.55, 0.5)


@dataclass(frozen=True)
class Scene:
    """A picture (uint8, red first) and what is in it."""

    pixels: np.ndarray
    found: Detections


def scenes(count: int, clip: int = 2, seed: int = 1) -> list[Scene]:
    """The first ``count`` scenes of a generated clip."""
    renderer = ClipRenderer(seed, clip, WIDTH, HEIGHT)
    made = []
    for number in range(count):
        frame = renderer.frame(number * 5)
        scores = np.resize(np.array(SCORES), len(frame.boxes))
        order = np.argsort(-scores, kind="stable")
        found = Detections(frame.boxes[order], scores[order], frame.classes[order])
        made.append(Scene(cv2.cvtColor(frame.picture, cv2.COLOR_BGR2RGB), found))
    return made


def write_video(path: Path, frames: Sequence[np.ndarray], rate: float = RATE, codec: str = "mp4v") -> Path:
    """Frames, uint8 red first, as a video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = frames[0].shape[1], frames[0].shape[0]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """A picture file of the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return path


def glance(pixels: np.ndarray) -> np.ndarray:
    """A picture as it is recognised by: float32 (36, 48)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (48, 36), interpolation=cv2.INTER_AREA).astype(np.float32)


class PerfectDetector:
    """Answers with what is in the scene that a picture looks most like, at least ``settings.confidence`` sure."""

    names = NAMES
    best_batch = 16
    image_size = 64
    thresholds: np.ndarray | None = None

    def __init__(self, known: Sequence[Scene], seconds: float = 0.0) -> None:
        self.glances = np.stack([glance(scene.pixels) for scene in known])
        self.found = [scene.found for scene in known]
        self.seconds, self.calls, self.looked_at = seconds, 0, 0
        # Else the wrong scene might be recognised, and a test say nothing.
        apart = np.abs(self.glances[:, None] - self.glances[None]).mean((2, 3)) + 100 * np.eye(len(known))
        assert apart.min() > 0.8, f"two scenes look too much alike ({apart.min():.2f})"

    def input_size(self, image_size: int | None = None) -> int:
        """Of any size, as asked for."""
        return image_size or self.image_size

    def predict(self, pictures: Sequence[np.ndarray], settings: PredictionSettings) -> list[Detections]:
        time.sleep(self.seconds)
        self.calls, self.looked_at = self.calls + 1, self.looked_at + len(pictures)
        answers = []
        for pixels in pictures:
            assert pixels.dtype == np.uint8 and pixels.shape == (HEIGHT, WIDTH, 3)
            found = self.found[int(np.abs(self.glances - glance(pixels)).mean((1, 2)).argmin())]
            found = found.above(settings.confidence if settings.confidence is not None else 0.25)
            if settings.classes is not None:
                keep = np.isin(found.classes, [self.names.index(name) for name in settings.classes])
                found = Detections(found.boxes[keep], found.scores[keep], found.classes[keep])
            answers.append(found)
        return answers

    def save(self, path: Path) -> Path:
        """What ``load`` reads."""
        rows = [[found.boxes.tolist(), found.scores.tolist(), found.classes.tolist()] for found in self.found]
        path.write_text(json.dumps({"glances": self.glances.tolist(), "found": rows}), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path, seconds: float) -> PerfectDetector:
        content = json.loads(path.read_text(encoding="utf-8"))
        detector = cls.__new__(cls)
        detector.glances = np.array(content["glances"], np.float32)
        detector.found = [Detections(*row) for row in content["found"]]
        detector.seconds, detector.calls, detector.looked_at = seconds, 0, 0
        return detector


def main() -> None:
    truth, seconds, *words = sys.argv[1:]
    # In place of the module that opens models, which would load PyTorch.
    opening = ModuleType("marauder.prediction.opening")
    opening.open_predictor = lambda *_, **__: PerfectDetector.load(Path(truth), float(seconds))  # type: ignore[attr-defined]
    sys.modules[opening.__name__] = opening
    sys.argv = ["marauder", *words]
    from marauder.cli.main import main as command_line
    from marauder.survey import detecting

    detecting.SHARD = 16

    command_line()


if __name__ == "__main__":
    main()
