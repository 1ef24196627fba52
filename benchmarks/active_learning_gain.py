"""How many boxes random choice needs for each box of ours at equal mAP50, in rounds of selection on real pictures.

    python benchmarks/active_learning_gain.py --weights yolov8n.pt --output DIR --results FILE [--pictures deepfish]
        [--arms hybrid random ...] [--seeds 3]

A seed splits the pictures by clips into pool, validation and test. A few pictures of the pool, drawn at random, are
labelled to begin with. In every round ``marauder select`` chooses among the others with the detector of the round
before; the true boxes of its picks are revealed, the most wanted first, until the round's budget in boxes is spent;
then a detector is trained anew from the same start on all labels so far, as the next baseline of a user would be. The
data set that the selection reads holds no hidden label. Pictures and detector of the beginning, budgets, updates and
the detectors' settings are the same for all arms of a seed. Best weights are chosen on ``val``, whose labels are not
counted, and measured on ``test``.

Arms: ``hybrid`` (step 3 as shipped), ``random``, every other strategy, every measure of uncertainty alone (its highest
scores), and changes of one or two settings of hybrid. An arm that has mAP50 higher by d than random at equal boxes has
what random reaches with exp(d / slope) times the boxes, ``slope`` being the rise of random's mAP50 with the logarithm
of its boxes. Target: at least 1.3 for hybrid.

A training of ``--scale small`` takes two to four minutes on one core, a seed of hybrid and random seven trainings;
``--scale full`` is for a GPU. Arms hybrid and random come first, seed by seed, then each other arm with all its seeds.
The same command continues after any stop.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector_trainings import (
    SCALES,
    add_training_options,
    measure_detector,
    parse,
    relabelled,
    run_trainings,
    shared_by_all,
    train_detector,
)
from marauder.core.clock import Clock
from marauder.core.files import read_json
from marauder.core.plugins import names as plugin_names
from marauder.core.randomness import stream
from marauder.core.settings import load_settings
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.writers import write_yolo
from peers import prepare_pictures
from tables import Finding, Line, Paired, best_of, groups, interval, judge, seeds_of

if TYPE_CHECKING:
    from marauder.selection.settings import SelectionSettings

BEGINNING, OURS, RANDOM = "beginning", "hybrid", "random"
ALONE = ("strategy=uncertainty", "random_share=0", "most_per_group=null")
ARMS: dict[str, tuple[str, ...]] = {
    OURS: (),
    RANDOM: ("strategy=random",),
    # Half or all of a picture's price counts: with a budget in boxes, a crowd must be worth its many boxes.
    "half_per_price": ("price_weight=0.5",),
    "per_price": ("price_weight=1",),
    "sum_per_price": ("reduction=sum", "price_weight=1"),
    "mean": ("reduction=mean",),
    "two_of_a_clip": ("most_per_group=2",),
    # Of a small pool five budgets are nearly half, so that uncertainty hardly decides; two leave it more to say.
    "narrow": ("candidate_factor=2",),
    # Among uncertain pictures, those of classes with few boxes, for their price.
    "balanced": ("cover=class_balance",),
    "balanced_per_price": ("cover=class_balance", "price_weight=1"),
    "two_of_a_clip_per_price": ("most_per_group=2", "price_weight=1"),
    **{name: (f"strategy={name}",) for name in plugin_names("strategy") if name not in (OURS, RANDOM)},
    **{name: (*ALONE, f"measures=[{name}]") for name in plugin_names("uncertainty")},
}
"""Settings of step 3 in each arm."""
SHARES = {
    "aquarium": {"train": 0.55, "val": 0.15, "test": 0.3},
    "deepfish": {"train": 0.5, "val": 0.1, "test": 0.4},
}
TARGET, TARGETED = 1.3, ("map50", "boxes")
CONSEQUENCES = {
    "met": "hybrid is worth its name and stays the default.",
    "refuted": "Labels for hybrid's choice do not save 30 % of the boxes; the page of step 3 does not promise it.",
    "open": "No saving of 30 % is promised.",
}
"""What follows from each verdict on hybrid."""
LEFT_OVER = 0.1
"""Part of a round's budget that may stay unspent without another choice: the next round has it."""


