"""The settings of a run (``train.yaml``), apart from the run itself: reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from marauder.core.decides import BY_CONTENT, ByContent
from marauder.core.plain import Plain
from marauder.core.plugins import known_as
from marauder.core.setting_mistakes import HERE, NAME_PATTERN
from marauder.core.settings import Decides, Settings
from marauder.core.ultralytics_words import answers
from marauder.engine.settings import TrainingSettings
from marauder.launch.settings import NoticeSettings
from marauder.messaging.settings import EventSettings
from marauder.models.naming import SUFFIXES, family_and_scale, unknown_detector
from marauder.models.released import is_released
from marauder.registry.settings import RegistrySettings
from marauder.storage.settings import CheckpointTiers
from marauder.tracking.settings import TrackingSettings

CONFIG_FILE = "config.yaml"
"""The settings of a run as it used them, in its folder."""


def _whole_cells(size: int) -> int:
    # The stride of the coarsest level: YOLO's grids must fit without a rest.
    if size % 32:
        raise ValueError(f"{size} is not a multiple of 32; choose {max(1, round(size / 32)) * 32}")
    return size


def _weights_file(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights are a .pt or .safetensors file")
    return path


AUTO = Path("auto")
"""The weights that fit the model best, where they can be had."""


START_WEIGHTS = (
    "what to start from: auto (COCO weights of the model if available, else random ones), none (random), "
    "a released name such as yolov8n.pt, or a .pt or .safetensors file"
)
"""Describes the setting ``weights`` of models that have released weights."""


def is_word(path: Path) -> bool:
    """Whether weights to start from are a word or a name, not the path of a certain file."""
    return path == AUTO or (len(path.parts) == 1 and is_released(path.name))


def _none_is_random(value: Any) -> Any:
    return None if isinstance(value, (str, Path)) and str(value).lower() == "none" else value


def _start_file(path: Path) -> Path:
    if path == AUTO or path.suffix in (".pt", ".safetensors"):
        return path
    released = f"{path}.pt" if is_released(f"{path}.pt") else "yolov8n.pt"
    raise ValueError(f"{path}: give auto, none, released weights such as {released}, or a .pt or .safetensors file")


def _known_detector(name: str) -> str:
    if family_and_scale(name) is None:
        raise ValueError(unknown_detector(name))
    return name


def _one_file(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise ValueError(names_a_file(map(str, value), HERE))
    return value


def names_a_file(gates: Iterable[str], here: str = "") -> str:
    """What to say where settings of single ``gates`` are given below ``gates``, which names a file of them. ``here``:
    what goes before the run's settings."""
    meant = ", ".join(f"{here}gate.{name}" for name in gates)
    return f"names a file (gates.yaml); single gates are set with gate, without an s: {meant or f'{here}gate.NAME'}"


DetectorName = Annotated[str, AfterValidator(_known_detector)]
"""The name of an architecture."""
ImageSize = Annotated[int, AfterValidator(_whole_cells)]
"""Pixels of a side: whole cells of a detector's coarsest grid."""
WeightsFile = Annotated[Path, AfterValidator(_weights_file), BY_CONTENT]
"""A file of weights, which counts by its content."""
StartWeights = Annotated[
    Annotated[Path, AfterValidator(_start_file), ByContent(is_word)] | None, BeforeValidator(_none_is_random)
]
"""Weights to start from; ``None``: random ones. A word counts as it is, until the run has decided what it means."""


class EvaluationSettings(Settings):
    """What is measured, and on what."""

    split: Literal["auto", "val", "test"] = Field(
        "auto", description="where the finished model is measured; auto: test where there is one, else val"
    )
    slices_each_epoch: bool = Field(True, description="also measure every slice and calibration after each epoch")
    least_confidence: float = Field(
        0.05, ge=0, lt=1, description="the operating point, chosen by the best F1, is never a lower score than this"
    )
    draws: int = Field(300, ge=20, description="bootstrap draws of the intervals in the report")
    target: dict[str, float] = Field(
        default_factory=dict,
        description="headline metric required on a slice, by its name; a run that stays below says so in an event",
    )


class ExportPlan(Settings):
    """The deployable files of a run."""

    formats: Annotated[tuple[str, ...], known_as("exporter", "format")] = Field(
        ("torchscript", "onnx"), description="empty: none, and no latency"
    )
    opset: int = Field(13, ge=11, le=20, description="version of the ONNX operators")
    rounds: int = Field(30, ge=5, description="timed calls of each format")
    threads: int | None = Field(None, ge=1, description="processor threads for the timing; default: all")


class CardSettings(Settings):
    """What the model card says and no measurement can know."""

    intended_use: str = ""
    out_of_scope: str = ""
    licence: str = ""
    data_licence: str = ""
    contact: str = ""


