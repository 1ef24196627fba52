"""The figures of each class as lines of a terminal, from what ``eval_report.json`` holds of all pictures."""

from __future__ import annotations

from collections.abc import Sequence

from marauder.core.metrics import Metric
from marauder.core.plain import Plain
from marauder.core.text_table import GAP, table_lines

WIDTH = 80
COLUMNS = {"n_boxes": "boxes", "precision": "precision", "recall": "recall", "ap50": "AP50", "ap50_95": "AP50-95"}

OF_ALL = {"n_boxes": "boxes", "ap50": "map50", "ap50_95": "map50_95"}
"""What a column is called among the figures of all classes together, where it is called otherwise."""


def class_lines(overall: Plain, metrics: Sequence[Metric] = ()) -> list[str]:
    """A header, a line a class, and one of all classes, none longer than 80 characters.

    ``overall``: ``evaluation.metrics.Metrics.to_json`` or the same as read back; what is undefined is shown as a dash.
    ``metrics``: of the task; where it has not detection's figures, the columns are its own by class. Empty: there are
    none.
    """
    classes = [row for row in overall.get("per_class", ()) if "name" in row]
    columns = {metric.name: metric.title for metric in metrics if metric.per_class}
    if all(name in row for row in classes for name in COLUMNS):
        columns = COLUMNS
    columns = {name: title for name, title in columns.items() if all(name in row for row in classes)}
    if "per_class" not in overall or not columns:
        return []
    whole = {"name": "all", **{name: overall.get(OF_ALL.get(name, name)) for name in columns}}
    header, rows = ["class", *columns.values()], []
    for row in (*classes, whole):
        rows.append([row["name"], *(_cell(row[name]) for name in columns)])
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(1, len(header))]
    # Names are what differs most in length; figures always come out whole.
    room = WIDTH - sum(widths) - len(GAP) * len(widths)
    return table_lines(header, [[_shortened(row[0], room), *row[1:]] for row in rows], range(1, len(header)))


def nothing_found(overall: Plain) -> str:
    """Why the precision of all classes is a dash, in a line; empty: it is none, or there is nothing to be found."""
    rows, at = overall.get("per_class", ()), overall.get("confidence")
    if at is None or overall.get("recall") != 0 or any(_cell(row.get("precision")) != "–" for row in rows):
        return ""
    return f"no detection is above the operating confidence ({at:.3g})"


def _cell(value: float | None) -> str:
    if value is None or value != value:  # NaN: undefined, and null where it was read back
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _shortened(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 1]}…"
