"""Everything a finished run can say of itself: the one input of the report, of ``eval_report.json`` and of the card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from marauder.core.plain import PlainMapping
from marauder.data.records import Detections, Record
from marauder.evaluation.comparison import Comparison
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.intervals import Interval
from marauder.gates.verdict import Verdict
from marauder.reporting.advice import Advice


@dataclass(frozen=True)
class Provenance:
    """Where a run was made and with what. Empty and ``None``: not known. ``created``: when it was started, ISO 8601."""

    git_sha: str = ""
    git_dirty: bool | None = None
    container_digest: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    created: str = ""


@dataclass(frozen=True)
class DataPin:
    """The data a run was made from. ``splits``: pictures by split; ``boxes``: labelled boxes by split, where counted.

    ``fingerprint``: SHA-256 of the content. ``dvc``: tag, commit and hashes, where DVC keeps the data. ``licence``,
    ``description``: what people say of it.
    """

    name: str = ""
    version: str = ""
    fingerprint: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    boxes: Mapping[str, int] = field(default_factory=dict)
    dvc: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    description: str = ""


@dataclass(frozen=True)
class FormatLatency:
    """Milliseconds of one call (median and 95th percentile) and pictures a second of one exported file."""

    p50: float
    p95: float
    throughput: float | None = None


@dataclass(frozen=True)
class LatencyFigures:
    """Latency by format on one declared machine, with the input it was measured on. ``unsteady``: why the figures are
    not those of a machine at rest, in words; empty: nothing says so."""

    machine: str
    formats: Mapping[str, FormatLatency]
    batch: int = 1
    height: int | None = None
    width: int | None = None
    threads: int | None = None
    unsteady: str = ""


@dataclass(frozen=True)
class Artifact:
    """A file of the run: its path relative to the run's folder, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Lineage:
    """What a run came from: the weights it started with (name and SHA-256; empty: random), the pretrained backbone that
    took the place of theirs (empty: none), and the version it was compared with."""

    parent_weights: str = ""
    parent_sha256: str = ""
    production: str = ""
    production_run: str = ""
    parent_backbone: str = ""
    parent_backbone_sha256: str = ""


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
        "below does not show; counts or sizes of animals without separate calibration."
    )
    licence: str = ""
    contact: str = ""


@dataclass(frozen=True, eq=False)
class RunEvidence:
    """What a run leaves to be judged by people; whatever is not known stays at its default and is reported as unknown.

    ``result`` was made from ``records`` and ``detections`` (of the split ``split``). ``intervals``: of numbers of all
    pictures by the metric's name; ``slice_intervals``: of ``interval_metric`` by the slice's name. ``comparison`` and
    ``production_result`` (the production model on the same records and slices): ``None`` without a model in
    production. ``history``: a row per epoch. ``settings``: recipe and training settings as plain values. ``facts``:
    further lines of how it was made, shown in this order. ``advice``: what to do next. ``labelled``: training pictures
    that are shown with their labels. ``on_val``: mAP50 of the same weights on val (NaN: not known). ``sheets``:
    pictures in the run's folder of what training is given, by title. ``doubts``: why the detector itself may be damaged
    or untrained, a sentence each.
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
    provenance: Provenance = field(default_factory=Provenance)
    data: DataPin = field(default_factory=DataPin)
    settings: PlainMapping = field(default_factory=dict)
    history: Sequence[PlainMapping] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    slice_intervals: Mapping[str, Interval] = field(default_factory=dict)
    interval_metric: str = "map50"
    comparison: Comparison | None = None
    production_result: EvaluationResult | None = None
    verdicts: Sequence[Verdict] = ()
    latency: LatencyFigures | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    intended_use: IntendedUse = field(default_factory=IntendedUse)
    advice: Sequence[Advice] = ()
    doubts: Sequence[str] = ()
    labelled: Sequence[Record] = ()
    on_val: float = math.nan
    sheets: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.result.matches.names
