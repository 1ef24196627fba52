"""``run.json``: what a run is, how far it has come, and how it ended; written anew at every change."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from marauder.core.files import DamagedFileError, read_json, write_json
from marauder.core.plain import Plain

RUN_FILE = "run.json"
State = Literal["running", "interrupted", "stopped", "failed", "finished"]


class RunRecord(BaseModel):
    """``state``: ``stopped`` by a gate before training, ``failed`` in training, ``finished`` with a verdict.

    ``verdict``: the worst of its gates', empty until they have judged it;
    ``key``: fingerprint of all that decides the result; ``identity``: settings and data that decide the weights;
    ``weights``: the file that other steps take, ``sealed``: the one that the run knows its weights by, each with its
    SHA-256; ``epochs_asked``: the most that this run was asked for, once finished those that it trained;
    ``withheld``: why it is not offered for production though no gate failed it, empty where it is;
    ``advice``: what to do next, with its kind and text (``reporting.advice``);
    ``stopped_early``: why training ended before its last epoch, empty where it did not;
    ``version``: the registered one, ``registry``: where; ``stored``: the store that has the files; ``told``: trackers
    and events know how it ended; ``production_unknown``: the registry did not answer what to compare with. Times in
    seconds since 1970. ``seconds``: the whole time over all attempts, ``training_seconds``: the training's share.
    ``finished_before``: the record of this very training when it was finished, while it is measured again; it counts
    until that is done.
    """

    # Records of newer versions are read, too.
    model_config = ConfigDict(extra="ignore")

    id: str
    project: str
    task: str
    state: State = "running"
    verdict: str = ""
    withheld: str = ""
    advice: list[Plain] = Field(default_factory=list)
    exit_status: int | None = None
    message: str = ""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    split: str = ""
    epochs: int | None = None
    epochs_asked: int = 0
    best_epoch: int | None = None
    weights: str = ""
    weights_sha256: str = ""
    sealed: str = ""
    sealed_sha256: str = ""
    report: str = ""
    stopped_early: str = ""
    registry: str = ""
    stored: str = ""
    told: bool = False
    production_unknown: bool = False
    version: str | None = None
    data: str = ""
    key: str = ""
    identity: Plain = Field(default_factory=dict)
    attempts: int = 0
    started: float = 0.0
    attempt_started: float = 0.0
    finished: float | None = None
    seconds: float = 0.0
    training_seconds: float = 0.0
    finished_before: Plain = Field(default_factory=dict)

    def write(self, folder: Path, **changes: Any) -> RunRecord:
        """Write the record, with ``changes``, into a run's folder; returns it."""
        changed = self.model_copy(update=changes)
        write_json(folder / RUN_FILE, changed.model_dump(mode="json"))
        return changed

    def measured_before(self) -> RunRecord | None:
        """The record of the finished run that this attempt only measures again; ``None``: it does more than that."""
        if self.state == "finished":
            return self
        return RunRecord.model_validate(self.finished_before) if self.finished_before else None


def read_record(folder: Path) -> RunRecord | None:
    """The record in a run's folder, or ``None``. Raises ``DamagedFileError`` for one that cannot be read."""
    path = folder / RUN_FILE
    return RunRecord.model_validate(read_json(path)) if path.is_file() else None


def open_record(folder: Path, **identity: Any) -> RunRecord:
    """The record of a run that starts now, or goes on: times and attempts are kept."""
    earlier, now = read_record(folder), time.time()
    if earlier is None or earlier.id != identity["id"]:
        return RunRecord(**identity, started=now, attempt_started=now, attempts=1)
    kept: Plain = {"started": earlier.started, "attempts": earlier.attempts + 1, "attempt_started": now}
    if earlier.state == "running":
        kept["seconds"] = round(earlier.seconds + seconds_of_attempt(folder, earlier.attempt_started), 1)
    else:
        kept["seconds"] = earlier.seconds
    # What is registered and stored is of the same work; under another key there is no version yet.
    if earlier.key == identity.get("key"):
        kept |= {name: getattr(earlier, name) for name in ("sealed_sha256", "version", "registry", "stored")}
    return RunRecord(**{**identity, **kept})


def whose(checkpoint: Path) -> str:
    """The run that a checkpoint of another folder belongs to, in words."""
    for folder in checkpoint.absolute().parents:
        with suppress(DamagedFileError):
            record = read_record(folder)
            if record is not None:
                return f"another run, {record.id} in {folder}"
    # The checkpoints of a pipeline's step are apart from its run.
    return f"another run, whose checkpoints are in {checkpoint.absolute().parent}"


SIGNS_OF_LIFE = ("events.jsonl", "metrics.jsonl", "outbox.jsonl", "gates.json", "checkpoints")


def seconds_of_attempt(folder: Path, attempt_started: float) -> float:
    """Seconds of an attempt that has not been written down, because it was killed or is under way: from
    ``attempt_started`` (seconds since 1970; 0: unknown) until the last sign of life in the run's folder."""
    if not attempt_started:
        return 0.0
    seen = [(folder / name).stat().st_mtime for name in SIGNS_OF_LIFE if (folder / name).exists()]
    return max(0.0, max(seen, default=0.0) - attempt_started)


RESULT_SUFFIXES = frozenset(
    {".pt", ".safetensors", ".html", ".png", ".jpg", ".json", ".jsonl", ".md", ".txt", ".yaml", ".npz"}
)


def set_aside_results(folder: Path) -> Path | None:
    """Move a run's weights and reports away, so that a new run's do not mix with them; returns where they are now.

    They go into ``previous``; what an unfinished run left goes into ``unfinished`` where ``previous`` holds a finished
    one, which it must not replace.
    """
    record = read_record(folder)
    if record is None:
        return None
    previous = folder / "previous"
    kept = read_record(previous)
    if kept is not None and kept.state == "finished" and record.state != "finished":
        previous = folder / "unfinished"
    # Without a record there, what lies in it is this very run's: a kill cut its moving short, and the rest follows.
    if (previous / RUN_FILE).is_file() and (record.state == "finished" or previous.name == "unfinished"):
        shutil.rmtree(previous)
    previous.mkdir(exist_ok=True)
    files = [
        path for path in folder.iterdir() if path.is_file() and path.suffix in RESULT_SUFFIXES and path.name[0] != "."
    ]
    # The record goes last: killed in between, the next start finds it and moves the rest.
    for path in sorted(files, key=lambda path: path.name == "run.json"):
        path.replace(previous / path.name)
    return previous
