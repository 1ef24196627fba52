"""The files of a mining: ``hard_negatives.json``, for training, and ``suspected_missing.json``, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.core.plain import Plain, PlainMapping
from marauder.mining.hard_negatives import HardNegative, Suspicion, Trust

FORMAT = 1
NEGATIVES_FILE = "hard_negatives.json"
SUSPECTED_FILE = "suspected_missing.json"


@dataclass(frozen=True)
class MiningSummary:
    """What a mining left: files, and how much of what."""

    negatives: Path
    suspected: Path
    found: int
    sampled: int
    missing: int


def read_negatives(path: Path | None) -> list[HardNegative]:
    """The pool in a ``hard_negatives.json``; empty without a path. Raises ``UserError`` for another kind of file."""
    if path is None:
        return []
    if not path.is_file():
        raise UserError(f"{path}: no such file; mine hard negatives first, or omit hard_negatives.file")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("entries"), list):
        raise UserError(f"{path}: is not a hard_negatives.json of this version; mine hard negatives again")
    try:
        return [
            # "pool" is written for readers; it follows from the classes.
            HardNegative(**{**{k: v for k, v in entry.items() if k != "pool"}, "box": _corners(entry["box"])})
            for entry in content["entries"]
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: an entry cannot be read ({error}); mine hard negatives again") from None


def _corners(box: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1


def read_reviewed(path: Path | None) -> list[tuple[str, str, Sequence[float], str]]:
    """Verdicts of a person in a ``suspected_missing.json``: key, class, box, and "background" or "missing". None
    without a path. Raises ``UserError`` for another verdict."""
    if path is None:
        return []
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the suspected_missing.json that holds the verdicts")
    rows: list[tuple[str, str, Sequence[float], str]] = []
    for number, entry in enumerate(read_json(path).get("suspected", [])):
        verdict = entry.get("verdict")
        if verdict in (None, ""):
            continue
        if verdict not in ("background", "missing"):
            raise UserError(f"{path}: entry {number}: the verdict {verdict!r} is neither 'background' nor 'missing'")
        rows.append((str(entry["key"]), str(entry["predicted"]), _corners(entry["box"]), str(verdict)))
    return rows


def unsure_classes(path: Path) -> dict[str, float]:
    """The classes of a ``suspected_missing.json`` that nowhere reach the precision asked for, and the score from which
    they were believed instead; none where a former version wrote it, which did not say."""
    believed = read_json(path).get("believed", {})
    return {name: float(one["score"]) for name, one in believed.items() if not one["precision_reached"]}


def write_mining(
    folder: Path,
    pool: Sequence[HardNegative],
    suspicions: Sequence[Suspicion],
    unlabelled: Sequence[PlainMapping],
    weights: str,
    names: Sequence[str],
    found: int,
    trust: Trust,
    precision: float,
) -> MiningSummary:
    """Write both files. ``weights``: SHA-256 of the detector that mined; ``found``: errors, near-copies included;
    ``trust``: scores from which each of ``names`` is believed, where ``precision`` was asked for."""
    pools: dict[str, Plain] = {}
    for one in pool:
        row = pools.setdefault(one.pool, {"predicted": one.predicted, "true": one.true, "errors": 0, "sampled": 0})
        row["errors"] += 1
        row["sampled"] += one.sampled
        row["share"] = row["errors"] / len(pool)
    # The list for a person first: whoever finds the negatives finds a finished mining.
    suspected = {
        "format": FORMAT,
        "what": "confident detections without a label, seen in the flipped picture too; write a verdict for each, "
        "'missing' (and label it) or 'background', and give the file as mining.reviewed",
        "precision": precision,
        "believed": {
            name: {"score": float(score), "precision_reached": bool(reached)}
            for name, score, reached in zip(names, trust.scores, trust.reached, strict=True)
        },
        "suspected": [
            {**asdict(one), "verdict": ""} for one in sorted(suspicions, key=lambda one: (-one.score, one.key))
        ],
        "unlabelled": list(unlabelled),
    }
    negatives = {
        "format": FORMAT,
        "weights": weights,
        "names": list(names),
        "pools": {name: pools[name] for name in sorted(pools)},
        "entries": [{**asdict(one), "pool": one.pool} for one in pool],
    }
    write_json(folder / SUSPECTED_FILE, suspected)
    write_json(folder / NEGATIVES_FILE, negatives)
    return MiningSummary(
        folder / NEGATIVES_FILE, folder / SUSPECTED_FILE, found, sum(one.sampled for one in pool), len(suspicions)
    )
