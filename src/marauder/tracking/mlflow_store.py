"""Where MLflow keeps runs and models: its embedded SQLite store unless a server is named; opened by one at a time.

Tracking and the registry share it. Importing this file does not import MLflow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from marauder.core.errors import UserError
from marauder.core.locks import turn

if TYPE_CHECKING:
    from mlflow import MlflowClient

SERVER_VARIABLE = "MLFLOW_TRACKING_URI"
OPENING_SECONDS = 120.0
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""What stands in the environment before MLflow is imported; what the user has set stays."""


@dataclass(frozen=True)
class MlflowStore:
    """``uri`` of the store; ``folder`` where it lies on this machine, ``None`` for a server."""

    uri: str
    folder: Path | None

    @property
    def artifact_location(self) -> str | None:
        """Where a new experiment's files go; ``None`` leaves it to the server."""
        return None if self.folder is None else (self.folder / "artifacts").absolute().as_uri()


def locate(options: Mapping[str, Any], runs_folder: Path) -> MlflowStore:
    """The store that ``options`` name: ``uri``, else ``folder``, else MLFLOW_TRACKING_URI, else ``<runs>/mlflow``.

    Raises ``UserError`` for a ``uri`` with a password in it: options are written into runs.
    """
    if options.get("uri"):
        if urlsplit(str(options["uri"])).password:
            raise UserError(
                "option uri of MLflow: holds a password, which would be written into the run; "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        return _at(str(options["uri"]))
    if options.get("folder"):
        return _in(Path(options["folder"]))
    if os.environ.get(SERVER_VARIABLE):
        return _at(os.environ[SERVER_VARIABLE])
    return _in(runs_folder / "mlflow")


def open_client(store: MlflowStore) -> MlflowClient:
    """A client of the store, whose tables exist. Two creators of one SQLite file at once break each other."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    if store.folder is None:
        return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    store.folder.mkdir(parents=True, exist_ok=True)
    with turn(store.folder / ".opening.lock", f"MLflow's store {store.folder}", OPENING_SECONDS):
        client = MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    return client


def _in(folder: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{folder.absolute() / 'mlflow.db'}", folder.absolute())


def _at(uri: str) -> MlflowStore:
    if uri.startswith("sqlite:///"):
        return MlflowStore(uri, Path(uri.removeprefix("sqlite:///")).absolute().parent)
    return MlflowStore(uri, None)
