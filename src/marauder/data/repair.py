"""Mending what is safe to mend: a fixed copy of a data set as plain YOLO; the source is never written to.

Boxes are clipped, degenerate and duplicate ones dropped (the readers do that), exact copies of a picture joined into
one with the boxes of all, pictures stored rotated turned upright. A picture that cannot be read, or whose labels a
person must look at (lines that say nothing, classes out of range), is set aside and named in ``set_aside.json``:
dropping a line alone would teach that the animal is water.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageOps

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import atomic_path, fingerprint, write_json
from marauder.core.locks import LOCK_FILE, exclusive
from marauder.core.mistakes import near_names
from marauder.core.wording import counted, to_type
from marauder.data.boxes import UNKNOWN_CLASS, clean_boxes
from marauder.data.check import CheckReport
from marauder.data.duplicates import exact_clusters
from marauder.data.formats.entries import DOUBTFUL_LABELS
from marauder.data.records import Dataset, Problem, Record, joined
from marauder.data.writers import claim_folder, demand_own_folder, write_yolo

SET_ASIDE_KINDS = (
    "picture-missing",
    "picture-empty",
    "picture-unreadable",
    "picture-truncated",
    *DOUBTFUL_LABELS,
)
SET_ASIDE_FILE = "set_aside.json"
UPRIGHT_FOLDER = "upright"
JPEG_QUALITY = 95
NAMES_TOLD = 8
"""So many class names are listed in a message."""
MOST_UNKNOWN = 0.1
"""Share of a source's boxes above which classes out of range mean that the names are wrong, not some labels."""


@dataclass(frozen=True)
class RepairSummary:
    """What was done. ``set_aside``: path to reasons; ``dropped_copies``: key of a dropped copy to that of the kept;
    ``joined_boxes``: key of a dropped copy to the number of boxes that the kept picture got from it."""

    data_yaml: Path
    pictures: int
    set_aside: dict[str, list[str]]
    dropped_copies: dict[str, str]
    joined_boxes: dict[str, int]
    turned_upright: int


def without_doubtful(dataset: Dataset) -> tuple[Dataset, list[Problem]]:
    """The data set without the pictures whose labels a person must look at, and why each was set aside: without the one
    box that says nothing, or names no class, they would teach that the animal is water. Raises ``UserError`` where only
    pictures without any object would be left."""
    reasons: dict[str, Problem] = {}
    for problem in dataset.problems:
        if problem.kind in SET_ASIDE_KINDS and problem.key:
            reasons.setdefault(problem.key, problem)
    set_aside = [
        replace(reasons[record.key], path=str(record.picture), line=None, message=str(reasons[record.key]))
        for record in dataset
        if record.key in reasons
    ]
    good = dataset.with_records(record for record in dataset if record.key not in reasons)
    if set_aside and any(record.labelled for record in good) and not any(len(record.boxes) for record in good):
        raise UserError(
            f"{dataset.source}: all {len(set_aside):,} pictures with labels must be set aside: no label is left; "
            f"first: {set_aside[0].message}"
        )
    return good, set_aside


def demand_known_classes(source: Dataset, names: Sequence[str] | None) -> None:
    """Raise ``UserError`` where the names are wrong rather than some labels: so many classes are out of range, one and
    the same number in several pictures, or one that labels call by a name which is not among ``names``, those that the
    user gave (``None``: the source's own count)."""
    unknown = [problem for problem in source.problems if problem.kind == "class-unknown"]
    count = sum(problem.count for problem in unknown)
    boxes = sum(len(record.boxes) for record in source) + count
    pictures_of: dict[str, set[str]] = {}
    words: dict[str, int] = {}
    for problem in unknown:
        found = UNKNOWN_CLASS.match(problem.message)
        # Below 0 is no class that a name could be given to.
        if found is not None and not (found["index"] or "").startswith("-"):
            pictures_of.setdefault(found["index"] or found["name"], set()).add(problem.key or problem.path)
            if found["name"]:
                words[found["name"]] = words.get(found["name"], 0) + problem.count
    few = count <= MOST_UNKNOWN * boxes and all(len(pictures) == 1 for pictures in pictures_of.values())
    if not unknown or (few and not (words and names is not None)):
        return
    needed = max((int(name) + 1 for name in pictures_of if name.isdecimal()), default=0)
    given = ["--names", ",".join(names)] if names is not None else []
    see = to_type("data", "check", "--input", source.source, *given)
    if words:
        told = [_told_class(name, number, len(pictures_of[name]), source.names) for name, number in words.items()]
        remedy = f"none of them is {'; nor '.join(told[:NAMES_TOLD])}; name every class as the labels do"
        remedy += " (to leave a class out, map the others: marauder data organize --taxonomy FILE)"
    elif needed > len(source.names):
        remedy = f"the labels need at least {needed} names: give them all, in order"
        remedy += " (or none, if the source has its own)" if names is not None else ""
    else:
        remedy = f"name every class of the labels; see `{see}`"
    aside = len({problem.key or problem.path for problem in unknown})
    raise UserError(
        f"{source.source}: {count:,} of {boxes:,} boxes have a class without a name, and {aside:,} of "
        f"{counted(len(source), 'picture')} would be left out. There {'is' if len(source.names) == 1 else 'are'} "
        f"{counted(len(source.names), 'name')} ({', '.join(source.names[:NAMES_TOLD])}); {remedy}. If it is the labels "
        f"that are wrong, `{see} --fix --output FOLDER` sets their pictures aside. First: {unknown[0]}"
    )


