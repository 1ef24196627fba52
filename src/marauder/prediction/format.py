"""A kind of model file, and how it is opened as a predictor. The plug point ``predictor``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from marauder.core.plugins import Plugin
from marauder.core.settings import Decides, Settings
from marauder.engine.devices import CHOICES, Device
from marauder.prediction.predictor import Predictor


class OpeningSettings(Settings):
    """How a file is opened."""

    decides: ClassVar[Decides] = Decides.NOTHING

    device: Device = Field("auto", description=CHOICES)
    threads: int | None = Field(None, ge=1, description="threads of the processor; default: the runtime's own choice")
    fuse: bool = Field(
        False,
        description="fold batch normalisation into convolutions: faster, with numbers that differ by rounding",
    )


class PredictorFormat(Plugin[OpeningSettings], ABC):
    """One kind of model file. ``name``: the suffix of its files without the dot, ``folder`` for folders."""

    settings_model: ClassVar[type[Settings]] = OpeningSettings

    @abstractmethod
    def open(self, path: Path) -> Predictor:
        """Open ``path``. Raises ``UserError`` for a file that is missing, damaged or of another kind, and for a device
        that the format cannot use."""
