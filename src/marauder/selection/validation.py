"""Labelled validation pictures that scores are calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from marauder.core.errors import UserError
from marauder.data.reading import read_dataset
from marauder.data.records import Record
from marauder.selection.settings import SelectionSettings

VALIDATION_SPLIT = "val"


def read_validation(settings: SelectionSettings, names: Sequence[str]) -> list[Record]:
    """Labelled records of the split ``val`` of ``settings.labelled``, else of the pool, classes numbered by ``names``.

    Raises ``UserError`` for classes that are not among ``names``.
    """
    source = settings.labelled if settings.labelled is not None else settings.pool
    dataset = read_dataset(source, names=settings.names)
    chosen = [record for record in dataset if record.labelled and record.split == VALIDATION_SPLIT]
    used = sorted({int(number) for record in chosen for number in record.classes})
    strange = [dataset.names[number] for number in used if dataset.names[number] not in names]
    if strange:
        raise UserError(
            f"{source}: has labels of {', '.join(strange)}, which the models do not know; map the classes, or set "
            "calibration and class_difficulty to off"
        )
    # -1 is never used: classes that the models lack were refused above.
    lookup = np.array([list(names).index(name) if name in names else -1 for name in dataset.names], np.int64)
    return [replace(record, classes=lookup[record.classes]) for record in chosen]
