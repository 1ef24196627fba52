"""Running detectors for scoring: all passes that the measures need over pictures that were decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.data.pictures import decode_picture, scale_picture
from marauder.imaging.letterbox import Letterbox, fit
from marauder.models.dropout import dropout_seed, head_dropout
from marauder.models.embeddings import weights_hash
from marauder.models.files import load_detector
from marauder.models.raw_outputs import (
    BranchFeatures,
    RawOutputs,
    finish,
    finish_scores,
    keep_candidates,
    run_branches,
    run_to_head,
)
from marauder.models.ultralytics_adapter import DetectionModel, input_stride
from marauder.selection.settings import SelectionSettings
from marauder.selection.views import View, find_views

OVERLAP = 0.6
"""IoU above which suppression, which does not look at classes here, drops the fainter box."""
MOST_BOXES = 100
"""Boxes of a picture that are kept; those after them are faint ones."""


@dataclass(frozen=True, eq=False)
class DecodedPicture:
    """A picture's key, its size as displayed, and its pixels scaled to each long side that a model takes."""

    key: str
    width: int
    height: int
    scaled: dict[int, np.ndarray]


@dataclass(frozen=True)
class Passes:
    """What a model has to do beside looking once. ``views``: changed views. ``dropout``: passes with dropout, at
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


def decode_for(key: str, path: Path, sizes: Sequence[int]) -> DecodedPicture:
    """Decode a picture once and scale it for every size. Raises ``UnreadablePictureError``."""
    picture = decode_picture(path)
    height, width = picture.shape[:2]
    return DecodedPicture(key, width, height, {size: scale_picture(picture, size) for size in sizes})


@dataclass(frozen=True, eq=False)
class ScoringModel:
    """A detector in evaluation mode on its device. ``columns``: for each class of the data set its place among the
    model's; ``size``: long side of its input, pixels."""

    path: Path
    model: DetectionModel
    weights: str
    size: int
    columns: np.ndarray
    device: torch.device
    confidence: float

    @torch.inference_mode()
    def look(
        self, pictures: Sequence[DecodedPicture], passes: Passes, batch: int, check: Callable[[], None]
    ) -> list[Sight]:
        """What the model sees in ``pictures``, in their order, ``batch`` at a time; ``check`` comes before each."""
        stride = input_stride(self.model)
        frames = [fit(picture.width, picture.height, self.size, stride) for picture in pictures]
        order = sorted(range(len(pictures)), key=lambda place: (frames[place].shape, place))
        sights: dict[int, Sight] = {}
        for chunk in _of_one_shape(order, frames, batch):
            check()
            inputs = np.stack([frames[place].apply(pictures[place].scaled[self.size]) for place in chunk])
            images = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2).float().div_(255)
            found = self._look_at(images, [frames[place] for place in chunk], [pictures[i].key for i in chunk], passes)
            sights.update(zip(chunk, found, strict=True))
        return [sights[place] for place in range(len(pictures))]

    def _look_at(
        self, images: torch.Tensor, frames: Sequence[Letterbox], keys: Sequence[str], passes: Passes
    ) -> list[Sight]:
        inputs = run_to_head(self.model, images)
        features = run_branches(self.model, inputs.maps)
        raw = finish(self.model, features)
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
                else _numbers(raw.side_deviation[place][chosen]) * frame.width / frame.scaled_width,
                dropout=None if drawn is None else drawn[place],
                views=tuple(view[place] for view in views),
            )
            for place, (frame, chosen) in enumerate(zip(frames, kept, strict=True))
        ]

    def _keep(self, raw: RawOutputs) -> list[torch.Tensor]:
        return keep_candidates(raw, self.confidence, OVERLAP, MOST_BOXES)

    def _drop_out(
        self, features: BranchFeatures, kept: Sequence[torch.Tensor], keys: Sequence[str], passes: Passes
    ) -> list[np.ndarray]:
        rounds: list[list[np.ndarray]] = []
        with head_dropout(self.model, passes.rate) as dropout:
            for number in range(passes.dropout):
                dropout.draw([dropout_seed(passes.seed, key, number) for key in keys])
                scores = finish_scores(self.model, features)
                rounds.append([self._by_class(scores[place][chosen]) for place, chosen in enumerate(kept)])
        return [np.stack([one[place] for one in rounds]) for place in range(len(keys))]

    def _look_at_view(
        self, images: torch.Tensor, view: View, frames: Sequence[Letterbox]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        raw = finish(self.model, run_branches(self.model, run_to_head(self.model, view.change(images)).maps))
        found = []
        for place, chosen in enumerate(self._keep(raw)):
            boxes = view.back(_numbers(raw.boxes[place][chosen]), frames[place].shape)
            found.append((frames[place].restore(boxes), self._by_class(raw.scores[place][chosen])))
        return found

    def _by_class(self, scores: torch.Tensor) -> np.ndarray:
        return _numbers(scores)[:, self.columns]


def open_models(settings: SelectionSettings, names: Sequence[str], device: torch.device) -> list[ScoringModel]:
    """The models that score. ``names``: classes of the data set; empty: those of the first model.

    Raises ``UserError`` without a model, for one that cannot be opened, and for one with other classes.
    """
    paths = settings.scoring_models()
    if not paths:
        raise UserError("scoring needs a detector: name one or more after --model, or choose --strategy typical")
    models = []
    wanted = tuple(names)
    for path in paths:
        loaded = load_detector(path)
        wanted = wanted or loaded.names
        if sorted(loaded.names) != sorted(wanted):
            raise UserError(_other_classes(path, loaded.names, wanted, "the data set" if names else str(paths[0])))
        columns = np.array([loaded.names.index(name) for name in wanted], np.int64)
        size = settings.image_size or loaded.image_size
        model = loaded.model.to(device).eval()
        models.append(ScoringModel(path, model, weights_hash(path), size, columns, device, settings.confidence))
    return models


def class_names(models: Sequence[ScoringModel]) -> tuple[str, ...]:
    """The classes in the order of the scores."""
    own = models[0].model.names
    return tuple(str(own[int(place)]) for place in models[0].columns)


def needed_passes(settings: SelectionSettings, needs: set[str], models: int) -> Passes:
    """The passes of the first model; passes with dropout are the committee only where there is one model."""
    return Passes(
        views=find_views(settings.views) if "views" in needs else (),
        dropout=settings.dropout_passes if "members" in needs and models == 1 else 0,
        rate=settings.dropout_rate,
        sides="sides" in needs,
        seed=settings.seed,
    )


def _other_classes(path: Path, own: Sequence[str], wanted: Sequence[str], whose: str) -> str:
    missing = [name for name in wanted if name not in own]
    unknown = [name for name in own if name not in wanted]
    parts = [f"it lacks {', '.join(missing)}"] if missing else []
    parts += [f"it has {', '.join(unknown)} besides"] if unknown else []
    return (
        f"{path}: its classes are not those of {whose}: {'; '.join(parts) or 'a class stands in it twice'}. Models "
        "that score together need the same class names; train it on them, or leave it out"
    )


def _of_one_shape(order: Sequence[int], frames: Sequence[Letterbox], batch: int) -> list[list[int]]:
    chunks: list[list[int]] = []
    for place in order:
        if chunks and len(chunks[-1]) < batch and frames[chunks[-1][0]].shape == frames[place].shape:
            chunks[-1].append(place)
        else:
            chunks.append([place])
    return chunks


def _numbers(values: torch.Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
