"""What specialising changed: classes before and after, precision at the same recall, false alarms; JSON and a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import read_json, write_json, write_text
from marauder.core.plain import Plain
from marauder.data.pictures import UnreadablePictureError, decode_picture, scale_picture
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.comparison import Comparison, SliceDelta, compare
from marauder.evaluation.critical_metrics import tier_metrics
from marauder.evaluation.fixed_recall import AtFixedRecall, ClassAtRecall, at_fixed_recall, tier_masks
from marauder.evaluation.outcomes import judge_detections
from marauder.mining.hard_negatives_file import SUSPECTED_FILE, unsure_classes
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import show_signed
from marauder.tasks.detection.evaluate_split import Measured
from marauder.tasks.detection.loss_settings import FLOORED

REPORT_JSON, REPORT_PAGE = "critical_report.json", "critical_report.html"
CROPS = 12
CROP_PIXELS = 160
LEAST = 2
"""Groups and boxes below which an interval says nothing."""
NOTHING = 0.0005
"""A map50 that is shown as 0.000."""
MARGIN = 0.6
"""Of a box's longer side, around a crop."""


def write_critical_report(
    folder: Path,
    before: Measured,
    after: Measured,
    critical: Sequence[str],
    about: Plain,
    draws: int,
    clock: Clock,
) -> Path:
    """Write ``critical_report.json`` and ``critical_report.html``; returns the page's path. Raises ``Interrupted``.

    ``about``: what the page says of the run (title, split, stage, floor, mining by stage, and so on); ``judged``: of
    ``critical.stages.judged_on_val``.
    """
    names, records = after.result.matches.names, after.records
    # What ``compare`` calls the candidate comes first.
    pair = (after.result.matches, before.result.matches)
    everywhere = np.ones(len(records), bool)
    masks = [SliceMask(name, everywhere, boxes) for name, boxes in tier_masks(records, names, critical).items()]
    clock.check()
    compared = {
        # Critical classes are rare: every class takes part, and ``LEAST`` decides later what an interval says.
        metric: compare(*pair, records, masks, metric, draws=draws, least_groups=2, least_boxes=1)
        for metric in ("map50", "map50_95")
    }
    clock.check()
    # The detector before sets the recall, and with it the confidences of both.
    fixed = at_fixed_recall(pair[1], pair[0], records, critical, draws)
    clock.check()
    content = {
        "format": 1,
        **about,
        "critical": list(critical),
        "pictures": len(records),
        "before": _tiers(before, critical),
        "after": _tiers(after, critical),
        "classes": {metric: [_delta(one) for one in found.everything] for metric, found in compared.items()},
        "fixed_recall": fixed.to_json(),
    }
    write_json(folder / REPORT_JSON, content)
    # Groups, not pictures: the intervals are drawn over groups.
    empty_groups = len({one.group for one in records if one.labelled and not len(one.boxes)})
    page = _page(content, compared["map50"], fixed, empty_groups, _crops(before, after, fixed, clock), folder)
    write_text(folder / REPORT_PAGE, page)
    return folder / REPORT_PAGE


def _tiers(one: Measured, critical: Sequence[str]) -> dict[str, float]:
    """Without the score that holds them against the floor: that was computed on another split (``judged``)."""
    found = tier_metrics(one.result.overall, critical, None)
    return {name: value for name, value in found.items() if name != FLOORED}


def _delta(one: SliceDelta) -> Plain:
    numbers = {"before": one.production, "after": one.candidate, "delta": one.delta, "low": one.low, "high": one.high}
    return {"name": one.name, "boxes": one.boxes, **numbers, "groups": one.groups}


