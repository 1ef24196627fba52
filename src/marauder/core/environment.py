"""Names and settings of the process's environment: what numerical libraries must find, what processes tell another."""

from __future__ import annotations

import os
import sys

SPIN_COUNT = "3000"
RENDEZVOUS = "MARAUDER_RENDEZVOUS"
"""The file through which the training processes of one attempt find one another."""


def use_utf8() -> None:
    """Start this process anew, with the same command line, where Python would take paths and texts for another encoding
    than UTF-8 (``LC_ALL=C`` with ``PYTHONUTF8=0``, an old locale): any name that is not ASCII would be an error then.

    Call it before anything was written or opened. Processes started later inherit it.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        # The option as well: with -E or -I the variable is not looked at, and a new start would follow the other.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def share_cores() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning; what the user has set stays.

    Spinning threads wait for one that another process keeps off its core, and take cores meanwhile: training on a
    machine that other work shares then slows down many times over. Call it before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
