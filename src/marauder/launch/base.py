"""The launcher plug point: a job as a file, processes that start from it, and handles that outlive whoever submitted.

A job's processes run ``python -m <module> <folder>/job.json``; what they do is in the file, not on a command line.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, read_json, to_plain, write_json
from marauder.core.plain import Plain, PlainMapping
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings

JOB_FILE = "job.json"

State = Literal["running", "finished", "failed", "stopped", "lost"]
"""``stopped``: in time, saved, and the same job continues from there; ``lost``: it ended without a word, as after a
power cut."""


@dataclass(frozen=True)
class Job:
    """Work for one group of processes, as plain data.

    ``module``: what Python runs in each of the ``processes``. ``folder``: absolute, for the job's file, stop file and
    reports. ``content``: plain values for the module. ``checkpoints``: where progress is seen (default: the folder of
    that name in ``folder``); at most ``max_restarts`` restarts follow each other without a new one there. ``fresh``,
    ``resume``: start over, or from this checkpoint; without both from the newest.
    """

    module: str
    folder: Path
    content: PlainMapping = field(default_factory=dict)
    processes: int = 1
    checkpoints: Path | None = None
    max_restarts: int = 3
    fresh: bool = False
    resume: Path | None = None

    @property
    def file(self) -> Path:
        """Where it is written down."""
        return self.folder / JOB_FILE

    @property
    def checkpoint_folder(self) -> Path:
        """Where its progress is seen."""
        return self.checkpoints if self.checkpoints is not None else self.folder / "checkpoints"

    def command(self) -> list[str]:
        """The words that start each of its processes, once it is written down."""
        # -P: a file in the current folder must not pass for a package.
        return [sys.executable, "-P", "-m", self.module, str(self.file)]

    def going_on(self) -> Job:
        """The same job, continuing from what was saved last."""
        return replace(self, fresh=False, resume=None)

    def write(self) -> Path:
        """Write its file; returns it."""
        write_json(self.file, to_plain({one.name: getattr(self, one.name) for one in fields(self)}))
        return self.file

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job in a file. Raises ``UserError`` where there is none."""
        try:
            stated = read_json(path)
            given = [name for name in ("folder", "checkpoints", "resume") if stated[name] is not None]
            return cls(**{**stated, **{name: Path(stated[name]) for name in given}})
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; name the {JOB_FILE} of a job") from None
        except (DamagedFileError, KeyError, TypeError) as error:
            raise UserError(f"{path}: holds no job ({error}); submit it again") from None


@dataclass(frozen=True)
class Handle:
    """A submitted job, as plain JSON: ``launcher`` by name, ``about`` what that one needs to find it again."""

    launcher: str
    about: PlainMapping

    def to_json(self) -> Plain:
        """As plain values."""
        return {"launcher": self.launcher, "about": dict(self.about)}

    @classmethod
    def from_json(cls, content: PlainMapping) -> Handle:
        """From what ``to_json`` gave."""
        return cls(str(content["launcher"]), dict(content["about"]))


class Launcher(Plugin[Settings], ABC):
    """Starts jobs somewhere. A job does not end with the process that submitted it; its handle is all one needs then.

    Methods raise ``UserError`` for a job or a handle that cannot be.
    """

    @abstractmethod
    def render(self, job: Job) -> str:
        """What ``submit`` would run, to read and to print. Writes nothing."""

    @abstractmethod
    def submit(self, job: Job) -> Handle:
        """Write the job down and start it. Raises ``UserError`` while a job of this folder runs."""

    @abstractmethod
    def status(self, handle: Handle) -> State:
        """The state of the job."""

    @abstractmethod
    def logs(self, handle: Handle) -> str:
        """What its processes have printed so far."""

    @abstractmethod
    def stop(self, handle: Handle) -> None:
        """Ask it to save and leave; returns at once. Nothing happens where it has ended."""
