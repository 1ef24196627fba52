"""What a failed training leaves behind: the batch at fault, and what to try, by kind of failure."""

from __future__ import annotations

from pathlib import Path

import torch

from marauder.core.files import atomic_path
from marauder.engine.failures import TrainingFailure, name_some
from marauder.engine.guards import Finding
from marauder.engine.task import Batch

_LOWER = "lower training.optimizer.learning_rate or lengthen its warm-up and start over with --fresh"
_ON_BATCH = (
    "Check its labels, lower the learning rate, and run again: training continues from the last checkpoint "
    "(--fresh starts over)"
)
REMEDIES = {
    "nan": _ON_BATCH,
    "exploding": _ON_BATCH,
    "diverged": f"It will not recover: {_LOWER}",
    "collapsed": f"Look at metrics.jsonl for the epoch at which it happened; then {_LOWER}, or continue from an "
    "earlier checkpoint with --resume",
}
"""What to try, by kind of failure."""


def keep_batch(folder: Path, rank: int, step: int, batch: Batch, pictures: list[str]) -> Path:
    """Write a batch and the names of its pictures into ``failed_batch_rank<rank>.pt``; returns the file."""
    path = folder / f"failed_batch_rank{rank}.pt"
    # On the CPU, so that the batch can be looked at on a machine without a GPU.
    tensors = {key: value.cpu() for key, value in batch.items()}
    with atomic_path(path) as temporary:
        torch.save({"step": step, "pictures": pictures, **tensors}, temporary)
    return path


def failure_of(finding: Finding, step: int, batch: Path | None, pictures: list[str]) -> TrainingFailure:
    """The failure that reports ``finding`` at ``step``, where its batch is, and what to try."""
    where = f"The batch is in {batch} ({name_some(pictures)}). " if batch is not None else ""
    return TrainingFailure(
        f"stopped at step {step}: {finding.why}. {where}{finding.remedy or REMEDIES[finding.kind]}", finding.kind, step
    )
