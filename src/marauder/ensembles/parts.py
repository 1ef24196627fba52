"""What a predictor finds in some pictures, as a file that is trusted only if it says what it was made from."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.files import write_bytes
from marauder.data.records import Detections


@dataclass(frozen=True, eq=False)
class Part:
    """What one predictor finds in some pictures; ``None`` for those that cannot be read, which ``reasons`` explains, by
    place."""

    found: tuple[Detections | None, ...]
    reasons: dict[int, str]


def write_part(path: Path, part: Part, identity: str) -> None:
    """Write a part atomically, boxes and scores in float32; the same part gives the same bytes."""
    there = [one for one in part.found if one is not None]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        identity=np.array(identity),
        counts=np.array([-1 if one is None else len(one) for one in part.found], np.int64),
        boxes=np.concatenate([np.zeros((0, 4)), *(one.boxes for one in there)]).astype(np.float32),
        # Networks put out float32: nothing is lost.
        scores=np.concatenate([np.zeros(0), *(one.scores for one in there)]).astype(np.float32),
        classes=np.concatenate([np.zeros(0, np.int64), *(one.classes for one in there)]).astype(np.int32),
        reasons=np.array(json.dumps({str(place): why for place, why in part.reasons.items()})),
    )
    write_bytes(path, buffer.getvalue())


def read_part(path: Path, identity: str) -> Part | None:
    """The part at ``path``; ``None`` where there is none, it is damaged, or was made from something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["identity"]) != identity:
                return None
            counts, boxes, scores, classes = (stored[name] for name in ("counts", "boxes", "scores", "classes"))
            reasons = {int(place): str(why) for place, why in json.loads(str(stored["reasons"])).items()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    ends = np.cumsum(np.maximum(counts, 0))
    found: list[Detections | None] = []
    for count, end in zip(counts.tolist(), ends.tolist(), strict=True):
        run = slice(end - count, end)
        found.append(None if count < 0 else Detections(boxes[run], scores[run], classes[run]))
    return Part(tuple(found), reasons)
