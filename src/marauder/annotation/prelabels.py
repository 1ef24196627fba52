"""Pre-labels: a detector's boxes for the pictures of a batch, in the data set's classes, kept as they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from marauder.annotation.formats.base import match_class
from marauder.annotation.settings import PrelabelSettings
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import append_line, read_lines
from marauder.core.progress import Progress
from marauder.data.boxes import clean_boxes
from marauder.data.records import Detections, Record

BLOCK = 64
"""Pictures processed and written down together: the most that a kill costs."""
USUAL_SHARE = 0.95
"""Of the labelled pictures with boxes: what so many of them hold at most is usual."""
MOST_TIMES_USUAL = 3.0
"""Boxes a picture that a detector may suggest, over what is usual, before only the surest go out."""
DECIMALS = 2
"""Of coordinates: finer than anyone draws."""


@dataclass(frozen=True, eq=False)
class Prelabels:
    """Boxes by record key; ``unnamed``: classes of the model that the data set does not have (their boxes are left
    out); ``unreadable``: why pictures could not be looked at."""

    boxes: dict[str, Detections]
    unnamed: tuple[str, ...]
    unreadable: tuple[str, ...]


def plausible(found: Prelabels, labelled: Sequence[Record]) -> tuple[Prelabels, str]:
    """``found``, with the surest boxes only where a detector suggests far more than pictures can be expected to hold,
    and what to say of that (empty: nothing is left out). ``labelled``: the labelled pictures.

    Those without a box say nothing of the others, and pictures are chosen because they are crowded: so the measure is
    what nearly all of those with boxes hold at most, and no picture is left with fewer than the fullest of them has.
    """
    counts = [count for record in labelled if (count := int((~record.ignored).sum()))]
    if not counts or not found.boxes:
        return found, ""
    usual, most = int(np.quantile(counts, USUAL_SHARE, method="higher")), max(counts)
    mean = float(np.mean([len(boxes) for boxes in found.boxes.values()]))
    cut = {key: boxes.surest(most) for key, boxes in found.boxes.items()}
    left_out = sum(len(boxes) for boxes in found.boxes.values()) - sum(len(boxes) for boxes in cut.values())
    if mean <= MOST_TIMES_USUAL * usual or not left_out:
        return found, ""
    note = (
        f"the detector suggests {mean:,.0f} boxes a picture, where {USUAL_SHARE:.0%} of the labelled pictures with "
        f"boxes hold at most {usual:,}, and none more than {most:,}: only the {most:,} surest of each picture go out, "
        f"and {left_out:,} boxes stay here. If the pictures do hold as many, prelabels.doubtful=true sends all of "
        "them; if not, raise prelabels.confidence, or train the detector longer"
    )
    return replace(found, boxes=cut), note


def prelabel(
    model: Path,
    records: Sequence[Record],
    names: Sequence[str],
    settings: PrelabelSettings,
    journal: Path,
    clock: Clock,
) -> Prelabels:
    """Run the detector ``model`` over ``records`` and return its boxes of at least ``settings.confidence``.

    Blocks that ``journal`` (a file of this call alone) holds are not looked at again. Raises ``Interrupted``, and
    ``UserError`` when the detector and the data set have no class in common.
    """
    # These load torch, which a batch without a model does not need.
    from marauder.prediction.opening import open_predictor
    from marauder.prediction.records import DecodedPictures, detect
    from marauder.prediction.settings import MEASURING

    predictor = open_predictor(model, settings.device, settings.image_size)
    lookup = {index: match_class(name, names) for index, name in enumerate(predictor.names)}
    unnamed = tuple(name for index, name in enumerate(predictor.names) if lookup[index] is None)
    if len(unnamed) == len(predictor.names):
        raise UserError(
            f"{model}: knows {', '.join(predictor.names)}; the data set has {', '.join(names)}: no class is the same; "
            "name another model, or none"
        )
    options = replace(MEASURING, confidence=settings.confidence)
    known = {row["block"]: row["rows"] for row in read_lines(journal)}
    # The journal counts by position: the batch's id holds the list of pictures, so a block means the same ones.
    starts = range(0, len(records), BLOCK)
    already = sum(len(known[start]) for start in starts if start in known)
    unreadable = []
    with Progress("pre-labels", len(records), already_done=already) as progress:
        for start in starts:
            if start in known:
                continue
            clock.check()
            block = records[start : start + BLOCK]
            # A block that is stopped in the middle is looked at again as a whole.
            stops = lambda: clock.stop_reason() is not None  # noqa: E731 - asked between batches
            predictions = detect(predictor, block, DecodedPictures(block), range(len(block)), options, stops, progress)
            if predictions is None:
                raise Interrupted(clock.stop_reason() or "stopped while looking at pictures")
            rows = []
            for record, prediction in zip(block, predictions, strict=True):
                found = prediction.detections or _nothing()
                row = _plain(_in_classes(found, lookup, record, len(names)))
                rows.append({"key": record.key, "why": prediction.set_aside, **row})
            append_line(journal, {"block": start, "rows": rows})
            known[start] = rows
    boxes = {}
    for start in starts:
        for row in known[start]:
            boxes[str(row["key"])] = Detections(row["boxes"], row["scores"], row["classes"])
            if row["why"]:
                unreadable.append(str(row["why"]))
    return Prelabels(boxes, unnamed, tuple(unreadable))


def _nothing() -> Detections:
    return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def _in_classes(found: Detections, lookup: dict[int, int | None], record: Record, class_count: int) -> Detections:
    """The detections in the data set's classes, within the picture, without doubles."""
    # -1 is out of range, so that ``clean_boxes`` drops the classes which the data set does not have.
    classes = np.array([lookup.get(index) if lookup.get(index) is not None else -1 for index in found.classes.tolist()])
    clean = clean_boxes(found.boxes, classes, record.width, record.height, class_count)
    boxes = np.round(clean.boxes, DECIMALS)
    return Detections(boxes, np.round(found.scores[clean.kept], 4), classes[clean.kept] if len(clean.kept) else [])


def _plain(found: Detections) -> dict[str, object]:
    return {"boxes": found.boxes, "scores": found.scores, "classes": found.classes}
