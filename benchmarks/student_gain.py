"""Is one small detector better for a teacher, an ensemble that looks at unlabelled pictures too (step 6)?

    python benchmarks/student_gain.py --weights yolov8n.pt --second-weights yolo11n.pt --output DIR --results FILE

A quarter of the training clips keeps its labels; the others are unlabelled. On the labelled part two members are
trained, YOLOv8 and YOLO11, and fused on the split val; the ensemble teaches. Every student is a YOLOv8 of the same
scale, from the same weights, with as many updates:

- ``alone``: the labelled pictures only;
- ``taught_labelled``: taught, on the labelled pictures only;
- ``taught``: taught, half of the samples unlabelled pictures;
- ``hard``: the same with whole trust in boxes from ``sure`` up and no ignored places, as pseudo-labels mostly are;
- ``one_teacher``: the YOLOv8 member alone teaches, with its own calibration;
- ``teacher``: the ensemble itself, beside them.

Measured on the split test, of which neither teacher nor student saw a picture. Target: ``taught`` has 0.01 more
mAP50-95 than ``alone``. ``small``: two members and five students a seed, of two to four minutes each on one core, and
the looks: about 70 minutes for three seeds. ``full`` is for a GPU. The same command continues after any stop.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector_trainings import (
    SCALES,
    Scale,
    add_training_options,
    epochs_for,
    measure_detector,
    parse,
    run_trainings,
    settings_for,
    shared_by_all,
    train_detector,
)
from peers import NAMES, prepare_pictures
from tables import (
    Finding,
    Line,
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
    from marauder.data.records import Dataset

ALONE, TAUGHT, TEACHER = "alone", "taught", "teacher"
WORDS: dict[str, tuple[str, ...]] = {
    ALONE: (),
    "taught_labelled": ("teaching.unlabelled_share=0",),
    TAUGHT: (),
    "hard": ("lessons.trust=whole", "lessons.doubt=0.5", "lessons.sure=0.5", "lessons.missing=background"),
    "one_teacher": (),
}
"""What each student is trained with."""
ARMS = (TEACHER, *WORDS)
KEPT = 0.25
"""Share of the training clips that keeps its labels."""
SHARES = {
    "aquarium": {"train": 0.6, "val": 0.15, "test": 0.25},
    "deepfish": {"train": 0.5, "val": 0.15, "test": 0.35},
}
WHOLE = "map50_95"
GAIN = 0.01
OTHER = {"yolov8t": "yolo11t", "yolov8n": "yolo11n", "yolov8s": "yolo11s"}
"""The second member's architecture."""


def with_few_labels(dataset: Dataset, seed: int) -> Dataset:
    """The data set in which ``KEPT`` of the training clips are labelled, at least one of each class's that has any; the
    other training pictures have lost their boxes and count as unlabelled."""
    from marauder.core.randomness import stream

    training = list(dataset.split("train"))
    clips = sorted({record.group for record in training})
    order = [clips[place] for place in stream(seed, "few labels").permutation(len(clips))]
    kept = set(order[: max(1, round(KEPT * len(order)))])
    for number in range(len(dataset.names)):
        showing = {record.group for record in training if (record.classes == number).any()}
        if showing and not showing & kept:
            kept.add(next(clip for clip in order if clip in showing))
    return dataset.with_records(
        record
        if record.split != "train" or record.group in kept
        else replace(record.with_boxes(record.classes < 0), labelled=False)
        for record in dataset
    )


