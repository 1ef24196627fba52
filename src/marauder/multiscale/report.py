"""What training on at changing sizes changed: average precision by the animals' size and by input size; JSON, a page.

Sizes of animals are COCO's (below 32², to 96², above, square pixels), counted once in the pixels of the picture, as
COCO does, and once with every picture scaled to 640 pixels of its long side, the size of most COCO pictures. The second
is what the verdict speaks of: detectors see pictures scaled, and 32 pixels of a large photograph are next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import write_json, write_text
from marauder.core.plain import Plain
from marauder.data.records import Detections, Record
from marauder.evaluation.comparison import SliceDelta, compare
from marauder.evaluation.matching import AREA_NAMES, Matches, match
from marauder.multiscale.figure import size_figure
from marauder.multiscale.settings import REPORT_JSON, REPORT_PAGE
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import show_signed
from marauder.tasks.detection.evaluate_split import Measured

REFERENCE = 640
"""Long side, in pixels, that pictures are scaled to where sizes of animals are counted alike for all."""
METRICS = ("map50_95", "map50", "map_small", "map_medium", "map_large")
OF_SIZES = {"map_small": "small", "map_medium": "medium", "map_large": "large"}
SMALL = "map_small"
LEAST_GROUPS, LEAST_BOXES = 8, 30
"""Clips and boxes from which an interval decides (as in ``evaluation.comparison``)."""
ALLOWED_LOSS = 0.01
"""Of mAP50-95 at the native size: a loss that small is none."""


@dataclass(frozen=True)
class AtSizes:
    """A detector before and after on the same pictures, by input size in pixels; ``native``: the size of use."""

    native: int
    before: Mapping[int, Measured]
    after: Mapping[int, Measured]

    @property
    def sizes(self) -> list[int]:
        """Input sizes at which both were measured, rising."""
        return sorted(self.before)


def write_multi_scale_report(folder: Path, found: AtSizes, about: Plain, draws: int, clock: Clock) -> Path:
    """Write ``multiscale_report.json`` and ``multiscale_report.html``; returns the page's path. Raises ``Interrupted``.

    ``about``: what the page says of the run (title, split, ``before_is``, trained sizes, schedule). ``draws``: of the
    paired bootstrap over clips.
    """
    content = {**about, "format": 1, **compared(found, draws, clock)}
    content["words"] = verdict_words(content)
    write_json(folder / REPORT_JSON, content)
    page = render_page(
        "multiscale/report.html",
        content=_told(content),
        figure=embed_picture(size_figure(content)),
        kinds=[("map50_95", "all"), *OF_SIZES.items()],
        reference=REFERENCE,
        least=(LEAST_GROUPS, LEAST_BOXES),
    )
    write_text(folder / REPORT_PAGE, page)
    return folder / REPORT_PAGE


def compared(found: AtSizes, draws: int, clock: Clock) -> Plain:
    """The figures: ``by_size``, ``in_picture_pixels``, ``verdict``."""
    native = found.native
    records = found.after[native].records
    before, after = ({size: rescaled(one) for size, one in of.items()} for of in (found.before, found.after))
    counts = [_counted(before[native], records, area) for area in range(len(AREA_NAMES))]
    rows = []
    for size in found.sizes:
        clock.check()
        pair = (after[size], before[size])
        row = {"size": size, "native": size == native, **_metrics(pair, records, counts, draws)}
        # What a user gains who moves to the new detector and to this size.
        row["from_native"] = _metrics((after[size], before[native]), records, counts, draws, ("map50_95", SMALL))
        rows.append(row)
    clock.check()
    whole = (found.after[native].result.matches, found.before[native].result.matches)
    own = [_counted(whole[1], records, area) for area in range(len(AREA_NAMES))]
    at_native = next(row for row in rows if row["native"])
    return {
        "pictures": len(records),
        "groups": counts[0]["groups"],
        "by_size": rows,
        "in_picture_pixels": _metrics(whole, records, own, draws),
        "verdict": verdict(at_native),
    }


def rescaled(one: Measured) -> Matches:
    """The pairs with every picture's long side at ``REFERENCE`` pixels: overlaps stay, areas are alike for all."""
    records, detections = [], []
    for record, found in zip(one.records, one.detections, strict=True):
        gain = REFERENCE / max(record.width, record.height)
        records.append(replace(record, boxes=record.boxes * gain))
        detections.append(Detections(found.boxes * gain, found.scores, found.classes))
    return match(records, detections, one.result.matches.names)


def _counted(matches: Matches, records: Sequence[Record], area: int) -> dict[str, int]:
    """Boxes of an area range, and the groups that hold some."""
    pictures = matches.box_picture[~matches.box_ignored[area]]
    return {"boxes": len(pictures), "groups": len({records[index].group for index in np.unique(pictures)})}


