"""An embedded MLflow store under any path, moved and copied: files are found, and written, where the store lies now."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service import utils

from marauder.core.errors import UserError
from marauder.core.files import hash_file, portable_path
from marauder.core.plugins import make
from marauder.registry.base import PRODUCTION
from marauder.registry.mlflow import MlflowRegistry
from marauder.registry.promotion import promote
from marauder.registry.settings import RegistrySettings
from marauder.runs.production_model import find_production
from marauder.runs.settings import RunSettings
from marauder.testing.registries import PROJECT, register
from marauder.tracking import mlflow_moves
from marauder.tracking.base import TrackedRun
from marauder.tracking.mlflow import MlflowTracker
from marauder.tracking.mlflow_moves import OWN_TAG
from marauder.tracking.mlflow_store import MlflowStore
from models import made

ODD = "a b?c=%20#é%"


def registry_in(workspace: Path) -> MlflowRegistry:
    registry: MlflowRegistry = made(workspace, "mlflow")
    return registry


@contextmanager
def database_of(workspace: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(workspace / "runs" / "mlflow" / "mlflow.db")) as connection, connection:
        yield connection


def track(workspace: Path, run_id: str) -> Path:
    """Track a run with one file; returns the folder among whose files it must be."""
    folder = workspace / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    options = {"folder": portable_path(workspace / "runs" / "mlflow", folder)}
    tracker = make("tracker", "mlflow", options)
    tracker.start(TrackedRun(PROJECT, run_id, folder, {"epochs": 3}, {}))
    (folder / "note.txt").write_text("seen")
    tracker.log_artifact(folder / "note.txt", "report")
    return workspace / "runs" / "mlflow" / "artifacts" / tracker.id / "artifacts" / "report"


@pytest.fixture
def workspace(tmp_path: Path, mlflow_database: Path) -> Path:
    """A workspace with a tracked run, which is registered, and another version."""
    (tmp_path / "first" / "runs" / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_database, tmp_path / "first" / "runs" / "mlflow")
    track(tmp_path / "first", "a")
    register(registry_in(tmp_path / "first"), tmp_path / "candidates", "a", "b")
    return tmp_path / "first"


def check(workspace: Path, outside: Path) -> None:
    """All that a workspace does with its store goes on, inside it."""
    utils._artifact_repos_cache.clear()  # MLflow keeps places by run; a process of its own would know none
    registry = registry_in(workspace)
    for number, version in enumerate(registry.versions(PROJECT)):
        weights = registry.fetch(version, outside / str(number))
        assert weights.read_bytes().startswith(b"weights of")
        assert version.location.startswith((workspace / "runs" / "mlflow" / "artifacts").as_uri())
    assert promote(registry, PROJECT, "2", "Ada").aliases == (PRODUCTION,)
    later = f"later-{outside.name}"
    for run_id in ("a", later):
        assert (track(workspace, run_id) / "note.txt").read_text() == "seen"
    third = register(registry, outside / "more", later)[0]
    assert registry.fetch(third, outside / "third").is_file()


def test_a_store_under_any_path_keeps_to_its_folder(tmp_path: Path, workspace: Path) -> None:
    place = tmp_path / "odd" / ODD
    place.parent.mkdir()
    workspace.rename(place)
    check(place, tmp_path / "out")
    assert [path.name for path in place.parent.iterdir()] == [ODD], "nothing is made beside it under half its name"
    assert not workspace.exists(), "the former folder is not made again"


def test_a_copy_leaves_the_original_alone(tmp_path: Path, workspace: Path) -> None:
    before = sorted(path.relative_to(workspace) for path in workspace.rglob("*"))
    shutil.copytree(workspace, tmp_path / "copy")
    check(tmp_path / "copy", tmp_path / "out")
    assert sorted(path.relative_to(workspace) for path in workspace.rglob("*")) == before
    check(workspace, tmp_path / "out-of-the-first")


def test_a_store_of_before_the_tag_follows_too(tmp_path: Path, workspace: Path) -> None:
    with database_of(workspace) as database:
        database.execute("DELETE FROM experiment_tags WHERE key = ?", (OWN_TAG,))
    workspace.rename(tmp_path / "moved")
    check(tmp_path / "moved", tmp_path / "out")


def test_places_that_somebody_chose_stay(tmp_path: Path, workspace: Path) -> None:
    chosen = (tmp_path / "chosen" / "artifacts").as_uri()
    registry_in(workspace)._client.create_experiment("theirs", artifact_location=chosen)
    workspace.rename(tmp_path / "moved")
    registry_in(tmp_path / "moved").projects()
    with database_of(tmp_path / "moved") as database:
        places = dict(database.execute("SELECT name, artifact_location FROM experiments"))
    assert places["theirs"] == chosen
    assert places[PROJECT] == (tmp_path / "moved" / "runs" / "mlflow" / "artifacts").as_uri()


def test_a_version_whose_files_are_gone_is_not_promoted(workspace: Path) -> None:
    registry = registry_in(workspace)
    promote(registry, PROJECT, "1", "Ada")
    folder = workspace / "runs" / "mlflow" / "artifacts"
    second = next(path for path in folder.rglob("best.pt") if path.read_bytes().startswith(b"weights of b"))

    def refused() -> Any:
        with pytest.raises(UserError, match=r"version 2.*missing"):
            promote(registry, PROJECT, "2", "Ada")
        production = registry.find(PROJECT, PRODUCTION)
        return production and production.version

    second.unlink()
    assert refused() == "1"
    shutil.rmtree(second.parent)
    assert refused() == "1"
    assert [entry["version"] for entry in registry.promotions(PROJECT)] == ["1", "1"]


@pytest.fixture(params=["garbage", "locked"])
def unusable(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace whose database is none, or is held by another process."""
    monkeypatch.setattr(mlflow_moves, "WAITING_SECONDS", 0.05)
    database = workspace / "runs" / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(database)) as other:
        if request.param == "locked":
            other.execute("BEGIN EXCLUSIVE")
        else:
            database.write_bytes(b"no database " * 100)
        yield workspace


