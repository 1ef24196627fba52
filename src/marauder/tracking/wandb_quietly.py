"""Opening a run of Weights & Biases that says nothing, reports nothing and keeps all its files in one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb import Run


def open_quietly(folder: Path, **options: Any) -> Run:
    """The run that ``wandb.init`` opens with ``options``. Sets the environment of this process, before the import."""
    # Without the folders for data and cache, artifacts are staged outside the run's folder.
    os.environ |= {
        "WANDB_DIR": str(folder),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "config"),
        "WANDB_ERROR_REPORTING": "false",
    }
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        silent=True,
        symlink=False,
        x_disable_stats=True,
    )
    return wandb.init(dir=folder, settings=settings, **options)
