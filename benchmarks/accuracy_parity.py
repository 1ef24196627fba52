"""Accuracy of our trainer beside Ultralytics' own: same recipe, epochs, data and seeds, from random weights.

Claim: mAP50 on the validation split no lower than theirs beyond the noise of seeds. Both arms' best weights are
measured by the same evaluation (Marauder's, equal to pycocotools). Prints every run, the means, and the difference with
a 95 % interval (Welch's t over seeds).

    python benchmarks/accuracy_parity.py --image-size 256 --epochs 40 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

from peers import describe_machine, pinned_ultralytics, prepare_aquarium, run_arm_process


def train_ours(arguments: argparse.Namespace) -> Path:
    """Train with Marauder; returns the best weights."""
    from marauder.core.clock import Clock
    from marauder.core.settings import load_settings
    from marauder.runs.gated import run_gated
    from marauder.tasks.detection.settings import BaselineSettings

    overrides = [
        f"training.epochs={arguments.epochs}", f"training.batch_size={arguments.batch_size}",
        f"training.seed={arguments.seed}", f"training.device={arguments.device}", "training.patience=0",
        "gate.contract=off", "gate.drift=off", "gate.sanity=off", "gate.determinism=off", "tracking.trackers=[]",
        "registry.kind=none", "export.formats=[]", "evaluation.slices_each_epoch=false",
        f"training.threads={arguments.threads}",
    ]  # fmt: skip
    settings = load_settings(
        BaselineSettings, None, overrides, data=arguments.data, output=arguments.output, model=arguments.model,
        image_size=arguments.image_size,
    )  # fmt: skip
    return run_gated(settings, Clock()).weights


def train_theirs(arguments: argparse.Namespace) -> Path:
    """Train with Ultralytics' trainer; returns the best weights."""
    with pinned_ultralytics(Path(arguments.output)) as (YOLO, common):
        import torch

        detector = YOLO(f"{arguments.model}.yaml", verbose=False)
        detector.add_callback("on_train_start", lambda _trainer: torch.set_num_threads(arguments.threads))
        detector.train(
            data=arguments.data, epochs=arguments.epochs, batch=arguments.batch_size, nbs=arguments.batch_size,
            imgsz=arguments.image_size, patience=0, device=arguments.device, amp=arguments.device != "cpu",
            project=arguments.output, name="theirs", **{**common, "seed": arguments.seed},
        )  # fmt: skip
        return Path(detector.trainer.best)


ARMS = {"ours": train_ours, "ultralytics": train_theirs}


def run_arm(arguments: argparse.Namespace) -> dict[str, float]:
    """Train one arm and measure its best weights on the validation split."""
    from marauder.core.clock import Clock
    from marauder.data.reading import read_dataset
    from marauder.engine.distributed import choose_device
    from marauder.tasks.detection.evaluate_split import evaluate_split

    started = time.perf_counter()
    weights = ARMS[arguments.arm](arguments)
    seconds = time.perf_counter() - started
    dataset = read_dataset(Path(arguments.data))
    device = choose_device(arguments.device)
    overall = evaluate_split(weights, dataset, "val", device, Clock(), arguments.image_size).result.overall
    return {"map50": overall.map50, "map50_95": overall.map50_95, "seconds": seconds}


def main() -> None:
    """Train all arms and seeds, or (with ``--arm``) one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm", choices=sorted(ARMS))
    parser.add_argument("--data", help="data.yaml; default: the aquarium pictures beside the checkout")
    parser.add_argument("--output", help="folder of one arm's run")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(run_arm(arguments)))
        return
    print(describe_machine(), flush=True)
    results: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as name:
        data = Path(arguments.data) if arguments.data else prepare_aquarium(Path(name) / "data")
        for seed in range(arguments.seeds):
            for arm in ARMS:
                result = measure(arm, seed, arguments, data, Path(name) / f"{arm}-{seed}")
                results[arm].append(result)
                print(
                    f"seed {seed} {arm:12} mAP50 {result['map50']:.4f}  mAP50-95 {result['map50_95']:.4f}  "
                    f"{result['seconds']:.0f} s",
                    flush=True,
                )
    report(results, arguments)


def measure(arm: str, seed: int, arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, float]:
    """One arm with one seed, in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--arm",
        arm,
        "--data",
        str(data),
        "--output",
        str(folder),
        "--seed",
        str(seed),
    ]
    for name in ("model", "device", "image_size", "batch_size", "epochs", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    return run_arm_process(arm, command)


def report(results: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    """Print means, spread and the difference with its interval."""
    print(f"{arguments.model}, {arguments.image_size} pixels, {arguments.epochs} epochs, {arguments.seeds} seeds")
    for metric in ("map50", "map50_95"):
        values = {arm: [run[metric] for run in runs] for arm, runs in results.items()}
        means = {arm: statistics.mean(found) for arm, found in values.items()}
        difference = means["ours"] - means["ultralytics"]
        text = ", ".join(f"{arm} {means[arm]:.4f}" for arm in ARMS)
        print(f"{metric}: {text}, difference {difference:+.4f} {interval(values, difference)}")


def interval(values: dict[str, list[float]], difference: float) -> str:
    """Welch's 95 % interval of the difference of means; needs two seeds."""
    from scipy.stats import t

    parts = [statistics.variance(found) / len(found) for found in values.values() if len(found) > 1]
    if len(parts) < 2 or sum(parts) == 0:
        return "(one seed: no interval)"
    count = len(values["ours"])
    freedom = sum(parts) ** 2 / sum(part**2 / (count - 1) for part in parts)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return f"(95 % interval {difference - half:+.4f} to {difference + half:+.4f})"


if __name__ == "__main__":
    main()
