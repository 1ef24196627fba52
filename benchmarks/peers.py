"""What the benchmarks share: a description of the machine, real data, and Ultralytics' trainer on fair terms."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AQUARIUM_NAMES = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
NAMES = {"aquarium": AQUARIUM_NAMES, "deepfish": ("fish",)}
"""Classes of each real data set."""
SHARES = {
    "aquarium": {"train": 0.7, "val": 0.2, "test": 0.1},
    # Near-alike frames of few clips: more for training costs time and adds little.
    "deepfish": {"train": 0.3, "val": 0.2, "test": 0.5},
}
"""How each is split, by clips, unless a benchmark says otherwise."""


def shared_data() -> Path:
    """Folder of real pictures: ``$MARAUDER_SHARED_DATA``, else ``shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MARAUDER_SHARED_DATA", default))
    if not folder.is_dir():
        raise SystemExit(f"no real pictures at {folder}; set MARAUDER_SHARED_DATA to their folder")
    return folder


def prepare_pictures(
    name: str, output: Path, seed: int = 0, shares: Mapping[str, float] | None = None, pictures: int | None = None
) -> Path:
    """Write a real data set (a key of ``NAMES``) in YOLO layout with splits by clips; returns data.yaml.

    ``shares``: of each split, by default ``SHARES``; ``pictures`` limits the training split (and the others in
    proportion).
    """
    from marauder.data.reading import read_dataset
    from marauder.data.splits import split_dataset
    from marauder.data.writers import write_yolo

    dataset = read_dataset(shared_data() / name, names=NAMES[name])
    dataset = split_dataset(dataset, dict(shares or SHARES[name]), seed=seed)
    if pictures is not None:
        share = pictures / dataset.splits()["train"]
        kept = []
        for split, count in dataset.splits().items():
            kept += list(dataset.split(split).records)[: max(1, round(count * share))]
        dataset = dataset.with_records(kept)
    return write_yolo(dataset, output, mode="copy")


@contextmanager
def pinned_ultralytics(folder: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Ultralytics' ``YOLO`` with its integrations off, and the training arguments that make it comparable."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        YOLO_CONFIG_DIR=str(folder), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false",
        WANDB_MODE="disabled",
    )  # fmt: skip
    import torch  # noqa: F401 - before Ultralytics, which would otherwise settle the number of threads
    from ultralytics import YOLO, settings

    for name in ("mlflow", "wandb", "tensorboard", "comet", "clearml", "dvc", "raytune", "neptune", "hub"):
        if name in settings:
            settings.update({name: False})
    common = {
        "pretrained": False, "optimizer": "SGD", "lr0": 0.01, "lrf": 0.01, "momentum": 0.937, "weight_decay": 5e-4,
        "warmup_momentum": 0.8, "warmup_bias_lr": 0.1, "augmentations": [], "plots": False, "verbose": False,
        "exist_ok": True, "deterministic": True, "seed": 0,
    }  # fmt: skip
    yield YOLO, common


def run_arm_process(arm: str, command: list[str]) -> dict[str, float]:
    """Run one arm in a process of its own; its last line of output is the result as JSON."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"{arm} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def describe_machine() -> str:
    """Processor, cores, GPU and versions, in one line."""
    import torch

    cores = len(os.sched_getaffinity(0))
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"machine: {processor_name()}, {cores} cores{gpu}; {versions}"


def processor_name() -> str:
    """The processor's name as the operating system gives it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
