"""What labelling will cost and take: pictures to open, boxes to draw or to correct. One calculation for every quote.

Counted in boxes, not pictures alone: that is what annotators are paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from pydantic import Field

from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Settings
from marauder.data.records import Record


class PriceSettings(Settings):
    """What an annotator is expected to take and cost; the provider's offer says the real numbers."""

    currency: str = Field("EUR", min_length=1, max_length=8)
    per_picture: float = Field(0.02, ge=0, description="price of opening and judging a picture")
    per_box: float = Field(0.06, ge=0, description="price of a box drawn from nothing")
    per_corrected_box: float = Field(0.03, ge=0, description="price of a box that a pre-label suggests")
    seconds_per_picture: float = Field(6.0, ge=0, description="time to open and judge a picture")
    seconds_per_box: float = Field(10.0, ge=0, description="time to draw a box from nothing")
    seconds_per_corrected_box: float = Field(4.0, ge=0, description="time to check and correct a suggested box")
    boxes_per_picture: float | None = Field(
        None, ge=0, description="boxes expected where no detector estimates them; default: as in labelled pictures"
    )


@dataclass(frozen=True)
class Price:
    """``pictures`` to open, each annotator's counted; ``drawn`` boxes from nothing (``None``: nothing says how many),
    and ``corrected`` ones. ``amount`` in ``currency`` and ``hours`` of work count the pictures alone where boxes are
    not known."""

    pictures: int
    drawn: float | None
    corrected: float
    amount: float
    hours: float
    currency: str

    @property
    def boxes(self) -> float | None:
        """All boxes, drawn and corrected."""
        return None if self.drawn is None else self.drawn + self.corrected

    def as_dict(self) -> Plain:
        """What ``selection.json`` and ``batch.json`` hold."""
        return {**asdict(self), "boxes": self.boxes}

    @classmethod
    def of(cls, content: PlainMapping) -> Price:
        """A price that ``as_dict`` wrote; ``price`` was once the name of the amount. Raises ``KeyError``."""
        amount = content["amount"] if "amount" in content else content["price"]
        boxes = (content["drawn"], content["corrected"])
        return cls(content["pictures"], *boxes, amount, content["hours"], content["currency"])

    @property
    def cost(self) -> str:
        """Money and time: ``6.50 EUR and 19 minutes of work``."""
        time = f"{self.hours:,.1f} hours" if self.hours >= 1.5 else _minutes(self.hours)
        return f"{self.amount:,.2f} {self.currency} and {time} of work"

    def words(self) -> str:
        """One sentence."""
        if self.boxes is None:
            return (
                f"{self.pictures:,} pictures; how many boxes they hold is not known without a detector or labelled "
                f"pictures. Opening them costs about {self.cost}, and the boxes come on top"
            )
        return (
            f"about {self.boxes:,.0f} boxes to draw in {self.pictures:,} pictures: roughly {self.cost}, "
            "at the prices in the settings, without suggested boxes and without the pictures that a second annotator "
            "labels, too"
        )


def boxes_of_a_picture(labelled: Sequence[Record], settings: PriceSettings) -> float | None:
    """Boxes to expect in a picture that no detector has seen: as set, else the mean of the ``labelled`` pictures, those
    to be ignored not counted; ``None`` without either."""
    if settings.boxes_per_picture is not None or not labelled:
        return settings.boxes_per_picture
    return fmean(int((~record.ignored).sum()) for record in labelled)


def estimate_price(pictures: int, drawn: float | None, settings: PriceSettings, corrected: float = 0.0) -> Price:
    """The price of opening ``pictures``, drawing ``drawn`` boxes and correcting ``corrected``, each in all of them."""
    boxes = drawn or 0.0
    amount = pictures * settings.per_picture + boxes * settings.per_box + corrected * settings.per_corrected_box
    seconds = pictures * settings.seconds_per_picture
    seconds += boxes * settings.seconds_per_box + corrected * settings.seconds_per_corrected_box
    rounded = None if drawn is None else round(drawn, 1)
    return Price(pictures, rounded, corrected, round(amount, 2), round(seconds / 3600, 2), settings.currency)


def _minutes(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    return f"{minutes:,} minute{'s' * (minutes != 1)}"
