"""What step 8 is worth: calibration errors before and after by method, and mAP50 gained by views.

    python benchmarks/calibration_gain.py --weights yolov8n.pt --output DIR --results FILE [--pictures scenes]

Each seed has its own split and one detector; arms are what is made of it. ``val`` fits and chooses, ``test`` judges.
The methods are applied as they are, ``chosen`` is what the product takes (a method by cross-fitting, or none),
``overlap`` the same with the overlap as target, ``views`` the product's search for views, calibrated after it. Beside
each error stands what a perfect detector measures on as many detections. ``scenes``: generated reefs.

Targets: D-ECE falls by half with ``chosen``, by 70 % where 800 + 800 detections are there. By estimate ``--scale
small`` takes about ten minutes a seed on one core, an hour for three seeds of aquarium and scenes; ``full``, on a GPU,
an hour a seed. The same command continues after any stop.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector_trainings import SCALES, add_training_options, parse, run_trainings, shared_by_all, train_detector
from marauder.core.clock import Clock
from peers import NAMES, prepare_pictures
from tables import Finding, Line, Paired, best_of, by_seed, groups, interval, judge, place_of, print_findings, seeds_of

if TYPE_CHECKING:
    from marauder.calibration.settings import CalibrateSettings
    from marauder.evaluation.detection_table import DetectionTable
    from marauder.evaluation.score_quality import ScoreQuality

SCENES = "scenes"
METHODS = ("temperature", "platt", "beta", "isotonic")
CHOSEN, OVERLAP, VIEWS = "chosen", "overlap", "views"
ARMS = (CHOSEN, *METHODS, OVERLAP, VIEWS)
SHARES = {"aquarium": {"train": 0.5, "val": 0.25, "test": 0.25}, SCENES: {"train": 0.4, "val": 0.3, "test": 0.3}}
"""More pictures in val and test than the usual split has: both need many detections."""
HALF, MOST, ENOUGH = 0.5, 0.7, 800
"""Drops of D-ECE that are aimed at; the second from so many detections to fit and to judge on."""
WORTH = 0.01
"""Least gain of mAP50 for which looking several times is worth its time."""


def pictures_of(training: Line, folder: Path) -> Path:
    """The data set of a seed; returns its data.yaml."""
    from marauder.scenes.settings import SceneSettings
    from marauder.scenes.writing import generate_scenes

    name, seed = training["pictures"], training["seed"]
    if name != SCENES:
        return prepare_pictures(name, folder, seed, SHARES.get(name))
    tiny, width = training["scale"] == "tiny", max(128, SCALES[training["scale"]].image_size)
    settings = SceneSettings(
        output=folder,
        count=60 if tiny else 900,
        clips=20 if tiny else 300,
        seed=seed,
        width=width,
        height=width * 3 // 4,
        fractions=SHARES[SCENES],
        workers=1,
    )
    return generate_scenes(settings, Clock())


def train_and_measure(training: Line) -> Line:
    """The seed's detector, trained by the first arm that needs it, and what one arm makes of it."""
    from marauder.calibration.finding import find
    from marauder.calibration.finding import pictures_of as parts_of
    from marauder.calibration.settings import CalibrateSettings
    from marauder.data.reading import read_dataset
    from marauder.prediction.opening import open_predictor

    started, root, arm = time.perf_counter(), Path(training["folder"]), training["arm"]
    data = pictures_of(training, root / "pictures")
    weights = train_detector(training, SCALES[training["scale"]], data, root / "detector", ("evaluation.split=val",))
    settings = CalibrateSettings.model_validate(
        {
            "models": [weights],
            "data": data,
            "device": training["device"],
            "target": "iou" if arm == OVERLAP else "hit",
            "seed": training["seed"],
            **({} if arm == VIEWS else {"views": {"candidates": ()}}),
        }
    )
    dataset = read_dataset(data)
    predictor = open_predictor(weights, training["device"])
    predictor.number_as(dataset.names)
    parts = parts_of(dataset, settings)
    found = find(predictor, parts, settings, root / "looks", Clock())
    judged = found.judgement
    if arm in METHODS:
        figures = figures_of_method(arm, settings, root)
    else:
        figures = errors(judged.before, judged.after, found.fitted.taken.method)
    return {
        **figures,
        "fitted_on": judged.fitted_on,
        "judged_on": judged.before.detections,
        "map50": judged.metrics.map50,
        "views": list(found.search.kept),
        "seconds": time.perf_counter() - started,
    }


