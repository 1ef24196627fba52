"""What specialising on critical species is worth: starfish and stingray of Aquarium, against plain training as long.

    python benchmarks/critical_species_gain.py --output DIR [--scale small|medium|full] [--seeds 3] [--arms ...]

Each seed has its own group-safe split and one detector trained plainly, from which every arm goes on (``ours``: step 5
as it ships; ``stages``: its stages with no emphasis at all; ``focal``, ``balance``, ``paste``, ``mining``: one part of
it alone). The baseline is one plain training from the start with at least as many updates as the longest arm had in
all. The split test, which no training and no mining saw, measures: precision of the critical classes at the baseline's
recall, and the others' map50. Every finished training stays in DIR: the same command goes on where it was.

Target: ours at least +10 % precision relatively, the others losing less than 1 % of map50. ``--scale small`` (about 20
minutes on one core) and ``medium`` (about 50) are scaled-down forms; their figures say nothing of the full scale.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock
from marauder.core.files import append_line, read_lines, write_json
from peers import AQUARIUM_NAMES, describe_machine, shared_data

CRITICAL = ("starfish", "stingray")
ARMS = ("ours", "stages", "focal", "balance", "paste", "mining")
DEFAULT_ARMS = ("baseline", "ours")
PLAIN = (
    "loss.focal.enabled=false", "balance.kind=none", "copy_paste.probability=0", "mining.count=0",
)  # fmt: skip
CHANGES: dict[str, tuple[str, ...]] = {
    "ours": (),
    "stages": PLAIN,
    "focal": (*PLAIN, "loss.focal.enabled=true"),
    "balance": (*PLAIN, "balance.kind=repeat_factor"),
    "paste": (*PLAIN, "copy_paste.probability=0.3"),
    "mining": tuple(word for word in PLAIN if not word.startswith("mining")),
}
"""Settings of each arm, over those of step 5."""
MINED_SHARE = 2 / 3
"""Of an arm's updates, those of the stage with mined negatives; the rest fine-tune."""
TARGET_PRECISION, TARGET_LOSS = 0.10, 0.01


@dataclass(frozen=True)
class Scale:
    """Sizes of one scale. ``standard``, ``special``: updates of the plain start, and of an arm after it."""

    name: str
    model: str
    image_size: int
    batch_size: int
    standard: int
    special: int
    learning_rate: float


SCALES = {
    "tiny": Scale("tiny", "yolov8t", 64, 16, 36, 36, 0.01),
    "small": Scale("small", "yolov8t", 192, 16, 1200, 800, 0.01),
    "medium": Scale("medium", "yolov8n", 192, 16, 900, 600, 0.01),
    "full": Scale("full", "yolov8s", 640, 16, 4500, 3000, 0.01),
}


def prepare(folder: Path, seed: int) -> Path:
    """Aquarium with the split of a seed; returns data.yaml."""
    from marauder.data.reading import read_dataset
    from marauder.data.splits import split_dataset
    from marauder.data.writers import write_yolo

    dataset = read_dataset(shared_data() / "aquarium", names=AQUARIUM_NAMES)
    return write_yolo(split_dataset(dataset, {"train": 0.5, "val": 0.2, "test": 0.3}, seed), folder)


def words(scale: Scale, seed: int, arguments: argparse.Namespace, epochs: int) -> list[str]:
    """Settings that every training here shares."""
    return [
        f"training.epochs={epochs}", f"training.batch_size={scale.batch_size}", f"training.seed={seed}",
        f"training.optimizer.learning_rate={scale.learning_rate}", "training.patience=0",
        f"training.close_mosaic_epochs={max(1, epochs // 10)}", f"training.device={arguments.device}",
        f"training.evaluate_every={max(1, epochs // 20)}", "training.checkpoint_seconds=120",
        "gate.contract=off", "gate.drift=off", "gate.sanity=off", "gate.determinism=off", "tracking.trackers=[]",
        "registry.kind=none", "export.formats=[]", "evaluation.slices_each_epoch=false", "evaluation.draws=300",
        f"critical=[{','.join(CRITICAL)}]",
        *([f"training.threads={arguments.threads}"] if arguments.threads else []),
    ]  # fmt: skip


