"""What people rather look at: the members and the ensemble side by side, with their intervals and what each adds."""

from __future__ import annotations

import math

from marauder.core.plain import Plain
from marauder.pages.canvas import ACCENT, BAD, GOOD, INK, MUTED, make_figure, shorten, style_axes, to_png


def members_figure(content: Plain) -> bytes:
    """PNG of a report's figures: the metric of each kept member and of the ensemble, and what each member adds."""
    kept = [one for one in content["members"] if one["kept"]]
    whole = content["measured"]["ensemble"]["interval"]
    figure = make_figure(8.6, 1.3 + 0.34 * (len(kept) + 1))
    left, right = figure.subplots(1, 2, sharey=True)
    names = [*(shorten(one["name"], 28) for one in kept), "the ensemble"]
    for place, one in enumerate([*(one["alone"]["interval"] for one in kept), whole]):
        color = ACCENT if place == len(kept) else MUTED
        left.plot(_bounds(one), [place, place], color=color, linewidth=2)
        left.plot([one["value"]], [place], "o", color=color, markersize=6)
    style_axes(left, f"{content['metric']} on {content['measured']['split']}, 95 %")
    left.set_yticks(range(len(names)), names, color=INK)
    left.invert_yaxis()
    for place, one in enumerate(kept):
        adds = one["adds"]
        color = {"better": GOOD, "worse": BAD}.get(adds["verdict"], MUTED)
        right.plot(_bounds(adds), [place, place], color=color, linewidth=2)
        right.plot([adds["delta"]], [place], "o", color=color, markersize=6)
    right.axvline(0.0, color=INK, linewidth=0.8)
    style_axes(right, "what each member adds, 95 %")
    return to_png(figure)


def _bounds(one: Plain) -> list[float]:
    return [math.nan if value is None else value for value in (one["low"], one["high"])]
