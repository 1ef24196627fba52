"""The detector that step 5 starts from, opened before anything is written; it decides the architecture and the image
size where the settings do not."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.critical.settings import AUTO_MODEL, CriticalSettings
from marauder.models.files import LoadedDetector, load_detector
from marauder.models.naming import detector_names
from marauder.models.ultralytics_adapter import build_detector
from marauder.tasks.detection.settings import DetectionSettings

log = logging.getLogger("marauder")
_FAMILY = re.compile(r"(yolov8|yolo11)")


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
        return _decided(settings, plain["model"].default, plain["image_size"].default), None
    base = load_detector(settings.base_model)
    found = architecture_of(base)
    if settings.model == AUTO_MODEL:
        if found is None:
            raise UserError(
                f"{base.path}: does not say which architecture it is; name it (--model), one of: "
                f"{', '.join(detector_names())}"
            )
    else:
        # Built, to compare the names in one spelling.
        asked = str(build_detector(settings.model, base.names).marauder_architecture)
        if found is not None and asked != found:
            raise UserError(
                f"{settings.base_model}: is a {found}, and model is {asked}; leave model out (--model), or give "
                f"--model {found}"
            )
    size = base.image_size
    # Detectors of other programs may say any size, or none.
    if size < 64 or size % 32:
        size = DetectionSettings.model_fields["image_size"].default
    return _decided(settings, found or settings.model, size), base.names


def architecture_of(detector: LoadedDetector) -> str | None:
    """Its name (``yolov8n``), from what Marauder noted or from the description that Ultralytics keeps in the model;
    ``None`` where neither says one that can be built."""
    # Marauder's own note first: Ultralytics' description is that of a file name, which people change.
    noted = detector.metadata.get("architecture") or getattr(detector.model, "marauder_architecture", None)
    if noted:
        return str(noted)
    described: Any = detector.model.yaml
    family = _FAMILY.match(Path(str(described.get("yaml_file", ""))).name)
    name = f"{family.group(1)}{described.get('scale', '')}" if family is not None else ""
    return name if name in detector_names() else None


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


def _decided(settings: CriticalSettings, model: str, size: int) -> CriticalSettings:
    changes: dict[str, object] = {}
    if settings.model == AUTO_MODEL:
        changes["model"] = model
    if not settings.image_size:
        changes["image_size"] = size
    return settings.changed(changes)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
