"""A registry of each kind, empty, on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import servers
from marauder.registry.base import Registry
from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings
from servers import s3_endpoint, sagemaker_endpoint

__all__ = ["s3_endpoint", "sagemaker_endpoint"]


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes a second."""
    from marauder.tracking.mlflow_store import MlflowSettings, locate, open_client

    folder = tmp_path_factory.mktemp("mlflow")
    open_client(locate(MlflowSettings(folder=folder), folder))
    return folder / "mlflow.db"


@pytest.fixture(params=["files", "files_on_s3", "mlflow", "sagemaker", "wandb"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> RegistrySettings:
    kind, _, place = request.param.partition("_on_")
    options: dict[str, Any] = {}
    if place == "s3":
        endpoint = request.getfixturevalue("s3_endpoint")
        options["address"] = f"s3://{servers.BUCKET}/{tmp_path.name}?endpoint_url={endpoint}"
    if kind == "wandb":
        options["mode"] = "disabled"  # what W&B is told is looked at in test_wandb.py; it takes seconds each time
    if kind == "sagemaker":
        endpoint = request.getfixturevalue("sagemaker_endpoint")
        servers.reset_aws(endpoint)
        options |= {"address": str(tmp_path / "files"), "endpoint_url": endpoint, "region": "us-east-1"}
    if kind == "mlflow":
        (tmp_path / "runs" / "mlflow").mkdir(parents=True)
        shutil.copy(request.getfixturevalue("mlflow_database"), tmp_path / "runs" / "mlflow")
    return RegistrySettings(kind=kind, options=options)


@pytest.fixture
def registry(settings: RegistrySettings, tmp_path: Path) -> Registry:
    found = open_registry(settings, tmp_path / "runs")
    assert found is not None
    return found
