"""The settings of an export with engines: the portable files, and a bundle for a board where one is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from marauder.bundles.boards import find_board
from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake
from marauder.core.settings import Decides, Existing, Places, Settings
from marauder.exporting.settings import ExportSettings

Precision = Literal["fp32", "fp16", "int8"]


class QuantisationSettings(Settings):
    """How the int8 graph is made, and when it is good enough to be carried out."""

    method: Literal["percentile", "minmax"] = Field(
        "percentile", description="range of an activation: all but the outermost values of the pictures, or all"
    )
    picture_count: int = Field(64, ge=8, description="pictures that set the scales, of as many clips as there are")
    largest_loss: float = Field(
        0.01, ge=0, le=1, description="mAP50-95 that int8 may cost on `data`; above, it is left out of the bundle"
    )


class EngineSettings(ExportSettings):
    """What ``marauder export`` does: ``ExportSettings``, and with ``target`` a bundle for that board."""

    target: str | None = Field(None, description="board: jetson-nano, jetson-orin-nano, x86; default: no bundle")
    jetpack: str | None = Field(None, description="JetPack of the board; default: one bundle for all of them")
    precision: Precision | None = Field(
        None,
        description="fastest precision that the board tries; default: int8 where the board has it and "
        "`calibration_data` is given, else fp16",
    )
    calibration_data: Annotated[Path | None, Existing()] = Field(
        None, description="folder of real pictures that set the scales of int8"
    )
    data: Annotated[Path | None, Existing()] = Field(
        None, description="data.yaml to measure on what each precision costs"
    )
    split: str = Field("val", description="split of `data` that is measured on")
    build: Annotated[bool, Decides.NOTHING] = Field(
        False, description="build and test the engine on this machine, which has TensorRT (a board, or an x86 GPU)"
    )
    fixture_count: int = Field(8, ge=2, le=64, description="pictures by which a board tests its engine")
    quantisation: QuantisationSettings = QuantisationSettings()

    @field_validator("target")
    @classmethod
    def _known_board(cls, value: str | None) -> str | None:
        try:
            return None if value is None else find_board(value).name
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check(self) -> EngineSettings:
        if self.target is None:
            for name in ("jetpack", "precision", "calibration_data", "build"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name}: is of a bundle for a board; name the board, too: target=jetson-orin-nano"
                    )
            return self
        board = find_board(self.target)
        try:
            board.versions(self.jetpack)
        except UserError as error:
            raise ValueError(str(error)) from None
        if self.precision == "int8" and not board.int8:
            raise ValueError(f"precision int8: the GPU of {board.title} has none; fp16 is its fastest")
        if self.precision == "int8" and self.calibration_data is None:
            raise ValueError("precision int8: give real pictures that set its scales: calibration_data=FOLDER")
        if "onnx" not in self.formats:
            raise ValueError("formats: a bundle is made of the ONNX file; let onnx be among them")
        if self.dynamic or self.batch != 1:
            raise ValueError(
                "target: a board looks at one picture of fixed size at a time; leave dynamic and batch out"
            )
        return self

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the bundle holds, fastest first: the one that was asked for, and all that are slower."""
        every: tuple[Precision, ...] = ("int8", "fp16", "fp32")
        fastest = self.precision
        if fastest is None:
            board = find_board(self.target) if self.target is not None else None
            fastest = "int8" if board is not None and board.int8 and self.calibration_data is not None else "fp16"
        return every[every.index(fastest) :]

    def mistakes(self, places: Places) -> Iterator[Mistake]:
        """Pictures for fixtures are missing."""
        if self.target is not None and self.pictures is None and self.calibration_data is None:
            yield places.mistake(
                "target", "a board tests its engine by real pictures; give a folder of some: pictures=FOLDER"
            )
