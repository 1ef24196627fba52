"""What a teacher found in training pictures, as a training takes it: ``lessons.json``, and the records that it makes.

A lesson holds the boxes of one picture that are learned, each with its trust (``models.trusts``), and the places that
are ignored, since the teacher is in doubt there (``models.ignored_places``). A picture is one of the labelled training
pictures, whose labels stay, or one without labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, located_path, portable_path, read_json, write_bytes
from marauder.data.balancing import Resampling
from marauder.data.records import Record

FORMAT = 1
LESSONS_FILE = "lessons.json"
DIGITS = 4
"""Of coordinates, in pixels, and of trusts: what is kept is what is learned."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned of a picture beside its labels. ``record``: without boxes, ``labelled`` as the picture is.
    ``boxes``: float64 (N, 4), x0 y0 x1 y1 in pixels of the picture; ``classes``: int64 (N,), of the data set;
    ``trusts``: float64 (N,), above 0, at most 1; ``ignored``: float64 (M, 4). ``content``: SHA-256 of the picture."""

    record: Record
    boxes: np.ndarray
    classes: np.ndarray
    trusts: np.ndarray
    ignored: np.ndarray
    content: str

    def added_to(self, record: Record) -> tuple[Record, np.ndarray]:
        """``record`` with its own boxes first, then those of the lesson; the trust of each: float64."""
        own, learned, doubtful = len(record.boxes), len(self.boxes), len(self.ignored)
        taught = replace(
            record,
            boxes=np.concatenate([record.boxes, self.boxes, self.ignored]),
            # An ignored place shows no class; the first stands for none.
            classes=np.concatenate([record.classes, self.classes, np.zeros(doubtful, np.int64)]),
            ignored=np.concatenate([record.ignored, np.zeros(learned, bool), np.ones(doubtful, bool)]),
            box_attributes={},
        )
        return taught, np.concatenate([np.ones(own), self.trusts, np.ones(doubtful)])


def write_lessons(path: Path, lessons: Sequence[Lesson], names: Sequence[str], about: dict[str, Any]) -> str:
    """Write ``lessons.json``, a line a picture; the same lessons give the same bytes. Returns their SHA-256."""
    rows = [json.dumps(_row(one, path.parent), ensure_ascii=False) for one in lessons]
    head = json.dumps({"format": FORMAT, "names": list(names), **about}, ensure_ascii=False)[:-1]
    body = ",\n".join(rows)
    return write_bytes(path, f'{head}, "pictures": [\n{body}\n]}}\n'.encode())


def _row(one: Lesson, folder: Path) -> dict[str, Any]:
    record = one.record
    boxes = np.round(np.concatenate([one.boxes, one.trusts[:, None]], 1), DIGITS).tolist()
    return {
        "key": record.key,
        "picture": portable_path(record.picture, folder),
        "size": [record.width, record.height],
        "group": record.group,
        "labelled": record.labelled,
        "sha256": one.content,
        # x0 y0 x1 y1, class, trust.
        "boxes": [[*box[:4], int(number), box[4]] for box, number in zip(boxes, one.classes, strict=True)],
        "ignored": np.round(one.ignored, DIGITS).tolist(),
    }


def read_lessons(path: Path, names: Sequence[str]) -> list[Lesson]:
    """The lessons in a file. Raises ``UserError`` for another kind of file, and for one of other classes."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; let a teacher look first (marauder student), or omit teaching.file")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or "pictures" not in content:
        raise UserError(f"{path}: is not a lessons.json of this version; run marauder student again")
    if content.get("names") != list(names):
        raise UserError(f"{path}: was made for other classes than the data set's; run marauder student again")
    try:
        return [_read(row, path.parent) for row in content["pictures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path}: a picture cannot be read ({error}); run marauder student again") from error


def _read(row: dict[str, Any], folder: Path) -> Lesson:
    boxes = np.array(row["boxes"], np.float64).reshape(-1, 6)
    width, height = row["size"]
    record = Record(
        str(row["key"]),
        located_path(row["picture"], folder),
        int(width),
        int(height),
        group=str(row["group"]),
        split="train",
        labelled=bool(row["labelled"]),
    )
    ignored = np.array(row["ignored"], np.float64).reshape(-1, 4)
    return Lesson(record, boxes[:, :4], boxes[:, 4].astype(np.int64), boxes[:, 5], ignored, str(row["sha256"]))


def taught(records: Sequence[Record], lessons: Sequence[Lesson]) -> tuple[tuple[Record, ...], tuple[np.ndarray, ...]]:
    """``records`` with what was found in them, then the pictures without labels; the trusts of each record's boxes.

    Lessons of labelled pictures that are not among ``records``, as in a smaller bag, are left out.
    """
    of_labelled = {one.record.key: one for one in lessons if one.record.labelled}
    found = [
        of_labelled[record.key].added_to(record) if record.key in of_labelled else (record, np.ones(len(record.boxes)))
        for record in records
    ]
    found += [one.added_to(one.record) for one in lessons if not one.record.labelled]
    return tuple(record for record, _ in found), tuple(trusts for _, trusts in found)


def mixed(factors: np.ndarray, unlabelled: int, share: float, epoch_length: float) -> Resampling:
    """Which record each sample is: those with labels (``factors``, how often each would be drawn without a teacher),
    then ``unlabelled`` ones, which are ``share`` of the samples.

    An epoch has ``epoch_length`` times the samples that it would have without a teacher. No picture without labels is
    drawn more often than one with a factor of 1: where there are few, their share is smaller.
    """
    share = min(share, unlabelled / (unlabelled + float(factors.sum())))
    samples = epoch_length * float(factors.sum())
    others = np.full(unlabelled, share * samples / max(unlabelled, 1))
    return Resampling(np.concatenate([factors * (1 - share) * epoch_length, others]))
