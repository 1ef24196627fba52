"""The process that logs a version as an artifact of Weights & Biases; reads its order as JSON from standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from marauder.core.plain import Plain
from marauder.tracking.wandb_quietly import open_quietly


def log_artifact(order: Plain) -> None:
    """One W&B run that logs the artifact of the order with its aliases, all files inside the order's folder."""
    folder = Path(order["folder"])
    run = open_quietly(
        folder, project=order["project"], entity=order["entity"], job_type="registry", mode=order["mode"]
    )
    import wandb  # after the environment was set for it

    wanted = order["artifact"]
    about = {"description": wanted["description"], "metadata": wanted["metadata"]}
    artifact = wandb.Artifact(order["project"], type="model", **about)
    source = Path(wanted["folder"])
    for name in wanted["files"]:
        # immutable: the file stays where it is, and is not copied once more.
        artifact.add_file(str(source / name), name=name, policy="immutable")
    logged = run.log_artifact(artifact, aliases=wanted["aliases"])
    if order["mode"] == "online":
        logged.wait()
    run.finish()


if __name__ == "__main__":
    log_artifact(json.load(sys.stdin))