def errors(before: ScoreQuality, after: ScoreQuality, method: str) -> Line:
    """The figures of scores before and after."""
    return {
        "method": method,
        "d_ece_before": before.d_ece.value,
        "d_ece": after.d_ece.value,
        "d_ece_floor": after.d_ece.floor,
        "la_ece_before": before.la_ece.value,
        "la_ece": after.la_ece.value,
        "la_ece_floor": after.la_ece.floor,
        "brier_before": before.brier,
        "brier": after.brier,
    }


def figures_of_method(method: str, settings: CalibrateSettings, root: Path) -> Line:
    """Errors with one method, whether the product would take it or not."""
    from marauder.calibration.fitting import fit_calibration, fit_curves, judged_rows
    from marauder.core.plugins import make
    from marauder.evaluation.score_quality import measure_scores

    fitting, judging = (plain_table(settings, root, part) for part in ("fitting", "judging"))
    tried = fit_calibration(fitting, settings.changed({"methods": (method,)})).candidates
    strength = next(one.credibility for one in tried if one.method == method)
    calibration = fit_curves(fitting, make("calibration_method", method), "hit").mixed(strength)
    rows = judged_rows(judging)
    scores = calibration.apply_to(judging.score, judging.kind)
    before, after = (measure_scores(one.chosen(rows), 20, 0) for one in (judging, judging.rescored(scores)))
    return errors(before, after, method)


def plain_table(settings: CalibrateSettings, root: Path, part: str) -> DetectionTable:
    """The detections of one plain look at the pictures to fit or to judge on; they were looked at before."""
    from marauder.calibration.finding import pictures_of as parts_of
    from marauder.calibration.looking import look_at
    from marauder.data.reading import read_dataset
    from marauder.evaluation.detection_table import tabulate
    from marauder.prediction.opening import open_predictor
    from marauder.prediction.view_names import PLAIN, find_picture_views

    dataset = read_dataset(settings.data)
    parts = parts_of(dataset, settings)
    records = parts.fitting if part == "fitting" else parts.judging or ()
    predictor = open_predictor(settings.models[0], settings.device)
    predictor.number_as(dataset.names)
    (view,) = find_picture_views((PLAIN,))
    seen = look_at(predictor, view, records, root / "looks" / part, None, Clock())
    known = [(record, one) for record, one in zip(records, seen.detections) if one is not None]
    return tabulate([record for record, _ in known], [one for _, one in known], dataset.names)


def trainings(arguments: argparse.Namespace) -> Iterator[Line]:
    """What decides each arm's figures, in the order in which they are run."""
    shared = shared_by_all(arguments)
    for seed in seeds_of(arguments):
        for arm in (arm for arm in ARMS if arm in arguments.arms):
            yield {"arm": arm, "seed": seed, **shared}


def told(line: Line) -> str:
    """A finished arm in words."""
    key = line["training"]
    return (
        f"{key['pictures']} {key['seed']} {key['arm']:11}: D-ECE {line['d_ece_before']:.1%} to {line['d_ece']:.1%}, "
        f"perfect {line['d_ece_floor']:.1%}, LaECE {line['la_ece_before']:.1%} to {line['la_ece']:.1%}, "
        f"mAP50 {line['map50']:.4f}, {line['seconds']:.0f} s"
    )


