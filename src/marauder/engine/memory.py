"""Keeping freed memory in the process: the C library gives large blocks back and faults them in anew at each step.

``benchmarks/training_throughput.py`` measures what that is worth.
"""

from __future__ import annotations

import ctypes
import logging
import platform

# Numbers of <malloc.h> in the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# DEFAULT_MMAP_THRESHOLD_MAX on 64 bits: mallopt refuses more, and larger blocks are still given back.
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024
_NEVER_TRIM = 2**31 - 1

log = logging.getLogger("marauder")


def keep_freed_memory() -> bool:
    """Ask the GNU C library to keep freed blocks for the next step; returns whether it took the request.

    Elsewhere nothing is done. Costs memory: the process keeps its highest use.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # On two cores a training is 1.4 times as fast as Ultralytics' with both, 1.1 times without (benchmarks/results).
    taken = library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and library.mallopt(
        _M_TRIM_THRESHOLD, _NEVER_TRIM
    )
    if not taken:
        log.info("the C library keeps its own rules for freed memory; training is as correct, a little slower")
    return bool(taken)
