"""What step 8 leaves for people: ``calibration.json``, ``report.html`` and ``card.md`` of one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marauder.calibration.figures import reliability_pair
from marauder.calibration.files import CARD, FIGURES, PAGE, CalibratedFiles, what_it_needs
from marauder.calibration.finding import Found
from marauder.calibration.settings import CalibrateSettings
from marauder.core.decides import decided
from marauder.core.files import portable_path, write_json, write_text
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.core.version import __version__
from marauder.pages.rendering import embed_picture, render_page
from marauder.prediction.folder_description import read_description

FORMAT = 1
RULE_WORDS = {
    "max_f1": "the best F1",
    "precision_floor": "the lowest score with at least that precision",
    "recall_floor": "the highest score that still finds that share of the animals",
    "expected_cost": "the lowest expected cost of false alarms and misses",
}


def write_report(
    files: CalibratedFiles,
    model: Path,
    found: Found,
    splits: tuple[str, str | None],
    settings: CalibrateSettings,
    words: Sequence[str],
) -> None:
    """Write the three files into the folder of a calibrated model."""
    judgement = found.judgement
    rows = [
        {**one.to_json(), "outcome": outcome.to_json()}
        for one, outcome in zip(found.thresholds, found.outcomes, strict=True)
    ]
    candidates, taken = [one.to_json() for one in found.fitted.candidates], found.fitted.taken.to_json()
    about: Plain = {
        "format": FORMAT,
        "marauder": __version__,
        "model": portable_path(model, files.folder),
        "fitted_on": splits[0],
        "judged_on": splits[1] or f"{splits[0]}, by cross-fitting over groups",
        "pictures": len(found.records),
        "target": settings.target,
        "words": list(words),
        "needs": what_it_needs(read_description(files.folder)),
        "judgement": judgement.to_json(),
        "views": found.search.to_json(),
        "views_confirmed": None if found.confirmed is None else found.confirmed.to_json(),
        "candidates": candidates,
        "taken": taken,
        "own_share_of_curves": found.fitted.weights,
        "thresholds": rows,
        "set_aside": found.set_aside,
        "settings": decided(settings, Decides.RESULT, by_content=False),
    }
    write_json(files.folder / FIGURES, about)
    page = render_page(
        "calibration/report.html",
        name=files.name,
        about=about,
        judgement=judgement,
        search=found.search,
        confirmed=found.confirmed,
        candidates=[*candidates[:8], *([taken] if taken not in candidates[:8] else [])],
        taken=taken,
        rows=rows,
        rules=sorted({(one.rule, RULE_WORDS[one.rule]) for one in found.thresholds}),
        figure=embed_picture(reliability_pair(judgement.before, judgement.after)),
        too_few=judgement.too_few,
    )
    write_text(files.folder / PAGE, page)
    write_text(files.folder / CARD, _card(files, about, rows, splits))


def _card(files: CalibratedFiles, about: Plain, rows: Sequence[Plain], splits: tuple[str, str | None]) -> str:
    judgement = about["judgement"]
    lines = [
        f"# {files.name}, calibrated",
        "",
        f"Made by Marauder {__version__} from `{about['model']}`.",
        f"Fitted on {splits[0]}, judged on {about['judged_on']}.",
        "",
        *[f"- {words}" for words in about["words"]],
        "",
        f"mAP50 {judgement['metrics']['map50']:.4f}, mAP50-95 {judgement['metrics']['map50_95']:.4f}:",
        "calibration leaves every average precision as it was, to the last bit; views do not.",
        "",
        "| class | report from | precision | recall | boxes judged on |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        outcome = row["outcome"]
        shares = [f"{outcome[name]:.2f}" if outcome[name] == outcome[name] else "–" for name in ("precision", "recall")]
        lines.append(f"| {row['name']} | {row['threshold']:.3f} | {shares[0]} | {shares[1]} | {outcome['boxes']} |")
    lines += [
        "",
        "Scores say how often a detection is right on pictures like these; on other water, cameras or species they",
        "need not hold.",
        "",
    ]
    if files.checkpoint.is_file():
        lines.append("Use the folder, or the `.pt` beside it with Marauder; Ultralytics reads that `.pt` without")
        lines.append("calibration, thresholds and views.")
    else:
        lines += about["needs"] or ["Use the folder; there is no `.pt` beside it."]
    return "\n".join(lines) + "\n"
