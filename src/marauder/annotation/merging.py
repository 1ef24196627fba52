"""Accepted answers become a new version of the data set, and the old one stays whole until the new one is.

``<output>/versions/NNNN/`` is a complete data set with its pin and the log of what changed; ``<output>/current`` points
to the newest, and ``data.yaml``, ``images/`` … in ``<output>`` lead there. A version is written under a hidden name,
renamed when it is complete, and the pointer is replaced in one step: whatever kills the process, a reader sees one
version or the other, and the same call continues.

What is merged is a function of ``settings.data`` and of all answers accepted so far, not of the order of events, so
that doing it again changes nothing.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marauder.annotation.batch import Batch
from marauder.annotation.checking import Taken
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import flush_directory, read_json, to_plain, write_json, write_text
from marauder.core.plain import Plain, PlainMapping
from marauder.data.formats.assembling import group_for_key
from marauder.data.manifests.journal import FileJournal
from marauder.data.manifests.pinning import PIN_FILE, DataPin, pin
from marauder.data.records import Dataset, Record
from marauder.data.splits import leaking_groups
from marauder.data.stored import RECORDS_FILE, STATE_FILE
from marauder.data.writers import DATA_FILE, write_yolo

VERSIONS, CURRENT, CHANGES = "versions", "current", "change_log.json"
LINKED = ("images", "labels", RECORDS_FILE, STATE_FILE, PIN_FILE, DATA_FILE)
"""What is in the output folder itself, as links into the current version; ``data.yaml`` last."""
ANSWERS = "answers.json"
TRAIN = "train"
CHOSEN_ANSWER = "first"
"""Of a picture that two people labelled the answer of this package is taken; the other one's where it has none."""


@dataclass(frozen=True)
class Version:
    """``number`` from 1; ``folder``: ``versions/NNNN``; ``data``: the output's ``data.yaml``; ``new``: whether this
    call made it, or its content was there already."""

    number: int
    folder: Path
    data: Path
    fingerprint: str
    new: bool


def store_answers(folder: Path, answers: Mapping[str, tuple[str, str, Taken]], delivery: str) -> None:
    """Add answers to those of a batch, in ``folder/answers.json``; one for the same file replaces the earlier.

    ``answers``: file name in the package to (record key, part, answer). ``delivery``: fingerprint of where they come
    from.
    """
    known = stored_answers(folder)
    for file, (key, part, taken) in answers.items():
        known[file] = {
            "key": key,
            "part": part,
            "delivery": delivery,
            "boxes": taken.boxes,
            "classes": taken.classes,
            "ignored": taken.ignored,
            "attributes": taken.attributes,
        }
    write_json(folder / ANSWERS, {"format": 1, "answers": dict(sorted(known.items()))})


def stored_answers(folder: Path) -> dict[str, Plain]:
    """The answers of a batch as stored; by file name in the package."""
    if not (folder / ANSWERS).is_file():
        return {}
    answers: dict[str, Plain] = read_json(folder / ANSWERS)["answers"]
    return answers


def as_taken(row: PlainMapping) -> Taken:
    """A stored answer as arrays."""
    columns = {name: _column(values) for name, values in row["attributes"].items()}
    boxes = np.array(row["boxes"], np.float64).reshape(-1, 4)
    return Taken(boxes, np.array(row["classes"], np.int64), np.array(row["ignored"], bool), columns)


def chosen_answers(rows: Mapping[str, PlainMapping]) -> dict[str, Taken]:
    """The one answer of each picture that is merged (``CHOSEN_ANSWER``), by record key."""
    chosen: dict[str, Taken] = {}
    # The chosen one last, so that it replaces the other.
    for wanted in ("second", "first") if CHOSEN_ANSWER == "first" else ("first", "second"):
        chosen |= {row["key"]: as_taken(row) for row in rows.values() if row["part"] == wanted}
    return chosen


