"""Does training on at changing sizes (step 7) find small animals better? Against training on at the native size.

    python benchmarks/multiscale_gain.py --weights yolov8n.pt --output DIR --results FILE [--pictures deepfish]

Each seed has its own split and one detector that all its arms start from (``before``), trained plainly. Every arm
trains it on with as many updates and the same rate: ``plain`` at the native size, ``multi_scale`` at sizes from three
quarters to six fifths of it, ``progressive`` with the small ones first, ``wide_zoom`` without narrowing the zoom.
Measured on the split test, which no training saw, at the smallest, the native and the largest size. Small animals are
those of less than 32 × 32 pixels once the picture's long side is scaled to 640, whatever the input size.

Target: ``multi_scale`` has 3 % more mAP50-95 of small animals than ``plain``, and loses no more than 0.01 of all
animals', both at the native size. ``--scale small`` (224 pixels, 160 to 288) takes about four minutes for ``before``
and three for each arm on one core: three seeds of one set are some 50 minutes. ``--scale full`` is for a GPU. The same
command continues after any stop.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detector_trainings import (
    SCALES,
    Scale,
    add_training_options,
    epochs_for,
    parse,
    run_trainings,
    shared_by_all,
    train_detector,
)
from peers import NAMES, prepare_pictures
from tables import (
    Finding,
    Line,
    Paired,
    best_of,
    by_seed,
    groups,
    interval,
    judge,
    paired,
    place_of,
    print_findings,
    seeds_of,
)

BEFORE, PLAIN, MULTI_SCALE = "before", "plain", "multi_scale"
ON = "multi_scale.enabled=true"
WORDS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    MULTI_SCALE: (ON,),
    "progressive": (ON, "multi_scale.schedule=progressive"),
    "wide_zoom": (ON, "multi_scale.limit_zoom=false"),
}
"""What each arm trains on with."""
ARMS = (BEFORE, *WORDS)
RATE = 3e-4
"""A third of the first training's: what is trained on is good already."""
SHARE = 0.5
"""Updates of an arm, as a share of those before."""
SHARES = {"aquarium": {"train": 0.5, "val": 0.2, "test": 0.3}}
"""More pictures in test than the usual split has."""
SMALL, WHOLE = "map_small", "map50_95"
GAIN, LOSS = 0.03, 0.01
"""Least relative gain of small animals; greatest loss of all animals."""


def sizes_of(scale: Scale) -> tuple[int, int, int]:
    """The smallest, the native and the largest size of an arm that changes sizes."""
    from marauder.tasks.detection.multi_scale import MultiScaleSettings

    known = MultiScaleSettings().set_for(scale.image_size)
    return known[0], scale.image_size, known[-1]


def measured(weights: Path, data: Path, scale: Scale, device: str) -> Mapping[str, float]:
    """``map50_95``, ``map50`` and that of small, medium and large animals; ``map50_95 at 288`` of other sizes."""
    from marauder.data.reading import read_dataset
    from marauder.engine.distributed import choose_device
    from marauder.evaluation.metrics import aggregate
    from marauder.multiscale.report import METRICS, rescaled
    from marauder.tasks.detection.evaluate_split import evaluate_split

    dataset, figures = read_dataset(data), {}
    for size in dict.fromkeys(sizes_of(scale)):
        found = aggregate(rescaled(evaluate_split(weights, dataset, "test", choose_device(device), None, size)))
        where = "" if size == scale.image_size else f" at {size}"
        figures |= {f"{metric}{where}": float(getattr(found, metric)) for metric in METRICS}
    return figures


def train_and_measure(training: Line) -> Line:
    """The detector before, or one arm that goes on from it, trained and measured."""
    from marauder.data.reading import read_dataset

    started, scale = time.perf_counter(), SCALES[training["scale"]]
    root, arm = Path(training["folder"]), training["arm"]
    data = prepare_pictures(training["pictures"], root / "pictures", training["seed"], SHARES.get(training["pictures"]))
    # Finished before, it is only recognised.
    weights = train_detector(training, scale, data, root / BEFORE)
    if arm != BEFORE:
        pictures = len(read_dataset(data).split("train"))
        epochs = epochs_for(pictures, replace(scale, updates=round(SHARE * scale.updates)))
        words = (f"training.optimizer.learning_rate={RATE}", *WORDS[arm])
        weights = train_detector({**training, "start": str(weights)}, scale, data, root / arm, words, epochs)
    trained = time.perf_counter() - started
    figures = measured(weights, data, scale, training["device"])
    checkpoints = root / arm / "checkpoints"
    if arm != BEFORE and checkpoints.exists():
        # Most of a training's bytes, and of no use once it is measured.
        shutil.rmtree(checkpoints)
    return {**figures, "trained_seconds": trained, "seconds": time.perf_counter() - started}


