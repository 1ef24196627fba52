"""Hostile deliveries of every kind, really made: nothing lands outside the target, and the rest is taken."""

from __future__ import annotations

import io
import os
import stat
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.annotation.delivery import is_whole_zip
from marauder.annotation.unpacking import Limits, Unpacked, directory_entries, safe_name, unpack

GOOD = b'{"images": []}'


def made(path: Path, entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name  # past ZipInfo's own mending of names
            info.compress_type = method
            archive.writestr(info, content)
    return path


def special(path: Path, mode: int) -> Path:
    """A zip with one entry of a file type other than regular, and a good one."""
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("evil")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("good.json", GOOD)
    return path


def outside(tmp_path: Path) -> set[str]:
    """Everything below ``tmp_path`` that is not in the target or the delivery."""
    return {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if not path.is_relative_to(tmp_path / "safe" / "target") and not path.is_relative_to(tmp_path / "in")
    } - {"safe", "in"}


def run(tmp_path: Path, delivery: Path, limits: Limits | None = None) -> Unpacked:
    result = unpack(delivery, tmp_path / "safe" / "target", limits)
    assert outside(tmp_path) == set()
    for name in result.files:
        assert (tmp_path / "safe" / "target" / name).is_file()
        assert not (tmp_path / "safe" / "target" / name).is_symlink()
    return result


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "a/../../evil.txt",
        "/evil.txt",
        "\\\\server\\evil.txt",
        "C:\\evil.txt",
        "C:evil.txt",
        "..\\evil.txt",
        "a\\..\\..\\evil.txt",
        "a/..",
        "evil\n.txt",
        "x" * 300,
        "/".join("d" * 20),
        "..",
        "./../evil",
    ],
)
def test_a_name_that_leads_out_is_refused_and_the_rest_taken(tmp_path: Path, inbox: Path, name: str) -> None:
    result = run(tmp_path, made(inbox / "d.zip", [(name, b"evil"), ("good.json", GOOD)]))
    assert set(result.files) == {"good.json"}
    assert [finding.kind for finding in result.findings] == ["entry-name"]
    assert not result.findings[0].taken


def test_backslashes_within_the_folder_are_separators(tmp_path: Path, inbox: Path) -> None:
    result = run(tmp_path, made(inbox / "d.zip", [("labels\\a.txt", b"0 .5 .5 .1 .1")]))
    assert set(result.files) == {"labels/a.txt"}
    assert [(finding.kind, finding.taken) for finding in result.findings] == [("entry-name-mended", True)]


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, inbox: Path, mode: int) -> None:
    result = run(tmp_path, special(inbox / "d.zip", mode))
    assert set(result.files) == {"good.json"}
    assert [finding.entry for finding in result.findings] == ["evil"]


