"""Caches without a home folder: another place is found, told once, and nothing stops for a cache."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from marauder.core.environment import cache_folder
from marauder.core.files import append_to_cache, located_path, portable_path, read_lines


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, in an environment that says nothing of caches."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "set so that it is put back")
        monkeypatch.delenv(name)
    return folder


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_home_folder_is_used_where_there_is_one(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "marauder"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "marauder"
    assert not told(caplog) and "MPLCONFIGDIR" not in os.environ


@pytest.mark.parametrize("home", ["/proc/nonexistent", "a file", "none at all"])
def test_without_a_home_caches_lie_among_the_temporary_files(
    home: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if home == "a file":
        home = str(tmp_path / "file")
        Path(home).write_text("")
    if home == "none at all":

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("HOME", home)
    folder = cache_folder()
    assert folder.is_dir() and folder.is_relative_to(temporary)
    assert folder.parent.stat().st_mode & 0o077 == 0, "nobody else may put files there"
    assert cache_folder() == folder and len(told(caplog)) == 1 and "XDG_CACHE_HOME" in told(caplog)[0]
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(temporary)


def test_a_name_that_somebody_else_took_is_not_trusted(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc/nonexistent")
    (tmp_path / "theirs").mkdir()
    (temporary / f"marauder-cache-{os.getuid()}").symlink_to(tmp_path / "theirs")
    folder = cache_folder()
    assert folder.is_dir() and not folder.resolve().is_relative_to(tmp_path / "theirs")


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    unwritable = tmp_path / "file" / "hashes.jsonl"
    for number in range(3):
        append_to_cache(unwritable, number)
    assert len(told(caplog)) == 1 and str(unwritable) in told(caplog)[0]
    append_to_cache(tmp_path / "hashes.jsonl", 1)
    assert read_lines(tmp_path / "hashes.jsonl") == [1]


def test_paths_in_files_move_with_them(tmp_path: Path) -> None:
    folder, picture = tmp_path / "space" / "outbox" / "batch", tmp_path / "space" / "images" / "é 1?.png"
    text = portable_path(picture, folder)
    assert text == "../../images/é 1?.png"
    assert located_path(text, folder) == picture
    moved = tmp_path / "moved" / "outbox" / "batch"
    assert located_path(text, moved) == tmp_path / "moved" / "images" / "é 1?.png"
    assert portable_path(Path("/pool/1.png"), folder) == "/pool/1.png", "what lies elsewhere stays where it is"
    assert located_path("/pool/1.png", moved) == Path("/pool/1.png")
