"""What a batch will cost and take: pictures to open, boxes to draw or to correct, and the second look at the overlap.

Counted in boxes, not pictures alone: that is what annotators are paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from marauder.annotation.batch import BatchItem
from marauder.annotation.settings import PriceSettings


@dataclass(frozen=True)
class Estimate:
    """``pictures``: views to pay for, those of the second annotator counted. ``drawn``, ``corrected``: boxes expected
    to be drawn from nothing, and pre-labels to be checked. ``price`` in ``currency``, ``hours`` of one annotator."""

    pictures: int
    drawn: float
    corrected: float
    price: float
    hours: float
    currency: str

    def to_plain(self) -> dict[str, float | int | str]:
        """For the batch's record."""
        return asdict(self)


def estimate(items: Sequence[BatchItem], settings: PriceSettings) -> Estimate:
    """The price of a batch. A picture of n expected boxes and m pre-labels costs m corrections and max(0, n - m) boxes
    drawn; its second copy, which has no pre-labels, n boxes drawn."""
    second = [item for item in items if item.overlap]
    pictures = len(items) + len(second)
    corrected = float(sum(len(item.boxes) for item in items))
    drawn = sum(max(0.0, item.estimated_boxes - len(item.boxes)) for item in items)
    drawn += sum(max(item.estimated_boxes, float(len(item.boxes))) for item in second)
    price = pictures * settings.per_picture + drawn * settings.per_box + corrected * settings.per_corrected_box
    seconds = pictures * settings.seconds_per_picture
    seconds += drawn * settings.seconds_per_box + corrected * settings.seconds_per_corrected_box
    return Estimate(pictures, round(drawn, 1), corrected, round(price, 2), round(seconds / 3600, 2), settings.currency)
