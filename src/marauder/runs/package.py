"""A finished run's files: put together for the registry, and copied to the store."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import hash_file, remove_leftovers
from marauder.data.manifests.pinning import DataPin
from marauder.registry.base import CANDIDATE, WITHHELD, Candidate
from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings
from marauder.runs.record import RunRecord
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import TaskDescription, describe_task
from marauder.storage.base import StoreError
from marauder.storage.opening import open_store

log = logging.getLogger("marauder")
PACKAGE = "package"
FILES = {
    "config.yaml": "data",
    "data_pin.json": "data",
    "provenance.json": "data",
    "gates.json": "report",
    "eval_report.json": "report",
    "report.html": "report",
    "model_card.md": "card",
    "model_card.json": "card",
    "metrics.jsonl": "",
    "transfer_account.txt": "",
}
"""What every run leaves and a registered version holds, and what it is for trackers (empty: they do not keep it)."""
EXPORTED = ("model.*", "export_report.json", "metadata.yaml")


def pack(folder: Path, task: type[TaskDescription]) -> Path:
    """Bring the files that make a version together in ``folder/package`` (second names of the same files)."""
    package = folder / PACKAGE
    # Anew each time: a file of an earlier attempt must not be registered with this one's.
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir()
    found = [folder / name for name in (*FILES, *task.files)] + [
        path
        for name in EXPORTED
        for path in folder.glob(f"exported/*/{name}")
        if len(path.suffixes) == 1  # model.failed_parity.onnx and its like are not to be deployed
    ]
    for path in found:
        if path.is_file():
            try:
                os.link(path, package / path.name)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, package / path.name)
    remove_leftovers(package)
    return package


def register(settings: RunSettings, record: RunRecord, pinned: DataPin) -> str | None:
    """Make the run a version, with the alias ``candidate`` if no gate failed or withheld it and that is new; of a
    version that is there already verdict, figures and files are brought up to date. ``None`` without a registry, or
    when it cannot be reached (a warning says so; the same command tries again)."""
    metrics = {name: float(value) for name, value in record.metrics.items() if value is not None}
    tags = {"data": pinned.fingerprint, "data_version": pinned.version or "", "task": record.task, "key": record.key}
    if record.withheld:
        tags[WITHHELD] = record.withheld
    offered = record.verdict != "fail" and not record.withheld
    package = pack(settings.folder, describe_task(settings.task))
    # Of the file that other steps take, which need not be the sealed one.
    weights = hash_file(package / record.weights)
    candidate = Candidate(record.project, record.id, package, weights, record.verdict, metrics, tags)
    try:
        registry = open_registry(settings.registry, settings.runs)
        if registry is None:
            return None
        known = {one.version for one in registry.versions(record.project)}
        version = registry.register(candidate)
        is_new = version.version not in known
        if not is_new:
            registry.judge_again(version, candidate)
        # Where the answer is as before, the aliases stay: somebody may have moved them since.
        if offered and (is_new or not version.is_offered):
            registry.set_alias(record.project, CANDIDATE, version.version)
        elif not offered and CANDIDATE in version.aliases:
            registry.set_alias(record.project, CANDIDATE, None)
    except UserError as error:
        log.warning("not registered: %s. Run the same command again when the registry can be reached", error)
        return None
    return version.version


def store_files(settings: RunSettings) -> bool:
    """Copy the package to ``models/<project>/<run id>/`` in the store, if one is set; whether it is there."""
    if settings.store is None:
        return False
    store = open_store(settings.store)
    prefix = f"models/{settings.project}/{settings.id}"
    package = pack(settings.folder, describe_task(settings.task))
    try:
        for path in sorted(package.iterdir()):
            store.put(f"{prefix}/{path.name}", path)
    except StoreError as error:
        log.warning("not stored: %s. Run the same command again when the store can be reached", error)
        return False
    return True


def registry_place(settings: RunSettings) -> str:
    """Which registry the settings lead to, in words that differ when it does."""
    if settings.registry.kind == "none":
        return ""
    server = os.environ.get("MLFLOW_TRACKING_URI", "") if settings.registry.kind == "mlflow" else ""
    return f"{settings.registry.kind} {settings.registry.options} {server or settings.runs.resolve()}"


def registry_words(settings: RunSettings) -> list[str]:
    """Options of ``marauder registry`` that lead to the registry of a run, where the defaults do not."""
    words = [] if settings.registry.kind == RegistrySettings().kind else ["--registry", settings.registry.kind]
    if settings.runs != Path("runs"):
        words += ["--runs", str(settings.runs)]
    return [
        *words,
        *(word for name, value in settings.registry.options.items() for word in ("--option", f"{name}={value}")),
    ]
