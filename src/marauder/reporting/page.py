"""The report of an evaluation: one HTML file with its pictures inside, readable offline and without scripts."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from marauder.core.files import write_text
from marauder.evaluation.canvas import show_confidence
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.intervals import Interval
from marauder.evaluation.matching import AREA_NAMES
from marauder.evaluation.metrics import Metrics, defined_mean


@dataclass(frozen=True)
class ReportFigure:
    """A picture of the report: PNG bytes, what it is called, and how to read it."""

    title: str
    caption: str
    png: bytes


def write_report(
    path: Path | str,
    *,
    title: str,
    result: EvaluationResult,
    facts: Mapping[str, str],
    figures: Sequence[ReportFigure] = (),
    sheet: bytes | None = None,
    interval: Interval | None = None,
    what_next: str = "",
) -> Path:
    """Write the report atomically and return its path.

    ``facts``: how the result was made (settings, fingerprint of the data, environment), shown in this order.
    ``sheet``: PNG of ``sheet.predictions_sheet``. ``interval``: of mAP50, shown with it. All text is escaped.
    """
    target = Path(path)
    page = render_report(title, result, facts, figures, sheet, interval, what_next)
    write_text(target, page)
    return target


def render_report(
    title: str,
    result: EvaluationResult,
    facts: Mapping[str, str],
    figures: Sequence[ReportFigure],
    sheet: bytes | None,
    interval: Interval | None,
    what_next: str,
) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": show_number,
        "share": show_share,
        "confidence": show_confidence,
        "commands": mark_commands,
    }
    template = environment.from_string(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        overall=result.overall,
        tiles=headline(result.overall, interval),
        what_next=what_next.strip(),
        sheet=embed_photograph(sheet) if sheet is not None else "",
        sizes=sizes(result.overall),
        slices=list(result.slices.items()),
        figures=[
            {"title": figure.title, "caption": figure.caption, "source": embed_png(figure.png)} for figure in figures
        ],
        facts=list(facts.items()),
    )


def headline(overall: Metrics, interval: Interval | None) -> list[dict[str, str]]:
    """The figures at the top."""
    note = "IoU 0.5"
    if interval is not None and not math.isnan(interval.low):
        note = f"{interval.low:.3f} to {interval.high:.3f} ({interval.level:.0%}, {interval.groups} groups)"
    at = f"at confidence {show_confidence(overall.confidence)}"
    return [
        {"label": "mAP50", "value": show_number(overall.map50), "note": note},
        {"label": "mAP50-95", "value": show_number(overall.map50_95), "note": "mean of ten IoU thresholds"},
        {"label": "precision", "value": show_number(overall.precision), "note": at},
        {"label": "recall", "value": show_number(overall.recall), "note": at},
        {"label": "F1", "value": show_number(overall.f1), "note": at},
    ]


def sizes(overall: Metrics) -> list[dict[str, Any]]:
    """A row for each range of box areas."""
    return [
        {
            "name": name,
            "boxes": int(overall.boxes_of[area].sum()),
            "ap": defined_mean(overall.ap[area]),
            "recall": defined_mean(overall.recall_reached[area]),
        }
        for area, name in enumerate(AREA_NAMES)
    ]


def show_number(value: float) -> str:
    """Three decimals, or a dash for what is undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def mark_commands(text: str) -> Markup:
    """``text`` as HTML, escaped, with what stands between backticks set as commands."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def show_share(value: float) -> str:
    """A share of 1 as a percentage for the bars."""
    return "0%" if math.isnan(value) else f"{100 * min(max(value, 0.0), 1.0):.1f}%"


def embed_png(content: bytes) -> str:
    """A PNG as a data address."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def embed_photograph(png: bytes) -> str:
    """A PNG of photographs as a JPEG data address, a fifth of the size."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as opened:
        opened.convert("RGB").save(buffer, format="JPEG", quality=86, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
