"""The settings of step 3: which pictures may be chosen, by what measures and strategy, how many, at what price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from marauder.core.plugins import is_known, known_as, names
from marauder.core.settings import COMMAS, PLAIN_OFF, Decides, Existing, Settings
from marauder.engine.devices import CHOICES, Device
from marauder.models.naming import explain_missing
from marauder.selection.price import PriceSettings

ENSEMBLE_MEASURES = ("mutual_information", "predictive_entropy")
"""Measures of the disagreement of several models (or of passes with dropout); they are added by ``use_ensemble``."""

MODEL_FREE = ("random", "typical", "k_center", "k_medoids")
"""Strategies that work without a detector, on how pictures look."""


class SelectionSettings(Settings):
    """What ``marauder select`` does."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere: ClassVar[Mapping[str, str]] = {
        "typical_below": "it is called min_labelled_share now",
        "least_map50": "it is called min_map50 now",
        "most_unseen": "it is called max_unseen_share now",
    }

    pool: Annotated[Path, Existing()] = Field(description="data set or folder; its unlabelled pictures are the pool")
    models: Annotated[tuple[Path, ...], COMMAS, Existing(explain_missing)] = Field(
        (), description=".pt or .safetensors files of detectors with the same class names"
    )
    labelled: Annotated[Path | None, Existing()] = Field(
        None, description="data set of labelled pictures; default: that of the pool"
    )
    output: Annotated[Path, Decides.PLACE] = Path("selected")
    count: int = Field(2000, ge=1, description="most pictures to choose (--num-samples)")
    # Annotators are paid by the box, so two choices of equally many pictures may differ widely in price.
    budget_boxes: int | None = Field(None, ge=1, description="most boxes to choose, as the detector estimates them")
    strategy: Annotated[str, known_as("strategy", "strategy")] = Field(
        "hybrid", description="how to choose: a name of docs/step3_active_learning.md"
    )
    seed: int = Field(0, ge=0)
    fresh: Annotated[bool, Decides.NOTHING] = Field(
        False, description="start over: forget what an earlier run of the same folder found"
    )
    names: Annotated[tuple[str, ...] | None, COMMAS] = Field(
        None, description="class names, where no file of the data sets has them"
    )

    use_ensemble: bool = Field(False, description="score with all models together, not with the first alone")
    measures: Annotated[tuple[str, ...], COMMAS, known_as("uncertainty", "measure")] = Field(
        ("entropy", "margin"), min_length=1, description="measures of uncertainty, each with its weight in weights"
    )
    weights: dict[str, float] = Field({}, description="weight of a measure in the score; 1 where not named")
    reduction: Literal["sum", "mean", "max", "top_k_mean"] = Field(
        "top_k_mean", description="from boxes to a picture: sum, mean, max, or the mean of the top_k highest"
    )
    top_k: int = Field(5, ge=1, description="boxes that top_k_mean takes")
    confidence: float = Field(0.05, gt=0, lt=1, description="boxes with a lower score are ignored")
    dropout_passes: int = Field(8, ge=2, le=100, description="passes with dropout in the head for each picture")
    dropout_rate: float = Field(0.1, gt=0, lt=1, description="share of channels that dropout leaves out")
    views: Annotated[tuple[str, ...], COMMAS] = Field(
        ("flip", "brightness"),
        description="changed views for augmentation consistency: of flip, scale, brightness, colour",
    )
    ensemble_iou: float = Field(0.55, gt=0, lt=1, description="overlap from which boxes of two passes are one object")
    image_size: int | None = Field(None, ge=32, description="long side in pixels; default: the model's own")
    batch: Annotated[int, Decides.NOTHING] = Field(16, ge=1, description="pictures a forward pass")
    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)
    calibration: Annotated[Literal["auto", "off"], PLAIN_OFF] = Field(
        "auto", description="fit scores to how often they are right, on labelled validation pictures where there are"
    )
    class_difficulty: Annotated[Literal["auto", "off"], PLAIN_OFF] = Field(
        "auto", description="weigh boxes of classes by how badly the detector knows them on labelled pictures"
    )
    critical: Annotated[tuple[str, ...], COMMAS] = Field((), description="names of the critical classes")
    critical_weight: float = Field(2.0, ge=1, description="weight of boxes of critical classes; others weigh 1")

    random_share: float = Field(0.15, ge=0, le=1, description="share drawn at random from the whole pool; 0.1 to 0.2")
    candidate_factor: float = Field(5.0, ge=1, description="size of the uncertain pool, in budgets")
    cover: Literal["k_center", "k_medoids", "class_balance"] = Field(
        "k_medoids", description="how hybrid chooses among uncertain pictures"
    )
    category_share: float = Field(
        0.3, ge=0, le=1, description="part of the classes that are predicted in the likeness of two pictures"
    )
    price_weight: float = Field(
        0.0, ge=0, le=1, description="0: score alone; 1: score for its price; between: both, for budgets in boxes"
    )
    most_per_group: int | None = Field(10, ge=1, description="most pictures of one clip; null: any number")
    class_quotas: dict[str, int] = Field({}, description="least pictures in which a class is expected, by its name")
    slice_quotas: dict[str, int] = Field({}, description="least pictures of a slice; NAME=VALUE of an attribute")
    # Below 1 to 2 % of labels typical pictures beat uncertain ones (TypiClust, see strategies.typical).
    min_labelled_share: float = Field(
        0.02, ge=0, le=1, description="below this labelled share hybrid and uncertainty choose typical pictures"
    )

    min_map50: float = Field(
        0.1, ge=0, le=1, description="below this mAP50 on validation pictures they do so, too; 0: never"
    )
    max_unseen_share: float = Field(
        0.5, ge=0, le=1, description="and where it sees no box in more than this share of the pool; 1: never"
    )

    place: Annotated[Literal["link", "copy"], Decides.PLACE] = Field(
        "link", description="whether images/ holds links or copies"
    )
    sheet_pictures: int = Field(60, ge=1, le=400, description="most pictures on the contact sheet")
    map_points: int = Field(5000, ge=50, description="most pictures on the map of the pool")
    price: PriceSettings = PriceSettings()

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if not is_known("uncertainty", name):
                raise ValueError(f"no measure named {name!r}; choose of: {', '.join(names('uncertainty'))}")
            if weight < 0:
                raise ValueError(f"the weight of {name} is {weight:g}; weights are 0 or more")
        return value

    @field_validator("class_quotas", "slice_quotas")
    @classmethod
    def _positive_quotas(cls, value: dict[str, int]) -> dict[str, int]:
        for name, count in value.items():
            if count < 1:
                raise ValueError(f"the quota of {name} is {count}; a quota is 1 or more")
        return value

    @field_validator("slice_quotas")
    @classmethod
    def _slices_are_attributes(cls, value: dict[str, int]) -> dict[str, int]:
        for name in value:
            if "=" not in name:
                raise ValueError(f"{name!r}: write a slice as ATTRIBUTE=VALUE, for example 'site=reef 3'")
        return value

    @model_validator(mode="after")
    def _ensemble_has_models(self) -> SelectionSettings:
        if self.use_ensemble and len(self.models) < 2:
            raise ValueError("use_ensemble needs two models or more after --model")
        if not any(self.weights.get(name, 1.0) > 0 for name in self.all_measures()):
            raise ValueError("weights: at least one of the measures must weigh more than 0")
        return self

    def all_measures(self) -> tuple[str, ...]:
        """The measures to compute: ``measures``, and those of the ensemble where it is used, each once."""
        return tuple(dict.fromkeys((*self.measures, *(ENSEMBLE_MEASURES if self.use_ensemble else ()))))

    def scoring_models(self) -> tuple[Path, ...]:
        """The models that look at the pool: all with ``use_ensemble``, else the first."""
        return self.models if self.use_ensemble else self.models[:1]
