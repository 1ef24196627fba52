"""What specialising on critical species is worth: starfish and stingray of Aquarium, at equal updates.

    python benchmarks/critical_species_gain.py --weights yolov8n.pt --output DIR [--arms plain ours ...] [--seeds 3]

Each seed has its own group-safe split, and every arm the same number of updates from the same start: ``plain`` training
over one schedule; ``emphasis``: the same with repeat factors and pasting; ``ours``: step 5 as shipped; ``own``: its
three stages with a schedule each, emphasis after the first; ``shared``: the stages share one schedule; ``shared_all``:
with the emphasis from the beginning; ``shared_balance``, ``shared_paste``, ``shared_focal``, ``shared_mining``,
``shared_none``: with one part of it alone, or none; ``restart``: ``shared_all`` from the weights of a plain training
that had a third of the updates. The split test, which no training and no mining saw, measures:
precision of the critical classes at plain training's recall, and the others' map50.

Target: ours at least +10 % precision relatively, the others losing less than 1 % of map50. A training takes about five
minutes on one core (``--scale small``); ``--scale full`` is for a GPU. The same command continues after any stop.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector_trainings import Scale, epochs_for, settings_for, train_detector
from marauder.core.clock import Clock
from marauder.core.files import hash_file
from marauder.data.reading import read_dataset
from peers import prepare_pictures
from tables import (
    Finding,
    Line,
    Paired,
    add_options,
    best_of,
    by_seed,
    groups,
    in_process,
    interval,
    judge,
    paired,
    place_of,
    run_missing,
    seeds_of,
)

if TYPE_CHECKING:
    from marauder.tasks.detection.settings import DetectionSettings

CRITICAL = ("starfish", "stingray")
PLAIN = "plain"
OWN = (
    "stages.one_schedule=false", "stages.standard.emphasis=false", "stages.mined.rate=0.5", "stages.fine_tune.rate=0.1",
)  # fmt: skip
SHARED = ("stages.one_schedule=true", "stages.mined.rate=1", "stages.fine_tune.rate=1")
ALL = (*SHARED, "stages.standard.emphasis=true")
NONE = ("loss.focal.enabled=false", "balance.kind=none", "copy_paste.probability=0", "mining.count=0")
EMPHASIS = ("balance.kind=repeat_factor", "copy_paste.probability=0.3")
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "emphasis": EMPHASIS,
    "ours": (),
    "own": OWN,
    "shared": (*SHARED, "stages.standard.emphasis=false"),
    "shared_all": ALL,
    "restart": ALL,
    "shared_none": (*ALL, *NONE),
    "shared_balance": (*ALL, *NONE, "balance.kind=repeat_factor"),
    "shared_paste": (*ALL, *NONE, "copy_paste.probability=0.3"),
    "shared_focal": (*ALL, *NONE, "loss.focal.enabled=true"),
    "shared_mining": (*ALL, *(word for word in NONE if not word.startswith("mining"))),
}
"""Settings of each arm: of a detector's training for the first two, of step 5 for the others."""
ONE_TRAINING = (PLAIN, "emphasis")
BASE, BASE_SHARE = "restart", 1 / 3
"""The arm that specialises the end of a plain training, and how much of the updates that training has."""
SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}
TARGET_PRECISION, TARGET_LOSS = 0.10, 0.01


SCALES = {
    "tiny": Scale("yolov8t", 64, 16, 60),
    "small": Scale("yolov8n", 224, 16, 350),
    "full": Scale("yolov8s", 640, 16, 6000),
}


def train_base(training: Line, data: Path, folder: Path) -> tuple[Path, int]:
    """A plain training of ``BASE_SHARE`` of the updates; its weights and its updates."""
    scale = SCALES[training["scale"]]
    scale = replace(scale, updates=round(scale.updates * BASE_SHARE))
    pictures = len(read_dataset(data).split("train"))
    epochs = epochs_for(pictures, scale)
    return train_detector(training, scale, data, folder, epochs=epochs), epochs * math.ceil(pictures / scale.batch_size)


def settings_of(training: Line, data: Path, folder: Path, epochs: int) -> DetectionSettings:
    """The settings of one arm."""
    from marauder.critical.settings import CriticalSettings
    from marauder.tasks.detection.settings import DetectionSettings

    words = [f"critical=[{','.join(CRITICAL)}]", *ARMS[training["arm"]]]
    kind = DetectionSettings if training["arm"] in ONE_TRAINING else CriticalSettings
    return settings_for(kind, training, SCALES[training["scale"]], data, folder, epochs, words)


