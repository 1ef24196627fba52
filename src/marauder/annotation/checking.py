"""Checking a delivery picture by picture: what can be taken, what was mended, what goes back and why. Merges nothing.

A picture goes back as a whole when anything about it is in doubt, because half of a picture's boxes teach a detector
that the rest is water. What is certain is mended and reported: a box that reaches slightly over the border is clipped,
a repeated box counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from marauder.annotation.batch import Batch, BatchItem
from marauder.annotation.formats.base import Answer, Reading, match_class
from marauder.annotation.same_picture import same_picture
from marauder.annotation.several_formats import contradictions
from marauder.annotation.unpacking import Unpacked
from marauder.core.clock import Clock
from marauder.data.boxes import CLICKED_SIDE, clean_boxes, with_corners_in_order
from marauder.data.picture_files import PictureError, is_picture, read_header
from marauder.data.records import Attribute, box_columns

SLIGHTLY_OUTSIDE = 0.02
"""Share of the side, at least ``SLIGHT_PIXELS``, that a box may reach over the border and still be clipped."""
SLIGHT_PIXELS = 3.0
CROWD_FLAGS = ("crowd", "iscrowd", "ignored", "ignore")
"""Box attributes which say that a box neither rewards nor penalises a detection."""

MENDED = frozenset(
    {
        "box-clipped",
        "box-duplicate",
        "class-spelled",
        "shape-converted",
        "box-corners",
        "size-scaled",
        "size-unstated",
        "several-answers",
        "label-encoding",
        "names-missing",
        "picture-encoded-anew",
        "entry-name-mended",
    }
)
"""Kinds that are reported without sending a picture back; every other kind that names a picture sends it back."""
OWNERLESS = frozenset({"label-without-picture", "label-syntax"})
DOUBTFUL = OWNERLESS | {"negatives-many"}
"""Serious kinds that, even where they name no picture, leave in doubt what the pictures in order say: a box that
belongs to an unknown picture may be missing in any of them."""
USUAL_EMPTY = 0.25
"""Share of pictures without any object where no labelled picture says what is usual."""
LEAST_NEGATIVES = 3
EXPECTED_BOXES = 0.5
"""Number of boxes expected in a picture from which on an empty answer is a surprise."""
Status = Literal["accepted", "returned", "missing"]


@dataclass(frozen=True, slots=True)
class Note:
    """One thing found. ``serious``: the picture goes back for it. ``place``: file (and line) of the delivery."""

    kind: str
    message: str
    place: str = ""
    serious: bool = True


@dataclass(frozen=True, eq=False)
class Taken:
    """A picture's answer as it is merged: boxes float64 (N, 4) inside the picture, ``classes`` int64 (N,) of the
    batch's names, ``ignored`` bool (N,), ``attributes``: columns (N,) as ``Record.box_attributes``."""

    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PictureCheck:
    """What was found of one picture. ``part``: ``first`` or ``second`` (the overlap's other annotator)."""

    file: str
    key: str
    part: Literal["first", "second"]
    status: Status
    notes: tuple[Note, ...]
    taken: Taken | None = None
    delivered_boxes: int = 0


@dataclass(frozen=True, eq=False)
class Checked:
    """``pictures``: every picture that was waited for or was delivered. ``general``: what belongs to no picture of
    ours; the serious ones among them mean that something could not be read. ``strangers``: pictures that are not
    ours. ``usual_empty``: share of the data set's labelled pictures without any object, ``None`` where unknown."""

    pictures: tuple[PictureCheck, ...]
    general: tuple[Note, ...]
    strangers: tuple[str, ...]
    usual_empty: float | None = None

    def of_status(self, status: Status) -> list[PictureCheck]:
        """The pictures of one status."""
        return [picture for picture in self.pictures if picture.status == status]

    @property
    def clean(self) -> bool:
        """Whether all that was waited for came, nothing goes back, and nothing puts the whole in doubt."""
        return not self.doubts and all(picture.status == "accepted" for picture in self.pictures)

    @property
    def doubts(self) -> tuple[Note, ...]:
        """What belongs to no picture of ours and yet leaves in doubt what the others say."""
        return tuple(note for note in self.general if note.serious and note.kind in DOUBTFUL)

    @property
    def empty(self) -> list[PictureCheck]:
        """The pictures in order that are said to hold nothing."""
        return [picture for picture in self.of_status("accepted") if not picture.delivered_boxes]

    def kinds(self) -> dict[str, int]:
        """How often each kind was found, most frequent first."""
        notes = [note for picture in self.pictures for note in picture.notes]
        return dict(Counter(note.kind for note in (*notes, *self.general)).most_common())


