"""The model card: what a model is for, what it was made from, how well it does and where not to trust it.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019); the front matter is that of
the Hugging Face hub. ``model_card.json`` holds the same content, from which the Markdown is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marauder.core.files import to_plain, write_json, write_text
from marauder.core.plain import Plain
from marauder.evaluation.figures import CALIBRATION_ERRORS
from marauder.gates.verdict import worst
from marauder.reporting.card_text import render_card
from marauder.reporting.caveats import caveats
from marauder.reporting.evidence import RunEvidence
from marauder.reporting.origin import data_lines, lineage_lines, provenance_lines
from marauder.reporting.slice_table import COLUMNS, Row, calibration_of, slice_rows

CARD_VERSION = "1.0"
ETHICS = (
    "The pictures may show places and species whose position should not become public: check what is published with "
    "the model.",
    "A missed animal and a false alarm have different costs. Choose the confidence for the intended use, from the "
    "curves of the report.",
    "Energy and emissions of the training were not measured, and no claim is made about them.",
)


ABSOLUTE_PATH = re.compile(
    # The place of a file as an address, or a path that is neither the rest of a relative one nor of another address.
    r"(?:(?<!\w)file:(?://[^\s/]*)?|(?<![\w.:/~-]))"
    # Folders may have blanks within their names; a blank after punctuation, or before a path, ends the path.
    r"/(?:[^\s/]+(?:(?<![,;:.)]) (?!/)[^\s/]+)*/)+[^\s/]+"
)
"""A path from the root, of two parts at least."""


def write_model_card(folder: Path, evidence: RunEvidence) -> Path:
    """Write ``model_card.md`` and ``model_card.json`` into ``folder``; returns the path of the Markdown."""
    folder = Path(folder)
    content = card_content(evidence, slice_rows(evidence))
    write_json(folder / "model_card.json", content)
    write_text(folder / "model_card.md", render_card(content))
    return folder / "model_card.md"


def card_content(evidence: RunEvidence, rows: Sequence[Row]) -> Plain:
    """The card as plain values. ``rows``: of ``slice_rows``."""
    calibration = calibration_of(evidence.result)
    use = evidence.intended_use
    content = {
        "card_version": CARD_VERSION,
        "front_matter": _front_matter(evidence),
        "title": evidence.title,
        "model_details": {
            "task": evidence.task,
            "classes": list(evidence.names),
            "licence": use.licence or None,
            "contact": use.contact or None,
            "lineage": dict(lineage_lines(evidence)),
            "provenance": dict(provenance_lines(evidence)),
            "files": {name: vars(one) for name, one in evidence.artifacts.items()},
        },
        "intended_use": {"primary": use.primary, "users": use.users, "out_of_scope": use.out_of_scope},
        "factors": [
            {"slice": row.name, "description": row.description, "protected": row.protected} for row in rows[1:]
        ],
        "metrics": {
            "confidence": evidence.result.overall.confidence,
            "names": {column.name: column.title for column in COLUMNS},
        },
        "data": {
            **dict(data_lines(evidence)),
            "Measured on": f"the split {evidence.split}" if evidence.split else "the pictures given",
        },
        "training": {"facts": dict(evidence.facts), "settings": dict(evidence.settings)},
        "results": {
            "overall": _row(rows[0]),
            "classes": evidence.result.overall.per_class,
            "slices": [_row(row) for row in rows[1:]],
            "compared_with": evidence.lineage.production or None,
        },
        "calibration": {name: getattr(calibration, name) for _, name in CALIBRATION_ERRORS},
        "latency": _latency(evidence),
        "gates": [verdict.to_json() for verdict in evidence.verdicts],
        "verdict": worst(evidence.verdicts),
        "caveats": [vars(caveat) for caveat in caveats(evidence, rows)],
        "ethical_considerations": list(ETHICS),
    }
    plain: Plain = without_places(to_plain(content))
    return plain


def without_places(content: Any) -> Any:
    """Plain values in which an absolute path is cut to its last two parts: a card goes to others, and where files lay
    on one machine tells them nothing."""
    if isinstance(content, str):
        return ABSOLUTE_PATH.sub(lambda found: "/".join(found[0].split("/")[-2:]), content)
    if isinstance(content, dict):
        return {name: without_places(value) for name, value in content.items()}
    return [without_places(value) for value in content] if isinstance(content, list) else content


def _front_matter(evidence: RunEvidence) -> Plain:
    """Fields that the Hugging Face hub reads: licence, task, tags, data set, and the headline results."""
    overall, licence = evidence.result.overall, evidence.intended_use.licence
    matter: Plain = {}
    # The hub knows licences by identifiers of one word; any other is `other` with a name of its own.
    if re.fullmatch(r"[A-Za-z0-9.\-]+", licence):
        matter["license"] = licence.lower()
    elif licence:
        matter |= {"license": "other", "license_name": licence}
    named = evidence.data.name or "unnamed"
    metrics = [
        {"type": name, "name": title, "value": round(float(getattr(overall, name)), 4)}
        for title, name in (("mAP50", "map50"), ("mAP50-95", "map50_95"), ("F1", "f1"))
        # NaN, unequal to itself, is left out: an undefined figure is no result.
        if getattr(overall, name) == getattr(overall, name)
    ]
    task = {"type": evidence.task.replace(" ", "-"), "name": evidence.task}
    data = {"type": named, "name": named, **({"split": evidence.split} if evidence.split else {})}
    result = {"task": task, "dataset": data, "metrics": metrics}
    return {
        **matter,
        "library_name": "marauder",
        "pipeline_tag": evidence.task.replace(" ", "-"),
        "tags": ["marauder", evidence.task.replace(" ", "-"), *([evidence.project] if evidence.project else [])],
        "model-index": [{"name": evidence.run_id or evidence.title, "results": [result]}],
    }


def _row(row: Row) -> Plain:
    """A slice's numbers, with intervals and differences where there are any."""
    cells = {
        cell.column.name: {
            "value": cell.value,
            "interval": [cell.interval.low, cell.interval.high] if cell.interval is not None else None,
            "change": vars(cell.change) if cell.change is not None else None,
        }
        for cell in row.cells
    }
    return {
        "name": "all pictures" if row.whole else row.name,
        **{name: getattr(row, name) for name in ("protected", "pictures", "boxes", "groups", "small")},
        "metrics": cells,
    }


def _latency(evidence: RunEvidence) -> Plain | None:
    if evidence.latency is None:
        return None
    return {**vars(evidence.latency), "formats": {name: vars(one) for name, one in evidence.latency.formats.items()}}
