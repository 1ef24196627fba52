"""Numbers, colours and texts as pages and model cards show them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from markupsafe import Markup, escape

from marauder.core.files import to_plain
from marauder.pages.canvas import HEAT_COLORS

EVIDENCE_CHARACTERS = 4000
LOW, MIDDLE, HIGH = (tuple(bytes.fromhex(color[1:])) for color in HEAT_COLORS)


def show_number(value: float) -> str:
    """Three decimals, or a dash for what is undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def show_signed(value: float) -> str:
    """Three decimals with a sign, a real minus; 0.000 without one; a dash for what is undefined."""
    if math.isnan(value):
        return "–"
    # What rounds to nothing would be shown as −0.000.
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def show_two_decimals(value: float | None) -> str:
    """Two decimals, or a dash for what is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def show_percent(value: float | None) -> str:
    """A share of 1 as whole per cent, or a dash for what is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.0%}"


def show_milliseconds(value: float | None) -> str:
    """Three significant digits, or a dash for what was not measured."""
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show_any(value: float | str | None) -> str:
    """A verdict's value or limit: four significant digits, text as it is, a dash for none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_plain(value: Any) -> str:
    """Plain values as indented text, cut where it would fill pages."""
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=False)
    return (
        text
        if len(text) <= EVIDENCE_CHARACTERS
        else f"{text[:EVIDENCE_CHARACTERS]}\n… (the rest is in eval_report.json)"
    )


def mark_commands(text: str) -> Markup:
    """``text`` as HTML, escaped, with what is between backticks set as commands."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def show_share(value: float) -> str:
    """A share of 1 as a percentage for the bars."""
    return "0%" if math.isnan(value) else f"{100 * min(max(value, 0.0), 1.0):.1f}%"


def begin_sentence(text: str) -> str:
    """``text`` with a capital, unless it begins with the name of a file."""
    return text if "." in text.split(" ")[0] else text[:1].upper() + text[1:]


def shade_color(shade: float) -> str:
    """The colour of a cell from -1 (worst) to 1 (best)."""
    return mix_colors(MIDDLE, HIGH if shade > 0 else LOW, min(1.0, abs(shade)))


def mix_colors(start: tuple[int, ...], end: tuple[int, ...], share: float) -> str:
    """The colour at ``share`` (0..1) of the way between two."""
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(start, end, strict=True))
