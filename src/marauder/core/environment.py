"""Settings of the process's environment that must stand before numerical libraries are loaded."""

from __future__ import annotations

import os

SPIN_COUNT = "3000"


def share_cores() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning; what the user has set stays.

    Spinning threads wait for one that another process keeps off its core, and take cores meanwhile: training on a
    machine that other work shares then slows down many times over. Call it before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
