"""Where an ensemble is to run, and how its cameras are watched over a day."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from marauder.core.mistakes import nearest
from marauder.core.settings import Decides, Settings
from marauder.deployment.device_table import device_table
from marauder.deployment.profile import SECONDS_OF_A_DAY, DutyCycle


def _known_device(name: str) -> str:
    known = device_table().names
    if name not in known:
        raise ValueError(f"no device named {name!r}{nearest(name, known)}")
    return name


def words_in_order(value: object) -> object:
    """A list of words given as one text with commas or spaces, as several, or both: in order, and alike ones kept, for
    members may be of one kind. What is neither text nor a list comes back as it is."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        return value
    return [word for item in items for word in str(item).replace(",", " ").split()]


ORDERED_WORDS = BeforeValidator(words_in_order)
"""On a field: its words may be given as one text with commas; alike ones stay."""
DeviceName = Annotated[str, AfterValidator(_known_device)]


class DeploymentSettings(Settings):
    """A device and its day: it wakes, watches its cameras for a while and is switched off; or it is always on."""

    decides: ClassVar[Decides] = Decides.MEASUREMENT

    device: DeviceName | None = Field("orin_nano", description="board that runs the ensemble; none: no profile is made")
    cameras: int = Field(1, ge=1, le=64, description="cameras that it watches")
    frames_per_second: float = Field(1.0, gt=0, le=240, description="pictures of each camera a second, while watching")
    watch_seconds: float = Field(60.0, gt=0, description="how long the cameras are watched each time it wakes")
    wake_seconds: float = Field(45.0, ge=0, description="awake besides, each time: starting, saving, shutting down")
    wakes_per_day: float = Field(96.0, gt=0, description="how often it wakes a day; 96: every quarter of an hour")
    always_on: bool = Field(False, description="never switched off, watching the whole day; it then idles in between")

    @model_validator(mode="before")
    @classmethod
    def _none_is_no_device(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("device"), str) and value["device"].lower() == "none":
            return {**value, "device": None}
        return value

    @model_validator(mode="after")
    def _check(self) -> DeploymentSettings:
        awake = self.wakes_per_day * (self.watch_seconds + self.wake_seconds)
        if not self.always_on and awake > SECONDS_OF_A_DAY:
            raise ValueError(
                f"wakes_per_day: {self.wakes_per_day:g} times {self.watch_seconds + self.wake_seconds:g} seconds are "
                f"{awake / 3600:.1f} hours, more than a day; give fewer, or always_on=true"
            )
        return self

    @property
    def cycle(self) -> DutyCycle:
        """The day as ``profile`` takes it."""
        return DutyCycle(
            self.cameras,
            self.frames_per_second,
            self.watch_seconds,
            self.wake_seconds,
            self.wakes_per_day,
            self.always_on,
        )


class ProfileSettings(DeploymentSettings):
    """What ``marauder deployment`` works out."""

    members: Annotated[tuple[str, ...], ORDERED_WORDS] = Field(
        ("yolov8m", "yolov8m", "yolov8m"),
        min_length=1,
        description="the models, each an architecture, with a name behind a colon where several are alike",
    )
    image_size: int = Field(640, ge=64, description="pixels of a side that the models are given")
    budget: float = Field(40.0, gt=0, description="watt-hours a day for inference and wake time")
