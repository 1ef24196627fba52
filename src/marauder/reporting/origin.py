"""Where a model comes from, as tables of plain lines: data, code, machine, lineage, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from marauder.reporting.evidence import RunEvidence

Lines = list[tuple[str, str]]


def origin_tables(evidence: RunEvidence) -> list[tuple[str, Lines]]:
    """Heading and lines of each table that has any, in the report's order; the facts given come first, unnamed."""
    tables = [
        ("", [(str(name), str(value)) for name, value in evidence.facts.items()]),
        ("Data", data_lines(evidence)),
        ("Code and machine", provenance_lines(evidence)),
        ("Lineage", lineage_lines(evidence)),
        ("Files", [(f"{name}: {one.path}", f"sha256 {one.sha256}") for name, one in evidence.artifacts.items()]),
    ]
    return [(heading, lines) for heading, lines in tables if lines]


def data_lines(evidence: RunEvidence) -> Lines:
    """What the model was trained and measured on."""
    pin, notes = evidence.data, evidence.data_notes
    lines: Lines = [("Data set", notes.name), ("Description", notes.description), ("Licence", notes.licence)]
    if pin is not None:
        lines += [
            ("Source", pin.source),
            ("Version", pin.version or ""),
            ("Fingerprint", pin.fingerprint),
            ("Classes", ", ".join(pin.names)),
        ]
        lines += [
            (
                f"Split {name}" if name != "-" else "Without a split",
                f"{split.pictures:,} pictures, {split.boxes:,} boxes",
            )
            for name, split in pin.splits.items()
        ]
        lines.append(("DVC", _plain_line(pin.dvc or {})))
        lines.append(("Set aside in reading", _plain_line(pin.problems)))
    return _known(lines)


def provenance_lines(evidence: RunEvidence) -> Lines:
    """Code, container, packages, machine and seed, of the shape that ``core.provenance`` gives."""
    known = evidence.provenance
    return _known(
        [
            ("Commit", evidence.commit + (", with uncommitted changes" if evidence.commit and evidence.dirty else "")),
            ("Container", str(known.get("container_digest") or "")),
            ("Seed", "" if known.get("seed") is None else str(known["seed"])),
            ("Python", str(known.get("python") or "")),
            ("Packages", _plain_line(known.get("packages") or {})),
            ("Machine", _plain_line(known.get("hardware") or {})),
            ("Command", _plain_line(known.get("command") or [])),
        ]
    )


def lineage_lines(evidence: RunEvidence) -> Lines:
    """What it started from and what it was compared with."""
    lineage = evidence.lineage
    parent = " ".join(
        filter(None, (lineage.parent_weights, lineage.parent_sha256 and f"sha256 {lineage.parent_sha256}"))
    )
    compared = lineage.production + (f", run {lineage.production_run}" if lineage.production_run else "")
    return _known(
        [("Run", evidence.run_id), ("Started from", parent), ("Compared with", compared if lineage.production else "")]
    )


def _plain_line(value: Any) -> str:
    """Plain values in one line; empty ones left out."""
    if isinstance(value, Mapping):
        parts = ((str(name), _plain_line(one)) for name, one in value.items())
        return ", ".join(f"{name} {text}" for name, text in parts if text)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(one) for one in value)
    return "" if value is None else str(value)


def _known(lines: Lines) -> Lines:
    return [(name, text) for name, text in lines if text]
