"""How many boxes random choice needs for one box of ours at equal mAP, in rounds of selection on real pictures.

    python benchmarks/active_learning_gain.py --output DIR [--scale small|full] [--seeds 3] [--arms hybrid random ...]

Aquarium by clips into pool, validation and test, the same for all. A few random pictures of the pool are labelled to
begin with; in each round an arm's detector scores the rest, the arm chooses by a budget in boxes, the true labels of
its picks are revealed until their boxes reach the budget, and the detector trains on from its last weights. Within a
seed all arms begin with the same pictures and detector, and get the same boxes and updates a round; the first detector
starts from one of another domain (Marauder's generated reef). Last weights are measured on the test pictures;
validation pictures serve calibration only.

Arms: ``hybrid`` (ours, as shipped), ``random``, and each measure of uncertainty alone, by its highest scores. The ratio
is boxes of random over boxes of an arm at the same mAP, the geometric mean over the mAP that both curves reach, with a
95 % interval over seeds. Target: at least 1.3 for ours. Every finished training is a line of DIR/results.jsonl: the
same command with the same DIR goes on where it was. ``--scale small`` is a scaled-down form for a CPU (about 40 minutes
on one core with all arms); its figures say nothing of the full scale.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import append_line, fingerprint, read_lines
from marauder.core.plugins import names as plugin_names
from marauder.core.randomness import stream
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.splits import split_dataset
from peers import AQUARIUM_NAMES, shared_data
from pretraining_gain import SCALES as TRAINING_SCALES
from pretraining_gain import begin, train_detector

OURS, RANDOM = "hybrid", "random"
ARMS = (OURS, RANDOM, *plugin_names("uncertainty"))
TARGET = 1.3
LEVELS = 50
"""Values of mAP between the lowest and the highest that both curves reach, at which boxes are compared."""


@dataclass(frozen=True)
class Scale:
    """Sizes of one scale. Boxes: labelled at the beginning (``start_boxes``) and in each of ``rounds`` rounds
    (``round_boxes``); updates of the trainings on the other domain, at the beginning and in each round."""

    name: str
    model: str
    image_size: int
    batch_size: int
    learning_rate: float
    other_pictures: int
    other_updates: int
    start_updates: int
    round_updates: int
    start_boxes: int
    round_boxes: int
    rounds: int


SCALES = {
    "small": Scale("small", "yolov8t", 160, 16, 4e-3, 600, 2000, 1000, 150, 250, 250, 4),
    "full": Scale("full", "yolov8n", 640, 16, 1e-3, 3000, 6000, 3000, 1500, 200, 200, 6),
}


@dataclass(frozen=True)
class Data:
    """Aquarium by clips. ``pool``: whose labels are hidden and revealed."""

    names: tuple[str, ...]
    pool: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]


def open_data() -> Data:
    """The same pictures on the same sides for every seed."""
    aquarium = read_dataset(shared_data() / "aquarium", names=AQUARIUM_NAMES)
    aquarium = split_dataset(aquarium, {"pool": 0.6, "val": 0.15, "test": 0.25}, seed=0)
    parts = [aquarium.split(name).records for name in ("pool", "val", "test")]
    return Data(aquarium.names, parts[0], parts[1], parts[2])


def hidden(record: Record) -> Record:
    """The picture as the selection may see it."""
    nothing = np.zeros(0)
    return replace(
        record, boxes=np.zeros((0, 4)), classes=nothing, ignored=nothing, labelled=False, box_attributes={}, split=None
    )


def boxes_of(record: Record) -> int:
    """What labelling the picture costs, in boxes."""
    return int((~record.ignored).sum())


def reveal(pool: Sequence[Record], order: Sequence[int], budget: int) -> list[int]:
    """The first pictures of ``order`` whose true boxes reach ``budget`` together; the last may go beyond it."""
    taken, spent = [], 0
    for place in order:
        if spent >= budget:
            break
        taken.append(int(place))
        spent += boxes_of(pool[place])
    return taken


def choose_order(
    arm: str, data: Data, labelled: Sequence[int], weights: Path, folder: Path, seed: int, budget: int, device: str
) -> list[int]:
    """Places in the pool that an arm wants labelled, the most wanted first, enough of them for ``budget``."""
    rest = [place for place in range(len(data.pool)) if place not in set(labelled)]
    if arm == RANDOM:
        return [rest[place] for place in stream(seed, "random arm", len(labelled)).permutation(len(rest))]

    from marauder.prediction.embeddings import embed
    from marauder.prediction.opening import open_predictor
    from marauder.prediction.records import DecodedPictures
    from marauder.selection.basket import Pool
    from marauder.selection.choosing import choose, combined_scores
    from marauder.selection.scoring import score_pool
    from marauder.selection.settings import SelectionSettings

    # More pictures than the budget can pay, so that the true boxes decide where the list ends, not the estimate.
    plenty = min(len(rest), budget)
    chosen: dict[str, Any] = {"strategy": OURS} if arm == OURS else {
        "strategy": "uncertainty", "measures": (arm,), "random_share": 0.0, "most_per_group": None,
    }  # fmt: skip
    settings = SelectionSettings(
        pool=folder, models=(weights,), seed=seed, count=plenty, device=device, min_labelled_share=0.0, **chosen
    )
    candidates = [hidden(data.pool[place]) for place in rest]
    scores = score_pool(candidates, settings, data.names, Clock(), folder / "scores", data.validation)
    known = [data.pool[place] for place in labelled]
    centres = embed(open_predictor(weights, device), known, DecodedPictures(known), range(len(known)))
    assert centres is not None
    if arm == OURS:  # what the budget is expected to pay for: clusters are made for so many, not for the whole pool
        boxes = float(np.mean([boxes_of(record) for record in known]))
        settings = settings.model_copy(update={"count": max(1, min(plenty, round(budget / max(boxes, 1.0))))})
    groups = np.unique([data.pool[rest[i]].group for i in scores.indices], return_inverse=True)[1].reshape(-1)
    pool = Pool(
        features=scores.features,
        scores=combined_scores(scores.measures, settings.weights),
        class_counts=scores.class_counts,
        boxes=scores.estimated_boxes.astype(np.float64),
        groups=groups,
        centres=centres,
        centre_counts=np.array([np.bincount(r.classes[~r.ignored], minlength=len(data.names)) for r in known]),
        names=data.names,
        labelled_share=len(known) / len(data.pool),
    )
    first = [int(place) for place in choose(pool, settings).indices()]
    # Where picks hold fewer boxes than thought, the budget goes on with what the same arm wants next.
    while len(first) < len(pool) and sum(boxes_of(data.pool[rest[scores.indices[i]]]) for i in first) < budget:
        left = np.setdiff1d(np.arange(len(pool)), first)
        first += [int(left[place]) for place in choose(_part(pool, left), settings).indices()]
    return [rest[int(scores.indices[place])] for place in first]


def _part(pool: Any, places: np.ndarray) -> Any:
    """The pool without what was chosen from it, which joins the centres."""
    gone = np.setdiff1d(np.arange(len(pool)), places)
    return replace(
        pool,
        features=pool.features[places],
        scores=pool.scores[places],
        class_counts=pool.class_counts[places],
        boxes=pool.boxes[places],
        groups=pool.groups[places],
        centres=np.concatenate([pool.centres, pool.features[gone]]),
        centre_counts=np.concatenate([pool.centre_counts, pool.class_counts[gone]]),
    )


class Bench:
    """Does what is not done yet, and remembers what is."""

    def __init__(self, arguments: argparse.Namespace, scale: Scale) -> None:
        self.device: str = arguments.device
        self.scale = scale
        self.output: Path = arguments.output.absolute()
        self.file = self.output / "results.jsonl"
        self.data = open_data()
        sides = [[record.key for record in part] for part in (self.data.pool, self.data.validation, self.data.test)]
        self.about = fingerprint([asdict(scale), sides])[:12]
        rows = read_lines(self.file)
        if any(row["about"] != self.about for row in rows):
            raise SystemExit(f"{self.file} is of other sizes or data; give another --output, or remove it")
        self.done = {row["name"]: row for row in rows}

    def other_detector(self) -> Path:
        """The detector of another domain that all begin with."""
        name = "start"
        if name not in self.done:
            other = self._generated_reef()
            train, val = other.split("train").records, other.split("val").records
            self._train(name, self.scale.other_updates, other.names, train, val, 0, None, {})
        return self._weights(name)

    def _generated_reef(self) -> Dataset:
        """Pictures of the other domain: drawn, with the boxes of what was drawn."""
        from marauder.scenes.settings import SceneSettings
        from marauder.scenes.writing import generate_scenes

        size, count = max(96, self.scale.image_size), self.scale.other_pictures
        settings = SceneSettings(output=self.output / "reef", count=count, clips=count // 3, width=size,
                                 height=max(96, size * 3 // 4), workers=1)  # fmt: skip
        return read_dataset(generate_scenes(settings, Clock()))

    def run(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """All rounds of an arm; the beginning is shared by the arms of a seed."""
        pool, scale = self.data.pool, self.scale
        begin = f"seed{seed}-begin"
        if begin not in self.done:
            order = stream(seed, "begin").permutation(len(pool)).tolist()
            self._label_and_train(begin, reveal(pool, order, scale.start_boxes), scale.start_updates, seed,
                                  self.other_detector())  # fmt: skip
        curve, previous = [self.done[begin]], begin
        for number in range(1, scale.rounds + 1):
            name = f"seed{seed}-{arm}-{number}"
            if name not in self.done:
                labelled = self.done[previous]["labelled"]
                # By what all arms may have spent by now, so that going beyond it in one round is paid in the next.
                spent = sum(boxes_of(pool[place]) for place in labelled)
                budget = scale.start_boxes + number * scale.round_boxes - spent
                folder = self.output / name
                folder.mkdir(parents=True, exist_ok=True)
                wanted = choose_order(arm, self.data, labelled, self._weights(previous), folder, seed + number * 1000,
                                      budget, self.device)  # fmt: skip
                grown = [*labelled, *reveal(pool, wanted, budget)]
                self._label_and_train(name, grown, scale.round_updates, seed, self._weights(previous))
            curve.append(self.done[name])
            previous = name
        return curve

    def _weights(self, name: str) -> Path:
        return self.output / name / "last.safetensors"

    def _label_and_train(self, name: str, labelled: list[int], updates: int, seed: int, weights: Path) -> None:
        records = [self.data.pool[place] for place in labelled]
        about = {"labelled": labelled, "pictures": len(records), "boxes": sum(boxes_of(record) for record in records)}
        self._train(name, updates, self.data.names, records, self.data.test, seed, weights, about)

    def _train(
        self, name: str, updates: int, names: tuple[str, ...], records: Sequence[Record],
        evaluation: Sequence[Record], seed: int, weights: Path | None, about: dict[str, Any],
    ) -> None:  # fmt: skip
        started, scale = time.monotonic(), self.scale
        sizes = replace(TRAINING_SCALES["small"], name=scale.name, model=scale.model, image_size=scale.image_size,
                        batch_size=scale.batch_size, updates=updates, learning_rate=scale.learning_rate)  # fmt: skip
        folder = self.output / name
        found = train_detector(sizes, folder, names, records, evaluation, seed, weights, None, self.device)
        row = {"name": name, "about": self.about, **about, **found, "seconds": round(time.monotonic() - started, 1)}
        append_line(self.file, row)
        self.done[name] = row
        boxes = f"{row['boxes']} boxes in {row['pictures']} pictures, " if "boxes" in row else ""
        print(f"{name}: {boxes}mAP50 {row['map50']:.4f}, mAP50-95 {row['map50_95']:.4f}, {row['seconds']:.0f} s",
              flush=True)  # fmt: skip


def rising(curve: Sequence[dict[str, Any]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and mAP of a curve, made to rise: isotonic regression, since a fall is noise of training."""
    from sklearn.isotonic import isotonic_regression

    boxes = np.array([row["boxes"] for row in curve], np.float64)
    return boxes, np.asarray(isotonic_regression(np.array([row[metric] for row in curve], np.float64)))


