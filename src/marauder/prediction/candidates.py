"""Every candidate in a picture with its scores for all classes: plainly, in changed views, with dropout in the head.

What uncertainty is measured on, and what score calibration is fitted on. Pictures are decoded once for all models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.data.pictures import decode_picture, scale_picture
from marauder.imaging.letterbox import Letterbox
from marauder.models.dropout import dropout_seed, head_dropout
from marauder.models.raw_outputs import (
    BranchFeatures,
    RawOutputs,
    finish,
    finish_scores,
    keep_candidates,
    run_branches,
    run_to_head,
)
from marauder.prediction.batching import chunks_of_one_shape
from marauder.prediction.predictor import Predictor
from marauder.prediction.views import View

OVERLAP = 0.6
"""IoU above which suppression, which does not look at classes here, drops the fainter box."""
FEWEST_KEPT, MOST_KEPT, KEPT_OF_A_CLASS = 100, 500, 20
"""See ``most_boxes``."""


@dataclass(frozen=True, eq=False)
class DecodedPicture:
    """A picture's key, its size as displayed, and its pixels scaled to each long side that a model takes."""

    key: str
    width: int
    height: int
    scaled: dict[int, np.ndarray]


@dataclass(frozen=True)
class Passes:
    """What a model has to do besides looking once. ``views``: changed views. ``dropout``: passes with dropout, at
    ``rate``, their masks drawn from ``seed``. ``sides``: whether the spread of the sides is asked for."""

    views: tuple[View, ...] = ()
    dropout: int = 0
    rate: float = 0.1
    sides: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Sight:
    """What one model sees in one picture: N candidates, boxes (N, 4) in pixels of the picture, best score first.

    ``scores``: (N, C) as the head says. ``side_deviation``: (N, 4), pixels. ``dropout``: (K, N, C), the same anchors in
    each pass with dropout. ``views``: boxes and scores found in each view, put back into the picture. ``features``:
    float32 (D,) of unit length.
    """

    boxes: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    side_deviation: np.ndarray | None = None
    dropout: np.ndarray | None = None
    views: tuple[tuple[np.ndarray, np.ndarray], ...] = field(default=())


def most_boxes(classes: int) -> int:
    """Boxes of a picture that are kept with ``classes`` classes, which share them; those after them are faint ones.

    Bounded however many classes there are: pairing the boxes of two views takes the square of it, in time and memory.
    """
    return max(FEWEST_KEPT, min(MOST_KEPT, KEPT_OF_A_CLASS * classes))


def decode_for(key: str, path: Path, sizes: Sequence[int]) -> DecodedPicture:
    """Decode a picture once and scale it for every size. Raises ``UnreadablePictureError``."""
    picture = decode_picture(path)
    height, width = picture.shape[:2]
    return DecodedPicture(key, width, height, {size: scale_picture(picture, size) for size in sizes})


@dataclass(frozen=True, eq=False)
class CandidateModel:
    """A predictor with a network, and what is kept of what it sees. ``columns``: for each class of the data set its
    place among the model's; ``confidence``: least score of a candidate's best class."""

    predictor: Predictor
    columns: np.ndarray
    confidence: float

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self.predictor.path

    @property
    def size(self) -> int:
        """Long side of the input, pixels."""
        return self.predictor.image_size

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in the order of the scores."""
        return tuple(self.predictor.names[int(place)] for place in self.columns)

    @torch.inference_mode()
    def look(
        self, pictures: Sequence[DecodedPicture], passes: Passes, batch: int, check: Callable[[], None]
    ) -> list[Sight]:
        """What the model sees in ``pictures``, in their order, ``batch`` at a time; ``check`` comes before each."""
        frames = [self.predictor.letterbox(picture.width, picture.height) for picture in pictures]
        sights: dict[int, Sight] = {}
        for chunk in chunks_of_one_shape(range(len(pictures)), lambda place: frames[place].shape, batch):
            check()
            images = self.predictor.images([frames[place].apply(pictures[place].scaled[self.size]) for place in chunk])
            found = self._look_at(images, [frames[place] for place in chunk], [pictures[i].key for i in chunk], passes)
            sights.update(zip(chunk, found, strict=True))
        return [sights[place] for place in range(len(pictures))]

    def _look_at(
        self, images: torch.Tensor, frames: Sequence[Letterbox], keys: Sequence[str], passes: Passes
    ) -> list[Sight]:
        network = self.predictor.network
        inputs = run_to_head(network, images)
        features = run_branches(network, inputs.maps)
        raw = finish(network, features)
        if passes.sides and raw.side_deviation is None:
            raise UserError(
                f"{self.path}: puts out distances of the sides without their spread, which localisation_stability "
                "needs; leave that measure out, or take augmentation_consistency"
            )
        kept = self._keep(raw)
        drawn = self._drop_out(features, kept, keys, passes) if passes.dropout else None
        views = [self._look_at_view(images, view, frames) for view in passes.views]
        pooled = inputs.features.cpu().numpy()
        return [
            Sight(
                boxes=frame.restore(_numbers(raw.boxes[place][chosen])),
                scores=self._by_class(raw.scores[place][chosen]),
                features=pooled[place],
                side_deviation=None
                if raw.side_deviation is None
                # From pixels of the input to pixels of the picture, as the boxes.
                else _numbers(raw.side_deviation[place][chosen]) * frame.width / frame.scaled_width,
                dropout=None if drawn is None else drawn[place],
                views=tuple(view[place] for view in views),
            )
            for place, (frame, chosen) in enumerate(zip(frames, kept, strict=True))
        ]

    def _keep(self, raw: RawOutputs) -> list[torch.Tensor]:
        return keep_candidates(raw, self.confidence, OVERLAP, most_boxes(raw.scores.shape[2]))

    def _drop_out(
        self, features: BranchFeatures, kept: Sequence[torch.Tensor], keys: Sequence[str], passes: Passes
    ) -> list[np.ndarray]:
        rounds: list[list[np.ndarray]] = []
        with head_dropout(self.predictor.network, passes.rate) as dropout:
            for number in range(passes.dropout):
                dropout.draw([dropout_seed(passes.seed, key, number) for key in keys])
                scores = finish_scores(self.predictor.network, features)
                # At the anchors that the plain look kept: nothing has to be paired from pass to pass.
                rounds.append([self._by_class(scores[place][chosen]) for place, chosen in enumerate(kept)])
        return [np.stack([one[place] for one in rounds]) for place in range(len(keys))]

    def _look_at_view(
        self, images: torch.Tensor, view: View, frames: Sequence[Letterbox]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        raw = finish(
            self.predictor.network,
            run_branches(self.predictor.network, run_to_head(self.predictor.network, view.change(images)).maps),
        )
        found = []
        for place, chosen in enumerate(self._keep(raw)):
            boxes = view.back(_numbers(raw.boxes[place][chosen]), frames[place].shape)
            found.append((frames[place].restore(boxes), self._by_class(raw.scores[place][chosen])))
        return found

    def _by_class(self, scores: torch.Tensor) -> np.ndarray:
        return _numbers(scores)[:, self.columns]


def _numbers(values: torch.Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
