"""What there is: the pictures of the pool without labels, the labelled ones beside them, and what is left out.

Pictures that show what validation or test already hold (their clip is there) never become candidates: chosen, they
would train the detector on what it is judged by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.data.manifests.pinning import hash_pinned
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.selection.settings import SelectionSettings

JUDGING = ("val", "test")
"""Splits that judge the detector."""


class NothingToChooseError(UserError):
    """A pool that can be read, and holds no picture to choose."""


@dataclass(frozen=True, eq=False)
class PoolRecords:
    """``pool``: records to choose from. ``centres``: labelled ones that training sees, ``validation``: labelled ones of
    the split ``val``. ``names``: of the classes, empty where nothing says them. ``labelled``: number of labelled
    pictures, ``None`` where no data set says it. ``left_out``: key of a pool picture to why it is no candidate;
    ``set_aside``: path or key of a picture that cannot be read to why."""

    pool: tuple[Record, ...]
    centres: tuple[Record, ...]
    validation: tuple[Record, ...]
    names: tuple[str, ...]
    labelled: int | None
    left_out: dict[str, str]
    set_aside: dict[str, str]

    @property
    def labelled_share(self) -> float | None:
        """Labelled pictures over all, ``None`` where not known."""
        return None if self.labelled is None else self.labelled / max(1, self.labelled + len(self.pool))


def read_pool(settings: SelectionSettings, clock: Clock | None = None) -> PoolRecords:
    """The pool and what is labelled beside it. Raises ``UserError`` for paths that cannot be read,
    ``NothingToChooseError`` for a pool in which everything is labelled already or belongs to validation and test, and
    ``Interrupted`` when the clock says to stop."""
    dataset = open_pool(settings, clock)
    unlabelled = [record for record in dataset if not record.labelled]
    labelled_set = (
        dataset if settings.labelled is None else read_dataset(settings.labelled, names=settings.names, clock=clock)
    )
    labelled = [record for record in labelled_set if record.labelled]
    if settings.labelled is not None and not labelled:
        raise UserError(f"{settings.labelled}: holds no labelled picture; name the data set that does, or none")
    if not unlabelled:
        raise NothingToChooseError(
            f"{settings.pool}: every picture is labelled already, so there is nothing to choose; name the folder or "
            "the data set with the pictures without labels so far"
        )
    left_out = _left_out(unlabelled, labelled, settings, clock)
    pool = tuple(record for record in unlabelled if record.key not in left_out)
    if not pool:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in Counter(left_out.values()).most_common())
        raise NothingToChooseError(f"{settings.pool}: no picture is left to choose from ({reasons})")
    said = settings.names or (_said_names(labelled_set) if labelled else ()) or _said_names(dataset)
    known = bool(labelled) or settings.labelled is not None
    problems = {
        problem.key or problem.path: problem.message for problem in dataset.problems if _unreadable(problem.kind)
    }
    return PoolRecords(
        pool=pool,
        centres=tuple(record for record in labelled if record.split not in JUDGING),
        validation=tuple(record for record in labelled if record.split == "val"),
        names=tuple(said),
        labelled=len(labelled) if known else None,
        left_out=left_out,
        set_aside=problems,
    )


def open_pool(settings: SelectionSettings, clock: Clock | None = None) -> Dataset:
    """The data set or folder ``settings.pool``, without pictures below ``settings.output``. Raises ``UserError``, and
    ``Interrupted`` when the clock says to stop."""
    dataset = read_dataset(settings.pool, names=settings.names, clock=clock)
    own = settings.output.resolve()
    # absolute() keeps links: those of an earlier choice lie in the output and lead out of it.
    return dataset.with_records(record for record in dataset if not record.picture.absolute().is_relative_to(own))


def _said_names(dataset: Dataset) -> tuple[str, ...]:
    """The data set's class names, none where the reader had to invent them."""
    return () if any(problem.kind == "names-missing" for problem in dataset.problems) else dataset.names


def _unreadable(kind: str) -> bool:
    return kind.startswith("picture-") and kind not in ("picture-rotated", "picture-without-label")


def _left_out(
    pool: Sequence[Record], labelled: Sequence[Record], settings: SelectionSettings, clock: Clock | None
) -> dict[str, str]:
    """Pool records that are no candidates, with the reason."""
    judging = {record.group for record in labelled if record.split in JUDGING}
    # Within one data set a picture is labelled or not; only another one may hold labels of the pool's pictures.
    known = _also_labelled(pool, labelled, settings, clock) if settings.labelled is not None else set()
    found: dict[str, str] = {}
    for record in pool:
        if record.key in known:
            found[record.key] = "are labelled already"
        elif record.split in JUDGING:
            found[record.key] = "belong to validation or test"
        elif record.group in judging:
            found[record.key] = "are of a clip that validation or test holds"
    return found


def _also_labelled(
    pool: Sequence[Record], labelled: Sequence[Record], settings: SelectionSettings, clock: Clock | None
) -> set[str]:
    """Keys of pool records whose picture is a labelled one: the same file, or a copy of it under the same name."""
    assert settings.labelled is not None
    places: dict[tuple[str, int], list[Path]] = {}
    for record in labelled:
        if (real := _real(record.picture)) is not None:
            places.setdefault((real.name, real.stat().st_size), []).append(real)
    files = {record.key: real for record in pool if (real := _real(record.picture)) is not None}
    found, alike = set(), {}
    for key, real in files.items():
        of_its_kind = places.get((real.name, real.stat().st_size), [])
        # The same file needs no look at its content; only one of the same name and size does.
        if real in of_its_kind:
            found.add(key)
        elif of_its_kind:
            alike[key] = of_its_kind
    if not alike:
        return found
    # Of uncompressed pictures all have one size, and cameras name them alike in every dive.
    own = hash_pinned([files[key] for key in alike], settings.pool, clock)
    theirs = hash_pinned([path for paths in alike.values() for path in paths], settings.labelled, clock)
    return found | {key for key, paths in alike.items() if own[files[key]] in {theirs[path] for path in paths}}


def _real(picture: Path) -> Path | None:
    """The file itself; ``None`` for a missing picture, which is no candidate and stands for none."""
    try:
        return picture.resolve(strict=True)
    except OSError:
        return None
