"""One training of a table of detectors: its settings, its length in updates, its run and its figures.

What arms have in common is here, so that tables differ in their arms alone. Trainings go through the same gated run as
those of users; gates, registry, exports and trackers, which no figure depends on, are off.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from peers import NAMES
from tables import Line, add_options, in_process, run_missing

if TYPE_CHECKING:
    from marauder.data.records import Dataset, Record
    from marauder.tasks.detection.settings import DetectionSettings

    Settings = TypeVar("Settings", bound=DetectionSettings)

UNMEASURED = (
    "training.patience=0",
    "training.checkpoint_seconds=120",
    "gate.contract=off",
    "gate.drift=off",
    "gate.sanity=off",
    "gate.determinism=off",
    "tracking.trackers=[]",
    "registry.kind=none",
    "export.formats=[]",
    "evaluation.slices_each_epoch=false",
    "evaluation.draws=300",
)
"""Settings that switch off what takes time and changes no weight."""


@dataclass(frozen=True)
class Scale:
    """Sizes of a table's trainings. ``updates``: of every arm, as near as whole epochs come."""

    model: str
    image_size: int
    batch_size: int
    updates: int


SCALES = {
    "tiny": Scale("yolov8t", 64, 16, 60),
    "small": Scale("yolov8n", 224, 16, 300),
    "full": Scale("yolov8s", 640, 16, 6000),
}
"""``tiny`` tries the command; ``small``: two cores, two to four minutes a training; ``full``: a GPU."""


def add_training_options(parser: argparse.ArgumentParser, arms: Iterable[str], pictures: Iterable[str] = NAMES) -> None:
    """The options that tables of detectors have, those of every table among them."""
    arms, pictures = list(arms), list(pictures)
    parser.add_argument("--output", type=Path, help="keeps the data sets and trainings")
    parser.add_argument("--weights", type=Path, help="COCO weights of the scale's model; default: random weights")
    parser.add_argument("--pictures", choices=pictures, default=pictures[0])
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms)
    parser.add_argument("--recipe", default="fine_tune", help="of every arm")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every arm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    add_options(parser)


def parse(parser: argparse.ArgumentParser, train: Callable[[Line], Line]) -> argparse.Namespace:
    """The command line of a table; the process of one training (``run_trainings``) does that and ends here."""
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if arguments.one:
        print(json.dumps(train(json.loads(arguments.one))))
        raise SystemExit
    return arguments


def shared_by_all(arguments: argparse.Namespace) -> Line:
    """What decides the figures of all trainings of a command with ``add_training_options``; ``weights``: SHA-256."""
    from marauder.core.files import hash_file

    shared = {name: getattr(arguments, name) for name in ("pictures", "scale", "recipe", "set", "device", "threads")}
    return {**shared, "weights": hash_file(arguments.weights) if arguments.weights else None}


def folder_of(training: Line, output: Path) -> Path:
    """Where the trainings of one seed lie, which share pictures, scale and weights to start from."""
    start = (training["weights"] or "random")[:8]
    return output.resolve() / f"{training['pictures']}_{training['scale']}_{start}" / f"seed_{training['seed']}"


def run_trainings(
    script: str, arguments: argparse.Namespace, keys: Sequence[Line], told: Callable[[Line], str], **given: str | None
) -> list[Line]:
    """``tables.run_missing`` with ``script --one`` for each training, which is told ``folder``, where its seed's
    trainings lie, ``start``, the file of ``--weights`` or ``None``, and what is ``given`` beside them."""
    if arguments.output is None and not arguments.only_report:
        raise SystemExit("--output: name the folder that keeps the trainings")
    start = str(arguments.weights.resolve()) if arguments.weights else None
    weights = shared_by_all(arguments)["weights"]

    def train(key: Line, _: int) -> Line:
        # Arms that start from random weights lie beside those that do not, with the same split.
        folder = folder_of({**key, "weights": weights}, arguments.output)
        return in_process(script, key, folder=str(folder), start=start, **given)

    return run_missing(keys, arguments, train, told)


def relabelled(record: Record, boxes: np.ndarray, classes: np.ndarray) -> Record:
    """The record with these labels, of which nothing more is known: ``boxes`` (N, 4) in pixels, ``classes`` (N,)."""
    return replace(record, boxes=boxes, classes=classes, ignored=np.zeros(len(boxes), bool), box_attributes={})


def epochs_for(pictures: int, scale: Scale) -> int:
    """Epochs over so many pictures that come nearest to the scale's updates, at least one.

    An epoch's last update has the pictures that are left over, which counts where there are few pictures.
    """
    return max(1, round(scale.updates / math.ceil(pictures / scale.batch_size)))


def settings_for(
    kind: type[Settings],
    training: Line,
    scale: Scale,
    data: Path,
    folder: Path,
    epochs: int,
    words: Sequence[str] = (),
) -> Settings:
    """The settings of one training.

    ``training`` is what decides its figures: ``seed``, ``recipe``, ``device``, ``threads`` (0 or ``None``: as the
    machine has), ``set`` (settings of every arm), and ``start``, the detector that it starts from (``None``: random
    weights). ``words``: the arm's own settings, which come before ``set``.
    """
    from marauder.runs.recipes import load_run_settings

    tenth = max(1, epochs // 10)
    given = [
        f"training.epochs={epochs}",
        f"training.batch_size={scale.batch_size}",
        f"training.seed={training['seed']}",
        f"recipe={training['recipe']}",
        f"training.close_mosaic_epochs={tenth}",
        f"training.device={training['device']}",
        f"training.evaluate_every={tenth}",
        *UNMEASURED,
        *([f"training.threads={training['threads']}"] if training["threads"] else []),
        *words,
        *training["set"],
    ]
    return load_run_settings(
        kind,
        None,
        given,
        data=data,
        output=folder,
        model=scale.model,
        image_size=scale.image_size,
        weights=training["start"] or "none",
    )


def train_detector(
    training: Line, scale: Scale, data: Path, folder: Path, words: Sequence[str] = (), epochs: int | None = None
) -> Path:
    """Train a detector as a gated run in ``folder``; returns its best weights. The same call continues after a stop."""
    from marauder.core.clock import Clock
    from marauder.data.reading import read_dataset
    from marauder.runs.gated import run_gated
    from marauder.tasks.detection.settings import DetectionSettings

    if epochs is None:
        epochs = epochs_for(len(read_dataset(data).split("train")), scale)
    settings = settings_for(DetectionSettings, training, scale, data, folder, epochs, words)
    return run_gated(settings, Clock()).weights


def measure_detector(
    weights: Path, dataset: Dataset, split: str, scale: Scale, device: str, attribute: str | None = None
) -> Mapping[str, float]:
    """``map50`` and ``map50_95`` of weights on a split; ``map50 attribute=value`` of an attribute's values, too."""
    from marauder.engine.distributed import choose_device
    from marauder.tasks.detection.evaluate_split import evaluate_split

    result = evaluate_split(weights, dataset, split, choose_device(device), None, scale.image_size).result
    by_value = {
        f"map50 {name}": part.map50
        for name, part in result.slices.items()
        if attribute is not None and name.startswith(f"{attribute}=")
    }
    return {"map50": result.overall.map50, "map50_95": result.overall.map50_95, **by_value}