def _told_class(name: str, boxes: int, pictures: int, known: Sequence[str]) -> str:
    """A class that no name stands for: its name, how often it occurs, and what may be meant by a name like it."""
    near = near_names(name, known, 1)
    meant = f"; did you mean it by {near[0]}?" if near else ""
    return f"{name} ({counted(boxes, 'box', 'boxes')} in {counted(pictures, 'picture')}{meant})"


def repair(report: CheckReport, output: Path, mode: str = "link", clock: Clock | None = None) -> RepairSummary:
    """Write the fixed copy of the checked data set to ``output``.

    Raises ``UserError`` when no picture is left, or for an output inside the source or in use by another process.
    """
    dataset = report.dataset
    if dataset is None:
        raise ValueError("the report carries no data set")
    source = Path(dataset.source)
    if source.exists() and output.resolve().is_relative_to((source if source.is_dir() else source.parent).resolve()):
        raise UserError(f"{output}: the fixed copy must not be inside {source}; sources are never written to")
    set_aside = _set_aside(report)
    aside = {finding.key for finding in report.findings if finding.kind in SET_ASIDE_KINDS and finding.key}
    kept = [_mended(record, dataset) for record in dataset if record.key not in aside]
    clock = clock or Clock()
    kept, dropped, joined_boxes = _without_copies(kept, clock)
    if not kept:
        raise UserError(f"{dataset.source}: no picture is left after setting defects aside; nothing was written")
    rotated = {finding.key for finding in report.of_kind("picture-rotated")}
    # Before the lock, which would put a file into a folder that is not ours.
    demand_own_folder(output)
    with exclusive(output / LOCK_FILE, f"the fixed copy {output}"):
        claim_folder(output)
        kept = [_upright(record, output, clock) if record.key in rotated else record for record in kept]
        data_yaml = write_yolo(dataset.with_records(kept), output, mode, clock, label="writing the fixed copy")
        told = {"set_aside": set_aside, "dropped_copies": dropped, "joined_boxes": joined_boxes}
        write_json(output / SET_ASIDE_FILE, told)
    turned = sum(record.key in rotated for record in kept)
    return RepairSummary(data_yaml, len(kept), set_aside, dropped, joined_boxes, turned)


def _set_aside(report: CheckReport) -> dict[str, list[str]]:
    pictures = {record.key: str(record.picture) for record in report.dataset or ()}
    reasons: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.kind in SET_ASIDE_KINDS:
            reasons.setdefault(pictures.get(finding.key, finding.path), []).append(str(finding))
    return reasons


def _without_copies(records: list[Record], clock: Clock) -> tuple[list[Record], dict[str, str], dict[str, int]]:
    """One record of each picture, with the boxes of all its exact copies; then as ``RepairSummary``: the dropped
    copies, and what was joined. The copy with most boxes is kept, the first of equals."""
    kept: dict[int, Record] = dict(enumerate(records))
    dropped: dict[str, str] = {}
    boxes: dict[str, int] = {}
    for cluster in exact_clusters([record.picture for record in records], clock):
        best = max(cluster, key=lambda index: (records[index].labelled, len(records[index].boxes)))
        for index in cluster:
            if index != best:
                copy = kept.pop(index)
                whole = joined(kept[best], [copy])
                dropped[copy.key] = whole.key
                if gained := len(whole.boxes) - len(kept[best].boxes):
                    boxes[copy.key] = gained
                kept[best] = whole
    return list(kept.values()), dropped, boxes


def _mended(record: Record, dataset: Dataset) -> Record:
    # Readers have done this already; a data set made in memory has not been through one.
    clean = clean_boxes(record.boxes, record.classes, record.width, record.height, len(dataset.names))
    return replace(record.with_boxes(clean.kept), boxes=clean.boxes)


def _upright(record: Record, output: Path, clock: Clock) -> Record:
    """The record with a copy of its picture whose pixels are upright; boxes are in displayed pixels anyway."""
    suffix = record.picture.suffix.lower()
    # Two keys may differ in a "/" and a "__" alone.
    target = output / UPRIGHT_FOLDER / f"{record.key.replace('/', '__')}-{fingerprint(record.key)[:8]}{suffix}"
    if not target.is_file():
        clock.check()
        with Image.open(record.picture) as image:
            kind = "JPEG" if image.format in ("JPEG", "MPO") else image.format
            # This also takes the tag out, or viewers would turn the picture a second time.
            turned = ImageOps.exif_transpose(image)
            # Colours at full resolution, to lose little by encoding once more.
            options = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}
            with atomic_path(target) as partial:
                turned.save(partial, format=kind, **options)
    return replace(record, picture=target)
