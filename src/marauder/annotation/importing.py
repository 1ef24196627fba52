"""Taking a delivery in: unpack, read, check, judge, report, and merge what may be merged.

Of a delivery with problems nothing is merged unless ``settings.accept`` says to take its good part. Whatever kills the
process, the same call continues; importing the same delivery again changes nothing.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.annotation.batch import (
    Batch,
    State,
    find_batch,
    list_batches,
    read_batch,
    sent_again,
    set_state,
    write_batch,
)
from marauder.annotation.checking import Checked, Note, Taken, check_delivery
from marauder.annotation.delivery import content_of, imports_folder, is_whole_zip, ledger, note_outcome
from marauder.annotation.formats.answers import delivered_formats, read_delivery
from marauder.annotation.formats.base import ExchangeFormat, Reading
from marauder.annotation.merging import (
    Version,
    as_taken,
    chosen_answers,
    latest_version,
    merged_dataset,
    publish,
    store_answers,
    stored_answers,
)
from marauder.annotation.page import write_quality_page
from marauder.annotation.quality import Quality, judge_quality, model_boxes
from marauder.annotation.report import advice, write_report
from marauder.annotation.settings import AnnotationSettings, LimitSettings
from marauder.annotation.status import command_line
from marauder.annotation.unpacking import Limits, Unpacked, unpack
from marauder.core.clock import Clock
from marauder.core.errors import UserError, printable
from marauder.core.files import read_json, to_plain, write_json
from marauder.core.locks import exclusive
from marauder.core.plain import Plain
from marauder.core.plugins import make
from marauder.core.plugins import names as plugin_names
from marauder.core.wording import counted
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset

SUMMARY = "summary.json"
QUALITY_FILE = "quality.json"


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    ``accepted``, ``returned``: pictures taken, and sent back or missing; ``problems``: all things found. ``report``:
    the folder with import_report.html/json/txt and return_list.csv; ``page``: the quality page's index.html, or
    ``None`` when nothing could be judged. ``merged``: whether this delivery's answers are in ``data`` (the data.yaml,
    ``None`` before the first merge) as version ``version``. ``complete``: every picture of the batch is answered, the
    overlap too; the batch waits for nothing more. ``advice``: what happened and what to do next, in words.
    """

    batch: str
    accepted: int
    returned: int
    problems: int
    report: Path
    page: Path | None
    data: Path | None
    version: int | None
    merged: bool
    complete: bool
    advice: str


def import_delivery(settings: AnnotationSettings, delivery: Path, clock: Clock) -> ImportSummary:
    """Take ``delivery`` (zip, folder or file) in for the open batch, or for ``settings.batch``.

    Raises ``UserError`` when there is no batch or no such delivery, ``Interrupted`` when the clock says so: the same
    call continues.
    """
    if not delivery.exists():
        raise UserError(f"{delivery}: no such file or folder; put the delivery into {settings.inbox}")
    batch = _batch_for(settings)
    # Over all of it: two imports would publish the same version number.
    with exclusive(settings.output / ".lock", f"the merged data set {settings.output}"):
        content = content_of(delivery)
        folder = imports_folder(settings, batch.id) / content[:16]
        rows = ledger(settings, batch.id)
        if any(row["content"] == content and row["outcome"] == "merged" for row in rows):
            # Under its present stamp, too: the inbox is looked through by stamp, and would offer the copy again.
            note_outcome(settings, batch.id, delivery, content, "merged")
            return _as_it_stands(settings, batch, delivery, _read_summary(folder))
        return _import(settings, batch, delivery, content, folder, clock)


