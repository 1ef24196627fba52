"""What is known of a step between runs (``training/runs/<step>/step.json``), and the lock that one run holds."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, read_json, write_json
from marauder.pipeline.identity import Identity
from marauder.pipeline.workspace import Workspace

LOCK_PATIENCE_SECONDS = 2.0
"""How long a start waits for the lock: a status query may hold it for an instant."""

_held: set[Path] = set()
"""Lock files that this process holds. POSIX locks go when any handle of the file is closed, so these are never opened
again."""


class StepRecord(BaseModel):
    """State of a step when it was last touched, with the settings and inputs it started from."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["running", "interrupted", "failed", "done"]
    version: int
    settings: dict[str, Any]
    inputs: dict[str, str]
    fresh: bool = False
    """The attempt was to start over and has not yet cleared away what was there: the next one must start over too."""
    outputs: dict[str, Identity] = {}
    summary: dict[str, Any] = {}
    message: str = ""
    started: float
    """Seconds since 1970 when this attempt began."""
    seconds: float = 0.0
    """Time spent on the step over all attempts."""
    attempts: int = 1


def record_path(workspace: Workspace, step_name: str) -> Path:
    """Where the record of a step lies."""
    return workspace.run(step_name) / "step.json"


def read_record(workspace: Workspace, step_name: str) -> StepRecord | None:
    """The record of a step, or ``None`` when it never ran. Raises ``DamagedFileError`` when it is no record."""
    path = record_path(workspace, step_name)
    if not path.exists():
        return None
    try:
        return StepRecord.model_validate(read_json(path))
    except ValidationError as error:
        mistake = error.errors()[0]
        place = ".".join(str(part) for part in mistake["loc"])
        raise DamagedFileError(f"{path}: {place}: {mistake['msg']}; delete the file to run the step again") from None


def write_record(workspace: Workspace, step_name: str, record: StepRecord) -> None:
    """Replace the record of a step."""
    write_json(record_path(workspace, step_name), record.model_dump(mode="json"))


def lock_path(workspace: Workspace) -> Path:
    """The file whose lock means that a pipeline works on this workspace."""
    return workspace.training / "runs" / "pipeline.lock"


def _holder_path(workspace: Workspace) -> Path:
    return lock_path(workspace).with_suffix(".json")


def describe_holder(workspace: Workspace) -> str:
    """Who holds, or last held, the lock."""
    path = _holder_path(workspace)
    if not path.exists():
        return "another process"
    holder = read_json(path)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["started"]))
    return f"process {holder['process']} on {holder['machine']} since {since}"


def is_locked(workspace: Workspace) -> bool:
    """Whether another process works on this workspace now. What is recorded as running is then really running."""
    path = lock_path(workspace)
    if path in _held or not path.exists():
        return False
    with path.open("rb") as stream:
        return not _try_lock(stream, fcntl.LOCK_SH)


@contextmanager
def workspace_lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace while the block runs; raises ``UserError`` when somebody else does.

    The lock belongs to the process (not to its children) and goes with it, however it ends.
    """
    path = lock_path(workspace)
    if path in _held:
        raise _busy(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        started = time.monotonic()
        while not _try_lock(stream, fcntl.LOCK_EX):
            if time.monotonic() - started > LOCK_PATIENCE_SECONDS:
                raise _busy(workspace)
            time.sleep(0.05)
        _held.add(path)
        try:
            holder = {"process": os.getpid(), "machine": platform.node(), "started": time.time()}
            write_json(_holder_path(workspace), holder)
            yield
        finally:
            _held.discard(path)


def _busy(workspace: Workspace) -> UserError:
    return UserError(
        f"{workspace.root}: a pipeline already works on this workspace ({describe_holder(workspace)}); "
        "wait for it, stop it, or choose another folder with --root"
    )


def _try_lock(stream: IO[bytes], kind: int) -> bool:
    try:
        fcntl.lockf(stream, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise UserError(
            f"{stream.name}: cannot be locked ({error.strerror}); the workspace must lie on a file system with locks"
        ) from None
    return True
