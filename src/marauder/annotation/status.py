"""How far annotation has come, in words: what is waited for, since when, and where to put it."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from marauder.annotation.batch import TIME_FORMAT, Batch, find_batch, list_batches, sent_again
from marauder.annotation.delivery import Candidate, imports_folder, look, oddities
from marauder.annotation.merging import latest_version, stored_answers
from marauder.annotation.price import describe_order
from marauder.annotation.settings import AnnotationSettings
from marauder.core.clock import describe_seconds
from marauder.core.wording import counted, local_time
from marauder.selection.price import Price


@dataclass(frozen=True)
class BatchStatus:
    """``batch``: id of the batch meant, ``None`` without any. ``state``: of ``annotation.batch``, or ``none``.
    ``pictures``: answers wanted, the overlap's second ones too, less those that a later batch asks for now;
    ``answered``: of these, merged. ``waiting``: whether a delivery is waited for; ``ready``: one that lies in the inbox
    and can be imported. ``data``: the merged data.yaml, if there is one. ``words``: all of it as a few lines."""

    batch: str | None
    state: str
    pictures: int
    answered: int
    waiting: bool
    ready: Path | None
    data: Path | None
    words: str


def batch_status(settings: AnnotationSettings) -> BatchStatus:
    """The status of the open batch, of ``settings.batch``, or of the last one. Reads little; changes nothing."""
    known = list_batches(settings.outbox)
    batch = find_batch(settings.outbox, settings.batch) or (known[-1] if known else None)
    latest = latest_version(settings.output)
    data = settings.output / "data.yaml" if latest else None
    if batch is None:
        words = f"No batch went out yet: {settings.outbox} holds none. Make one: {command_line('export', settings)}"
        return BatchStatus(None, "none", 0, 0, False, None, data, words)
    expected = batch.expected()
    stored = stored_answers(imports_folder(settings, batch.id))
    # From the stored answers, as the import counts: the batch's record may lag behind by a kill.
    answered = sum(file in stored for file in expected)
    elsewhere = len(sent_again(batch, known) - stored.keys())
    wanted_answers = len(expected) - elsewhere
    waiting = batch.state in ("open", "partly")
    candidates = look(settings, batch)
    wanted = ("ready", "problems") if settings.accept else ("ready",)
    ready = next((one.path for one in candidates if waiting and one.state in wanted), None)
    lines = [_headline(settings, batch, wanted_answers, answered)]
    if elsewhere:
        lines.append(f"{elsewhere} more went out again with a later batch and are not waited for here.")
    lines += [line for line in (_candidate_words(settings, batch, one) for one in candidates) if line]
    lines += oddities(settings)
    if latest:
        lines.append(f"Merged so far: version {latest[0]:04d} of {data}.")
    return BatchStatus(batch.id, batch.state, wanted_answers, answered, waiting, ready, data, "\n".join(lines))


def command_line(name: str, settings: AnnotationSettings, *words: str) -> str:
    """``marauder annotation NAME`` that works as it is, with the places that are not the default ones."""
    named = {"--outbox": settings.outbox, "--inbox": settings.inbox, "--output": settings.output}
    if name == "export":
        # There --output is the outbox, and a batch needs its data set.
        named = {"--outbox": settings.outbox, "--data": settings.data}
    fields = AnnotationSettings.model_fields
    places = [
        word
        for flag, path in named.items()
        if path != fields[flag.removeprefix("--")].default
        for word in (flag, str(path))
    ]
    if name == "export" and settings.output != fields["output"].default:
        places.append(f"output={settings.output}")
    return shlex.join(["marauder", "annotation", name, *words, *places])


def _headline(settings: AnnotationSettings, batch: Batch, expected: int, answered: int) -> str:
    if batch.state == "writing":
        return f"Batch {batch.id} is not written to its end: run {command_line('export', settings)} again."
    if batch.state == "imported":
        merged = counted(answered, "answer is", "answers are")
        return f"Batch {batch.id} is complete: {merged} merged. Nothing is waited for."
    rest = expected - answered
    what = counted(rest, "answer") if not answered else f"the other {rest} of {counted(expected, 'answer')}"
    order = ""
    if batch.price:
        overlap = sum(item.overlap for item in batch.items)
        order = f" ({describe_order(len(batch.items), overlap, Price.of(batch.price))})"
    return (
        f"Waiting for {what} of batch {batch.id}{order} since {_since(batch)}. Send the packages in "
        f"{settings.outbox / batch.id} to the provider; put what comes back (a zip, a folder or a file of "
        f"labels, in any format of docs/formats.md) into {settings.inbox}"
    )


def _since(batch: Batch) -> str:
    return local_time(datetime.strptime(batch.created, TIME_FORMAT).replace(tzinfo=UTC), zone=True)


def _candidate_words(settings: AnnotationSettings, batch: Batch, one: Candidate) -> str:
    name = one.path.name
    age = describe_seconds(max(0.0, time.time() - one.changed))
    # Not taken by itself: nobody waits for it, and it would change labels that are merged.
    if one.state == "ready" and batch.state == "imported":
        return (
            f"{name} is in the inbox but no batch waits for it; to import it as a correction: "
            f"{command_line('import', settings, '--delivery', str(one.path))}"
        )
    if one.state == "ready":
        return f"{name} is in the inbox, complete: it is imported next ({command_line('import', settings)})."
    if one.state == "copying":
        return f"{name} is still being copied ({one.why})."
    if one.state == "cut":
        return f"{name} {one.why} and nothing was written to it for {age}: it was cut off; copy it again."
    if one.state == "problems":
        report = imports_folder(settings, batch.id)
        if settings.accept:
            return f"{name} has problems; its good part is taken next (accept)."
        return (
            f"{name} was checked and has problems, nothing of it was merged: see the reports in {report}; "
            f"send it back, or take its good part: {command_line('import', settings, '--accept')} "
            "(in the pipeline: annotation.accept=true)."
        )
    if one.state == "foreign":
        return f"{name} says nothing of this batch's pictures; it is left alone."
    return ""