def prepare(training: Line, root: Path) -> tuple[Path, Path]:
    """``data.yaml`` with few labels, and the folder of the unlabelled pictures."""
    from marauder.core.files import write_json
    from marauder.data.reading import read_dataset
    from marauder.data.writers import write_yolo

    data, hidden, done = root / "few" / "data.yaml", root / "hidden", root / "few.json"
    if not done.is_file():
        whole = prepare_pictures(
            training["pictures"], root / "pictures", training["seed"], SHARES[training["pictures"]]
        )
        dataset = with_few_labels(read_dataset(whole), training["seed"])
        for folder in (data.parent, hidden):
            shutil.rmtree(folder, ignore_errors=True)
        write_yolo(dataset.with_records(one for one in dataset if one.labelled), data.parent, mode="copy")
        hidden.mkdir(parents=True)
        for record in dataset:
            if not record.labelled:
                # Its name says which clip it is of.
                shutil.copyfile(record.picture, hidden / record.picture.name)
        write_json(done, {"unlabelled": sum(not one.labelled for one in dataset)})
    return data, hidden


def teacher_of(training: Line, data: Path, root: Path) -> tuple[Path, Path]:
    """The folder of the ensemble, made unless it is there, and that of its first member, calibrated as there."""
    from marauder.core.clock import Clock
    from marauder.core.settings import load_checked
    from marauder.ensembles.assembly import assemble
    from marauder.ensembles.settings import EnsembleSettings

    scale, second = SCALES[training["scale"]], training["second"]
    members = [
        train_detector(training, scale, data, root / "first"),
        train_detector({**training, "start": second}, replace(scale, model=OTHER[scale.model]), data, root / "second"),
    ]
    files = [str(path.with_suffix(".safetensors")) for path in members]
    words = ["cost.enabled=false", "draws=100", f"seed={training['seed']}", f"device={training['device']}"]
    settings = load_checked(EnsembleSettings, None, words, {}, members=files, data=data, output=root / "ensemble")
    assemble(settings, Clock())
    folders = sorted(path.parent for path in (root / "ensemble").glob("*/predictor.json"))
    return root / "ensemble", next(path for path in folders if path.name.startswith("first"))


def student(training: Line, data: Path, hidden: Path, root: Path) -> Path:
    """The student of an arm, trained unless it is there: its best weights."""
    from marauder.core.clock import Clock
    from marauder.data.reading import read_dataset
    from marauder.students.settings import StudentSettings
    from marauder.students.training import run_student

    scale, arm = SCALES[training["scale"]], training["arm"]
    if arm == ALONE:
        return train_detector({**training, "seed": training["seed"] + 100}, scale, data, root / arm)
    ensemble, first = teacher_of(training, data, root)
    pictures = len(read_dataset(data).split("train"))
    words = [*WORDS[arm], f"teacher={first if arm == 'one_teacher' else ensemble}", "cost.enabled=false"]
    if arm != "taught_labelled":
        words.append(f"unlabelled={hidden}")
    # Another seed than the members': the first would else be the student's own first half.
    asked = {**training, "seed": training["seed"] + 100}
    settings = settings_for(StudentSettings, asked, scale, data, root / arm, epochs_for(pictures, scale), words)
    return run_student(settings, Clock()).run.weights


def measured_teacher(folder: Path, data: Path, scale: Scale, device: str) -> Mapping[str, float]:
    """The ensemble's figures on test."""
    from marauder.data.reading import read_dataset

    return measure_detector(folder, read_dataset(data), "test", scale, device)


def train_and_measure(training: Line) -> Line:
    """One student, or the teacher, trained and measured."""
    from marauder.core.files import read_json
    from marauder.data.reading import read_dataset

    started, scale = time.perf_counter(), SCALES[training["scale"]]
    root, arm = Path(training["folder"]), training["arm"]
    data, hidden = prepare(training, root)
    if arm == TEACHER:
        figures = measured_teacher(teacher_of(training, data, root)[0], data, scale, training["device"])
        return {**figures, "seconds": time.perf_counter() - started}
    weights = student(training, data, hidden, root)
    figures = measure_detector(weights, read_dataset(data), "test", scale, training["device"])
    report = root / arm / "student_report.json"
    lessons = read_json(report)["lessons"]["pictures"] if report.is_file() else {"unlabelled": 0}
    if (root / arm / "checkpoints").exists():
        # Most of a training's bytes, and of no use once it is measured.
        shutil.rmtree(root / arm / "checkpoints")
    return {**figures, "unlabelled": lessons["unlabelled"], "seconds": time.perf_counter() - started}


