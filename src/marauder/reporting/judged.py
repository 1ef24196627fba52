"""What a run's report says of a model file that lies with it: where its figures apply, and whether it has proved to be
of use."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.core.files import DamagedFileError, hash_file, read_json
from marauder.gates.floor import BELOW_LEVEL
from marauder.prediction.folder_description import DESCRIPTION_FILE, read_description

log = logging.getLogger("marauder")
REPORT_FILE = "eval_report.json"
FOLDERS_ABOVE = 3
"""How far above a model its run's folder may be: exported files are in ``exported/<name>/``."""


@dataclass(frozen=True)
class Judged:
    """``report``: the file that says so. ``confidence``: where its precision, recall and F1 apply; ``None``: unknown.
    ``doubt``: why the detector was not shown to be of use, in the words of the essential gates; empty: it was.
    ``calibrated``: ``confidence`` is a score of the model itself, which is used with calibrated ones.
    ``unproven``: as ``doubt``, but not that the detector stays below a level that the user set: it has learned."""

    report: Path
    confidence: float | None = None
    doubt: str = ""
    calibrated: bool = False
    unproven: str = ""


def judged(model: Path, sha256: str) -> Judged | None:
    """What the report of the run that ``model`` lies in says of exactly this file; ``None`` where none does."""
    for folder in model.absolute().parents[:FOLDERS_ABOVE]:
        report = folder / REPORT_FILE
        if not report.is_file():
            continue
        try:
            content = read_json(report)
            # The last weights are not those that were measured, unless they are the best, too.
            files = {name: one["sha256"] for name, one in content["artifacts"].items() if name != "last weights"}
            if sha256 not in files.values():
                return None
            confidence = content["overall"]["confidence"]
            found = [one for one in content["gates"] if one["essential"] and one["answer"] in ("warn", "fail")]
            doubt = "; ".join(str(one["why"]) for one in found)
            short = [one for one in found if one.get("evidence", {}).get("finding") == BELOW_LEVEL]
            unproven = "; ".join(str(one["why"]) for one in found if one not in short)
        except (DamagedFileError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: what it says of %s cannot be read (%s)", report, model.name, error)
            return None
        known = float(confidence) if isinstance(confidence, (int, float)) else None
        return Judged(report, known, doubt, unproven=unproven)
    return None


def judged_folder(folder: Path) -> Judged | None:
    """The same of the model in a predictor folder; ``None`` where it is none. Raises ``UserError`` for a description
    that cannot be read."""
    if not (folder / DESCRIPTION_FILE).is_file():
        return None
    said = read_description(folder)
    model = folder / said.model
    if not model.is_file():
        return None
    found = judged(model, hash_file(model))
    return found if found is None else replace(found, calibrated=said.calibration is not None)
