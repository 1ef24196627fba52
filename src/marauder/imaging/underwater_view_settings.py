"""Settings of the views that self-supervised pretraining draws of a picture; what they do: imaging.underwater_views."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from marauder.core.settings import Settings

# Those of imaging.formation.WATER_TYPES, which cannot be imported here: settings load without OpenCV.
JERLOV_TYPES = ("I", "IA", "IB", "II", "III", "1C", "3C", "5C")


class ViewSettings(Settings):
    """How views differ; each probability is that of one view, and 0 switches the change off."""

    views: int = Field(2, ge=1, le=16, description="views drawn of each picture")
    least_area: float = Field(0.25, gt=0, le=1, description="smallest crop, as share of the picture's area")
    most_area: float = Field(1.0, gt=0, le=1, description="largest crop, as share of the picture's area")
    aspect: float = Field(
        4 / 3, ge=1, le=4, description="crops are at most this much wider than high, or higher than wide"
    )
    overlap: float = Field(
        0.4, ge=0, le=0.95, description="share of the smaller crop that every further view has in common with the first"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    jitter: float = Field(0.8, ge=0, le=1, description="probability of colour jitter")
    brightness: float = Field(0.3, ge=0, le=1, description="brightness factor, drawn from 1 ± this")
    contrast: float = Field(0.3, ge=0, le=1, description="contrast factor, drawn from 1 ± this")
    saturation: float = Field(0.3, ge=0, le=1, description="saturation factor, drawn from 1 ± this")
    hue: float = Field(0.05, ge=0, le=0.5, description="hue shift, drawn from ± this share of the circle")
    grey: float = Field(0.1, ge=0, le=1, description="probability that a view has no colour")
    enhanced: float = Field(
        0.2, ge=0, le=1, description="probability that one view of a picture shows it enhanced as step 0 would"
    )
    cast: float = Field(
        0.4, ge=0, le=1, description="probability that a view looks deeper: a colour cast by water type"
    )
    cast_depth: float = Field(
        1.6, ge=0, le=5, description="most depth added, in e-foldings of light of 600 nm in the water drawn"
    )
    haze: float = Field(0.4, ge=0, le=1, description="probability that a view has more water in front of the scene")
    haze_range: float = Field(
        1.0, ge=0, le=5, description="most water added, in e-foldings of contrast at 550 nm in the water drawn"
    )
    water_types: tuple[str, ...] = Field(JERLOV_TYPES, min_length=1, description="Jerlov's water types to draw from")
    snow: float = Field(0.25, ge=0, le=1, description="probability of marine snow")
    snow_density: float = Field(90.0, ge=0, le=1000, description="most particles in a view")
    caustics: float = Field(0.2, ge=0, le=1, description="probability of a pattern of sunlight from the waves")
    caustics_contrast: float = Field(0.5, ge=0, le=1, description="strongest pattern: 1 leaves no even light")
    blur: float = Field(0.4, ge=0, le=1, description="probability of blur (forward scattering, focus)")
    blur_sigma: float = Field(1.6, ge=0, le=10, description="strongest blur, in pixels of a view of 224 pixels")
    noise: float = Field(0.3, ge=0, le=1, description="probability of sensor noise")
    noise_level: float = Field(7.0, ge=0, le=50, description="strongest noise, in grey levels")

    @field_validator("water_types")
    @classmethod
    def _known_water(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in types if name not in JERLOV_TYPES]
        if unknown:
            raise ValueError(f"no water type {unknown[0]!r}; choose from {', '.join(JERLOV_TYPES)}")
        return types

    @model_validator(mode="after")
    def _areas_in_order(self) -> ViewSettings:
        if self.least_area > self.most_area:
            raise ValueError(f"least_area {self.least_area:g} is larger than most_area {self.most_area:g}")
        return self


def geometry_only(settings: ViewSettings) -> ViewSettings:
    """The same crops and flips without any change of pixels' values."""
    off = dict.fromkeys(("jitter", "grey", "enhanced", "cast", "haze", "snow", "caustics", "blur", "noise"), 0.0)
    return settings.changed(off)
