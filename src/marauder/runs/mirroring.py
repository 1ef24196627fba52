"""Where the checkpoints of a run are copied to, and what comes back from there to a machine that lost its folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from marauder.core.files import DamagedFileError
from marauder.runs.record import read_record
from marauder.runs.settings import RunSettings
from marauder.runs.start_weights import FOLDER, START_FILE, Start, read_start, read_start_file
from marauder.storage.base import StoreError
from marauder.storage.mirror import CheckpointMirror, open_mirrors

log = logging.getLogger("marauder")


def mirrors_of(settings: RunSettings) -> list[CheckpointMirror]:
    """The places that this run's checkpoints are copied to, with the best weights and with what the run started from:
    on another machine those that ``weights`` names may be others."""
    best = settings.folder / "best.safetensors"  # of every kind: what the engine saves under that name
    companions = [best]
    start = read_start(settings.folder)
    if start is not None and settings.starts_elsewhere is None:
        companions += [settings.folder / START_FILE]
        companions += [settings.folder / start.copy_name] if start.name else []
    return open_mirrors(settings.checkpoint_tiers, f"checkpoints/{settings.project}/{settings.id}", companions)


@contextlib.contextmanager
def start_brought_back(settings: RunSettings, fresh: bool) -> Iterator[None]:
    """Fetch what the run started from, where its folder was lost and a mirror has it. A mirror that cannot be reached,
    or holds it damaged, is passed over with a warning. What was fetched goes again if the run is then refused."""
    start = None
    if not fresh and settings.starts_elsewhere is None and read_start(settings.folder) is None:
        start = _bring(settings)
    try:
        yield
    except BaseException:
        if start is not None and read_record(settings.folder) is None:
            for name in filter(None, (START_FILE, start.copy_name if start.name else "")):
                (settings.folder / name).unlink(missing_ok=True)
            for folder in (settings.folder / FOLDER, settings.folder):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        raise


def _bring(settings: RunSettings) -> Start | None:
    for mirror in mirrors_of(settings):
        try:
            return _brought(mirror, settings)
        except FileNotFoundError:
            continue
        except (StoreError, DamagedFileError, OSError) as error:
            log.warning("%s: what this run started from was not brought back: %s", mirror.where, error)
    return None


def _brought(mirror: CheckpointMirror, settings: RunSettings) -> Start:
    file = settings.folder / START_FILE
    fetched = file.with_name(f".{START_FILE}.fetched")
    mirror.store.get(mirror.companion_key(file), fetched)
    try:
        start = read_start_file(fetched)
        if start.name:
            copy = settings.folder / start.copy_name
            mirror.store.get(mirror.companion_key(copy), copy)
        # Last: with it the start counts as decided.
        fetched.replace(file)
    finally:
        fetched.unlink(missing_ok=True)
    log.info("starts from %s, as the run did that %s holds", start.describe(), mirror.where)
    return start