def check_delivery(
    batch: Batch,
    reading: Reading,
    unpacked: Unpacked,
    answered: Iterable[str] = (),
    clock: Clock | None = None,
    usual_empty: float | None = None,
) -> Checked:
    """Judge every picture of the batch.

    ``answered``: file names that earlier deliveries answered; they are not missing, and a new answer replaces theirs. A
    package that is not in the delivery at all (``_absent_parts``) is not missing, it has not come yet. ``usual_empty``:
    of ``Checked``; many more empty answers than that look like an unfinished package (``_many_negatives``).
    """
    answered = set(answered)
    absent = _absent_parts(batch, reading, answered)
    notes, general = _notes_by_file(batch, reading, unpacked)
    for file, note in _compare_pictures(batch, unpacked, clock).items():
        notes.setdefault(file, []).append(note)
    # Where two formats say different things of a picture nobody knows which is meant, so neither is taken.
    at_odds = contradictions(unpacked.folder, batch, reading)
    for file, name in at_odds.items():
        message = f"the delivery holds two formats, and {name} says something else of this picture; which is meant?"
        notes.setdefault(file, []).append(Note("formats-disagree", message))
    if at_odds:
        message = f"two formats say different things of {len(at_odds)} pictures; which is meant? Those pictures go back"
        general.append(Note("formats-disagree", message))
    pictures = []
    for item in batch.items:
        files: list[tuple[str, Literal["first", "second"]]] = [(item.file, "first")]
        if item.second_file:
            files.append((item.second_file, "second"))
        for file, part in files:
            answer = reading.answers.get(file)
            if answer is None and (file in answered or part in absent):
                continue
            found = tuple(notes.get(file, ()))
            pictures.append(_check_picture(item, file, part, answer, found, batch.names))
    # Only now: whether many came back empty is a matter of all pictures together.
    checked = Checked(tuple(pictures), tuple(general), tuple(reading.strangers), usual_empty)
    many = _many_negatives(batch, checked)
    return replace(checked, pictures=_doubtful_negatives(checked), general=(*many, *checked.general))


def _doubtful_negatives(checked: Checked) -> tuple[PictureCheck, ...]:
    """The pictures, those without a box sent back where the delivery holds boxes that have no picture: one of them may
    be theirs, and an animal would be taught as water."""
    ownerless = next((note for note in checked.doubts if note.kind in OWNERLESS), None)
    if ownerless is None:
        return checked.pictures
    message = f"no box came for it, while the delivery holds what belongs to no picture ({ownerless.message})"
    note = Note("negative-in-doubt", message, ownerless.place)
    return tuple(
        replace(one, status="returned", notes=(*one.notes, note), taken=None)
        if one.status == "accepted" and not one.delivered_boxes
        else one
        for one in checked.pictures
    )


def _many_negatives(batch: Batch, checked: Checked) -> list[Note]:
    """A note where more than twice the usual share of pictures, and a tenth of all, came back empty.

    It is serious where that many of them were expected to hold boxes: some packages are sent with an empty entry or
    label file, so that unopened pictures look like pictures that hold nothing.
    """
    known = batch.by_file()
    accepted, empty = len(checked.of_status("accepted")), checked.empty
    # A share of 0 is an answer, too.
    usual = checked.usual_empty if checked.usual_empty is not None else USUAL_EMPTY
    limit = max(LEAST_NEGATIVES - 1, (2.0 * usual + 0.1) * accepted)
    thought = [one for one in empty if len(known[one.file].boxes) or known[one.file].estimated_boxes >= EXPECTED_BOXES]
    if len(empty) <= limit:
        return []
    if len(thought) > limit:
        message = (
            f"{len(thought)} of {accepted} pictures came back without any box though boxes were expected in them: "
            "was the package finished? Ask the provider, and check some of them"
        )
        return [Note("negatives-many", message)]
    # Not serious: boxes were expected in too few of them, so empty answers may well be right.
    message = f"{len(empty)} of {accepted} pictures came back without any box, far more than usual; check some of them"
    return [Note("negatives-many", message, "", False)]


