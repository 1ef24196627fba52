"""The clauses of the data contract, each looked at in a data set; gates.contract says what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from marauder.core.clock import Clock
from marauder.data.check import check_dataset
from marauder.data.records import Dataset, Problem, Record
from marauder.data.repair import SET_ASIDE_KINDS
from marauder.data.splits import leaking_groups
from marauder.gates.contract import KEPT, AttributeRule, Clause, ContractEvidence, ContractSettings


def contract_evidence(dataset: Dataset, settings: ContractSettings, clock: Clock | None = None) -> ContractEvidence:
    """Look at every clause that ``settings`` ask for.

    Pictures' files are looked for, and decoded only for ``duplicates_apart``, which asks ``clock`` between blocks.
    """
    clauses = [
        *_splits(dataset, settings),
        *_classes(dataset, settings),
        *_attributes(dataset, settings),
        _set_aside(dataset, settings),
        *_pictures(dataset, settings),
        *_apart(dataset, settings, clock),
    ]
    return ContractEvidence(len(dataset), sum(len(record.boxes) for record in dataset), tuple(clauses))


def _splits(dataset: Dataset, settings: ContractSettings) -> Iterator[Clause]:
    if settings.splits:
        there = dataset.splits()
        missing = [name for name in settings.splits if not there.get(name)]
        words = f"no picture in {', '.join(missing)}" if missing else "all splits are there"
        yield Clause("splits", words, len(missing), ", ".join(there) or "none", ", ".join(settings.splits))


def _classes(dataset: Dataset, settings: ContractSettings) -> Iterator[Clause]:
    """Allowed and required classes."""
    if settings.allowed_classes is not None:
        wrong = [index for index, name in enumerate(dataset.names) if name not in settings.allowed_classes]
        found = [
            f"{record.picture}: {dataset.names[kind]}"
            for record in dataset
            for kind in sorted(set(record.classes.tolist()) & set(wrong))
        ]
        yield _clause("allowed_classes", "pictures with boxes of other classes", found, "none")
    wanted = dict.fromkeys(settings.required_classes, settings.least_boxes) | settings.least_boxes_of
    if wanted:
        counts: dict[str, np.ndarray] = {}
        for split in settings.splits or (None,):
            chosen = [record for record in dataset if split is None or record.split == split]
            counts[split or "the data set"] = dataset.with_records(chosen).class_counts()
        short = []
        for name, least in wanted.items():
            number = dataset.names.index(name) if name in dataset.names else None
            for split, boxes in counts.items():
                reached = int(boxes[number]) if number is not None else 0
                if reached < least:
                    short.append(f"{split}: {reached} boxes of {name}, at least {least} required")
        yield _clause("required_classes", "classes with too few boxes", short, "none")


def _attributes(dataset: Dataset, settings: ContractSettings) -> Iterator[Clause]:
    for name, rule in settings.attributes.items():
        wrong = [
            f"{record.picture}: {name} is {record.attributes[name]!r}"
            for record in dataset
            if name in record.attributes and not _allowed(record.attributes[name], rule)
        ]
        if rule.values is not None or rule.minimum is not None or rule.maximum is not None:
            yield _clause(f"attributes.{name}", f"pictures whose {name} is out of bounds", wrong, _bounds(rule))
        missing = [f"{record.picture}: no {name}" for record in dataset if name not in record.attributes]
        have = 1 - len(missing) / max(len(dataset), 1)
        broken = have < rule.least_share
        yield Clause(
            f"attributes.{name}.least_share",
            f"{have:.1%} of the pictures have {name}, {rule.least_share:.1%} must",
            len(missing) if broken else 0,
            round(have, 4),
            rule.least_share,
            tuple(missing[:KEPT]) if broken else (),
        )


def _allowed(value: object, rule: AttributeRule) -> bool:
    if rule.values is not None and not any(_same(value, known) for known in rule.values):
        return False
    if rule.minimum is None and rule.maximum is None:
        return True
    # To Python True is an int; to a bound it is no number.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (rule.minimum is None or value >= rule.minimum) and (rule.maximum is None or value <= rule.maximum)


def _same(one: object, other: object) -> bool:
    """Equal, and not true where 1 is meant."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _bounds(rule: AttributeRule) -> str:
    parts = [] if rule.values is None else [", ".join(str(value) for value in rule.values)]
    parts += [] if rule.minimum is None else [f"from {rule.minimum:g}"]
    parts += [] if rule.maximum is None else [f"up to {rule.maximum:g}"]
    return " ".join(parts)


