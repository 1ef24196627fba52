"""HTML pages from the templates in ``templates/<package>/``: one file each that is read offline and printed.

A page extends ``base.html``, takes its rules from ``style.css`` and holds its pictures inside. Everything put into one
is escaped. No page runs scripts, except the one in which people decide about boxes.
"""

from __future__ import annotations

import base64
import json
import math
from functools import cache
from typing import TYPE_CHECKING, Any

from marauder.core.files import to_plain
from marauder.core.wording import counted
from marauder.pages.canvas import shorten, show_confidence
from marauder.pages.showing import (
    HIGH,
    MIDDLE,
    mark_commands,
    mix_colors,
    shade_color,
    show_milliseconds,
    show_number,
    show_percent,
    show_share,
    show_signed,
    show_two_decimals,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SIGNATURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"<svg": "svg+xml", b"<?xml": "svg+xml"}
"""How a file of each kind of picture begins."""


def render_page(template: str, **content: Any) -> str:
    """The page as text. ``template``: its place below ``templates/``, such as ``selection/report.html``.

    Raises ``jinja2.UndefinedError`` where the template asks for a value that ``content`` lacks.
    """
    return _environment().get_template(template).render(**content)


def embed_picture(content: bytes) -> str:
    """A PNG, JPEG or SVG as a data address, for ``src`` and ``href``. Raises ``ValueError`` for anything else."""
    for start, kind in SIGNATURES.items():
        if content.startswith(start):
            return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    raise ValueError(f"neither PNG, JPEG nor SVG: begins with {content[:8]!r}")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("marauder.pages", "templates"),
        # For every template: by default jinja2 escapes nothing, and names of files and classes come from outside.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "commands": mark_commands,
        "confidence": show_confidence,
        "count": "{:,}".format,
        "counted": counted,
        "defined_number": lambda value: value is not None and not math.isnan(value),
        "embedded": _embed_json,
        "milliseconds": show_milliseconds,
        "number": show_number,
        "percent": show_percent,
        "shade": shade_color,
        "share": show_share,
        "shorten": shorten,
        "signed": show_signed,
        "tint": lambda share: mix_colors(MIDDLE, HIGH, math.sqrt(share)),
        "two_decimals": show_two_decimals,
    }
    return environment


def _embed_json(value: Any) -> Markup:
    """Plain values for ``<script type="application/json">``, in which nothing may end the element."""
    from markupsafe import Markup

    text = json.dumps(to_plain(value), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))
