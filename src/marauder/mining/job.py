"""Mining hard negatives, done: the detector looks at training and unlabelled pictures, plainly and flipped.

What it saw is kept picture by picture in ``looked.jsonl``, so that a mining that was killed continues. What it means is
decided by ``mining.hard_negatives``. Left in the folder: ``hard_negatives.json``, what training takes, and
``suspected_missing.json``, what a person should look at.

Pictures without labels: a detection there is as likely right as wrong, so none becomes a negative, unless the
picture is declared to be empty (attribute ``empty``: true). The others' most certain ones are listed for labelling.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import append_line, fingerprint, read_lines
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.data.duplicates import COPY_HEIGHT, COPY_WIDTH, PictureHash, hash_grey
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Detections, Record
from marauder.evaluation.matching import match
from marauder.mining.hard_negatives import (
    HardNegative,
    Looked,
    Suspicion,
    Trust,
    aged,
    judge_picture,
    off_suspected,
    sample,
    settle,
    trusted_scores,
    without_copies,
)
from marauder.mining.hard_negatives_file import (
    SUSPECTED_FILE,
    MiningSummary,
    read_negatives,
    read_reviewed,
    write_mining,
)
from marauder.mining.settings import MiningSettings
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import Predictor
from marauder.prediction.records import Pictures as PictureSource
from marauder.prediction.records import Prediction, detect
from marauder.prediction.settings import MEASURING

log = logging.getLogger("marauder")
LOOKED_FILE = "looked.jsonl"
BLOCK = 64
LISTED_UNLABELLED = 200
EMPTY_ATTRIBUTE = "empty"


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is looked at. ``training``: where errors come from; ``held_out``: what scores are judged on."""

    training: tuple[Record, ...]
    held_out: tuple[Record, ...]
    unlabelled: tuple[Record, ...]

    @property
    def all(self) -> tuple[Record, ...]:
        """In this order."""
        return (*self.training, *self.held_out, *self.unlabelled)


def pictures_of(dataset: Dataset, settings: MiningSettings) -> Pictures:
    """The pictures of a data set with the splits train and val, and those of ``settings.unlabelled``.

    Unlabelled pictures of val and test are left alone: they would tell of what is measured on.
    """
    by_split = {name: [r for r in dataset if r.split == name and r.labelled] for name in ("train", "val")}
    unlabelled = [record for record in dataset if not record.labelled and record.split not in ("val", "test")]
    if settings.unlabelled is not None:
        known = {record.picture.resolve() for record in dataset}
        more = read_dataset(settings.unlabelled)
        unlabelled += [record for record in more if record.picture.resolve() not in known and not len(record.boxes)]
    return Pictures(tuple(by_split["train"]), tuple(by_split["val"]), tuple(unlabelled))


def declared(dataset: Dataset) -> str:
    """Fingerprint of what a mining reads of a data set beside pictures and labels: clips, pictures declared empty."""
    return fingerprint([[one.key, one.group, one.attributes.get(EMPTY_ATTRIBUTE) is True] for one in dataset])


def mine(
    weights: Path,
    dataset: Dataset,
    settings: MiningSettings,
    folder: Path,
    device: torch.device,
    clock: Clock,
    *,
    image_size: int | None = None,
    earlier: Path | None = None,
    seed: int = 0,
) -> MiningSummary:
    """Mine with the detector in ``weights``, or continue with it. ``earlier``: hard_negatives.json of the last mining.

    Raises ``Interrupted`` with all pictures kept that were looked at, ``UserError`` for weights of other classes.
    """
    predictor = open_predictor(weights, device, image_size)
    if not predictor.number_as(dataset.names):
        raise UserError(
            f"{weights} knows the classes {', '.join(predictor.names)}; the data set has {', '.join(dataset.names)}: "
            "mine with a detector of the same classes"
        )
    pictures = pictures_of(dataset, settings)
    size = predictor.image_size
    looked = _look(predictor, pictures, folder / LOOKED_FILE, clock)
    # On val, which was not trained on: on its own training pictures a detector is right too often to be believed.
    trusted = _trusted(looked, pictures, dataset.names, settings.precision)
    unsure = [name for name, reached in zip(dataset.names, trusted.reached, strict=True) if not reached]
    if unsure:
        log.warning(
            "no score makes %s right in %.0f %% on val (mining.precision): "
            "their detections count only from a high score, written in %s",
            ", ".join(unsure),
            100 * settings.precision,
            SUSPECTED_FILE,
        )
    errors, suspicions = _judge(looked, pictures, dataset.names, trusted.scores, settings)
    hashes = _crop_hashes(errors, pictures, size, clock)
    fresh = without_copies(errors, hashes, settings.most_of_a_clip)
    pool = aged(read_negatives(earlier), fresh, settings.most_age, suspicions)
    pool = sample(pool, settings.count, seed)
    listed = _of_unlabelled(looked, pictures, dataset.names)
    return write_mining(
        folder, pool, suspicions, listed, predictor.digest, dataset.names, len(errors), trusted, settings.precision
    )


