"""Settings of the process's environment that must stand before numerical libraries are loaded."""

from __future__ import annotations

import os

SPIN_COUNT = "3000"


def share_cores() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning; what the user has set stays.

    Spinning threads wait for one that another process keeps off its core: on two cores shared with others, a step of
    YOLOv8n took six seconds instead of 0.9. On an idle machine the difference is within noise. Call it before torch is
    imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
