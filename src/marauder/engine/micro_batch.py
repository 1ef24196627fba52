"""When memory runs out: half as many samples at a time, at once in one process, after a restart in several.

A process that runs out of memory inside a collective backward pass cannot join it again, so the group starts anew; this
``micro_batch.json`` tells the next one. It holds for the same training (settings and data) on as many processes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from marauder.core.files import fingerprint, read_json, write_json
from marauder.core.plain import Plain
from marauder.engine.distributed import Group
from marauder.engine.failures import GroupRestart, TrainingFailure
from marauder.engine.task import SampleContext

FILE = "micro_batch.json"


def record_micro_batch(folder: Path, identity: Plain, processes: int, size: int) -> None:
    """Write down that this training on ``processes`` processes passes ``size`` samples forward at a time, at most."""
    write_json(folder / FILE, {"training": _name(identity, processes), "micro_batch_size": size})


def recorded_micro_batch(folder: Path, identity: Plain, processes: int) -> int | None:
    """What a group of the same training wrote down, or ``None``."""
    path = folder / FILE
    if not path.is_file():
        return None
    content = read_json(path)
    # A share of the batch depends on the number of processes, and so does what fits.
    return int(content["micro_batch_size"]) if content["training"] == _name(identity, processes) else None


def halved(
    size: int,
    context: SampleContext,
    step: int,
    group: Group,
    folder: Path,
    identity: Plain,
    error: torch.OutOfMemoryError,
) -> int:
    """The micro-batch after one of ``size`` samples, as many as ``context`` makes of them, did not fit at ``step``.

    Raises ``GroupRestart`` where other processes wait in the backward pass, with the size written down for the group
    that starts anew, and ``TrainingFailure`` when a single sample did not fit.
    """
    half = size // 2
    # With large pictures a pass may hold one sample although `size` is above 1: halving it would change nothing.
    if half < 1 or context.samples_per_pass(size) == 1:
        why = f"out of memory at step {step} with one sample: choose a smaller --imgsz or model"
        raise TrainingFailure(why, "out_of_memory", step) from error
    if group.size > 1:
        record_micro_batch(folder, identity, group.size, half)
        raise GroupRestart(
            f"out of memory at step {step} on rank {group.rank}: from the last checkpoint on, every process takes "
            f"{half} samples at a time (same result). Run the same command again",
            "out_of_memory",
            step,
        ) from error
    return half


def _name(identity: Plain, processes: int) -> str:
    return fingerprint([identity, processes])
