"""Where a result comes from: the code's commit and its uncommitted changes, packages, machine, container."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from marauder.core.files import write_text
from marauder.core.plain import Plain
from marauder.core.version import __version__

CONTAINER_VARIABLES = ("MARAUDER_CONTAINER_DIGEST", "CONTAINER_IMAGE_DIGEST", "IMAGE_DIGEST")
"""Environment variables that a launcher sets to the digest of the container image (nothing inside can know it)."""
PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "onnx",
    "onnxruntime",
    "safetensors",
    "pydantic",
    "polars",
    "mlflow",
    "wandb",
    "evidently",
)


def provenance(folder: Path, seed: int, started: float) -> Plain:
    """What this process runs on, as plain values; uncommitted changes go into ``folder/uncommitted.diff``.

    ``git`` is that of the current folder (``None`` outside a repository); ``marauder_git`` that of Marauder's own
    checkout where it runs from one. ``started``: of the work's first attempt, seconds since 1970.
    """
    here, own = git_state(Path.cwd()), git_state(Path(__file__).parent)
    difference = (here or {}).pop("difference", "") or ""
    own_difference = (own or {}).pop("difference", "") or ""
    # Run inside Marauder's own checkout, both are the same changes.
    if here != own and own_difference:
        difference += f"\n# Marauder's own checkout\n{own_difference}"
    if difference.strip():
        write_text(folder / "uncommitted.diff", difference)
    return {
        "git": here,
        "marauder_git": own,
        "container_digest": next((os.environ[name] for name in CONTAINER_VARIABLES if os.environ.get(name)), None),
        "packages": {"marauder": __version__, **_versions()},
        "python": platform.python_version(),
        "hardware": hardware(),
        "seed": seed,
        "created": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }


def git_state(folder: Path) -> Plain | None:
    """Commit, branch, whether there are uncommitted changes, and these as ``difference``; ``None`` outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    difference = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    untracked = [line[3:] for line in (_git(folder, "status", "--porcelain") or "").splitlines() if line[:2] == "??"]
    return {
        "commit": commit.strip(),
        "branch": (_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "dirty": bool(difference.strip()),
        "untracked_files": len(untracked),
        "difference": difference,
    }


def hardware() -> Plain:
    """Processor, cores, memory and GPUs, as far as the system tells."""
    content: Plain = {
        "processor": _processor(),
        "processors": os.cpu_count(),
        # A scheduler may have bound this process to some of the machine's cores.
        "usable_processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gigabytes": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "gpus": _gpus(),
    }
    return content


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        # The timeout: a checkout on a share that does not answer must not hold up a run.
        # Differences are bytes of files in any encoding, hence ``replace``.
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            errors="replace",
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _gpus() -> list[str]:
    try:
        # Not through torch, which would open a CUDA context only to learn a name.
        import pynvml
    except ModuleNotFoundError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
        return [name if isinstance(name, str) else name.decode() for name in names]
    except pynvml.NVMLError:
        return []
