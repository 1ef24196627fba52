"""Fixtures that every test may use, and what keeps the tests on this machine."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("MARAUDER_SHARED_DATA", str(Path(__file__).parents[2] / "shared" / "data"))

# No test, and no process that one starts, reaches out: nothing is fetched, and what asks all the same is sent to a port
# that nobody listens on.
os.environ["MARAUDER_OFFLINE"] = "1"
for _name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ[_name] = "http://127.0.0.1:9"
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = "127.0.0.1,localhost"
# Nor is anything found that a user of this machine keeps or fetched: what a run starts from would depend on it.
for _name in ("MARAUDER_WEIGHTS", "MARAUDER_WEIGHTS_URL"):
    os.environ.pop(_name, None)
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / f"marauder-tests-{getpass.getuser()}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and labels beside the checkout; tests that need it are skipped without it."""
    folder = Path(os.environ["MARAUDER_SHARED_DATA"])
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}; set MARAUDER_SHARED_DATA to their folder")
    return folder
