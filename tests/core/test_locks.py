"""Locks of folders: one holder at a time, gone with the process however it ends, not kept by its children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from marauder.core import locks
from marauder.core.errors import UserError
from marauder.core.locks import exclusive, holder, is_held

HOLD = """
import os, sys, time
from pathlib import Path
from marauder.core.locks import exclusive

with exclusive(Path(sys.argv[1], "lock"), "the folder"):
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    Path(sys.argv[1], "ready").touch()
    time.sleep(30)
"""


def hold(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *words], start_new_session=True)
    deadline = time.monotonic() + 30
    while not (folder / "ready").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("words", [(), ("fork",)], ids=["alone", "with a child that lives on"])
def test_a_lock_goes_with_its_holder(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = hold(tmp_path, *words)
    try:
        assert is_held(tmp_path / "lock")
        assert f"process {process.pid} on " in holder(tmp_path / "lock")
        refused = pytest.raises(UserError, match=rf"the folder is in use by another run \(process {process.pid} on")
        with refused, exclusive(tmp_path / "lock", "the folder"):
            pytest.fail("two holders")
        assert is_held(tmp_path / "lock"), "a refused attempt must not take the lock away"
        process.kill()
        process.wait()
        assert not is_held(tmp_path / "lock")
        with exclusive(tmp_path / "lock", "the folder"):
            pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_one_process_does_not_take_a_lock_twice(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock", "the folder"):
        assert not is_held(tmp_path / "lock"), "another process, that is"
        with pytest.raises(UserError, match="by this process"), exclusive(tmp_path / "lock", "the folder"):
            pytest.fail("two holders")
        script = f"from marauder.core.locks import *; print(is_held(Path({str(tmp_path / 'lock')!r})))"
        seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert seen.stdout.strip() == "True", "asking and being refused must not have let go of it"
    with exclusive(tmp_path / "lock", "the folder"):
        pass


def test_the_holder_of_a_lock_that_nobody_wrote_is_unknown(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert holder(tmp_path / "lock") == "another process"


def test_a_refusal_takes_the_folders_made_for_the_lock_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "deep" / "lock"
    with pytest.raises(UserError, match="no"), exclusive(lock, "it"):
        raise UserError("no")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="no"), exclusive(lock, "it"):
        (lock.parent / "work").touch()
        raise UserError("no")
    assert lock.exists(), "work that was done stays, and its lock with it"
    with pytest.raises(UserError, match="no"), exclusive(tmp_path / "lock", "it"):
        raise UserError("no")
    assert (tmp_path / "lock").exists(), "nor does a folder go that was there"


def test_a_refusal_is_told_though_the_block_took_the_folder_away(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "lock"
    with pytest.raises(UserError, match="no"), exclusive(lock, "it"):
        shutil.rmtree(lock.parent)
        raise UserError("no")
    assert not lock.parent.exists()


def test_a_lock_whose_file_was_deleted_is_not_taken_for_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who waits may get the file that a refusal deleted: others would lock another one beside it."""
    lock, tried = tmp_path / "lock", []

    def deleted_first(stream: object, kind: int) -> bool:
        tried.append(lock.stat().st_ino)
        if len(tried) == 1:
            lock.unlink()
            (tmp_path / "keeps the inode").touch()
        return True

    monkeypatch.setattr(locks, "_try_lock", deleted_first)
    with exclusive(lock, "it"):
        assert lock.exists() and len(tried) == 2
