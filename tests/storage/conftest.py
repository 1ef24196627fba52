"""An empty store of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

import servers
from servers import s3_endpoint

__all__ = ["s3_endpoint"]


@pytest.fixture(params=["file", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty store; that of S3 is on a real server."""
    if request.param == "file":
        return str(tmp_path / "store")
    endpoint = request.getfixturevalue("s3_endpoint")
    return f"s3://{servers.BUCKET}/{tmp_path.name}?endpoint_url={endpoint}"
