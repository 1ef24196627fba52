"""Where a model comes from, as tables of plain lines: data, code, machine, lineage, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from marauder.core.plain import PlainMapping
from marauder.reporting.evidence import Artifact, DataPin, Lineage, Provenance

Lines = list[tuple[str, str]]


class Origin(Protocol):
    """What these tables need of a run's evidence."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Further lines."""

    @property
    def data(self) -> DataPin:
        """The data it was made from."""

    @property
    def provenance(self) -> Provenance:
        """Code and machine."""

    @property
    def lineage(self) -> Lineage:
        """Where it came from."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def artifacts(self) -> Mapping[str, Artifact]:
        """Its files."""


def origin_tables(evidence: Origin) -> list[tuple[str, Lines]]:
    """Heading and lines of each table that has any, in the report's order; the facts given come first, unnamed."""
    tables = [
        ("", [(str(name), str(value)) for name, value in evidence.facts.items()]),
        ("Data", data_lines(evidence)),
        ("Code and machine", provenance_lines(evidence)),
        ("Lineage", lineage_lines(evidence)),
        ("Files", [(f"{name}: {one.path}", f"sha256 {one.sha256}") for name, one in evidence.artifacts.items()]),
    ]
    return [(heading, lines) for heading, lines in tables if lines]


def data_lines(evidence: Origin) -> Lines:
    """What the model was trained and measured on."""
    pin = evidence.data
    lines: Lines = [
        ("Data set", pin.name),
        ("Description", pin.description),
        ("Licence", pin.licence),
        ("Version", pin.version),
        ("Fingerprint", pin.fingerprint),
        ("Classes", ", ".join(evidence.names)),
    ]
    for name, pictures in pin.splits.items():
        boxes = f", {pin.boxes[name]:,} boxes" if name in pin.boxes else ""
        lines.append(("Without a split" if name == "-" else f"Split {name}", f"{pictures:,} pictures{boxes}"))
    return _known([*lines, ("DVC", _plain_line(pin.dvc))])


def provenance_lines(evidence: Origin) -> Lines:
    """Code, container, packages, machine and seed."""
    known = evidence.provenance
    return _known(
        [
            ("Commit", known.git_sha + (", with uncommitted changes" if known.git_sha and known.git_dirty else "")),
            ("Container", known.container_digest),
            ("Seed", "" if known.seed is None else str(known.seed)),
            ("Packages", _plain_line(known.packages)),
            ("Machine", _plain_line(known.hardware)),
            ("Started", known.created),
        ]
    )


def lineage_lines(evidence: Origin) -> Lines:
    """What it started from and what it was compared with."""
    lineage = evidence.lineage
    compared = lineage.production + (f", run {lineage.production_run}" if lineage.production_run else "")
    return _known(
        [
            ("Run", evidence.run_id),
            ("Started from", _hashed(lineage.parent_weights, lineage.parent_sha256)),
            ("Backbone from", _hashed(lineage.parent_backbone, lineage.parent_backbone_sha256)),
            ("Compared with", compared if lineage.production else ""),
        ]
    )


def _hashed(name: str, sha256: str) -> str:
    return " ".join(filter(None, (name, sha256 and f"sha256 {sha256}")))


def _plain_line(values: PlainMapping) -> str:
    """Plain values in one line; empty ones left out."""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, "", [], {}))


def _known(lines: Lines) -> Lines:
    return [(name, text) for name, text in lines if text]