def test_links_pipes_and_sockets_in_a_folder_are_refused(tmp_path: Path, inbox: Path) -> None:
    folder = inbox / "delivery"
    (folder / "labels").mkdir(parents=True)
    (folder / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
    secret = inbox / "secret.txt"
    secret.write_text("secret")
    (folder / "labels" / "b.txt").symlink_to(secret)
    (folder / "more").symlink_to(inbox)
    os.mkfifo(folder / "pipe.txt")
    result = run(tmp_path, folder)
    assert set(result.files) == {"labels/a.txt"}
    assert {finding.entry: finding.kind for finding in result.findings} == {
        "labels/b.txt": "entry-link",
        "more": "entry-link",
        "pipe.txt": "entry-no-file",
    }


def test_a_delivery_that_is_a_link_is_refused(tmp_path: Path, inbox: Path) -> None:
    (inbox / "real").mkdir()
    (inbox / "link").symlink_to(inbox / "real")
    assert "link" in (run(tmp_path, inbox / "link").refused or "")


def test_a_bomb_of_ratio_is_refused_unopened(tmp_path: Path, inbox: Path) -> None:
    delivery = made(inbox / "d.zip", [("bomb.txt", bytes(40 << 20)), ("good.json", GOOD)])
    result = run(tmp_path, delivery)
    assert set(result.files) == {"good.json"}
    assert "bomb" in result.findings[0].message


def test_a_bomb_that_states_a_small_size_does_not_grow(tmp_path: Path, inbox: Path) -> None:
    """The header lies: 3 MB packed into an entry that says 10 bytes."""
    content, lie = bytes(3 << 20), 10
    delivery = made(inbox / "d.zip", [("bomb.txt", content)])
    raw = bytearray(delivery.read_bytes())
    true, false = struct.pack("<I", len(content)), struct.pack("<I", lie)
    delivery.write_bytes(bytes(raw).replace(true, false))
    result = run(tmp_path, delivery)
    assert result.files == {}
    assert result.findings[0].kind in ("entry-damaged", "entry-bomb")
    assert result.bytes == 0


@pytest.mark.parametrize(
    ("limits", "refused"),
    [(Limits(total_bytes=2500), True), (Limits(entries=3), True), (Limits(entry_bytes=500), False)],
)
def test_limits_on_the_whole_and_on_entries(tmp_path: Path, inbox: Path, limits: Limits, refused: bool) -> None:
    delivery = made(inbox / "d.zip", [(f"{i}.txt", os.urandom(1000)) for i in range(5)], zipfile.ZIP_STORED)
    result = run(tmp_path, delivery, limits)
    assert (result.refused is not None) == refused
    assert result.bytes <= 3000 and len(result.files) <= 3
    assert result.findings


def directory_of(count: int, zip64: bool, stated: int) -> bytes:
    """A zip that is a directory of ``count`` empty entries and nothing else; its end states another number of them."""
    name = b"labels/picture_1.txt"
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, *[0] * 8, len(name), *[0] * 6) + name
    size = len(entry) * count
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, stated, stated, size, 0)
    end64 += struct.pack("<4sLQL", b"PK\6\7", 0, size, 1)
    size32 = 0xFFFFFFFF if zip64 else size
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, stated & 0xFFFF, stated & 0xFFFF, size32, 0, 4) + b"done"
    return entry * count + (end64 if zip64 else b"") + end


@pytest.mark.parametrize(("zip64", "stated"), [(True, 5), (False, 510_000)])
def test_too_many_entries_are_refused_before_any_is_looked_at(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch, zip64: bool, stated: int
) -> None:
    (inbox / "d.zip").write_bytes(directory_of(510_000, zip64, stated))
    assert is_whole_zip(inbox / "d.zip")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("an object was made for each entry"))
    started = time.perf_counter()
    result = run(tmp_path, inbox / "d.zip")
    assert time.perf_counter() - started < 5
    assert "more than 500,000 entries" in (result.refused or "")


def test_the_directory_is_the_one_that_zipfile_reads(tmp_path: Path) -> None:
    (tmp_path / "d.zip").write_bytes(directory_of(70_000, True, 70_000))
    with zipfile.ZipFile(tmp_path / "d.zip") as archive:
        assert len(archive.infolist()) == directory_entries(tmp_path / "d.zip", 100_000) == 70_000
    made(tmp_path / "empty.zip", [])
    assert directory_entries(tmp_path / "empty.zip", 10) == 0
    whole = made(tmp_path / "whole.zip", [(f"{n}.txt", b"x") for n in range(9)]).read_bytes()
    (tmp_path / "behind.zip").write_bytes(b"#!/bin/sh\n" + whole)
    assert directory_entries(tmp_path / "behind.zip", 10) == 9
    (tmp_path / "cut.zip").write_bytes(whole[:-9])
    assert directory_entries(tmp_path / "cut.zip", 10) is None


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


