"""The detector that step 5 starts from, opened before anything is written, and the classes that it must know."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from marauder.core.errors import UserError
from marauder.critical.settings import CriticalSettings
from marauder.tasks.detection.base_detector import open_base
from marauder.tasks.detection.settings import DetectionSettings

log = logging.getLogger("marauder")


def resolve_base(settings: CriticalSettings) -> tuple[CriticalSettings, tuple[str, ...] | None]:
    """The settings with architecture and image size decided, and the base model's class names (``None``: no base).

    Without a base model they are those of every run. Raises ``UserError`` for weights that are missing, and for a base
    model that cannot be opened or is of another architecture than the settings name.
    """
    # Before the base model is opened: opening one takes torch and seconds.
    if settings.ssl_backbone is not None and not settings.ssl_backbone.is_file():
        raise UserError(f"{settings.ssl_backbone}: no such file; check the path")
    if settings.base_model is None:
        plain = DetectionSettings.model_fields
        return settings.decided_by(plain["model"].default, plain["image_size"].default), None
    base = open_base(settings.base_model, settings.model)
    return settings.decided_by(base.model, base.image_size), base.names


def check_classes(settings: CriticalSettings, base: tuple[str, ...] | None, data: Sequence[str]) -> None:
    """Refuse a base model of other classes than the data set's where no standard training makes it one of these; else
    say what follows."""
    # In any order: they are known by name.
    if base is None or sorted(base) == sorted(data):
        return
    differs = f"{settings.base_model} knows the classes {_few(base)}, the data set has {_few(data)}"
    if not settings.stages.standard.share:
        raise UserError(
            f"{differs}, so nothing can be mined with it: give stages.standard.share a value above 0, or a base model "
            "of the data set's classes"
        )
    log.warning("%s: it is compared with the first stage, standard training, instead", differs)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