@dataclass(frozen=True)
class Rounds:
    """``first``: pictures labelled to begin with; ``pictures``: so many average pictures' boxes are the budget of each
    of the ``count`` rounds."""

    first: int
    pictures: int
    count: int


ROUNDS = {"tiny": Rounds(20, 10, 2), "small": Rounds(40, 20, 3), "full": Rounds(100, 60, 5)}


def hidden(record: Record) -> Record:
    """The picture as the selection may see it."""
    return replace(relabelled(record, np.zeros((0, 4)), np.zeros(0)), labelled=False, split=None)


def boxes_of(record: Record) -> int:
    """What labelling the picture costs, in boxes."""
    return int((~record.ignored).sum())


def reveal(pool: dict[str, Record], order: Sequence[str], budget: float) -> list[str]:
    """The first pictures of ``order`` (keys) whose true boxes reach ``budget`` together; the last may go beyond it."""
    taken: list[str] = []
    spent = 0
    for key in order:
        if spent >= budget:
            break
        taken.append(key)
        spent += boxes_of(pool[key])
    return taken


def write_known(dataset: Dataset, labelled: Sequence[str], folder: Path) -> Path:
    """Write the data set of a user who has labelled so much of the pool: validation, test, the pictures ``labelled``
    and the others without their labels."""
    known = set(labelled)
    records = [hidden(record) if record.split == "train" and record.key not in known else record for record in dataset]
    return write_yolo(dataset.with_records(records), folder)


def selection_settings(arm: str, data: Path, weights: Path, folder: Path, budget: int, seed: int) -> SelectionSettings:
    """Settings of one choice; at random without a budget, or small pictures would be taken to fill its end."""
    from marauder.selection.settings import SelectionSettings

    return load_settings(
        SelectionSettings,
        None,
        ARMS[arm],
        pool=data,
        models=(weights,),
        output=folder,
        seed=seed,
        budget_boxes=None if arm == RANDOM else budget,
    )


def choose_pictures(
    training: Line, dataset: Dataset, labelled: Sequence[str], weights: Path, folder: Path, budget: int
) -> list[str]:
    """Keys of the pictures of the pool that an arm labels next for ``budget`` boxes.

    Where the picks hold fewer boxes than the detector expected, the arm chooses again for what is left.
    """
    from marauder.selection.job import select_pictures

    pool = {record.key: record for record in dataset.split("train")}
    # Another one in each round, or random choice would go on in the order of the round before.
    seed = 1000 * training["seed"] + training["round"]
    chosen: list[str] = []
    left = budget
    while left > LEFT_OVER * budget and len(chosen) + len(labelled) < len(pool):
        part = folder / f"choice_{len(chosen)}"
        data = write_known(dataset, [*labelled, *chosen], part / "data")
        settings = selection_settings(training["arm"], data, weights, part / "selected", left, seed)
        select_pictures(settings, Clock())
        order = [pick["key"] for pick in read_json(settings.output / "selection.json")["picks"]]
        taken = reveal(pool, order, left)
        if not taken:
            break
        chosen += taken
        left -= sum(boxes_of(pool[key]) for key in taken)
    return chosen


def run_rounds(training: Line, dataset: Dataset) -> tuple[list[str], Path]:
    """The pictures labelled after the training's round (0: to begin with) and the detector trained on them.

    Rounds that an earlier call finished are gone through again: the product itself finds them done.
    """
    scale, rounds = SCALES[training["scale"]], ROUNDS[training["scale"]]
    pool = {record.key: record for record in dataset.split("train")}
    order = stream(training["seed"], "begin").permutation(sorted(pool))
    first = [str(key) for key in order[: rounds.first]]
    folder = Path(training["folder"]) / BEGINNING
    labelled = first
    weights = train_detector(training, scale, write_known(dataset, labelled, folder / "data"), folder / "run")
    boxes_of_round = rounds.pictures * sum(map(boxes_of, pool.values())) / len(pool)
    for number in range(1, training["round"] + 1):
        folder = Path(training["folder"]) / training["arm"] / f"round_{number}"
        # By what every arm may have spent by now: going beyond it in one round is paid in the next.
        spent = sum(boxes_of(pool[key]) for key in labelled if key not in first)
        budget = max(1, round(number * boxes_of_round) - spent)
        chosen = choose_pictures({**training, "round": number}, dataset, labelled, weights, folder, budget)
        labelled = [*labelled, *chosen]
        weights = train_detector(training, scale, write_known(dataset, labelled, folder / "data"), folder / "run")
    return labelled, weights