def lengths_of(settings: DetectionSettings) -> tuple[int, int]:
    """Samples of an epoch: drawn plainly, and with the settings' balance."""
    from marauder.critical.balance_plan import plan_balance
    from marauder.critical.settings import CriticalSettings

    kept = settings.model_dump(include={"data", "critical", "balance", "model", "image_size"})
    plain = len(read_dataset(settings.data).split("train"))
    return plain, plan_balance(CriticalSettings.model_validate(kept)).length


def updates_of(settings: DetectionSettings, lengths: tuple[int, int]) -> int:
    """Updates that a training with these settings does."""
    from marauder.critical.settings import STAGES, CriticalSettings

    plain, drawn = (math.ceil(length / settings.training.batch_size) for length in lengths)
    if not isinstance(settings, CriticalSettings):
        return settings.training.epochs * (drawn if settings.balance.kind != "none" else plain)
    emphasised = {stage: stage != "standard" or settings.stages.standard.emphasis for stage in STAGES}
    return sum(settings.epochs_of(stage) * (drawn if emphasised[stage] else plain) for stage in STAGES)


def fitted(training: Line, data: Path, folder: Path, wanted: int) -> tuple[DetectionSettings, int]:
    """The settings of an arm with as many epochs as come nearest to its updates, and those updates."""
    best = None
    lengths = lengths_of(settings_of(training, data, folder, 3))
    for epochs in range(3, 10_000):
        settings = settings_of(training, data, folder, epochs)
        updates = updates_of(settings, lengths)
        if best is None or abs(updates - wanted) < abs(best[1] - wanted):
            best = settings, updates
        if updates >= wanted:
            break
    assert best is not None
    return best


def train_and_measure(training: Line) -> Line:
    """One arm of a seed, trained and measured; the plain training of that seed is there already, or is this one."""
    from marauder.critical.specialisation import run_critical
    from marauder.engine.distributed import choose_device
    from marauder.evaluation.critical_metrics import tier_metrics
    from marauder.evaluation.fixed_recall import at_fixed_recall
    from marauder.runs.gated import run_gated
    from marauder.tasks.detection.evaluate_split import evaluate_split

    started, scale = time.perf_counter(), SCALES[training["scale"]]
    root, arm = Path(training["folder"]), training["arm"]
    data = prepare_pictures("aquarium", root / "data", training["seed"], SHARES)
    wanted, before = scale.updates, 0
    if arm == BASE:
        start, before = train_base(training, data, root / "base")
        training = {**training, "start": None, "set": [*training["set"], f"base_model={start}"]}
    settings, updates = fitted(training, data, root / arm, wanted - before)
    if arm in ONE_TRAINING:
        weights = run_gated(settings, Clock()).weights
    else:
        weights = run_critical(settings, Clock()).run.weights  # type: ignore[arg-type]
    device = choose_device(training["device"])
    dataset = read_dataset(data)
    found = evaluate_split(weights, dataset, "test", device, None, scale.image_size)
    against = found
    if arm != PLAIN:
        against = evaluate_split(root / PLAIN / "best.safetensors", dataset, "test", device, None, scale.image_size)
    tier = at_fixed_recall(against.result.matches, found.result.matches, found.records, CRITICAL, draws=500).tier
    metrics = tier_metrics(found.result.overall, CRITICAL, None)
    return {
        "updates": before + updates,
        "recall": tier.recall,
        "precision": tier.precision.after,
        "precision_plain": tier.precision.before,
        "low": tier.precision.low,
        "high": tier.precision.high,
        "critical_map50": metrics["critical/map50"],
        "critical_map50_95": metrics["critical/map50_95"],
        "others_map50": metrics["others/map50"],
        "false_without": tier.without.after,
        "seconds": time.perf_counter() - started,
    }


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    return (
        f"seed {key['seed']} {key['arm']:14}: {line['updates']} updates, precision {line['precision']:.3f} at recall "
        f"{line['recall']:.3f} (plain {line['precision_plain']:.3f}; difference {line['low']:+.3f} to "
        f"{line['high']:+.3f}), critical mAP50 {line['critical_map50']:.3f}, others mAP50 {line['others_map50']:.3f}, "
        f"{line['false_without']:.0f} false per 1000 pictures without the species, {line['seconds']:.0f} s"
    )


def precision_gain(lines: Sequence[Line], arm: str) -> Paired | None:
    """An arm's gain of precision, as a share of plain training's at the same recall; seeds where that is 0 are out."""
    of_arm = [line for line in lines if line["training"]["arm"] == arm and line["precision_plain"]]
    return interval([line["precision"] / line["precision_plain"] - 1 for line in of_arm]) if of_arm else None


