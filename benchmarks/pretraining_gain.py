"""What pretraining is worth when labels are scarce: mAP at 5, 10, 25 and 100 % of the labels, from four starts.

    python benchmarks/pretraining_gain.py --output DIR [--scale small|full] [--seeds 3] [--fractions 5 10 25 100]

Arms: random weights; a detector of another domain (``--other-weights``, for example COCO's; without it one is trained
here on DeepFish's labels); ours from random weights; ours from that detector. Pretraining sees Aquarium's training
pictures without labels, and DeepFish's; never an evaluation picture. Labels are taken away by whole clips; within a
fraction every arm gets the same pictures, updates and settings, and only the last weights are measured. Every finished
training is a line of DIR/results.jsonl: the same command with the same DIR goes on where it was.

Target: ours from random at 10 % of the labels at least 15 % over random weights in mAP50-95, relatively.
``--scale small`` is a scaled-down form for a CPU; its figures say nothing of the full scale.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import append_line, fingerprint, read_lines, write_bytes
from marauder.core.randomness import stream
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.splits import split_dataset
from peers import AQUARIUM_NAMES, describe_machine, shared_data

if TYPE_CHECKING:
    import torch

    from marauder.engine.task import Task, Weights

ARMS = ("random", "other", "ours", "ours_other")
TITLES = {
    "random": "random weights",
    "other": "other-domain detector",
    "ours": "ours from random",
    "ours_other": "ours from detector",
}
FRACTIONS = (5, 10, 25, 100)
TARGET = 0.15
PERIODS = 10
"""Epochs a training is told as, so that warm-up and the end without mosaic are the same shares of it everywhere."""


AnyScale = TypeVar("AnyScale", bound=Any)


@dataclass(frozen=True)
class Scale:
    """Sizes of one scale. ``updates``: of a detector's training; ``pretraining_updates``: of a backbone's.

    ``pretrainings``: how many backbones are pretrained for each start; seeds beyond share them, in turn.
    """

    name: str
    model: str
    image_size: int
    batch_size: int
    updates: int
    learning_rate: float
    mosaic: float
    view_size: int
    pretraining_batch: int
    pretraining_updates: int
    pretraining_rate: float
    other_pictures: int
    method: str
    pretrainings: int


SCALES = {
    "small": Scale("small", "yolov8t", 160, 16, 600, 4e-3, 0.0, 96, 32, 900, 2e-3, 400, "distillation", 1),
    "full": Scale("full", "yolov8n", 640, 16, 4000, 1e-3, 1.0, 224, 128, 12000, 1e-3, 1500, "moco", 3),
}


@dataclass(frozen=True)
class Data:
    """Aquarium split by clips, and DeepFish."""

    training: Dataset
    evaluation: Dataset
    other: Dataset


def open_data(scale: Scale) -> Data:
    """Aquarium's training and evaluation pictures, by clips, the same for every seed; DeepFish thinned evenly."""
    aquarium = read_dataset(shared_data() / "aquarium", names=AQUARIUM_NAMES)
    aquarium = split_dataset(aquarium, {"train": 0.7, "val": 0.3}, seed=0)
    deepfish = read_dataset(shared_data() / "deepfish", names=("fish",))
    step = max(1, len(deepfish) // scale.other_pictures)
    other = deepfish.with_records(deepfish.records[::step][: scale.other_pictures])
    return Data(aquarium.split("train"), aquarium.split("val"), other)


def labelled_part(training: Dataset, percent: int, seed: int) -> list[Record]:
    """Whole clips, in an order of the seed, until ``percent`` of the pictures are reached; smaller parts lie in larger.

    The first clips are chosen so that every class is in the part, as far as clips allow.
    """
    groups: dict[str, list[Record]] = {}
    for record in training:
        groups.setdefault(record.group, []).append(record)
    order = [sorted(groups)[i] for i in stream(seed, "labels").permutation(len(groups))]
    classes = {name: {int(k) for record in groups[name] for k in record.classes} for name in order}
    first: list[str] = []
    missing = set(range(len(training.names)))
    for name in sorted(order, key=lambda group: (len(groups[group]), order.index(group))):
        if classes[name] & missing and len(groups[name]) <= max(2, len(training) // 50):
            first.append(name)
            missing -= classes[name]
    wanted = max(1, round(len(training) * percent / 100))
    chosen: list[Record] = []
    for name in [*first, *(name for name in order if name not in first)]:
        if len(chosen) >= wanted:
            break
        chosen += groups[name]
    return chosen


def train_detector(
    scale: Scale,
    folder: Path,
    names: tuple[str, ...],
    records: Sequence[Record],
    evaluation: Sequence[Record],
    seed: int,
    weights: Path | None,
    backbone: Path | None,
    device: str,
) -> dict[str, float]:
    """Train one detector and measure its last weights; leaves them in ``folder``/last.safetensors."""
    from marauder.data.balancing import Resampling
    from marauder.engine.settings import TrainingSettings
    from marauder.imaging.augmentation import AugmentationSettings
    from marauder.tasks.detection.training import DetectionPlan, DetectionTask

    length = scale.updates // PERIODS * scale.batch_size
    plan = DetectionPlan(
        scale.model, names, records, evaluation, scale.image_size, seed,
        AugmentationSettings(mosaic=scale.mosaic), weights, backbone,
        resampling=Resampling(np.full(len(records), length / len(records))), close_mosaic_epochs=2,
    )  # fmt: skip
    optimizer = {"name": "adamw", "learning_rate": scale.learning_rate, "momentum": 0.9, "warmup_epochs": 1.0}
    settings = TrainingSettings.model_validate({
        "epochs": PERIODS, "batch_size": scale.batch_size, "seed": seed, "patience": 0,
        "evaluate_every": PERIODS, "device": device, "optimizer": optimizer,
        "average_ramp": scale.updates / 4, "average_decay": 0.99, "workers": 0 if device == "cpu" else None,
    })  # fmt: skip
    row = fit(DetectionTask(plan, folder.parent / "pictures", int(8e9)), settings, folder, Kept(folder, scale), plan)
    return {"map50": row["val/map50"], "map50_95": row["val/map50_95"]}


def pretrain_backbone(
    scale: Scale, folder: Path, records: Sequence[Record], seed: int, init: Path | None, device: str
) -> dict[str, float]:
    """Pretrain a backbone; leaves it in ``folder``/backbone.safetensors. Returns the signs of its features."""
    from marauder.imaging.underwater_view_settings import ViewSettings
    from marauder.models.pretraining.settings import MethodSettings
    from marauder.tasks.pretraining.settings import PretrainingTraining
    from marauder.tasks.pretraining.training import PretrainingTask, PretrainingTaskPlan

    steps = math.ceil(len(records) / scale.pretraining_batch)
    epochs = max(1, round(scale.pretraining_updates / steps))
    plan = PretrainingTaskPlan(
        scale.model, scale.method, MethodSettings(), ViewSettings(), records, records[:: max(1, len(records) // 128)],
        scale.view_size, scale.view_size * 3 // 2, seed, init,
    )  # fmt: skip
    optimizer = {"learning_rate": scale.pretraining_rate, "warmup_epochs": max(1.0, epochs / 20), "weight_decay": 1e-4}
    settings = PretrainingTraining.model_validate({
        "epochs": epochs, "batch_size": scale.pretraining_batch, "seed": seed, "evaluate_every": epochs,
        "device": device, "optimizer": optimizer, "workers": 0 if device == "cpu" else None,
    })  # fmt: skip
    task = PretrainingTask(plan, folder.parent / "pictures", int(8e9))
    row = fit(task, settings, folder, KeptBackbone(folder), plan)
    return {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}


def fit(task: Task, settings: Any, folder: Path, weights: Weights, plan: Any) -> dict[str, float]:
    """Train to the end, going on from a checkpoint of the same training where there is one; the last epoch's row."""
    from marauder.engine.distributed import process_group
    from marauder.engine.trainer import Trainer

    with process_group(settings.device) as group:
        identity = fingerprint([repr(plan.training), repr(settings), getattr(plan, "image_size", 0)])
        trainer = Trainer(task, settings, group, folder, folder / "checkpoints", weights, Clock(), identity)
        trainer.fit()
        row = dict(trainer.state.position.history[-1])
    task.close()
    return row


class Kept:
    """A detector's last weights (``marauder.engine.task.Weights``)."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder, self.scale = folder, scale

    def save(self, model: torch.nn.Module, name: str, about: dict[str, Any]) -> None:
        """Write the last weights; there is one evaluation, so that best ones are no others."""
        from marauder.models.files import save_detector
        from marauder.models.ultralytics_adapter import DetectionModel

        assert isinstance(model, DetectionModel)
        if name == "last":
            save_detector(model, self.folder / name, self.scale.image_size, about)

    def about(self, name: str) -> Mapping[str, Any] | None:
        """Nothing but whether they are there."""
        return {} if name == "last" and self.files(name)[0].is_file() else None

    def files(self, name: str) -> Sequence[Path]:
        """One file."""
        return [self.folder / f"{name}.safetensors"]


class KeptBackbone:
    """A pretrained backbone (``marauder.engine.task.Weights``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, model: torch.nn.Module, name: str, about: dict[str, Any]) -> None:
        """Write the backbone as step 1 does."""
        from safetensors.torch import save

        from marauder.models.pretraining.base import PretrainingMethod

        assert isinstance(model, PretrainingMethod)
        if name == "last":
            write_bytes(self.folder / "backbone.safetensors", save(model.backbone_state()))

    def about(self, name: str) -> Mapping[str, Any] | None:
        """Nothing but whether it is there."""
        return {} if name == "last" and self.files(name)[0].is_file() else None

    def files(self, name: str) -> Sequence[Path]:
        """One file, of the last weights."""
        return [self.folder / "backbone.safetensors"] if name == "last" else []


class Bench:
    """Does what is not done yet, and remembers what is."""

    def __init__(self, arguments: argparse.Namespace, scale: Scale) -> None:
        self.arguments, self.scale = arguments, scale
        self.output: Path = arguments.output.absolute()
        self.file = self.output / "results.jsonl"
        self.data = open_data(scale)
        other = str(arguments.other_weights or "deepfish")
        self.about = fingerprint([asdict(scale), other, len(self.data.training), len(self.data.evaluation)])[:12]
        rows = read_lines(self.file) if self.file.is_file() else []
        if any(row["about"] != self.about for row in rows):
            raise SystemExit(f"{self.file} is of other sizes or data; give another --output, or remove it")
        self.done = {row["name"]: row for row in rows}

    def once(self, name: str, work: Any) -> dict[str, Any]:
        """The result of ``work`` (called with its folder), which is done only where no run before has done it."""
        if name not in self.done:
            started = time.monotonic()
            folder = self.output / name
            folder.mkdir(parents=True, exist_ok=True)
            found = work(folder)
            seconds = round(time.monotonic() - started, 1)
            self.done[name] = {"name": name, "about": self.about, "seconds": seconds, **found}
            append_line(self.file, self.done[name])
            shown = "  ".join(f"{key} {value:.4f}" for key, value in found.items() if key.startswith("map"))
            print(f"{name}: {shown}  {seconds:.0f} s", flush=True)
        return self.done[name]

    def other_detector(self) -> Path:
        """A detector of another domain."""
        if self.arguments.other_weights is not None:
            return Path(self.arguments.other_weights)
        other, device = split_dataset(self.data.other, {"train": 0.8, "val": 0.2}, seed=0), self.arguments.device
        train, val = other.split("train").records, other.split("val").records
        self.once(
            "other_detector",
            lambda folder: train_detector(self.scale, folder, other.names, train, val, 0, None, None, device),
        )
        return self.output / "other_detector" / "last.safetensors"

    def backbone(self, seed: int, init: Path | None) -> Path:
        """A backbone pretrained on all pictures but those of the evaluation, without labels."""
        name = f"backbone_{'random' if init is None else 'other'}_{seed}"
        records = [*self.data.training, *self.data.other]
        bare = [replace(r, boxes=np.zeros((0, 4)), classes=np.zeros(0), ignored=np.zeros(0), labelled=False,
                        box_attributes={}) for r in records]  # fmt: skip
        device = self.arguments.device
        self.once(name, lambda folder: pretrain_backbone(self.scale, folder, bare, seed, init, device))
        return self.output / name / "backbone.safetensors"

    def run(self, arm: str, percent: int, seed: int) -> dict[str, Any]:
        """Train and measure one arm. Ours takes neck and head from where its pretraining started, too."""
        start = self.other_detector() if "other" in arm else None
        backbone = self.backbone(seed % self.scale.pretrainings, start) if "ours" in arm else None
        names, evaluation, device = self.data.training.names, self.data.evaluation.records, self.arguments.device
        part = labelled_part(self.data.training, percent, seed)
        return self.once(
            f"{arm}_{percent}_{seed}",
            lambda folder: {
                "pictures": len(part),
                **train_detector(self.scale, folder, names, part, evaluation, seed, start, backbone, device),
            },
        )


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval of the mean over seeds (Student's t)."""
    from scipy.stats import t

    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.4f} (one seed)"
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.4f} ± {half:.4f}"


def relative_gain(ours: Sequence[float], base: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of the means less 1, and its 95 % interval over seeds, paired, on the logarithm of the ratios."""
    from scipy.stats import t

    gain = statistics.mean(ours) / max(statistics.mean(base), 1e-9) - 1
    logs = [math.log(max(a, 1e-6) / max(b, 1e-6)) for a, b in zip(ours, base, strict=True)]
    if len(logs) < 2:
        return gain, float("nan"), float("nan")
    half = float(t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    mean = statistics.mean(logs)
    return gain, math.exp(mean - half) - 1, math.exp(mean + half) - 1


def report(rows: dict[tuple[str, int], list[dict[str, Any]]], fractions: Sequence[int], scale: Scale) -> None:
    """Print the tables, and the gain beside the target."""
    if scale.name == "small":
        print(f"\nSCALED DOWN for a CPU ({scale.model}, {scale.image_size} pixels): no statement about the full scale")
        print(f"{scale.pretrainings} pretraining of each start, shared by the seeds: intervals leave its chance out")
    for metric, title in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        print(f"\n{title}, mean over seeds and 95 % interval\n")
        print("| start | " + " | ".join(f"{percent} % of labels" for percent in fractions) + " |")
        print("|---|" + "---|" * len(fractions))
        for arm in ARMS:
            cells = [interval([row[metric] for row in rows[arm, percent]]) for percent in fractions]
            print(f"| {TITLES[arm]} | " + " | ".join(cells) + " |")
    print("\nmAP50-95 relative to random weights, paired by seed\n")
    for percent in fractions:
        base = [row["map50_95"] for row in rows["random", percent]]
        for arm in ARMS[1:]:
            gain, low, high = relative_gain([row["map50_95"] for row in rows[arm, percent]], base)
            sure = f"95 % interval {low:+.1%} to {high:+.1%}" if len(base) > 1 else "one seed: no interval"
            line = f"{percent} %: {TITLES[arm]} {gain:+.1%} ({sure})"
            if percent == 10 and arm == "ours":
                line += f"; target {TARGET:+.0%}: {'met' if gain >= TARGET else 'not met'}"
            print(line)


def begin(parser: argparse.ArgumentParser, scales: Mapping[str, AnyScale]) -> tuple[argparse.Namespace, AnyScale]:
    """Add the options of every benchmark of trainings by scale, read the command line, set the threads, and say what
    is run on which machine; returns the options and the scale with the sizes that were changed."""
    parser.add_argument("--output", type=Path, required=True, help="folder of all trainings and of results.jsonl")
    parser.add_argument("--scale", choices=sorted(scales), default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change a size of the scale")
    arguments = parser.parse_args()
    scale = scales[arguments.scale]
    changes = dict(change.split("=", 1) for change in arguments.set)
    unknown = set(changes) - set(asdict(scale))
    if unknown:
        parser.error(f"--set: no such size: {', '.join(sorted(unknown))}")
    scale = replace(scale, **{name: type(getattr(scale, name))(value) for name, value in changes.items()})

    from marauder.engine.process import prepare_process

    prepare_process(arguments.threads, 1)
    print(describe_machine(), flush=True)
    print(json.dumps(asdict(scale)), flush=True)
    return arguments, scale


def main() -> None:
    """Train what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fractions", type=int, nargs="+", default=list(FRACTIONS), help="per cent of labels")
    parser.add_argument("--other-weights", help="detector of another domain (.pt, .safetensors); default: DeepFish's")
    arguments, scale = begin(parser, SCALES)
    bench = Bench(arguments, scale)
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for seed in range(arguments.seeds):
        for percent in arguments.fractions:
            for arm in ARMS:
                rows.setdefault((arm, percent), []).append(bench.run(arm, percent, seed))
    report(rows, arguments.fractions, scale)


if __name__ == "__main__":
    main()
