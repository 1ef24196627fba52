"""Sending pictures out: the same call makes a batch, continues with one that was cut short, or says which one is open.

A batch is a folder of the outbox: ``batch.json``, ``guidelines/``, and one zip a format, with a second one for the
pictures that another annotator labels too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np

from marauder.annotation.batch import (
    RECORD,
    TIME_FORMAT,
    WAITING,
    Batch,
    BatchItem,
    PackageRecord,
    close_settled,
    find_batch,
    list_batches,
    read_batch,
    write_batch,
)
from marauder.annotation.choosing import Choice, batch_items, choose, expected_boxes, identity_of
from marauder.annotation.formats.base import ExchangeFormat, Item, Package
from marauder.annotation.guidelines import GuidelineOptions, guideline_inputs, write_guidelines
from marauder.annotation.prelabels import plausible, prelabel
from marauder.annotation.price import batch_price, prices_in_use
from marauder.annotation.readme import readme
from marauder.annotation.settings import AnnotationSettings
from marauder.core.clock import Clock
from marauder.core.files import fingerprint, hash_file, remove_leftovers, write_text
from marauder.core.locks import exclusive
from marauder.core.plugins import make
from marauder.core.progress import Progress
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset
from marauder.models.naming import weights_hash
from marauder.reporting.judged import judged
from marauder.selection.price import Price

GUIDELINES = "guidelines"
PRELABELS = "prelabels.jsonl"
FORMAT_VERSION = 3
"""Part of the id: raised when packages of the same pictures would come out otherwise."""


@dataclass(frozen=True)
class ExportSummary:
    """What went out. ``folder``: of the batch; ``packages``: the zips; ``pictures``, ``overlap``: how many, and how
    many of them twice; ``prelabels``: boxes suggested; ``estimated_boxes``: in the pictures, each counted once;
    ``price``: of all that annotators open, draw and correct, the second annotator counted too;
    ``existed``: the batch was open before; ``notes``: what was left out and what else is worth knowing."""

    batch: str
    folder: Path
    packages: tuple[Path, ...]
    pictures: int
    overlap: int
    prelabels: int
    estimated_boxes: float
    price: Price
    existed: bool
    notes: tuple[str, ...] = ()

    @property
    def guidelines(self) -> Path:
        """The page for annotators."""
        return self.folder / GUIDELINES / "guidelines.html"


def export_batch(settings: AnnotationSettings, clock: Clock) -> ExportSummary:
    """Make the packages of a batch and return what they hold.

    With a batch open this returns that one, unless ``settings.new``; where all pictures went out and came back, it
    returns the batch they went out with. Raises ``UserError`` for what the user can mend, and ``Interrupted`` when the
    clock says so: the same call continues.
    """
    # Two exports at once would send the same pictures out twice.
    with exclusive(settings.outbox / ".lock", f"the outbox {settings.outbox}"):
        summary = _exported(settings, clock)
        # The provider's answer is put there: the folder is there before anybody hears of it.
        settings.inbox.mkdir(parents=True, exist_ok=True)
        return summary


def _without_doubtful(settings: AnnotationSettings) -> tuple[AnnotationSettings, tuple[str, ...]]:
    """The settings without a detector of which its own run found that it has not learned, or could not tell, with what
    to say of that."""
    if settings.model is None or settings.prelabels.doubtful:
        return settings, ()
    said = judged(settings.model, weights_hash(settings.model))
    if said is None or not said.unproven:
        return settings, ()
    note = (
        f"no boxes are suggested: the report of {settings.model} does not show that it is of use ({said.unproven}), "
        "and deleting wrong boxes takes longer than drawing; prelabels.doubtful=true sends them all the same"
    )
    return settings.changed({"model": None}), (note,)


def _exported(settings: AnnotationSettings, clock: Clock) -> ExportSummary:
    close_settled(settings.outbox)
    # The newest that waits, whatever id the settings name: that one is meant for the import.
    waiting = find_batch(settings.outbox)
    if waiting is not None and not settings.new:
        note = "a batch is open: import its delivery, or make another one with --new"
        return _summary(settings.outbox, waiting, True, (note,))
    dataset = read_dataset(settings.data)
    known = list_batches(settings.outbox)
    # What came back once is paid for: it goes out again only when that is asked for.
    earlier = [batch for batch in known if batch.state in (WAITING if settings.new else (*WAITING, "imported"))]
    choice = choose(settings, dataset, earlier, clock)
    settings, doubts = _without_doubtful(settings)
    choice = replace(choice, notes=(*choice.notes, *doubts))
    if not choice.chosen:
        note = "all of these pictures went out before; to send those that came back once more, use --new"
        if settings.new:
            note = "all of these pictures are out already, and no delivery has said anything of them yet"
        return _summary(settings.outbox, earlier[-1], True, (note,))
    begun = _time_after(known)
    # The new batch may have taken over the last pictures that an older one waited for.
    summary = _Export(settings, dataset, choice, _batch_id(settings, dataset, choice, known), begun, clock).run()
    close_settled(settings.outbox)
    return summary


def _batch_id(settings: AnnotationSettings, dataset: Dataset, choice: Choice, known: Sequence[Batch]) -> str:
    """A name made of all that decides the packages; sent again after it was imported, it gets a number."""
    content = fingerprint(
        [
            FORMAT_VERSION,
            choice.names,
            identity_of(choice),
            settings.formats,
            [settings.seed, settings.overlap_share, settings.least_overlap],
            guideline_inputs(choice.names, dataset.records, _guideline_options(settings)),
            # The device changes scores by rounding at most.
            settings.prelabels.model_dump(exclude={"device"}) if settings.model else None,
            weights_hash(settings.model) if settings.model else None,
        ]
    )
    base = f"batch-{content[:20]}"
    states = {batch.id: batch.state for batch in known}
    number, name = 1, base
    # One that was cut short is resumed under its own name.
    while states.get(name, "writing") != "writing":
        number += 1
        name = f"{base}-{number}"
    return name


def _guideline_options(settings: AnnotationSettings) -> GuidelineOptions:
    return GuidelineOptions(settings.taxonomy, settings.model, settings.examples_per_class, settings.seed)


class _Export:
    """One batch being written."""

    def __init__(
        self, settings: AnnotationSettings, dataset: Dataset, choice: Choice, batch_id: str, begun: str, clock: Clock
    ) -> None:
        self.settings, self.dataset, self.choice, self.clock = settings, dataset, choice, clock
        self.id, self.begun = batch_id, begun
        self.folder = settings.outbox / batch_id
        self.prices, told = prices_in_use(settings)
        self.notes = [*choice.notes, *told]

    def run(self) -> ExportSummary:
        """Write what is missing, the record last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Temporary files of a killed attempt; the lock says that nobody else writes here.
        remove_leftovers(self.folder)
        items, sources = batch_items(self.choice, self.settings, self.folder)
        # The record before any package: a folder without one would belong to no batch.
        started = self._begun(items)
        items = self._with_prelabels(items)
        batch = replace(started, items=tuple(items), price=batch_price(items, self.prices).as_dict())
        write_guidelines(
            self.folder / GUIDELINES,
            self.choice.names,
            self.dataset.records,
            _guideline_options(self.settings),
            self.clock,
        )
        packages = self._packages(batch, sources)
        event = {"time": _now(), "event": "exported", "pictures": len(items)}
        # Open only now: until every zip is whole, the next call has to continue here.
        batch = replace(batch, packages=packages, state="open", history=(*batch.history, event))
        write_batch(self.settings.outbox, batch)
        (self.folder / PRELABELS).unlink(missing_ok=True)  # the record holds them now
        return _summary(self.settings.outbox, batch, False, tuple(self.notes))

    def _begun(self, items: Sequence[BatchItem]) -> Batch:
        """The record that says that this batch is being written; when it was begun stays as first written."""
        if (self.folder / RECORD).is_file():
            # The items are worked out anew, and are the same: the id is made of all that decides them.
            return replace(read_batch(self.folder), items=tuple(items))
        model = weights_hash(self.settings.model) if self.settings.model else ""
        batch = Batch(
            self.id,
            str(self.settings.data.absolute()),
            self.choice.names,
            tuple(items),
            self.settings.formats,
            self.begun,
            model=model,
        )
        write_batch(self.settings.outbox, batch)
        return batch

    def _with_prelabels(self, items: Sequence[BatchItem]) -> list[BatchItem]:
        expected = expected_boxes(self.choice, self.dataset, self.prices)
        found = None
        if self.settings.model is not None:
            records = [one.record for one in self.choice.chosen]
            found = prelabel(
                self.settings.model,
                records,
                self.choice.names,
                self.settings.prelabels,
                self.folder / PRELABELS,
                self.clock,
            )
            if found.unnamed:
                self.notes.append(
                    f"the model's classes {', '.join(found.unnamed)} are not classes of the data set; left out"
                )
            self.notes += found.unreadable
            if not self.settings.prelabels.doubtful:
                found, note = plausible(found, [record for record in self.dataset if record.labelled])
                self.notes += [note] if note else []
        done = []
        for item in items:
            boxes = found.boxes[item.key] if found is not None else None
            count = expected[item.key]
            thought = count if count is not None else float(len(boxes) if boxes is not None else 0)
            item = replace(item, estimated_boxes=round(thought, 2))
            if boxes is not None:
                item = replace(item, boxes=boxes.boxes, classes=boxes.classes, scores=boxes.scores)
            done.append(item)
        if all(count is None for count in expected.values()) and found is None:
            self.notes.append(
                "nothing says how many boxes to expect: set price.boxes_per_picture for a better estimate"
            )
        return done

    def _packages(self, batch: Batch, sources: dict[str, Path]) -> tuple[PackageRecord, ...]:
        """The zips; those that stand whole are left alone. ``SHA256SUMS`` in the folder covers them all."""
        overlap = [item for item in batch.items if item.overlap]
        parts: list[Literal["first", "second"]] = ["first", "second"] if overlap else ["first"]
        plan = [(name, part) for name in batch.formats for part in parts]
        done: list[PackageRecord] = []
        begun = {package.file: package for package in batch.packages}
        with Progress("packages", len(plan), unit="zips") as progress:
            for name, part in plan:
                format = make("annotation_format", name)
                package = make_package(batch, part, format, sources, self.folder / GUIDELINES)
                target = self.folder / f"{package.name}.zip"
                known = begun.get(target.name)
                # By hash, not by existence: a zip may have been damaged or replaced since.
                if known is None or not target.is_file() or hash_file(target) != known.sha256:
                    format.write(package, self.folder, self.clock)
                    size = target.stat().st_size
                    known = PackageRecord(name, part, target.name, hash_file(target), size, len(package.items))
                done.append(known)
                # After each zip: the hash in the record is what lets the next call leave it alone.
                write_batch(self.settings.outbox, replace(batch, packages=tuple(done)))
                progress.advance()
        sums = "".join(f"{package.sha256}  {package.file}\n" for package in done)
        write_text(self.folder / "SHA256SUMS", sums)
        return tuple(done)


