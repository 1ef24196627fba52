"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MARAUDER_SHARED_DATA", str(Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and labels beside the checkout; tests that need it are skipped without it."""
    folder = Path(os.environ["MARAUDER_SHARED_DATA"])
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}; set MARAUDER_SHARED_DATA to their folder")
    return folder
