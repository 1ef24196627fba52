"""The model in production that a run is compared with: found in the registry, fetched once, checked."""

from __future__ import annotations

import logging

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.registry.base import PRODUCTION
from marauder.registry.opening import open_registry
from marauder.runs.settings import RunSettings
from marauder.runs.tasks.base import Production

log = logging.getLogger("marauder")
FETCHED = "version.json"


def find_production(settings: RunSettings) -> tuple[Production | None, str]:
    """The production model of the project in the run's folder, or ``None`` and why there is none to compare with."""
    registry = open_registry(settings.registry, settings.runs)
    if registry is None:
        return None, "no registry is set (registry.kind: none)"
    try:
        version = registry.find(settings.project, PRODUCTION)
        if version is None:
            return None, f"no version of {settings.project} is in production yet"
        folder = settings.folder / "production" / version.version
        known = folder / FETCHED
        if not known.is_file() or read_json(known).get("weights_sha256") != version.weights_sha256:
            registry.fetch(version, folder)
            write_json(known, {"version": version.version, "weights_sha256": version.weights_sha256})
    except UserError as error:
        log.warning("the registry cannot be asked for the production model: %s", error)
        return None, f"the registry could not be asked: {error}"
    return Production(version, folder), ""
