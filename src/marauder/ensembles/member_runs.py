"""The members of an ensemble as gated runs: the settings of each, and what it starts from."""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.ensembles.roles import MemberName
from marauder.ensembles.training_settings import EnsembleTrainingSettings
from marauder.models.files import LoadedDetector, load_detector
from marauder.models.transfer import start_detector
from marauder.tasks.detection.base_detector import architecture_of
from marauder.tasks.detection.settings import DetectionSettings

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class MemberRun:
    """A member and the settings of its run."""

    named: MemberName
    settings: DetectionSettings

    @property
    def name(self) -> str:
        """In folders and reports."""
        return self.named.name


def members_of(settings: EnsembleTrainingSettings) -> tuple[MemberRun, ...]:
    """All members. Raises ``UserError`` for a base model that cannot be read."""
    starts = _starts(settings)
    return tuple(
        MemberRun(named, member_settings(settings, named, starts[named.architecture]))
        for named in settings.named_members
    )


def member_settings(settings: EnsembleTrainingSettings, named: MemberName, start: Path | None) -> DetectionSettings:
    """The settings of one member's run, in a folder of its own below the ensemble's. ``start``: its ``weights``."""
    whole = (settings.id or settings.folder.name)[:20]
    changes: Plain = {
        "model": named.architecture,
        "output": settings.folder / named.name,
        # Ids end at 63 characters.
        "id": f"{whole}-{named.name}"[:63],
        "checkpoints": settings.checkpoint_folder / named.name,
        "weights": start,
        "training.seed": settings.training.seed + seed_offset(named.name),
        # The device is the ensemble's, and so is the budget.
        "gate": {**settings.gate, **dict.fromkeys(settings.further_gates, "off")},
        # What is offered, exported and deployed is the ensemble.
        "registry": {"kind": "none"},
        "export.formats": (),
        "recipe": None,
        "step": "",
        "workspace": None,
        **settings.changes_of(named.role),
    }
    # A plain detection run, which `marauder train` continues, too.
    return settings.plain().changed(changes)


def seed_offset(name: str) -> int:
    """What a member adds to the common seed: by its name, so that other members may come and go. 1 to 10,000."""
    return 1 + zlib.crc32(name.encode()) % 10_000


def _starts(settings: EnsembleTrainingSettings) -> dict[str, Path | None]:
    """What the members of each architecture start from: the base model where it fits, else ``weights``."""
    architectures = dict.fromkeys(named.architecture for named in settings.named_members)
    if settings.base_model is None:
        return dict.fromkeys(architectures, settings.weights)
    base = load_detector(settings.base_model)
    return {name: _start(settings, name, base) for name in architectures}


def _start(settings: EnsembleTrainingSettings, architecture: str, base: LoadedDetector) -> Path | None:
    if architecture_of(base) == architecture or _fits(architecture, base):
        return settings.base_model
    log.warning(
        "%s is no %s, and less than half of its tensors fit one: members of this architecture start from %s instead "
        "(weights=%s)",
        settings.base_model,
        architecture,
        "their COCO weights" if settings.weights is not None else "random weights",
        settings.weights or "none",
    )
    return settings.weights


def _fits(architecture: str, base: LoadedDetector) -> bool:
    """Whether at least half of the tensors of ``architecture`` can be taken from ``base``, which has been read before;
    as of models of one family and width that differ in depth."""
    try:
        start_detector(architecture, base.names, weights=base.path)
    except UserError:
        return False
    return True