def train_and_measure(training: Line) -> Line:
    """One round of an arm: its choice, its training, and its figures on ``test``."""
    from marauder.selection.price import PriceSettings, estimate_price

    started = time.perf_counter()
    root = Path(training["folder"])
    name = training["pictures"]
    dataset = read_dataset(prepare_pictures(name, root / "pictures", training["seed"], SHARES[name]))
    labelled, weights = run_rounds(training, dataset)
    known = [record for record in dataset if record.key in set(labelled)]
    boxes = sum(map(boxes_of, known))
    counts = dataset.with_records(known).class_counts()
    return {
        "pictures": len(known),
        "boxes": boxes,
        "price": estimate_price(len(known), boxes, PriceSettings()).amount,
        "clips": len({record.group for record in known}),
        "of_class": dict(zip(dataset.names, counts.tolist(), strict=True)),
        "strategy": strategy_used(root, training),
        **measure_detector(weights, dataset, "test", SCALES[training["scale"]], training["device"]),
        "seconds": time.perf_counter() - started,
    }


def strategy_used(root: Path, training: Line) -> str:
    """The strategy of the round's first choice: the product takes another than was asked for where a detector's
    uncertainty means nothing."""
    if training["round"] == 0:
        return RANDOM
    folder = root / training["arm"] / f"round_{training['round']}" / "choice_0" / "selected"
    return str(read_json(folder / "selection.json")["strategy"])


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    changed = "" if line["strategy"] in (key["arm"], RANDOM) else f" (strategy {line['strategy']})"
    return (
        f"seed {key['seed']} {key['arm']:22} round {key['round']}: {line['boxes']} boxes in {line['pictures']} "
        f"pictures of {line['clips']} clips{changed}, mAP50 {line['map50']:.4f}, mAP50-95 {line['map50_95']:.4f}, "
        f"{line['seconds']:.0f} s"
    )


def curves_of(lines: Sequence[Line], arm: str) -> dict[int, list[Line]]:
    """An arm's complete curves by seed: the lines of every round, the beginning first."""
    found: dict[int, dict[int, Line]] = {}
    for line in lines:
        key = line["training"]
        if key["arm"] in (BEGINNING, arm):
            found.setdefault(key["seed"], {})[key["round"]] = line
    whole = {seed: [own[number] for number in sorted(own)] for seed, own in sorted(found.items())}
    return {seed: own for seed, own in whole.items() if len(own) > ROUNDS[own[0]["training"]["scale"]].count}


def slope_of(curves: Sequence[Sequence[Line]], metric: str, cost: str) -> float:
    """Rise of ``metric`` with the logarithm of the cost, by least squares within each curve."""
    above = below = 0.0
    for curve in curves:
        costs, reached = np.log([line[cost] for line in curve]), np.array([line[metric] for line in curve])
        costs = costs - costs.mean()
        above, below = above + float(costs @ reached), below + float(costs @ costs)
    return above / below


def cost_ratio(lines: Sequence[Line], arm: str, metric: str = "map50", cost: str = "boxes") -> Paired | None:
    """What random choice costs over what ``arm`` costs at equal ``metric``; ``None`` without a seed with both curves.

    The geometric mean over rounds and seeds. Its interval is that of the jackknife over seeds, on the logarithm, so
    that it holds the uncertainty of the slope as well. NaN where random does not rise.
    """
    own, base = curves_of(lines, arm), curves_of(lines, RANDOM)
    seeds = [seed for seed in own if seed in base]
    if not seeds:
        return None

    def log_ratio(of: Sequence[int]) -> float:
        slope = slope_of([base[seed] for seed in of], metric, cost)
        if slope <= 0:
            return math.nan
        pairs = [pair for seed in of for pair in zip(own[seed][1:], base[seed][1:], strict=True)]
        # Random reaches the arm's figure at its own cost times the first factor; the arm has it at the second's.
        return float(np.mean([(a[metric] - r[metric]) / slope - math.log(a[cost] / r[cost]) for a, r in pairs]))

    whole, count = log_ratio(seeds), len(seeds)
    if count == 1:
        return Paired(float(np.exp(whole)), math.nan, math.nan, 1)
    without = [log_ratio([other for other in seeds if other != seed]) for seed in seeds]
    found = interval([count * whole - (count - 1) * one for one in without])
    return Paired(float(np.exp(whole)), float(np.exp(found.low)), float(np.exp(found.high)), count)


