"""Where MLflow keeps runs and models: its embedded SQLite store unless a server is named; opened by one at a time.

Tracking and the registry share it. Importing this file does not import MLflow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from marauder.core.locks import turn
from marauder.core.settings import Settings

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


class MlflowSettings(Settings):
    """Options of the tracker and of the registry."""

    uri: str | None = Field(None, description="of a store or server")
    folder: Path | None = Field(None, description="of the embedded SQLite store")

    @field_validator("uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value and urlsplit(value).password:
            raise ValueError(
                "holds a password, which would be written into the run; "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        return value


def locate(settings: MlflowSettings, runs_folder: Path) -> MlflowStore:
    """The store that the settings name: ``uri``, else ``folder``, else MLFLOW_TRACKING_URI, else ``<runs>/mlflow``."""
    if settings.uri:
        return _at(settings.uri)
    if settings.folder:
        return _in(settings.folder)
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