def boxes_needed(boxes: np.ndarray, reached: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The fewest boxes at which a rising curve, straight between its points, reaches each of ``levels``."""
    needed = []
    for level in levels:
        after = int(np.searchsorted(reached, level, "left"))
        if after == 0:
            needed.append(boxes[0])
            continue
        share = (level - reached[after - 1]) / (reached[after] - reached[after - 1])
        needed.append(boxes[after - 1] + share * (boxes[after] - boxes[after - 1]))
    return np.array(needed)


def boxes_ratio(arm: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], metric: str) -> float:
    """Boxes that ``base`` needs over boxes that ``arm`` needs, the geometric mean over the mAP that both reach beyond
    their common beginning; NaN where one of them does not rise, which never meets the target."""
    (own, own_reached), (other, other_reached) = rising(arm, metric), rising(base, metric)
    low, high = max(own_reached[0], other_reached[0]), min(own_reached[-1], other_reached[-1])
    if not high > low:
        return float("nan")
    levels = np.linspace(low, high, LEVELS + 1)[1:]
    logs = np.log(boxes_needed(other, other_reached, levels) / boxes_needed(own, own_reached, levels))
    return float(np.exp(logs.mean()))


def mean_curve(of_arm: Sequence[Sequence[dict[str, Any]]], metric: str) -> list[dict[str, Any]]:
    """The mean over seeds of boxes and mAP, round by round."""
    return [{name: statistics.mean(row[name] for row in rows) for name in ("boxes", metric)} for rows in zip(*of_arm)]


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % interval over seeds (Student's t on logarithms)."""
    from scipy.stats import t

    logs = [math.log(ratio) for ratio in ratios if math.isfinite(ratio)]
    if not logs:
        return (float("nan"),) * 3
    mean = statistics.mean(logs)
    if len(logs) < 2:
        return math.exp(mean), float("nan"), float("nan")
    half = float(t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def report(curves: dict[str, list[list[dict[str, Any]]]], scale: Scale, seeds: int) -> None:
    """Print mAP by boxes and the ratios beside the target. ``curves``: by arm, one curve a seed."""
    if scale.name == "small":
        print(f"\nSCALED DOWN for a CPU ({scale.model}, {scale.image_size} pixels): no statement about the full scale")
    budgets = [scale.start_boxes + number * scale.round_boxes for number in range(scale.rounds + 1)]
    for metric, title in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        print(f"\n{title} on the test pictures by boxes labelled, mean over {seeds} seeds\n")
        print("| arm | " + " | ".join(str(boxes) for boxes in budgets) + " |")
        print("|---|" + "---|" * len(budgets))
        for arm, of_arm in curves.items():
            cells = [statistics.mean(curve[place][metric] for curve in of_arm) for place in range(len(budgets))]
            print(f"| {arm} | " + " | ".join(f"{value:.4f}" for value in cells) + " |")
    if RANDOM not in curves:
        print("\nno ratio: the arm 'random' was left out")
        return
    for metric, title in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        print(f"\nboxes of random / boxes of the arm at equal {title} (above 1: fewer boxes than random)\n")
        for arm, of_arm in curves.items():
            if arm == RANDOM:
                continue
            ratios = [boxes_ratio(own, base, metric) for own, base in zip(of_arm, curves[RANDOM], strict=True)]
            mean, low, high = interval(ratios)
            line = f"{arm}: {mean:.2f} (95 % interval {low:.2f} to {high:.2f}; seeds "
            line += ", ".join(f"{ratio:.2f}" for ratio in ratios)
            together = boxes_ratio(mean_curve(of_arm, metric), mean_curve(curves[RANDOM], metric), metric)
            line += f"; of the mean curves {together:.2f})"
            if arm == OURS and metric == "map50_95":
                met = mean >= TARGET and all(map(math.isfinite, ratios))
                line += f"; target {TARGET}: {'met' if met else 'not met'}"
            print(line)


def main() -> None:
    """Train what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    arguments, scale = begin(parser, SCALES)
    bench = Bench(arguments, scale)
    curves: dict[str, list[list[dict[str, Any]]]] = {arm: [] for arm in arguments.arms}
    # Arm by arm, so that a run that is cut short has ours and random of every seed first.
    for arm in sorted(arguments.arms, key=ARMS.index):
        for seed in range(arguments.seeds):
            curves[arm].append(bench.run(arm, seed))
    report(curves, scale, arguments.seeds)


if __name__ == "__main__":
    main()
