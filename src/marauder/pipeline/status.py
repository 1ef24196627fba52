"""The state of a step: a pure decision from what is known of it, which ``pipeline.graph`` gathers."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marauder.core.plain import Plain, PlainMapping
from marauder.pipeline.record import StepRecord

Values = PlainMapping


class State(enum.StrEnum):
    """The states that the status table shows."""

    OFF = "off"
    DONE = "done"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    WAITING = "waiting"
    READY = "not started"
    STALE = "stale"
    FAILED = "failed"


@dataclass(frozen=True)
class Facts:
    """What is known of a step.

    ``settings``: those that bear on the result, as dotted names. ``defaults``: their defaults, likewise. ``inputs``:
    name to identity of each input that is there. ``missing``: name of each input that is not, with what to do about
    it. ``producers``: state of each earlier step that the inputs come from. ``output_problems``: what is wrong with
    the outputs of the record. ``continued``: settings whose change does not mean starting over. ``locked``: whether a
    pipeline works on the workspace now.
    """

    settings: Values
    defaults: Values
    version: int
    inputs: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    producers: Mapping[str, State] = field(default_factory=dict)
    output_problems: Sequence[str] = ()
    continued: frozenset[str] = frozenset()
    record: StepRecord | None = None
    locked: bool = False
    configured: bool = True


@dataclass(frozen=True)
class Status:
    """The state, why it is so (or what is awaited), and whether the next run must start over."""

    state: State
    reasons: tuple[str, ...] = ()
    fresh: bool = False


def decide(facts: Facts) -> Status:
    """The status of a step. Pure: the same facts always give the same status."""
    record = facts.record
    if not facts.configured:
        return Status(State.OFF, ("the settings have no section for it",))
    # "Running" without a lock is a kill that nobody could write down.
    if record is not None and record.state == "running" and facts.locked:
        return Status(State.RUNNING)
    # Before changes: inputs that are about to be made anew cannot be compared.
    waits = [f"for {name} ({state})" for name, state in facts.producers.items() if state != State.DONE]
    if waits:
        return Status(State.WAITING, tuple(waits))
    changed = differences(facts)
    changes = [change.words for change in changed]
    if record is not None and record.state == "done" and not changes and not facts.output_problems:
        # Raw pictures may be deleted once they are preprocessed: the result still counts.
        return Status(State.DONE, tuple(f"its input is gone: {name}" for name in facts.missing))
    if facts.missing:
        return Status(State.WAITING, tuple(f"for {name}: {remedy}" for name, remedy in facts.missing.items()))
    if record is None:
        return Status(State.READY)
    # An input or the step itself (no setting) is never among ``continued``.
    fresh = record.fresh or any(change.setting not in facts.continued for change in changed)
    starts_over = tuple(f"{'starts over' if fresh else 'changed since'}: {change}" for change in changes)
    if record.state == "failed":
        return Status(State.FAILED, (record.message, *starts_over), fresh)
    if record.state == "done":
        return Status(State.STALE, (*changes, *facts.output_problems), fresh)
    if record.state == "paused":
        return Status(State.PAUSED, (record.message, *starts_over), fresh)
    return Status(State.INTERRUPTED, (record.message or "was killed while it ran", *starts_over), fresh)


@dataclass(frozen=True)
class Change:
    """A difference in words; ``setting`` is its dotted name, ``None`` for an input or the step itself."""

    words: str
    setting: str | None = None


def differences(facts: Facts) -> list[Change]:
    """What is no longer as the record says: version, settings, inputs. Inputs that are gone do not count."""
    record = facts.record
    if record is None:
        return []
    changes = []
    if record.version != facts.version:
        changes.append(Change(f"the step itself has changed (version {record.version} → {facts.version})"))
    changes += setting_differences(flatten(record.settings), facts.settings, facts.defaults)
    for name, identity in facts.inputs.items():
        if name not in record.inputs:
            changes.append(Change(f"new input: {name}"))
        elif record.inputs[name] != identity:
            changes.append(Change(f"input changed: {name}"))
    gone = [name for name in record.inputs if name not in facts.inputs and name not in facts.missing]
    return changes + [Change(f"no longer an input: {name}") for name in gone]


def setting_differences(recorded: Values, current: Values, defaults: Values) -> list[Change]:
    """Dotted settings that differ, in words. One that is newer than the record and at its default is no change."""
    changes = []
    for name in sorted({*recorded, *current}):
        if name not in current:
            changes.append(Change(f"{name}: {_show(recorded[name])} → no longer set", name))
        elif name not in recorded:
            # A version with a new setting must not make every finished step stale.
            if name not in defaults or current[name] != defaults[name]:
                changes.append(Change(f"{name}: not set → {_show(current[name])}", name))
        elif recorded[name] != current[name]:
            changes.append(Change(f"{name}: {_show(recorded[name])} → {_show(current[name])}", name))
    return changes


def flatten(values: PlainMapping, prefix: str = "") -> Plain:
    """Nested mappings as one mapping of dotted names; an empty mapping is a value."""
    flat: Plain = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def reports_of(summary: PlainMapping) -> dict[str, str]:
    """The pages that a step's summary names, by what it calls them: paths from the workspace's root."""
    return {
        name: str(value)
        for name, value in flatten(summary).items()
        if value is not None and name.replace(".", " ").split()[-1] == "report"
    }


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
