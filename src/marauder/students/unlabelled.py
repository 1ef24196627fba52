"""Pictures without labels that a student may learn from: collected, and freed of all that would leak or be there twice.

A student is judged on val and test. A picture that is one of theirs, nearly one, or of the same clip, would be learned
as the teacher sees it and then be measured on; it is left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.data.duplicates import PictureHash, hash_pictures, near_to
from marauder.data.manifests.pinning import hash_pinned
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record

JUDGING = ("val", "test")
"""Splits that judge a detector."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pictures without labels. ``records``: without boxes, of the split train, keys unlike those of the data set.
    ``clips``: of each its group, empty where it stands alone. ``judging``: whether it is of somebody's val or test.
    ``contents``: SHA-256 of each, ``None``: it is gone. ``problems``: by path, why pictures cannot be used."""

    records: tuple[Record, ...]
    clips: tuple[str, ...]
    judging: tuple[bool, ...]
    contents: tuple[str | None, ...]
    problems: Mapping[str, str]

    def identity(self) -> list[list[str | None]]:
        """What is learned from, by content, in any place."""
        # Names count, too: they say which clip a picture is of.
        return [[one.key, clip, content] for one, clip, content in zip(self.records, self.clips, self.contents)]


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """The pictures that may be learned from, with their SHA-256; ``left_out``: by path, why others may not."""

    records: tuple[Record, ...]
    contents: tuple[str, ...]
    left_out: Mapping[str, str]

    def counts(self) -> dict[str, int]:
        """Pictures left out by reason."""
        return dict(Counter(self.left_out.values()).most_common())


def candidates(dataset: Dataset, source: Path, folders: Sequence[Path], clock: Clock | None) -> Candidates:
    """The data set's own pictures without labels, and all pictures of ``folders``, whatever their labels say.

    ``source``: where the data set lies. Raises ``UserError`` for folders that cannot be read, ``Interrupted``.
    """
    own = [record for record in dataset if not record.labelled]
    sets: list[tuple[str, Path, Sequence[Record]]] = [("", source, own)]
    problems: dict[str, str] = {}
    for number, folder in enumerate(folders, 1):
        read = read_dataset(folder, clock=clock, lost=True)
        problems |= {one.path: one.message for one in read.problems if _unreadable(one.kind)}
        sets.append((f"unlabelled-{number}/", folder, read.records))
    records, clips, judging, contents = [], [], [], []
    for prefix, place, found in sets:
        hashes = hash_pinned([record.picture for record in found], place, clock)
        for record in found:
            records.append(_bare(record, f"{prefix}{record.key}"))
            clips.append(record.group if record.group != record.key else "")
            judging.append(record.split in JUDGING)
            contents.append(hashes[record.picture])
    return Candidates(tuple(records), tuple(clips), tuple(judging), tuple(contents), problems)


def _bare(record: Record, key: str) -> Record:
    return Record(key, record.picture, record.width, record.height, group=record.group, split="train", labelled=False)


def _unreadable(kind: str) -> bool:
    return kind.startswith("picture-") and kind not in ("picture-rotated", "picture-without-label")


def without_leaks(found: Candidates, dataset: Dataset, source: Path, store: Path, clock: Clock) -> Unlabelled:
    """The pictures of ``found`` that show nothing of the splits val and test of ``dataset``, nor what is labelled.

    ``store``: a file that keeps hashes of pictures. Raises ``Interrupted``.
    """
    hashes = hash_pinned([record.picture for record in dataset], source, clock)
    judging = [record for record in dataset if record.split in JUDGING]
    judged = {hashes[record.picture] for record in judging}
    labelled = {hashes[record.picture] for record in dataset if record.labelled}
    clips = {record.group for record in judging}
    left_out: dict[str, str] = {}
    kept: list[tuple[Record, str]] = []
    seen: set[str] = set()
    for record, clip, of_judging, content in zip(found.records, found.clips, found.judging, found.contents):
        reason = _reason(content, of_judging, clip, judged, labelled, clips, seen)
        if reason or content is None:
            left_out[str(record.picture)] = reason
            continue
        seen.add(content)
        kept.append((record, content))
    near, alike = _near(kept, judging, store, clock), "nearly equal to a picture of val or test"
    left_out |= {str(record.picture): alike for record, _ in kept if record.key in near}
    stay = [(record, content) for record, content in kept if record.key not in near]
    return Unlabelled(tuple(record for record, _ in stay), tuple(content for _, content in stay), left_out)


def _reason(
    content: str | None,
    of_judging: bool,
    clip: str,
    judged: set[str | None],
    labelled: set[str | None],
    clips: set[str],
    seen: set[str],
) -> str:
    """Why a picture may not be learned from as far as files and names tell; empty: it may."""
    if content is None:
        return "gone"
    if of_judging:
        return "of a split val or test"
    if content in judged:
        return "the same as a picture of val or test"
    if clip and clip in clips:
        return "of a clip that val or test holds"
    if content in labelled:
        return "labelled already"
    return "there twice" if content in seen else ""


def _near(kept: Sequence[tuple[Record, str]], judging: Sequence[Record], store: Path, clock: Clock) -> set[str]:
    """Keys of the pictures that nearly are one of ``judging``."""
    if not kept or not judging:
        return set()
    paths = [record.picture for record, _ in kept]
    hashes = hash_pictures([*paths, *(record.picture for record in judging)], clock, store, "comparing with val, test")
    # What cannot be read is set aside when the teacher looks.
    mine = [(record.key, one) for (record, _), one in zip(kept, hashes) if isinstance(one, PictureHash)]
    theirs = [one for one in hashes[len(kept) :] if isinstance(one, PictureHash)]
    places = near_to([one for _, one in mine], theirs, clock=clock)
    return {key for (key, _), place in zip(mine, places, strict=True) if place is not None}
