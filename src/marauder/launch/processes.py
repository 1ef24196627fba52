"""Several training processes on this machine through torchrun, stopped together and in time.

The launching process takes the signals; the workers see a stop file. They end in a process group of their own, so that
one interrupt from the keyboard does not reach them twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json, write_text

LAUNCHER = "MARAUDER_LAUNCHER"
_GRACE_SECONDS = 60.0


def launched_by_marauder() -> bool:
    """Whether this process is one of several that ``launch_processes`` started."""
    return LAUNCHER in os.environ


def stop_file(output: Path) -> Path:
    """The file whose appearance asks the workers to stop; it holds the reason."""
    return output / ".stop"


def report_outcome(output: Path, stop: Interrupted | UserError) -> None:
    """A worker leaves word of how it ended, for the launching process."""
    kind = "interrupted" if isinstance(stop, Interrupted) else "failed"
    write_json(output / ".outcome.json", {"kind": kind, "message": str(stop)})


def launch_processes(output: Path, processes: int, arguments: list[str], clock: Clock) -> None:
    """Run ``marauder <arguments>`` in ``processes`` processes of one group until they end.

    Raises ``Interrupted`` or ``UserError`` as a worker did, ``UserError`` when one died.
    """
    outcome, stop = output / ".outcome.json", stop_file(output)
    outcome.unlink(missing_ok=True)
    stop.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "marauder.cli.main", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, LAUNCHER: str(os.getpid()), "TORCH_GLOO_LAZY_INIT": "1"}
    group = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        _wait(group, clock, stop)
    finally:
        if group.poll() is None:
            os.killpg(group.pid, signal.SIGKILL)
            group.wait()
        stop.unlink(missing_ok=True)
    if outcome.exists():
        ended = read_json(outcome)
        outcome.unlink()
        raise Interrupted(ended["message"]) if ended["kind"] == "interrupted" else UserError(ended["message"])
    if group.returncode != 0:
        raise UserError(
            f"a training process died (status {group.returncode}); its messages are above. "
            "Run the same command again: it goes on from the last checkpoint"
        )


def _wait(group: subprocess.Popen[bytes], clock: Clock, stop: Path) -> None:
    asked: float | None = None
    while group.poll() is None:
        reason = clock.stop_reason()
        if reason is not None and asked is None:
            asked = time.monotonic()
            write_text(stop, reason)
        if asked is not None and time.monotonic() - asked > _GRACE_SECONDS:
            return
        time.sleep(0.1)