def _absent_parts(batch: Batch, reading: Reading, answered: set[str]) -> set[str]:
    """The package of which nothing came while something of the other did: another annotator sends it."""
    parts = {
        "first": {item.file for item in batch.items},
        "second": {item.second_file for item in batch.items if item.second_file},
    }
    came = {part for part, files in parts.items() if files & reading.answers.keys()}
    return {part for part, files in parts.items() if came and part not in came and not files <= answered}


def _check_picture(
    item: BatchItem,
    file: str,
    part: Literal["first", "second"],
    answer: Answer | None,
    found: tuple[Note, ...],
    names: Sequence[str],
) -> PictureCheck:
    if answer is None:
        missing = Note("picture-missing", "the delivery says nothing of this picture")
        return PictureCheck(file, item.key, part, "missing", (*found, missing))
    taken, own = judge_answer(answer, item.size, names)
    notes = (*found, *own)
    status: Status = "returned" if any(note.serious for note in notes) else "accepted"
    kept = taken if status == "accepted" else None
    return PictureCheck(file, item.key, part, status, notes, kept, len(answer.boxes))


def judge_answer(answer: Answer, size: tuple[int, int], names: Sequence[str]) -> tuple[Taken, list[Note]]:
    """The boxes of an answer that can be used, and what was found. ``size``: width and height in pixels.

    Corners given in the wrong order are put right. Without a serious note no box but repeated ones was dropped.
    """
    notes: list[Note] = []
    classes = np.full(len(answer.boxes), -1, np.int64)
    unknown: Counter[str] = Counter()
    for position, name in enumerate(answer.class_names):
        index = match_class(name, names)
        if index is None:
            unknown[name] += 1
            continue
        classes[position] = index
        if name != names[index]:
            notes.append(Note("class-spelled", f"box {position + 1}: {name!r} is read as {names[index]!r}", "", False))
    known = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    for name, count in unknown.items():
        boxes_of_it = f"{count} box{'es' if count > 1 else ''}"
        notes.append(Note("class-unknown", f"{boxes_of_it} of class {name!r}, which is not one of ours ({known})"))
    boxes, turned = with_corners_in_order(answer.boxes)
    for position in np.flatnonzero(turned).tolist():
        notes.append(
            Note("box-corners", f"box {position + 1}: its corners were in the wrong order; corrected", "", False)
        )
    usable = (classes >= 0) & _inside(boxes, size, notes)
    # Positions in the delivery throughout, so that notes number boxes as the annotator's tool does.
    places = np.flatnonzero(usable)
    clean = clean_boxes(boxes[places], classes[places], *size, len(names))
    for finding in clean.findings:
        if finding.kind == "box-duplicate":
            notes.append(
                Note("box-duplicate", f"box {places[finding.index] + 1}: {finding.message}; taken once", "", False)
            )
    kept = places[clean.kept]
    details = [dict(answer.attributes[place]) if answer.attributes else {} for place in kept.tolist()]
    # Crowd flags become the column ``ignored``; left among the attributes they would be said twice.
    ignored = np.array([_is_crowd(detail) for detail in details], bool)
    plain = [{name: value for name, value in detail.items() if name not in CROWD_FLAGS} for detail in details]
    return Taken(clean.boxes, classes[kept], ignored, box_columns(plain)), _shortened(notes)


def _inside(boxes: np.ndarray, size: tuple[int, int], notes: list[Note]) -> np.ndarray:
    """Which boxes are boxes and lie inside, or so nearly that they may be clipped: bool (N,); notes on the others."""
    limits = np.array([*size, *size], np.float64)
    over = np.abs(np.clip(boxes, 0.0, limits) - boxes)
    allowed = np.maximum(SLIGHT_PIXELS, SLIGHTLY_OUTSIDE * limits)
    good = np.zeros(len(boxes), bool)
    for position, box in enumerate(boxes):
        place = f"box {position + 1} (" + ", ".join(f"{value:.6g}" for value in box) + ")"
        clipped = np.clip(box, 0.0, limits)
        # A click before a box outside: clipped, both have no area, and the remedies differ.
        if (box[2:] - box[:2] < CLICKED_SIDE).any():
            notes.append(Note("box-degenerate", f"{place}: has no area"))
        elif (clipped[2:] - clipped[:2] < CLICKED_SIDE).any():
            notes.append(Note("box-out-of-bounds", f"{place}: is outside the {size[0]}x{size[1]} picture"))
        elif (over[position] > allowed).any():
            notes.append(Note("box-out-of-bounds", f"{place}: reaches far over the {size[0]}x{size[1]} picture"))
        else:
            good[position] = True
            # Up to a pixel is rounding of some tool, and not worth telling.
            if over[position].max() > 1.0:
                notes.append(Note("box-clipped", f"{place}: reaches over the border; clipped", "", False))
    return good


