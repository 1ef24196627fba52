"""``eval_report.json``: all numbers of a run for programs, in the form that ``eval_report.schema.json`` describes.

The schema (JSON Schema 2020-12) is part of the package and carries a version: a reader that knows version 1 can read
every ``schema_version`` that starts with "1.": later ones only add keys.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from marauder.core.files import to_plain
from marauder.core.plain import Plain, PlainMapping
from marauder.evaluation.intervals import Interval
from marauder.evaluation.metrics import Metrics
from marauder.evaluation.outcomes import PictureOutcome
from marauder.evaluation.roc import presence_curves
from marauder.gates.outcome import withheld
from marauder.gates.verdict import worst
from marauder.reporting.caveats import Caveat
from marauder.reporting.evidence import RunEvidence
from marauder.reporting.gallery import slice_outcomes, worst_pictures
from marauder.reporting.render import Matrix
from marauder.reporting.slice_table import Change, Row, calibration_of

SCHEMA_VERSION = "1.1"
WORST_LISTED, WORST_OF_SLICE_LISTED = 50, 10


def schema() -> Plain:
    """The published JSON Schema of ``eval_report.json``."""
    content: Plain = json.loads(
        files("marauder.reporting").joinpath("eval_report.schema.json").read_text(encoding="utf-8")
    )
    return content


def report_content(
    evidence: RunEvidence,
    rows: Sequence[Row],
    found: Sequence[Caveat],
    outcomes: Sequence[PictureOutcome],
    confusion: np.ndarray,
    matrices: Sequence[Matrix],
) -> Plain:
    """Plain values of the report; what is not a finite number is ``None``."""
    overall = evidence.result.overall
    labels = [*evidence.names, "background"]
    whole, parts = rows[0], rows[1:]
    interval = evidence.intervals.get("map50")
    content = {
        "schema_version": SCHEMA_VERSION,
        "title": evidence.title,
        "task": evidence.task,
        "project": evidence.project or None,
        "run_id": evidence.run_id or None,
        "created": evidence.provenance.created or None,
        "split": evidence.split or None,
        "classes": list(evidence.names),
        "verdict": worst(evidence.verdicts),
        "gates": [verdict.to_json() for verdict in evidence.verdicts],
        "overall": _measured(whole, overall),
        "slices": {row.name: _slice(row) for row in parts},
        "map50_interval": _interval(interval) if interval is not None else None,
        "comparison": evidence.comparison.to_json() if evidence.comparison is not None else None,
        "calibration": calibration_of(evidence.result).to_json(),
        "presence": [curve.to_json() for curve in presence_curves(evidence.result.matches)],
        "confusion_matrix": {"labels": labels, "rows": "true", "counts": confusion},
        "confusion_by_slice": {one.name: {"labels": labels, "rows": "true", "counts": one.counts} for one in matrices},
        "worst_pictures": worst_pictures(evidence.records, dict(enumerate(outcomes)), WORST_LISTED),
        "worst_pictures_by_slice": {row.name: _worst_of_slice(evidence, row.name) for row in parts},
        "latency": _latency(evidence),
        "caveats": [vars(caveat) for caveat in found],
        "facts": dict(evidence.facts),
        "data": vars(evidence.data),
        "provenance": vars(evidence.provenance),
        "lineage": vars(evidence.lineage),
        "settings": dict(evidence.settings),
        "artifacts": {name: vars(one) for name, one in evidence.artifacts.items()},
        "what_next": " ".join(map(str, evidence.advice)),
        "advice": [vars(one) for one in evidence.advice],
        "withheld": withheld(evidence.verdicts) or None,
        "map50_on_val": evidence.on_val,
    }
    plain: Plain = to_plain(content)
    return plain


def _measured(row: Row, metrics: Metrics) -> Plain:
    """The numbers of a row, with its intervals and what changed against production, by metric."""
    return {
        **metrics.to_json(),
        "d_ece": row.value("d_ece"),
        "groups": row.groups,
        "intervals": {cell.column.name: _interval(cell.interval) for cell in row.cells if cell.interval is not None},
        "changes": {cell.column.name: _change(cell.change) for cell in row.cells if cell.change is not None},
    }


def _slice(row: Row) -> Plain:
    return {**_measured(row, row.metrics), "protected": row.protected, "description": row.description}


def _interval(interval: Interval) -> Plain:
    return vars(interval)


def _change(change: Change) -> Plain:
    return vars(change)


def _worst_of_slice(evidence: RunEvidence, name: str) -> list[PlainMapping]:
    places, outcomes = slice_outcomes(evidence.result, name)
    by_place = {int(place): outcome for place, outcome in zip(places, outcomes, strict=True)}
    return list(worst_pictures(evidence.records, by_place, WORST_OF_SLICE_LISTED))


def _latency(evidence: RunEvidence) -> Plain | None:
    if evidence.latency is None:
        return None
    formats = {name: dict(vars(one)) for name, one in evidence.latency.formats.items()}
    return {**vars(evidence.latency), "formats": formats}
