"""What each member finds in the pictures, looked for once: parts of 64 pictures on disk, each trusted only if it says
what it was made from. A picture is decoded once for all members, and letterboxed once for those of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import fingerprint
from marauder.core.progress import Progress
from marauder.data.pictures import UnreadablePictureError, picture_identity
from marauder.data.records import Detections, Record
from marauder.ensembles.members import Member
from marauder.ensembles.parts import Part, read_part, write_part
from marauder.imaging.letterbox import Letterbox
from marauder.prediction.ensemble import EnsemblePredictor
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription
from marauder.prediction.folder_description import FolderDescription
from marauder.prediction.postprocessing import PostprocessingRules
from marauder.prediction.records import DecodedPictures, over_records
from marauder.prediction.settings import MEASURING, PredictionSettings

SHARD = 64
"""Pictures of a part: what a kill costs at most, for each member."""
LEAST = 0.001
"""Score from which a member's boxes are kept: that of measuring mAP."""
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Looked:
    """What K members find in P pictures that can be read. ``records``: of these, with the data set's classes.
    ``found[k][p]``: boxes of member k, its own scores before calibration, the data set's classes. ``set_aside``: why
    pictures could not be read, by key."""

    records: tuple[Record, ...]
    found: tuple[tuple[Detections, ...], ...]
    set_aside: dict[str, str]

    def take(self, places: np.ndarray) -> Looked:
        """Some of the pictures, by place."""
        chosen = [int(place) for place in places]
        found = tuple(tuple(member[place] for place in chosen) for member in self.found)
        return Looked(tuple(self.records[place] for place in chosen), found, self.set_aside)

    def of(self, places: Sequence[int]) -> Looked:
        """The same of some of the members."""
        return Looked(self.records, tuple(self.found[place] for place in places), self.set_aside)


def look(
    members: Sequence[Member],
    names: Sequence[str],
    records: Sequence[Record],
    folder: Path,
    clock: Clock,
    batch: int | None = None,
    label: str = "looking",
) -> Looked:
    """What ``members`` find in ``records``; parts that ``folder`` holds are not looked for again.

    Raises ``Interrupted`` when the clock says so, with all finished parts kept.
    """
    parts: list[list[Part]] = [[] for _ in members]
    with Progress(label, len(records) * len(members), unit="looks") as progress:
        for number, start in enumerate(range(0, len(records), SHARD)):
            some = records[start : start + SHARD]
            known = [read_part(_path(folder, member, number), _identity(member, some)) for member in members]
            lacking = [member for member, part in zip(members, known, strict=True) if part is None]
            progress.already_done += len(some) * (len(members) - len(lacking))
            progress.advance(len(some) * (len(members) - len(lacking)))
            made = iter(_look_at(lacking, some, clock, batch, progress) if lacking else ())
            for place, (member, part) in enumerate(zip(members, known, strict=True)):
                if part is None:
                    part = next(made)
                    write_part(_path(folder, member, number), part, _identity(member, some))
                parts[place].append(part)
    return _joined(parts, members, names, records)


def _joined(
    parts: Sequence[Sequence[Part]], members: Sequence[Member], names: Sequence[str], records: Sequence[Record]
) -> Looked:
    whole = [[one for part in own for one in part.found] for own in parts]
    reasons: dict[str, str] = {}
    for number, part in enumerate(parts[0]):
        reasons |= {records[number * SHARD + place].key: why for place, why in part.reasons.items()}
    readable = [place for place in range(len(records)) if all(own[place] is not None for own in whole)]
    found = []
    for member, own in zip(members, whole, strict=True):
        chosen = [one for place in readable if (one := own[place]) is not None]
        found.append(tuple(member.numbered_as(names, one) for one in chosen))
    return Looked(tuple(records[place] for place in readable), tuple(found), reasons)


def together(members: Sequence[Member], least: float = LEAST) -> EnsemblePredictor:
    """The members as one predictor in memory, for looking with each of them at once."""
    names = tuple(dict.fromkeys(name for member in members for name in member.predictor.names))
    described = EnsembleDescription(tuple(MemberDescription(member.name) for member in members), least=least)
    said = FolderDescription("", names, ensemble=described)
    return EnsemblePredictor(Path("the members"), [member.predictor for member in members], said)


def _look_at(
    members: Sequence[Member], records: Sequence[Record], clock: Clock, batch: int | None, progress: Progress
) -> list[Part]:
    """What each of ``members`` finds in ``records``."""
    ensemble = together(members)
    settings = PredictionSettings(confidence=LEAST, multi_label=MEASURING.multi_label, batch=batch)
    rules = ensemble.rules(settings)

    def work(
        inputs: Sequence[np.ndarray], frames: Sequence[Letterbox], _indices: Sequence[int]
    ) -> list[tuple[Detections, ...]]:
        found = list(zip(*_rounded(ensemble, inputs, frames, rules), strict=True))
        progress.advance(len(inputs) * len(members))
        return found

    stops = lambda: clock.stop_reason() is not None  # noqa: E731 - asked between batches
    looked = over_records(ensemble, records, DecodedPictures(records), range(len(records)), settings, work, stops)
    if looked is None:
        raise Interrupted(clock.stop_reason() or "stopped while looking at pictures")
    reasons = {place: str(one) for place, one in looked.items() if isinstance(one, UnreadablePictureError)}
    parts = []
    for number in range(len(members)):
        own: list[Detections | None] = []
        for place in range(len(records)):
            one = looked[place]
            own.append(None if isinstance(one, UnreadablePictureError) else one[number])
        parts.append(Part(tuple(own), reasons))
    return parts


def _rounded(
    ensemble: EnsemblePredictor,
    inputs: Sequence[np.ndarray],
    frames: Sequence[Letterbox],
    rules: PostprocessingRules,
) -> list[list[Detections]]:
    """What each member finds, boxes in float32: as they are kept, so that what is read back is what was found."""
    return [
        [Detections(one.boxes.astype(np.float32), one.scores, one.classes) for one in found]
        for found in ensemble.find_each(inputs, frames, rules)
    ]


def _path(folder: Path, member: Member, number: int) -> Path:
    return folder / member.digest[:16] / f"part-{number:05d}.npz"


def _identity(member: Member, records: Sequence[Record]) -> str:
    """Of all that a part is made from; labels are not among it."""
    predictor = member.predictor
    return fingerprint([FORMAT, LEAST, member.digest, predictor.image_size, predictor.names, picture_identity(records)])
