"""Video files: which files are videos, and their frames in order with number and time, past what is broken in them.

Frames are counted from the beginning, never jumped to: where a jump lands depends on the container and the codec, and
what is found in a frame must not depend on where the reading of its video began.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "3gp asf avi divx dv flv m2ts m2v m4v mjpeg mkv mod mov mp4",
        "mpeg mpg mts mxf ogv tod ts vob webm wmv",
    )
    for name in names.split()
)
"""Names of the containers that OpenCV's FFmpeg opens and cameras, recorders and editors write."""

USUAL_RATE = 25.0
"""Frames a second of a video that does not say."""
FAILURES_AT_THE_END = 512
"""Frames in a row that cannot be decoded before a video counts as ended: FFmpeg reports both in the same way."""
MISSING_SHARE = 0.98
"""A video with fewer of its announced frames ended early; most containers only estimate their number."""
SAME_TIME = 0.0005
"""Seconds by which a frame may come before its time: containers round to milliseconds."""


class VideoError(Exception):
    """A file that is no video, or has no frame that can be decoded; the message says why, without the path."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(detail)
        self.path, self.detail = path, detail


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at: each ``every``-th from the first on, or, with ``fps``, the first frame at
    or after each 1/``fps`` of a second."""

    every: int = 1
    fps: float | None = None

    def rate(self, native: float) -> float:
        """Frames a second that are looked at in a video of ``native`` frames a second."""
        return min(self.fps, native) if self.fps is not None else native / self.every


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame. ``number``: from 0. ``seconds``: since the first frame. ``pixels``: uint8 (H, W, 3), red first, as
    displayed; ``None`` for a frame that cannot be decoded."""

    number: int
    seconds: float
    pixels: np.ndarray | None


def is_video(path: Path | str) -> bool:
    """Whether the file name has a video's suffix and is not hidden."""
    name = os.path.basename(path)  # noqa: PTH119 - called for every file of large folders
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")  # noqa: PTH122


class Video:
    """A video, opened. ``rate``: frames a second as announced (``USUAL_RATE`` where nothing is). ``announced``: frames
    that the container claims to hold, 0 if it does not say. ``seen``: frames counted so far, broken ones included.

    Raises ``VideoError`` for a file that is missing, empty, truncated beyond use or no video.
    """

    def __init__(self, path: Path) -> None:
        # Both are read when FFmpeg is first used. A playlist that poses as a video must not fetch anything.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
        import cv2

        self.path, self.seen = path, 0
        if not path.is_file():
            raise VideoError(path, "the video does not exist")
        if not path.stat().st_size:
            raise VideoError(path, "the file has no bytes")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            # An absolute path cannot be taken for the address of a protocol.
            self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise VideoError(path, "not a readable video: truncated, damaged or of an unknown kind")
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else USUAL_RATE
        self.announced = int(count) if math.isfinite(count) and count > 0 else 0

    def expected(self, sampling: Sampling) -> int:
        """How many frames ``sampling`` will choose, as far as the container tells; 0 if it does not."""
        return math.ceil(self.announced * sampling.rate(self.rate) / self.rate)

    def frames(self, sampling: Sampling, after: int = -1) -> Iterator[VideoFrame]:
        """The frames with a number above ``after`` that ``sampling`` chooses, and every broken one among all.

        Which frames are chosen does not depend on ``after``. A broken frame counts: the next has its own number.
        """
        import cv2

        due = 0
        failures: list[VideoFrame] = []
        while len(failures) < FAILURES_AT_THE_END:
            number = self.seen + len(failures)
            if not self._capture.grab():
                # Held back: with no good frame behind them they are not broken frames but the end.
                failures.append(VideoFrame(number, number / self.rate, None))
                continue
            yield from (frame for frame in failures if frame.number > after)
            self.seen, failures = number + 1, []
            # 0 for any frame but the first means that the container has no times.
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = round(stamp if stamp > 0 or not number else number / self.rate, 6)
            if sampling.fps is None:
                chosen = number % sampling.every == 0
            else:
                chosen = seconds + SAME_TIME >= due / sampling.fps
                # Counted from the frame that came: a gap in the times is not filled with frames close together.
                due = math.floor((seconds + SAME_TIME) * sampling.fps) + 1 if chosen else due
            if chosen and number > after:
                # Only frames that are looked at are converted.
                done, pixels = self._capture.retrieve()
                rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if done and pixels is not None else None
                yield VideoFrame(number, seconds, rgb)

    def shortfall(self) -> str:
        """What to say of a video that was read to its end and ended too early; "" for a whole one."""
        if not self.seen:
            return "no frame of it can be decoded"
        if self.seen < MISSING_SHARE * self.announced - 1:
            return f"ends early: {self.seen:,} of {self.announced:,} frames are there"
        return ""

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