def test_a_store_that_cannot_be_used_is_told_and_stops_no_run(unusable: Path, tmp_path: Path) -> None:
    told = r"MLflow's store .*mlflow.db: .*(not a database|locked); check that"
    with pytest.raises(UserError, match=told):
        registry_in(unusable).versions(PROJECT)
    with pytest.raises(UserError, match=told):
        register(registry_in(unusable), tmp_path / "more", "c")
    with pytest.raises(MlflowTracker.errors(), match=told):
        track(unusable, "later")
    settings = RunSettings(
        project=PROJECT, data=tmp_path, runs=unusable / "runs", id="later", registry=RegistrySettings(kind="mlflow")
    )
    found = find_production(settings)
    assert found.unknown and re.search(told, found.why)


def test_a_copy_that_can_only_be_read_is_listed_as_it_is(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(workspace, tmp_path / "copy")
    database = tmp_path / "copy" / "runs" / "mlflow" / "mlflow.db"
    before = hash_file(database)

    def only_reading(path: Path, **values: Any) -> sqlite3.Connection:
        return plain(f"{path.as_uri()}?mode=ro", uri=True, **values)

    plain = sqlite3.connect
    monkeypatch.setattr(mlflow_moves.sqlite3, "connect", only_reading)
    assert [one.version for one in registry_in(tmp_path / "copy").versions(PROJECT)] == ["1", "2"]
    assert "cannot be written" in caplog.text
    database.with_name(".opening.lock").unlink()
    monkeypatch.setattr(MlflowStore, "is_read_only", True)
    assert registry_in(tmp_path / "copy").projects() == [PROJECT]
    assert not database.with_name(".opening.lock").exists() and hash_file(database) == before
    with pytest.raises(UserError, match="nothing can be written there"):
        register(registry_in(tmp_path / "copy"), tmp_path / "more", "c")