def _page(
    content: Plain,
    compared: Comparison,
    fixed: AtFixedRecall,
    empty_groups: int,
    crops: list[Plain],
    folder: Path,
) -> str:
    telling = {one.name.removeprefix("class "): min(one.groups, one.boxes) >= LEAST for one in compared.everything}
    rows = []
    for one in compared.slices:
        name = one.name.removeprefix("class ")
        row = {
            "name": {"others": "other"}.get(one.name, name),
            "tier": one.name in ("critical", "others"),
            "critical": one.name == "critical" or name in content["critical"],
            "interval": interval_words(one.delta, one.low, one.high, telling[name]),
        }
        rows.append({**_delta(one), **row})
    suspected = folder / SUSPECTED_FILE
    context = {
        "content": content,
        "rows": rows,
        "fixed": [_at_recall(one, telling.get(one.name, False), empty_groups) for one in (*fixed.classes, fixed.tier)],
        "empty_pictures": fixed.empty_pictures,
        "verdict": verdict_words(content, fixed, telling.get(fixed.tier.name, False)),
        "crops": crops,
        "no_crops": _no_crops(fixed),
        "missing": len(read_json(suspected)["suspected"]) if suspected.is_file() else 0,
        "unsure": unsure_classes(suspected) if suspected.is_file() else {},
        "suspected_file": SUSPECTED_FILE,
    }
    return render_page("critical/report.html", **context)


def _at_recall(one: ClassAtRecall, telling: bool, empty_groups: int) -> Plain:
    """A row of the tables at fixed recall. ``telling``: whether there are boxes and clips enough for an interval."""
    parts = {"precision": telling, "empty": telling and empty_groups >= LEAST, "without": telling}
    row: Plain = {name: getattr(one, name) for name in ("name", "boxes", "recall", "reached")}
    for name, enough in parts.items():
        of = getattr(one, name)
        interval = interval_words(of.delta, of.low, of.high, enough)
        row[name] = {"before": of.before, "after": of.after, "delta": of.delta, "interval": interval}
    return row


def interval_words(delta: float, low: float, high: float, enough: bool) -> str:
    """The bounds of a difference; a dash where it is undefined; that they say nothing, from too few groups or boxes."""
    if math.isnan(delta):
        return "–"
    if not enough or math.isnan(low) or math.isnan(high):
        return "too few to say"
    return f"{show_signed(low)} to {show_signed(high)}"


def _no_crops(fixed: AtFixedRecall) -> str:
    """Why no pictures of false alarms are shown."""
    if all(math.isinf(one.confidence) for one in fixed.classes):
        return (
            "No crops can be shown: the detector before found none of the critical classes, so there is no "
            "confidence at which to compare the false alarms of both."
        )
    return "No crops: at the confidence of each class no false alarm went and none came, or no picture could be read."


def verdict_words(content: Plain, fixed: AtFixedRecall, telling: bool = True) -> str:
    """The result in one or two sentences. ``telling``: whether there are boxes and clips enough for an interval."""
    tier, names = fixed.tier.precision, ", ".join(content["critical"])
    if math.isnan(tier.delta):
        first = (
            f"Before specialising, {names} were not found at all at the confidence in use, so there is no recall to "
            "compare at; the average precisions below say what changed."
        )
    elif not telling:
        first = (
            f"At the recall it had before ({fixed.tier.recall:.0%}), the precision on {names} went from "
            f"{tier.before:.3f} to {tier.after:.3f}; too few boxes or clips to say whether that is more than chance."
        )
    else:
        sure = "more precise" if tier.low > 0 else "less precise" if tier.high < 0 else "not surely different"
        first = (
            f"At the recall it had before ({fixed.tier.recall:.0%}), the precision on {names} went from "
            f"{tier.before:.3f} to {tier.after:.3f} (difference {tier.low:+.3f} to {tier.high:+.3f}): {sure}."
        )
    return " ".join([first, *_floor_words(content)])


