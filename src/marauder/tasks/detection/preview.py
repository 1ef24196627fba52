"""What a detector is given to learn from, as two sheets to look at while it trains: labels, and a training batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marauder.core.randomness import stream
from marauder.data.contact_sheets import Tile, colour_of, contact_sheet, tile_of
from marauder.data.records import Record
from marauder.engine.loader import Order
from marauder.engine.settings import TrainingSettings
from marauder.engine.task import SampleKey
from marauder.tasks.detection.training import DetectionTask

LABELS, BATCH = "labels.jpg", "training_batch.jpg"
LONGEST_NAME = 22
SHOWN = 12
"""Pictures of a sheet at most."""


def write_previews(task: DetectionTask, training: TrainingSettings, folder: Path) -> None:
    """``labels.jpg``: training pictures as labelled; ``training_batch.jpg``: the first samples of the first batch, as
    the network is shown them. The same settings give the same sheets; nothing of the training is used up."""
    plan, names = task.plan, task.plan.names
    chosen = label_examples(plan.training, SHOWN, plan.seed)
    if chosen:
        tiles = [tile_of(record, names) for record in chosen]
        title = f"Labels: {len(chosen)} of {len(plan.training):,} training pictures"
        contact_sheet(tiles, folder / LABELS, title=title)
    order = Order(task.training_length, training.batch_size, plan.seed, training.epochs)
    keys = order.batch(0, 0)[:SHOWN]
    if not keys:
        return  # what is wrong with the data is for the gates to say
    batch = task.load(keys, order.context(task, 0)).tensors
    pictures, numbers = batch["images"].numpy(), batch["batch_idx"].numpy()
    tiles = []
    for place, picture in enumerate(pictures):
        mine = numbers == place
        classes = batch["cls"].numpy()[mine, 0].astype(int)
        centre, half = np.split(batch["bboxes"].numpy()[mine] * picture.shape[0], 2, axis=1)
        boxes = np.concatenate([centre - half / 2, centre + half / 2], axis=1)
        labels, colours = [names[number] for number in classes], [colour_of(number) for number in classes]
        tiles.append(Tile(picture, _caption(task, keys[place]), boxes, labels, colours))
    title = f"What the network is shown: {len(tiles)} samples of the first batch"
    contact_sheet(tiles, folder / BATCH, title=title)


def _caption(task: DetectionTask, key: SampleKey) -> str:
    """The name of a sample's first picture, its middle left out where it is long."""
    name = Path(task.describe_batch([key])[0]).stem
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2 - 1]}…{name[-LONGEST_NAME // 2 :]}"


def label_examples(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """Up to ``count`` records with boxes, drawn by ``seed``, each group (clip) once before any comes twice."""
    order = stream(seed, "label examples").permutation(len(records)).tolist()
    held = [records[place] for place in order if len(records[place].boxes)]
    first: dict[str, Record] = {}
    for record in held:
        first.setdefault(record.group, record)
    once = list(first.values())
    return [*once, *(record for record in held if first[record.group] is not record)][:count]