def report(lines: Sequence[Line], arms: Sequence[str]) -> None:
    """Boxes and mAP50 of each arm, round by round, and its ratios."""
    for arm in arms:
        curves = curves_of(lines, arm)
        if not curves:
            continue
        points = [
            f"{np.mean([line['boxes'] for line in of_round]):.0f}: {np.mean([line['map50'] for line in of_round]):.4f}"
            for of_round in zip(*curves.values(), strict=True)
        ]
        print(f"{arm}: mAP50 by boxes {', '.join(points)} ({len(curves)} seeds)")
        for metric, cost in (("map50", "boxes"), ("map50_95", "boxes"), ("map50", "price")):
            ratio = cost_ratio(lines, arm, metric, cost)
            if arm != RANDOM and ratio is not None:
                verdict = f"; target {TARGET}: {judge(ratio, TARGET, 1.0)}" if (metric, cost) == TARGETED else ""
                print(f"  {cost} of random over its {cost} at equal {metric}: {ratio.describe('.2f')}{verdict}")


def findings(lines: Sequence[Line]) -> list[Finding]:
    """For each set of pictures and start: whether hybrid meets the target, and which arm is best."""
    found = []
    known = [line for line in lines if line["training"]["scale"] != "tiny"]
    for own in groups(known, ("arm", "seed", "round", "settings")):
        key = own[0]["training"]
        place = f"{key['pictures']}, {key['scale']}, from {'COCO' if key['weights'] else 'random'} weights"
        arms = dict.fromkeys(line["training"]["arm"] for line in own)
        ratios = {arm: cost_ratio(own, arm) for arm in arms if arm != RANDOM}
        if (ours := ratios.get(OURS)) is not None:
            verdict = judge(ours, TARGET, 1.0)
            question = f"Step 3: boxes of random choice for one of hybrid's at equal mAP50 ({place})"
            found.append(Finding(question, ours.describe(".2f"), verdict, CONSEQUENCES[verdict]))
        if sum(ratio is not None for ratio in ratios.values()) > 1:
            found += best_of(f"Step 3: the best of {{count}} ways to choose ({place})", ratios, ".2f")
    return found


def trainings(arguments: argparse.Namespace) -> list[Line]:
    """What decides each training's figures, in the order in which they are run."""
    shared, seeds = shared_by_all(arguments), seeds_of(arguments)
    first = [arm for arm in (OURS, RANDOM) if arm in arguments.arms]
    others = [arm for arm in arguments.arms if arm not in first]
    keys: dict[tuple[str, int, int], Line] = {}
    for seed, arm in [*((seed, arm) for seed in seeds for arm in first), *((s, arm) for arm in others for s in seeds)]:
        for number in range(ROUNDS[arguments.scale].count + 1):
            whose = arm if number else BEGINNING
            settings = list(ARMS[arm]) if number else []
            keys[whose, seed, number] = {"arm": whose, "seed": seed, "round": number, "settings": settings, **shared}
    return list(keys.values())


def command_line() -> argparse.ArgumentParser:
    """The options; without ``--arms`` the two that the target is about."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS)
    parser.set_defaults(arms=[OURS, RANDOM])
    return parser


def main() -> None:
    """Train what is missing, measure, print."""
    arguments = parse(command_line(), train_and_measure)
    report(run_trainings(__file__, arguments, trainings(arguments), told), arguments.arms)


if __name__ == "__main__":
    main()
