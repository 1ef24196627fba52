"""What the annotation of a choice will take: boxes, money and working time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from marauder.selection.settings import PriceSettings


@dataclass(frozen=True)
class Price:
    """``pictures`` and the ``boxes`` expected in them (``None``: nothing says how many), the ``amount`` in
    ``currency``, and ``hours`` of work; both count the pictures alone where boxes are not known."""

    pictures: int
    boxes: float | None
    amount: float
    hours: float
    currency: str

    def as_dict(self) -> dict[str, Any]:
        """What ``selection.json`` holds."""
        return asdict(self)

    def words(self) -> str:
        """One sentence."""
        money = f"{self.amount:,.2f} {self.currency}"
        time = f"{self.hours:,.1f} hours" if self.hours >= 1.5 else _minutes(self.hours)
        if self.boxes is None:
            return (
                f"{self.pictures:,} pictures; how many boxes they hold is not known without a detector or labelled "
                f"pictures. Opening them costs about {money} and {time} of work, and the boxes come on top"
            )
        return (
            f"about {self.boxes:,.0f} boxes to draw in {self.pictures:,} pictures: roughly {money} and {time} of work, "
            "at the prices in the settings"
        )


def estimate_price(pictures: int, boxes: float | None, settings: PriceSettings) -> Price:
    """The price of ``pictures`` that hold ``boxes`` together."""
    known = boxes or 0.0
    amount = pictures * settings.per_picture + known * settings.per_box
    seconds = pictures * settings.seconds_per_picture + known * settings.seconds_per_box
    rounded = None if boxes is None else round(boxes, 1)
    return Price(pictures, rounded, round(amount, 2), round(seconds / 3600, 2), settings.currency)


def _minutes(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    return f"{minutes:,} minute{'s' * (minutes != 1)}"