def trainings(arguments: argparse.Namespace) -> Iterator[Line]:
    """What decides each training's figures, in the order in which they are run."""
    shared = {**shared_by_all(arguments), "sizes": list(sizes_of(SCALES[arguments.scale]))}
    for seed in seeds_of(arguments):
        for arm in ARMS:
            if arm in arguments.arms:
                yield {"arm": arm, "seed": seed, "words": list(WORDS.get(arm, ())), **shared}


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    figures = f"mAP50-95 {line[WHOLE]:.4f}, of small animals {line[SMALL]:.4f}, {line['seconds']:.0f} s"
    return f"{key['pictures']} seed {key['seed']} {key['arm']:11}: {figures}"


def comparisons(lines: Sequence[Line]) -> list[list[Line]]:
    """Trainings that differ in arm and seed alone."""
    return groups(lines, ("arm", "seed", "words"))


def report(lines: Sequence[Line]) -> None:
    """Each arm beside ``plain``, paired by seed, at every size."""
    for group in comparisons(lines):
        print(f"\n{place_of(group[0])}:")
        metrics = [name for name in group[0] if name.startswith((SMALL, WHOLE))]
        for arm in ARMS:
            of_arm = by_seed(group, arm, WHOLE)
            if not of_arm:
                continue
            print(f"  {arm}: mAP50-95 {interval(list(of_arm.values())).mean:.4f} ({len(of_arm)} seeds)")
            for metric in metrics if arm != PLAIN else []:
                gain = paired(group, arm, PLAIN, metric)
                if gain is not None:
                    print(f"    {metric}: {gain.describe()}")
    print_findings(findings(lines))


ADVICE = {
    "met": "changing sizes are worth step 7 for small animals",
    "refuted": f"a gain of {GAIN:.0%} is ruled out: train on at the native size, or use a larger one",
    "open": "not decided: keep step 7's result only where its own report shows a gain",
}
KEPT = {
    "met": f"a loss of more than {LOSS} is ruled out",
    "refuted": "it costs the size of use: raise `multi_scale.native_share`",
    "open": "a loss is neither shown nor ruled out: see the report of the run",
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: of each set the gain of small animals and what all animals lose at the native size,
    the best variant, and the gain at the largest size.

    Trainings of the scale ``tiny`` prove nothing and are left out.
    """
    found = []
    for group in comparisons([line for line in lines if line["training"]["scale"] != "tiny"]):
        where, sizes = place_of(group[0]), group[0]["training"]["sizes"]
        small = paired(group, MULTI_SCALE, PLAIN, SMALL, relative=True)
        whole = paired(group, MULTI_SCALE, PLAIN, WHOLE)
        if small is None or whole is None:
            continue
        head = f"Step 7 ({where}, {sizes[0]} to {sizes[-1]} pixels)"
        verdict = judge(small, GAIN)
        question = f"{head}: mAP50-95 of small animals, relative, against as many updates at {sizes[1]}; +{GAIN:.0%}"
        found.append(Finding(question, small.describe("+.1%"), verdict, ADVICE[verdict]))
        verdict = judge(whole, -LOSS, none=-LOSS)
        question = f"{head}: mAP50-95 of all animals at {sizes[1]}; no loss above {LOSS}"
        found.append(Finding(question, whole.describe("+.3f"), verdict, KEPT[verdict]))
        variants = {arm: paired(group, arm, PLAIN, SMALL) for arm in WORDS if arm not in (PLAIN, MULTI_SCALE)}
        found += best_of(
            f"{head}: mAP50-95 of small animals gained by the best of {{count}} variants", variants, "+.3f"
        )
        larger = paired(group, MULTI_SCALE, PLAIN, f"{WHOLE} at {sizes[-1]}")
        if larger is not None and sizes[-1] != sizes[1]:
            question = f"{head}: mAP50-95 of all animals gained when both are used at {sizes[-1]}"
            found.append(Finding(question, larger.describe("+.3f"), "measured", _at_larger(larger)))
    return found


def _at_larger(gain: Paired) -> str:
    if gain.low > 0:
        return "whoever uses a larger size than was trained at gains by step 7"
    return "it loses at a larger size, too" if gain.high < 0 else "no difference is shown"


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS, NAMES)
    arguments = parse(parser, train_and_measure)
    report(run_trainings(__file__, arguments, list(trainings(arguments)), told))


if __name__ == "__main__":
    main()
