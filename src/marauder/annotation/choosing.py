"""Which pictures go out: picks of step 3, a list, or all without labels; checked, named, some drawn twice."""

from __future__ import annotations

import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from marauder.annotation.batch import Batch, BatchItem
from marauder.annotation.settings import AnnotationSettings
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, hash_file, located_path, read_json, write_bytes
from marauder.core.progress import Progress
from marauder.core.randomness import stream
from marauder.data.picture_files import Header, PictureError, find_pictures, load_rgb, load_small_grey, read_header
from marauder.data.records import Dataset, Record
from marauder.selection.price import PriceSettings, boxes_of_a_picture

SELECTION_FILE = "selection.json"
UPRIGHT = "upright"
NAME_LENGTH = 60


@dataclass(frozen=True)
class Chosen:
    """A picture that goes out. ``estimated_boxes``: of step 3, or ``None``; ``sha256``: of ``record.picture``."""

    record: Record
    estimated_boxes: float | None = None
    sha256: str = ""
    header: Header | None = None


@dataclass(frozen=True)
class Choice:
    """What goes out and what does not. ``names``: class names; ``notes``: what was left out and why, in words."""

    chosen: tuple[Chosen, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def choose(settings: AnnotationSettings, dataset: Dataset, earlier: Sequence[Batch], clock: Clock) -> Choice:
    """The pictures of a new batch; none where all went out with ``earlier`` ones, whose pictures stay out of this one,
    but for those that came back without a usable answer, where ``settings.new`` asks for another batch.

    Raises ``UserError`` when there is nothing to send at all, for keys that name no picture, and without class names.
    """
    names = dataset.names
    notes: list[str] = []
    if settings.selection is not None:
        wanted, stated = _picks(settings.selection, dataset)
        names = names or stated
    elif settings.pictures is not None:
        wanted = _listed(settings.pictures, dataset)
    else:
        wanted = [Chosen(record) for record in dataset if not record.labelled]
    if not names:
        raise UserError(f"{settings.data}: has no class names; name a data.yaml that lists them under names:")
    # Sent twice is paid twice.
    out = {item.key for batch in earlier for item in batch.items if not (settings.new and _came_back(item, batch))}
    left = [one for one in wanted if one.record.key not in out]
    if len(left) < len(wanted):
        notes.append(f"{len(wanted) - len(left)} pictures were sent with an earlier batch and are not in this one")
    checked = _checked(left, notes, clock)
    # Where all that was wanted went out before, an empty choice is the answer, and the caller says so.
    if not checked and (left or not wanted):
        why = f": {'; '.join(notes)}" if notes else ": every picture is labelled"
        raise UserError(f"{settings.selection or settings.pictures or settings.data}: nothing to send{why}")
    return Choice(tuple(checked), names, tuple(notes))


def _came_back(item: BatchItem, batch: Batch) -> bool:
    return item.file in batch.back or item.second_file in batch.back


def _picks(folder: Path, dataset: Dataset) -> tuple[list[Chosen], tuple[str, ...]]:
    file = folder / SELECTION_FILE if folder.is_dir() else folder
    if not file.is_file():
        raise UserError(f"{file}: no such file; name the folder that `marauder select` wrote")
    content = read_json(file)
    try:
        rows = [
            (str(row["key"]), located_path(row["picture"], file.parent), row.get("estimated_boxes"))
            for row in content["picks"]
        ]
        names = tuple(str(name) for name in content["names"])
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{file}: not a selection ({error!r}); run `marauder select` again") from None
    places = {os.path.realpath(record.picture): record for record in dataset}
    keys = {record.key: record for record in dataset}
    chosen = []
    for key, picture, boxes in rows:
        known = places.get(os.path.realpath(picture))
        # The data set may have moved since; the name guards against a key that means another picture here.
        if known is None and key in keys and keys[key].picture.name == picture.name:
            known = keys[key]
        if known is None:
            # A picture from another pool under a key that is taken: both must be distinguishable in what comes back.
            known = _new_record(picture, key if key not in keys else f"{key}-{_digest(str(picture))[:6]}")
        chosen.append(Chosen(known, None if boxes is None else float(boxes)))
    return chosen, names


def _listed(file: Path, dataset: Dataset) -> list[Chosen]:
    """The pictures that a text file or a folder names: record keys or paths, one a line."""
    if file.is_dir():
        lines = {number: str(path) for number, path in enumerate(find_pictures(file), 1)}
    elif file.is_file():
        lines = _lines(file)
    else:
        raise UserError(f"{file}: no such file; write one record key or picture path a line")
    keys = {record.key: record for record in dataset}
    places = {os.path.realpath(record.picture): record for record in dataset}
    chosen: dict[str, Chosen] = {}
    for number, line in lines.items():
        beside = os.path.realpath(file.parent / line)
        # Lists are written by hand: paths count from the current folder or from the list's own.
        record = keys.get(line) or places.get(os.path.realpath(line)) or places.get(beside)
        if record is None and not file.is_dir() and not Path(line).is_file():
            raise UserError(
                f"{file}:{number}: {line!r} is neither a record of the data set nor a picture; correct the line"
            )
        record = record or _new_record(Path(line), f"{Path(line).stem}-{_digest(line)[:6]}")
        chosen.setdefault(record.key, Chosen(record))
    return list(chosen.values())


def _lines(file: Path) -> dict[int, str]:
    """The lines of a list that are not blank, by number from 1."""
    try:
        # Windows editors put a byte order mark in front.
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text; save it as UTF-8, one record key or picture path a line") from None
    return {number: line.strip() for number, line in enumerate(text.splitlines(), 1) if line.strip()}


def _new_record(picture: Path, key: str) -> Record:
    """A picture that the data set does not hold yet; its size is read when it is checked."""
    return Record(key, picture, 1, 1, labelled=False)


def _checked(wanted: Iterable[Chosen], notes: list[str], clock: Clock) -> list[Chosen]:
    """Those that can be decoded, each content once, with size and checksum; the others are noted."""
    wanted = list(wanted)
    kept: list[Chosen] = []
    of_content: dict[str, str] = {}
    with Progress("checking pictures", len(wanted)) as progress:
        for one in wanted:
            clock.check()
            record = one.record
            progress.advance()
            try:
                header = read_header(record.picture)
                load_small_grey(record.picture, 16, 16)  # reads to the end: a cut file cannot be labelled
            except PictureError as error:
                notes.append(f"{record.picture}: {error.detail}; left out")
                continue
            digest = hash_file(record.picture)
            if digest in of_content:
                notes.append(f"{record.key}: the same picture as {of_content[digest]}; sent once")
                continue
            of_content[digest] = record.key
            sized = Record(record.key, record.picture, header.width, header.height, group=record.group, labelled=False)
            kept.append(Chosen(sized, one.estimated_boxes, digest, header))
    return kept


def batch_items(choice: Choice, settings: AnnotationSettings, folder: Path) -> tuple[list[BatchItem], dict[str, Path]]:
    """The items of a batch, without pre-labels, and the file to pack of each key.

    Pictures that are stored turned (EXIF) go out upright, from ``folder/upright``: tools disagree on whether to turn
    them. The overlap is drawn by key, so that it does not depend on the order of the pictures.
    """
    share, total = settings.overlap_share, len(choice.chosen)
    overlap = min(total, max(settings.least_overlap, round(share * total))) if share else 0
    draws = {one.record.key: float(stream(settings.seed, "overlap", one.record.key).random()) for one in choice.chosen}
    twice = set(sorted(draws, key=lambda key: (draws[key], key))[:overlap])
    taken: set[str] = set()
    items, sources = [], {}
    for one in choice.chosen:
        record = one.record
        source, digest, suffix = record.picture, one.sha256, record.picture.suffix.lower() or ".jpg"
        if one.header is not None and one.header.orientation != 1:
            source, suffix = folder / UPRIGHT / f"{one.sha256[:20]}.png", ".png"
            # Named by content and written atomically: one that is there from before a kill is whole.
            if not source.is_file():
                write_bytes(source, _upright(record.picture))
            # The delivery is compared with what was sent, not with the file it was made from.
            digest = hash_file(source)
        file = _unique_name(_slug(record.key), record.key, suffix, taken)
        # Nothing about the second name says which picture it is: the second annotator must not know.
        second = _unique_name("second", f"second/{settings.seed}/{record.key}", suffix, taken)
        sources[record.key] = source
        size = (record.width, record.height)
        items.append(
            BatchItem(
                record.key,
                record.picture.absolute(),
                file,
                second if record.key in twice else "",
                digest,
                size,
                estimated_boxes=one.estimated_boxes or 0.0,
            )
        )
    return items, sources


def expected_boxes(choice: Choice, dataset: Dataset, prices: PriceSettings) -> Mapping[str, float | None]:
    """Boxes thought to be in each picture, by key: step 3's estimate, else what ``boxes_of_a_picture`` says."""
    usual = boxes_of_a_picture([record for record in dataset if record.labelled], prices)
    return {one.record.key: one.estimated_boxes if one.estimated_boxes is not None else usual for one in choice.chosen}


def identity_of(choice: Choice) -> list[Any]:
    """What of the pictures decides the batch's id."""
    return [[one.record.key, one.sha256, one.estimated_boxes] for one in choice.chosen]


def _upright(picture: Path) -> bytes:
    """The picture turned as it is displayed, without loss, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(load_rgb(picture))).save(buffer, format="PNG")
    return buffer.getvalue()


def _slug(key: str) -> str:
    """The key as a short name that no tool and no disk changes: ASCII letters, digits, dots and dashes."""
    plain = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:NAME_LENGTH].strip("-").lower() or "picture"


def _unique_name(stem: str, identity: str, suffix: str, taken: set[str]) -> str:
    digest, length = _digest(identity), 8
    while f"{stem}-{digest[:length]}" in taken:
        length += 4
    name = f"{stem}-{digest[:length]}"
    taken.add(name)
    return f"{name}{suffix}"


def _digest(text: str) -> str:
    # Names on disk that are not UTF-8 reach Python as lone surrogates, which plain UTF-8 refuses.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
