"""Names and settings of the process's environment: what numerical libraries must find, what processes tell another."""

from __future__ import annotations

import os

SPIN_COUNT = "3000"
RENDEZVOUS = "MARAUDER_RENDEZVOUS"
"""The file through which the training processes of one attempt find one another."""


def share_cores() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning; what the user has set stays.

    Spinning threads wait for one that another process keeps off its core, and take cores meanwhile: training on a
    machine that other work shares then slows down many times over. Call it before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
