"""Sections of a run's settings that concern its loss and its rare and critical classes; reading them needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from marauder.core.decides import BY_CONTENT
from marauder.core.settings import Settings
from marauder.models.loss_gains import GAINS

FLOORED = "critical_with_floor"
"""The metric that picks weights by the critical classes, with a floor on the others."""


class FocalSettings(Settings):
    """Focal loss in place of the plain classification loss; the assignment of boxes to the head's cells stays."""

    enabled: bool = Field(False, description="whether the focal loss is used")
    gamma: float = Field(1.5, ge=0, le=5, description="how much easy examples are faded out; 0: not")
    alpha: float = Field(0.5, gt=0, lt=1, description="weight of animals against background; 0.5: as they are")
    class_weights: dict[str, float] = Field(
        default_factory=dict, description="factors on the classification loss by class name; others count 1"
    )

    @property
    def is_off(self) -> bool:
        """Whether the plain loss is used."""
        # Off, the section counts as one value: what else it says does not make another run.
        return not self.enabled

    @field_validator("class_weights")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if not 0 < weight <= 100:
                raise ValueError(f"{name}: the weight {weight} is not above 0 and at most 100")
        return value


class LossWeights(Settings):
    """How much each part of the detection loss counts."""

    box: float = Field(GAINS.box, ge=0, description="overlap of predicted and true boxes (CIoU)")
    cls: float = Field(GAINS.cls, ge=0, description="classes (binary cross-entropy)")
    dfl: float = Field(GAINS.dfl, ge=0, description="place of a box's sides (distribution focal loss)")
    focal: FocalSettings = FocalSettings()


class HardNegativeUse(Settings):
    """What a training makes of hard negatives that were mined (``hard_negatives.json``)."""

    file: Annotated[Path | None, BY_CONTENT] = Field(
        None, description="hard_negatives.json of a mining; default: none are used"
    )
    repeat: float = Field(2.0, ge=1, le=10, description="how often pictures that hold some are drawn, times the rest")
    paste: float = Field(0.3, ge=0, le=1, description="probability that a picture gets some pasted in, unlabelled")
    most: int = Field(2, ge=1, le=10, description="at most so many pasted into a picture")

    @property
    def is_off(self) -> bool:
        """Without a file there is nothing to use."""
        return self.file is None

    @property
    def pastes(self) -> bool:
        """Whether some are pasted; how, says the section copy_paste."""
        return not self.is_off and self.paste > 0


class TeachingUse(Settings):
    """What a training makes of the boxes that a teacher found (``lessons.json``, of ``marauder student``)."""

    file: Annotated[Path | None, BY_CONTENT] = Field(
        None, description="lessons.json that a teacher left; default: none is used"
    )
    unlabelled_share: float = Field(
        0.5, ge=0, le=0.95, description="share of the samples that are unlabelled pictures, where there are enough"
    )
    epoch_length: float = Field(
        1.0, gt=0, le=100, description="samples of an epoch, times the labelled training pictures"
    )

    @property
    def is_off(self) -> bool:
        """Without a file there is nothing to use."""
        return self.file is None
