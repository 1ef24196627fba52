"""Settings of the two ensembles of step 6, each with its members and the device it is meant for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, mistakes_in, nearest
from marauder.core.plain import Plain, PlainMapping
from marauder.core.plugins import known_as, make
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import Decides, Places, Settings
from marauder.data.bagging import BaggingSettings
from marauder.deployment.settings import DeploymentSettings, DeviceName, words_in_order
from marauder.ensembles.roles import ROLES, MemberName, Role, read_members
from marauder.evaluation.resampling import PRECISION_METRICS
from marauder.runs.settings import AUTO, DetectorName, WeightsFile
from marauder.tasks.detection.settings import DetectionSettings

NANO_MEMBERS = ("yolov8m", "yolov8m", "yolov8m")
FITTED_ON, MEASURED_ON = "val", "test"
"""Splits that fusing is fitted on, and that the ensemble is measured on."""
SHORE_MEMBERS = ("yolov8x", "yolov8x", "yolov8x", "yolo11x", "yolo11x", "yolo11x")


def _words(value: Any) -> Any:
    """A number stays for the validator of the whole, which knows the default members."""
    return [str(value)] if isinstance(value, int) and not isinstance(value, bool) else words_in_order(value)


Members = Annotated[tuple[str, ...], BeforeValidator(_words)]


def _dotted(values: PlainMapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested mappings as dotted names and values."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class MemberBagging(BaggingSettings):
    """Bagging as always, but on by default: members learn from different clips."""

    kind: Literal["none", "bootstrap", "share"] = Field(
        "share", description="none: all groups; bootstrap: drawn with replacement; share: drawn without"
    )
    share: float = Field(0.8, gt=0, le=1, description="groups drawn, as a share of all there are")


class AssemblySection(Settings):
    """How the trained members become one predictor."""

    decides: ClassVar[Decides] = Decides.MEASUREMENT

    enabled: bool = Field(True, description="whether the members are fused into one predictor")
    fusion: Annotated[str, known_as("fusion", "way of fusing")] = Field(
        "weighted_boxes", description="how boxes are fused: weighted_boxes, nms, soft_nms"
    )
    options: Plain = Field(
        default_factory=dict, description="settings of the way of fusing; those that are named are not fitted"
    )
    metric: str = Field("map50", description="what is fitted and compared by: map50, map50_95 …")
    prune: bool = Field(False, description="leave out members that are not shown to add anything")
    draws: int = Field(1000, ge=100, description="draws of groups for each interval")

    @property
    def is_off(self) -> bool:
        """The members are trained alone."""
        return not self.enabled

    def mistakes(self, places: Places) -> Iterator[Mistake]:
        """A metric or options that the way of fusing does not have."""
        if self.metric not in PRECISION_METRICS:
            words = f"no metric named {self.metric!r} to fit by; choose of: {', '.join(PRECISION_METRICS)}"
            yield places.mistake("metric", words)
        try:
            make("fusion", self.fusion, self.options, "assembly.options")
        except UserError as error:
            yield from mistakes_in(error)


class EnsembleTrainingSettings(DetectionSettings):
    """An ensemble. What is set here is common to its members, each a gated run; roles, seeds and bags differ."""

    further_gates: ClassVar[tuple[str, ...]] = ("energy",)
    default_members: ClassVar[tuple[str, ...]] = ()

    members: Annotated[Members, Decides.LENGTH] = Field(
        (), description="yolov8m:high_recall yolov8m:balanced …, or how many of the usual ones; roles go in turn"
    )
    roles: Plain = Field(
        default_factory=dict, description="settings of the members of one role: roles.high_recall.loss.focal.alpha=0.7"
    )
    base_model: WeightsFile | None = Field(
        None, description="detector that members of its architecture start from; the others from `weights`"
    )
    bagging: MemberBagging = MemberBagging()
    at_once: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=1, le=16, description="members trained at once; default: one for each GPU, one on a processor"
    )
    assembly: Annotated[AssemblySection, Decides.MEASUREMENT] = AssemblySection()
    deployment: Annotated[DeploymentSettings, Decides.MEASUREMENT] = DeploymentSettings()

    @model_validator(mode="before")
    @classmethod
    def _usual_members(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        words = _words(value.get("members"))
        if not words:
            return {**value, "members": list(cls.default_members)}
        if len(words) == 1 and str(words[0]).isdigit():
            return {**value, "members": cls._first(int(words[0]))}
        return value

    @classmethod
    def _first(cls, count: int) -> list[str]:
        """So many of the usual members, from the beginning again where there are fewer."""
        usual = cls.default_members
        return [usual[at % len(usual)] for at in range(count)]

    @model_validator(mode="after")
    def _check(self) -> EnsembleTrainingSettings:
        try:
            named = self.named_members
        except ValueError as error:
            raise ValueError(f"members: {error}") from None
        if len(named) < 2:
            raise ValueError(f"members: {len(named)} is no ensemble; give at least 2")
        self._check_roles()
        if self.base_model is not None and self.weights not in (None, AUTO):
            raise ValueError("base_model and weights: give one detector to start from")
        return self

    def _check_roles(self) -> None:
        for name in self.roles:
            if name not in ROLES:
                raise ValueError(f"roles: no role named {name!r}{nearest(name, list(ROLES))}")
            try:
                self.plain().changed(self.changes_of(ROLES[name]))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise ValueError(f"roles: {name}.{where}: {first['msg']}") from None

    def plain(self) -> DetectionSettings:
        """Without what only the whole knows: the settings of one detector's run."""
        return DetectionSettings.model_validate(self.model_dump(include=set(DetectionSettings.model_fields)))

    def changes_of(self, role: Role) -> Plain:
        """What members of a role have of their own, by dotted name: the role's, then what ``roles`` says."""
        return {"training.best_metric": role.metric, **role.changes, **dict(_dotted(self.roles.get(role.name) or {}))}

    @property
    def named_members(self) -> tuple[MemberName, ...]:
        """The members, in order."""
        return read_members(self.members, self.model)


