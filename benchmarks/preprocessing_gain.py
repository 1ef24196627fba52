"""Does underwater enhancement (step 0) help a detector? Raw pictures, ``auto``, every single stage; equal updates.

    python benchmarks/preprocessing_gain.py --weights yolov8n.pt --output DIR --results FILE [--pictures scenes]
    python benchmarks/preprocessing_gain.py --arms raw auto --output DIR --results FILE    (from random weights)

Each seed has its own split, and each arm is trained and measured on pictures that ``marauder preprocess`` treated one
way. The detector of raw pictures is also measured on every treatment (``map50 on auto``), that of ``auto`` on raw ones
(``map50 on raw``). ``scenes``: generated reefs of all water types mixed, also measured by water type. Measured on the
split test, which no training saw.

Target: ``auto`` gains at least 0.01 mAP50. ``--scale small`` takes about four minutes a training on one core, three
seeds of all seven arms an hour and a half; with ``--first-seed`` two processes share them. ``--scale full`` is for a
GPU, by estimate half an hour a training. The same command continues after any stop.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector_trainings import (
    SCALES,
    add_training_options,
    measure_detector,
    parse,
    run_trainings,
    shared_by_all,
    train_detector,
)
from marauder.core.clock import Clock
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

if TYPE_CHECKING:
    from marauder.preprocessing.settings import PreprocessingSettings

RAW, AUTO, SCENES = "raw", "auto", "scenes"
STAGES: dict[str, dict[str, Any]] = {
    "compensation": {"method": "manual", "plan": {"red": 1.0, "blue": 0.5}},
    "white_balance": {"method": "manual", "plan": {"white_balance": 0.8}},
    "dehazing": {"method": "dehaze"},
    "clahe": {"method": "contrast"},
    "gamma": {"method": "manual", "plan": {"gamma": 0.8}},
}
"""Single stages, at the strengths of the product's fixed methods; gamma, which ``full`` hardly uses, stronger."""
TREATMENTS = {AUTO: {"method": "auto"}, **STAGES}
ARMS = (RAW, *TREATMENTS)
MAIN = (RAW, AUTO)
"""Trained for all seeds before the other arms."""
SHARES = {"aquarium": {"train": 0.5, "val": 0.2, "test": 0.3}}
"""More pictures in test than the usual split has."""
WATER = "water_type"
WORTH = 0.01
"""Least gain of mAP50 for which a step more, on the device too, is worth while."""


def settings_of(arm: str, pictures: Path, output: Path) -> PreprocessingSettings:
    """The settings with which step 0 treats a folder of pictures."""
    from marauder.preprocessing.settings import PreprocessingSettings

    return PreprocessingSettings(input=pictures, output=output, workers=1, sheet_pictures=0, **TREATMENTS[arm])


def raw_pictures(training: Line, folder: Path) -> Path:
    """The untreated data set of a seed; returns its data.yaml."""
    from marauder.scenes.settings import SceneSettings
    from marauder.scenes.writing import generate_scenes

    name, seed = training["pictures"], training["seed"]
    if name != SCENES:
        return prepare_pictures(name, folder, seed, SHARES.get(name))
    width = max(128, SCALES[training["scale"]].image_size)
    settings = SceneSettings(
        output=folder,
        count=60 if training["scale"] == "tiny" else 1200,
        # Of three pictures, so that even the rarest water is seen in several clips of test.
        clips=20 if training["scale"] == "tiny" else 400,
        seed=seed,
        width=width,
        height=width * 3 // 4,
        fractions={"train": 0.4, "val": 0.1, "test": 0.5},
        workers=1,
    )
    return generate_scenes(settings, Clock())


def treated(arm: str, raw: Path) -> tuple[Path, float]:
    """The data set of ``raw``, a data.yaml, as an arm sees it, and the share of pictures that the treatment changed.

    What is there already is not done again.
    """
    from marauder.preprocessing.job import preprocess_folder

    if arm == RAW:
        return raw, 0.0
    done = preprocess_folder(settings_of(arm, raw.parent, raw.parent.with_name(arm)), Clock())
    if done.set_aside:
        raise SystemExit(
            f"{done.report}: {len(done.set_aside)} pictures were set aside; arms must have the same pictures"
        )
    return done.output / raw.name, done.enhanced / done.pictures


def train_and_measure(training: Line) -> Line:
    """One arm of a seed, trained and measured; raw pictures' detector on every treatment, too, that of auto on raw."""
    from marauder.data.reading import read_dataset

    started, scale = time.perf_counter(), SCALES[training["scale"]]
    root, arm, device = Path(training["folder"]), training["arm"], training["device"]
    raw = raw_pictures(training, root / "pictures" / RAW)
    data, enhanced = treated(arm, raw)
    weights = train_detector(training, scale, data, root / arm)
    trained = time.perf_counter() - started
    figures = dict(measure_detector(weights, read_dataset(data), "test", scale, device, WATER))
    for other in {RAW: tuple(TREATMENTS), AUTO: (RAW,)}.get(arm, ()):
        found = measure_detector(weights, read_dataset(treated(other, raw)[0]), "test", scale, device, WATER)
        figures |= {f"{name} on {other}": value for name, value in found.items()}
    checkpoints = root / arm / "checkpoints"
    if checkpoints.exists():
        # Most of a training's bytes, and of no use once it is measured.
        shutil.rmtree(checkpoints)
    return {**figures, "enhanced": enhanced, "trained_seconds": trained, "seconds": time.perf_counter() - started}


