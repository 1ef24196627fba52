"""Settings of the training loop: what changes the result, and what only changes how it is reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from marauder.core.mistakes import Mistake
from marauder.core.settings import Decides, Places, Settings
from marauder.engine.devices import CHOICES, Device, lacks_gpu, missing_gpu

FLOAT16_ON_CPU = "float16 needs a GPU; choose float32 or bfloat16 on a CPU"


class OptimizerSettings(Settings):
    """The optimiser and its schedule. Biases warm up from ``warmup_bias_rate``, other parameters from 0."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        """``optimizer: AdamW``, as Ultralytics writes it."""
        return {"name": value.lower()} if isinstance(value, str) else value

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.01, gt=0, description="highest rate, after the warm-up; less for AdamW")
    final_fraction: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of the first")
    schedule: Literal["cosine", "linear"] = "linear"
    decay_each: Literal["step", "epoch"] = Field(
        "step", description="the rate falls with every update, or once an epoch as in Ultralytics: higher on average"
    )
    begins_at: float = Field(
        0.0, ge=0, lt=1, description="share of the schedule where this training begins, as the later part of a series"
    )
    ends_at: float = Field(1.0, gt=0, le=1, description="share of the schedule where this training ends")
    # The defaults from here to the warm-up's are those of Ultralytics' cfg/default.yaml.
    momentum: float = Field(0.937, ge=0, lt=1, description="SGD's momentum; AdamW's first beta")
    weight_decay: float = Field(5e-4, ge=0)
    warmup_epochs: float = Field(3.0, ge=0)
    warmup_momentum: float = Field(0.8, ge=0, lt=1)
    warmup_bias_rate: float = Field(0.1, ge=0)
    clip_norm: float = Field(10.0, gt=0, description="gradients longer than this are scaled down to it")

    @model_validator(mode="after")
    def _check(self) -> OptimizerSettings:
        if self.begins_at >= self.ends_at:
            raise ValueError(f"begins_at: {self.begins_at:g} is not before ends_at, {self.ends_at:g}")
        return self


class TrainingSettings(Settings):
    """One training. ``batch_size`` is the global batch: samples of one update, over all processes and micro-batches."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere: ClassVar[Mapping[str, str]] = {
        "sanity_check": "the gate sanity checks a batch before every run; gate.sanity=off skips it",
    }

    epochs: Annotated[int, Decides.LENGTH] = Field(100, ge=1, description="passes over the training pictures")
    batch_size: int = Field(16, ge=1, description="samples of one update, over all processes")
    seed: int = 0
    optimizer: OptimizerSettings = OptimizerSettings()
    # Decay and ramp are those of Ultralytics' ModelEMA.
    average_decay: float = Field(0.9999, ge=0, lt=1, description="decay of the averaged weights, ramped up")
    average_ramp: float = Field(2000.0, gt=0, description="updates over which that decay ramps up")
    patience: Annotated[int, Decides.LENGTH] = Field(
        100, ge=0, description="stop after this many evaluations without a better one; 0: never"
    )
    best_metric: str = Field(
        "", description="the evaluation metric that picks the best weights; empty: the first that the task measures"
    )
    evaluate_every: int = Field(1, ge=1, description="epochs between evaluations; the last epoch is always evaluated")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)
    micro_batch_size: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=1, description="samples of one forward pass at the base size; halved when memory is short"
    )
    workers: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=0, description="loading processes per training process"
    )
    threads: Annotated[int | None, Decides.NOTHING] = Field(None, ge=1, description="CPU threads per training process")
    checkpoint_seconds: Annotated[float, Decides.NOTHING] = Field(
        60.0, gt=0, description="a checkpoint is written after so many seconds of training"
    )
    checkpoint_steps: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=1, description="and after so many updates; empty: by time alone"
    )
    keep_checkpoints: Annotated[int, Decides.NOTHING] = Field(
        2, ge=1, description="how many of the newest checkpoints stay on the local disk"
    )
    log_steps: Annotated[int, Decides.NOTHING] = Field(
        10, ge=1, description="updates between two reports of numbers to trackers"
    )
    exploding_factor: Annotated[float, Decides.NOTHING] = Field(
        30.0, gt=1, description="a loss this many times its running mean stops the run"
    )
    divergence_factor: Annotated[float, Decides.NOTHING] = Field(
        3.0, gt=1, description="how many times its minimum a diverged loss is"
    )
    divergence_steps: Annotated[int, Decides.NOTHING] = Field(
        500, ge=0, description="updates that far above stop the run; 0: never"
    )
    collapse_evaluations: Annotated[int, Decides.NOTHING] = Field(
        5, ge=0, description="evaluations at nothing after success stop it; 0: never"
    )
    collapse_steps: Annotated[int, Decides.NOTHING] = Field(
        200, ge=0, description="updates with a gradient of 0 stop the run; 0: never"
    )
    loader_timeout: Annotated[float, Decides.NOTHING] = Field(
        300.0, gt=0, description="seconds without a batch stop the run"
    )
    hang_timeout: Annotated[float, Decides.NOTHING] = Field(
        900.0, ge=0, description="seconds without a step end the process; 0: never"
    )

    def mistakes(self, places: Places) -> Iterator[Mistake]:
        """A precision that the processor does not have."""
        if self.precision == "float16" and not missing_gpu(self.device) and lacks_gpu(self.device):
            yield replace(places.mistake("precision", FLOAT16_ON_CPU), of_this_machine=True)

    @model_validator(mode="after")
    def _check(self) -> TrainingSettings:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is larger than batch_size {self.batch_size}")
        return self
