"""Everything that a run or an evaluation leaves to look at: figures as files, the numbers as JSON, and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import write_bytes, write_json, write_text
from marauder.core.plain import PlainMapping
from marauder.data.records import Detections, Record
from marauder.evaluation.confusion import confusion_matrix, match_across_classes
from marauder.evaluation.curves import confidence_curves
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.figures import (
    confusion_figure,
    f1_figure,
    group_history,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    slices_figure,
    training_curves,
)
from marauder.evaluation.intervals import Interval, bootstrap
from marauder.evaluation.metrics import precision_at_recall
from marauder.evaluation.outcomes import picture_outcomes
from marauder.evaluation.picture_weights import picture_weights
from marauder.evaluation.roc import presence_curves
from marauder.evaluation.sheet import predictions_sheet
from marauder.pages.showing import show_signed
from marauder.reporting.advice import Advice
from marauder.reporting.captions import CAPTIONS
from marauder.reporting.caveats import caveats
from marauder.reporting.eval_report import report_content
from marauder.reporting.evidence import RunEvidence
from marauder.reporting.gallery import build_gallery, slice_outcomes
from marauder.reporting.render import Matrix, ReportFigure, render_report
from marauder.reporting.slice_table import COLUMNS, FEW_GROUPS, Cell, Row, calibration_of, protected_names, slice_rows

BOOTSTRAP_DRAWS = 200
ROWS_DRAWN = 60
"""Of more slices the figure shows the first ones; the page and the JSON hold them all."""


def write_run_report(folder: Path, evidence: RunEvidence, clock: Clock | None = None) -> Path:
    """Write ``report.html``, ``eval_report.json`` and the figures of a run into ``folder``; returns the page's path.

    Figures: ``confusion_matrix.png``, ``pr_curves.png``, ``roc_curves.png``, ``f1_curve.png``, ``reliability.png``,
    ``predictions.png`` (unless there is neither a box nor a detection), ``curves.png`` (with a history),
    ``slices.png`` (with slices). ``clock`` is asked between figures and photographs: raises ``Interrupted``; every
    file written by then is whole, and the next call writes all of them. The same evidence gives the same bytes.
    """
    folder = Path(folder)
    result, records, detections = evidence.result, evidence.records, evidence.detections
    confidence = result.overall.confidence

    def asked() -> None:
        if clock is not None:
            clock.check()

    confusion = confusion_matrix(match_across_classes(records, detections, evidence.names), confidence)
    outcomes = picture_outcomes(result.matches, confidence)
    rows = slice_rows(evidence)
    pictures = {}
    for name, draw in _figures(evidence, rows, confusion):
        asked()
        pictures[name] = draw()
        write_bytes(folder / name, pictures[name])
    if any(outcome.errors or len(outcome.right) for outcome in outcomes):
        asked()
        sheet = predictions_sheet(records, detections, outcomes, evidence.names, confidence)
        write_bytes(folder / "predictions.png", sheet)
    matrices = []
    for name in protected_names(rows):
        asked()
        matrices.append(Matrix(name, slice_confusion(evidence, name)))
    found = caveats(evidence, rows)
    asked()
    # The numbers before the photographs, which take longest and may be stopped.
    write_json(folder / "eval_report.json", report_content(evidence, rows, found, outcomes, confusion, matrices))
    slices = [row.name for row in rows[1:]]
    gallery = build_gallery(result, records, detections, outcomes, slices, clock, labelled=evidence.labelled)
    figures = [ReportFigure(*CAPTIONS[name], pictures[name]) for name in CAPTIONS if name in pictures]
    asked()
    write_text(folder / "report.html", render_report(evidence, rows, found, gallery, figures, matrices))
    return folder / "report.html"


def write_evaluation(
    folder: Path,
    result: EvaluationResult,
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    *,
    title: str,
    facts: Mapping[str, str],
    history: Sequence[PlainMapping] | None = None,
    advice: Sequence[Advice] = (),
    doubts: Sequence[str] = (),
) -> Path:
    """The report of an evaluation that is no whole run: ``write_run_report`` with what is known then.

    ``records`` and ``detections`` are those that ``result`` was made from, ``names`` its classes. ``facts``: how it
    was made, shown in the report. ``history``: a row per epoch. ``doubts``: see ``RunEvidence``.
    """
    if tuple(names) != result.matches.names:
        raise ValueError(f"the result knows the classes {result.matches.names}, not {tuple(names)}")
    interval = map50_interval(result, records)
    evidence = RunEvidence(
        title,
        result,
        records,
        detections,
        facts=facts,
        history=history or (),
        advice=advice,
        doubts=doubts,
        intervals={"map50": interval} if interval is not None else {},
    )
    return write_run_report(folder, evidence)


def map50_interval(result: EvaluationResult, records: Sequence[Record]) -> Interval | None:
    """95 % interval of mAP50 over groups of pictures, or ``None`` with too few groups."""
    if len({record.group for record in records if record.labelled}) < FEW_GROUPS:
        return None
    return bootstrap(result.matches, records, "map50", draws=BOOTSTRAP_DRAWS)


def slice_confusion(evidence: RunEvidence, name: str) -> np.ndarray:
    """The confusion matrix of a slice, (K + 1, K + 1): its pictures and the boxes that it means, whatever class they
    were taken for; of detections of nothing, those that are false in the slice."""
    result = evidence.result
    places, outcomes = slice_outcomes(result, name)
    records = []
    for place, outcome in zip(places, outcomes, strict=True):
        # What the slice does not mean is ignored, and so excuses the detections on it.
        ignored = np.ones(len(evidence.records[place].boxes), bool)
        ignored[outcome.found] = ignored[outcome.missed] = False
        records.append(replace(evidence.records[place], ignored=ignored))
    cross = match_across_classes(records, [evidence.detections[place] for place in places], evidence.names)
    false = {(picture, int(index)) for picture, outcome in enumerate(outcomes) for index in outcome.wrong}
    detected = zip(cross.detection_picture.tolist(), cross.detection_index.tolist(), strict=True)
    # On a box of the slice every class counts, since mix-ups are what is shown; on nothing only what is false there.
    counts = (cross.box_of >= 0) | np.array([one in false for one in detected], bool)
    # Excused detections fall below any confidence.
    scores = np.where(counts, cross.detection_score, -np.inf)
    return confusion_matrix(replace(cross, detection_score=scores), result.overall.confidence)


def _figures(
    evidence: RunEvidence, rows: Sequence[Row], confusion: np.ndarray
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names of the figures' files and what draws them."""
    overall, matches = evidence.result.overall, evidence.result.matches
    if evidence.history and group_history(evidence.history):
        yield "curves.png", lambda: training_curves(evidence.history)
    yield "pr_curves.png", lambda: precision_recall_figure(precision_at_recall(matches), overall)
    everything = picture_weights(matches, None, None)
    yield "roc_curves.png", lambda: roc_figure(presence_curves(matches))
    yield "f1_curve.png", lambda: f1_figure(confidence_curves(matches, everything), overall)
    yield "confusion_matrix.png", lambda: confusion_figure(confusion, evidence.names, overall.confidence)
    yield "reliability.png", lambda: reliability_figure(calibration_of(evidence.result))
    if len(rows) > 1:
        yield "slices.png", lambda: _draw_slices(rows[:ROWS_DRAWN])


def _draw_slices(rows: Sequence[Row]) -> bytes:
    titles = [column.title for column in COLUMNS]
    names = ["all pictures" if row.whole else f"{row.name}{' *' if row.protected else ''}" for row in rows]
    names = [f"{name}  ({row.pictures})" for name, row in zip(names, rows, strict=True)]
    values = np.array([[cell.value for cell in row.cells] for row in rows])
    shades = np.array([[cell.shade for cell in row.cells] for row in rows])
    notes = [[_note(cell) for cell in row.cells] for row in rows]
    changed = any(note for row in notes for note in row)
    return slices_figure(names, titles, values, shades, notes if changed else None)


def _note(cell: Cell) -> str:
    """The difference from production under a cell's value, marked where it is more than noise."""
    if cell.change is None:
        return ""
    mark = (" ▲" if cell.change.better else " ▼") if cell.change.significant else ""
    return f"{show_signed(cell.change.delta)}{mark}"