def merged_dataset(base: Dataset, batches: Sequence[tuple[Batch, Mapping[str, Taken]]]) -> Dataset:
    """``base`` with the answers of all batches (oldest first) in it.

    A picture stays on its group's side of the split: where the group is in val or test it goes there, else to
    train. One without boxes becomes a labelled negative. Raises ``UserError`` when the base has not the batch's classes
    or when its groups are on two sides.
    """
    records = {record.key: record for record in base}
    side = _sides(base)
    # In the order in which batches went out: a later answer replaces an earlier one.
    for batch, answers in batches:
        lookup = _class_lookup(base, batch)
        items = {item.key: item for item in batch.items}
        for key, taken in answers.items():
            item = items[key]
            record = records.get(key) or Record(key, item.picture, *item.size, group=group_for_key(key, None))
            if (record.width, record.height) != item.size:
                raise UserError(
                    f"{record.picture}: is {record.width}x{record.height} now, {item.size[0]}x{item.size[1]} when it "
                    f"went out with batch {batch.id}; restore the picture, then import again"
                )
            # Remembered for the group: its next picture must not land on another side.
            split = side.setdefault(record.group, TRAIN)
            classes = lookup[taken.classes] if len(taken.classes) else taken.classes
            records[key] = replace(
                record,
                boxes=taken.boxes,
                classes=classes,
                ignored=taken.ignored,
                box_attributes=taken.attributes,
                split=split,
                labelled=True,
            )
    merged = replace(base, records=tuple(records.values()), problems=())
    # Asked of the result: the base may leak without any answer, and a version must not carry that on.
    leaking = leaking_groups(merged)
    if leaking:
        first = next(iter(leaking))
        raise UserError(
            f"{base.source}: {len(leaking)} groups are in two splits, {first} for one "
            f"({', '.join(leaking[first])}); split the data set again by groups, then import again"
        )
    return merged


def publish(
    output: Path, dataset: Dataset, log: PlainMapping, copy_pictures: bool = False, clock: Clock | None = None
) -> Version:
    """Make ``dataset`` the current version of ``output``, unless it is already. Killed anywhere, call it again.

    ``log``: what goes into the version's change log beside the counts. The caller holds the folder's lock. Raises
    ``Interrupted`` when the clock says so, ``UserError`` for an output folder with something else in it.
    """
    _claim(output)
    latest = latest_version(output)
    number = (latest[0] if latest else 0) + 1
    versions = output / VERSIONS
    draft = versions / f".{number:04d}.partial"
    for other in versions.glob(".*.partial"):
        # One that was being removed when it was killed has no state any more; what else is there is resumed.
        if other.is_file():
            other.unlink()  # a list of changes that a kill cut short
        elif other != draft or not (draft / STATE_FILE).is_file():
            shutil.rmtree(other)
    # Goes on in a draft that a kill left: what is there already is not written again.
    write_yolo(dataset, draft, "copy" if copy_pictures else "link", clock, label="merging")
    # The journal of the output, not of the draft: pictures that stay from version to version are hashed once.
    found = pin(draft / DATA_FILE, clock, FileJournal.of("hashes", output))
    previous = DataPin.read(latest[1]) if latest else None
    if latest and previous is not None and previous.fingerprint == found.fingerprint:
        shutil.rmtree(draft)
        # A kill may have come between the rename and the pointer.
        _point(output, latest[0])
        return Version(*latest, output / DATA_FILE, previous.fingerprint, new=False)
    found = replace(found, source=str(output / DATA_FILE), version=f"{number:04d}")
    # Pin and log belong into the draft: once it has its name, a version is complete.
    found.write(draft)
    write_json(draft / CHANGES, _change_log(number, dataset, found, previous, latest, log))
    folder = versions / f"{number:04d}"
    draft.rename(folder)
    # On disk before the pointer: after a power loss it must not name a folder that is not there.
    flush_directory(versions)
    _point(output, number)
    # Last, and from all logs anew: it is for people, and a kill before it costs nothing.
    _write_history(versions)
    return Version(number, folder, output / DATA_FILE, found.fingerprint, new=True)


def latest_version(output: Path) -> tuple[int, Path] | None:
    """Number and folder of the newest complete version; a version's folder has its name only when it is complete."""
    found = [path for path in (output / VERSIONS).glob("[0-9]*") if path.name.isdecimal() and path.is_dir()]
    numbers = sorted((int(path.name), path) for path in found)
    return numbers[-1] if numbers else None


