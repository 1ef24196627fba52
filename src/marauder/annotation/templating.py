"""The pages of step 4 are Jinja templates in ``templates/``; everything that is put into one is escaped."""

from __future__ import annotations

import json
import math
from typing import Any

from marauder.core.files import to_plain


def environment() -> Any:
    """The Jinja environment of these pages (jinja2.Environment)."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("marauder.annotation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = lambda value: "–" if value is None or math.isnan(value) else f"{value:.2f}"
    made.filters["percent"] = lambda value: "–" if value is None or math.isnan(value) else f"{value:.0%}"
    # Inside <script type="application/json"> nothing may end the element.
    made.filters["embedded"] = lambda value: Markup(
        json.dumps(to_plain(value), ensure_ascii=True).replace("<", "\\u003c").replace("&", "\\u0026")
    )
    return made