def trainings(arguments: argparse.Namespace) -> Iterator[Line]:
    """What decides each training's figures, in the order in which they are run."""
    from marauder.preprocessing.settings import ENHANCEMENT_VERSION

    shared = {**shared_by_all(arguments), "enhancement": ENHANCEMENT_VERSION}
    chosen = [arm for arm in ARMS if arm in arguments.arms]
    for arms in ([arm for arm in chosen if arm in MAIN], [arm for arm in chosen if arm not in MAIN]):
        for seed in seeds_of(arguments):
            for arm in arms:
                yield {"arm": arm, "seed": seed, "treatment": TREATMENTS.get(arm), **shared}


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    figures = f"mAP50 {line['map50']:.4f}, mAP50-95 {line['map50_95']:.4f}, {line['seconds']:.0f} s"
    on_auto = f", on auto {line[f'map50 on {AUTO}']:.4f}" if key["arm"] == RAW else ""
    return f"{key['pictures']} seed {key['seed']} {key['arm']:13}: {figures}{on_auto}"


def gain_elsewhere(lines: Sequence[Line], arm: str, other: str) -> Paired | None:
    """What a detector trained on the pictures of ``arm`` gains in mAP50 when it sees those of ``other``."""
    there = f"map50 on {other}"
    lines = [line for line in lines if there in line]
    before, after = by_seed(lines, arm, "map50"), by_seed(lines, arm, there)
    return interval([after[seed] - value for seed, value in before.items()]) if before else None


def by_water(lines: Sequence[Line], arm: str) -> dict[str, Paired | None]:
    """An arm's gain of mAP50 by water type (``water_type=II``), over the seeds that have enough pictures of it."""
    prefix = f"map50 {WATER}="
    names = sorted({name for line in lines for name in line if name.startswith(prefix) and " on " not in name})
    return {
        name.removeprefix("map50 "): paired([line for line in lines if name in line], arm, RAW, name) for name in names
    }


def comparisons(lines: Sequence[Line]) -> list[list[Line]]:
    """Trainings that differ in arm and seed alone."""
    return groups(lines, ("arm", "seed", "treatment"))


def report(lines: Sequence[Line]) -> None:
    """Each arm beside raw pictures, paired by seed."""
    for group in comparisons(lines):
        print(f"\n{place_of(group[0])}:")
        for arm in ARMS:
            of_arm = by_seed(group, arm, "map50")
            if not of_arm:
                continue
            print(f"  {arm}: mAP50 {interval(list(of_arm.values())).mean:.4f} ({len(of_arm)} seeds)")
            if arm == RAW:
                continue
            gains = {metric: paired(group, arm, RAW, metric) for metric in ("map50", "map50_95")}
            for name, gain in {**gains, **by_water(group, arm)}.items():
                if gain is not None:
                    print(f"    {name}: {gain.describe()}")
            moved = gain_elsewhere(group, RAW, arm)
            if moved is not None:
                print(f"    trained on raw pictures, map50 on these: {moved.describe()}")
            back = gain_elsewhere(group, AUTO, RAW) if arm == AUTO else None
            if back is not None:
                print(f"    trained on these, map50 on raw pictures: {back.describe()}")
    print_findings(findings(lines))


ADVICE = {
    "met": "`auto` is worth its step here: keep it, on the device too",
    "refuted": f"a gain of {WORTH} is ruled out: raw pictures (`method: none`) are as good and simpler",
    "open": "not decided: raw pictures are the simpler choice until your own comparison shows a gain",
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: of each set whether ``auto`` helps, also by water type, and the best single stage.

    Trainings of the scale ``tiny`` prove nothing and are left out.
    """
    found = []
    for group in comparisons([line for line in lines if line["training"]["scale"] != "tiny"]):
        where = place_of(group[0])
        auto = paired(group, AUTO, RAW, "map50")
        if auto is None:
            continue
        changed = interval(list(by_seed(group, AUTO, "enhanced").values())).mean
        question = f"Step 0 ({where}): mAP50 gained by `auto`, which changes {changed:.0%} of the pictures; +{WORTH}"
        found.append(_helps(question, auto))
        gains = {stage: paired(group, stage, RAW, "map50") for stage in STAGES}
        found += best_of(f"Step 0 ({where}): mAP50 gained by the best of {{count}} single stages", gains, "+.3f")
        for own, seen, words in ((RAW, AUTO, "raw pictures sees those of `auto`"), (AUTO, RAW, "`auto` sees raw ones")):
            moved = gain_elsewhere(group, own, seen)
            if moved is not None:
                found.append(_moved(f"Step 0 ({where}): mAP50 gained when a detector of {words}", moved))
        for water, gain in by_water(group, AUTO).items():
            if gain is not None:
                found.append(_helps(f"Step 0 ({where}, {water}): mAP50 gained by `auto`; +{WORTH}", gain))
    return found


def _helps(question: str, gain: Paired) -> Finding:
    verdict = judge(gain, WORTH)
    return Finding(question, gain.describe("+.3f"), verdict, ADVICE[verdict])


def _moved(question: str, gain: Paired) -> Finding:
    if gain.high < 0:
        advice = "it loses: a detector sees on the device what it was trained on"
    elif gain.low > 0:
        advice = "it gains without being trained anew"
    else:
        advice = "no difference is shown"
    return Finding(question, gain.describe("+.3f"), "measured", advice)


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS, (*NAMES, SCENES))
    arguments = parse(parser, train_and_measure)
    report(run_trainings(__file__, arguments, list(trainings(arguments)), told))


if __name__ == "__main__":
    main()
