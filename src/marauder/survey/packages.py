"""Boxes as COCO, YOLO, Label Studio and CVAT, to correct by hand: a folder for each format, linked to the pictures.

The files are those of the packages that go to annotators (``annotation.formats``); here they stand unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from marauder.annotation.formats.base import ExchangeFormat, Item, Package
from marauder.annotation.packing import Entry
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import write_bytes
from marauder.core.many_files import ManyFiles
from marauder.core.plugins import make
from marauder.data.frames import frame_name
from marauder.data.media_files import MediaFile, flat_names
from marauder.data.writers import place_picture
from marauder.survey.seen import Survey
from marauder.survey.written import Written

FRAMES_FOLDER = "frames"
"""Where the frames of videos lie as pictures, one folder for each video."""


def frame_path(folder: Path, clip: str, number: int) -> Path:
    """Where a frame of a video lies as a picture. ``clip``: the video's flat name."""
    return folder / FRAMES_FOLDER / clip / frame_name(clip, number)


def write_packages(
    folder: Path,
    formats: Sequence[str],
    survey: Survey,
    files: Sequence[MediaFile],
    clock: Clock,
    written: Written,
) -> None:
    """Write ``<format>/`` for each of ``formats``. Frames of videos must lie in ``frame_path``.

    The clock is asked between pictures. Raises ``UserError`` where two pictures would have one name.
    """
    items = _items(folder, survey, files) if formats else ()
    with ManyFiles() as many:
        for name in formats:
            layout: ExchangeFormat = make("annotation_format", name)
            package = Package(name, folder.absolute().name, survey.names, items)
            for entry in layout.entries(package):
                clock.check()
                target = folder / name / entry.name
                written.announce([target])
                many.add(partial(_write, entry, target))


def _write(entry: Entry, target: Path) -> None:
    if isinstance(entry.source, bytes):
        write_bytes(target, entry.source)
    else:
        # Four formats of one survey would hold four copies.
        place_picture(entry.source, target, "link")


def _items(folder: Path, survey: Survey, files: Sequence[MediaFile]) -> tuple[Item, ...]:
    flat, path_of = flat_names(files), {media.key: media.path for media in files}
    items = []
    taken: dict[str, str] = {}
    for seen in survey:
        clip = flat[seen.key]
        picture = path_of[seen.key] if seen.seconds is None else frame_path(folder, clip, seen.number)
        file = clip if seen.seconds is None else picture.name
        # YOLO's label files drop the suffix, and not every disk tells a.jpg from A.jpg.
        other = taken.setdefault(Path(file).stem.lower(), seen.key)
        if other != seen.key:
            raise UserError(f"{seen.key} and {other} would both be called {file}; predict one of them separately")
        found = seen.found
        key = str(Path(file).with_suffix(""))
        items.append(Item(key, file, picture, seen.width, seen.height, found.boxes, found.classes, found.scores))
    return tuple(items)
