"""Counts: of each picture, and MaxN of each clip and species.

MaxN is the largest number of individuals of one species in a single frame of a clip, the usual index of relative
abundance in video surveys: no animal is counted twice (Ellis & DeMartini 1995, Fishery Bulletin 93:67-77).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from marauder.core.errors import printable
from marauder.data.groups import group_of
from marauder.data.media_files import MediaFile
from marauder.survey.seen import Seen, Survey


@dataclass(frozen=True, eq=False)
class MaxN:
    """One species in one clip. ``most``: MaxN, 0 where it was never seen; ``at``: the first frame with that many;
    ``first``: the first frame that shows one; ``mean``: individuals a frame, over all frames looked at."""

    species: int
    most: int
    mean: float
    at: Seen | None
    first: Seen | None


@dataclass(frozen=True, eq=False)
class ClipCounts:
    """The frames of one clip in order, without their boxes, and how many of each class each shows: ``counts``, int64
    (frames, classes)."""

    clip: str
    video: bool
    frames: tuple[Seen, ...]
    counts: np.ndarray

    def max_n(self, species: int) -> MaxN:
        """MaxN of a class."""
        of_frames = self.counts[:, species]
        if not of_frames.any():
            return MaxN(species, 0, 0.0, None, None)
        # ``argmax`` gives the first of equal frames.
        at, first = self.frames[int(of_frames.argmax())], self.frames[int(np.flatnonzero(of_frames)[0])]
        return MaxN(species, int(of_frames.max()), float(of_frames.mean()), at, first)


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of a survey. ``clips``: videos, and pictures whose names say that they are frames of one clip, in order.
    ``totals``: int64 (classes,), boxes of each class in all; ``frames_with``: frames and pictures that
    show it; ``largest``: most in one of them. ``pictures``, ``frames``: that were looked at. ``stills``:
    pictures of no clip. ``scored``: mean score of its boxes, clip, and frame of all that show anything."""

    clips: tuple[ClipCounts, ...]
    totals: np.ndarray
    frames_with: np.ndarray
    largest: np.ndarray
    pictures: int
    frames: int
    stills: int
    scored: tuple[tuple[float, str, Seen], ...]

    @property
    def species(self) -> list[int]:
        """The classes that were seen anywhere, in the model's order."""
        return [int(index) for index in np.flatnonzero(self.totals)]


def count(survey: Survey, clip_of: dict[str, str], videos: frozenset[str]) -> Counts:
    """Count what was found. ``clip_of``: the clip of each file, by key, "" for stills; ``videos``: keys of videos."""
    frames_of: dict[str, list[Seen]] = {}
    rows_of: dict[str, list[np.ndarray]] = {}
    totals, frames_with, largest = np.zeros((3, len(survey.names)), np.int64)
    scored: list[tuple[float, str, Seen]] = []
    pictures = frames = stills = 0
    for seen in survey:
        row = counts_of(seen, len(survey.names))
        totals += row
        frames_with += row > 0
        largest = np.maximum(largest, row)
        video = seen.key in videos
        pictures, frames = pictures + (not video), frames + video
        clip = clip_of[seen.key]
        if len(seen.found):
            # Without its boxes: a long video has more frames than memory holds detections of.
            scored.append((float(seen.found.scores.mean()), clip, seen.without_boxes()))
        if not clip:
            stills += 1
            continue
        frames_of.setdefault(clip, []).append(seen.without_boxes())
        rows_of.setdefault(clip, []).append(row)
    clips = tuple(
        ClipCounts(clip, clip in videos, tuple(seen), np.stack(rows_of[clip])) for clip, seen in frames_of.items()
    )
    return Counts(clips, totals, frames_with, largest, pictures, frames, stills, tuple(scored))


def counts_of(seen: Seen, classes: int) -> np.ndarray:
    """How many of each class a frame shows: int64 (classes,)."""
    return np.bincount(seen.found.classes, minlength=classes).astype(np.int64)


def clips_of(files: Sequence[MediaFile], pattern: str | None) -> dict[str, str]:
    """The clip of each file by key: a video is one; a picture belongs to the clip that its name says, else to none.

    Cameras use the same names on every dive: pictures of one clip lie in one folder, and the clip is called by that
    folder and its name. One whose name a video has too is of its own, as are that video's frames written as pictures.
    """
    videos = {media.key for media in files if media.video}
    members: dict[tuple[Path, str], list[str]] = {}
    for media in files:
        stem = PurePosixPath(media.key).stem
        group = group_of(stem, pattern)
        if not media.video and group != stem:
            members.setdefault((media.path.parent.absolute(), group), []).append(media.key)
    clips = {media.key: media.key if media.video else "" for media in files}
    for clip, name in _names_of_clips(members).items():
        while name in videos:
            name += " (pictures)"
        clips |= dict.fromkeys(members[clip], name)
    return clips


def _names_of_clips(members: Mapping[tuple[Path, str], Sequence[str]]) -> dict[tuple[Path, str], str]:
    """Relative paths as names of clips, by folder and name. They begin where the keys of their pictures do, or further
    up, where several folders that were named themselves have a clip of one name."""
    depths = {clip: max(key.count("/") for key in keys) for clip, keys in members.items()}
    while True:
        names = {clip: _below(*clip, depth) for clip, depth in depths.items()}
        taken = Counter(names.values())
        shared = [clip for clip, name in names.items() if taken[name] > 1]
        if not shared:
            return names
        for clip in shared:
            depths[clip] += 1


def _below(folder: Path, name: str, depth: int) -> str:
    """A path of the ``depth`` last parts of ``folder`` and of ``name``."""
    first = max(0, len(folder.parts) - depth)
    return printable(PurePosixPath(*folder.parts[first:], name).as_posix())


def surest(scored: Sequence[tuple[float, str, Seen]], most: int, least: bool = False) -> list[Seen]:
    """Up to ``most`` frames with the highest (``least``: lowest) mean score of their boxes.

    ``scored``: mean score, clip, frame. One of each clip first, so that near copies of one frame do not fill the list,
    then whatever follows.
    """
    # Key and number last: the page must not depend on the order of equal scores.
    ranked = sorted(scored, key=lambda one: (one[0] if least else -one[0], one[2].key, one[2].number))
    first: dict[str, Seen] = {}
    for _, clip, seen in ranked:
        first.setdefault(clip or seen.key, seen)
    chosen = list(first.values())[:most]
    taken = {id(seen) for seen in chosen}
    chosen += [seen for _, _, seen in ranked if id(seen) not in taken][: most - len(chosen)]
    return chosen
