"""Frames of videos as pictures whose names say their clip, so that no split parts a clip: ``marauder data frames``.

    <output>/<clip>/<clip>_frame_000120.jpg  frames.csv  set_aside.csv

The same videos and settings give the same files; a killed call goes on, since a picture that is there is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import (
    DamagedFileError,
    fingerprint,
    located_path,
    portable_path,
    read_json,
    remove_leftovers,
    write_bytes,
    write_json,
)
from marauder.core.locks import exclusive
from marauder.core.many_files import ManyFiles
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.core.settings import Decides, Settings
from marauder.data.csv_files import write_csv
from marauder.data.media_files import MediaFile, find_media, flat_names
from marauder.data.video_files import Sampling, Video, VideoError

STATE = ".frames"
TABLE_FILE, SET_ASIDE_FILE = "frames.csv", "set_aside.csv"
FORMAT = 1
"""Raised whenever the same video and settings would give other pictures."""
USUAL_FPS = 1.0


class FramesSettings(Settings):
    """Which videos, and which of their frames.

    ``inputs``: videos, folders, or patterns. ``fps``: frames a second of video (1 where ``every`` is not given either);
    ``every``: every n-th frame instead. ``quality``: of the JPEG files, 1 to 100. ``fresh``: start over with these
    videos.
    """

    decides: ClassVar[Decides] = Decides.RESULT

    inputs: Annotated[tuple[str, ...], Decides.PLACE] = Field(min_length=1)
    output: Annotated[Path, Decides.PLACE]
    fps: float | None = Field(None, gt=0, le=1000)
    every: int | None = Field(None, ge=1)
    quality: int = Field(92, ge=1, le=100)
    fresh: Annotated[bool, Decides.NOTHING] = False

    @model_validator(mode="after")
    def _one_of_both(self) -> FramesSettings:
        if self.fps is not None and self.every is not None:
            raise ValueError("fps and every both say which frames; give one of them")
        return self

    @property
    def sampling(self) -> Sampling:
        """Which frames."""
        return Sampling(self.every) if self.every is not None else Sampling(fps=self.fps or USUAL_FPS)


@dataclass(frozen=True)
class FramesSummary:
    """What is in the folder now. ``set_aside``: video and what is wrong with it, or with a part of it."""

    output: Path
    clips: int
    pictures: int
    new_pictures: int
    set_aside: tuple[tuple[str, str], ...]

    def message(self) -> str:
        """What happened, and what to do next."""
        new = f" ({self.new_pictures:,} new)" if self.new_pictures != self.pictures else ""
        lines = [f"{self.pictures:,} pictures{new} of {self.clips:,} clips: {self.output}"]
        if self.set_aside:
            lines.append(f"not all could be read, see {self.output / SET_ASIDE_FILE}; first: {self.set_aside[0][1]}")
        return "\n".join(lines)


def write_frames(settings: FramesSettings, clock: Clock | None = None) -> FramesSummary:
    """Write the chosen frames of each video into a folder of its own below ``settings.output``.

    Frames that other calls wrote there stay, also with ``fresh``. Broken videos and frames are set aside. The clock is
    asked between frames (``Interrupted``). Raises ``UserError`` for inputs that name no video, for a folder with other
    content, where another video of the same name is there already, and where no frame can be read at all.
    """
    clock = clock or Clock()
    state = settings.output / STATE
    if settings.output.is_dir() and any(settings.output.iterdir()) and not state.is_dir():
        raise UserError(f"{settings.output}: holds files that are no frames of videos; choose another --output")
    videos = find_media(settings.inputs, settings.output, pictures=False)
    state.mkdir(parents=True, exist_ok=True)
    with exclusive(state / "lock", f"the folder {settings.output}"):
        remove_leftovers(state)
        clips = flat_names(videos)
        new = 0
        with Progress("writing frames", None, "pictures") as progress:
            for media in videos:
                new += _write_clip(media, clips[media.key], settings, clock, progress)
        return _conclude(settings, new)


def frame_name(clip: str, number: int) -> str:
    """The file name of frame ``number`` (from 0) of a clip; ``data.groups`` reads the clip out of it again."""
    return f"{clip}_frame_{number:06d}.jpg"


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """A picture, uint8 (H, W, 3) red first, as the content of a JPEG file; the same picture gives the same bytes."""
    import cv2

    done, content = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be written as JPEG")
    return content.tobytes()


def in_runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as first and last of each run without a gap.

    >>> in_runs([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        runs[-1:] = [(runs[-1][0], number)] if runs and runs[-1][1] == number - 1 else [*runs[-1:], (number, number)]
    return runs


def broken_in_words(numbers: list[int]) -> list[str]:
    """What to say of the frames that cannot be decoded, a sentence a run of them."""
    return [
        f"frame {first} cannot be decoded" if first == last else f"frames {first} to {last} cannot be decoded"
        for first, last in in_runs(numbers)
    ]


def _write_clip(media: MediaFile, clip: str, settings: FramesSettings, clock: Clock, progress: Progress) -> int:
    """Write the frames of one video that are not there yet; returns how many that were."""
    folder, note = settings.output / clip, settings.output / STATE / f"{clip}.json"
    sampling, place = settings.sampling, Path(os.path.realpath(media.path))  # resolve() refuses a link to itself
    # Relative, so that videos and frames can move together.
    content: Plain = {"video": portable_path(place, settings.output.resolve()), "key": media.key, "complete": False}
    try:
        stat = media.path.stat()
        content["stamp"] = [stat.st_size, stat.st_mtime_ns]
    except OSError as error:
        known = _known_of(place, None, note, settings)
        # What was written of it before stays: its disk may just not be there.
        write_json(note, {**known, **content, "problems": [f"cannot be read: {error.strerror}"]})
        return 0
    known = _known_of(place, content["stamp"], note, settings)
    identity = fingerprint([FORMAT, *content["stamp"], sampling.every, sampling.fps, settings.quality])
    if settings.fresh:
        known = {}
    if known.get("identity") == identity and known.get("complete") and _all_there(folder, known["frames"]):
        return 0
    # Other settings, or a changed video, give other frames; the old ones must not stay among them.
    if known.get("identity") != identity:
        _forget(settings.output, note)
    # Before the first picture, so that what a kill leaves is known to be this video's.
    content["identity"] = identity
    write_json(note, content)
    if folder.is_dir():
        remove_leftovers(folder)
    frames: list[Plain] = []
    broken: list[int] = []
    new = 0
    problems: list[str] = []
    try:
        with Video(media.path) as video, ManyFiles() as many:
            for frame in video.frames(sampling):
                clock.check()
                if frame.pixels is None:
                    broken.append(frame.number)
                    continue
                target = folder / frame_name(clip, frame.number)
                if not target.is_file():
                    many.add(partial(_write_frame, target, frame.pixels, settings.quality))
                    new += 1
                    progress.advance(note=media.key)
                frames.append({"file": target.name, "frame": frame.number, "seconds": frame.seconds})
            problems = [text for text in (*broken_in_words(broken), video.shortfall()) if text]
    except VideoError as error:
        problems = [error.detail]
    # Only now are all pictures on the disk: ManyFiles waits at its end. A video that cannot be read is complete as
    # well, since the same file would fail again.
    write_json(note, {**content, "complete": True, "problems": problems, "frames": frames})
    return new


def _known_of(place: Path, stamp: list[int] | None, note: Path, settings: FramesSettings) -> Plain:
    """What the note says of the video in ``place``, which is known by its place or by ``stamp``: size and time of
    change. With ``fresh``, frames of another video of its name are deleted. Raises ``UserError`` for them otherwise."""
    known = _read_note(note)
    there = located_path(known["video"], settings.output.resolve()) if "video" in known else place
    if there == place or (stamp is not None and known.get("stamp") == stamp):
        return known
    if not settings.fresh:
        raise UserError(
            f"{settings.output / note.stem}: holds frames of another video of this name ({there}); give both in one "
            "command, or another --output, or start over with --fresh"
        )
    _forget(settings.output, note)
    return {}


def _write_frame(target: Path, pixels: np.ndarray, quality: int) -> None:
    write_bytes(target, encode_jpeg(pixels, quality))


def _read_note(note: Path) -> Plain:
    try:
        content = read_json(note)
    except (FileNotFoundError, DamagedFileError):
        return {}
    return content if isinstance(content, dict) else {}


def _all_there(folder: Path, frames: list[Plain]) -> bool:
    return all((folder / frame["file"]).is_file() for frame in frames)


def _forget(output: Path, note: Path) -> None:
    """Delete what was written of one video, and its note last, so that a kill in between loses nothing."""
    clip = note.stem
    for picture in (output / clip).glob("*_frame_*.jpg"):
        if picture.name.startswith(f"{clip}_frame_"):
            picture.unlink()
    note.unlink(missing_ok=True)


def _conclude(settings: FramesSettings, new: int) -> FramesSummary:
    """Write the tables of all clips in the folder."""
    rows: list[list[Any]] = []
    set_aside: list[tuple[str, str]] = []
    clips = 0
    for note, content in _notes(settings.output / STATE):
        frames = content.get("frames", [])
        clips += bool(frames)
        rows += [
            [f"{note.stem}/{frame['file']}", note.stem, content["key"], frame["frame"], frame["seconds"]]
            for frame in frames
        ]
        set_aside += [(content["key"], problem) for problem in content.get("problems", [])]
    if not rows:
        raise UserError(f"no frame of any video can be read; first: {set_aside[0][0]}: {set_aside[0][1]}")
    write_csv(settings.output / TABLE_FILE, ["picture", "clip", "video", "frame", "seconds"], rows)
    write_csv(settings.output / SET_ASIDE_FILE, ["video", "problem"], set_aside)
    return FramesSummary(settings.output, clips, len(rows), new, tuple(set_aside))


def _notes(state: Path) -> Iterator[tuple[Path, Plain]]:
    for note in sorted(state.glob("*.json")):
        yield note, _read_note(note)
