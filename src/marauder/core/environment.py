"""The process's environment: what numerical libraries must find there, what processes tell one another, and where
caches lie."""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger("marauder")
SPIN_COUNT = "3000"
RENDEZVOUS = "MARAUDER_RENDEZVOUS"
"""The file through which the training processes of one attempt find one another."""


def use_utf8() -> None:
    """Restart this process, with the same command line, where Python would read paths and text in another encoding than
    UTF-8 (``LC_ALL=C`` with ``PYTHONUTF8=0``, an old locale): any name that is not ASCII would then be an error.

    Call it before anything is written or opened. Processes started later inherit it.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        # The option as well: with -E or -I the variable is ignored, and the process would restart for ever.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def share_cores() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning; what the user has set stays.

    Threads that spin until one of them, kept off its core by another process, catches up waste the cores they hold:
    training on a shared machine then slows down many times over. Call it before torch is imported.
    """
    # GOMP_SPINCOUNT would overrule a policy that the user has set.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def cache_folder() -> Path:
    """A writable folder for what can be recomputed: ``$XDG_CACHE_HOME/marauder``, else ``~/.cache/marauder``, else one
    among the temporary files, with a warning once.

    Containers and service accounts often have no home, or one that is read-only; no work depends on it.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "marauder"
        _check_writable(folder)
        return folder
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror})"
    except RuntimeError:  # this user has no home at all
        problem = "there is no home folder"
    shelter = _shelter()
    log.warning("caches: %s; they are kept in %s, or where XDG_CACHE_HOME says", problem, shelter)
    # Libraries and processes started from here find it too, without another warning.
    os.environ["XDG_CACHE_HOME"] = str(shelter)
    os.environ.setdefault("MPLCONFIGDIR", str(shelter / "matplotlib"))
    return cache_folder()


@cache
def _check_writable(folder: Path) -> None:
    """Found out by trying: permissions say nothing about a disk that is mounted read-only, nor about root."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def _shelter() -> Path:
    """A private folder of this user among the temporary files; a new one where somebody else has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"marauder-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # lstat: a link put there under this name must not lead our caches into a folder of its maker.
    about = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & others:
        return folder
    return Path(tempfile.mkdtemp(prefix="marauder-cache-"))
