"""The report page: one HTML file with its pictures inside, readable offline and without scripts, also on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.core.plain import Plain, PlainMapping
from marauder.core.wording import counted
from marauder.evaluation.matching import AREA_NAMES
from marauder.evaluation.metrics import Metrics, defined_mean
from marauder.gates.verdict import Answer, Phase, Verdict, worst
from marauder.pages.canvas import show_confidence
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import (
    shade_color,
    show_any,
    show_milliseconds,
    show_number,
    show_plain,
    show_signed,
)
from marauder.reporting.caveats import Caveat
from marauder.reporting.evidence import RunEvidence
from marauder.reporting.gallery import Gallery, Tile
from marauder.reporting.origin import origin_tables
from marauder.reporting.slice_table import COLUMNS, FEW_BOXES, FEW_GROUPS, SIGNIFICANT, Row

ROWS_SHOWN = 40
"""Slices beyond this many fold away."""
LARGEST_MATRIX = 25
"""With more classes only the largest mix-ups of a confusion matrix are shown."""
MIXUPS_SHOWN = 15
TILE_SIZE, LABEL_PIXELS = (255, 340), 11
"""About how many pixels wide and high a picture of an album is shown at most (style.css), and its labels."""
PHASES: dict[Phase, str] = {
    "before": "before training",
    "during": "during training",
    "epoch": "after each epoch",
    "end": "at the end",
}
MARKS: dict[Answer, str] = {"pass": "✓", "warn": "!", "fail": "✗", "off": "–"}


@dataclass(frozen=True)
class ReportFigure:
    """A picture of the report: PNG bytes, what it is called, and how to read it."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True, eq=False)
class Matrix:
    """A confusion matrix of a slice: counts (K + 1, K + 1), background last."""

    name: str
    counts: np.ndarray


def render_report(
    evidence: RunEvidence,
    rows: Sequence[Row],
    found: Sequence[Caveat],
    gallery: Gallery,
    figures: Sequence[ReportFigure],
    matrices: Sequence[Matrix],
) -> str:
    """The page as text. ``rows``: of ``slice_rows``; ``found``: what to be careful about; all text is escaped."""
    overall = evidence.result.overall
    context = {
        "title": evidence.title,
        "subtitle": _subtitle(evidence),
        "overall": overall,
        "gates": [gate_row(verdict) for verdict in evidence.verdicts],
        "banner": gates_banner(evidence.verdicts),
        "tiles": headline(evidence, rows[0]),
        "advice": evidence.advice,
        "sheets": evidence.sheets,
        "caveats": found,
        "slices": _slices(evidence, rows),
        "gallery": _gallery(gallery, {row.name for row in rows if row.protected}),
        "sizes": sizes(overall),
        "figures": [{"title": one.title, "caption": one.caption, "source": embed_picture(one.png)} for one in figures],
        "matrices": [_matrix(one, [*evidence.names, "background"]) for one in matrices],
        "latency": _latency(evidence),
        "origin": origin_tables(evidence),
        "settings": show_plain(evidence.settings) if evidence.settings else "",
    }
    return render_page("reporting/report.html", **context, sections=_sections(context))


def _sections(context: PlainMapping) -> list[tuple[str, str]]:
    """Anchors and names of the sections that are there."""
    gallery = context["gallery"]
    offered = [
        ("gates", "Gates", bool(context["gates"])),
        ("caveats", "Read with care", bool(context["caveats"])),
        ("slices", "Slices", len(context["slices"]["rows"]) > 1),
        ("labels", "Labels", bool(gallery["labelled"])),
        ("pictures", "Pictures", bool(gallery["worst"] or gallery["best"])),
        ("worst", "Worst of each slice", any(section["tiles"] for section in gallery["sections"])),
        ("classes", "Classes", True),
        ("curves", "Curves", True),
        ("confusion", "Confusion by slice", bool(context["matrices"])),
        ("latency", "Latency", context["latency"] is not None),
        ("origin", "How it was made", True),
    ]
    return [(anchor, name) for anchor, name, there in offered if there]


def _subtitle(evidence: RunEvidence) -> str:
    overall, count = evidence.result.overall, len(evidence.names)
    split = f" of the split {evidence.split}" if evidence.split else ""
    pictures, boxes = counted(overall.pictures, "picture"), counted(overall.boxes, "box", "boxes")
    parts = [f"{pictures}{split}, {boxes}, {counted(count, 'class', 'classes')}"]
    named = (("project", evidence.project), ("run", evidence.run_id), ("", evidence.provenance.created))
    parts += [f"{label} {value}".strip() for label, value in named if value]
    return " · ".join(parts)


