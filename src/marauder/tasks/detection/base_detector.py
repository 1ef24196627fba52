"""The detector that a run goes on from, opened before anything is written; it decides the architecture and the image
size where the settings do not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.plain import PlainMapping
from marauder.models.files import LoadedDetector, load_detector
from marauder.models.naming import detector_names
from marauder.models.ultralytics_adapter import DetectionModel, build_detector
from marauder.tasks.detection.base_settings import AUTO_MODEL
from marauder.tasks.detection.settings import DetectionSettings

_FAMILY = re.compile(r"(yolov8|yolo11)")


@dataclass(frozen=True)
class BaseDetector:
    """What a run takes over from the detector that it starts from. ``names``: of its classes, in their order."""

    path: Path
    model: str
    image_size: int
    names: tuple[str, ...]


def open_base(path: Path, model: str = AUTO_MODEL) -> BaseDetector:
    """The detector at ``path``, for settings that name ``model`` or leave it open.

    Raises ``UserError`` for a file that cannot be opened, and for a detector of another architecture than ``model``.
    """
    base = load_detector(path)
    found = architecture_of(base)
    if model == AUTO_MODEL:
        if found is None:
            raise UserError(
                f"{base.path}: does not say which architecture it is; name it (--model), one of: "
                f"{', '.join(detector_names())}"
            )
    else:
        # Built, to compare the names in one spelling.
        asked = str(build_detector(model, base.names).marauder_architecture)
        if found is not None and asked != found:
            raise UserError(
                f"{path}: is a {found}, and model is {asked}; leave model out (--model), or give --model {found}"
            )
    size = base.image_size
    # Detectors of other programs may say any size, or none.
    if size < 64 or size % 32:
        size = DetectionSettings.model_fields["image_size"].default
    return BaseDetector(path, found or model, size, base.names)


def architecture_of(detector: LoadedDetector) -> str | None:
    """Its name (``yolov8n``), from what Marauder noted or from the description that Ultralytics keeps in the model;
    ``None`` where neither says one that can be built."""
    return architecture_of_network(detector.model, detector.metadata)


def architecture_of_network(network: DetectionModel, metadata: PlainMapping) -> str | None:
    """As ``architecture_of``, for a network and what its file says."""
    # Marauder's own note first: Ultralytics' description is that of a file name, which people change.
    noted = metadata.get("architecture") or getattr(network, "marauder_architecture", None)
    if noted:
        return str(noted)
    described: Any = network.yaml
    family = _FAMILY.match(Path(str(described.get("yaml_file", ""))).name)
    name = f"{family.group(1)}{described.get('scale', '')}" if family is not None else ""
    return name if name in detector_names() else None