def drop(lines: Sequence[Line], arm: str, metric: str = "d_ece") -> Paired | None:
    """The share by which an error fell, over seeds; without those whose detector finds nothing."""
    before, after = by_seed(lines, arm, f"{metric}_before"), by_seed(lines, arm, metric)
    shares = [1 - after[seed] / before[seed] for seed in after if before[seed] > 0]
    return interval(shares) if shares else None


def gained(lines: Sequence[Line]) -> Paired | None:
    """mAP50 that the views that were kept gain on test, over the seeds with both arms."""
    plain, viewed = by_seed(lines, CHOSEN, "map50"), by_seed(lines, VIEWS, "map50")
    both = [seed for seed in viewed if seed in plain]
    return interval([viewed[seed] - plain[seed] for seed in both]) if both else None


def report(lines: Sequence[Line]) -> None:
    """Each arm's errors beside the floor."""
    for group in groups(lines, ("arm", "seed")):
        print(f"\n{place_of(group[0])}:")
        for arm in ARMS:
            figures = {name: by_seed(group, arm, name) for name in ("d_ece_before", "d_ece", "d_ece_floor", "la_ece")}
            if not figures["d_ece"]:
                continue
            means = {name: interval(list(values.values())).mean for name, values in figures.items()}
            fallen = drop(group, arm)
            errors_of = ", ".join(f"{name} {value:.1%}" for name, value in means.items())
            print(f"  {arm}: {errors_of}" + (f"; D-ECE falls by {fallen.describe('.0%')}" if fallen else ""))
    print_findings(findings(lines))


ADVICE = {
    "met": "calibrate before anyone reads a score as a probability",
    "refuted": "the detector is calibrated nearly as well as can be measured: there is little to win",
    "open": "not decided: see the floor; more labelled pictures of val and test would tell",
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: by how much D-ECE falls, the best method, LaECE, and what views gain.

    The scale ``tiny`` proves nothing and is left out.
    """
    found = []
    for group in groups([line for line in lines if line["training"]["scale"] != "tiny"], ("arm", "seed")):
        where, chosen = place_of(group[0]), [line for line in group if line["training"]["arm"] == CHOSEN]
        fallen = drop(group, CHOSEN)
        if fallen is not None:
            many = all(min(line["fitted_on"], line["judged_on"]) >= ENOUGH for line in chosen)
            target = MOST if many else HALF
            before, after, floor = (
                interval([line[name] for line in chosen]).mean for name in ("d_ece_before", "d_ece", "d_ece_floor")
            )
            question = f"Step 8 ({where}): share by which D-ECE falls; {target:.0%}"
            figure = f"{fallen.describe('+.0%')}; {before:.1%} to {after:.1%}, a perfect detector {floor:.1%}"
            verdict = judge(fallen, target)
            found.append(Finding(question, figure, verdict, ADVICE[verdict]))
        methods = {arm: drop(group, arm) for arm in METHODS}
        found += best_of(f"Step 8 ({where}): D-ECE falls most with, of {{count}} methods", methods, "+.0%")
        overlap = drop(group, OVERLAP, "la_ece")
        if overlap is not None:
            question = f"Step 8 ({where}): share by which LaECE falls with the overlap as target"
            advice = "`--target iou` where a score must tell how well a box fits"
            found.append(Finding(question, overlap.describe("+.0%"), "measured", advice))
        gain = gained(group)
        if gain is not None:
            kept = sorted({"+".join(line["views"]) for line in group if line["training"]["arm"] == VIEWS})
            question = f"Step 8 ({where}): mAP50 gained on test by the views kept on val; +{WORTH}"
            verdict = judge(gain, WORTH)
            advice = "take them where there is time" if verdict == "met" else "one look is the better bargain"
            found.append(Finding(question, f"{gain.describe('+.3f')}; {', '.join(kept)}", verdict, advice))
    return found


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS, (*NAMES, SCENES))
    arguments = parse(parser, train_and_measure)
    report(run_trainings(__file__, arguments, list(trainings(arguments)), told))


if __name__ == "__main__":
    main()