def _notes_by_file(batch: Batch, reading: Reading, unpacked: Unpacked) -> tuple[dict[str, list[Note]], list[Note]]:
    """What reading and unpacking found, by our pictures; and what belongs to none."""
    known = batch.by_file()
    # By stem: a label file has the picture's name with another suffix, and ``Item.file`` is unique without it.
    by_stem = {PurePosixPath(file).stem.casefold(): file for file in known}
    notes: dict[str, list[Note]] = {}
    general: list[Note] = []
    ours = {"box-degenerate", "box-out-of-bounds"}  # kept as delivered by the reader, and judged here
    for problem in reading.problems:
        if problem.kind in ours and problem.key in reading.answers:
            continue
        place = f"{problem.path}{f':{problem.line}' if problem.line is not None else ''}"
        serious = problem.kind not in MENDED and problem.kind != "picture-stranger"
        note = Note(problem.kind, problem.message, place, serious)
        notes.setdefault(problem.key, []).append(note) if problem.key in known else general.append(note)
    for finding in unpacked.findings:
        file = by_stem.get(PurePosixPath(finding.entry.replace("\\", "/")).stem.casefold())
        # A picture that came twice or encrypted is no fault of its labels: those decide.
        serious = not finding.taken and not (file is not None and is_picture(finding.entry))
        note = Note(finding.kind, finding.message, finding.entry, serious)
        notes.setdefault(file, []).append(note) if file is not None else general.append(note)
    return notes, general


def _compare_pictures(batch: Batch, unpacked: Unpacked, clock: Clock | None) -> dict[str, Note]:
    """Notes on delivered pictures that are not the ones that went out, by our file name."""
    known = batch.by_file()
    # By name alone: providers pack pictures into folders of their own.
    by_name = {PurePosixPath(file).name.casefold(): file for file in known}
    notes: dict[str, Note] = {}
    for name, delivered in unpacked.files.items():
        file = by_name.get(PurePosixPath(name).name.casefold())
        if file is None or not is_picture(name) or delivered.sha256 == known[file].sha256:
            continue
        if clock is not None:
            clock.check()
        notes[file] = _changed_picture(unpacked.folder / name, known[file], name)
    return notes


def _changed_picture(path: Path, item: BatchItem, name: str) -> Note:
    try:
        header = read_header(path)
        # The header first: a picture of another size need not be decoded.
        if (header.width, header.height) != item.size:
            sizes = f"{header.width}x{header.height}, ours is {item.size[0]}x{item.size[1]}"
            return Note("picture-changed", f"the delivered picture has another size ({sizes})", name)
        same = same_picture(path, item.picture, item.size)
    except PictureError as error:
        return Note("picture-changed", f"the delivered picture cannot be compared: {error.path.name}: {error}", name)
    if same:
        return Note("picture-encoded-anew", "the delivered picture was re-encoded; ours is kept", name, False)
    return Note(
        "picture-changed", "the delivered picture shows something else under this name, or the same elsewhere", name
    )


def _is_crowd(detail: Mapping[str, Attribute]) -> bool:
    # Formats without types (XML, CSV) say it as text.
    return any(detail.get(name) in (True, 1, "true", "True", "1") for name in CROWD_FLAGS)


def _shortened(notes: list[Note], most: int = 20) -> list[Note]:
    """At most ``most`` notes of a picture one by one, the serious first; a thousand bad boxes say no more."""
    ordered = sorted(notes, key=lambda note: not note.serious)
    if len(ordered) <= most:
        return ordered
    rest = ordered[most:]
    counted = ", ".join(f"{count} {kind}" for kind, count in Counter(note.kind for note in rest).items())
    return [*ordered[:most], Note(rest[0].kind, f"and {len(rest)} more: {counted}", "", any(n.serious for n in rest))]
