"""What step 1, pretraining without labels, is worth to a detector: mAP at 5, 10, 25 and 100 % of the labels.

    python benchmarks/pretraining_gain.py --weights yolov8n_coco.pt --output DIR --results pretraining_gain.jsonl

Main arms: ``random`` weights, ``coco`` (``--weights``), and a backbone pretrained from either (``ours_random``,
``ours_coco``: neck and head are COCO's, as step 2 takes them). Beside them, at the first fraction: a lower rate, a
longer pretraining, the other method, and three cheap ways of using the same pictures: ``statistics`` (COCO's weights,
running statistics estimated anew), ``blend`` (midway between COCO's and our backbone) and ``self_training`` (the boxes
that ``coco`` is sure of are labels for a second training). Pretraining sees the training pictures of both data sets
without labels, never one of val or test.

Labels are taken away by whole clips. Within a seed and fraction all arms have the same split, pictures, updates and
settings; best weights are chosen on val and measured on test. Each seed has its own split and its own pretrainings,
whose lines hold the probe's gain: the report compares its sign with the detector's. Target: mAP50-95 relatively +15 %
at 10 % of the labels. ``small``: 2 to 4 minutes a detector and 7 a pretraining on one core, about 330 in all for three
seeds; ``full``: about two days of a GPU (estimated).
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
    UNMEASURED,
    Scale,
    add_training_options,
    measure_detector,
    parse,
    relabelled,
    run_trainings,
    shared_by_all,
    train_detector,
)
from peers import NAMES, SHARES, prepare_pictures, shared_data
from tables import Finding, Line, Paired, by_seed, by_table, interval, judge, paired, seeds_of

if TYPE_CHECKING:
    from marauder.data.records import Dataset, Record
    from marauder.models.pretraining.network import Backbone
    from marauder.runs.gated import RunSummary
    from marauder.tasks.pretraining.settings import PretrainingSettings

FRACTIONS = (10, 5, 25, 100)
"""Per cent of the labels; that of the target comes first."""
TARGET, TARGET_PERCENT = 0.15, 10
AGREEMENT = 0.8
"""Least share of pretrainings whose probe has the sign of the detector's gain, for a probe worth its time."""
SURE = 0.5
"""Least score of a box that self-training takes for a label."""
SPLITS = {**SHARES, "aquarium": {"train": 0.6, "val": 0.15, "test": 0.25}}
"""More of aquarium in test than in other tables: of a tenth of it the difference of two detectors is mostly noise."""


@dataclass(frozen=True)
class Sizes:
    """Of a pretraining: pixels of a view, pictures of an update, updates, pictures of the other data set at most."""

    view: int
    batch: int
    updates: int
    others: int


SIZES = {"tiny": Sizes(64, 16, 40, 60), "small": Sizes(160, 32, 300, 400), "full": Sizes(224, 128, 12000, 1500)}


@dataclass(frozen=True)
class Pretraining:
    """``start``: random or coco; ``words``: settings other than step 1's own; ``longer``: times the scale's updates."""

    start: str
    words: tuple[str, ...] = ()
    longer: int = 1


DISTILLATION = ("pretraining.method=distillation",)
PRETRAININGS = {
    "random": Pretraining("random"),
    "coco": Pretraining("coco"),
    "coco_low_rate": Pretraining("coco", ("training.optimizer.learning_rate=1e-4",)),
    "coco_long": Pretraining("coco", longer=3),
    "coco_distillation": Pretraining("coco", DISTILLATION),
    "random_distillation": Pretraining("random", DISTILLATION),
}


@dataclass(frozen=True)
class Arm:
    """``start``: of the detector; ``backbone``: the pretraining that its backbone is of."""

    start: str
    backbone: str | None = None


MAIN = ("random", "coco", "ours_random", "ours_coco")
ARMS = {
    "random": Arm("random"),
    "coco": Arm("coco"),
    "ours_random": Arm("random", "random"),
    "ours_coco": Arm("coco", "coco"),
    "statistics": Arm("coco"),
    "self_training": Arm("coco"),
    "ours_coco_low_rate": Arm("coco", "coco_low_rate"),
    "blend": Arm("coco", "coco"),
    "ours_coco_long": Arm("coco", "coco_long"),
    "ours_coco_distillation": Arm("coco", "coco_distillation"),
    "ours_random_distillation": Arm("random", "random_distillation"),
}


