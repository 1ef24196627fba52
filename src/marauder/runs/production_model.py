"""The model in production that a run is compared with: found in the registry, fetched once, checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.registry.base import PRODUCTION
from marauder.registry.opening import open_registry
from marauder.runs.settings import RunSettings
from marauder.runs.task_runtime import Production

log = logging.getLogger("marauder")
FETCHED = "version.json"


@dataclass(frozen=True)
class Found:
    """The production model, or ``why`` there is none to compare with; ``unknown``: the registry did not answer."""

    production: Production | None
    why: str = ""
    unknown: bool = False


def is_in_production(settings: RunSettings, version: str, weights_sha256: str) -> bool:
    """Whether ``version``, or one with the same weights, is the project's production model, as far as the registry
    answers."""
    try:
        registry = open_registry(settings.registry, settings.runs)
        found = registry.find(settings.project, PRODUCTION) if registry is not None else None
    except UserError:
        return False  # then it is offered, and promoting says what is the matter
    return found is not None and (found.version == version or found.weights_sha256 == weights_sha256)


def find_production(settings: RunSettings) -> Found:
    """Look for the production model of the project, and bring its files into the run's folder."""
    try:
        registry = open_registry(settings.registry, settings.runs)
        if registry is None:
            return Found(None, "no registry is set (registry.kind: none)")
        version = registry.find(settings.project, PRODUCTION)
        if version is None:
            return Found(None, f"no version of {settings.project} is in production yet")
        folder = settings.folder / "production" / version.version
        known = folder / FETCHED
        # The note is written after the files: a fetch that was killed is done again.
        if not known.is_file() or read_json(known).get("weights_sha256") != version.weights_sha256:
            registry.fetch(version, folder)
            write_json(known, {"version": version.version, "weights_sha256": version.weights_sha256})
    except UserError as error:
        log.warning("the production model could not be looked up in the registry: %s", error)
        # Unknown is not "none": gates must not pass because the registry was away.
        return Found(None, f"looking up the production model failed: {error}", unknown=True)
    return Found(Production(version, folder))
