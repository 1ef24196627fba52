"""Running the steps: those that need it, in order, under one time budget, each leaving a record wherever it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from marauder.core.clock import Clock, Interrupted, describe_seconds
from marauder.core.errors import UserError
from marauder.core.events import EventLog
from marauder.core.file_identity import Identity, identify
from marauder.core.files import to_plain, write_text
from marauder.core.locks import exclusive
from marauder.core.plain import Plain, PlainMapping
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.record import StepRecord, lock_path, read_record, settings_path, write_record
from marauder.pipeline.status import State, Status, flatten, reports_of
from marauder.pipeline.step import Awaited, Step, StepContext
from marauder.pipeline.workspace import Workspace
from marauder.runs.task_description import all_tasks

Say = Callable[[str], None]
POLL_SECONDS = 5.0


def select(
    pipeline: Pipeline, only: str | None = None, first: str | None = None, last: str | None = None
) -> tuple[Step, ...]:
    """The steps to consider: one, or those from ``first`` to ``last``; by name or number. Raises ``UserError``."""
    if only is not None:
        if first is not None or last is not None:
            raise UserError("--only names one step; leave out --from and --to")
        return (pipeline.step(only),)
    start = pipeline.steps.index(pipeline.step(first)) if first is not None else 0
    end = pipeline.steps.index(pipeline.step(last)) if last is not None else len(pipeline.steps) - 1
    if start > end:
        raise UserError(f"--from {first} comes after --to {last}; swap them")
    return pipeline.steps[start : end + 1]


def run_steps(
    pipeline: Pipeline, selected: Sequence[Step], clock: Clock, say: Say, fresh: bool = False, wait: bool = False
) -> list[str]:
    """Do what is not done among ``selected``, in order; returns what is awaited from outside, in words.

    ``fresh`` starts each of them over, done or not. A step that awaits something pauses, with all that follow from it,
    while others continue; with ``wait`` the pipeline stays until it has arrived. Raises ``Interrupted`` when the clock
    says to stop (everything saved), ``UserError`` when a step lacks its input or another pipeline works on the
    workspace; what a step raises is recorded as its failure and raised again.
    """
    awaited: list[str] = []
    held: set[str] = set()
    with exclusive(lock_path(pipeline.workspace), f"the workspace {pipeline.workspace.root}"):
        # Under the lock: two runs would leave a mixture of settings for the next one.
        write_text(settings_path(pipeline.workspace), _as_yaml(pipeline.given_settings()))
        for step in selected:
            # Asked again for each step: the one before may have changed what this one reads.
            status = pipeline.status(step)
            if status.state == State.OFF:
                continue
            behind = sorted(earlier.name for earlier in pipeline.producers(step) if earlier.name in held)
            # Held back, not failed: steps that do not depend on what is awaited continue.
            if behind:
                held.add(step.name)
                say(f"step {describe(step)}: follows once {' and '.join(behind)} is done")
                continue
            if status.state == State.WAITING:
                # Its producers were looked at above; what is missing now nobody in this run will make.
                raise UserError(f"step {describe(step)} cannot run: it waits {'; '.join(status.reasons)}")
            if status.state == State.DONE and not fresh:
                say(f"step {describe(step)}: done already, nothing to do")
                continue
            clock.check()
            say(f"step {describe(step)}: {_why(status, fresh)}")
            words = _run_or_pause(pipeline, step, clock, say, fresh or status.fresh, fresh, wait)
            if words is not None:
                held.add(step.name)
                awaited.append(words)
    return awaited


def _run_or_pause(
    pipeline: Pipeline, step: Step, clock: Clock, say: Say, fresh: bool, asked: bool, wait: bool
) -> str | None:
    """Run a step; returns what it awaits, if it pauses and nobody ``wait``s for that."""
    while True:
        try:
            _run_step(pipeline, step, clock, say, fresh, asked)
        except Awaited as pause:
            say(f"step {describe(step)}: paused. {pause.what}")
            if not wait:
                return pause.what
            while not pause.arrived():
                clock.check()
                time.sleep(POLL_SECONDS)
            say(f"step {describe(step)}: continues, what it waited for has arrived")
            # What was to be started over was, before the pause.
            fresh = asked = False
        else:
            return None


def last_config(workspace: Workspace) -> Path | None:
    """The settings of the last run on a workspace, as a file to read; ``None`` when nothing ran yet."""
    path = settings_path(workspace)
    return path if path.exists() else None


def describe(step: Step) -> str:
    """Number, name and title of a step, as messages show it."""
    return f"{step.number} {step.name} ({step.title})" if step.number >= 0 else f"{step.name} ({step.title})"


def _why(status: Status, fresh: bool) -> str:
    if fresh:
        return "starts over, as requested"
    if status.state == State.READY:
        return "starts"
    verb = "starts over" if status.fresh else "continues"
    return f"{verb} ({status.state}: {'; '.join(status.reasons)})"


def _run_step(pipeline: Pipeline, step: Step, clock: Clock, say: Say, fresh: bool, asked: bool) -> None:
    workspace = pipeline.workspace
    folder = workspace.run(step.name)
    events = EventLog(folder / "events.jsonl")
    # Identities of the inputs are taken before the step reads them: a change while it runs makes it stale.
    record = _opening_record(pipeline, step, fresh)
    started = time.monotonic()

    def begun() -> None:
        nonlocal record
        # From here on a kill may continue from what is there; before, it must start over.
        record = record.model_copy(update={"fresh": False})
        write_record(workspace, step.name, record)

    def close(state: str, **changes: Any) -> StepRecord:
        seconds = record.seconds + time.monotonic() - started
        closed = StepRecord.model_validate({**record.model_dump(), "state": state, "seconds": seconds, **changes})
        write_record(workspace, step.name, closed)
        events.write(state, seconds=round(seconds, 1), message=closed.message)
        return closed

    # Before the work: killed without warning, the record says "running" and no lock is held.
    write_record(workspace, step.name, record)
    write_text(folder / "config.yaml", _as_yaml(pipeline.settings_of(step).model_dump(mode="json")))
    events.write("started", attempt=record.attempts, fresh=fresh)
    try:
        context = StepContext(workspace, pipeline.settings_of(step), clock, fresh, asked, begun)
        summary = to_plain(dict(step.run(context)))
        # Inside the ``try``: a step without its outputs has failed.
        outputs = _identify_outputs(pipeline, step)
    except Awaited as pause:
        close("paused", fresh=False, message=pause.what)
        raise
    except Interrupted as stop:
        close("interrupted", message=stop.reason)
        raise
    except Exception as error:
        close("failed", message=f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error))
        raise
    done = close("done", fresh=False, outputs=outputs, summary=summary)
    say(f"step {describe(step)}: done in {describe_seconds(done.seconds)}")
    for line in _told(summary, workspace):
        say(f"    {line}")


def _told(summary: PlainMapping, workspace: Workspace) -> Iterator[str]:
    """What a step leaves, a line each; figures have the titles that their tasks give them."""
    pages = reports_of(summary)
    titles = {metric.name: metric.title for task in all_tasks() for metric in task.metrics}
    for name, value in flatten(summary).items():
        title = titles.get(name, name.replace("_", " "))
        if value is None:
            yield f"{title}: not measured"
        else:
            yield f"{title}: {workspace.root / value if name in pages else value}"


def _opening_record(pipeline: Pipeline, step: Step, fresh: bool) -> StepRecord:
    """The record that says the step runs, with the settings and inputs it starts from."""
    earlier = read_record(pipeline.workspace, step.name)
    # Time and attempts belong to one piece of work; a finished one begins a new count.
    goes_on = earlier is not None and not fresh and earlier.state != "done"
    return StepRecord(
        state="running",
        version=step.version,
        settings=pipeline.result_settings(step),
        inputs={artifact.name: pipeline.input_identity(step, artifact) for artifact in pipeline.inputs(step)},
        fresh=fresh,
        started=time.time(),
        seconds=earlier.seconds if earlier is not None and goes_on else 0.0,
        attempts=earlier.attempts + 1 if earlier is not None and goes_on else 1,
    )


def _identify_outputs(pipeline: Pipeline, step: Step) -> dict[str, Identity]:
    identities = {}
    for artifact in pipeline.outputs(step):
        if not artifact.path.exists():
            raise RuntimeError(f"step {step.name} ended without its {artifact.name}: {artifact.path} does not exist")
        # With content, once: later looks compare listings and read only what differs.
        identities[artifact.name] = identify(artifact.path, with_content=True)
    return identities


def _as_yaml(values: Plain) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
