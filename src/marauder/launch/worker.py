"""What a process of a job does around its work: read the job's file, listen for a stop, and say how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from marauder.core.clock import EXIT_INTERRUPTED, Clock, Interrupted
from marauder.core.environment import share_cores
from marauder.core.errors import UserError, explain_file_error
from marauder.launch.base import Job
from marauder.launch.processes import LAUNCHER, stop_file


def run_job(work: Callable[[Job, Clock], None]) -> NoReturn:
    """Do ``work`` for the job whose file the command line names, and leave with a status as commands have.

    The clock stops for a signal, for the group's stop file, and when the launching process is gone. Import what is
    heavy inside ``work``: numerical libraries look at the environment when they are loaded.
    """
    share_cores()
    try:
        with Clock().listening() as clock:
            job = Job.read(Path(sys.argv[1]))
            clock.stop_file, clock.parent = stop_file(job.folder), int(os.environ[LAUNCHER])
            work(job, clock)
    except Interrupted as stop:
        print(f"stopped: {stop.reason}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:
        explained = explain_file_error(error)
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        sys.exit(explained.exit_status)
    sys.exit(0)
