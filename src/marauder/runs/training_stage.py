"""The training stage of a gated run: how its weights come about. Mostly by one training; runs.series knows another."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from marauder.core.clock import Clock
from marauder.core.files import write_text
from marauder.engine.state import Outcome
from marauder.runs.announcing import Telling, mirrors_of
from marauder.runs.settings import RunSettings
from marauder.runs.task import TaskKind
from marauder.runs.training import train
from marauder.storage.mirror import restore_newest

MIRROR_SECONDS = 60.0
ACCOUNT_FILE = "transfer_account.txt"


@dataclass(frozen=True)
class RunInHand:
    """The run whose weights are made: its settings are placed, its task is open, its gates before training passed.

    ``identity``: fingerprint of its data and of what it starts from.
    """

    settings: RunSettings
    kind: TaskKind
    identity: str
    device: torch.device
    clock: Clock
    telling: Telling


class TrainingStage(ABC):
    """Makes the weights of a run, ``best`` and ``last`` in its folder, or goes on making them."""

    leaves: ClassVar[tuple[str, ...]] = ()
    """Files that a finished run of this kind has beside those of every run."""

    @abstractmethod
    def train(self, run: RunInHand, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        """Train to the end. ``begun`` is called once nothing of an earlier run can be taken up.

        Raises ``Interrupted``, ``UserError``, ``TrainingFailure``.
        """

    def gives_way(self, settings: RunSettings) -> bool:
        """Whether what lies in the run's folder may be replaced by a run of other settings without being asked."""
        return False


class SingleTraining(TrainingStage):
    """One training by the engine."""

    def train(self, run: RunInHand, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        """Say what training starts from, bring a newer checkpoint back from the mirrors, and train."""
        _tell_start(run)
        settings, mirrors = run.settings, mirrors_of(run.settings)
        if fresh:
            for mirror in mirrors:
                # Else the next start would bring the former run's newest checkpoint back.
                mirror.clear()
        # A checkpoint that was asked for by name stays the one; the mirrors may hold newer ones.
        elif resume is None:
            restore_newest(settings.checkpoint_folder, mirrors)
        try:
            return train(run.kind, run.identity, run.clock, run.telling.observer(mirrors), resume, fresh, begun)
        finally:
            for mirror in mirrors:
                mirror.finish(MIRROR_SECONDS)


def _tell_start(run: RunInHand) -> None:
    """Say which tensors training starts from, and leave the account of every one in the run's folder."""
    accounts, file = run.kind.accounts(), run.settings.folder / ACCOUNT_FILE
    if not accounts:
        return
    write_text(file, "\n".join(one.listing() for one in accounts))
    for one in accounts:
        print(one.describe(), file=sys.stderr)
    print(f"  every tensor: {file}", file=sys.stderr)