ZEROS = bytes(15 << 20)
BOMBS = {
    "in one archive": [(f"{n}.txt", ZEROS) for n in range(40)],
    "in several archives": [(f"{n}.zip", zipped([(f"{n}{part}.txt", ZEROS) for part in "ab"])) for n in range(3)],
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_many_small_entries_is_refused_unopened(tmp_path: Path, inbox: Path, name: str) -> None:
    delivery = made(inbox / "d.zip", [*BOMBS[name], ("good.json", GOOD)])
    result = run(tmp_path, delivery)
    assert "a zip bomb" in (result.refused or "")
    assert result.bytes < 1 << 20
    folder = inbox / "folder"
    folder.mkdir()
    delivery.rename(folder / "d.zip")
    assert "a zip bomb" in (run(tmp_path, folder).refused or "")


def test_honest_archives_are_no_bombs(tmp_path: Path, inbox: Path) -> None:
    line = b'{"id": 12345, "image_id": 17, "category_id": 3, "bbox": [102.5, 88.25, 33.0, 17.75]},\n'
    labels = b"".join(line.replace(b"12345", str(n).encode()) for n in range(60_000))
    pictures = zipped([(f"images/{n}.jpg", os.urandom(100_000)) for n in range(60)], zipfile.ZIP_STORED)
    entries = [*((f"{part}.json", labels) for part in "abcd"), ("pictures.zip", pictures)]
    result = run(tmp_path, made(inbox / "d.zip", entries))
    assert result.refused is None and len(result.files) == 64 and result.bytes > Limits().ratio_from_bytes


def test_overlapping_entries_are_a_bomb(tmp_path: Path, inbox: Path) -> None:
    """Two names in the central directory, one and the same packed content."""
    delivery = made(inbox / "d.zip", [("one.txt", b"a" * 100), ("two.txt", b"b" * 100), ("good.json", GOOD)])
    raw = bytearray(delivery.read_bytes())
    with zipfile.ZipFile(delivery) as archive:
        first, second, _ = archive.infolist()
        directory = archive.start_dir
    entry = raw.index(b"PK\x01\x02", directory + 4)
    assert struct.unpack_from("<I", raw, entry + 42)[0] == second.header_offset
    struct.pack_into("<I", raw, entry + 42, first.header_offset)
    delivery.write_bytes(raw)
    result = run(tmp_path, delivery)
    assert set(result.files) == {"good.json"}
    assert {finding.kind for finding in result.findings} == {"entry-bomb"}


def test_an_encrypted_entry_is_refused(tmp_path: Path, inbox: Path) -> None:
    delivery = made(inbox / "d.zip", [("secret.txt", b"a" * 50), ("good.json", GOOD)])
    raw = bytearray(delivery.read_bytes())
    struct.pack_into("<H", raw, 6, 1)
    with zipfile.ZipFile(delivery) as archive:
        struct.pack_into("<H", raw, archive.start_dir + 8, 1)
    delivery.write_bytes(raw)
    result = run(tmp_path, delivery)
    assert set(result.files) == {"good.json"}
    assert "encrypted" in result.findings[0].message


def test_a_name_that_stands_twice_is_not_taken_at_all(tmp_path: Path, inbox: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        delivery = made(inbox / "d.zip", [("a.txt", b"1"), ("a.txt", b"2"), ("./b.txt", b"3"), ("b.txt", b"4")])
    result = run(tmp_path, delivery)
    assert result.files == {}
    assert [finding.kind for finding in result.findings] == ["entry-twice"] * 4


def test_a_file_where_a_folder_is_needed(tmp_path: Path, inbox: Path) -> None:
    result = run(tmp_path, made(inbox / "d.zip", [("a", b"1"), ("a/b.txt", b"2"), ("c.txt", b"3")]))
    assert set(result.files) == {"a", "c.txt"}
    assert [finding.kind for finding in result.findings] == ["entry-twice"]


def test_damaged_bytes_are_one_bad_entry(tmp_path: Path, inbox: Path) -> None:
    delivery = made(inbox / "d.zip", [("a.txt", b"abcdefgh" * 10), ("good.json", GOOD)], zipfile.ZIP_STORED)
    raw = delivery.read_bytes().replace(b"abcdefgh", b"abcdXfgh", 1)
    delivery.write_bytes(raw)
    result = run(tmp_path, delivery)
    assert set(result.files) == {"good.json"}
    assert result.findings[0].kind == "entry-damaged"
    assert not (tmp_path / "safe" / "target" / "a.txt").exists()


def test_names_in_utf8_without_the_flag_are_read(tmp_path: Path, inbox: Path) -> None:
    delivery = made(inbox / "d.zip", [("Aengel.txt", b"1")])
    raw = delivery.read_bytes().replace(b"Aengel", "Ängel".encode())
    delivery.write_bytes(raw)
    assert set(run(tmp_path, delivery).files) == {"Ängel.txt"}


def test_names_in_another_unicode_form_are_one_name(tmp_path: Path, inbox: Path) -> None:
    delivery = made(inbox / "d.zip", [("A\u0308ngel.txt", b"1")])
    assert set(run(tmp_path, delivery).files) == {"Ängel.txt"}


def test_a_zip_in_a_zip_is_opened_once_and_counts_to_the_same_limits(tmp_path: Path, inbox: Path) -> None:
    def packed(name: str, content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, content)
            archive.writestr("../evil.txt", b"evil")
        return stream.getvalue()

    inner = packed("labels/a.txt", b"0 .5 .5 .1 .1")
    result = run(tmp_path, made(inbox / "d.zip", [("part1.zip", inner), ("deep.zip", packed("in.zip", inner))]))
    assert set(result.files) == {"part1/labels/a.txt"}
    kinds = sorted(finding.kind for finding in result.findings)
    assert kinds == ["archive-nested", "entry-name", "entry-name"]
    total = sum(len(one) for one in (inner, packed("in.zip", inner)))
    assert run(tmp_path, inbox / "d.zip", Limits(total_bytes=total)).refused is not None


def test_no_zip_at_all_and_half_a_zip(tmp_path: Path, inbox: Path) -> None:
    delivery = made(inbox / "d.zip", [("a.txt", os.urandom(5000))])
    half = inbox / "half.zip"
    half.write_bytes(delivery.read_bytes()[:3000])
    assert is_whole_zip(delivery)
    assert not is_whole_zip(half)
    (inbox / "none.zip").write_bytes(b"")
    assert not is_whole_zip(inbox / "none.zip")


def test_what_lay_in_the_target_is_gone_also_when_it_was_a_link(tmp_path: Path, inbox: Path) -> None:
    elsewhere = inbox / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep.txt").write_text("keep")
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "target").symlink_to(elsewhere)
    result = run(tmp_path, made(inbox / "d.zip", [("keep.txt", b"other")]))
    assert set(result.files) == {"keep.txt"}
    assert (elsewhere / "keep.txt").read_text() == "keep"


def test_the_hash_is_that_of_the_content(tmp_path: Path, inbox: Path) -> None:
    import hashlib

    result = run(tmp_path, made(inbox / "d.zip", [("good.json", GOOD), ("__MACOSX/._good.json", b"junk")]))
    assert result.files["good.json"].sha256 == hashlib.sha256(GOOD).hexdigest()
    assert set(result.files) == {"good.json"} and result.findings == []


PIECES = st.sampled_from(
    ["..", ".", "a", "b", "", "C:", "\\", "~", "con", "ä", "\u202e", "\x00", "%2e%2e", "a.zip", " "]
)
NAMES = st.lists(PIECES, min_size=1, max_size=6).flatmap(
    lambda parts: st.sampled_from(["/", "\\", "//"]).map(lambda mark: mark.join(parts))
)


@settings(max_examples=150, deadline=None)
@given(
    entries=st.lists(
        st.tuples(NAMES, st.binary(max_size=40), st.sampled_from([0, stat.S_IFLNK, stat.S_IFREG])), max_size=6
    ),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
def test_nothing_is_ever_written_outside(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, bytes, int]], damage: list[tuple[int, int]]
) -> None:
    """Any names, any types, and bytes of the archive changed at will."""
    tmp_path = tmp_path_factory.mktemp("any")
    (tmp_path / "in").mkdir()
    delivery = tmp_path / "in" / "d.zip"
    with zipfile.ZipFile(delivery, "w") as archive:
        seen = set()
        for name, content, kind in entries:
            if name in seen:
                continue
            seen.add(name)
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system, info.external_attr = name, 3, (kind | 0o644) << 16
            archive.writestr(info, content)
    raw = bytearray(delivery.read_bytes())
    for place, value in damage:
        raw[place % len(raw)] = value
    delivery.write_bytes(raw)
    result = run(tmp_path, delivery, Limits(total_bytes=1 << 20))
    target = (tmp_path / "safe" / "target").resolve()
    for path in target.rglob("*"):
        assert path.resolve().is_relative_to(target)
        assert not path.is_symlink()
    listed = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert listed == set(result.files)


@given(st.text(max_size=60))
def test_a_safe_name_stays_in_its_folder(name: str) -> None:
    path, why = safe_name(name)
    assert bool(path) != bool(why)
    if path:
        joined = os.path.normpath(os.path.join("/base", path))  # noqa: PTH118 - as text
        assert joined.startswith("/base/")
        assert "\\" not in path and "\0" not in path


def test_zlib_is_what_the_bombs_are_made_of() -> None:
    """The default ratio lies above what labels reach and far below what deflate can."""
    line = b'{"id": 12345, "image_id": 17, "category_id": 3, "bbox": [102.5, 88.25, 33.0, 17.75]},\n'
    labels = b"".join(line.replace(b"12345", str(n * 7919).encode()) for n in range(20_000))
    zeros = bytes(20 << 20)
    assert len(labels) / len(zlib.compress(labels, 9)) < Limits().ratio < len(zeros) / len(zlib.compress(zeros, 9))
