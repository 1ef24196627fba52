"""The failures that end a training, by kind. Needs no torch: the launching process reads it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from marauder.core.errors import UserError

FailureKind = Literal[
    "nan", "exploding", "diverged", "collapsed", "dead_loader", "out_of_memory", "sanity", "died", "hung"
]


class TrainingFailure(UserError):  # noqa: N818 - it names what happened, no fault of the program
    """The training cannot go on; the message says what happened, where the evidence lies and what to try.

    ``kind`` names the fault, ``step`` the update it showed at (``None``: before the first, or not known).
    """

    exit_status = 3
    """As for every gate that failed: this is the one that watches during training."""

    def __init__(self, message: str, kind: FailureKind, step: int | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.step = step


class GroupRestart(TrainingFailure):
    """One process of several cannot go on by itself, but the whole group can from the last checkpoint.

    What must be done differently then is already on disk. A launching process starts the group again.
    """


def name_some(pictures: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(pictures[:4]) + (f" and {len(pictures) - 4} more" if len(pictures) > 4 else "")


EXIT_HUNG = 79
"""Exit status of a process that its hang watch ended: the first number after those of sysexits.h."""
