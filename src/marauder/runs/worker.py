"""A training process of a run, started from the run's job: ``python -m marauder.runs.worker <job.json>``."""

from __future__ import annotations

from marauder.core.clock import Clock
from marauder.launch.base import Job
from marauder.launch.worker import run_job


def train_job(job: Job, clock: Clock) -> None:
    """Train as the settings beside the job say, which the leading process wrote.

    Raises ``Interrupted``, ``UserError``.
    """
    # Inside: numerical libraries look at the environment when they are loaded, and ``run_job`` sets it first.
    from marauder.core.files import read_json
    from marauder.engine.process import prepare_process
    from marauder.runs.task_description import describe_task
    from marauder.runs.worker_training import train_only

    stated = read_json(job.folder / job.content["settings"])
    settings = describe_task(stated["task"]).settings_model.model_validate(stated)
    prepare_process(settings.training.threads, job.processes)
    train_only(settings, clock, job.resume, job.fresh)


if __name__ == "__main__":
    run_job(train_job)
