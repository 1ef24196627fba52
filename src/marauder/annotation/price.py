"""What a batch will cost and how long it will take, in the terms of step 3's quote, and which prices apply."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from marauder.annotation.batch import BatchItem
from marauder.annotation.choosing import SELECTION_FILE
from marauder.annotation.settings import AnnotationSettings
from marauder.core.files import read_json
from marauder.core.wording import counted
from marauder.selection.price import Price, PriceSettings, estimate_price


def batch_price(items: Sequence[BatchItem], settings: PriceSettings) -> Price:
    """The price of a batch. A picture of n expected boxes and m pre-labels costs m corrections and max(0, n - m) boxes
    drawn; its second copy, which has no pre-labels, n boxes drawn."""
    second = [item for item in items if item.overlap]
    corrected = float(sum(len(item.boxes) for item in items))
    drawn = sum(max(0.0, item.estimated_boxes - len(item.boxes)) for item in items)
    # At least the boxes of the pre-labels are there, though this annotator does not see them.
    drawn += sum(max(item.estimated_boxes, float(len(item.boxes))) for item in second)
    return estimate_price(len(items) + len(second), drawn, settings, corrected)


def describe_order(pictures: int, overlap: int, price: Price) -> str:
    """``10 pictures, 5 of them twice: about 157 boxes, roughly 9.80 EUR and 29 minutes of work``: what is ordered, the
    second annotator counted. ``overlap``: pictures that two annotators label."""
    twice = f", {overlap:,} of them twice" if overlap else ""
    counted_too = ", the second annotator counted" if overlap else ""
    boxes = counted(round(price.boxes or 0), "box", "boxes")
    return f"{counted(pictures, 'picture')}{twice}: about {boxes}, roughly {price.cost}{counted_too}"


def prices_in_use(settings: AnnotationSettings) -> tuple[PriceSettings, tuple[str, ...]]:
    """The prices that apply, with what to say about them: those given here, and for the rest those of the selection's
    quote, so that both quotes agree unless somebody asked for other prices; then that is said."""
    own, quoted = settings.price, _quoted(settings.selection)
    if quoted is None:
        return own, ()
    # Only what somebody wrote down: defaults must not overrule the quote.
    given = {name: getattr(own, name) for name in own.model_fields_set}
    known = quoted.model_dump()
    other = [f"{name} {value} (there {known[name]})" for name, value in given.items() if value != known[name]]
    told = (f"priced otherwise than the selection was: {', '.join(other)}",) if other else ()
    return PriceSettings.model_validate({**known, **given}), told


def _quoted(selection: Path | None) -> PriceSettings | None:
    """The prices in the settings of a selection; ``None`` without one, or where one of an older version has none."""
    if selection is None:
        return None
    content = read_json(selection / SELECTION_FILE if selection.is_dir() else selection)
    try:
        return PriceSettings.model_validate(content["settings"]["price"])
    except (KeyError, TypeError, ValidationError):
        return None
