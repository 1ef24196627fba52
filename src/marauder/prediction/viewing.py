"""A predictor that looks at every picture in several views, and fuses what they show, as its folder says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.data.records import Detections
from marauder.imaging.letterbox import Letterbox
from marauder.models.ultralytics_adapter import DetectionModel
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription
from marauder.prediction.fusing.base import Fusion
from marauder.prediction.picture_views import look_in_views, whole
from marauder.prediction.postprocessing import PostprocessingRules, report_scores
from marauder.prediction.predictor import Description, Predictor
from marauder.prediction.view_fusion import fuse_views, view_fusion
from marauder.prediction.view_names import PictureView, find_picture_views

ONE_SIZE = "the model takes only one, or is an ensemble of members whose inputs differ"
"""Why a predictor does not take views at another size."""


class ViewingPredictor(Predictor):
    """``inner`` in several views. Its thresholds and its calibration are of what the views show together.

    Raises ``UserError`` for a view that it cannot take.
    """

    def __init__(self, inner: Predictor, views: Sequence[PictureView], way: Fusion[Any] | None = None) -> None:
        said = Description(inner.names, inner.image_size, inner.stride, inner.accepts, inner.metadata)
        super().__init__(inner.path, said, inner.device)
        self.inner, self.views, self.way = inner, tuple(views), way or view_fusion()
        self._follow()
        for view in views:
            if view.at_another_size and not inner.takes_other_sizes:
                raise UserError(
                    f"{inner.path}: the view {view.name} needs another input size, and {ONE_SIZE}; leave the view out"
                )

    def _follow(self) -> None:
        self.names, self.thresholds, self.calibration = self.inner.names, self.inner.thresholds, self.inner.calibration

    @property
    def network(self) -> DetectionModel:
        """The network of the model."""
        return self.inner.network

    @cached_property
    def digest(self) -> str:
        """As of ``inner``, whose folder names the views."""
        return self.inner.digest

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """One plain look; see ``Predictor.run``."""
        return self.inner.run(images)

    def run_inputs(self, inputs: Sequence[np.ndarray]) -> torch.Tensor:
        """One plain look; see ``Predictor.run_inputs``."""
        return self.inner.run_inputs(inputs)

    def number_as(self, names: Sequence[str]) -> bool:
        """See ``Predictor.number_as``."""
        known = self.inner.number_as(names)
        self._follow()
        return known

    def input_size(self, image_size: int | None = None) -> int:
        """See ``Predictor.input_size``."""
        return self.inner.input_size(image_size)

    def use_size(self, image_size: int | None) -> None:
        """See ``Predictor.use_size``."""
        self.inner.use_size(image_size)
        self.image_size = self.inner.image_size

    @property
    def fits_by_itself(self) -> bool:
        """It does: each view by itself."""
        return True

    @property
    def takes_other_sizes(self) -> bool:
        """As ``inner``."""
        return self.inner.takes_other_sizes

    def frame(self, width: int, height: int, image_size: int | None = None) -> Letterbox:
        """The picture as it is, for each view of it is fitted by itself."""
        return whole(width, height)

    def find(
        self, inputs: Sequence[np.ndarray], frames: Sequence[Letterbox], rules: PostprocessingRules
    ) -> list[Detections]:
        """See ``Predictor.find``. What the views show is fused, then calibrated and judged like a plain look."""
        seen = look_in_views(self.views, inputs, self.inner, rules)
        # A view's box may be surer than what all views make of it together.
        return [report_scores(fuse_views(views, self.way).above(rules.least), rules) for views in seen]


def in_views(predictor: Predictor, said: FolderDescription) -> Predictor:
    """``predictor``, or where its folder names views, one that looks in them."""
    if said.views is None:
        return predictor
    try:
        return ViewingPredictor(predictor, find_picture_views(said.views), view_fusion(said.view_fusion, "view_fusion"))
    except UserError as error:
        raise UserError(f"{predictor.path / DESCRIPTION_FILE}: {error}") from None
