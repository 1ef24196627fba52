"""The detectors that score a pool, opened, and the passes that the measures need of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marauder.core.errors import UserError
from marauder.prediction.candidates import CandidateModel, Passes
from marauder.prediction.opening import open_predictor
from marauder.prediction.views import find_views
from marauder.selection.settings import SelectionSettings


def open_models(settings: SelectionSettings, names: Sequence[str]) -> list[CandidateModel]:
    """The models that score. ``names``: classes of the data set; empty: those of the first model.

    Raises ``UserError`` without a model, for one that cannot be opened, and for one with other classes.
    """
    paths = settings.scoring_models()
    if not paths:
        raise UserError("scoring needs a detector: name one or more after --model, or choose --strategy typical")
    models = []
    wanted = tuple(names)
    for path in paths:
        predictor = open_predictor(path, settings.device, settings.image_size)
        _ = predictor.network  # an exported file is refused here, not after the first pictures
        wanted = wanted or predictor.names
        # In any order: the columns below bring the scores of all models into one.
        if sorted(predictor.names) != sorted(wanted):
            raise UserError(_other_classes(path, predictor.names, wanted, "the data set" if names else str(paths[0])))
        columns = np.array([predictor.names.index(name) for name in wanted], np.int64)
        models.append(CandidateModel(predictor, columns, settings.confidence))
    return models


def needed_passes(settings: SelectionSettings, needs: set[str], models: int) -> Passes:
    """The passes of the first model; passes with dropout are the committee only where there is one model."""
    return Passes(
        views=find_views(settings.views) if "views" in needs else (),
        dropout=settings.dropout_passes if "members" in needs and models == 1 else 0,
        rate=settings.dropout_rate,
        sides="sides" in needs,
        seed=settings.seed,
    )


def _other_classes(path: Path, own: Sequence[str], wanted: Sequence[str], whose: str) -> str:
    missing = [name for name in wanted if name not in own]
    unknown = [name for name in own if name not in wanted]
    parts = [f"it lacks {', '.join(missing)}"] if missing else []
    parts += [f"it has {', '.join(unknown)} besides"] if unknown else []
    return (
        f"{path}: its classes are not those of {whose}: {'; '.join(parts) or 'it has a class twice'}. Models "
        "that score together need the same class names; train it on them, or leave it out"
    )