def _set_aside(dataset: Dataset, settings: ContractSettings) -> Clause:
    """Pictures and rows that a reader could not use, or whose labels a person must look at."""
    found: dict[str, Problem] = {}
    for problem in dataset.problems:
        if problem.kind in SET_ASIDE_KINDS:
            # Once a picture, however many problems it has: the limit is a share of the pictures.
            found.setdefault(problem.key or f"{problem.path}:{problem.line}", problem)
    # Pictures that a reader set aside are in no record, and still belong to the whole.
    everything = len({record.key for record in dataset} | set(found))
    share = len(found) / max(everything, 1)
    broken = share > settings.most_set_aside
    return Clause(
        "most_set_aside",
        f"{len(found)} of {everything} pictures ({share:.1%}) cannot be used as they are, "
        f"{settings.most_set_aside:.1%} are tolerated",
        len(found) if broken else 0,
        round(share, 4),
        settings.most_set_aside,
        tuple(str(problem) for problem in list(found.values())[:KEPT]),
    )


def _pictures(dataset: Dataset, settings: ContractSettings) -> Iterator[Clause]:
    """Pictures one by one: empty ones, small ones, crowded ones, lost ones."""
    labelled = [record for record in dataset if record.labelled]
    empty = [record for record in labelled if not len(record.boxes)]
    share = len(empty) / max(len(labelled), 1)
    kept = settings.least_empty <= share <= settings.most_empty or not labelled
    yield Clause(
        "empty",
        f"{share:.1%} of the labelled pictures have no box, allowed are {settings.least_empty:.1%} to "
        f"{settings.most_empty:.1%}",
        # Too few empty pictures break the clause as well, with none to count.
        0 if kept else max(len(empty), 1),
        round(share, 4),
        f"{settings.least_empty:g} to {settings.most_empty:g}",
        () if kept else tuple(str(record.picture) for record in empty[:KEPT]),
    )
    small = [f"{record.picture}: {record.width}x{record.height}" for record in dataset if _small(record, settings)]
    yield _clause("least_side", f"pictures with a side under {settings.least_side} pixels", small, settings.least_side)
    crowded = [
        f"{record.picture}: {len(record.boxes)} boxes" for record in dataset if len(record.boxes) > settings.most_boxes
    ]
    yield _clause("most_boxes", f"pictures with over {settings.most_boxes} boxes", crowded, settings.most_boxes)
    if settings.pictures_exist:
        lost = [f"{record.picture}: {reason}" for record in dataset if (reason := _lost(record)) is not None]
        yield _clause("pictures_exist", "pictures that are not there", lost, 0)


def _small(record: Record, settings: ContractSettings) -> bool:
    return min(record.width, record.height) < settings.least_side


def _lost(record: Record) -> str | None:
    try:
        return None if record.picture.stat().st_size else "has no content"
    except OSError as error:
        return str(error.strerror)


def _apart(dataset: Dataset, settings: ContractSettings, clock: Clock | None) -> Iterator[Clause]:
    """What may not stand on two sides of a split."""
    if settings.groups_apart:
        leaking = [f"{group} in {' and '.join(splits)}" for group, splits in leaking_groups(dataset).items()]
        yield _clause("groups_apart", "groups in several splits", leaking, 0)
    if settings.duplicates_apart:
        found = check_dataset(dataset, clock=clock).of_kind("duplicates-in-two-splits")
        yield _clause("duplicates_apart", "copies in several splits", [str(problem) for problem in found], 0)


def _clause(name: str, words: str, found: Iterable[str], limit: float | str) -> Clause:
    """A clause of which nothing may be found."""
    examples = list(found)
    counted = f"{len(examples)} {words}" if examples else f"no {words}"
    return Clause(name, counted, len(examples), len(examples), limit, tuple(examples[:KEPT]))