def _import(
    settings: AnnotationSettings, batch: Batch, delivery: Path, content: str, folder: Path, clock: Clock
) -> ImportSummary:
    stored = stored_answers(folder.parent)
    # Answers that a killed import of this same delivery stored are judged anew, not taken for earlier ones.
    earlier = {file for file, row in stored.items() if row["delivery"] != content}
    unpacked_folder = folder / "unpacked"
    unpacked = unpack(delivery, unpacked_folder, limits_of(settings.limits), clock)
    # A package with pre-labels may read like an answer to every picture.
    own_package = any(package.sha256 == content for package in batch.packages)
    format_name, reading = ("", Reading({})) if unpacked.refused or own_package else read_answers(unpacked, batch)
    base = read_dataset(settings.data)
    checked = check_delivery(batch, reading, unpacked, earlier, clock, usual_empty(base))
    checked = _with_general(checked, unpacked, format_name, own_package, delivery)
    taken = {picture.file: picture for picture in checked.of_status("accepted")}
    merging = bool(taken) and (checked.clean or settings.accept)
    fresh = {file: (one.key, one.part, one.taken) for file, one in taken.items() if one.taken is not None}
    every = {file: as_taken(row) for file, row in stored.items()} | {file: row[2] for file, row in fresh.items()}
    # With the answers of earlier deliveries: those of the other annotator may be among them.
    quality, page = _judge(settings, batch, every, base, folder, clock)
    # Nothing below reads it; a killed import leaves it, and ``unpack`` empties it first.
    shutil.rmtree(unpacked_folder)

    version = None
    if merging:
        # Stored first, merged from the store: killed in between, the next call merges the same answers.
        store_answers(folder.parent, fresh, content)
        version = merge_answers(settings, batch, base, delivery.name, checked, clock)
    outstanding = outstanding_files(settings, batch)
    latest = latest_version(settings.output)
    summary = ImportSummary(
        batch=batch.id,
        accepted=len(taken),
        returned=len(checked.pictures) - len(taken),
        problems=sum(checked.kinds().values()),
        report=folder,
        page=page,
        data=settings.output / "data.yaml" if latest else None,
        version=version.number if version else latest[0] if latest else None,
        merged=merging,
        complete=not outstanding,
        advice="\n".join(
            [
                advice(settings, batch, delivery, checked, merging, outstanding, quality),
                *([] if taken else _causes(checked)),
            ]
        ),
    )
    write_report(folder, batch, delivery, format_name, checked, quality, summary.advice)
    # Before the ledger says "merged": from then on this file answers for the delivery.
    write_json(folder / SUMMARY, vars(summary))
    # A delivery without any answer says nothing of our pictures: none of them came back.
    back = [picture.file for picture in checked.pictures if picture.status != "accepted"] if reading.answers else []
    _note_answers(settings, batch, back)
    _close(settings, batch, delivery, content, summary, bool(reading.answers))
    return summary


def outstanding_files(settings: AnnotationSettings, batch: Batch) -> list[str]:
    """File names of a batch that are not answered and whose pictures did not go out again with a later batch."""
    # From the store, not from the batch's record: a kill may have come between the two.
    settled = (
        sent_again(batch, list_batches(settings.outbox)) | stored_answers(imports_folder(settings, batch.id)).keys()
    )
    return [file for file in batch.expected() if file not in settled]


def merge_answers(
    settings: AnnotationSettings, batch: Batch, base: Dataset, delivery: str, checked: Checked, clock: Clock
) -> Version:
    """Merge all answers accepted so far, of every batch of the outbox, into the next version of ``settings.output``."""
    merged = _merged(settings, base)
    accepted = [picture for picture in checked.of_status("accepted") if picture.taken is not None]
    log = {
        "batch": batch.id,
        "delivery": delivery,
        "pictures": len({picture.key for picture in accepted}),
        "negatives": sum(not len(picture.taken.boxes) for picture in accepted if picture.taken is not None),
        "returned": len(checked.pictures) - len(accepted),
        "base": str(settings.data),
        "boxes_before": dict(zip(base.names, base.class_counts().tolist())),
    }
    return publish(settings.output, merged, log, settings.copy_pictures, clock)


def merge_again(settings: AnnotationSettings, clock: Clock) -> Version:
    """Merge what came back into ``settings.data`` as it is now; no new version where nothing changed.

    Raises ``Interrupted`` when the clock says so, ``UserError`` where the data set no longer fits the answers.
    """
    with exclusive(settings.output / ".lock", f"the merged data set {settings.output}"):
        base = read_dataset(settings.data)
        log = {
            "batch": "",
            "delivery": "none; the data set that the answers belong to was read again",
            "base": str(settings.data),
            "boxes_before": dict(zip(base.names, base.class_counts().tolist())),
        }
        return publish(settings.output, _merged(settings, base), log, settings.copy_pictures, clock)


def _merged(settings: AnnotationSettings, base: Dataset) -> Dataset:
    known = [(one, stored_answers(imports_folder(settings, one.id))) for one in list_batches(settings.outbox)]
    return merged_dataset(base, [(one, chosen_answers(rows)) for one, rows in known if rows])


def read_answers(unpacked: Unpacked, batch: Batch) -> tuple[str, Reading]:
    """(format, answers) of an unpacked delivery: the format that recognises it, those that went out first."""
    layouts = {layout.name: layout for layout in delivered_formats(unpacked.folder)}
    sent: list[ExchangeFormat] = [make("annotation_format", name) for name in batch.formats]
    # The formats that were asked for first; a provider may add others that its tool exports by itself.
    for name in dict.fromkeys((*((one.layout or one.name) for one in sent), *layouts)):
        if name in layouts:
            return name, read_delivery(layouts[name], unpacked.folder, batch.expected(), batch.names)
    return "", Reading({})


def limits_of(settings: LimitSettings) -> Limits:
    """The limits of the settings as unpacking takes them."""
    return Limits(settings.total_bytes, settings.file_bytes, settings.entries, settings.ratio)


def usual_empty(base: Dataset) -> float | None:
    """Share of the labelled pictures that hold no object; ``None`` without any labelled picture."""
    counts = [len(record.boxes) for record in base if record.labelled]
    return counts.count(0) / len(counts) if counts else None


