"""The content of ``slices.yaml``: named slices, each a query, a list of pictures, or an intersection of slices."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from marauder.core.errors import UserError
from marauder.core.settings import Settings
from marauder.data.slices.query import parse_query
from marauder.data.slices.query_tree import unknown_name
from marauder.data.slices.sizes import expand_sizes

METRICS = (
    "map50",
    "map50_95",
    "map75",
    "map_small",
    "map_medium",
    "map_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
    "precision",
    "recall",
    "f1",
)
"""Metrics that a limit can bound: those of ``evaluation.metrics.Metrics`` that measure a detector, all from 0 to 1."""
FEWEST_PICTURES = 10
LONGEST_NAME = 100
RESERVED = "overall"
"""What reports, comparisons and targets call all pictures together."""


class LimitSettings(Settings):
    """Bounds of a metric from 0 to 1, each included."""

    model_config = ConfigDict(allow_inf_nan=False)

    minimum: float | None = Field(None, ge=0, le=1, description="the metric must not be below")
    maximum: float | None = Field(None, ge=0, le=1, description="the metric must not be above")

    @model_validator(mode="after")
    def _bounds_something(self) -> LimitSettings:
        if self.minimum is None and self.maximum is None:
            raise ValueError("a limit needs a minimum or a maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"the minimum {self.minimum:g} is above the maximum {self.maximum:g}")
        return self


class SliceSettings(Settings):
    """One slice: all that is given must hold (where, ids and all_of for the picture; boxes for its boxes)."""

    where: str | None = Field(None, description="query over pictures: depth > 20 AND weather = 'fog'")
    boxes: str | None = Field(None, description="query over boxes that count: class = 'fish' AND size = 'small'")
    ids: tuple[str, ...] | str | None = Field(
        None, description="picture keys, or a text file of them (one a line), relative to slices.yaml"
    )
    all_of: tuple[str, ...] = Field((), description="names of other slices, all of which must hold")
    by: str | None = Field(None, description="one slice for each value of this attribute (numbers: for each quarter)")
    protected: bool = Field(False, description="a loss here stops a promotion even where the average gains")
    limits: dict[str, LimitSettings] = Field({}, description="bounds of metrics on this slice")
    minimum_pictures: Annotated[int, Field(ge=1)] = Field(
        FEWEST_PICTURES, description="with fewer pictures the slice is called tiny; values of 'by' are left out"
    )
    description: str = Field("", description="what the slice is and why it matters")

    @field_validator("where", "boxes")
    @classmethod
    def _can_be_read(cls, text: str | None, info: Any) -> str | None:
        if text is not None:
            try:
                query = parse_query(text)
                if info.field_name == "boxes":
                    expand_sizes(query)
            except UserError as error:
                raise ValueError(str(error)) from None
        return text

    @field_validator("limits")
    @classmethod
    def _metrics_exist(cls, limits: dict[str, LimitSettings]) -> dict[str, LimitSettings]:
        mistakes = [
            # Each with its own location, so that it is reported with its own line.
            InitErrorDetails(
                type=PydanticCustomError("unknown_metric", "{words}", {"words": unknown_name(name, METRICS, "metric")}),
                loc=(name,),
                input={},
            )
            for name in limits
            if name not in METRICS
        ]
        if mistakes:
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return limits

    @model_validator(mode="after")
    def _says_something(self) -> SliceSettings:
        if self.where is None and self.boxes is None and self.ids is None and not self.all_of and self.by is None:
            raise ValueError("says nothing: give where, boxes, ids, all_of or by")
        return self


class SlicesSettings(Settings):
    """The whole file."""

    slices: dict[str, SliceSettings] = Field(description="slices by name")

    @field_validator("slices")
    @classmethod
    def _names_can_be_shown(cls, slices: dict[str, SliceSettings]) -> dict[str, SliceSettings]:
        for name in slices:
            if not name.strip() or "/" in name or not name.isprintable() or len(name) > LONGEST_NAME:
                raise ValueError(f"slice name {name!r}: 1 to {LONGEST_NAME} printable characters without '/'")
            if name == RESERVED:
                raise ValueError(f"slice name {name!r}: all pictures together are called so; take another name")
        return slices
