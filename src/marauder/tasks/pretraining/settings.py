"""Step 1's settings: a gated run that pretrains a backbone. Reading them needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from marauder.core.decides import BY_CONTENT
from marauder.core.plugins import known_as
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import Decides, Settings
from marauder.core.ultralytics_words import answers
from marauder.data.groups import GroupPattern
from marauder.data.thinning import ThinningSettings
from marauder.engine.settings import OptimizerSettings, TrainingSettings
from marauder.imaging.underwater_view_settings import ViewSettings
from marauder.models.pretraining.settings import MethodSettings
from marauder.models.pretraining.signs import CollapseSettings
from marauder.models.released import released_for
from marauder.runs.settings import (
    AUTO,
    START_WEIGHTS,
    DetectorName,
    ImageSize,
    RunSettings,
    StartWeights,
)

SIGNS = ("effective_rank", "deviation", "rank_share", "similarity")
"""What held-out pictures are measured by after every epoch; see ``models.pretraining.signs``."""
ELSEWHERE = {
    **answers(),
    "init": "name what to start from as weights",
    "ssl_backbone": "name the backbone to start from as weights",
    "augmentation": "views are drawn as pretraining.views says",
    "loss": "a method has its own, pretraining.settings",
    "export": "a backbone alone answers nothing, so nothing is exported",
}


class PretrainingOptimizer(OptimizerSettings):
    """AdamW with a cosine, as momentum contrast (MoCo v3) and self-distillation (DINO) use it."""

    name: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, description="highest rate, after the warm-up")
    final_fraction: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of the first")
    schedule: Literal["cosine", "linear"] = "cosine"
    momentum: float = Field(0.9, ge=0, lt=1, description="AdamW's first beta; SGD's momentum")
    weight_decay: float = Field(
        1e-4, ge=0, description="little: a convolution followed by batch normalisation has no size"
    )
    warmup_epochs: float = Field(5.0, ge=0)
    warmup_momentum: float = Field(0.9, ge=0, lt=1)
    warmup_bias_rate: float = Field(0.0, ge=0)
    clip_norm: float = Field(3.0, gt=0, description="gradients longer than this are scaled down to it")


class PretrainingTraining(TrainingSettings):
    """A training whose last weights count: the cosine has brought its rate down by then, and no loss measured without
    labels says which weights detect best."""

    epochs: int = Field(100, ge=1, description="passes over the pictures that are left after thinning")
    batch_size: int = Field(64, ge=2, description="pictures of one update, over all processes and micro-batches")
    optimizer: PretrainingOptimizer = PretrainingOptimizer()
    average_decay: float = Field(0.0, ge=0, lt=1, description="0: no average; the method has its own teacher")
    close_mosaic_epochs: int = Field(
        0, ge=0, le=0, description="there is no mosaic here; 0 as in files and checkpoints that name it"
    )
    patience: int = Field(0, ge=0, description="stop after this many evaluations without a better one; 0: never")
    best_metric: str = Field("effective_rank", description="what `keep: best` goes by")


class PretrainingPlan(Settings):
    """How the backbone is pretrained."""

    method: Annotated[str, known_as("pretraining_method", "method")] = Field(
        "moco", description="moco (momentum contrast) or distillation (self-distillation)"
    )
    settings: MethodSettings = MethodSettings()
    views: ViewSettings = ViewSettings()
    thinning: ThinningSettings = ThinningSettings()
    group_pattern: GroupPattern | None = Field(
        None, description="regular expression for the clip in a picture's name; default: the usual names of frames"
    )
    source_size: int | None = Field(
        None, ge=64, description="pixels of the long side that pictures are kept at; default: 3/2 of image_size"
    )
    collapse: Annotated[CollapseSettings, Decides.MEASUREMENT] = CollapseSettings()
    held_out: int = Field(256, ge=16, description="pictures that are not trained on, for signs of collapse")
    keep: Annotated[Literal["last", "best"], Decides.MEASUREMENT] = Field(
        "last", description="which weights become backbone.safetensors; best: by training.best_metric"
    )

    @field_validator("views")
    @classmethod
    def _pairs(cls, value: ViewSettings) -> ViewSettings:
        if value.views < 2:
            raise ValueError("pretraining compares views of one picture: views must be 2 or more")
        return value


class ProbePlan(Settings):
    """The labelled pictures that say whether its features tell classes apart better."""

    data: Annotated[Path | None, Decides.MEASUREMENT, BY_CONTENT] = Field(
        None, description="data set with labels to probe on; default: the labelled pictures of the same data"
    )
    pictures: int = Field(2000, ge=8, description="labelled pictures used at most, whole groups at a time")
    image_size: ImageSize | None = Field(
        None, ge=64, description="pixels of the long side, a multiple of 32; default: image_size"
    )


class PretrainingSettings(RunSettings):
    """Step 1 as a run."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere = ELSEWHERE

    data: Path = Field(
        description="folder of pictures, or any data set, labelled or not; its val and test are left out"
    )
    task: str = Field("pretraining", description="pretraining; nothing else")
    project: str = Field("backbone", pattern=NAME_PATTERN, description="name of the backbone in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/ssl")
    model: DetectorName = Field("yolov8n", description="yolov8 or yolo11, scale t (tiny), n, s, m, l or x")
    image_size: ImageSize = Field(224, ge=64, description="pixels of a side of a view; a multiple of 32")
    weights: StartWeights = Field(AUTO, description=START_WEIGHTS)
    training: PretrainingTraining = PretrainingTraining()
    pretraining: PretrainingPlan = PretrainingPlan()
    probe: Annotated[ProbePlan, Decides.MEASUREMENT] = ProbePlan()

    @field_validator("task")
    @classmethod
    def _only_pretraining(cls, value: str) -> str:
        if value != "pretraining":
            raise ValueError(f"{value!r} is not trained here: `marauder train` trains detectors")
        return value

    @model_validator(mode="after")
    def _pictures_enough(self) -> PretrainingSettings:
        micro = self.training.micro_batch_size
        if micro is not None and micro < 2:
            raise ValueError("training.micro_batch_size: pictures are compared within a forward pass, so 2 or more")
        if self.training.batch_size < 2 * self.processes:
            raise ValueError(f"training.batch_size: {self.processes} processes need at least two pictures each")
        return self

    @property
    def released_weights(self) -> str | None:
        """COCO weights of the architecture, whose backbone is taken."""
        return released_for(self.model)

    @property
    def source_side(self) -> int:
        """Pixels of the long side that decoded pictures are kept at."""
        return self.pretraining.source_size or self.image_size * 3 // 2

    @property
    def probe_side(self) -> int:
        """Pixels of the long side at which the probe looks at pictures."""
        return self.probe.image_size or self.image_size