class _Block:
    """The scaled pictures of a few records, decoded once for both looks; flipped where asked."""

    def __init__(self, store: PictureSource, flipped: bool = False, known: dict[int, np.ndarray] | None = None) -> None:
        self.store, self.flipped = store, flipped
        self.known = known if known is not None else {}

    def get(self, index: int) -> np.ndarray:
        """As ``PictureStore.get``."""
        if index not in self.known:
            self.known[index] = self.store.get(index)
        picture = self.known[index]
        return np.ascontiguousarray(picture[:, ::-1]) if self.flipped else picture


def _look(predictor: Predictor, pictures: Pictures, journal: Path, clock: Clock) -> dict[int, Looked]:
    """Every readable picture by its place in ``pictures.all``; those that a former process looked at are taken over."""
    records = pictures.all
    header = {"weights": predictor.digest, "image_size": predictor.image_size, "records": len(records)}
    lines = read_lines(journal)
    # What another detector saw, or this one at another size, says nothing here.
    if not lines or lines[0] != header:
        journal.unlink(missing_ok=True)
        append_line(journal, header)
        lines = [header]
    places = {(record.key, str(record.picture)): place for place, record in enumerate(records)}
    looked: dict[int, Looked] = {}
    done: set[int] = set()
    for line in lines[1:]:
        place = places.get((line["key"], line["picture"]))
        if place is not None:
            done.add(place)
            if line["plain"] is not None:
                looked[place] = Looked(records[place], _detections(line["plain"]), _detections(line["flipped"]))
    waiting = [place for place in range(len(records)) if place not in done]
    # Keeps nothing: a block's pictures are decoded once, for both looks.
    store = PictureStore(records, predictor.image_size, None, 0)
    with Progress("looking for hard negatives", len(records), already_done=len(done)) as progress:
        for start in range(0, len(waiting), BLOCK):
            block = waiting[start : start + BLOCK]
            for place, plain, flipped in _look_at(predictor, records, store, block, clock):
                key = {"key": records[place].key, "picture": str(records[place].picture)}
                append_line(journal, {**key, "plain": plain, "flipped": flipped})
                if plain is not None and flipped is not None:
                    looked[place] = Looked(records[place], _detections(plain), _detections(flipped))
            progress.advance(len(block))
    return looked


Rows = list[list[float]]


def _look_at(
    predictor: Predictor, records: Sequence[Record], store: PictureStore, block: list[int], clock: Clock
) -> Iterator[tuple[int, Rows | None, Rows | None]]:
    def stops() -> bool:
        return clock.stop_reason() is not None

    # Suppressed as in evaluation, but nothing that no threshold of a mining can reach.
    settings = replace(MEASURING, confidence=0.01)
    kept = _Block(store)
    both = []
    for view in (kept, _Block(store, True, kept.known)):
        found = detect(predictor, records, view, block, settings, stops)
        if found is None:
            raise Interrupted(clock.stop_reason() or "stopped while looking for hard negatives")
        both.append(found)
    for plain, flipped in zip(*both, strict=True):
        if plain.set_aside:
            log.warning("set aside: %s", plain.set_aside)
        yield plain.index, _rows(plain, None), _rows(flipped, records[plain.index].width)


