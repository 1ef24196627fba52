"""Pictures a second of our training loop beside Ultralytics' own trainer: same model, data, batch and augmentation.

Claim: at least 1.1 times Ultralytics' trainer on a CPU with the same number of threads; on one data-centre GPU at 640
pixels at least 1.5 times with YOLOv8n and 1.2 times with YOLOv8m. Each arm trains in a process of its own; rounds are
interleaved; the first epoch (start-up, filling of caches) does not count. Prints seconds by phase and the ratios.

    python benchmarks/training_throughput.py --image-size 320 --pictures 128 --epochs 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import describe_machine, pinned_ultralytics, prepare_pictures, run_arm_process

PHASES = ("data", "update", "evaluation", "checkpoint")


def run_ours(arguments: argparse.Namespace) -> dict[str, float]:
    """Train with Marauder's engine; returns seconds by phase and pictures seen, the first epoch left out."""
    from marauder.core.environment import share_cores

    share_cores()
    from marauder.core.clock import Clock
    from marauder.core.settings import load_settings
    from marauder.engine.distributed import process_group
    from marauder.engine.process import prepare_process
    from marauder.engine.trainer import Trainer
    from marauder.tasks.detection.data import DetectionData
    from marauder.tasks.detection.runtime import DetectorWeights
    from marauder.tasks.detection.settings import BaselineSettings
    from marauder.tasks.detection.training import DetectionTask

    output = Path(arguments.output)
    overrides = [f"training.epochs={arguments.epochs}", f"training.batch_size={arguments.batch_size}",
                 "training.close_mosaic_epochs=0", f"training.device={arguments.device}",
                 "training.patience=0", "training.optimizer.warmup_epochs=0",
                 "evaluation.slices_each_epoch=false"]  # fmt: skip
    settings = load_settings(
        BaselineSettings, None, overrides, data=arguments.data, output=output, model=arguments.model,
        image_size=arguments.image_size,
    )  # fmt: skip
    prepare_process(arguments.threads, 1)
    marks: list[tuple[float, dict[str, float]]] = []

    with process_group(arguments.device) as group:
        task = DetectionTask(DetectionData(settings).plan(), output / "cache", int(16e9))
        trainer = Trainer(
            task, settings.training, group, output, output / "checkpoints",
            DetectorWeights(settings),
            Clock(), "benchmark",
        )  # fmt: skip
        score = task.score

        def score_and_mark(shares: list[Any]) -> dict[str, float]:
            values = score(shares)
            marks.append((time.perf_counter(), dict(trainer.stopwatch.seconds)))
            return values

        task.score = score_and_mark  # type: ignore[method-assign]
        trainer.fit(fresh=True)
    seconds = {phase: marks[-1][1].get(phase, 0.0) - marks[0][1].get(phase, 0.0) for phase in PHASES}
    return {**seconds, "total": marks[-1][0] - marks[0][0], "pictures": (len(marks) - 1) * task.training_length}


def run_ultralytics(arguments: argparse.Namespace) -> dict[str, float]:
    """Train with Ultralytics' trainer on the same terms."""
    with pinned_ultralytics(Path(arguments.output)) as (YOLO, common):
        import torch

        clock = {"data": 0.0, "update": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
        last = {"at": 0.0}
        marks: list[tuple[float, dict[str, float]]] = []

        def ends(phase: str | None) -> Any:
            def callback(_trainer: Any) -> None:
                now = time.perf_counter()
                if phase is not None:
                    clock[phase] += now - last["at"]
                last["at"] = now

            return callback

        def start(_trainer: Any) -> None:
            if arguments.threads:
                torch.set_num_threads(arguments.threads)

        detector = YOLO(f"{arguments.model}.yaml", verbose=False)
        detector.add_callback("on_train_start", start)
        detector.add_callback("on_train_epoch_start", ends(None))
        detector.add_callback("on_train_batch_start", ends("data"))
        detector.add_callback("on_train_batch_end", ends("update"))
        detector.add_callback("on_train_epoch_end", ends(None))
        detector.add_callback("on_val_start", ends(None))
        detector.add_callback("on_val_end", ends("evaluation"))
        detector.add_callback("on_model_save", ends("checkpoint"))
        detector.add_callback("on_fit_epoch_end", lambda _t: marks.append((time.perf_counter(), dict(clock))))
        detector.train(
            data=arguments.data, epochs=arguments.epochs, batch=arguments.batch_size, imgsz=arguments.image_size,
            nbs=arguments.batch_size, close_mosaic=0, warmup_epochs=0, patience=0, device=arguments.device,
            amp=arguments.device != "cpu", project=arguments.output, name="theirs", **common,
        )  # fmt: skip
        length = len(detector.trainer.train_loader.dataset)
        epochs = marks[: arguments.epochs]  # after training the trainer validates once more
    seconds = {phase: epochs[-1][1][phase] - epochs[0][1][phase] for phase in PHASES}
    return {**seconds, "total": epochs[-1][0] - epochs[0][0], "pictures": (len(epochs) - 1) * length}


ARMS = {"ours": run_ours, "ultralytics": run_ultralytics, "ultralytics default threads": run_ultralytics}


def measure(arm: str, arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, float]:
    """One run of one arm in a process of its own."""
    command = [sys.executable, __file__, "--arm", arm, "--data", str(data), "--output", str(folder),
               "--model", arguments.model, "--device", arguments.device]  # fmt: skip
    for name in ("image_size", "batch_size", "epochs", "threads"):
        value = 0 if name == "threads" and arm.endswith("default threads") else getattr(arguments, name)
        command += [f"--{name.replace('_', '-')}", str(value)]
    return run_arm_process(arm, command)


def main() -> None:
    """Measure all arms, or (with ``--arm``) one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm", choices=sorted(ARMS))
    parser.add_argument("--data", help="data.yaml; default: the aquarium pictures beside the checkout")
    parser.add_argument("--output", help="folder of one arm's run")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3, help="the first does not count")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(ARMS[arguments.arm](arguments)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = Path(arguments.data or prepare_pictures("aquarium", folder / "data", pictures=arguments.pictures))
        results: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for round_number in range(arguments.rounds):
            for arm in ARMS:
                results[arm].append(measure(arm, arguments, data, folder / f"{round_number}-{arm.replace(' ', '-')}"))
    report(results, arguments)


def report(results: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    """Print the table and the ratios."""
    print(describe_machine())
    print(
        f"{arguments.model}, {arguments.image_size} pixels, batch {arguments.batch_size}, {arguments.threads} threads, "
        f"{arguments.epochs - 1} counted epochs, {arguments.rounds} rounds (medians)"
    )
    print(f"{'arm':30}{'pictures/s':>12}" + "".join(f"{phase + ' s':>14}" for phase in PHASES))
    rates = {}
    for arm, runs in results.items():
        rates[arm] = [run["pictures"] / run["total"] for run in runs]
        phases = "".join(f"{statistics.median(run[phase] for run in runs):14.2f}" for phase in PHASES)
        print(f"{arm:30}{statistics.median(rates[arm]):12.2f}{phases}")
    for arm in list(ARMS)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates[arm], strict=True)]
        print(
            f"ours / {arm}: {statistics.median(ratios):.2f} (rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )


if __name__ == "__main__":
    main()
