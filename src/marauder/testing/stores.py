"""The contract of stores."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from marauder.storage.base import ConflictError, Store, StoreError
from marauder.storage.opening import open_store

# Large, so that a kill mostly comes in the middle of a put.
WRITERS_BYTES = 8 << 20


def write(path: Path, content: bytes) -> Path:
    """``path`` with this content."""
    path.write_bytes(content)
    return path


class StoreContract:
    """What every store does. A subclass gives ``address``, that of an empty store, and ways to harm it."""

    @pytest.fixture
    def address(self) -> str:
        """Of an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, address: str) -> Store:
        """The store there."""
        return open_store(address)

    def damage(self, address: str, key: str, content: bytes) -> None:
        """Change an object's content behind the store's back."""
        raise NotImplementedError

    def plant(self, address: str, key: str, content: bytes) -> None:
        """Put an object there as another program would."""
        raise NotImplementedError

    def test_what_is_put_comes_back(self, store: Store, tmp_path: Path) -> None:
        content = random.Random(1).randbytes(300_000)
        stored = store.put("models/reef/7/best.pt", write(tmp_path / "in", content))
        assert (stored.key, stored.size) == ("models/reef/7/best.pt", len(content))
        assert abs(stored.modified - time.time()) < 60
        store.get("models/reef/7/best.pt", tmp_path / "deep" / "out")
        assert (tmp_path / "deep" / "out").read_bytes() == content
        assert store.read("models/reef/7/best.pt") == (content, stored.version)
        assert store.list() == [stored]

    def test_a_second_put_replaces_the_first(self, store: Store, tmp_path: Path) -> None:
        first = store.put("a", write(tmp_path / "in", b"first"))
        second = store.put("a", write(tmp_path / "in", b""))
        assert first.version != second.version and second.size == 0
        assert store.read("a")[0] == b""

    def test_what_is_not_there(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nothing"):
            store.get("some/nothing", tmp_path / "out")
        with pytest.raises(FileNotFoundError, match="nothing"):
            store.read("some/nothing")
        assert not (tmp_path / "out").exists()
        assert store.list() == [] and store.list("some/") == []
        store.delete("some/nothing")
        with pytest.raises(StoreError, match=r"gone.*check the path"):
            store.put("a", tmp_path / "gone")

    def test_list_is_sorted_and_knows_prefixes(self, store: Store, tmp_path: Path) -> None:
        source = write(tmp_path / "in", b"x")
        for key in ("b/2", "b/10", "a", "bc", "b/deep/er"):
            store.put(key, source)
        assert [entry.key for entry in store.list()] == ["a", "b/10", "b/2", "b/deep/er", "bc"]
        assert [entry.key for entry in store.list("b/")] == ["b/10", "b/2", "b/deep/er"]
        assert [entry.key for entry in store.list("b")] == ["b/10", "b/2", "b/deep/er", "bc"]
        assert [entry.key for entry in store.list("b/d")] == ["b/deep/er"]
        assert {entry.version for entry in store.list()} == {store.read("a")[1]}
        store.delete("b/2")
        assert [entry.key for entry in store.list("b/")] == ["b/10", "b/deep/er"]

    def test_replace_compares_and_swaps(self, store: Store) -> None:
        first = store.replace("pointer", b"1", None)
        with pytest.raises(ConflictError, match="pointer"):
            store.replace("pointer", b"2", None)
        second = store.replace("pointer", b"2", first)
        with pytest.raises(ConflictError):
            store.replace("pointer", b"3", first)
        assert store.read("pointer") == (b"2", second)
        with pytest.raises(ConflictError):
            store.replace("other", b"1", first)
        store.delete("pointer")
        assert store.replace("pointer", b"4", None) == store.read("pointer")[1]

    def test_of_many_swapping_at_once_none_is_lost(self, address: str) -> None:
        open_store(address).replace("count", b"0", None)

        def add(_: int) -> None:
            mine = open_store(address)
            while True:
                content, version = mine.read("count")
                try:
                    mine.replace("count", str(int(content) + 1).encode(), version)
                    return
                except ConflictError:
                    continue

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(24)))
        assert open_store(address).read("count")[0] == b"24"

    def test_readers_beside_a_writer_see_one_whole_object(self, store: Store, address: str, tmp_path: Path) -> None:
        contents = [bytes([number]) * 200_000 for number in range(12)]
        store.put("big", write(tmp_path / "in", contents[0]))

        def read(number: int) -> None:
            for _ in range(8):
                open_store(address).get("big", tmp_path / f"out{number}")
                content = (tmp_path / f"out{number}").read_bytes()
                # Each content is one byte repeated, which says which one it is.
                assert content == contents[content[0]]

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read, number) for number in range(3)]
            for number, content in enumerate(contents):
                store.put("big", write(tmp_path / f"in{number}", content))
            for reader in readers:
                reader.result()

    @pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/.hidden", "a\\b", "a\nb", "x" * 300])
    def test_keys_that_lead_elsewhere_are_refused(self, store: Store, tmp_path: Path, key: str) -> None:
        source = write(tmp_path / "in", b"x")
        for attempt in (
            lambda: store.put(key, source),
            lambda: store.get(key, tmp_path / "out"),
            lambda: store.read(key),
            lambda: store.replace(key, b"x", None),
            lambda: store.delete(key),
        ):
            with pytest.raises(StoreError, match="cannot be an object's key"):
                attempt()

    def test_a_damaged_object_is_noticed(self, store: Store, address: str, tmp_path: Path) -> None:
        store.put("a/best.pt", write(tmp_path / "in", b"good"))
        store.get("a/best.pt", tmp_path / "out")
        self.damage(address, "a/best.pt", b"goof")
        for attempt in (lambda: store.get("a/best.pt", tmp_path / "out"), lambda: store.read("a/best.pt")):
            with pytest.raises(StoreError, match=r"best\.pt: is damaged"):
                attempt()
        assert (tmp_path / "out").read_bytes() == b"good", "a damaged object must not replace the file"
        store.put("a/best.pt", tmp_path / "in")
        assert store.read("a/best.pt")[0] == b"good"

    def test_an_object_of_someone_else_is_told(self, store: Store, address: str, tmp_path: Path) -> None:
        store.put("mine", write(tmp_path / "in", b"mine"))
        self.plant(address, "theirs", b"theirs")
        assert [entry.key for entry in store.list()] == ["mine", "theirs"]
        with pytest.raises(StoreError, match="no recorded SHA-256"):
            store.get("theirs", tmp_path / "out")
        store.put("theirs", tmp_path / "in")
        assert store.read("theirs")[0] == b"mine"

    def test_a_writer_killed_in_the_middle_leaves_the_old_or_the_new(
        self, store: Store, address: str, tmp_path: Path
    ) -> None:
        contents = {hashlib.sha256(content).hexdigest() for content in (writers_content(0), writers_content(1))}
        # Seeded, so that a failure comes at the same moments again.
        chooser = random.Random(3)
        kills = 0
        for _ in range(6):
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, address, str(tmp_path / "source")],
                stdout=subprocess.PIPE,
                # The writer must find the same packages as this process, however pytest was told of them.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(chooser.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            for entry in store.list():
                assert hashlib.sha256(store.read(entry.key)[0]).hexdigest() in contents
                assert entry.size == WRITERS_BYTES
        assert kills == 6
        assert store.list(), "no put was ever finished; the test shows nothing"


def writers_content(number: int) -> bytes:
    """What a writer that is killed puts, one content after the other."""
    return bytes([65 + number]) * WRITERS_BYTES


def main() -> None:
    """A writer that puts two contents in turn until it is killed."""
    address, source = sys.argv[1], Path(sys.argv[2])
    store = open_store(address)
    for number in itertools.count():
        source.write_bytes(writers_content(number % 2))
        if number == 0:
            print("ready", flush=True)
        store.put("object", source)


if __name__ == "__main__":
    main()
