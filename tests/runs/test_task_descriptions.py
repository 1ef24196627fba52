"""Every task in the table of plug points passes the contract of descriptions."""

from __future__ import annotations

import pytest

from marauder.core.plugins import names
from marauder.testing.task_descriptions import TaskDescriptionContract


@pytest.mark.parametrize("name", names("task"))
class TestEveryTask(TaskDescriptionContract):
    """All there are."""
