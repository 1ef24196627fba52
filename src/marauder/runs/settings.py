"""The settings of a run (``train.yaml``), apart from the run itself: reading them needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from marauder.core.plugins import names
from marauder.core.settings import Settings
from marauder.data.balancing import BalanceSettings
from marauder.engine.settings import TrainingSettings
from marauder.imaging.augmentation import AugmentationSettings
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.launch.settings import NoticeSettings
from marauder.messaging.settings import EventSettings
from marauder.registry.settings import RegistrySettings
from marauder.runs.sections import HardNegativeUse, LossWeights
from marauder.storage.settings import CheckpointTiers
from marauder.tracking.settings import TrackingSettings

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""One name: no folder, nothing that leads out of one."""


class EvaluationSettings(Settings):
    """What is measured, and on what."""

    split: Literal["auto", "val", "test"] = Field(
        "auto", description="where the finished model is measured; auto: test where there is one, else val"
    )
    slices_each_epoch: bool = Field(True, description="also measure every slice and calibration after each epoch")
    draws: int = Field(300, ge=20, description="bootstrap draws of the intervals in the report")
    target: dict[str, float] = Field(
        default_factory=dict,
        description="map50 wanted on a slice, by its name; a run that stays below says so in an event",
    )


class ExportPlan(Settings):
    """The deployable files of a run."""

    formats: tuple[str, ...] = Field(("torchscript", "onnx"), description="empty: none, and no latency")
    opset: int = Field(13, ge=11, le=20, description="version of the ONNX operators")
    rounds: int = Field(30, ge=5, description="timed calls of each format")
    threads: int | None = Field(None, ge=1, description="processor threads for the timing; default: all")

    @field_validator("formats")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in names("exporter"):
                raise ValueError(f"no format named {name!r}; choose of: {', '.join(names('exporter'))}")
        return value


class CardSettings(Settings):
    """What the model card says and no measurement can know."""

    intended_use: str = ""
    out_of_scope: str = ""
    licence: str = ""
    data_licence: str = ""
    contact: str = ""


class RunSettings(Settings):
    """One gated run. Paths are relative to the folder the command is called in."""

    data: Path = Field(description="dataset.yaml with manifests, or a data set with the splits train and val")
    slices: Path | None = Field(None, description="slices.yaml; default: the data set's, else slices by attributes")
    recipe: str | None = Field(None, description="name of a recipe in the library, or a recipe file")
    task: str = Field("detection", description="what kind of model is trained")
    project: str = Field("marauder", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("runs"), description="folder that holds the runs")
    id: str | None = Field(None, pattern=NAME_PATTERN, description="default: made from settings and data")
    output: Path | None = Field(None, description="folder of this run; default: RUNS/ID")
    checkpoints: Path | None = Field(
        None, description="local checkpoints; default: the folder checkpoints in the output"
    )

    model: str = Field("yolov8n", description="yolov8 or yolo11, scale t (tiny), n, s, m, l or x")
    image_size: int = Field(640, ge=64, description="pixels of the long side; a multiple of 32")
    weights: Path | None = Field(None, description="detector to start from instead of random weights")
    ssl_backbone: Path | None = Field(None, description="pretrained backbone to start from")
    loss: LossWeights = LossWeights()
    training: TrainingSettings = TrainingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    critical: tuple[str, ...] = Field(
        (), description="names of the critical classes; default: those of the taxonomy's tier critical"
    )
    others_floor: float | None = Field(
        None, ge=0, le=1, description="least map50 of the other classes for best_metric=critical_with_floor"
    )
    balance: BalanceSettings = BalanceSettings()
    copy_paste: CopyPasteSettings = CopyPasteSettings()
    hard_negatives: HardNegativeUse = HardNegativeUse()

    evaluation: EvaluationSettings = EvaluationSettings()
    gates: Path | None = Field(None, description="gates.yaml; default: the gates that ship with Marauder")
    gate: dict[str, Any] = Field(
        default_factory=dict, description="single gates, over gates.yaml: gate.drift.severity=warn, gate.latency=off"
    )
    export: ExportPlan = ExportPlan()
    card: CardSettings = CardSettings()

    tracking: TrackingSettings = TrackingSettings()
    registry: RegistrySettings = RegistrySettings()
    events: EventSettings = EventSettings()
    checkpoint_tiers: CheckpointTiers = CheckpointTiers()
    notices: NoticeSettings = NoticeSettings()
    store: str | None = Field(None, description="folder or s3://bucket/prefix that gets models/<project>/<run id>/")

    processes: int = Field(1, ge=1, description="training processes on this machine (one for each GPU)")
    max_restarts: int = Field(3, ge=0, description="how often a group that lost a process is started again")
    cache_gigabytes: float = Field(16.0, ge=0, description="disk space for decoded pictures; 0: decode at every use")

    @field_validator("image_size")
    @classmethod
    def _multiple_of_32(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"{value} is no multiple of 32; choose {round(value / 32) * 32}")
        return value

    @field_validator("weights", "ssl_backbone")
    @classmethod
    def _weights_file(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix not in (".pt", ".safetensors"):
            raise ValueError(f"{value}: weights are a .pt or .safetensors file")
        return value

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in names("task"):
            raise ValueError(f"no task named {value!r}; choose of: {', '.join(names('task'))}")
        return value

    @property
    def folder(self) -> Path:
        """The run's folder; known once ``output`` or ``id`` is."""
        if self.output is not None:
            return self.output
        if self.id is None:
            raise ValueError("a run without output has an id")
        return self.runs / self.id

    @property
    def checkpoint_folder(self) -> Path:
        """Where step checkpoints lie."""
        return self.checkpoints if self.checkpoints is not None else self.folder / "checkpoints"

    def measured(self) -> tuple[Any, ...]:
        """What else, beside ``evaluation``, decides how the finished weights are measured."""
        return ()

    def described(self) -> dict[str, Any]:
        """Settings beside the training's own that decide the weights, by name, so that a difference can be told."""
        content: dict[str, Any] = {
            "model": self.model,
            "image_size": self.image_size,
            "augmentation": self.augmentation.model_dump(mode="json"),
        }
        # Checkpoints from before these were settings have none of them; they are the defaults.
        if self.loss.described() != LossWeights().described():
            content["loss"] = self.loss.described()
        if self.balance.kind != "none":
            content["balance"] = self.balance.model_dump(mode="json")
        if self.copy_paste.probability:
            content["copy_paste"] = self.copy_paste.model_dump(mode="json")
        if self.hard_negatives.file is not None:
            content["hard_negatives"] = self.hard_negatives.described()
            content["balance"] = self.balance.model_dump(mode="json")
        if self.critical:
            content["critical"] = list(self.critical)
        if self.others_floor is not None:
            content["others_floor"] = self.others_floor
        return content


class BaselineSettings(RunSettings):
    """Step 2 as a run: the same settings with a place and a name of its own."""

    project: str = Field("baseline", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/baseline")
