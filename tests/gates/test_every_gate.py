"""Every gate in the table of plug points passes the contract."""

from __future__ import annotations

import evidence as samples
import pytest

from marauder.core.plugins import names
from marauder.testing.gates import GateContract


@pytest.mark.parametrize("name", names("gate"))
class TestEveryGate(GateContract):
    """All there are."""

    passing, broken, nothing_asked = samples.PASSING, samples.BROKEN, samples.NOTHING_ASKED


def test_only_gates_that_always_judge_have_no_sample_without_a_question() -> None:
    always = {"sanity", "determinism", "health", "representation", "floor"}
    assert set(names("gate")) - set(samples.NOTHING_ASKED) == always