def _rows(prediction: Prediction, width: int | None) -> Rows | None:
    """Detections as rows x0 y0 x1 y1 score class; ``width``: of a picture that was flipped, in pixels."""
    found = prediction.detections
    if found is None:
        return None
    boxes = found.boxes.copy()
    if width is not None:
        # Mirrored back: what was the right edge is the left one.
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    # Rounded for the journal and taken up so here as well: a mining that continues must judge by the same numbers.
    rows: Rows = np.concatenate([boxes.round(2), found.scores[:, None].round(5), found.classes[:, None]], 1).tolist()
    return rows


def _detections(rows: Rows) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _trusted(looked: Mapping[int, Looked], pictures: Pictures, names: Sequence[str], precision: float) -> Trust:
    first = len(pictures.training)
    held_out = [looked[place] for place in range(first, first + len(pictures.held_out)) if place in looked]
    matches = match([one.record for one in held_out], [one.detections for one in held_out], names)
    return trusted_scores(matches, precision)


def _judge(
    looked: Mapping[int, Looked],
    pictures: Pictures,
    names: Sequence[str],
    trusted: np.ndarray,
    settings: MiningSettings,
) -> tuple[list[HardNegative], list[Suspicion]]:
    """Errors and suspicions on training pictures, and on unlabelled ones that are declared to be empty."""
    first_unlabelled = len(pictures.training) + len(pictures.held_out)
    errors: list[HardNegative] = []
    suspicions: list[Suspicion] = []
    for place in sorted(looked):
        record = looked[place].record
        declared = place >= first_unlabelled and record.attributes.get(EMPTY_ATTRIBUTE) is True
        if place < len(pictures.training) or declared:
            found, doubted = judge_picture(looked[place], names, trusted, settings.least_score)
            errors += found
            suspicions += doubted
    groups = {record.key: record.group for record in pictures.all}
    settled, suspicions = settle(suspicions, read_reviewed(settings.reviewed), groups)
    # A person said of one class that it is not there; another may still be suspected at that place.
    return [*errors, *off_suspected(settled, suspicions)], suspicions


def _crop_hashes(
    errors: Sequence[HardNegative], pictures: Pictures, size: int, clock: Clock
) -> list[PictureHash | None]:
    """The hash of what each error's box shows; ``None`` where the picture cannot be read any more."""
    records = pictures.all
    places = {(record.key, str(record.picture)): place for place, record in enumerate(records)}
    store = PictureStore(records, size, None, 0)
    by_picture: dict[int, list[int]] = {}
    for number, one in enumerate(errors):
        by_picture.setdefault(places[one.key, one.picture], []).append(number)
    hashes: list[PictureHash | None] = [None] * len(errors)
    for place, numbers in by_picture.items():
        clock.check()
        try:
            grey = cv2.cvtColor(store.get(place), cv2.COLOR_RGB2GRAY)
        except UnreadablePictureError:
            continue
        # From pixels of the picture to those of the scaled one in the store.
        gain = grey.shape[1] / records[place].width
        for number in numbers:
            hashes[number] = _crop_hash(grey, np.array(errors[number].box) * gain)
    return hashes


def _crop_hash(grey: np.ndarray, box: np.ndarray) -> PictureHash | None:
    height, width = grey.shape
    # A pixel each way at least: detections reach over the border, and some are thin.
    x0, y0 = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
    x1, y1 = np.clip(np.ceil(box[2:]), (x0 + 1, y0 + 1), (width, height)).astype(int)
    return hash_grey(cv2.resize(grey[y0:y1, x0:x1], (COPY_WIDTH, COPY_HEIGHT), interpolation=cv2.INTER_AREA))


def _of_unlabelled(looked: Mapping[int, Looked], pictures: Pictures, names: Sequence[str]) -> list[Plain]:
    """The most certain detections on pictures without labels: what to send to annotators first."""
    first = len(pictures.training) + len(pictures.held_out)
    rows = []
    for place in range(first, len(pictures.all)):
        one = looked.get(place)
        if one is None or one.record.attributes.get(EMPTY_ATTRIBUTE) is True:
            continue
        for box, score, number in zip(one.detections.boxes, one.detections.scores, one.detections.classes, strict=True):
            row = {"key": one.record.key, "picture": str(one.record.picture), "box": box.tolist()}
            rows.append({**row, "predicted": names[int(number)], "score": float(score)})
    return sorted(rows, key=lambda row: (-row["score"], row["key"]))[:LISTED_UNLABELLED]
