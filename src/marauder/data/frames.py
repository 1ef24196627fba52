"""Frames of videos as pictures whose names say their clip, so that no split parts a clip: ``marauder data frames``.

    <output>/<clip>/<clip>_frame_000120.jpg  frames.csv  set_aside.csv

The same videos and settings give the same files; a killed call continues, since a picture that is there is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

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
from marauder.core.settings import Decides, OnThisMachine, Settings
from marauder.core.wording import counted
from marauder.data.csv_files import write_csv
from marauder.data.media_files import MediaFile, find_media, flat_names, why_nothing
from marauder.data.video_files import Sampling, Video, VideoError

STATE = ".frames"
TABLE_FILE, SET_ASIDE_FILE = "frames.csv", "set_aside.csv"
FORMAT = 1
"""Raised whenever the same video and settings would give other pictures."""
USUAL_FPS = 1.0
LABELS = "labels"
LABEL_SUFFIXES = frozenset({".txt", ".xml", ".json"})


class FramesSettings(Settings):
    """Which videos, and which of their frames."""

    decides: ClassVar[Decides] = Decides.RESULT

    inputs: Annotated[tuple[str, ...], Decides.PLACE, OnThisMachine(why_nothing)] = Field(
        min_length=1, description="videos, folders, or patterns"
    )
    output: Annotated[Path, Decides.PLACE] = Field(description="folder to write to")
    fps: float | None = Field(
        None, gt=0, le=1000, description="frames a second of video; default: 1, where every is not given either"
    )
    every: int | None = Field(None, ge=1, description="every Nth frame instead")
    quality: int = Field(92, ge=1, le=100, description="quality of the JPEG files")
    fresh: Annotated[bool, Decides.NOTHING] = Field(
        False, description="start over with these videos, whose frames are replaced"
    )

    # On the field, not on the whole: the mistake is reported with the place of this option.
    @field_validator("every")
    @classmethod
    def _one_of_both(cls, every: int | None, info: ValidationInfo) -> int | None:
        if every is not None and info.data.get("fps") is not None:
            raise ValueError("fps and every both say which frames; give one of them")
        return every

    @property
    def sampling(self) -> Sampling:
        """Which frames."""
        return Sampling(self.every) if self.every is not None else Sampling(fps=self.fps or USUAL_FPS)


@dataclass(frozen=True)
class FramesSummary:
    """What is in the folder now. ``new_pictures``: those that were not there before. ``set_aside``: video and what is
    wrong with it, or with a part of it."""

    output: Path
    clips: int
    pictures: int
    new_pictures: int
    set_aside: tuple[tuple[str, str], ...]

    def message(self) -> str:
        """What happened, and what to do next."""
        new = f" ({self.new_pictures:,} new)" if self.new_pictures != self.pictures else ""
        lines = [f"{counted(self.pictures, 'picture')}{new} of {counted(self.clips, 'clip')}: {self.output}"]
        if self.set_aside:
            lines.append(f"not all could be read, see {self.output / SET_ASIDE_FILE}; first: {self.set_aside[0][1]}")
        return "\n".join(lines)


def write_frames(settings: FramesSettings, clock: Clock | None = None) -> FramesSummary:
    """Write the chosen frames of each video into a folder of its own below ``settings.output``.

    Frames of other videos stay, also with ``fresh``. Broken videos and frames are set aside. The clock is asked between
    frames (``Interrupted``). Raises ``UserError`` for inputs that name no video, for a folder with other content, where
    another video of the same name is there already, where frames of other settings would be replaced without ``fresh``
    or any that are labelled, and where no frame can be read at all.
    """
    clock = clock or Clock()
    state = settings.output / STATE
    if settings.output.is_dir() and any(settings.output.iterdir()) and not state.is_dir():
        raise UserError(f"{settings.output}: holds files that are not frames of videos; choose another --output")
    videos = find_media(settings.inputs, settings.output, pictures=False)
    with exclusive(state / "lock", f"the folder {settings.output}"):
        remove_leftovers(state)
        names = flat_names(videos)
        # All of them before the first is touched: what is refused leaves the folder as it was.
        clips = [_Clip.of(media, names[media.key], settings) for media in videos]
        new = 0
        with Progress("writing frames", None, "pictures") as progress:
            for clip in clips:
                new += _write_clip(clip, settings, clock, progress)
        return _conclude(settings, clips, new)


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


@dataclass(frozen=True)
class _Clip:
    """A video and what is there of it. ``content``: how its note begins. ``identity``: of video and settings; ``None``
    where ``problem`` says why it cannot be read. ``known``: its note of an earlier call, empty where it starts over.
    ``had``: names of its frames that lie there. ``stale``: whether they have to go first."""

    media: MediaFile
    name: str
    content: Plain
    identity: str | None
    problem: str
    known: Plain
    had: frozenset[str]
    stale: bool

    @classmethod
    def of(cls, media: MediaFile, name: str, settings: FramesSettings) -> _Clip:
        """Raises ``UserError`` where frames would be lost that are wanted, or may be."""
        output, sampling = settings.output, settings.sampling
        place = Path(os.path.realpath(media.path))  # resolve() refuses a link to itself
        # Relative, so that videos and frames can move together.
        content: Plain = {"video": portable_path(place, output.resolve()), "key": media.key, "complete": False}
        identity, problem = None, ""
        try:
            stat = media.path.stat()
            content["stamp"] = [stat.st_size, stat.st_mtime_ns]
            identity = fingerprint([FORMAT, *content["stamp"], sampling.every, sampling.fps, settings.quality])
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        known = _read_note(output / STATE / f"{name}.json")
        there = located_path(known["video"], output.resolve()) if "video" in known else place
        same = there == place or (identity is not None and known.get("stamp") == content["stamp"])
        if not same and not settings.fresh:
            raise UserError(
                f"{output / name}: holds frames of another video of this name ({there}); give both in one "
                "command, or another --output, or start over with --fresh"
            )
        # What was written of a video that cannot be read now stays: its disk may just not be there.
        stale = not same or (identity is not None and (settings.fresh or known.get("identity") != identity))
        pictures = _pictures_of(output, name)
        if stale and pictures:
            _refuse_loss(output, name, pictures, settings.fresh)
        had = frozenset(path.name for path in pictures if same and known.get("stamp") == content.get("stamp"))
        return cls(media, name, content, identity, problem, {} if stale else known, had, stale)


def _refuse_loss(output: Path, clip: str, pictures: list[Path], fresh: bool) -> None:
    """Raise ``UserError`` unless ``pictures`` of a clip may be deleted: with ``fresh``, and without labels."""
    if not fresh:
        raise UserError(
            f"{output / clip}: holds {len(pictures):,} frames of other settings, or of the video before it changed, "
            "which would be removed; choose another --output, or replace them with --fresh"
        )
    # Beside the picture, and where YOLO's layouts have them: labels/ in a folder above, or in place of images/.
    above = [output / clip / LABELS, output / LABELS, output.absolute().parent / LABELS]
    folders = [output / clip, *above, *(folder / clip for folder in above)]
    stems = {picture.stem: picture for picture in pictures}
    for label in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())):
        if label.suffix.lower() in LABEL_SUFFIXES and label.stem in stems:
            raise UserError(
                f"{stems[label.stem]}: is labelled in {label}, and would be removed; choose another --output, or move "
                "labels and pictures elsewhere first"
            )


def _write_clip(clip: _Clip, settings: FramesSettings, clock: Clock, progress: Progress) -> int:
    """Write the frames of one video that are not there yet; returns how many that were."""
    media, folder, note = clip.media, settings.output / clip.name, settings.output / STATE / f"{clip.name}.json"
    # Other settings, or a changed video, give other frames; the old ones must not stay among them.
    if clip.stale:
        _forget(settings.output, note)
    if clip.identity is None:
        write_json(note, {**clip.known, **clip.content, "problems": [clip.problem]})
        return 0
    if clip.known.get("complete") and _all_there(folder, clip.known["frames"]):
        return 0
    # Before the first picture, so that what a kill leaves is known to be this video's.
    content: Plain = {**clip.content, "identity": clip.identity}
    write_json(note, content)
    if folder.is_dir():
        remove_leftovers(folder)
    frames: list[Plain] = []
    broken: list[int] = []
    new = 0
    problems: list[str] = []
    try:
        with Video(media.path) as video, ManyFiles() as many:
            for frame in video.frames(settings.sampling):
                clock.check()
                if frame.pixels is None:
                    broken.append(frame.number)
                    continue
                target = folder / frame_name(clip.name, frame.number)
                if not target.is_file():
                    many.add(partial(_write_frame, target, frame.pixels, settings.quality))
                    new += target.name not in clip.had
                    progress.advance(note=media.key)
                frames.append({"file": target.name, "frame": frame.number, "seconds": frame.seconds})
            problems = [text for text in (*broken_in_words(broken), video.shortfall()) if text]
    except VideoError as error:
        problems = [error.detail]
    # Only now are all pictures on the disk: ManyFiles waits at its end. A video that cannot be read is complete as
    # well, since the same file would fail again.
    write_json(note, {**content, "complete": True, "problems": problems, "frames": frames})
    return new


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


def _pictures_of(output: Path, clip: str) -> list[Path]:
    """The frames of a clip that lie there."""
    # Not a pattern: a clip's name may hold its signs.
    return sorted(path for path in (output / clip).glob("*_frame_*.jpg") if path.name.startswith(f"{clip}_frame_"))


def _forget(output: Path, note: Path) -> None:
    """Delete what was written of one video, and its note last, so that a kill in between loses nothing."""
    for picture in _pictures_of(output, note.stem):
        picture.unlink()
    note.unlink(missing_ok=True)


def _conclude(settings: FramesSettings, clips: Sequence[_Clip], new: int) -> FramesSummary:
    """Write the tables of all clips in the folder."""
    rows: list[list[Any]] = []
    set_aside: list[tuple[str, str]] = []
    count = 0
    for note, content in _notes(settings.output / STATE):
        frames = content.get("frames", [])
        count += bool(frames)
        rows += [
            [f"{note.stem}/{frame['file']}", note.stem, content["key"], frame["frame"], frame["seconds"]]
            for frame in frames
        ]
        set_aside += [(content["key"], problem) for problem in content.get("problems", [])]
    if not rows:
        for clip in clips:
            if not _pictures_of(settings.output, clip.name):
                (settings.output / STATE / f"{clip.name}.json").unlink(missing_ok=True)
        raise UserError(f"no frame of any video can be read; first: {set_aside[0][0]}: {set_aside[0][1]}")
    write_csv(settings.output / TABLE_FILE, ["picture", "clip", "video", "frame", "seconds"], rows)
    write_csv(settings.output / SET_ASIDE_FILE, ["video", "problem"], set_aside)
    return FramesSummary(settings.output, count, len(rows), new, tuple(set_aside))


def _notes(state: Path) -> Iterator[tuple[Path, Plain]]:
    for note in sorted(state.glob("*.json")):
        yield note, _read_note(note)