def gates_banner(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """One sentence on top: what the gates say together; green (``pass``) only where every essential gate passed."""
    answer = worst(verdicts)
    named = {one: [verdict.gate for verdict in verdicts if verdict.answer == one] for one in MARKS}
    unlearned = [one for one in verdicts if one.essential and one.answer == "warn"]
    learned = {one.answer for one in verdicts if one.essential} == {"pass"}
    passed = f"{len(named['pass'])} of {len(verdicts)} checks passed"
    if named["off"]:
        passed += f", {len(named['off'])} {'was' if len(named['off']) == 1 else 'were'} not run"
    heading = {
        "pass": "All gates passed" if learned and not named["off"] else passed,
        # What the gate found, such as "has not learned yet", says more than that there are warnings.
        "warn": unlearned[0].evidence.get("finding", unlearned[0].why) if unlearned else "Passed, with warnings",
        "fail": "Did not pass its gates",
        "off": "No gate was run",
    }[answer]
    if answer == "pass" and not learned:
        answer, heading = "off", f"{heading}; whether it learned anything was not checked"
    heading = f"{MARKS[answer]} {heading[:1].upper()}{heading[1:]}"
    words = (("fail", "failed"), ("warn", "warned"), ("pass", "passed"), ("off", "not run"))
    text = "; ".join(f"{word}: {', '.join(named[one])}" for one, word in words if named[one])  # type: ignore[index]
    return {"answer": answer, "heading": heading, "text": text[:1].upper() + text[1:] + ("." if text else "")}


def gate_row(verdict: Verdict) -> Plain:
    """A gate's verdict as the page's table takes it."""
    return {
        "name": verdict.gate,
        "phase": PHASES[verdict.phase],
        "answer": verdict.answer,
        "mark": MARKS[verdict.answer],
        "value": show_any(verdict.value),
        "limit": show_any(verdict.limit),
        "why": verdict.why,
        "evidence": show_plain(verdict.evidence) if verdict.evidence else "",
    }


def headline(evidence: RunEvidence, whole: Row) -> list[Plain]:
    """The figures at the top: value, interval, and difference from production."""
    at = f"at confidence {show_confidence(evidence.result.overall.confidence)}"
    notes = {"map50": "IoU 0.5", "map50_95": "IoU 0.5 to 0.95", "d_ece": "calibration error, low is good"}
    tiles = []
    for cell in whole.cells:
        lines = []
        interval = cell.interval
        if interval is not None and not math.isnan(interval.low):
            lines.append(f"{interval.low:.3f} to {interval.high:.3f} ({interval.level:.0%}, {interval.groups} groups)")
        lines.append(notes.get(cell.column.name, at))
        if cell.change is not None:
            sure = {True: ", more than noise", False: ", within noise", None: ""}[cell.change.significant]
            lines.append(f"{show_signed(cell.change.delta)} against production{sure}")
        tiles.append({"label": cell.column.title, "value": show_number(cell.value), "notes": lines})
        if cell.column.name == "map50" and not math.isnan(evidence.on_val):
            above = interval is not None and evidence.on_val > interval.high
            lines = ["of the same weights", *([f"above the interval on {evidence.split}"] if above else [])]
            tiles.append({"label": "mAP50 on val", "value": show_number(evidence.on_val), "notes": lines})
    if evidence.latency is not None and evidence.latency.formats:
        name, timing = min(evidence.latency.formats.items(), key=lambda item: item[1].p50)
        lines = [f"p95 {show_milliseconds(timing.p95)} ms", f"{name}, fastest format"]
        tiles.append({"label": "latency p50", "value": f"{show_milliseconds(timing.p50)} ms", "notes": lines})
    return tiles


def _slices(evidence: RunEvidence, rows: Sequence[Row]) -> Plain:
    comparison = evidence.comparison
    # Protected slices come first and never fold away.
    shown = max(ROWS_SHOWN, 1 + sum(row.protected for row in rows))
    titles = {column.name: column.title for column in COLUMNS}
    return {
        "rows": [_titled(row) for row in rows[:shown]],
        "rest": [_titled(row) for row in rows[shown:]],
        "columns": COLUMNS,
        "changes": any(cell.change for row in rows for cell in row.cells),
        "intervals": any(cell.interval for row in rows for cell in row.cells),
        "production": f"version {name} in production" if (name := evidence.lineage.production) else "production",
        "tested": titles.get(comparison.metric, comparison.metric) if comparison is not None else "",
        "alpha": SIGNIFICANT,
        "few_boxes": FEW_BOXES,
        "few_groups": FEW_GROUPS,
        "ramp": ", ".join(shade_color(float(step)) for step in np.linspace(-1, 1, 7)),
    }


def _titled(row: Row) -> Plain:
    fields = ("protected", "description", "pictures", "boxes", "groups", "cells", "small", "whole")
    return {"name": "all pictures" if row.whole else row.name} | {name: getattr(row, name) for name in fields}


def _gallery(gallery: Gallery, protected: set[str]) -> Plain:
    shown = gallery.shown
    return {
        "worst": [_tile(tile) for tile in gallery.worst],
        "best": [_tile(tile) for tile in gallery.best],
        "labelled": [_tile(tile) for tile in gallery.labelled],
        "sections": [
            {
                "name": section.name,
                "protected": section.name in protected,
                "failing": section.failing,
                "tiles": [_tile(tile) for tile in section.tiles],
            }
            for section in gallery.sections
        ],
        "sources": gallery.photos,
        "photos": [(number, source) for number, source in gallery.photos.items() if source and number in shown],
        "full": gallery.full,
    }


def _tile(tile: Tile) -> Plain:
    """A tile with its labels placed: over the box, or inside it where it touches the picture's edge; a label that would
    cover another is left to the pointer."""
    text = LABEL_PIXELS * max(tile.width / TILE_SIZE[0], tile.height / TILE_SIZE[1])
    placed: list[tuple[float, float, float]] = []
    marks = []
    for mark in tile.marks:
        # Letters are about 0.6 times as wide as they are high; nobody here knows the reader's font.
        long = 0.6 * text * len(mark.text)
        left = min(max(mark.x, 0.0), max(tile.width - long, 0.0))
        edge = mark.y + mark.height
        if mark.kind == "missed":
            base = edge + text if edge + 1.3 * text < tile.height else edge - 0.3 * text
        else:
            base = mark.y - 0.3 * text if mark.y > 1.3 * text else mark.y + text
        free = all(abs(base - other[2]) >= text or left > other[1] or left + long < other[0] for other in placed)
        if mark.named and free:
            placed.append((left, left + long, base))
        box = {name: getattr(mark, name) for name in ("kind", "x", "y", "width", "height", "text")}
        marks.append({**box, "named": mark.named and free, "left": round(left, 1), "base": round(base, 1)})
    fields = ("photo", "key", "width", "height", "found", "missed", "false", "undrawn")
    return {name: getattr(tile, name) for name in fields} | {"marks": marks, "text": round(text, 1)}


def _matrix(matrix: Matrix, labels: Sequence[str]) -> Plain:
    counts = matrix.counts
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    last = len(labels) - 1
    # Classes that occur nowhere in the slice would only make the matrix wide; background always stays.
    rows = [index for index in range(len(labels)) if index == last or counts[index].any()]
    columns = [index for index in range(len(labels)) if index == last or counts[:, index].any()]
    if max(len(rows), len(columns)) <= LARGEST_MATRIX + 1:
        lines = [
            {
                "label": labels[row],
                "cells": [{"count": int(counts[row, column]), "share": shares[row, column]} for column in columns],
            }
            for row in rows
        ]
        return {"name": matrix.name, "labels": [labels[column] for column in columns], "rows": lines}
    apart = counts.copy()
    np.fill_diagonal(apart, 0)
    order = np.argsort(-apart, axis=None, kind="stable")[:MIXUPS_SHOWN]
    places = [divmod(int(place), len(labels)) for place in order]
    mixups = [
        {"true": labels[true], "predicted": labels[seen], "count": int(apart[true, seen]), "share": shares[true, seen]}
        for true, seen in places
        if apart[true, seen]
    ]
    return {"name": matrix.name, "labels": labels, "rows": [], "mixups": mixups}


def _latency(evidence: RunEvidence) -> Plain | None:
    figures = evidence.latency
    if figures is None:
        return None
    about = [f"Measured on {figures.machine}"]
    if figures.threads is not None:
        about.append(f"{figures.threads} {'thread' if figures.threads == 1 else 'threads'}")
    about.append(f"batches of {figures.batch}")
    if figures.height and figures.width:
        about.append(f"{figures.width} × {figures.height} pixels")
    rows = [
        {"name": name, "p50": one.p50, "p95": one.p95, "throughput": one.throughput}
        for name, one in sorted(figures.formats.items(), key=lambda item: item[1].p50)
    ]
    return {"about": f"{', '.join(about)}.", "rows": rows}


def sizes(overall: Metrics) -> list[Plain]:
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
