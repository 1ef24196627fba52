"""The settings of a pretraining method: sizes of its heads, temperatures, the teacher's momentum, weights of terms."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from marauder.core.settings import Settings

Weight = Annotated[float, Field(ge=0)]


class MethodSettings(Settings):
    """Knobs of the methods in ``models/pretraining``; the defaults suit small budgets (a few thousand updates)."""

    hidden: int = Field(256, ge=8, le=8192)
    """Width of the hidden layers of the heads."""
    output: int = Field(64, ge=4, le=1024)
    """Length of the projected vectors that are compared (``moco``), or of the bottleneck (``distillation``)."""
    head_batch_norm: bool = True
    """Batch normalisation inside the heads; turn it off when very few pictures go forward at a time."""
    temperature: float = Field(0.2, gt=0, le=1)
    """``moco``: divides the similarities; smaller is harder on near negatives."""
    queue: int = Field(1024, ge=16, le=262144)
    """``moco``: teacher keys kept as negatives, a level and a term."""
    prototypes: int = Field(256, ge=8, le=65536)
    """``distillation``: size of the distribution that student and teacher agree on."""
    student_temperature: float = Field(0.1, gt=0, le=1)
    """``distillation``: divides the student's logits."""
    teacher_temperature: float = Field(0.05, gt=0, le=1)
    """``distillation``: divides the teacher's logits; below the student's, so that the target is sharper."""
    center_momentum: float = Field(0.9, ge=0, lt=1)
    """``distillation``: how slowly the centre that is subtracted from the teacher's logits follows them."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the teacher keeps at the first update; rises to 1 along half a cosine."""
    global_weight: Weight = 1.0
    """Weight of the terms that compare whole views."""
    dense_weight: Weight = 1.0
    """Weight of the terms that compare the same place in two views."""
    levels: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    """Weights of P3, P4 and P5 (strides 8, 16, 32); they are divided by their sum."""
    points: int = Field(32, ge=1, le=4096)
    """Places a view, level and pair of views that the dense term compares, at most."""

    @model_validator(mode="after")
    def _something_is_learned(self) -> MethodSettings:
        if not (self.global_weight or self.dense_weight):
            raise ValueError("global_weight and dense_weight are both 0: nothing would be learned")
        if not any(self.levels):
            raise ValueError("levels are all 0: nothing would be learned")
        return self
