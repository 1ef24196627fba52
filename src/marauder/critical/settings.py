"""Settings of step 5: critical species, the three stages, the mining between them, what the others must keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import Decides, Settings
from marauder.data.balancing import BalanceSettings
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.mining.settings import MiningSettings
from marauder.runs.settings import AUTO, WeightsFile
from marauder.tasks.detection.base_settings import BasedSettings
from marauder.tasks.detection.loss_settings import FLOORED, HardNegativeUse
from marauder.tasks.detection.settings import DetectionTraining

STAGES = ("standard", "mined", "fine_tune")
"""The stages in their order."""


class StageSettings(Settings):
    """One of the three stages."""

    share: Annotated[float, Decides.LENGTH] = Field(
        ge=0, le=1, description="share of training.epochs; 0 leaves the stage out"
    )
    rate: float = Field(gt=0, le=2, description="learning rate, times training.optimizer.learning_rate")


class StandardStage(StageSettings):
    """Standard training."""

    share: float = Field(0.4, ge=0, le=1, description="share of training.epochs; 0: mine with base_model at once")
    rate: float = Field(1.0, gt=0, le=2, description="learning rate, times training.optimizer.learning_rate")
    emphasis: bool = Field(False, description="balance, copy_paste and loss.focal from the beginning, not after it")


class MinedStage(StageSettings):
    """Training with what was mined."""

    share: float = Field(0.4, ge=0, le=1, description="share of training.epochs; 0 leaves the stage out")
    rate: float = Field(0.5, gt=0, le=2, description="learning rate, times training.optimizer.learning_rate")


class FineTuneStage(StageSettings):
    """Fine-tuning at a low rate, on pictures as they are."""

    share: float = Field(0.2, ge=0, le=1, description="share of training.epochs; 0 leaves the stage out")
    rate: float = Field(0.1, gt=0, le=2, description="learning rate, times training.optimizer.learning_rate")


class StagesSettings(Settings):
    """The stages in their order."""

    one_schedule: bool = Field(
        False, description="the learning rate falls once over all stages, each from the last weights of the one before"
    )
    standard: StandardStage = StandardStage()
    mined: MinedStage = MinedStage()
    fine_tune: FineTuneStage = FineTuneStage()


class CriticalTraining(DetectionTraining):
    """Training as always, but the critical classes pick the best weights."""

    best_metric: str = Field(FLOORED, description="the evaluation metric that picks the best weights")


class CriticalBalance(BalanceSettings):
    """Draws as always, but rare classes more often by default."""

    kind: Literal["none", "repeat_factor", "class_aware"] = Field(
        "repeat_factor", description="none: each once; repeat_factor: rare classes more often; class_aware: all alike"
    )


class CriticalPasting(CopyPasteSettings):
    """Copy-paste as always, but on by default."""

    probability: float = Field(0.3, ge=0, le=1, description="share of training pictures that get animals pasted")


class FloorSettings(Settings):
    """What the other classes must keep for weights to be chosen (best_metric=critical_with_floor)."""

    value: float | None = Field(None, ge=0, le=1, description="least map50 of the others; default: by allowed_loss")
    allowed_loss: float = Field(
        0.01, ge=0, lt=1, description="share of the others' map50 before specialising that may be lost"
    )


class MinedNegatives(HardNegativeUse):
    """What the stages after the first make of the hard negatives that this run mines itself."""

    @property
    def is_off(self) -> bool:
        """The file comes from this run."""
        # Else the section would count as off, and changes to it would not make another run.
        return False


class CriticalSettings(BasedSettings):
    """Step 5 as a run. What emphasises critical classes (``balance``, ``copy_paste``, ``loss.focal``,
    ``hard_negatives``) applies to the stages after the first; ``training.epochs`` is shared out among all three."""

    continued_by: ClassVar[tuple[str, ...]] = ("critical", "--train", "--config")

    project: str = Field("critical", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/critical")
    training: CriticalTraining = CriticalTraining()
    balance: CriticalBalance = CriticalBalance()
    copy_paste: CriticalPasting = CriticalPasting()
    hard_negatives: MinedNegatives = MinedNegatives()

    base_model: WeightsFile | None = Field(
        None, description="detector to specialise; default: none, and the first stage starts from `weights`"
    )
    stages: StagesSettings = StagesSettings()
    mining: MiningSettings = MiningSettings()
    floor: FloorSettings = FloorSettings()
    keep: Literal["best", "last"] = Field("best", description="which stage's weights: by best_metric, or the last's")

    @model_validator(mode="after")
    def _check(self) -> CriticalSettings:
        if self.hard_negatives.file is not None:
            raise ValueError("hard_negatives.file: this run mines its own; leave the file out")
        if self.base_model is not None and self.weights not in (None, AUTO):
            raise ValueError("base_model and weights: give one detector to start from")
        if self.others_floor is not None:
            raise ValueError("others_floor: give floor.value, which holds for the whole run")
        if self.balance.kind != "none" and self.balance.critical_factor > self.balance.limit:
            raise ValueError(
                f"balance.critical_factor (--oversample-factor): {self.balance.critical_factor:g} is above "
                f"balance.limit, {self.balance.limit:g}, and would be limited to it; add "
                f"balance.limit={self.balance.critical_factor:g}, or ask for {self.balance.limit:g} at most"
            )
        if not self.stages.standard.share and self.base_model is None:
            raise ValueError(
                "stages.standard.share: without a base_model there is nothing to mine with; give it a share"
            )
        if not any(getattr(self.stages, name).share for name in STAGES):
            raise ValueError("stages: every share is 0, so nothing would be trained")
        return self

    @property
    def starts_elsewhere(self) -> Path | None:
        """The base model."""
        return self.base_model

    @property
    def pretrained(self) -> bool:
        """From a base model, too."""
        return self.base_model is not None or super().pretrained

    def epochs_of(self, stage: str) -> int:
        """Epochs of a stage: its share of ``training.epochs``, at least one unless the share is 0."""
        shares = {name: getattr(self.stages, name).share for name in STAGES}
        if not shares[stage]:
            return 0
        # Shares need not sum to 1: each counts against all that are given.
        return max(1, round(self.training.epochs * shares[stage] / sum(shares.values())))