def trainings(arguments: argparse.Namespace) -> Iterator[Line]:
    """What decides each training's figures, in the order in which they are run."""
    from marauder.core.files import hash_file

    second = arguments.second_weights
    shared = {**shared_by_all(arguments), "kept": KEPT, "second_weights": hash_file(second) if second else None}
    for seed in seeds_of(arguments):
        for arm in ARMS:
            if arm in arguments.arms:
                yield {"arm": arm, "seed": seed, "words": list(WORDS.get(arm, ())), **shared}


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    figures = f"mAP50-95 {line[WHOLE]:.4f}, mAP50 {line['map50']:.4f}, {line['seconds']:.0f} s"
    return f"{key['pictures']} seed {key['seed']} {key['arm']:15}: {figures}"


def comparisons(lines: Sequence[Line]) -> list[list[Line]]:
    """Trainings that differ in arm and seed alone."""
    return groups(lines, ("arm", "seed", "words"))


def report(lines: Sequence[Line]) -> None:
    """Each arm beside ``alone``, paired by seed."""
    for group in comparisons(lines):
        print(f"\n{place_of(group[0])}:")
        for arm in ARMS:
            of_arm = by_seed(group, arm, WHOLE)
            if not of_arm:
                continue
            print(f"  {arm}: mAP50-95 {interval(list(of_arm.values())).mean:.4f} ({len(of_arm)} seeds)")
            for metric in ("map50_95", "map50") if arm != ALONE else ():
                gain = paired(group, arm, ALONE, metric)
                if gain is not None:
                    print(f"    {metric}: {gain.describe()}")
    print_findings(findings(lines))


ADVICE = {
    "met": "where many pictures have no labels, let an ensemble teach the detector of the board",
    "refuted": f"a gain of {GAIN} is ruled out at these lengths: a teacher is not worth its time here",
    "open": "not decided: keep a student only where it is better than the detector trained alone",
}
QUESTIONS = {
    "taught_labelled": ("without unlabelled pictures, against alone", ALONE),
    TEACHER: ("the teacher itself, against alone", ALONE),
}
PARTS = {
    "hard": ("trust and ignored places, against pseudo-labels that count like labels", TAUGHT),
    "one_teacher": ("the ensemble as teacher, against one of its members", TAUGHT),
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page: of each set what a taught student gains, and what its parts are worth.

    Trainings of the scale ``tiny`` prove nothing and are left out.
    """
    found = []
    for group in comparisons([line for line in lines if line["training"]["scale"] != "tiny"]):
        head = f"Step 6, student ({place_of(group[0])}, {KEPT:.0%} of the clips labelled): mAP50-95"
        gain = paired(group, TAUGHT, ALONE, WHOLE)
        if gain is None:
            continue
        verdict = judge(gain, GAIN)
        question = f"{head} of a student taught on unlabelled pictures, against as many updates alone; +{GAIN}"
        found.append(Finding(question, gain.describe("+.3f"), verdict, ADVICE[verdict]))
        rows = [(paired(group, arm, of, WHOLE), words) for arm, (words, of) in QUESTIONS.items()]
        rows += [(paired(group, of, arm, WHOLE), words) for arm, (words, of) in PARTS.items()]
        for one, words in rows:
            if one is not None:
                shown = "a gain is shown" if one.low > 0 else "a loss is shown" if one.high < 0 else "nothing is shown"
                found.append(Finding(f"{head}: {words}", one.describe("+.3f"), "measured", shown))
    return found


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser, ARMS, NAMES)
    parser.add_argument(
        "--second-weights", type=Path, help="COCO weights of the second member; default: random weights"
    )
    arguments = parse(parser, train_and_measure)
    keys = list(trainings(arguments))
    second = str(arguments.second_weights.resolve()) if arguments.second_weights else None
    report(run_trainings(__file__, arguments, keys, told, second=second))


if __name__ == "__main__":
    main()
