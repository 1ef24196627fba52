"""Settings of copy-paste: how often cut-out animals of rare classes are put into other pictures, and how."""

from __future__ import annotations

from pydantic import Field

from marauder.core.settings import Settings


class CopyPasteSettings(Settings):
    """Copy-paste of rare species; probability 0 switches it off."""

    probability: float = Field(0.0, ge=0, le=1, description="share of training pictures that get animals pasted")
    most: int = Field(2, ge=1, le=20, description="at most so many animals a picture; 1 to this many are drawn")
    margin: float = Field(0.35, ge=0.1, le=2, description="background cut out around a box, as share of its sides")
    least_side: float = Field(16.0, ge=4, description="pixels: smaller animals are neither cut out nor pasted")
    scale: float = Field(0.4, ge=0, lt=1, description="size of the animal, drawn from 1 ± this")
    most_enlarged: float = Field(1.4, ge=1, le=4, description="animals are enlarged at most by this factor")
    largest: float = Field(0.6, gt=0, le=1, description="longest side of an animal, as share of the picture's shorter")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip of the animal")
    overlap: float = Field(
        0.15, ge=0, le=1, description="most of an existing box, or of the pasted one, that the two may share"
    )
    covered: float = Field(0.6, gt=0, le=1, description="existing boxes covered by more than this share are dropped")
    match: float = Field(0.85, ge=0, le=1, description="how far colours are matched to the water of the place")

    @property
    def is_off(self) -> bool:
        """Whether no animals are ever pasted."""
        return not self.probability
