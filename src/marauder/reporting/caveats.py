"""What to be careful about with a model, written from the run's own evidence, not from hope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from marauder.evaluation.intervals import OVERALL
from marauder.reporting.evidence import RunEvidence
from marauder.reporting.slice_table import FEW_BOXES, FEW_GROUPS, Row, changes_by_slice, is_significant

Weight = Literal["serious", "note"]
WEAK_SHARE = 0.6
"""A class or slice below this share of the whole's mAP50 is named as weak."""
POORLY_CALIBRATED = 0.1
"""From this calibration error on, scores should not be read as probabilities."""
MOST_NAMED = 6


@dataclass(frozen=True)
class Caveat:
    """``kind`` is a stable word for programs; ``text`` one or two sentences for people."""

    kind: str
    weight: Weight
    text: str


def caveats(evidence: RunEvidence, rows: Sequence[Row]) -> list[Caveat]:
    """All that should be known before the model is trusted, the serious first. ``rows``: of ``slice_rows``."""
    found = [
        *(Caveat("doubtful_detector", "serious", f"{doubt[0].upper()}{doubt[1:]}.") for doubt in evidence.doubts),
        *_of_gates(evidence),
        *_of_production(evidence),
        *_of_classes(evidence),
        *_of_slices(rows),
        *_of_data(evidence, rows[0]),
        *_of_calibration(rows),
        *_of_provenance(evidence),
    ]
    # Stable: within a weight they stay in the order above.
    return sorted(found, key=lambda caveat: caveat.weight != "serious")


def _of_gates(evidence: RunEvidence) -> list[Caveat]:
    found = []
    for verdict in evidence.verdicts:
        if verdict.answer == "fail":
            found.append(Caveat("gate_failed", "serious", f"The gate {verdict.gate} failed: {verdict.why}"))
        elif verdict.answer == "warn" and verdict.essential:
            found.append(Caveat("withheld", "serious", f"Not offered for production: {verdict.why}"))
        elif verdict.answer == "warn":
            found.append(Caveat("gate_warned", "note", f"The gate {verdict.gate} warned: {verdict.why}"))
    off = [verdict.gate for verdict in evidence.verdicts if verdict.answer == "off"]
    if off:
        text = f"Not checked, since these gates were off or had nothing to check: {_list(off)}."
        found.append(Caveat("gates_off", "note", text))
    # An evaluation by itself has no gates to miss.
    if evidence.run_id and not evidence.verdicts:
        found.append(Caveat("no_gates", "note", "No gate judged this model."))
    return found


def _of_production(evidence: RunEvidence) -> list[Caveat]:
    if evidence.comparison is None:
        text = (
            "There was no model in production to compare with: whether this one is better than the one in use is "
            "unknown."
        )
        return [Caveat("no_production", "note", text)] if evidence.run_id else []
    lost = [
        f"{'all pictures' if name == OVERALL else name} ({change.delta:+.3f}, {change.low:+.3f} to {change.high:+.3f})"
        for name, change in changes_by_slice(evidence.comparison).items()
        if is_significant(change) and change.delta < 0
    ]
    unsure = [one.name for one in evidence.comparison.slices if not one.enough]
    found = []
    if lost:
        text = f"Worse than production by more than noise ({evidence.comparison.metric}) on: {_list(lost)}."
        found.append(Caveat("worse_than_production", "serious", text))
    if unsure:
        text = f"Too few pictures or groups to compare with production on: {_list(unsure)}."
        found.append(Caveat("comparison_unsure", "note", text))
    return found


