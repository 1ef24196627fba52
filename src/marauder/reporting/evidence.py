"""Everything a finished run can say of itself: the one input of the report, of ``eval_report.json`` and of the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marauder.data.manifests.pinning import DataPin
from marauder.data.records import Detections, Record
from marauder.evaluation.comparison import Comparison
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.intervals import Interval
from marauder.gates.verdict import Verdict


@dataclass(frozen=True)
class DataNotes:
    """What people say of the data, beside what its pin proves. Empty: not told."""

    name: str = ""
    description: str = ""
    licence: str = ""


@dataclass(frozen=True)
class FormatLatency:
    """Milliseconds of one call (median and 95th percentile) and pictures a second of one exported file."""

    p50: float
    p95: float
    throughput: float | None = None


@dataclass(frozen=True)
class LatencyFigures:
    """Latency by format on one declared machine, with the input it was measured on."""

    machine: str
    formats: Mapping[str, FormatLatency]
    batch: int = 1
    height: int | None = None
    width: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Artifact:
    """A file of the run: its path relative to the run's folder, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Lineage:
    """What a run came from: the weights it started with (name and SHA-256) and the version it was compared with."""

    parent_weights: str = ""
    parent_sha256: str = ""
    production: str = ""
    production_run: str = ""


@dataclass(frozen=True)
class IntendedUse:
    """What the model is for, in the words of its settings; the defaults claim no more than any detector here may."""

    primary: str = (
        "Finding and naming the listed classes in pictures like those it was trained on, as a help to people who "
        "review what it finds."
    )
    users: str = "People who train, judge and run detectors with this project."
    out_of_scope: str = (
        "Decisions without human review; classes that are not listed; cameras, places and conditions that the data "
        "below does not show; counts or sizes of animals without a calibration of their own."
    )
    licence: str = ""
    contact: str = ""


@dataclass(frozen=True, eq=False)
class RunEvidence:
    """What a run leaves to be judged by people; whatever is not known stays at its default and is told as unknown.

    ``result`` was made from ``records`` and ``detections`` (of the split ``split``). ``intervals``: by metric, then by
    slice, all pictures under ``OVERALL`` (as ``evaluation.intervals.intervals_by_slice`` gives them for one metric).
    ``comparison`` and ``production_result`` (the production model on the same records and slices): ``None`` without a
    model in production. ``provenance``: in the shape of ``core.provenance.provenance``. ``created``: when the run
    ended, ISO 8601. ``history``: a row an epoch. ``settings``: recipe and training settings as plain values.
    ``facts``: further lines of how it was made, shown in this order. ``what_next``: plain words, commands between
    backticks.
    """

    title: str
    result: EvaluationResult
    records: Sequence[Record]
    detections: Sequence[Detections]
    split: str = ""
    run_id: str = ""
    project: str = ""
    task: str = "object detection"
    facts: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    data: DataPin | None = None
    data_notes: DataNotes = field(default_factory=DataNotes)
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    comparison: Comparison | None = None
    production_result: EvaluationResult | None = None
    verdicts: Sequence[Verdict] = ()
    latency: LatencyFigures | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    intended_use: IntendedUse = field(default_factory=IntendedUse)
    what_next: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.result.matches.names

    @property
    def commit(self) -> str:
        """The code's commit; empty where it is not known."""
        git = self.provenance.get("git") or self.provenance.get("marauder_git") or {}
        return str(git.get("commit") or "")

    @property
    def dirty(self) -> bool:
        """Whether uncommitted changes took part, the user's or Marauder's own."""
        states = (self.provenance.get("git"), self.provenance.get("marauder_git"))
        return any(bool((state or {}).get("dirty")) for state in states)
