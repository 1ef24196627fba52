"""Every task in the table of plug points passes the contract of descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from marauder.core.errors import UserError
from marauder.core.metrics import Metric, headline
from marauder.core.plugins import names
from marauder.evaluation.resampling import METRICS
from marauder.gates.plan import load_gates
from marauder.gates.regression import RegressionSettings
from marauder.runs.task_description import describe_task
from marauder.testing.task_descriptions import TaskDescriptionContract


@pytest.mark.parametrize("name", names("task"))
class TestEveryTask(TaskDescriptionContract):
    """All there are."""


def test_detection_compares_what_can_be_resampled() -> None:
    assert describe_task("detection").comparable() == METRICS


def test_the_headline_is_the_first_that_sums_up_a_run_else_the_first() -> None:
    plain, summing = Metric("pictures", "pictures"), Metric("recall", "recall", headline=True)
    assert headline([plain, summing]) == "recall" and headline([plain]) == "pictures"
    assert [describe_task(name).headline() for name in ("detection", "pretraining")] == ["map50", "probe_after"]


@pytest.mark.parametrize(("overrides", "metric"), [((), "map50"), (("regression.metric=recall",), "recall")])
def test_the_regression_gate_compares_the_headline_where_no_metric_is_named(
    overrides: tuple[str, ...], metric: str
) -> None:
    task = describe_task("detection")
    given = load_gates(overrides=overrides).for_task(task.headline(), task.comparable()).settings["regression"]
    assert isinstance(given, RegressionSettings) and given.metric == metric


def test_a_metric_that_the_task_cannot_compare_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text("health:\nregression:\n  metric: map5\n", encoding="utf-8")
    task = describe_task("detection")
    told = r"gates\.yaml:3: regression\.metric: 'map5' cannot be compared here; choose one of: map50, map75"
    with pytest.raises(UserError, match=told):
        load_gates(file).for_task(task.headline(), task.comparable())
    with pytest.raises(UserError, match="'map50' cannot be compared here; choose one of: accuracy"):
        load_gates(overrides=["regression.metric=map50"]).for_task("accuracy", ("accuracy",))
