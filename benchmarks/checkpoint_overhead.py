"""What step checkpoints cost: time the loop is held up, and steps slowed while the writer works in the background.

Claim: at most 3.5 % of step time with a checkpoint at least every 60 s (the bound of CheckFreq, Mohan et al., FAST
2021). Steps during a write are compared with the median of the others in the same run.

    python benchmarks/checkpoint_overhead.py --model yolov8n --image-size 320 --steps 120
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import describe_machine, prepare_pictures


def main() -> None:
    """Train for some steps with checkpoints and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every-steps", type=int, default=15, help="steps between two checkpoints")
    parser.add_argument(
        "--interval", type=float, default=60.0, help="seconds between checkpoints that is accounted for"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        times, writing, blocked = train(arguments, Path(name))
    idle = statistics.median(seconds for seconds, busy in zip(times, writing, strict=True) if not busy)
    slowed = [seconds - idle for seconds, busy in zip(times, writing, strict=True) if busy]
    count = len(blocked)
    per_checkpoint = statistics.mean(blocked) + max(0.0, sum(slowed)) / count
    print(describe_machine())
    print(f"{arguments.model}, {arguments.image_size} pixels, batch {arguments.batch_size}")
    print(f"{len(times)} steps, {count} checkpoints")
    print(
        f"median step {idle * 1000:.0f} ms; held up {statistics.mean(blocked) * 1000:.0f} ms a checkpoint; "
        f"steps slowed during writes {max(0.0, sum(slowed)) / count * 1000:.0f} ms a checkpoint"
    )
    share = per_checkpoint / arguments.interval
    print(f"overhead with one every {arguments.interval:.0f} s: {share:.2%} (claim: at most 3.5 %)")


def train(arguments: argparse.Namespace, folder: Path) -> tuple[list[float], list[bool], list[float]]:
    """Seconds of each step, whether a write was under way, and seconds that each checkpoint held the loop up."""
    from marauder.core.clock import Clock, Interrupted
    from marauder.core.settings import load_settings
    from marauder.engine.checkpoints import Checkpointer
    from marauder.engine.distributed import process_group
    from marauder.engine.process import prepare_process
    from marauder.engine.trainer import Trainer
    from marauder.tasks.detection.data import DetectionData
    from marauder.tasks.detection.runtime import DetectorWeights
    from marauder.tasks.detection.settings import BaselineSettings
    from marauder.tasks.detection.training import DetectionTask

    data = prepare_pictures("aquarium", folder / "data", pictures=128)
    overrides = [
        "training.epochs=1000", f"training.batch_size={arguments.batch_size}", f"training.device={arguments.device}",
        "training.evaluate_every=1000", f"training.checkpoint_steps={arguments.every_steps}",
        "training.checkpoint_seconds=100000",
    ]  # fmt: skip
    settings = load_settings(
        BaselineSettings, None, overrides, data=data, output=folder / "out", model=arguments.model,
        image_size=arguments.image_size,
    )  # fmt: skip
    prepare_process(arguments.threads, 1)
    times: list[float] = []
    writing: list[bool] = []
    blocked: list[float] = []
    clock = Clock()
    with process_group(arguments.device) as group:
        task = DetectionTask(DetectionData(settings).plan(), folder / "cache", int(16e9))

        trainer = Trainer(
            task,
            settings.training,
            group,
            folder,
            folder / "checkpoints",
            DetectorWeights(settings),
            clock,
            "benchmark",
        )
        step, save = trainer._step, Checkpointer.save

        def timed_step(batch: Any) -> Any:
            writer = trainer.checkpointer._writer
            busy = writer is not None and writer.is_alive()
            started = time.perf_counter()
            result = step(batch)
            float(result.samples)  # wait for the device
            times.append(time.perf_counter() - started)
            writing.append(busy)
            if len(times) >= arguments.steps:
                clock.signal_name = "enough steps"
            return result

        def timed_save(self: Checkpointer, *values: Any, **named: Any) -> None:
            started = time.perf_counter()
            save(self, *values, **named)
            if not named.get("wait") and not (len(values) > 3 and values[3]):
                blocked.append(time.perf_counter() - started)

        trainer._step = timed_step  # type: ignore[method-assign]
        Checkpointer.save = timed_save  # type: ignore[method-assign]
        try:
            trainer.fit()
        except Interrupted:
            warm = 5
            return times[warm:], writing[warm:], blocked
    raise SystemExit("the training ended before enough steps were timed; lower --steps")


if __name__ == "__main__":
    main()