class RunSettings(Settings):
    """One gated run. Paths are relative to the folder the command is called in."""

    elsewhere = answers()
    data: Annotated[Path, Decides.PLACE] = Field(
        description="dataset.yaml with manifests, or a data set with the splits train and val"
    )
    recipe: Annotated[str | None, Decides.NOTHING] = Field(
        None, description="name of a recipe in the library, or a recipe file"
    )
    task: Annotated[str, Decides.RESULT, known_as("task", "task")] = Field(
        "detection", description="what kind of model is trained"
    )
    project: Annotated[str, Decides.MEASUREMENT] = Field(
        "marauder", pattern=NAME_PATTERN, description="name of the model in tracker and registry"
    )
    runs: Annotated[Path, Decides.PLACE] = Field(Path("runs"), description="folder that holds the runs")
    id: Annotated[str | None, Decides.PLACE] = Field(
        None, pattern=NAME_PATTERN, description="default: made from settings and data"
    )
    output: Annotated[Path | None, Decides.PLACE] = Field(None, description="folder of this run; default: RUNS/ID")
    checkpoints: Annotated[Path | None, Decides.PLACE] = Field(
        None, description="local checkpoints; default: the folder checkpoints in the output"
    )

    step: Annotated[str, Decides.PLACE] = Field(
        "", description="step of a pipeline that this run is; the pipeline says"
    )
    workspace: Annotated[Path | None, Decides.PLACE] = Field(
        None, description="workspace of that pipeline; the pipeline says"
    )
    weights: Annotated[StartWeights, Decides.RESULT] = Field(None, description="weights to start from; none: random")
    training: Annotated[TrainingSettings, Decides.RESULT] = TrainingSettings()
    gates: Annotated[Path | None, Decides.MEASUREMENT, BY_CONTENT, BeforeValidator(_one_file)] = Field(
        None, description="gates.yaml; default: the gates that ship with Marauder"
    )
    gate: Annotated[Plain, Decides.MEASUREMENT] = Field(
        default_factory=dict, description="single gates, over gates.yaml: gate.drift.severity=warn, gate.latency=off"
    )
    card: Annotated[CardSettings, Decides.MEASUREMENT] = CardSettings()

    tracking: Annotated[TrackingSettings, Decides.PLACE] = TrackingSettings()
    registry: Annotated[RegistrySettings, Decides.PLACE] = RegistrySettings()
    events: Annotated[EventSettings, Decides.PLACE] = EventSettings()
    checkpoint_tiers: Annotated[CheckpointTiers, Decides.PLACE] = CheckpointTiers()
    notices: Annotated[NoticeSettings, Decides.NOTHING] = NoticeSettings()
    store: Annotated[str | None, Decides.PLACE] = Field(
        None, description="folder or s3://bucket/prefix that gets models/<project>/<run id>/"
    )

    processes: Annotated[int, Decides.NOTHING] = Field(
        1, ge=1, description="training processes on this machine (one for each GPU)"
    )
    max_restarts: Annotated[int, Decides.NOTHING] = Field(
        3, ge=0, description="how often a group that lost a process is started again"
    )
    cache_gigabytes: Annotated[float, Decides.NOTHING] = Field(
        16.0, ge=0, description="disk space for decoded pictures; 0: decode at every use"
    )

    continued_by: ClassVar[tuple[str, ...]] = ("train",)
    """The command, and its options, that take a file of these settings next."""

    def command(self, *settings: str, fresh: bool = False) -> tuple[str, ...]:
        """Words of the command line that continue this run, or with ``fresh`` start it over, with other ``settings``
        (``training.epochs=20``). A step of a pipeline is continued by the pipeline, whose settings are those of its
        last run; a run outside the workspace is none, even with settings that were copied from there."""
        again = ["--fresh"] if fresh else []
        if self.workspace is None or not self._is_step:
            return ("marauder", *self.continued_by, str(self.folder / CONFIG_FILE), *settings, *again)
        own = [self.typed(setting) for setting in settings]
        only = ["--only", self.step] if fresh else []
        return ("marauder", "pipeline", "run", "--root", str(self.workspace), *only, *own, *again)

    def typed(self, setting: str) -> str:
        """``setting`` as it is typed for this run: where it is a step of a pipeline, with the name of the step."""
        return f"{self.step}.{setting}" if self._is_step else setting

    @property
    def _is_step(self) -> bool:
        return self.workspace is not None and self.folder.absolute().is_relative_to(self.workspace.absolute())

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

    @property
    def released_weights(self) -> str | None:
        """The file name that ``weights=auto`` stands for; ``None``: there are none for this model."""
        return None

    @property
    def starts_elsewhere(self) -> Path | None:
        """The model to start from that another setting names, which takes the place of ``weights``."""
        return None

    @property
    def title(self) -> str:
        """What a run is called where it has neither an id nor a recipe."""
        return self.task