def _floor_words(content: Plain) -> list[str]:
    """Whether the others keep their floor, told from the split that it holds on; what is reported, beside it."""
    floor, judged = content.get("floor"), content["judged"]
    if floor is None or judged["others/map50"] is None:
        return []
    split, others = judged["split"], judged["others/map50"]
    words = []
    if floor < NOTHING:
        why = "0 was required" if content.get("floor_given") else "the detector before found nothing of them"
        words.append(f"There is no floor for the other classes: {why}. Their map50 on {split} is {others:.3f}.")
    else:
        kept = "keep" if judged["kept"] else "do NOT keep"
        words.append(
            f"The other classes {kept} their floor on {split}: map50 {others:.3f}, at least {floor:.3f} was required."
        )
    # Beside it: the floor was kept on another split than the one reported.
    before, after = (content[when]["others/map50"] for when in ("before", "after"))
    if content["split"] != split and not (math.isnan(before) or math.isnan(after)):
        words.append(f"On {content['split']} their map50 was {before:.3f} before and is {after:.3f} now.")
    return words


def _crops(before: Measured, after: Measured, fixed: AtFixedRecall, clock: Clock) -> list[Plain]:
    """False alarms that went, and ones that came: the surest of each, as small pictures."""
    found = [
        *_changed(before, after, fixed, "a false alarm that is gone"),
        *_changed(after, before, fixed, "a false alarm that is new"),
    ]
    crops = []
    for one in found:
        clock.check()
        picture = _crop(one)
        if picture is not None:
            crops.append({**one, "source": picture})
    return crops


def _changed(one: Measured, other: Measured, fixed: AtFixedRecall, what: str) -> list[Plain]:
    """False detections of ``one``, at the confidence of each class, that ``other`` has not: the surest few."""
    from marauder.data.boxes import iou_matrix
    from marauder.mining.hard_negatives import FOREGROUND

    matches = one.result.matches
    _, false, _ = judge_detections(matches)
    # Infinite for classes that are not critical: their false alarms are not looked at.
    least = np.full(len(matches.names), np.inf)
    for of_class in fixed.classes:
        least[matches.names.index(of_class.name)] = of_class.confidence
    wrong = np.flatnonzero(false & (matches.detection_score >= least[matches.detection_class]))
    rows = []
    for place in wrong[np.argsort(-matches.detection_score[wrong], kind="stable")]:
        picture, number = int(matches.detection_picture[place]), int(matches.detection_class[place])
        box = one.detections[picture].boxes[matches.detection_index[place]]
        theirs = other.detections[picture].above(float(least[number]))
        same = theirs.boxes[theirs.classes == number]
        # The other one says the same there: the false alarm neither went nor came.
        if (iou_matrix(box[None], same) >= FOREGROUND).any():
            continue
        rows.append(
            {
                "what": what,
                "class": matches.names[number],
                "key": one.records[picture].key,
                "box": box,
                "score": float(matches.detection_score[place]),
                "picture": one.records[picture].picture,
            }
        )
        if len(rows) == CROPS // 2:
            break
    return rows


def _crop(one: Plain) -> str | None:
    """The box with some surroundings as a data address; ``None`` where the picture cannot be read."""
    try:
        picture = decode_picture(one["picture"])
    except UnreadablePictureError:
        return None
    box = np.asarray(one["box"])
    room = MARGIN * float((box[2:] - box[:2]).max())
    limits = np.array(picture.shape[1::-1])
    x0, y0 = np.clip(np.floor(box[:2] - room), 0, limits - 1).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(box[2:] + room), (x0 + 1, y0 + 1), limits).astype(int).tolist()
    # OpenCV draws in place, and only into memory without gaps.
    part = np.ascontiguousarray(picture[y0:y1, x0:x1])
    corners = np.rint(box - [x0, y0, x0, y0]).astype(int).tolist()
    cv2.rectangle(part, corners[:2], corners[2:], (255, 210, 0), max(1, round(max(part.shape) / 100)))
    good, encoded = cv2.imencode(".jpg", cv2.cvtColor(scale_picture(part, CROP_PIXELS), cv2.COLOR_RGB2BGR))
    if not good:
        return None
    return embed_picture(encoded.tobytes())
