"""Scoring a pool of pictures with one detector or several: uncertainty, features and expected boxes, shard by shard.

Every picture is decoded once and goes through all models and passes that the asked measures need. Finished shards are
on disk; the same call goes on after a stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marauder.core.clock import Clock
from marauder.data.records import Record
from marauder.selection.pool_scores import PoolScores
from marauder.selection.settings import SelectionSettings

__all__ = ["PoolScores", "score_pool"]


def score_pool(
    records: Sequence[Record],
    settings: SelectionSettings,
    names: Sequence[str],
    clock: Clock,
    folder: Path,
    validation: Sequence[Record] | None = None,
) -> PoolScores:
    """Score ``records`` by ``settings.all_measures()`` with ``settings.scoring_models()``.

    ``names``: class names of the data set, which the models must share (empty: those of the first model). ``folder``:
    where finished shards are kept. ``validation``: labelled records to fit calibration and class difficulty on; read
    from ``settings.labelled`` (else ``settings.pool``) by default, their split ``val``.

    Raises ``Interrupted`` when the clock says so, ``UserError`` without a model, for models with other classes, and
    where no picture can be read.
    """
    raise NotImplementedError