def _metrics(
    pair: tuple[Matches, Matches],
    records: Sequence[Record],
    counts: Sequence[dict[str, int]],
    draws: int,
    metrics: Sequence[str] = METRICS,
) -> dict[str, Plain]:
    """The metrics, after (first of the pair) against before."""
    found = {}
    for metric in metrics:
        area = list(OF_SIZES).index(metric) + 1 if metric in OF_SIZES else 0
        delta = compare(*pair, records, [], metric, draws=draws, least_groups=2, least_boxes=1).overall
        found[metric] = {**_delta(delta), **counts[area]}
    return found


def _delta(one: SliceDelta) -> Plain:
    before, after = one.production, one.candidate
    relative = (after - before) / before if before > 0 else math.nan
    return {
        "before": before,
        "after": after,
        "delta": one.delta,
        "low": one.low,
        "high": one.high,
        "relative": relative,
    }


def is_telling(row: Plain) -> bool:
    """Whether there are clips and boxes enough for its interval to decide anything."""
    bounds = (row["low"], row["high"])
    return row["groups"] >= LEAST_GROUPS and row["boxes"] >= LEAST_BOXES and not any(math.isnan(one) for one in bounds)


def verdict(native: Plain) -> dict[str, str]:
    """What the comparison at the native size shows. ``small``: gained, lost, not shown, too few, none (no small
    animal). ``native``, of all animals: gained, kept (a loss above ``ALLOWED_LOSS`` is ruled out), lost, not shown, too
    few."""
    small, whole = native[SMALL], native["map50_95"]
    return {"small": _small(small), "native": _whole(whole)}


def _small(row: Plain) -> str:
    if not row["boxes"] or math.isnan(row["delta"]):
        return "none"
    if not is_telling(row):
        return "too few"
    return "gained" if row["low"] > 0 else "lost" if row["high"] < 0 else "not shown"


def _whole(row: Plain) -> str:
    if not is_telling(row):
        return "too few"
    if row["high"] < 0:
        return "lost"
    if row["low"] > 0:
        return "gained"
    return "kept" if row["low"] > -ALLOWED_LOSS else "not shown"


SMALL_WORDS = {
    "gained": "found better",
    "lost": "found WORSE",
    "not shown": "no difference is shown",
    "too few": "too few of them, or too few clips, to say more",
}
WHOLE_WORDS = {
    "gained": "nothing is lost, and more is found",
    "kept": f"nothing is lost (a loss of more than {ALLOWED_LOSS:g} is ruled out)",
    "lost": "something is LOST: keep the detector before",
    "not shown": f"no loss is shown, but one of more than {ALLOWED_LOSS:g} is not ruled out",
    "too few": "too few boxes or clips to say more",
}


def verdict_words(content: Plain) -> list[str]:
    """The result in sentences."""
    native = next(row for row in content["by_size"] if row["native"])
    size, found = native["size"], content["verdict"]
    small, whole = native[SMALL], native["map50_95"]
    if found["small"] == "none":
        first = f"There are no small animals in these {content['pictures']} pictures."
    else:
        first = f"Small animals at {size} pixels: mAP50-95 {_change(small)}: {SMALL_WORDS[found['small']]}."
    second = f"All animals at {size} pixels: mAP50-95 {_change(whole)}: {WHOLE_WORDS[found['native']]}."
    return [first, second, *_other_size(content, native)]


def _other_size(content: Plain, native: Plain) -> list[str]:
    """What another input size would give, where the interval shows a gain over the native size before."""
    others = [row for row in content["by_size"] if not row["native"] and is_telling(row["from_native"]["map50_95"])]
    better = [row for row in others if row["map50_95"]["after"] > native["map50_95"]["after"]]
    sure = [row for row in better if row["from_native"]["map50_95"]["low"] > 0]
    if not sure:
        return []
    best = max(sure, key=lambda row: row["map50_95"]["after"])
    change = _change(best["from_native"]["map50_95"])
    return [
        f"Used at {best['size']} pixels the new detector has mAP50-95 {change} over the one before at "
        f"{native['size']}; it costs {(best['size'] / native['size']) ** 2:.2f} times the time. Of several sizes the "
        "best is flattered by chance: confirm it on other pictures."
    ]


def _change(row: Plain) -> str:
    relative = "" if math.isnan(row["relative"]) else f", {row['relative']:+.1%}".replace("-", "−")
    return f"{row['before']:.3f} before, {row['after']:.3f} after ({interval_words(row)}{relative})"


def interval_words(row: Plain) -> str:
    """The bounds of a difference; a dash where it is undefined; that they say nothing, from too few clips or boxes."""
    if math.isnan(row["delta"]):
        return "–"
    if not is_telling(row):
        return "too few to say"
    return f"{show_signed(row['low'])} to {show_signed(row['high'])}"


def _told(content: Plain) -> Plain:
    """The content with every comparison's interval in words."""
    if "delta" in content:
        return {**content, "interval": interval_words(content)}
    told: Plain = {}
    for name, value in content.items():
        if isinstance(value, dict):
            value = _told(value)
        elif name == "by_size":
            value = [_told(row) for row in value]
        told[name] = value
    return told