def labelled_part(training: Dataset, percent: int, seed: int) -> list[Record]:
    """Whole clips, in an order of the seed, until ``percent`` of the pictures are reached, and as many pictures of the
    last clip as are still wanted; smaller parts lie in larger.

    The first clips are chosen so that every class is in the part, as far as short clips allow.
    """
    from marauder.core.randomness import stream

    groups: dict[str, list[Record]] = {}
    for record in training:
        groups.setdefault(record.group, []).append(record)
    order = [sorted(groups)[i] for i in stream(seed, "labels").permutation(len(groups))]
    classes = {name: {int(k) for record in groups[name] for k in record.classes} for name in order}
    first: list[str] = []
    missing = set(range(len(training.names)))
    for name in sorted(order, key=lambda group: (len(groups[group]), order.index(group))):
        if classes[name] & missing and len(groups[name]) <= max(2, len(training) // 50):
            first.append(name)
            missing -= classes[name]
    wanted = max(1, round(len(training) * percent / 100))
    chosen: list[Record] = []
    for name in [*first, *(name for name in order if name not in first)]:
        clip = groups[name]
        # A drawn order: the first frames of a clip are nearly one picture.
        chosen += [clip[i] for i in stream(seed, "labels", name).permutation(len(clip))]
    return chosen[:wanted]


@dataclass(frozen=True)
class Place:
    """The data sets and trainings of one seed. ``data``: its split, all of it labelled; ``training``: the line's key,
    with ``start``, the file of COCO weights (``None``: there is none)."""

    root: Path
    data: Path
    training: Line

    @property
    def scale(self) -> Scale:
        """Of its detectors."""
        return SCALES[self.training["scale"]]

    def start(self, kind: str) -> Path | None:
        """The file of a start, ``random`` or ``coco``."""
        return Path(self.training["start"]) if kind == "coco" else None

    def detector(self, arm: str, percent: int) -> Path:
        """The best weights of an arm, trained unless they are there."""
        made, folder = ARMS[arm], self.root / f"{arm}_{percent}"
        start = self.start(made.start)
        backbone = self.backbone(arm)
        return train_detector(
            {**self.training, "start": None if start is None else str(start)},
            self.scale,
            self.labelled(arm, percent),
            folder,
            () if backbone is None else (f"ssl_backbone={backbone}",),
        )

    def labelled(self, arm: str, percent: int) -> Path:
        """data.yaml with the labels that an arm has."""
        from marauder.data.reading import read_dataset
        from marauder.data.writers import write_yolo

        dataset = read_dataset(self.data)
        part = labelled_part(dataset.split("train"), percent, self.training["seed"])
        evaluated = [record for record in dataset if record.split != "train"]
        if arm == "self_training":
            part += self.pseudo_labelled(dataset, part, percent)
        folder = self.root / f"data_{percent}{'_self_training' if arm == 'self_training' else ''}"
        return write_yolo(dataset.with_records([*part, *evaluated]), folder)

    def pseudo_labelled(self, dataset: Dataset, part: Sequence[Record], percent: int) -> list[Record]:
        """The other training pictures, with the boxes that the detector of ``part`` is sure of as their labels.

        A picture without such a box is left out: that a weak detector is sure of nothing does not make it empty.
        """
        from marauder.annotation.prelabels import prelabel
        from marauder.annotation.settings import PrelabelSettings
        from marauder.core.clock import Clock

        teacher, known = self.detector("coco", percent), {record.key for record in part}
        others = [record for record in dataset.split("train") if record.key not in known]
        settings = PrelabelSettings(confidence=SURE, image_size=self.scale.image_size, device=self.training["device"])
        journal = self.root / f"self_training_{percent}.jsonl"
        found = prelabel(teacher, others, dataset.names, settings, journal, Clock()).boxes
        sure = [(record, found[record.key]) for record in others if len(found[record.key])]
        return [relabelled(record, boxes.boxes, boxes.classes) for record, boxes in sure]

    def backbone(self, arm: str) -> Path | None:
        """The backbone that takes the place of the start's, made unless it is there; ``None``: it keeps its own."""
        if arm == "statistics":
            return self.settled(arm, blended=None)
        name = ARMS[arm].backbone
        if name is None:
            return None
        pretrained = self.pretrain(name).weights
        return self.settled(arm, blended=pretrained) if arm == "blend" else pretrained

    def settled(self, arm: str, blended: Path | None) -> Path:
        """COCO's backbone, or the mean of its weights and those of ``blended``, with the running statistics of the
        pictures without labels."""
        from marauder.data.reading import read_dataset
        from marauder.models.pretraining.files import save_backbone
        from marauder.models.pretraining.network import build_backbone
        from marauder.tasks.pretraining.probe import SETTLING, settle

        backbone = build_backbone(self.scale.model, 0, self.start("coco"))
        if blended is not None:
            average(backbone, build_backbone(self.scale.model, 0, blended))
        records = read_dataset(self.pool()).records
        settle(backbone, records[:: max(1, len(records) // SETTLING)], self.scale.image_size)
        path = self.root / f"{arm}.safetensors"
        save_backbone(backbone.detector_state(), path, {"architecture": self.scale.model, "method": arm})
        return path

    def pool(self) -> Path:
        """data.yaml of the training pictures of this data set and of the other one, all without labels."""
        from marauder.data.reading import read_dataset
        from marauder.data.records import merge
        from marauder.data.writers import write_yolo

        sets, most = [read_dataset(self.data).split("train")], SIZES[self.training["scale"]].others
        for name in NAMES:
            if name != self.training["pictures"]:
                other = read_dataset(shared_data() / name, names=NAMES[name])
                sets.append(other.with_records(other.records[:: -(-len(other) // most)]))
        pool = merge(sets)
        return write_yolo(pool.with_records([without_labels(record) for record in pool]), self.root / "pool")

    def pretrain(self, name: str) -> RunSummary:
        """A pretraining as a gated run, done unless it is there."""
        from marauder.core.clock import Clock
        from marauder.runs.gated import run_gated
        from marauder.tasks.pretraining.data import open_pool

        pool = self.pool()
        pictures = len(open_pool(self.pretraining_settings(name, pool, 1)).training)
        sizes = SIZES[self.training["scale"]]
        updates = sizes.updates * PRETRAININGS[name].longer
        epochs = max(1, round(updates / math.ceil(pictures / sizes.batch)))
        return run_gated(self.pretraining_settings(name, pool, epochs), Clock())

    def pretraining_settings(self, name: str, pool: Path, epochs: int) -> PretrainingSettings:
        """Step 1's settings as shipped, but for sizes and what an arm changes."""
        from marauder.runs.recipes import load_run_settings
        from marauder.tasks.pretraining.settings import PretrainingSettings

        made, sizes, training = PRETRAININGS[name], SIZES[self.training["scale"]], self.training
        words = [
            *(word for word in UNMEASURED if not word.startswith(("evaluation.", "export.", "gate.drift"))),
            f"training.epochs={epochs}",
            f"training.batch_size={sizes.batch}",
            f"training.seed={training['seed']}",
            f"training.device={training['device']}",
            f"training.evaluate_every={epochs}",
            f"training.optimizer.warmup_epochs={max(1.0, epochs / 20)}",
            f"probe.data={self.data}",
            # A collapse is no end here: its detector shows what it costs.
            "pretraining.collapse.smallest_deviation=0",
            "pretraining.collapse.smallest_rank=1",
            "pretraining.collapse.smallest_share_of_start=0",
            *([f"training.threads={training['threads']}"] if training["threads"] else []),
            *made.words,
        ]
        return load_run_settings(
            PretrainingSettings,
            None,
            words,
            data=pool,
            output=self.root / f"pretraining_{name}",
            model=self.scale.model,
            image_size=sizes.view,
            weights=self.start(made.start) or "none",
        )


def without_labels(record: Record) -> Record:
    """The record as one that nobody has looked at."""
    return replace(record.with_boxes(np.zeros(len(record.boxes), bool)), labelled=False)


def average(backbone: Backbone, other: Backbone) -> None:
    """Move the weights of ``backbone`` midway to those of ``other``."""
    theirs = other.state_dict()
    mine = backbone.state_dict()
    backbone.load_state_dict({
        name: (tensor + theirs[name]) / 2 if tensor.is_floating_point() else tensor for name, tensor in mine.items()
    })  # fmt: skip


def train_and_measure(training: Line) -> Line:
    """One detector, or one pretraining, with its figures."""
    from marauder.data.reading import read_dataset

    started = time.perf_counter()
    root, name = Path(training["folder"]), training["pictures"]
    place = Place(root, prepare_pictures(name, root / "data", training["seed"], SPLITS[name]), training)
    if training["arm"] == "pretraining":
        found = dict(place.pretrain(training["of"]).metrics)
    else:
        weights = place.detector(training["arm"], training["percent"])
        found = dict(measure_detector(weights, read_dataset(place.data), "test", place.scale, training["device"]))
    return {**found, "seconds": time.perf_counter() - started}


def trainings(arguments: argparse.Namespace) -> list[Line]:
    """What decides each training, in the order in which they are run: the main arms at the first fraction, then at the
    others, then the other arms at the first; a seed after the other."""
    shared = shared_by_all(arguments)
    of_pretraining = {name: value for name, value in shared.items() if name not in ("recipe", "set")}
    keys: list[Line] = []
    first, *others = arguments.fractions
    arms = [arm for arm in arguments.arms if shared["weights"] or ARMS[arm].start == "random"]
    main, more = [arm for arm in arms if arm in MAIN], [arm for arm in arms if arm not in MAIN]

    def started(key: Line, start: str) -> Line:
        return {**key, "weights": shared["weights"] if start == "coco" else None}

    for group, fractions in ((main, [first]), (main, others), (more, [first])):
        for seed in seeds_of(arguments):
            for percent in fractions:
                for arm in group:
                    name = ARMS[arm].backbone
                    if name is not None:
                        key = {"arm": "pretraining", "of": name, "seed": seed, **of_pretraining}
                        keys.append(started(key, PRETRAININGS[name].start))
                    keys.append(started({"arm": arm, "percent": percent, "seed": seed, **shared}, ARMS[arm].start))
    return [key for place, key in enumerate(keys) if key not in keys[:place]]


def told(line: Line) -> str:
    """A finished training in words."""
    key = line["training"]
    if key["arm"] == "pretraining":
        what = f"pretraining {key['of']:22} probe {line.get('probe_gain', math.nan):+.3f}"
        figures = f"{what}, effective rank {line.get('effective_rank', math.nan):.1f}"
    else:
        what = f"{key['percent']:3} % {key['arm']:26}"
        figures = f"{what} mAP50 {line['map50']:.4f}  mAP50-95 {line['map50_95']:.4f}"
    return f"seed {key['seed']} {figures}  {line['seconds']:.0f} s"


def at(lines: Sequence[Line], percent: int) -> list[Line]:
    """The detectors at a fraction of the labels."""
    return [line for line in lines if line["training"].get("percent") == percent]


def probe_and_detector(lines: Sequence[Line], percent: int = TARGET_PERCENT) -> list[tuple[float, float]]:
    """The probe's gain and that of the detector in mAP50-95 over its start, of each pretraining with a detector."""
    pairs = []
    for arm, made in ARMS.items():
        if made.backbone is None or arm == "blend":
            continue
        probes = {
            line["training"]["seed"]: line["probe_gain"]
            for line in lines
            if line["training"].get("of") == made.backbone and "probe_gain" in line
        }
        here = at(lines, percent)
        before, after = by_seed(here, made.start, "map50_95"), by_seed(here, arm, "map50_95")
        pairs += [(probes[seed], after[seed] - before[seed]) for seed in after if seed in before and seed in probes]
    return pairs


def agreement(pairs: Sequence[tuple[float, float]]) -> Paired:
    """The share of pairs of one sign, with its 95 % interval (Clopper and Pearson's)."""
    from scipy.stats import binomtest

    alike = sum((one > 0) == (other > 0) for one, other in pairs)
    bounds = binomtest(alike, len(pairs)).proportion_ci(0.95)
    return Paired(alike / len(pairs), bounds.low, bounds.high, len(pairs))


def report(lines: Sequence[Line], fractions: Sequence[int]) -> None:
    """Means of every arm, gains over its start, and what the probe said."""
    for metric, title in (("map50", "mAP50"), ("map50_95", "mAP50-95")):
        print(f"\n{title}, mean over seeds with its 95 % interval")
        for percent in sorted(fractions):
            for arm in ARMS:
                values = list(by_seed(at(lines, percent), arm, metric).values())
                if values:
                    print(f"  {percent:3} % {arm:26} {interval(values).describe('.4f')}")
    print("\nmAP50-95 relative to the start, paired by seed")
    for percent in sorted(fractions):
        for arm, made in ARMS.items():
            gain = paired(at(lines, percent), arm, made.start, "map50_95", relative=True) if arm != made.start else None
            if gain is not None:
                print(f"  {percent:3} % {arm:26} over {made.start}: {gain.describe('+.1%')}")
    print()
    for found in findings(lines):
        print(f"{found.question}\n  {found.figure}: {found.verdict}\n  {found.consequence}")


CONSEQUENCES = {
    "met": "step 1 before step 2 is advised",
    "refuted": "step 1 is not advised for this start: step 2 begins without it",
    "open": "step 1 stays optional for this start: compare on your own pictures",
}


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Rows of the evidence page, of each data set and scale but ``tiny``."""
    return [row for where, here in by_table(lines).items() for row in findings_of(here, where)]


def findings_of(lines: Sequence[Line], where: str) -> list[Finding]:
    """The rows of one data set and scale."""
    found, labels = [], f"{TARGET_PERCENT} % of the labels"
    here = at(lines, TARGET_PERCENT)
    for start in ("coco", "random"):
        gain = paired(here, f"ours_{start}", start, "map50_95", relative=True)
        if gain is not None:
            verdict = judge(gain, TARGET)
            question = f"Step 1 ({where}): mAP50-95 with pretraining from {start} over {start} alone, {labels}; +15 %"
            found.append(Finding(question, gain.describe("+.1%"), verdict, CONSEQUENCES[verdict]))
    for arm, made in ARMS.items():
        gain = paired(here, arm, made.start, "map50_95", relative=True) if arm not in MAIN else None
        if gain is not None:
            helps = "would help" if gain.low > 0 else "costs" if gain.high < 0 else "neither gain nor loss is shown"
            question = f"Step 1 ({where}): {arm} over {made.start} alone in mAP50-95, {labels}"
            found.append(Finding(question, gain.describe("+.1%"), "measured", helps))
    pairs = probe_and_detector(lines)
    if pairs:
        share = agreement(pairs)
        verdict = judge(share, AGREEMENT, none=0.5)
        consequence = "the probe says whether to use a backbone" if verdict == "met" else "the probe decides nothing"
        question = f"Step 1 ({where}): share of pretrainings whose probe has the sign of the detector's gain; 80 %"
        figure = f"{share.describe('.0%')}; {correlation(pairs)}"
        found.append(Finding(question, figure, verdict, consequence))
    return found


def correlation(pairs: Sequence[tuple[float, float]]) -> str:
    """Spearman's rank correlation of the pairs, in words."""
    from scipy.stats import spearmanr

    probe, detector = zip(*pairs)
    if len(set(probe)) < 2 or len(set(detector)) < 2:
        return "no rank correlation of equal gains"
    return f"rank correlation of the gains {spearmanr(probe, detector).statistic:+.2f}"


def main() -> None:
    """Train what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fractions", type=int, nargs="+", default=list(FRACTIONS), help="per cent of the labels")
    add_training_options(parser, ARMS)
    arguments = parse(parser, train_and_measure)
    report(run_trainings(__file__, arguments, trainings(arguments), told), arguments.fractions)


if __name__ == "__main__":
    main()