def train_plainly(
    data: Path, folder: Path, scale: Scale, seed: int, updates: int, arguments: argparse.Namespace
) -> Path:
    """A plain training of at least ``updates``; returns its best weights."""
    from marauder.data.reading import read_dataset
    from marauder.runs.gated import run_gated
    from marauder.runs.recipes import load_run_settings
    from marauder.tasks.detection.settings import DetectionSettings

    pictures = sum(record.labelled for record in read_dataset(data).split("train"))
    epochs = math.ceil(updates / steps_of(pictures, scale))
    settings = load_run_settings(
        DetectionSettings, None, [*words(scale, seed, arguments, epochs), "weights=none"], data=data, output=folder,
        model=scale.model, image_size=scale.image_size,
    )  # fmt: skip
    return run_gated(settings, Clock()).weights


def specialise(
    data: Path, folder: Path, base: Path, arm: str, scale: Scale, seed: int, arguments: argparse.Namespace
) -> Path:
    """An arm from the plain start; returns the weights it keeps. Its epochs are as many as make its updates."""
    from marauder.critical.balance_plan import plan_balance
    from marauder.critical.settings import CriticalSettings
    from marauder.critical.specialisation import run_critical
    from marauder.runs.recipes import load_run_settings

    def settings(epochs: int) -> CriticalSettings:
        found = load_run_settings(
            CriticalSettings, None,
            [*words(scale, seed, arguments, epochs), "stages.standard.share=0", f"stages.mined.share={MINED_SHARE}",
             f"stages.fine_tune.share={1 - MINED_SHARE}", *CHANGES[arm], *arguments.settings],
            data=data, output=folder, model=scale.model, image_size=scale.image_size, base_model=base,
        )  # fmt: skip
        assert isinstance(found, CriticalSettings)
        return found

    length = plan_balance(settings(3)).length
    epochs = max(2, round(scale.special / steps_of(length, scale)))
    return run_critical(settings(epochs), Clock()).run.weights


