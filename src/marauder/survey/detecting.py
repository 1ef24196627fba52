"""Looking at pictures and videos with a model, shard by shard: what is finished is on disk, the same call goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import fingerprint
from marauder.core.mistakes import nearest
from marauder.core.progress import Progress
from marauder.core.wording import units
from marauder.data.frames import broken_in_words
from marauder.data.media_files import MediaFile
from marauder.data.picture_files import DECODING_VERSION, PictureError, load_rgb
from marauder.data.records import Detections
from marauder.data.video_files import Sampling, Video, VideoError, VideoFrame
from marauder.prediction.batching import one_chunk_ahead
from marauder.prediction.settings import PredictionSettings
from marauder.survey.seen import Seen, SeenFolder, Shard
from marauder.survey.settings import MOST_AT_ONCE, PredictSettings

FORMAT = 2
"""Raised whenever the same model, settings and files would give other boxes."""
PICTURES = "pictures"
"""Begins the name of parts that are pictures, a shard each; each video is a part of its own."""
SHARD = MOST_AT_ONCE
"""Pictures or frames of a shard: the most that a kill costs."""


class Detector(Protocol):
    """What is asked of a model: ``prediction.predictor.Predictor`` is one."""

    names: tuple[str, ...]
    image_size: int
    thresholds: np.ndarray | None
    """Least score of each class (C,) where the user names none; ``None``: it has no own ones."""

    @property
    def best_batch(self) -> int:
        """Pictures that should be looked at together where the user names no number."""
        ...

    def predict(self, pictures: Sequence[np.ndarray], settings: PredictionSettings) -> list[Detections]:
        """The boxes of each picture, uint8 (H, W, 3) red first, in its pixels."""
        ...


def wanted_classes(settings: PredictSettings, names: Sequence[str]) -> tuple[str, ...] | None:
    """The names of the classes that are asked for, by name or number. Raises ``UserError`` for one that is unknown."""
    if settings.classes is None:
        return None
    wanted, unknown = [], []
    for word in settings.classes:
        # A class may be called "7": the name counts before the number. Not isdigit(), which int() contradicts on "²".
        number = int(word) if word.isdecimal() else len(names)
        if word not in names and number >= len(names):
            unknown.append(word)
        else:
            wanted.append(word if word in names else names[number])
    if unknown:
        numbers = f"numbers 0 to {len(names) - 1}"
        told = "\n".join(f"  {word}{nearest(word, names)}" for word in unknown)
        raise UserError(f"--classes: not among the {len(names)} classes of {settings.model} ({numbers}):\n{told}")
    return tuple(dict.fromkeys(wanted))


@dataclass(frozen=True, eq=False)
class Looking:
    """A model looking at files. ``made_from``: what decides its answers beside the files, as plain values."""

    detector: Detector
    options: PredictionSettings
    batch: int
    sampling: Sampling
    made_from: Any
    stored: SeenFolder
    clock: Clock

    @classmethod
    def of(
        cls, settings: PredictSettings, detector: Detector, digest: str, stored: SeenFolder, clock: Clock
    ) -> Looking:
        """``digest``: of the model's file. Batch and device change answers by rounding only, and decide nothing."""
        classes, batch = wanted_classes(settings, detector.names), settings.batch or detector.best_batch
        options = PredictionSettings(
            confidence=settings.confidence,
            iou=settings.iou,
            max_detections=settings.max_detections,
            image_size=settings.image_size,
            batch=batch,
            classes=classes,
        )
        deciding = {name: value for name, value in asdict(options).items() if name != "batch"}
        made_from = [FORMAT, DECODING_VERSION, digest, deciding]
        return cls(detector, options, batch, settings.sampling, made_from, stored, clock)

    def at_all(self, files: Sequence[MediaFile]) -> tuple[tuple[str, int], ...]:
        """Look at what nobody has looked at yet; returns the parts of the ``Survey``: pictures, then videos."""
        # Pictures first, in whatever order they were named: every file that is written keeps this order.
        pictures = [media for media in files if not media.video]
        videos = [media for media in files if media.video]
        total = len(pictures) + sum(_announced(media, self.sampling) for media in videos)
        parts = []
        with Progress("predicting", total, units(bool(pictures), bool(videos))) as progress:
            for group in _in_groups(pictures):
                parts.append((self._pictures(group, progress), 1))
            for media in videos:
                part = f"video-{fingerprint(media.key)[:16]}"
                parts.append((part, self._video(media, part, progress)))
        return tuple(parts)

    def _pictures(self, group: Sequence[MediaFile], progress: Progress) -> str:
        """Look at pictures; returns their part, which is named by them and not by their place among all."""
        stamps = [file_identity(media) for media in group]
        part, identity = f"{PICTURES}-{fingerprint(stamps)[:16]}", fingerprint([self.made_from, stamps])
        if self.stored.read(part, 0, identity) is not None:
            _skip(progress, len(group))
            return part
        frames: list[Seen] = []
        problems: list[tuple[str, str]] = []
        chunks = [group[start : start + self.batch] for start in range(0, len(group), self.batch)]
        for chunk, decoded in zip(chunks, one_chunk_ahead(chunks, _decode), strict=True):
            self.clock.check()
            good = []
            for media, pixels in zip(chunk, decoded, strict=True):
                if isinstance(pixels, str):
                    # ``_decode`` gives words for a broken picture: an exception would end the reading ahead.
                    problems.append((media.key, pixels))
                else:
                    good.append((media.key, 0, None, pixels))
            frames += self._look(good)
            progress.advance(len(chunk))
        # Written as a whole: the results of half a group are not kept.
        self.stored.write(part, 0, identity, Shard(tuple(frames), problems=tuple(problems)))
        return part

    def _video(self, media: MediaFile, part: str, progress: Progress) -> int:
        """Look at a video from where an earlier run left it; returns how many shards it has."""
        made_from = [self.made_from, file_identity(media), self.sampling.every, self.sampling.fps]
        number, after = 0, -1
        # A shard counts only where it begins at the end of the one before: another batch size cuts elsewhere.
        while shard := self.stored.read(part, number, fingerprint([made_from, after])):
            _skip(progress, len(shard.frames))
            number, after = number + 1, shard.last
            if shard.complete:
                return number
        try:
            with Video(media.path) as video:
                for shard in self._shards(media, video, after, progress):
                    self.stored.write(part, number, fingerprint([made_from, after]), shard)
                    number, after = number + 1, shard.last
        except VideoError as error:
            # Complete, too: a video that cannot be opened would else be opened at every call.
            shard = Shard((), problems=((media.key, error.detail),))
            self.stored.write(part, number, fingerprint([made_from, after]), shard)
            number += 1
        return number

    def _shards(self, media: MediaFile, video: Video, after: int, progress: Progress) -> Iterator[Shard]:
        chunks_a_shard = max(1, SHARD // self.batch)
        frames: list[Seen] = []
        broken: list[int] = []
        last = after
        for place, chunk in enumerate(_chunks_ahead(video.frames(self.sampling, after), self.batch), 1):
            self.clock.check()
            good = [(media.key, one.number, one.seconds, one.pixels) for one in chunk if one.pixels is not None]
            frames += self._look(good)
            broken += [one.number for one in chunk if one.pixels is None]
            last = chunk[-1].number
            progress.advance(len(good), note=media.key)
            # Cut between batches: work that is taken up again puts the same frames together.
            if place % chunks_a_shard == 0:
                yield Shard(tuple(frames), last, False, _problems(media, broken_in_words(broken)))
                frames, broken = [], []
        # Only at the end is it known that frames which the file announces are missing.
        words = [*broken_in_words(broken), *filter(None, [video.shortfall()])]
        yield Shard(tuple(frames), last, True, _problems(media, words))

    def _look(self, taken: Sequence[tuple[str, int, float | None, np.ndarray]]) -> list[Seen]:
        found = self.detector.predict([pixels for *_, pixels in taken], self.options) if taken else []
        return [Seen.of(*one, detections) for one, detections in zip(taken, found, strict=True)]


def _in_groups(pictures: Sequence[MediaFile]) -> Iterator[list[MediaFile]]:
    """``pictures`` in order, ``SHARD`` at most together. Names say where a group ends, so that a picture that joins or
    goes changes the groups around it only, and the others need no second look."""
    group: list[MediaFile] = []
    for media in pictures:
        group.append(media)
        ends = int(fingerprint(media.key)[:8], 16) % (SHARD // 2) == 0
        if len(group) == SHARD or (ends and len(group) >= SHARD // 4):
            yield group
            group = []
    if group:
        yield group


def file_identity(media: MediaFile) -> list[Any]:
    """What tells whether a file is still the same: key, length and time of change."""
    try:
        status = media.path.stat()
    except OSError:
        return [media.key, -1, -1]
    return [media.key, status.st_size, status.st_mtime_ns]


def _problems(media: MediaFile, words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((media.key, text) for text in words)


def _announced(media: MediaFile, sampling: Sampling) -> int:
    try:
        with Video(media.path) as video:
            return video.expected(sampling)
    except VideoError:
        return 0


def _skip(progress: Progress, count: int) -> None:
    progress.already_done += count
    progress.advance(count)


def _decode(media: MediaFile) -> np.ndarray | str:
    """The pixels of a picture, or what is wrong with it."""
    try:
        return load_rgb(media.path)
    except PictureError as error:
        return error.detail


def _chunks_ahead(frames: Iterator[VideoFrame], size: int) -> Iterator[list[VideoFrame]]:
    """``frames`` in chunks, the next one being read while the last is looked at."""
    # One thread: a generator cannot be advanced by two.
    pool = ThreadPoolExecutor(1)
    try:
        waiting = pool.submit(lambda: list(islice(frames, size)))
        while chunk := waiting.result():
            waiting = pool.submit(lambda: list(islice(frames, size)))
            yield chunk
    finally:
        # Waits for the chunk under way: the video is closed next, and must not be while it is read.
        pool.shutdown(cancel_futures=True)
