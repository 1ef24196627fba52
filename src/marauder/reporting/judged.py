"""What a run's report says of a model file that lies with it: where its figures apply, and whether it has proved to be
of use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from marauder.core.files import DamagedFileError, read_json
from marauder.gates.floor import BELOW_LEVEL

log = logging.getLogger("marauder")
REPORT_FILE = "eval_report.json"
FOLDERS_ABOVE = 3
"""How far above a model its run's folder may be: exported files are in ``exported/<name>/``."""


@dataclass(frozen=True)
class Judged:
    """``report``: the file that says so. ``confidence``: where its precision, recall and F1 apply; ``None``: unknown.
    ``doubt``: why the detector was not shown to be of use, in the words of the essential gates; empty: it was.
    ``unproven``: as ``doubt``, but not that the detector stays below a level that the user set: it has learned."""

    report: Path
    confidence: float | None = None
    doubt: str = ""
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
        return Judged(report, known, doubt, unproven)
    return None