class NanoSettings(EnsembleTrainingSettings):
    """Step 6a: three medium detectors for a board in the field."""

    continued_by: ClassVar[tuple[str, ...]] = ("ensemble-nano", "--config")
    default_members: ClassVar[tuple[str, ...]] = NANO_MEMBERS

    project: str = Field("ensemble-nano", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/ensembles/nano")
    model: DetectorName = Field("yolov8m", description="architecture of members that are named by their role alone")


class ShoreDeployment(DeploymentSettings):
    """Ashore nothing runs on a battery."""

    device: DeviceName | None = Field(None, description="board that runs the ensemble; none: no profile is made")


class ShoreSettings(EnsembleTrainingSettings):
    """Step 6b: six large detectors of two families for machines ashore."""

    continued_by: ClassVar[tuple[str, ...]] = ("ensemble-shore", "--config")
    default_members: ClassVar[tuple[str, ...]] = SHORE_MEMBERS

    project: str = Field(
        "ensemble-shore", pattern=NAME_PATTERN, description="name of the model in tracker and registry"
    )
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/ensembles/shore")
    model: DetectorName = Field("yolov8x", description="architecture of members that are named by their role alone")
    deployment: ShoreDeployment = ShoreDeployment()


class NanoSection(NanoSettings):
    """The nano ensemble as part of the pipeline."""

    enabled: bool = Field(True, description="whether the nano ensemble is made")

    @property
    def is_off(self) -> bool:
        """Whether it is made."""
        return not self.enabled


class ShoreSection(ShoreSettings):
    """The shore ensemble as part of the pipeline."""

    enabled: bool = Field(True, description="whether the shore ensemble is made")

    @property
    def is_off(self) -> bool:
        """Whether it is made."""
        return not self.enabled
