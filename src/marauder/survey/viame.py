"""VIAME CSV, which DIVE opens: a file for each video, and for each folder of pictures.

Source: VIAME's manual, "Detection File Formats". DIVE finds pictures by their names and frames of videos by their
numbers, and takes lines of one id for one track: each detection has an id of its own.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from marauder.core.files import atomic_path
from marauder.data.media_files import MediaFile
from marauder.survey.seen import Seen, Survey
from marauder.survey.tables import clock_time
from marauder.survey.written import Written

FOLDER = "viame"
PICTURES_FILE = "pictures.csv"
# VIAME's own line has commas within its texts; cut there, a CSV writer adds no quotes.
HEADER = (
    "# 1: Detection or Track-id",
    "2: Video or Image Identifier",
    "3: Unique Frame Identifier",
    "4-7: Img-bbox(TL_x",
    "TL_y",
    "BR_x",
    "BR_y)",
    "8: Detection or Length Confidence",
    "9: Target Length (0 or -1 if invalid)",
    "10-11+: Repeated Species",
    "Confidence Pairs or Attributes",
)
NO_LENGTH = -1


def write_viame(
    folder: Path, survey: Survey, files: Sequence[MediaFile], rates: dict[str, float], written: Written
) -> None:
    """Write ``viame/<video>.csv`` and ``viame/<folder>/pictures.csv``. ``rates``: frames a second of videos, by key.

    A file without a detection has its header alone; a video that cannot be opened, which has no rate, gets none.
    """
    readable = [media for media in files if not media.video or media.key in rates]
    targets = {media.key: folder / FOLDER / _file_of(media) for media in readable}
    seen_in: dict[Path, list[Seen]] = {target: [] for target in targets.values()}
    for seen in survey:
        seen_in[targets[seen.key]].append(seen)
    rate_of = {targets[key]: rate for key, rate in rates.items()}
    # Of all files, also those without a detection: a frame's number counts every picture of the folder.
    positions = _positions(files)
    written.announce(seen_in)
    for target, frames in seen_in.items():
        with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(HEADER)
            if target in rate_of:
                writer.writerow(["# metadata", f"Fps: {rate_of[target]:.6g}"])
            rows = (row for seen in frames for row in _rows(seen, positions[seen.key], survey.names))
            # Ids from 0, one for each line: lines of one id would be joined to a track.
            writer.writerows([identity, *row] for identity, row in enumerate(rows))


def _file_of(media: MediaFile) -> str:
    return f"{media.key}.csv" if media.video else str(PurePosixPath(media.key).parent / PICTURES_FILE)


def _positions(files: Sequence[MediaFile]) -> dict[str, int]:
    """The place of each picture among those of its folder, from 0, by key: the frame number of an image sequence."""
    places: dict[str, int] = {}
    filled: Counter[str] = Counter()
    for media in files:
        folder = _file_of(media)
        places[media.key] = filled[folder]
        filled[folder] += 1
    return places


def _rows(seen: Seen, position: int, names: Sequence[str]) -> Iterator[list[Any]]:
    """A line of each box, without its id."""
    if seen.seconds is None:
        place = [PurePosixPath(seen.key).name, position]
    else:
        place = [clock_time(seen.seconds, 6), seen.number]
    found = seen.found
    for box, score, index in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
        # The score stands for there being an object and for its class; a detector has only one.
        yield [*place, *box, score, NO_LENGTH, names[index], score]
