"""The second look: annotated pictures and videos, frames as pictures, small pictures for the page. No model needed.

A part that is drawn leaves a note of what it was drawn from; the same call draws only what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, atomic_path, fingerprint, read_json, write_bytes, write_json
from marauder.core.many_files import ManyFiles
from marauder.core.progress import Progress
from marauder.core.wording import units
from marauder.data.contact_sheets import colour_of, draw_boxes
from marauder.data.frames import encode_jpeg
from marauder.data.media_files import MediaFile, flat_names
from marauder.data.picture_files import PictureError, load_rgb
from marauder.data.video_files import Sampling, Video
from marauder.survey.detecting import PICTURES, file_identity
from marauder.survey.packages import frame_path
from marauder.survey.seen import Seen, Survey
from marauder.survey.written import Written

FORMAT = 1
"""Raised whenever the same boxes would be drawn otherwise."""
FOLDER = "annotated"
QUALITY, SMALL_QUALITY = 92, 80
SMALL = 440
"""Pixels of the longer side of the page's pictures."""
CODEC = "mp4v"
"""MPEG-4 Part 2: what OpenCV's wheels can write; players open it, browsers may not."""
BLOCK = 32


def annotated_path(folder: Path, media: MediaFile) -> Path:
    """Where the annotated picture or video lies: as the file is called, in a format that can be written."""
    kept = (".mp4",) if media.video else (".jpg", ".jpeg")
    suffix = "" if media.path.suffix.lower() in kept else kept[0]
    return folder / FOLDER / f"{media.key}{suffix}"


def small_path(state: Path, key: str, number: int) -> Path:
    """Where the page's picture of a frame lies."""
    return state / "small" / f"{fingerprint([key, number])[:20]}.jpg"


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is drawn. ``annotated``: pictures and videos with boxes; ``frames``: frames of videos as pictures;
    ``small``: key and number of the frames on the page. ``written``: called with all that belongs in the output."""

    output: Path
    state: Path
    names: tuple[str, ...]
    sampling: Sampling
    annotated: bool
    frames: bool
    small: frozenset[tuple[str, int]]
    written: Written

    def draw_all(self, survey: Survey, files: Sequence[MediaFile], clock: Clock) -> None:
        """Draw what is not drawn yet. Raises ``Interrupted``."""
        media_of = {media.key: media for media in files}
        clips = flat_names(files)
        self._forget_other_notes({part for part, _ in survey.parts})
        # Read once for the count: frames are not held in memory.
        total = sum(1 for _ in survey)
        of_pictures = [part.startswith(PICTURES) for part, _ in survey.parts]
        with Progress("drawing", total, units(any(of_pictures), not all(of_pictures))) as progress:
            for part, count in survey.parts:
                seen = iter(Survey(survey.stored, ((part, count),), survey.names))
                if part.startswith(PICTURES):
                    number = 0
                    # A note for each block, not for each picture: thousands of pictures would be thousands of notes.
                    while block := list(islice(seen, BLOCK)):
                        self._pictures(f"{part}-{number:05d}", block, media_of, clock)
                        progress.advance(len(block))
                        number += 1
                elif frames := list(seen):
                    # A part is one video, and a video without a readable frame has nothing to draw.
                    media = media_of[frames[0].key]
                    self._video(part, frames, media, clips[media.key], clock, progress)

    def _forget_other_notes(self, parts: Set[str]) -> None:
        """Delete notes of parts that are no longer: their files may be drawn again in another part."""
        for path in (self.state / "drawn").glob("*.json"):
            if path.stem not in parts and path.stem.rpartition("-")[0] not in parts:
                path.unlink()

    def forget_others(self) -> None:
        """Delete small pictures that the page does not show any more."""
        shown = {small_path(self.state, key, number) for key, number in self.small}
        for path in (self.state / "small").glob("*.jpg"):
            if path not in shown:
                path.unlink()

    def _pictures(self, part: str, block: Sequence[Seen], media_of: Mapping[str, MediaFile], clock: Clock) -> None:
        files = [annotated_path(self.output, media_of[seen.key]) for seen in block] if self.annotated else []
        smalls = [seen for seen in block if (seen.key, seen.number) in self.small]
        note = _Note(self, part, block, [media_of[seen.key] for seen in block], files, smalls)
        if note.begin():
            return

        def draw(seen: Seen) -> None:
            clock.check()
            media = media_of[seen.key]
            # Nothing to draw of it; decoding is what takes the time.
            if not self.annotated and seen not in smalls:
                return
            try:
                pixels = load_rgb(media.path)
            except PictureError as error:
                raise _changed(media, error.detail) from None
            if self.annotated:
                _write_jpeg(annotated_path(self.output, media), self._with_boxes(seen, pixels))
            if seen in smalls:
                self._write_small(seen, pixels)

        with ManyFiles() as many:
            for seen in block:
                many.add(partial(draw, seen))
        note.write()

    def _video(
        self, part: str, seen: Sequence[Seen], media: MediaFile, clip: str, clock: Clock, progress: Progress
    ) -> None:
        files = [annotated_path(self.output, media)] if self.annotated else []
        pictures = [frame_path(self.output, clip, one.number) for one in seen] if self.frames else []
        smalls = [one for one in seen if (one.key, one.number) in self.small]
        # A half-drawn video cannot be gone on with: the writer only appends to what it opened.
        note = _Note(self, part, seen, [media], [*files, *pictures], smalls)
        if note.begin():
            progress.advance(len(seen))
            return
        by_number = {one.number: one for one in seen}
        # For small pictures alone the video is read no further than the last of them.
        last = seen[-1].number if self.annotated or self.frames else max((one.number for one in smalls), default=-1)
        with (
            Video(media.path) as video,
            _VideoFile(files, self.state, self.sampling.rate(video.rate)) as annotated,
            ManyFiles() as many,
        ):
            done = progress.done
            for frame in video.frames(self.sampling):
                clock.check()
                if frame.number > last:
                    break
                one = by_number.pop(frame.number, None)
                if one is None or frame.pixels is None:
                    continue
                if self.annotated:
                    annotated.add(self._with_boxes(one, frame.pixels))
                if self.frames:
                    many.add(partial(_write_jpeg, frame_path(self.output, clip, one.number), frame.pixels))
                if one in smalls:
                    many.add(partial(self._write_small, one, frame.pixels))
                progress.advance(note=media.key)
            # Frames that nothing is drawn of are done, too.
            progress.advance(len(seen) - (progress.done - done))
            # Frames that the model saw and that cannot be read any more.
            if any(number <= last for number in by_number):
                raise _changed(media, f"frame {min(by_number)} is gone")
        # After the block above has waited for every file: the note vouches for them.
        note.write()

    def _with_boxes(self, seen: Seen, pixels: np.ndarray) -> np.ndarray:
        """The picture with boxes and their names and scores drawn on it, as thick as its size asks for."""
        image = Image.fromarray(pixels)
        found = seen.found
        labels = [
            f"{self.names[index]} {score:.2f}"
            for index, score in zip(found.classes.tolist(), found.scores.tolist(), strict=True)
        ]
        colours = [colour_of(index) for index in found.classes.tolist()]
        # The surest last, so that it lies on top.
        draw_boxes(image, found.boxes[::-1], labels[::-1], colours[::-1], max(1.0, max(image.size) / 900))
        return np.asarray(image)

    def _write_small(self, seen: Seen, pixels: np.ndarray) -> None:
        """The page's picture: small first, then the boxes, so that lines and names stay legible."""
        gain = min(1.0, SMALL / max(pixels.shape[:2]))
        image = Image.fromarray(pixels)
        size = (max(1, round(image.width * gain)), max(1, round(image.height * gain)))
        image = image.resize(size, Image.Resampling.BOX)
        labels = [self.names[index] for index in seen.found.classes.tolist()]
        colours = [colour_of(index) for index in seen.found.classes.tolist()]
        draw_boxes(image, seen.found.boxes[::-1] * gain, labels[::-1], colours[::-1])
        write_bytes(small_path(self.state, seen.key, seen.number), encode_jpeg(np.asarray(image), SMALL_QUALITY))