def make_package(
    batch: Batch,
    part: Literal["first", "second"],
    format: ExchangeFormat,
    sources: dict[str, Path],
    guidelines: Path | None,
) -> Package:
    """What one annotator receives. The second receives the overlap alone, in another order, under other names and
    without pre-labels: agreement with the first is then no agreement with the model."""
    if part == "first":
        items = [_item(item, sources[item.key]) for item in batch.items]
    else:
        chosen = sorted((item for item in batch.items if item.overlap), key=lambda item: item.second_file)
        # No boxes, no classes, no scores: whoever sees a suggestion leans towards it.
        items = [Item(item.key, item.second_file, sources[item.key], *item.size) for item in chosen]
    name = f"{batch.id}-{format.name}" + ("-second" if part == "second" else "")
    text = readme(batch.id, format, part, len(items), bool(batch.model) and part == "first")
    return Package(name, batch.id, batch.names, tuple(items), guidelines, text)


def _item(item: BatchItem, source: Path) -> Item:
    scores = np.asarray(item.scores) if len(item.boxes) else None
    return Item(item.key, item.file, source, *item.size, item.boxes, item.classes, scores)


def _summary(outbox: Path, batch: Batch, existed: bool, notes: tuple[str, ...]) -> ExportSummary:
    folder = outbox / batch.id
    return ExportSummary(
        batch=batch.id,
        folder=folder,
        packages=tuple(folder / package.file for package in batch.packages),
        pictures=len(batch.items),
        overlap=sum(item.overlap for item in batch.items),
        prelabels=sum(len(item.boxes) for item in batch.items),
        estimated_boxes=round(sum(item.estimated_boxes for item in batch.items), 1),
        price=Price.of(batch.price),
        existed=existed,
        notes=notes,
    )


def _now() -> str:
    return datetime.now(UTC).strftime(TIME_FORMAT)


def _time_after(known: Sequence[Batch]) -> str:
    """Now, or a second after the newest batch: answers are merged in the order in which batches were begun."""
    done = [datetime.strptime(batch.created, TIME_FORMAT) for batch in known if batch.state != "writing"]
    now = datetime.now(UTC).replace(tzinfo=None)
    return max([now, *(time + timedelta(seconds=1) for time in done)]).strftime(TIME_FORMAT)
