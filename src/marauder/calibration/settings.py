"""The settings of step 8: models, pictures, views to try, how scores are calibrated and thresholds chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake
from marauder.core.plugins import known_as
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import COMMAS, Decides, Existing, Places, Settings, split_commas
from marauder.engine.devices import CHOICES, Device
from marauder.models.naming import explain_missing, folder_names
from marauder.prediction.folder_description import DESCRIPTION_FILE

METHODS = "calibration_method"
RULES = Literal["max_f1", "precision_floor", "recall_floor", "expected_cost"]
ModelName = Annotated[str, Field(pattern=NAME_PATTERN)]
Share = Annotated[float, Field(gt=0, lt=1)]


def with_globs(value: Any) -> Any:
    """Paths with commas, and with ``*``, ``?`` and ``[…]`` that no shell has replaced; what matches nothing stays."""
    given = split_commas(value)
    if not isinstance(given, (list, tuple)):
        return given
    found: list[Any] = []
    for one in given:
        place = Path(one).expanduser() if isinstance(one, (str, Path)) else None
        matching = []
        if place is not None and any(sign in str(one) for sign in "*?[") and not place.exists():
            matching = sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
        found += matching or [one]
    return found


def why_no_model(path: Path) -> str | None:
    """Why no model can be opened at ``path``; ``None``: there is a file, or a predictor folder."""
    if (path / DESCRIPTION_FILE).is_file():
        return None
    return f"{path}: is a folder without a model ({DESCRIPTION_FILE})" if path.is_dir() else explain_missing(path)


class ViewSettings(Settings):
    """Which views are tried, and what they must bring to be kept."""

    candidates: Annotated[tuple[str, ...], COMMAS] = Field(
        ("flip", "scale_0.8", "scale_1.25", "tiles_2x2"),
        description="views beside the plain one, by the names of docs/step8_calibration.md; none or empty: no views",
    )
    fusion: Annotated[str, known_as("fusion", "way of fusing")] = Field(
        "weighted_boxes", description="how what the views show becomes one"
    )
    metric: Literal["map50", "map50_95", "map75", "map_small"] = Field("map50", description="what a view must raise")
    price: float = Field(
        0.002,
        ge=0,
        description="gain that a view must show for each plain look that it costs, beyond its interval",
    )
    most: int = Field(3, ge=0, description="views beside the plain one that are kept at most")
    draws: int = Field(300, ge=20, description="bootstrap draws of groups for the interval of a gain")

    @field_validator("candidates")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from marauder.prediction.view_names import PLAIN, find_picture_views

        value = () if value in (("none",), ("off",)) else value
        try:
            find_picture_views(value)
        except UserError as error:
            raise ValueError(str(error).removeprefix("views: ")) from None
        return tuple(name for name in value if name != PLAIN)


class ThresholdSettings(Settings):
    """From which calibrated score a class is reported."""

    rule: RULES = Field("max_f1", description="what a threshold is chosen for")
    critical_rule: RULES | None = Field(None, description="the same for the critical classes; default: as rule")
    precision_floor: Share = Field(0.9, description="least precision, for precision_floor")
    recall_floor: Share = Field(0.9, description="least recall, for recall_floor")
    false_alarm: float = Field(1.0, gt=0, description="cost of a false alarm, for expected_cost")
    miss: float = Field(1.0, gt=0, description="cost of a missed animal, for expected_cost")
    critical_false_alarm: float = Field(1.0, gt=0, description="cost of a false alarm of a critical class")
    critical_miss: float = Field(5.0, gt=0, description="cost of a missed animal of a critical class")
    pooling_boxes: float = Field(
        20.0,
        ge=0,
        description="labelled boxes with which a class's own threshold counts as much as that of all classes",
    )


class CalibrateSettings(Settings):
    """What ``marauder calibrate`` does."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere: ClassVar[Mapping[str, str]] = {
        "tta": "the views to try are views.candidates",
        "bins": "D-ECE has 10 bins and LaECE 25, as their authors use them",
    }

    models: Annotated[tuple[Path, ...], BeforeValidator(with_globs), Existing(why_no_model)] = Field(
        min_length=1, description="trained detectors: files or predictor folders; commas and globs are understood"
    )
    names: Annotated[tuple[ModelName, ...], COMMAS, Decides.PLACE] = Field(
        (), description="a name for each of the models, in their order; default: as files and folders are called"
    )
    data: Annotated[Path, Existing()] = Field(
        description="labelled pictures (--val-dataset): a folder, data.yaml, or any data set of docs/formats.md"
    )
    output: Annotated[Path, Decides.PLACE] = Field(
        Path("calibrated"), description="folder in which each model gets a folder and a .pt of its name"
    )
    fit_split: str = Field("val", description="split on which views, curves and thresholds are chosen")
    judge_split: str = Field("test", description="split on which they are judged; without it: by cross-fitting")
    methods: Annotated[tuple[str, ...], COMMAS, known_as(METHODS, "calibration method")] = Field(
        ("temperature", "platt", "beta", "isotonic"),
        min_length=1,
        description="methods of calibration; cross-fitting over groups chooses among them, and scores as they are",
    )
    target: Literal["hit", "iou"] = Field(
        "hit",
        description="what a score is to say: how often it is right at IoU 0.5 (hit), or how far it overlaps (iou)",
    )
    folds: int = Field(5, ge=2, description="parts of the groups for cross-fitting")
    critical: Annotated[tuple[str, ...], COMMAS] = Field((), description="names of the critical classes")
    image_size: int | None = Field(None, ge=32, description="pixels of the long side; default: as trained")
    draws: int = Field(500, ge=20, description="bootstrap draws of groups for the intervals of errors and thresholds")
    seed: int = Field(0, ge=0)
    views: ViewSettings = ViewSettings()
    thresholds: ThresholdSettings = ThresholdSettings()
    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)
    batch: Annotated[int | None, Decides.NOTHING] = Field(None, ge=1, description="pictures at a time")
    fresh: Annotated[bool, Decides.NOTHING] = Field(False, description="start over, even with what is done")

    def mistakes(self, places: Places) -> Iterable[Mistake]:
        """See ``Settings.mistakes``: two models of one name would have one folder."""
        from marauder.calibration.files import same_named, unfit_names

        for words in same_named(self.models):
            yield places.mistake("models", words)
        for words in unfit_names(self.names, self.models):
            yield places.mistake("names", words)

    @property
    def model_names(self) -> tuple[str, ...]:
        """The name of each of ``models``, in their order."""
        return self.names or tuple(folder_names(self.models))