@dataclass(frozen=True, eq=False)
class _Note:
    """Says that a part was drawn, and from what."""

    drawing: Drawing
    part: str
    seen: Sequence[Seen]
    media: Sequence[MediaFile]
    files: Sequence[Path]
    smalls: Sequence[Seen]

    @property
    def path(self) -> Path:
        return self.drawing.state / "drawn" / f"{self.part}.json"

    def made_from(self) -> str:
        drawing = self.drawing
        what = [FORMAT, drawing.names, drawing.annotated, drawing.frames, drawing.sampling.every, drawing.sampling.fps]
        smalls = [[one.key, one.number] for one in self.smalls]
        return fingerprint(
            [what, smalls, [file_identity(media) for media in self.media], [one.to_json() for one in self.seen]]
        )

    def begin(self) -> bool:
        """Whether all is drawn already. Else the note goes before the first file does: it must not stand for what a
        call with other settings draws over and does not finish."""
        self.drawing.written.announce(self.files)
        if self._stands():
            return True
        self.path.unlink(missing_ok=True)
        return False

    def _stands(self) -> bool:
        try:
            known = read_json(self.path)
        except (FileNotFoundError, DamagedFileError):
            return False
        smalls = (small_path(self.drawing.state, one.key, one.number) for one in self.smalls)
        return bool(known == {"made_from": self.made_from()}) and all(path.is_file() for path in (*self.files, *smalls))

    def write(self) -> None:
        write_json(self.path, {"made_from": self.made_from()})


class _VideoFile:
    """A video in the making, put into place when it is whole. ``files``: where it belongs, or nothing."""

    def __init__(self, files: Sequence[Path], state: Path, rate: float) -> None:
        self.target, self.rate = (files[0] if files else None), rate
        self.partial = state / "drawing.mp4"  # FFmpeg goes by the suffix
        self.writer: cv2.VideoWriter | None = None
        self.size = (0, 0)

    def add(self, pixels: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3) red first; all take the size of the first."""
        if self.writer is None:
            height, width = pixels.shape[:2]
            # Frames of one file may differ in size; a video has one.
            self.size = (max(2, width - width % 2), max(2, height - height % 2))  # the codec takes even sides only
            # FFmpeg by name: which backend OpenCV would choose differs from build to build.
            code = cv2.VideoWriter.fourcc(*CODEC)
            self.writer = cv2.VideoWriter(str(self.partial.absolute()), cv2.CAP_FFMPEG, code, self.rate, self.size)
            if not self.writer.isOpened():
                raise UserError(f"{self.target}: this OpenCV cannot write videos; leave 'annotated' out of --formats")
        if pixels.shape[1::-1] != self.size:
            pixels = cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA)
        self.writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> _VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.writer is not None:
            # Writes the index of the MP4, without which no player opens it.
            self.writer.release()
            if kind is None and self.target is not None:
                with atomic_path(self.target) as temporary:
                    self.partial.replace(temporary)
        self.partial.unlink(missing_ok=True)


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    write_bytes(path, encode_jpeg(pixels, QUALITY))


def _changed(media: MediaFile, what: str) -> UserError:
    return UserError(f"{media.path}: changed while it was read ({what}); run the command again")
