"""The settings of step 4: what goes out for annotation and in which formats, what it costs, what is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from marauder.core.mistakes import Mistake, Mistakes
from marauder.core.plugins import known_as
from marauder.core.settings import COMMAS, Decides, Existing, Places, Settings
from marauder.engine.devices import CHOICES, Device
from marauder.selection.price import PriceSettings


class PrelabelSettings(Settings):
    """The boxes of a model that go out with the pictures, for the annotator to correct."""

    confidence: float = Field(0.3, gt=0, lt=1, description="least score of a box that goes out")
    doubtful: bool = Field(
        False,
        description="send all boxes, even of a detector whose own report does not show it to be of use, or that "
        "suggests far more than labelled pictures hold",
    )
    image_size: int | None = Field(None, ge=32, description="long side the model sees, in pixels; default: its own")
    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)


class LimitSettings(Settings):
    """What a delivery may hold before it is refused as a bomb."""

    entries: int = Field(500_000, ge=1, description="files and folders of a delivery")
    file_bytes: int = Field(512 * 2**20, ge=1, description="greatest size of one file, unpacked")
    total_bytes: int = Field(64 * 2**30, ge=1, description="greatest size of all files together, unpacked")
    ratio: float = Field(200.0, gt=1, description="unpacked size of a file over its packed size")


class QualitySettings(Settings):
    """How a delivery is judged, and how many of its boxes a person looks at."""

    match_iou: float = Field(0.5, gt=0, le=1, description="overlap from which two boxes mean the same object")
    well_located_iou: float = Field(0.75, gt=0, le=1, description="overlap from which a box counts as well located")
    sure_confidence: float = Field(0.5, gt=0, le=1, description="score from which a pre-label counts as confident")
    review_count: int = Field(50, ge=0, description="suspected errors that the page shows first")
    least_agreement_iou: float = Field(
        0.7, ge=0, le=1, description="mean overlap of two annotators; anything lower is reported"
    )
    least_kappa: float = Field(
        0.8, ge=-1, le=1, description="class agreement of two annotators; anything lower is reported"
    )


class AnnotationSettings(Settings):
    """What ``marauder annotation export | import | status`` do.

    ``data``: the data set that the pictures belong to. ``selection``: the folder of step 3 with its
    ``selection.json``; without it, and without ``pictures``, all pictures of ``data`` without labels go out.
    ``output``: the merged data set, a new version beside ``data``, which stays as it is.
    """

    decides: ClassVar[Decides] = Decides.RESULT

    data: Path = Field(description="data.yaml, or a folder in any layout that is read, of the data set")
    selection: Annotated[Path | None, Existing()] = Field(None, description="folder of step 3; its picks go out")
    pictures: Annotated[Path | None, Existing()] = Field(
        None, description="text file with one record key or picture path a line"
    )
    model: Annotated[Path | None, Existing()] = Field(None, description="detector whose boxes go out as pre-labels")
    taxonomy: Annotated[Path | None, Existing()] = Field(
        None, description="species table that the guidelines are written from"
    )
    outbox: Annotated[Path, Decides.PLACE] = Field(
        Path("annotation/outbox"), description="where packages for the provider are put"
    )
    inbox: Annotated[Path, Decides.PLACE] = Field(
        Path("annotation/inbox"), description="where the delivery is looked for"
    )
    output: Annotated[Path, Decides.PLACE] = Field(
        Path("annotation/merged"), description="the data set with the delivery merged in"
    )
    batch: Annotated[str | None, Decides.NOTHING] = Field(
        None, description="id of the batch meant; default: the newest that is open"
    )
    formats: Annotated[tuple[str, ...], COMMAS, known_as("annotation_format", "format")] = Field(
        ("mindy",), min_length=1, description="packages written of a batch"
    )
    overlap_share: float = Field(0.1, ge=0, le=1, description="share of the pictures that two annotators label")
    least_overlap: int = Field(5, ge=0, description="pictures labelled twice at least, where the share is above 0")
    examples_per_class: int = Field(6, ge=0, le=24, description="example crops of each class in the guidelines")
    new: Annotated[bool, Decides.NOTHING] = Field(False, description="make another batch although one is open")
    accept: Annotated[bool, Decides.NOTHING] = Field(
        False, description="take the good part of a delivery with problems"
    )
    copy_pictures: bool = Field(False, description="copy pictures into the merged data set instead of linking them")
    seed: int = 0
    prelabels: PrelabelSettings = PrelabelSettings()
    price: Annotated[PriceSettings, Decides.NOTHING] = Field(
        PriceSettings(), description="prices not given here are those of the selection"
    )
    limits: Annotated[LimitSettings, Decides.NOTHING] = LimitSettings()
    quality: Annotated[QualitySettings, Decides.NOTHING] = QualitySettings()

    def mistakes(self, places: Places) -> Iterator[Mistake]:
        """Those in the species table."""
        from marauder.data.taxonomy import Taxonomy

        if self.taxonomy is not None and not places.missing(self.taxonomy):
            found = Mistakes()
            with found.gathered():
                Taxonomy.load(self.taxonomy)
            yield from found.found
