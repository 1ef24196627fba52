"""The record of a batch, ``<outbox>/<batch id>/batch.json``: which pictures went out under which names, and its state.

States: ``writing`` (an export was cut short, or runs now), ``open`` (packages are there, a delivery is waited for),
``imported`` (nothing is waited for: all answers are merged, but for pictures that went out again with a later batch),
``partly`` (the good part was merged, the rest was sent back).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, located_path, portable_path, read_json, write_json
from marauder.core.plain import PlainMapping

RECORD = "batch.json"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
FORMAT = 1
State = Literal["writing", "open", "partly", "imported"]
WAITING: tuple[State, ...] = ("open", "partly")
"""States in which a delivery is waited for."""


@dataclass(frozen=True, eq=False)
class BatchItem:
    """One picture that went out.

    ``key``: its record in the data set; ``picture``: the file it was taken from. ``file``: its name in the packages;
    ``second_file``: its other name in the package of the second annotator, "" where it has none. ``sha256``, ``size``
    (width, height as displayed): of the picture as sent. ``boxes`` float64 (N, 4) in pixels, ``classes`` int64 (N,),
    ``scores`` float64 (N,): the pre-labels; those of the second package went out without any. ``estimated_boxes``: how
    many boxes it is thought to hold.
    """

    key: str
    picture: Path
    file: str
    second_file: str
    sha256: str
    size: tuple[int, int]
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    estimated_boxes: float = 0.0

    @property
    def overlap(self) -> bool:
        """Whether two annotators label it."""
        return bool(self.second_file)


@dataclass(frozen=True)
class PackageRecord:
    """One zip. ``part``: ``first`` (all pictures) or ``second`` (the overlap, for another annotator). ``file``: its
    name in the batch's folder."""

    format: str
    part: Literal["first", "second"]
    file: str
    sha256: str
    bytes: int
    pictures: int


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch. ``data``: the data set's absolute path. ``model``: SHA-256 of the pre-labelling detector, or "" without
    one. ``price``: of ``Price.as_dict``. ``history``: what happened to it, oldest first. ``answered``: file names
    (of either package) whose answers were merged; ``back``: those that a delivery answered badly or not at all, and
    that nobody has answered since: their pictures may go out again with another batch."""

    id: str
    data: str
    names: tuple[str, ...]
    items: tuple[BatchItem, ...]
    formats: tuple[str, ...]
    created: str
    state: State = "writing"
    model: str = ""
    packages: tuple[PackageRecord, ...] = ()
    price: PlainMapping = field(default_factory=dict)
    history: tuple[PlainMapping, ...] = ()
    answered: tuple[str, ...] = ()
    back: tuple[str, ...] = ()

    def expected(self) -> dict[str, tuple[int, int]]:
        """Every file name that went out, those of the second package too, and its size."""
        sizes = {item.file: item.size for item in self.items}
        return sizes | {item.second_file: item.size for item in self.items if item.second_file}

    def by_file(self) -> dict[str, BatchItem]:
        """The item behind every file name that went out."""
        found = {item.file: item for item in self.items}
        return found | {item.second_file: item for item in self.items if item.second_file}


def write_batch(outbox: Path, batch: Batch) -> Path:
    """Write the record atomically and return the batch's folder."""
    folder = outbox / batch.id
    items = [
        {**vars(item), "size": list(item.size), "picture": portable_path(item.picture, folder)} for item in batch.items
    ]
    packages = [vars(package) for package in batch.packages]
    data = portable_path(Path(batch.data), folder)
    write_json(folder / RECORD, {**vars(batch), "data": data, "items": items, "packages": packages, "format": FORMAT})
    return folder


