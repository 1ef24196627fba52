"""A delivery that holds labels in two formats: where they contradict each other, nobody knows which is right.

Tools export several formats at once, and a provider packs them all. Where they agree nothing is said.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marauder.annotation.agreement import View, pair_boxes
from marauder.annotation.batch import Batch
from marauder.annotation.formats.answers import delivered_formats, read_delivery
from marauder.annotation.formats.base import Answer, Reading, match_class

SAME_BOX_IOU = 0.9
"""Overlap from which two boxes are one box written in two formats: decimals are cut differently."""


def contradictions(folder: Path, batch: Batch, reading: Reading) -> dict[str, str]:
    """Pictures (by file name) of which another format in ``folder`` says something else than ``reading``, and its name.

    Empty where the delivery holds one format, the usual case: then nothing is read twice.
    """
    if not folder.is_dir() or not reading.answers:
        return {}
    found: dict[str, str] = {}
    layouts = delivered_formats(folder)
    for layout in layouts if len(layouts) > 1 else ():
        other = read_delivery(layout, folder, batch.expected(), batch.names).answers
        for file in reading.answers.keys() & other.keys():
            if not _same(reading.answers[file], other[file], batch):
                found.setdefault(file, layout.name)
    return dict(sorted(found.items()))


def _same(one: Answer, other: Answer, batch: Batch) -> bool:
    if len(one.boxes) != len(other.boxes):
        return False
    first, second = _view(one, batch), _view(other, batch)
    pairing = pair_boxes(first, second, SAME_BOX_IOU)
    same_class = first.classes[pairing.first] == second.classes[pairing.second]
    return len(pairing.first) == len(one.boxes) and bool(same_class.all())


def _view(answer: Answer, batch: Batch) -> View:
    known = [match_class(name, batch.names) for name in answer.class_names]
    # Unknown names are all alike here; each goes back for its own reason anyway.
    return View(answer.boxes, np.array([-1 if index is None else index for index in known], np.int64))