def steps_of(samples: int, scale: Scale) -> int:
    """Updates of an epoch."""
    return max(1, samples // scale.batch_size)


def updates_in(folder: Path) -> int:
    """Updates of a finished training, by its own record."""
    return int(read_lines(folder / "metrics.jsonl")[-1]["step"])


def measure(weights: Path, data: Path, scale: Scale, device: str) -> Any:
    """The detector on the split test."""
    from marauder.data.reading import read_dataset
    from marauder.engine.distributed import choose_device
    from marauder.tasks.detection.evaluate_split import evaluate_split

    return evaluate_split(weights, read_dataset(data), "test", choose_device(device), None, scale.image_size)


def one_seed(seed: int, scale: Scale, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All arms of a seed, each next to the baseline: one row an arm."""
    from marauder.evaluation.critical_metrics import tier_metrics
    from marauder.evaluation.fixed_recall import at_fixed_recall

    root = arguments.output / scale.name / f"seed_{seed}"
    data = prepare(root / "data", seed)
    started = time.perf_counter()
    base = train_plainly(data, root / "start", scale, seed, scale.standard, arguments)
    arms = [arm for arm in arguments.arms if arm != "baseline"]
    weights = {arm: specialise(data, root / arm, base, arm, scale, seed, arguments) for arm in arms}
    spent = {arm: updates_in(root / "start") + updates_in(root / arm) for arm in arms}
    longest = max(spent.values(), default=scale.standard + scale.special)
    baseline = train_plainly(data, root / f"baseline_{longest}", scale, seed, longest, arguments)
    spent["baseline"] = updates_in(root / f"baseline_{longest}")
    against = measure(baseline, data, scale, arguments.device)
    before = tier_metrics(against.result.overall, CRITICAL, None)
    rows = []
    for arm in ("baseline", *arms):
        found = against if arm == "baseline" else measure(weights[arm], data, scale, arguments.device)
        tier = at_fixed_recall(against.result.matches, found.result.matches, found.records, CRITICAL, draws=500).tier
        metrics = tier_metrics(found.result.overall, CRITICAL, None)
        rows.append({
            "scale": scale.name, "seed": seed, "arm": arm, "updates": spent[arm], "recall": tier.recall,
            "precision": tier.precision.after, "precision_baseline": tier.precision.before,
            "low": tier.precision.low, "high": tier.precision.high,
            "gain": tier.precision.after / tier.precision.before - 1 if tier.precision.before else math.nan,
            "others": metrics["others/map50"],
            "others_loss": 1 - metrics["others/map50"] / before["others/map50"] if before["others/map50"] else math.nan,
            "critical_map50": metrics["critical/map50"], "critical_map50_95": metrics["critical/map50_95"],
            "false_without": tier.without.after, "seconds": time.perf_counter() - started,
        })  # fmt: skip
        print(describe(rows[-1]), flush=True)
    return rows


def describe(row: dict[str, Any]) -> str:
    """A row in a line."""
    return (
        f"seed {row['seed']} {row['arm']:9}: {row['updates']} updates, precision {row['precision']:.3f} at recall "
        f"{row['recall']:.3f} (baseline {row['precision_baseline']:.3f}; difference {row['low']:+.3f} to "
        f"{row['high']:+.3f}), critical map50 {row['critical_map50']:.3f}, others map50 {row['others']:.3f} "
        f"(loss {row['others_loss']:+.1%}), {row['false_without']:.0f} false per 1000 pictures without the species"
    )


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the 95 % interval of it over seeds (Student's t); NaN bounds for one seed."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def summarise(rows: Sequence[dict[str, Any]], arms: Sequence[str]) -> dict[str, Any]:
    """Print and return each arm over the seeds."""
    found = {}
    for arm in arms:
        of_arm = [row for row in rows if row["arm"] == arm]
        gains = [row["gain"] for row in of_arm if not math.isnan(row["gain"])]
        losses = [row["others_loss"] for row in of_arm if not math.isnan(row["others_loss"])]
        if not gains or not losses:
            print(f"{arm}: not defined (the baseline finds no critical animal)")
            continue
        gain, loss = interval(gains), interval(losses)
        pooled = sum(row["precision"] for row in of_arm) / sum(row["precision_baseline"] for row in of_arm) - 1
        found[arm] = {"gain": gain, "others_loss": loss, "pooled_gain": pooled, "seeds": len(of_arm)}
        print(
            f"{arm}: precision {gain[0]:+.1%} ({gain[1]:+.1%} to {gain[2]:+.1%}) at the baseline's recall, of mean "
            f"precisions {pooled:+.1%}; others lose {loss[0]:+.1%} ({loss[1]:+.1%} to {loss[2]:+.1%}); "
            f"{len(of_arm)} seeds"
        )
    if "ours" in found:
        met = found["ours"]["gain"][0] >= TARGET_PRECISION and found["ours"]["others_loss"][0] < TARGET_LOSS
        print(
            f"target (precision +{TARGET_PRECISION:.0%}, others lose < {TARGET_LOSS:.0%}): {'met' if met else 'missed'}"
        )
    return found


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=("baseline", *ARMS), default=list(DEFAULT_ARMS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--settings", nargs="*", default=[], help="settings of step 5 for every arm, as key=value")
    arguments = parser.parse_args()
    arguments.output = arguments.output.absolute()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    scale = SCALES[arguments.scale]
    print(describe_machine())
    print(f"scale {scale}", flush=True)
    rows = [row for seed in range(arguments.seeds) for row in one_seed(seed, scale, arguments)]
    for row in rows:
        append_line(arguments.output / "results.jsonl", row)
    found = summarise(rows, [arm for arm in arguments.arms if arm != "baseline"])
    write_json(arguments.output / f"summary_{scale.name}.json", {"scale": scale.__dict__, "arms": found, "rows": rows})
    print(json.dumps({arm: {"gain": round(one["gain"][0], 4), "others_loss": round(one["others_loss"][0], 4)}
                      for arm, one in found.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
