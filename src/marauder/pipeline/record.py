"""What is known of a step between runs: ``training/runs/<step>/step.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from marauder.core.file_identity import Identity
from marauder.core.files import DamagedFileError, read_json, write_json
from marauder.core.plain import Plain
from marauder.pipeline.workspace import Workspace

ROOT_MARK = "{workspace}"
"""Written in a recorded message instead of the workspace's root, which may be another one when the message is read."""


class StepRecord(BaseModel):
    """State of a step when it was last touched, with the settings and inputs it started from."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["running", "interrupted", "paused", "failed", "done"]
    version: int
    settings: Plain
    inputs: dict[str, str]
    fresh: bool = False
    """The attempt was to start over and has not yet cleared away what was there: the next one must start over too."""
    outputs: dict[str, Identity] = {}
    summary: Plain = {}
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
        record = StepRecord.model_validate(read_json(path))
        return record.model_copy(update={"message": record.message.replace(ROOT_MARK, str(workspace.root))})
    except ValidationError as error:
        mistake = error.errors()[0]
        place = ".".join(str(part) for part in mistake["loc"])
        raise DamagedFileError(f"{path}: {place}: {mistake['msg']}; delete the file to run the step again") from None


def write_record(workspace: Workspace, step_name: str, record: StepRecord) -> None:
    """Replace the record of a step."""
    content = record.model_dump(mode="json")
    # Messages name files below the root, and the workspace may be moved before anybody reads them.
    content["message"] = record.message.replace(str(workspace.root), ROOT_MARK)
    write_json(record_path(workspace, step_name), content)


def settings_path(workspace: Workspace) -> Path:
    """Where the settings of a workspace's last run lie: all of them, defaults written out."""
    return workspace.training / "runs" / "pipeline.yaml"


def lock_path(workspace: Workspace) -> Path:
    """The file whose lock means that a pipeline works on this workspace; what is recorded as running then really is."""
    return workspace.training / "runs" / "pipeline.lock"