def read_batch(folder: Path) -> Batch:
    """The batch in ``folder``. Raises ``DamagedFileError`` when its record cannot be trusted."""
    content = read_json(folder / RECORD)
    try:
        if content["format"] != FORMAT:
            raise DamagedFileError(
                f"{folder / RECORD}: format {content['format']!r}, this version reads {FORMAT}; use the version that "
                "wrote it"
            )
        return Batch(
            id=str(content["id"]),
            data=str(located_path(content["data"], folder)),
            names=tuple(content["names"]),
            items=tuple(_item(row, folder) for row in content["items"]),
            formats=tuple(content["formats"]),
            created=str(content["created"]),
            state=content["state"],
            model=str(content["model"]),
            packages=tuple(PackageRecord(**row) for row in content["packages"]),
            price=content["price"],
            history=tuple(content["history"]),
            # Records from before these two existed lack them.
            answered=tuple(content.get("answered", ())),
            back=tuple(content.get("back", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{folder / RECORD}: not the record of a batch ({type(error).__name__}: {error}); restore it, or move the "
            "folder away and export again"
        ) from error


def list_batches(outbox: Path) -> list[Batch]:
    """All batches of an outbox, oldest first."""
    batches = [read_batch(path.parent) for path in outbox.glob(f"*/{RECORD}")]
    return sorted(batches, key=lambda batch: (batch.created, batch.id))


def find_batch(outbox: Path, batch_id: str | None = None) -> Batch | None:
    """The batch of that id, or the newest that waits for a delivery; ``None`` when none does.

    Raises ``UserError`` for an id that is not in the outbox.
    """
    if batch_id is not None:
        # The id comes from a command line and must not lead out of the outbox.
        if Path(batch_id).name != batch_id or not (outbox / batch_id / RECORD).is_file():
            known = ", ".join(batch.id for batch in list_batches(outbox)) or "none"
            raise UserError(f"{outbox}: no batch {batch_id!r} (there are: {known})")
        return read_batch(outbox / batch_id)
    waiting = [batch for batch in list_batches(outbox) if batch.state in WAITING]
    return waiting[-1] if waiting else None


def set_state(outbox: Path, batch_id: str, state: State, event: PlainMapping) -> Batch:
    """Write a batch's new state with what brought it about, and return the batch."""
    batch = read_batch(outbox / batch_id)
    changed = replace(batch, state=state, history=(*batch.history, event))
    write_batch(outbox, changed)
    return changed


def sent_again(batch: Batch, known: Iterable[Batch]) -> frozenset[str]:
    """File names of ``batch`` whose pictures went out with a later one of ``known``: the answer is awaited there."""
    # A batch that is still being written has asked nobody yet.
    later = [one for one in known if (one.created, one.id) > (batch.created, batch.id) and one.state != "writing"]
    keys = {item.key for one in later for item in one.items}
    return frozenset(file for file, item in batch.by_file().items() if item.key in keys)


def close_settled(outbox: Path) -> None:
    """Close the batches that wait for nothing but pictures which went out again with a later batch. Call under the
    outbox's lock."""
    known = list_batches(outbox)
    for batch in known:
        elsewhere = sent_again(batch, known)
        # Without pictures that went elsewhere, the import itself closes a batch.
        if batch.state in WAITING and elsewhere and not batch.expected().keys() - elsewhere - set(batch.answered):
            rest = len(elsewhere - set(batch.answered))
            set_state(outbox, batch.id, "imported", {"event": "closed", "sent_again": rest})


def _item(row: PlainMapping, folder: Path) -> BatchItem:
    width, height = row["size"]
    return BatchItem(
        key=str(row["key"]),
        picture=located_path(row["picture"], folder),
        file=str(row["file"]),
        second_file=str(row["second_file"]),
        sha256=str(row["sha256"]),
        size=(int(width), int(height)),
        boxes=_array(row["boxes"]).reshape(-1, 4),
        classes=np.array(row["classes"], np.int64),
        scores=_array(row["scores"]),
        estimated_boxes=float(row["estimated_boxes"]),
    )


def _array(values: Sequence[Any]) -> np.ndarray:
    return np.array(values, np.float64)
