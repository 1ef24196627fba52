"""The files of the models that were named, and which folder the exports of each go to: no two models share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import UserError
from marauder.models.naming import explain_missing
from marauder.models.naming import folder_names as folder_names


def weight_files(models: Sequence[Path]) -> list[Path]:
    """``models``, each file once. Raises ``UserError`` for files that are missing, and for both files of one model."""
    missing = [why for path in models if (why := explain_missing(path)) is not None]
    if missing:
        raise UserError("\n".join(missing))
    chosen = list({path.resolve(): path for path in models}.values())
    stems = Counter(path.resolve().with_suffix("") for path in chosen)
    for path in chosen:
        if stems[path.resolve().with_suffix("")] > 1:
            raise UserError(
                f"{path}: is named beside a file of the same name and another kind; a training leaves the same weights "
                "in both: name one of them"
            )
    return chosen
