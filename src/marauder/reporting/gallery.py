"""Pictures of the report: each photograph embedded once, the boxes drawn over it as vectors, overall and by slice.

A mark names its class and score when pointed at, and stays sharp when printed. Needs no scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from marauder.core.clock import Clock
from marauder.data.records import Detections, Record
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.outcomes import PictureOutcome, picture_outcomes
from marauder.evaluation.shown_pictures import rank_pictures, surest_false
from marauder.pages.rendering import embed_picture

PHOTO_PIXELS = 720
"""Long side of an embedded photograph."""
JPEG_QUALITY = 72
PHOTO_BYTES = 3_600_000
"""Characters that all photographs may take in the page; what comes later is left out, and the page says so."""
WORST_OVERALL, BEST_OVERALL, WORST_OF_SLICE = 8, 4, 4
MOST_LABELS = 6
"""In a picture with more marks than this only the surest are named in the picture itself."""


@dataclass(frozen=True)
class Mark:
    """A box over a photograph, in pixels of the picture. ``kind``: found, false, missed, true or label."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    text: str
    named: bool


@dataclass(frozen=True)
class Tile:
    """One picture with its marks; ``photo`` is its number in ``Gallery.photos``. ``undrawn``: false boxes without a
    mark."""

    photo: int
    key: str
    width: int
    height: int
    found: int
    missed: int
    false: int
    marks: tuple[Mark, ...]
    undrawn: int = 0


@dataclass(frozen=True)
class Section:
    """The worst pictures of a slice. ``failing``: how many pictures of it have errors."""

    name: str
    tiles: tuple[Tile, ...]
    failing: int


@dataclass
class Gallery:
    """``photos``: data addresses by the picture's place in the records, empty where the file cannot be read.

    ``labelled``: training pictures with their labels; they count from -1 down in ``photos``.
    """

    photos: dict[int, str] = field(default_factory=dict)
    worst: tuple[Tile, ...] = ()
    best: tuple[Tile, ...] = ()
    labelled: tuple[Tile, ...] = ()
    sections: list[Section] = field(default_factory=list)
    full: bool = False

    @property
    def shown(self) -> set[int]:
        """Photographs that a tile uses."""
        tiles = [
            *self.labelled,
            *self.worst,
            *self.best,
            *(tile for section in self.sections for tile in section.tiles),
        ]
        return {tile.photo for tile in tiles}


def slice_outcomes(result: EvaluationResult, name: str) -> tuple[np.ndarray, list[PictureOutcome]]:
    """Places of a slice's pictures and their outcomes, counting only the boxes that the slice means."""
    mask = next(mask for mask in result.masks if mask.name == name)
    outcomes = picture_outcomes(result.slice_matches(name), result.overall.confidence)
    places = np.flatnonzero(mask.pictures)
    return places, [outcomes[place] for place in places]


def build_gallery(
    result: EvaluationResult,
    records: Sequence[Record],
    detections: Sequence[Detections],
    outcomes: Sequence[PictureOutcome],
    slices: Sequence[str],
    clock: Clock | None = None,
    photo_bytes: int = PHOTO_BYTES,
    labelled: Sequence[Record] = (),
) -> Gallery:
    """``labelled`` with their labels, the worst and best pictures, then the worst of each of ``slices`` in this order,
    while there is room.

    ``outcomes``: of all pictures, at the confidence of the whole. ``clock`` is asked before each photograph; raises
    ``Interrupted``.
    """
    gallery = Gallery()
    names = result.matches.names

    def tiles(places: Sequence[int], ranked: Sequence[int], of: Sequence[PictureOutcome]) -> tuple[Tile, ...]:
        made = []
        for one in ranked:
            place = places[one]
            if _add_photo(gallery, place, records[place], clock, photo_bytes):
                made.append(_tile(place, records[place], detections[place], of[one], names))
        return tuple(made)

    gallery.labelled = tuple(
        _labelled_tile(-place, record, names)
        for place, record in enumerate(labelled, 1)
        if _add_photo(gallery, -place, record, clock, photo_bytes)
    )
    everything = range(len(records))
    worst, best = rank_pictures(records, outcomes, WORST_OVERALL)
    gallery.worst = tiles(everything, worst, outcomes)
    gallery.best = tiles(everything, best[:BEST_OVERALL], outcomes)
    for name in slices:
        chosen, of_slice = slice_outcomes(result, name)
        places = [int(place) for place in chosen]
        worst, _ = rank_pictures([records[place] for place in places], of_slice, WORST_OF_SLICE)
        failing = sum(1 for outcome in of_slice if outcome.labelled and outcome.errors)
        gallery.sections.append(Section(name, tiles(places, worst, of_slice), failing))
    return gallery


