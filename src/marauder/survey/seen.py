"""What was found so far, on disk: shards of frames, each trusted only if it says what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from marauder.core.files import DamagedFileError, read_json, to_plain, write_text
from marauder.core.plain import Plain
from marauder.data.boxes import clean_boxes
from marauder.data.records import Detections

DECIMALS = 2
"""Of coordinates in pixels: finer than anyone draws."""
SCORE_DECIMALS = 4
NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture or frame that was looked at. ``key``: of its file. ``number``: of the frame in its video, else 0.
    ``seconds``: from the beginning of the video; ``None`` for a picture. ``width``, ``height``: pixels as displayed."""

    key: str
    number: int
    seconds: float | None
    width: int
    height: int
    found: Detections

    @classmethod
    def of(cls, key: str, number: int, seconds: float | None, pixels: np.ndarray, found: Detections) -> Seen:
        """What is kept of ``found``: usable boxes, rounded, the surest first."""
        height, width = pixels.shape[:2]
        # Rounded first: what is judged is what is written, and a shard read back gives the same boxes.
        clean = clean_boxes(np.round(found.boxes, DECIMALS), found.classes, width, height, None)
        scores = np.round(found.scores[clean.kept], SCORE_DECIMALS)
        return cls(key, number, seconds, width, height, Detections(clean.boxes, scores, found.classes[clean.kept]))

    def without_boxes(self) -> Seen:
        """The frame alone, for those who keep many."""
        return replace(self, found=NOTHING)

    def to_json(self) -> Plain:
        """As ``from_json`` takes it."""
        return {
            "key": self.key,
            "number": self.number,
            "seconds": self.seconds,
            "size": [self.width, self.height],
            "boxes": self.found.boxes,
            "scores": self.found.scores,
            "classes": self.found.classes,
        }

    @classmethod
    def from_json(cls, row: Plain) -> Seen:
        """The inverse of ``to_json``."""
        width, height = row["size"]
        found = Detections(row["boxes"], row["scores"], row["classes"])
        return cls(row["key"], row["number"], row["seconds"], width, height, found)


@dataclass(frozen=True, eq=False)
class Shard:
    """A finished part of the work. ``last``: number of the last frame that was read, broken ones included.
    ``complete``: whether nothing of its file or files is left. ``problems``: file key and what is wrong with it, or
    with a part of it."""

    frames: tuple[Seen, ...]
    last: int = -1
    complete: bool = True
    problems: tuple[tuple[str, str], ...] = ()


class SeenFolder:
    """The folder of shards: ``<part>-<number>.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, part: str, number: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"{part}-{number:05d}.json"

    def write(self, part: str, number: int, identity: str, shard: Shard) -> None:
        """Write a shard atomically; the same shard gives the same bytes."""
        content = {
            "identity": identity,
            "last": shard.last,
            "complete": shard.complete,
            "problems": shard.problems,
            "frames": [frame.to_json() for frame in shard.frames],
        }
        write_text(self.path(part, number), json.dumps(to_plain(content), ensure_ascii=False, separators=(",", ":")))

    def read(self, part: str, number: int, identity: str | None = None) -> Shard | None:
        """A shard; ``None`` where there is none, it is damaged, or was made from something other than ``identity``."""
        try:
            content = read_json(self.path(part, number))
        except (FileNotFoundError, DamagedFileError):
            return None
        # Without an identity the place is trusted: who asks has written or checked the shard in this very run.
        if identity is not None and content["identity"] != identity:
            return None
        frames = tuple(Seen.from_json(row) for row in content["frames"])
        problems = tuple((key, text) for key, text in content["problems"])
        return Shard(frames, content["last"], content["complete"], problems)

    def forget(self, wanted: set[Path]) -> None:
        """Delete the shards that are not among ``wanted``."""
        for path in self.folder.glob("*.json"):
            if path not in wanted:
                path.unlink()


@dataclass(frozen=True)
class Survey:
    """All that was found, in the order of pictures, then videos, read from disk whenever it is gone through.

    ``parts``: name and number of shards of each part. ``names[i]``: name of class ``i``.
    """

    stored: SeenFolder
    parts: tuple[tuple[str, int], ...]
    names: tuple[str, ...]

    def shards(self) -> Iterator[Shard]:
        """Every shard. Raises ``DamagedFileError`` for one that is gone since it was written."""
        for part, count in self.parts:
            for number in range(count):
                shard = self.stored.read(part, number)
                if shard is None:
                    raise DamagedFileError(f"{self.stored.path(part, number)}: gone or damaged; run the command again")
                yield shard

    def __iter__(self) -> Iterator[Seen]:
        for shard in self.shards():
            yield from shard.frames

    def problems(self) -> list[tuple[str, str]]:
        """What was set aside: file key and why."""
        return [problem for shard in self.shards() for problem in shard.problems]