def report(lines: Sequence[Line], arms: Sequence[str]) -> None:
    """Each arm beside plain training, paired by seed."""
    for arm in arms:
        of_arm = by_seed(lines, arm, "precision")
        if not of_arm:
            continue
        means = {
            name: interval(list(by_seed(lines, arm, name).values())).mean for name in ("critical_map50", "others_map50")
        }
        print(
            f"{arm}: critical mAP50 {means['critical_map50']:.3f}, others mAP50 {means['others_map50']:.3f} "
            f"({len(of_arm)} seeds)"
        )
        if arm == PLAIN:
            continue
        gain = precision_gain(lines, arm)
        loss = paired(lines, arm, PLAIN, "others_map50", relative=True)
        critical = paired(lines, arm, PLAIN, "critical_map50")
        if gain is not None and loss is not None and critical is not None:
            print(f"  precision at plain training's recall: {gain.describe('+.1%')}")
            print(f"  critical mAP50: {critical.describe('+.3f')}; others mAP50: {loss.describe('+.1%')}")
            met = gain.mean >= TARGET_PRECISION and loss.mean > -TARGET_LOSS
            target = f"precision +{TARGET_PRECISION:.0%}, others lose less than {TARGET_LOSS:.0%}"
            print(f"  target ({target}): {'met' if met else 'missed'}")


GAIN_ADVICE = {
    "met": "worth running where a critical species matters more than the time it takes",
    "refuted": "the promised gain is ruled out: step 5 as shipped is not advised",
    "open": "not decided: keep the earlier detector unless the report's interval shows a gain",
}
LOSS_ADVICE = {
    "met": "specialising costs the other classes next to nothing",
    "refuted": "specialising costs the other classes more than promised: keep the baseline for them",
    "open": "not decided: look at the other classes in the report",
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: step 5 as shipped against both targets, and the best of the other arms."""
    found = []
    for group in groups([line for line in lines if line["training"]["scale"] != "tiny"]):
        where = place_of(group[0])
        gain, loss = precision_gain(group, "ours"), paired(group, "ours", PLAIN, "others_map50", relative=True)
        if gain is not None:
            verdict = judge(gain, TARGET_PRECISION)
            question = f"Step 5 ({where}): precision of critical species at plain training's recall; +10 %"
            found.append(Finding(question, gain.describe("+.1%"), verdict, GAIN_ADVICE[verdict]))
        if loss is not None:
            verdict = judge(loss, -TARGET_LOSS, none=-TARGET_LOSS)
            question = f"Step 5 ({where}): mAP50 of the other classes; a loss under 1 %"
            found.append(Finding(question, loss.describe("+.1%"), verdict, LOSS_ADVICE[verdict]))
        others = {arm: precision_gain(group, arm) for arm in ARMS if arm not in (PLAIN, "ours")}
        found += best_of(
            f"Step 5 ({where}): the best of {{count}} other ways to emphasise, in precision", others, "+.1%"
        )
    return found


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="keeps the data sets and trainings")
    parser.add_argument("--weights", type=Path, help="detector that every arm starts from; default: random weights")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["plain", "emphasis", "ours", "own"])
    parser.add_argument("--recipe", default="fine_tune", help="of every arm")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every arm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    add_options(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if arguments.one:
        print(json.dumps(train_and_measure(json.loads(arguments.one))))
        return
    if arguments.output is None and not arguments.only_report:
        parser.error("--output: where to keep the trainings")
    shared = {name: getattr(arguments, name) for name in ("scale", "recipe", "set", "device", "threads")}
    shared["weights"] = hash_file(arguments.weights) if arguments.weights else None
    # Plain training comes first in each seed, since the others are measured beside it.
    arms = [PLAIN, *(arm for arm in arguments.arms if arm != PLAIN)]
    keys = [{"arm": arm, "seed": seed, **shared} for seed in seeds_of(arguments) for arm in arms]

    def train(key: Line, _: int) -> Line:
        start = str(arguments.weights.resolve()) if arguments.weights else None
        folder = (
            arguments.output.resolve() / f"{key['scale']}_{(key['weights'] or 'random')[:8]}" / f"seed_{key['seed']}"
        )
        return in_process(__file__, {**key, "folder": str(folder), "start": start})

    report(run_missing(keys, arguments, train, told), arms)


if __name__ == "__main__":
    main()
