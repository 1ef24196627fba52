"""Preprocessing of a folder: what is finished stays, the rest is done in parallel, and the report is written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import TEMPORARY_SUFFIX, fingerprint
from marauder.core.progress import Progress
from marauder.preprocessing.companions import Companions
from marauder.preprocessing.inventory import PICTURE, Inventory, Item, check_folders, take_inventory
from marauder.preprocessing.journal import Journal, locked, stamp_of
from marauder.preprocessing.report import PreprocessingSummary, write_report
from marauder.preprocessing.settings import PreprocessingSettings, Recipe
from marauder.preprocessing.work import SET_ASIDE, Job, find_clean
from marauder.preprocessing.workers import WorkerPool


def preprocess_folder(settings: PreprocessingSettings, clock: Clock) -> PreprocessingSummary:
    """Enhance all pictures below ``settings.input`` into ``settings.output``, with everything beside them copied.

    The output has the input's tree and a folder ``preprocessing`` with ``measurements.jsonl`` (one line a picture),
    ``summary.json`` and ``report.html``. Files whose input, settings and output are unchanged since an earlier run are
    not touched; ``fresh`` forgets earlier runs. Bad files are set aside in the report. Raises ``Interrupted`` when the
    clock says stop (what is finished is kept), ``UserError`` for folders that cannot be used.
    """
    started = time.monotonic()
    check_folders(settings)
    with locked(settings.output):
        journal = Journal(settings.output)
        journal.begin(settings.fresh)
        _remove_partial_files(settings.output)
        inventory = take_inventory(settings)
        if not inventory.pictures():
            raise UserError(f"{settings.input}: holds no pictures (jpg, png, bmp, webp or tiff)")
        removed = journal.forget_missing({item.path for item in inventory.items})
        redone = _do_unfinished(settings, inventory, journal, clock)
        journal.compact()
        results = [journal.entries[item.path]["result"] for item in inventory.items]
        return write_report(settings, inventory, results, redone, removed, time.monotonic() - started)


def _do_unfinished(settings: PreprocessingSettings, inventory: Inventory, journal: Journal, clock: Clock) -> int:
    """Do what is not finished, noting each file in the journal; returns how many pictures that were."""
    companions = [item.path for item in inventory.items if item.kind != PICTURE]
    recipe = Recipe.of(settings)
    job = Job(
        settings.input.resolve(),
        settings.output.resolve(),
        settings.clean.resolve() if settings.clean is not None else None,
        recipe,
        Companions.of(settings.input, companions),
    )
    marks = {item.path: _fingerprint(item, job) for item in inventory.items}
    unfinished = [item for item in inventory.items if journal.finished(item.path, marks[item.path], item.stamp) is None]
    finished = len(inventory.items) - len(unfinished)
    set_aside = redone = 0
    # No more processes than there are chunks of files for them.
    pool = WorkerPool(job, max(1, min(settings.worker_count(), -(-len(unfinished) // 8))))
    with Progress("preprocessing", len(inventory.items), "files", already_done=finished) as progress:
        for done in pool.run(unfinished, lambda: clock.stop_reason() is not None):
            path = done.item.path
            journal.record(path, marks[path], done.item.stamp, done.output, done.result)
            redone += done.item.kind == PICTURE
            set_aside += done.result["status"] == SET_ASIDE
            progress.advance(note=f"{set_aside} set aside" if set_aside else None)
        complete = progress.done == len(inventory.items)
    if not complete:
        raise Interrupted(clock.stop_reason() or "stopped")
    return redone


def _fingerprint(item: Item, job: Job) -> str:
    """What the output of a file depends on besides the file itself."""
    if item.kind != PICTURE:
        rewritten = job.companions.rewritten(item.path)
        content: Any = rewritten.content.hex() if rewritten is not None else None
        return fingerprint([item.kind, content])[:16]
    clean = find_clean(job.clean, item.path) if job.clean is not None else None
    return fingerprint([item.kind, job.recipe.fingerprint(), str(clean), stamp_of(clean) if clean else None])[:16]


def _remove_partial_files(output: Path) -> None:
    """Delete temporary files of killed writers; this process holds the folder's lock."""
    for leftover in output.rglob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
