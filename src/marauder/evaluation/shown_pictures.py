"""Which pictures and boxes a report shows: the worst and the best pictures, and in each the surest false boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.outcomes import PictureOutcome

FALSE_DRAWN = 20
"""Of more false detections in a picture only the surest are drawn; the others are counted."""


def rank_pictures(
    records: Sequence[Record], outcomes: Sequence[PictureOutcome], count: int
) -> tuple[list[int], list[int]]:
    """Places of up to ``count`` worst and ``count`` best labelled pictures, no picture in both.

    Worst: lowest F1, then most errors. Best: highest F1 with something found, then most found. Of each group of
    pictures (a clip) one comes first, so that the sheet does not show the same scene again and again.
    """
    labelled = [index for index, outcome in enumerate(outcomes) if outcome.labelled]
    failing = sorted(
        (index for index in labelled if outcomes[index].errors),
        key=lambda index: (outcomes[index].f1, -outcomes[index].errors, index),
    )
    worst = _one_of_each_group_first(records, failing)[:count]
    finding = sorted(
        (index for index in labelled if len(outcomes[index].right) and index not in set(worst)),
        key=lambda index: (-outcomes[index].f1, -len(outcomes[index].right), index),
    )
    return worst, _one_of_each_group_first(records, finding)[:count]


def surest_false(found: Detections, outcome: PictureOutcome) -> np.ndarray:
    """Places of the false detections of a picture that are drawn: int64, at most ``FALSE_DRAWN``, the surest first."""
    wrong = np.asarray(outcome.wrong, np.int64)
    return wrong[np.argsort(-found.scores[wrong], kind="stable")][:FALSE_DRAWN]


def _one_of_each_group_first(records: Sequence[Record], ranked: list[int]) -> list[int]:
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for index in ranked:
        (rest if records[index].group in seen else first).append(index)
        seen.add(records[index].group)
    return first + rest
