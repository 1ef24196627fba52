"""What every kind of run says of its origin in report and card: code, machine and data."""

from __future__ import annotations

from marauder.core.plain import PlainMapping
from marauder.data.manifests.pinning import DataPin as Pin
from marauder.reporting.evidence import DataPin, Provenance
from marauder.runs.settings import RunSettings


def provenance_of(content: PlainMapping) -> Provenance:
    """The content of ``provenance.json`` as the report takes it."""
    # The user's own repository first: Marauder itself is one of the packages.
    git = content.get("git") or content.get("marauder_git") or {}
    hardware = {key: str(value) for key, value in content["hardware"].items() if value not in (None, [], "")}
    return Provenance(
        git_sha=git.get("commit", ""),
        git_dirty=git.get("dirty"),
        container_digest=content.get("container_digest") or "",
        packages=content["packages"],
        hardware=hardware,
        seed=content["seed"],
        created=content["created"],
    )


def pin_of(pin: Pin, settings: RunSettings) -> DataPin:
    """The pinned data as the report takes them."""
    return DataPin(
        name=pin.source,
        version=pin.version or "",
        fingerprint=pin.fingerprint,
        splits={name: split.pictures for name, split in pin.splits.items()},
        boxes={name: split.boxes for name, split in pin.splits.items()},
        dvc={str(key): str(value) for key, value in (pin.dvc or {}).items()},
        licence=settings.card.data_licence,
    )