def _batch_for(settings: AnnotationSettings) -> Batch:
    batch = find_batch(settings.outbox, settings.batch)
    if batch is not None:
        return batch
    known = list_batches(settings.outbox)
    if not known:
        raise UserError(f"{settings.outbox}: no batch went out yet; make one: {command_line('export', settings)}")
    return known[-1]  # all are closed: a correction of the last, or the same delivery once more


def _with_general(checked: Checked, unpacked: Unpacked, format_name: str, own_package: bool, delivery: Path) -> Checked:
    """What is wrong with the delivery as a whole comes first in its report."""
    whole = delivery.is_dir() or is_whole_zip(delivery)
    if own_package:
        note = Note("package-unchanged", "this is exactly the package that was sent, without any label added")
    elif not unpacked.refused and not format_name and delivery.suffix.lower() == ".zip" and not whole:
        note = Note("delivery-cut", "the zip has no end: it is still being copied, or was cut off; copy it again")
    elif not unpacked.refused and not format_name:
        kinds = ", ".join(plugin_names("reader"))
        note = Note("format-unknown", f"its layout is not one of: {kinds}")
    else:
        return checked
    return replace(checked, general=(note, *checked.general))


def _judge(
    settings: AnnotationSettings, batch: Batch, answers: Mapping[str, Taken], base: Dataset, folder: Path, clock: Clock
) -> tuple[Quality | None, Path | None]:
    """Quality of all answers so far, these among them, and its page; nothing where nothing was answered."""
    if not answers:
        return None, None
    found, source = model_boxes(settings, batch, folder.parent, clock)
    groups = {record.key: record.group for record in base}
    quality = judge_quality(batch, answers, found, settings.quality, source, groups, settings.seed)
    write_json(folder / QUALITY_FILE, quality.to_json(batch.names))
    return quality, write_quality_page(folder / "quality", batch, answers, quality, settings.quality, clock)


def _as_it_stands(settings: AnnotationSettings, batch: Batch, delivery: Path, summary: ImportSummary) -> ImportSummary:
    """The summary of a delivery that was merged before; where its last answers came since, it says so."""
    if summary.complete or outstanding_files(settings, batch):
        return summary
    words = f"Batch {batch.id}, delivery {printable(delivery.name)}: it was merged before. The batch is complete."
    return replace(summary, complete=True, advice=words)


def _causes(checked: Checked) -> list[str]:
    """The two commonest causes for which nothing of a delivery can be used, in words."""
    if checked.general and any(note.serious for note in checked.general):
        return []  # the advice names these itself
    if checked.strangers and not checked.of_status("returned"):
        name = printable(checked.strangers[0])
        have = counted(len(checked.strangers), "picture has a name", "pictures have names")
        return [f"Why: {have} that did not go out ({name} for one); keep them."]
    notes = [note for picture in checked.of_status("returned") for note in picture.notes if note.serious]
    counts = Counter(note.kind for note in notes)
    first = {note.kind: note for note in reversed(notes)}
    return [f"Why ({count} times): {printable(first[kind].message)}." for kind, count in counts.most_common(2)]


def _note_answers(settings: AnnotationSettings, batch: Batch, back: Sequence[str]) -> None:
    """Write into the batch's record what is answered now, and what came back without an answer that can be used."""
    current = read_batch(settings.outbox / batch.id)
    answered = stored_answers(imports_folder(settings, batch.id)).keys() & current.expected().keys()
    unanswered = (set(current.back) | set(back)) - answered
    changed = replace(current, answered=tuple(sorted(answered)), back=tuple(sorted(unanswered)))
    if (changed.answered, changed.back) != (current.answered, current.back):
        write_batch(settings.outbox, changed)


def _close(
    settings: AnnotationSettings,
    batch: Batch,
    delivery: Path,
    content: str,
    summary: ImportSummary,
    answered: bool,
) -> None:
    """Tell the batch and the ledger; last, since a delivery that stands in the ledger is not looked at again."""
    if summary.merged:
        state: State = "imported" if summary.complete else "partly"
        event = {
            "event": "import",
            "delivery": delivery.name,
            "content": content,
            "accepted": summary.accepted,
            "returned": summary.returned,
            "version": summary.version,
        }
        current = read_batch(settings.outbox / batch.id)
        # Killed between this and the ledger, the next call comes by here again with the same event.
        if current.state != state or event not in [dict(row) for row in current.history]:
            set_state(settings.outbox, batch.id, state, event)
    outcome = "merged" if summary.merged else "problems" if answered else "foreign"
    note_outcome(settings, batch.id, delivery, content, outcome)  # type: ignore[arg-type]


def _read_summary(folder: Path) -> ImportSummary:
    content: Plain = to_plain(read_json(folder / SUMMARY))
    for name in ("report", "page", "data"):
        content[name] = Path(content[name]) if content[name] is not None else None
    return ImportSummary(**content)
