"""A real S3 server for the tests of stores, started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import servers


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the server; its credentials are in the environment while the session lasts."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", servers.KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with servers.s3_server(tmp_path_factory.mktemp("s3") / "server") as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(params=["file", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "file":
        return str(tmp_path / "store")
    endpoint = request.getfixturevalue("s3_endpoint")
    return f"s3://{servers.BUCKET}/{tmp_path.name}?endpoint_url={endpoint}"
