"""The status of a pipeline in words: the table of ``marauder status`` and the plan of a dry run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from marauder.core.clock import describe_seconds
from marauder.core.locks import holder, is_held
from marauder.core.text_table import screen_width, wrapped
from marauder.core.wording import joined
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.record import StepRecord, lock_path, read_record
from marauder.pipeline.status import State, Status, reports_of
from marauder.pipeline.step import Step

NEXT = {
    State.OFF: "not part of this run",
    State.DONE: "nothing to do",
    State.RUNNING: "runs now",
    State.WAITING: "waits",
    State.READY: "would start",
    State.INTERRUPTED: "would continue",
    State.PAUSED: "would check whether it has arrived",
    State.STALE: "would run again",
    State.FAILED: "would be tried again",
}
"""What a run would do with a step in each state."""


def status_table(pipeline: Pipeline) -> str:
    """One line for each step: its state, when it last began and how long it took; below it, why."""
    statuses = pipeline.statuses()
    lines = [f"workspace {pipeline.workspace.root}"]
    if is_held(lock_path(pipeline.workspace)):
        lines.append(f"worked on by {holder(lock_path(pipeline.workspace))}")
    records = {step.name: read_record(pipeline.workspace, step.name) for step in pipeline.steps}
    width = max(len(_label(step)) for step in pipeline.steps)
    longest = max(len(_times(record)) for record in records.values())
    for step in pipeline.steps:
        status, record = statuses[step.name], records[step.name]
        lines += wrapped(
            f"{_label(step):<{width}}  {status.state:<11}  {_times(record):<{longest}}  ", step.title, screen_width()
        )
        for reason in status.reasons:
            lines += wrapped(f"{'':<{width}}  - ", reason, screen_width())
        if status.state == State.DONE and record is not None:
            for name, page in reports_of(record.summary).items():
                lines.append(f"{'':<{width}}  - {name}: {pipeline.workspace.root / page}")
    return "\n".join(lines)


def pages(pipeline: Pipeline, selected: Sequence[Step]) -> list[str]:
    """Where the reports of ``selected`` are, a line each."""
    lines = []
    for step in selected:
        record = read_record(pipeline.workspace, step.name)
        for name, page in reports_of(record.summary).items() if record is not None else ():
            lines.append(f"    {_label(step)}, {name}: {pipeline.workspace.root / page}")
    return ["reports:", *lines] if lines else []


def plan(pipeline: Pipeline, selected: Sequence[Step], fresh: bool) -> str:
    """What a run of ``selected`` would do, one line for each step, and why."""
    statuses = pipeline.statuses()
    width = max(len(_label(step)) for step in selected)
    lines = []
    for step in selected:
        words = _next(pipeline, step, selected, statuses, fresh)
        lines += wrapped(f"{_label(step):<{width}}  ", words, screen_width())
    return "\n".join(lines)


def _next(pipeline: Pipeline, step: Step, selected: Sequence[Step], statuses: dict[str, Status], fresh: bool) -> str:
    status = statuses[step.name]
    if fresh and status.state not in (State.OFF, State.WAITING):
        return "would start over, as requested"
    before = [earlier for earlier in pipeline.producers(step) if statuses[earlier.name].state != State.DONE]
    # In a dry run nothing is made, so what this step would read can only be guessed.
    if status.state == State.WAITING and before and all(earlier in selected for earlier in before):
        givers = joined([earlier.name for earlier in before])
        return f"would run after {givers}, if that makes something new"
    words = "would start over" if status.fresh else NEXT[status.state]
    return f"{words}: {'; '.join(status.reasons)}" if status.reasons else words


def _label(step: Step) -> str:
    return f"{step.number if step.number >= 0 else ' '} {step.name}"


def _times(record: StepRecord | None) -> str:
    if record is None:
        return "never ran"
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started))
    return f"{began}, {describe_seconds(record.seconds)}" if record.seconds else f"{began}"
