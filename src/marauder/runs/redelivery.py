"""Delivers what trackers and sinks of a run missed, after the run: the same followers, started again for a while."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.plugins import names
from marauder.delivery.follower import FollowerGroup, FollowerProcess, command_of, is_followed
from marauder.delivery.journal import Cursor, Journal
from marauder.messaging import outbox
from marauder.messaging.follower import read_settings
from marauder.tracking.hub import FOLLOWER
from marauder.tracking.records import journal_of, latest_start, tracking_folder

OUTBOX = "outbox.jsonl"


@dataclass(frozen=True)
class Redelivery:
    """What became of one follower of a run: ``sent`` records in all now, ``missing`` still, ``refused`` for good.

    ``problem``: why something is missing, in words; empty where nothing is.
    """

    run: str
    follower: str
    sent: int
    missing: int
    refused: int
    problem: str


def deliver_run(folder: Path, seconds: float, refused: bool = False) -> list[Redelivery]:
    """Deliver what the followers of the run in ``folder`` lack, waiting at most ``seconds``.

    ``refused``: also offer again what was refused for good. A follower that a live run has is left alone. Returns one
    entry a follower that lacked something; raises ``UserError`` where a file of the run cannot be used.
    """
    # Who follows is what the run itself noted: today's settings may name others.
    groups = [group for group in (_trackers(folder), _sinks(folder)) if group is not None]
    wanted = [(group, _lacking(group, refused)) for group in groups]
    # Read before the followers start, for what they deliver from here on is counted.
    before = {member.cursor_path: Cursor.load(member.cursor_path) for group, _ in wanted for member in group.members}
    for group, members in wanted:
        group.members = members
        for member in members:
            member.command = [*member.command, *(["--refused"] if refused else [])]
        # All groups start before one is waited for: their times overlap.
        group.start()
    found = []
    for group, members in wanted:
        group.finish(seconds)
        last = group.journal.last_number()
        for member in members:
            cursor = Cursor.load(member.cursor_path)
            missing = last - cursor.delivered
            sent = cursor.delivered - before[member.cursor_path].delivered
            log = os.path.relpath(member.cursor_path.with_suffix(".log"))
            problem = (cursor.last_error or f"see {log}") if missing else ""
            found.append(Redelivery(folder.name, member.name, sent, missing, len(cursor.refused), problem))
    return found


def has_followers(folder: Path) -> bool:
    """Whether a folder is that of a run which trackers or sinks follow."""
    return journal_of(folder).exists() or (folder / OUTBOX).exists()


def _lacking(group: FollowerGroup, refused: bool) -> list[FollowerProcess]:
    behind = group.lagging()
    return [
        member
        for member in group.members
        if (member.name in behind or (refused and Cursor.load(member.cursor_path).refused))
        # Two followers of one cursor would deliver everything twice.
        and not is_followed(member.cursor_path)
    ]


def _trackers(folder: Path) -> FollowerGroup | None:
    journal = Journal(journal_of(folder))
    start = latest_start(journal, folder)
    if start is None:
        return None
    return _group(journal, tracking_folder(folder), FOLLOWER, folder, _known("tracker", start.trackers))


def _sinks(folder: Path) -> FollowerGroup | None:
    path = folder / OUTBOX
    if not (outbox.folder_of(path) / "settings.json").exists():
        return None
    sinks = _known("sink", read_settings(path).sinks)
    return _group(outbox.journal_of(path), outbox.folder_of(path), outbox.FOLLOWER, path, sinks)


def _known(kind: str, chosen: Sequence[str]) -> list[str]:
    # A plugin that the run had may not be installed here.
    return [name for name in chosen if name in names(kind)]


def _group(journal: Journal, folder: Path, module: str, what: Path, followers: Sequence[str]) -> FollowerGroup:
    commands = {name: command_of(module, str(what.absolute()), name) for name in followers}
    return FollowerGroup(journal, folder, commands)
