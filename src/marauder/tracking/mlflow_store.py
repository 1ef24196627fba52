"""Where MLflow keeps runs and models: its embedded SQLite store unless a server is named; opened by one at a time.

Tracking and the registry share it. Importing this file does not import MLflow.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from marauder.core.errors import UserError
from marauder.core.locks import turn
from marauder.core.settings import Settings
from marauder.tracking.mlflow_moves import ARTIFACTS, OWN_TAG, replace_places

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("marauder")
SERVER_VARIABLE = "MLFLOW_TRACKING_URI"
OPENING_SECONDS = 120.0
DATABASE = "mlflow.db"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # Making the tables of a new store is logged line by line, which concerns nobody.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""What stands in the environment before MLflow is imported; what the user has set stays."""


@dataclass(frozen=True)
class MlflowStore:
    """``uri`` of the store; ``database``: its file on this machine, ``None`` for a server."""

    uri: str
    database: Path | None

    @property
    def folder(self) -> Path | None:
        """Where an embedded store lies."""
        return None if self.database is None else self.database.parent

    @property
    def is_read_only(self) -> bool:
        """Whether an embedded store lies in a folder in which nothing can be made."""
        return self.folder is not None and self.folder.is_dir() and not os.access(self.folder, os.W_OK)

    @property
    def artifact_location(self) -> str | None:
        """Where a new experiment's files go, the same by whatever links one comes; ``None`` leaves it to the server."""
        return None if self.folder is None else (self.folder.resolve() / ARTIFACTS).as_uri()

    def explained(self, error: Exception) -> UserError:
        """What to do about an ``error`` of MLflow."""
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        if self.database is None:
            place, remedy = f"MLflow at {self.uri}", "check that it is up, and that its version fits"
        else:
            place, remedy = f"MLflow's store {self.database}", "check that it can be written, and that MLflow is as new"
        return UserError(f"{place}: {problem}; {remedy} (uri or folder in registry.options, else {SERVER_VARIABLE})")


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
    """A client of the store, whose tables exist.

    Raises ``UserError`` where an embedded one is no database, stays locked or is not allowed, and MLflow's own errors.
    """
    for name, value in QUIET.items():
        # Before the import below, which reads them.
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    if store.folder is None:
        return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        # Two creators of one SQLite file at once break each other; where nothing can be made, there are none.
        lock = turn(store.folder / ".opening.lock", f"MLflow's store {store.folder}", OPENING_SECONDS)
        with nullcontext() if store.is_read_only else lock:
            follow_move(store)
            client = MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
            # Tables are made at first use, of tracking and of the registry apart: both while the lock is held.
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    except OSError as error:
        raise store.explained(error) from error
    return client


def follow_move(store: MlflowStore) -> None:
    """Let an embedded store that was moved or copied name the places where its files lie now.

    One that can only be read stays as it is. Raises ``UserError`` for a database that is none, or stays locked.
    """
    if store.database is None or store.artifact_location is None:
        return
    try:
        replace_places(store.database, store.artifact_location)
    except sqlite3.Error as error:
        # The low byte is the kind of error (https://sqlite.org/rescode.html).
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if not store.is_read_only and code != sqlite3.SQLITE_READONLY:
            raise store.explained(error) from error
        log.warning("%s: cannot be written (%s); files are looked up at its former place", store.database, error)


def create_experiment(client: MlflowClient, store: MlflowStore, name: str) -> str:
    """A new experiment, its files beside the database of an embedded store; returns its id."""
    # Without its kind MLflow 3 asks for it, and shows traces first, of which there are none.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    tags |= {} if store.folder is None else {OWN_TAG: ARTIFACTS}
    return str(client.create_experiment(name, artifact_location=store.artifact_location, tags=tags))


def newest_runs(database: Path) -> str:
    """Where MLflow's pages show the runs of the experiment that ran last, after the server's address."""
    words = "SELECT experiment_id FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT 1"
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute(words).fetchone()
    return "/" if found is None else f"/#/experiments/{found[0]}/runs"


def _in(folder: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{_plain(folder.absolute()) / DATABASE}", folder.absolute() / DATABASE)


def _at(uri: str) -> MlflowStore:
    if uri.startswith("sqlite:///"):
        return MlflowStore(uri, Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute())
    return MlflowStore(uri, None)


@cache
def _plain(folder: Path) -> Path:
    """A name of ``folder`` that MLflow takes for no other one; a link that goes with this process, where it needs one.

    In a URI a path ends at ``?``, and ``%20`` is a blank; of a quoted one MLflow makes the parents as they stand.
    """
    if not set("?%#") & set(str(folder)):
        return folder
    place = Path(tempfile.mkdtemp(prefix="marauder-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "mlflow").symlink_to(folder)
    return place / "mlflow"
