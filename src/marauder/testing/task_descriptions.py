"""The contract of descriptions of tasks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import PurePosixPath

from marauder.core.metrics import Metric, headlines
from marauder.core.plugins import lacking, names
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import ENGINE_GATES, TaskDescription, describe_task


class TaskDescriptionContract:
    """What every description of a task promises. A subclass is parametrized over ``name``."""

    def test_says_what_it_is(self, name: str) -> None:
        task = describe_task(name)
        assert issubclass(task, TaskDescription) and lacking(task) == []
        assert task.name == name and task.title
        assert issubclass(task.settings_model, RunSettings)

    def test_its_figures_have_names_of_their_own_and_some_sum_up_a_run(self, name: str) -> None:
        metrics = describe_task(name).metrics
        assert metrics and all(isinstance(metric, Metric) for metric in metrics)
        assert len({metric.name for metric in metrics}) == len({metric.title for metric in metrics}) == len(metrics)
        assert headlines(metrics), "nothing sums up a run"
        assert describe_task(name).headline() in describe_task(name).comparable()

    def test_its_gates_are_gates_and_it_leaves_those_of_the_engine_to_the_engine(self, name: str) -> None:
        task = describe_task(name)
        assert set(task.answerable()) <= set(names("gate")) and set(ENGINE_GATES) <= set(task.answerable())
        assert not set(task.gates) & set(ENGINE_GATES)

    def test_its_files_lie_in_the_folder_of_the_run(self, name: str) -> None:
        task = describe_task(name)
        assert {task.weights_file, task.sealed_file} <= set(task.files), "the weights belong to a registered version"
        for file in task.files:
            assert not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts
        assert set(task.files.values()) <= {"", "model", "report", "data"}

    def test_its_work_is_made_of_its_settings(self, name: str) -> None:
        task = describe_task(name)
        work = task.load()
        (parameter,) = inspect.signature(work).parameters.values()
        assert parameter.name == "settings" and work.description is task

    def test_describing_it_loads_nothing_heavy(self, name: str) -> None:
        code = (
            "import sys; from marauder.runs.task_description import describe_task; "
            f"describe_task({name!r}).settings_model; assert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
