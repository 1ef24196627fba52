"""The figures of each class as lines of a terminal, from what ``eval_report.json`` holds of all pictures."""

from __future__ import annotations

from marauder.core.plain import Plain

WIDTH = 80
COLUMNS = {"n_boxes": "boxes", "precision": "precision", "recall": "recall", "ap50": "AP50", "ap50_95": "AP50-95"}


def class_lines(overall: Plain) -> list[str]:
    """A header, a line a class, and one of all classes, none longer than 80 characters.

    ``overall``: ``evaluation.metrics.Metrics.to_json`` or the same as read back; what is undefined is shown as a dash.
    """
    whole = {"name": "all", "n_boxes": overall["boxes"], "ap50": overall["map50"], "ap50_95": overall["map50_95"]}
    whole |= {name: overall[name] for name in ("precision", "recall")}
    rows = [["class", *COLUMNS.values()]]
    rows += [[row["name"], *(_cell(row[name]) for name in COLUMNS)] for row in (*overall["per_class"], whole)]
    widths = [max(len(row[place]) for row in rows) for place in range(1, len(rows[0]))]
    # Names are what differs most in length; figures always come out whole.
    room = min(max(len(row[0]) for row in rows), WIDTH - sum(widths) - 2 * len(widths))
    return [
        "  ".join([_shortened(row[0], room).ljust(room), *(cell.rjust(width) for cell, width in zip(row[1:], widths))])
        for row in rows
    ]


def _cell(value: float | None) -> str:
    if value is None or value != value:  # NaN: undefined, and null where it was read back
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _shortened(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 1]}…"