def _claim(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; name a folder for the merged data set (output)")
    (output / VERSIONS).mkdir(parents=True, exist_ok=True)
    foreign = [name for name in LINKED if (output / name).exists() and not (output / name).is_symlink()]
    if foreign:
        raise UserError(
            f"{output / foreign[0]}: was not put there by this step; name another output folder, so that no data set "
            "is written over"
        )


def _point(output: Path, number: int) -> None:
    """Let ``current``, and with it the links in the output folder, lead to a version."""
    _link(output / CURRENT, f"{VERSIONS}/{number:04d}")
    for name in LINKED:
        _link(output / name, f"{CURRENT}/{name}")
    flush_directory(output)


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    # A link cannot be made over another one, but it can be renamed over it, which is atomic.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    temporary.symlink_to(target)
    temporary.replace(path)


def _sides(base: Dataset) -> dict[str, str]:
    """The split of each group; where the base has it in two (which is refused later) the rarer side."""
    splits: dict[str, set[str]] = defaultdict(set)
    for record in base:
        if record.split is not None:
            splits[record.group].add(record.split)
    order = ("test", "val", TRAIN)
    return {group: next((name for name in order if name in known), min(known)) for group, known in splits.items()}


def _class_lookup(base: Dataset, batch: Batch) -> np.ndarray:
    missing = [name for name in batch.names if name not in base.names]
    if missing:
        raise UserError(
            f"{base.source}: has no class {', '.join(missing)}, which batch {batch.id} was labelled with; "
            "give the data set its classes back (names in data.yaml), then import again"
        )
    return np.array([base.names.index(name) for name in batch.names], np.int64)


def _change_log(
    number: int,
    dataset: Dataset,
    found: DataPin,
    previous: DataPin | None,
    latest: tuple[int, Path] | None,
    log: PlainMapping,
) -> Plain:
    before = read_json(latest[1] / CHANGES)["boxes_by_class"] if latest else log.get("boxes_before", {})
    counts = {name: int(count) for name, count in zip(dataset.names, dataset.class_counts())}
    labelled = {name: split.labelled for name, split in found.splits.items()}
    content: Plain = to_plain(
        {
            "version": number,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "previous": latest[0] if latest else None,
            "previous_fingerprint": previous.fingerprint if previous else None,
            "fingerprint": found.fingerprint,
            "labelled_pictures": labelled,
            "boxes_by_class": counts,
            "boxes_added_by_class": {name: count - int(before.get(name, 0)) for name, count in counts.items()},
            **{name: value for name, value in log.items() if name != "boxes_before"},
        }
    )
    return content


def _write_history(versions: Path) -> None:
    """``versions/CHANGES.md``: the log of all versions, newest first, for people."""
    parts = ["# Versions of this data set, newest first\n"]
    for path in sorted(versions.glob(f"[0-9]*/{CHANGES}"), reverse=True):
        log = read_json(path)
        sides = [(name if name != "-" else "on no side", count) for name, count in log["labelled_pictures"].items()]
        labelled = ", ".join(f"{name} {count:,}" for name, count in sides if count or name != "on no side")
        added = [f"{name} {count:+,}" for name, count in log["boxes_added_by_class"].items() if count]
        parts.append(
            f"## {log['version']:04d} ({log['made']})\n\n"
            f"- from batch {log.get('batch', '-')}, delivery {log.get('delivery', '-')}: "
            f"{log.get('pictures', 0):,} pictures, {log.get('negatives', 0):,} of them without any object\n"
            f"- boxes: {', '.join(added) or 'as many as before'}\n"
            f"- labelled pictures: {labelled}\n"
            f"- pin: {log['fingerprint'][:16]}\n"
        )
    write_text(versions / "CHANGES.md", "\n".join(parts))


def _column(values: Sequence[Any]) -> np.ndarray:
    """A column as ``records.box_columns`` makes it: ``null`` among numbers was NaN, among flags not said."""
    # JSON has no NaN and no dtype: both are worked out from the values.
    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        return np.array(values, np.str_)
    if known and all(isinstance(value, bool) for value in known):
        return np.array(values, bool if len(known) == len(values) else object)
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)