def _add_photo(gallery: Gallery, place: int, record: Record, clock: Clock | None, room: int) -> bool:
    """Embed a picture unless it is there; False when the page is full."""
    if place in gallery.photos:
        return True
    if clock is not None:
        clock.check()
    address = embed_photo(record)
    # An unreadable picture adds nothing, and gets its tile even in a full page.
    if sum(map(len, gallery.photos.values())) + len(address) > room:
        gallery.full = True
        return False
    gallery.photos[place] = address
    return True


def embed_photo(record: Record) -> str:
    """A picture, made small, as a JPEG data address; empty if it cannot be read."""
    import cv2

    from marauder.data.pictures import UnreadablePictureError, decode_picture, scaled_size

    try:
        picture = decode_picture(record.picture)
    except UnreadablePictureError:
        return ""
    size = scaled_size(picture.shape[1], picture.shape[0], PHOTO_PIXELS)
    # Never enlarged: the browser does that, without the bytes.
    if size[0] < picture.shape[1]:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    # OpenCV writes BGR, pictures are RGB here.
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return embed_picture(content.tobytes())


def _tile(place: int, record: Record, found: Detections, outcome: PictureOutcome, names: Sequence[str]) -> Tile:
    false = surest_false(found, outcome)
    shown = np.concatenate([outcome.right, false]).astype(np.int64)
    surest = {int(index) for index in shown[np.argsort(-found.scores[shown], kind="stable")][:MOST_LABELS]}
    few_missed = {int(index) for index in outcome.missed[:MOST_LABELS]}
    single = len(names) == 1

    marks = [_mark("true", record.boxes[index], names[record.classes[index]], False) for index in outcome.found]
    marks += [
        _mark("missed", record.boxes[index], names[record.classes[index]], int(index) in few_missed and not single)
        for index in outcome.missed
    ]
    for kind, places in (("found", outcome.right), ("false", false)):
        for index in places:
            name = "" if single else f"{names[found.classes[index]]} "
            text = f"{name}{found.scores[index]:.2f}"
            marks.append(_mark(kind, found.boxes[index], text, int(index) in surest))
    counts = (len(outcome.right), len(outcome.missed), len(outcome.wrong))
    undrawn = len(outcome.wrong) - len(false)
    return Tile(place, record.key, record.width, record.height, *counts, tuple(marks), undrawn)


def _labelled_tile(photo: int, record: Record, names: Sequence[str]) -> Tile:
    marks = [_mark("label", box, names[number], True) for box, number in zip(record.boxes, record.classes, strict=True)]
    return Tile(photo, record.key, record.width, record.height, 0, 0, 0, tuple(marks))


def _mark(kind: str, box: np.ndarray, text: str, named: bool) -> Mark:
    # A tenth of a pixel does, and such numbers are much of what a page with many marks weighs.
    x0, y0, x1, y1 = (round(float(value), 1) for value in box)
    return Mark(kind, x0, y0, round(x1 - x0, 1), round(y1 - y0, 1), text, named)


def worst_pictures(
    records: Sequence[Record], outcomes: Mapping[int, PictureOutcome], count: int
) -> list[dict[str, object]]:
    """The pictures with most to learn from, worst first, for tools that read the JSON. ``outcomes`` by place."""
    failing = [place for place, outcome in outcomes.items() if outcome.labelled and outcome.errors]
    failing.sort(key=lambda place: (outcomes[place].f1, -outcomes[place].errors, place))
    return [
        {
            "key": records[place].key,
            "picture": records[place].picture,
            "f1": outcomes[place].f1,
            "found": len(outcomes[place].found),
            "missed": len(outcomes[place].missed),
            "false": len(outcomes[place].wrong),
        }
        for place in failing[:count]
    ]