def _of_classes(evidence: RunEvidence) -> list[Caveat]:
    overall = evidence.result.overall
    absent = [entry["name"] for entry in overall.per_class if not entry["n_boxes"]]
    rare = [f"{entry['name']} ({entry['n_boxes']})" for entry in overall.per_class if 0 < entry["n_boxes"] < FEW_BOXES]
    weak = [
        f"{entry['name']} (AP50 {entry['ap50']:.3f})"
        # NaN sorts nowhere in particular, so that undefined ones are sent to the end.
        for entry in sorted(overall.per_class, key=lambda entry: (math.isnan(entry["ap50"]), entry["ap50"]))
        if entry["n_boxes"] and entry["ap50"] < WEAK_SHARE * overall.map50
    ]
    found = []
    if absent:
        text = f"Absent from the evaluation, so nothing is known about: {_list(absent)}."
        found.append(Caveat("class_absent", "serious", text))
    if weak:
        found.append(Caveat("class_weak", "serious", f"Far weaker than the rest: {_list(weak)}."))
    if rare:
        text = f"Fewer than {FEW_BOXES} boxes, so their figures vary by chance: {_list(rare)}."
        found.append(Caveat("class_rare", "note", text))
    return found


def _of_slices(rows: Sequence[Row]) -> list[Caveat]:
    whole, parts = rows[0].value("map50"), rows[1:]
    if not parts:
        text = "No slices were evaluated: an average can hide a place or a condition where the model fails."
        return [Caveat("no_slices", "note", text)]
    weak = [row for row in parts if not row.small and row.value("map50") < WEAK_SHARE * whole]
    few_boxes = [f"{row.name} ({row.boxes})" for row in parts if row.boxes < FEW_BOXES]
    few_groups = [f"{row.name} ({row.groups})" for row in parts if row.boxes >= FEW_BOXES and row.groups < FEW_GROUPS]
    found = []
    if weak:
        named = [f"{row.name} (mAP50 {row.value('map50'):.3f})" for row in weak]
        weight: Weight = "serious" if any(row.protected for row in weak) else "note"
        found.append(Caveat("slice_weak", weight, f"Slices far below the overall figure: {_list(named)}."))
    if few_boxes:
        text = f"Slices of fewer than {FEW_BOXES} boxes, whose figures say little: {_list(few_boxes)}."
        found.append(Caveat("slice_small", "note", text))
    if few_groups:
        text = (
            f"Slices from fewer than {FEW_GROUPS} groups of pictures (clips), so their figures describe those groups "
            f"rather than the condition: {_list(few_groups)}."
        )
        found.append(Caveat("slice_few_groups", "note", text))
    return found


def _of_data(evidence: RunEvidence, whole: Row) -> list[Caveat]:
    found = []
    if evidence.split == "val":
        text = "Measured on val, on which the best epoch was also chosen: the figures are slightly optimistic."
        found.append(Caveat("measured_on_val", "note", text))
    if whole.groups < FEW_GROUPS:
        text = f"The evaluation has only {whole.groups} groups of pictures: no interval can be given."
        found.append(Caveat("few_groups", "serious", text))
    return found


def _of_calibration(rows: Sequence[Row]) -> list[Caveat]:
    error = rows[0].value("d_ece")
    if math.isnan(error) or error < POORLY_CALIBRATED:
        return []
    text = f"Scores are not probabilities: they differ from the share of right detections by {error:.3f} on average."
    return [Caveat("poorly_calibrated", "note", text)]


def _of_provenance(evidence: RunEvidence) -> list[Caveat]:
    found = []
    if evidence.provenance.git_dirty:
        text = "Made from a working tree with changes that were not committed: the commit alone does not reproduce it."
        found.append(Caveat("git_dirty", "note", text))
    if evidence.run_id and not evidence.provenance.git_sha:
        found.append(Caveat("no_commit", "note", "The commit of the code is not known."))
    if evidence.run_id and evidence.latency is None:
        found.append(Caveat("no_latency", "note", "Its speed was not measured."))
    if evidence.latency is not None and evidence.latency.unsteady:
        text = f"Its latency is not to be relied on: {evidence.latency.unsteady}."
        found.append(Caveat("unsteady_latency", "note", text))
    return found


def _list(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
