"""The contract of stores, the same for a folder and for a real S3 server; writers killed in the middle; damage."""

from __future__ import annotations

import os
import random
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from marauder.core.errors import UserError
from marauder.storage.base import ConflictError, Store, StoreError
from marauder.storage.opening import open_store
from marauder.testing.stores import StoreContract, write


class TestEveryStore(StoreContract):
    """A folder and S3."""

    @pytest.fixture
    def address(self, address: str) -> str:
        return address

    def damage(self, address: str, key: str, content: bytes) -> None:
        damage(address, key, content)

    def plant(self, address: str, key: str, content: bytes) -> None:
        plant(address, key, content)


@pytest.fixture
def store(address: str) -> Store:
    return open_store(address)


def connect(address: str) -> tuple[object, str, str]:
    from boto3.session import Session

    parts = urlsplit(address)
    endpoint = parts.query.removeprefix("endpoint_url=")
    return Session().client("s3", endpoint_url=endpoint), parts.netloc, parts.path.strip("/")


def damage(address: str, key: str, content: bytes) -> None:
    """Change an object's content behind the store's back."""
    if not address.startswith("s3:"):
        (Path(address) / key).write_bytes(content)
        return
    client, bucket, prefix = connect(address)
    metadata = client.head_object(Bucket=bucket, Key=f"{prefix}/{key}")["Metadata"]  # type: ignore[attr-defined]
    client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content, Metadata=metadata)  # type: ignore[attr-defined]


def plant(address: str, key: str, content: bytes) -> None:
    """Put an object there as another program would."""
    if not address.startswith("s3:"):
        (Path(address) / key).write_bytes(content)
        return
    client, bucket, prefix = connect(address)
    client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)  # type: ignore[attr-defined]


class TestFolder:
    def test_killed_between_the_checksum_and_the_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(str(tmp_path / "store"))
        store.put("best.pt", write(tmp_path / "in", b"old"))
        real = Path.replace

        def stop(self: Path, target: Path) -> Path:
            if Path(target).name == "best.pt":
                raise KeyboardInterrupt
            return real(self, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "replace", stop)
            store.put("best.pt", write(tmp_path / "in", b"new"))
        content, version = store.read("best.pt")
        assert content == b"old" and store.list()[0].version == version
        store.put("best.pt", tmp_path / "in")
        assert store.read("best.pt")[0] == b"new"

    def test_old_leftovers_of_killed_writers_are_cleared_young_ones_stay(self, tmp_path: Path) -> None:
        store = open_store(f"file://{tmp_path / 'store'}")
        store.put("a", write(tmp_path / "in", b"x"))
        old, young = (tmp_path / "store" / f".a.1.{name}.partial" for name in ("old", "young"))
        write(old, b""), write(young, b"")
        os.utime(old, (1, 1))
        store.put("a", tmp_path / "in")
        assert not old.exists() and young.exists()
        assert [entry.key for entry in store.list()] == ["a"]

    def test_a_folder_that_cannot_be_written_is_told_with_a_remedy(self, tmp_path: Path) -> None:
        write(tmp_path / "file", b"")
        store = open_store(str(tmp_path / "file" / "store"))
        with pytest.raises(StoreError, match="move it away"):
            store.put("a", write(tmp_path / "in", b"x"))


class TestS3:
    def test_files_above_the_part_size_go_up_in_parts(
        self, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from marauder.storage import s3

        monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
        store = open_store(f"s3://reef/parts?endpoint_url={s3_endpoint}")
        content = random.Random(5).randbytes(12 << 20)
        assert store.put("big", write(tmp_path / "in", content)).version.endswith('-3"')
        store.get("big", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content

    def test_a_lost_answer_to_a_swap_that_succeeded_is_no_conflict(
        self, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(f"s3://reef/lost?endpoint_url={s3_endpoint}")
        client = store._client  # type: ignore[attr-defined]
        real = client.put_object

        def twice(**arguments: object) -> object:
            real(**arguments)
            return real(**arguments)

        monkeypatch.setattr(client, "put_object", twice)
        version = store.replace("pointer", b"1", None)
        assert store.read("pointer") == (b"1", version)
        with pytest.raises(ConflictError):
            store.replace("pointer", b"1", None)

    def test_mistakes_are_told_with_a_remedy(
        self, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = write(tmp_path / "in", b"x")
        nowhere = open_store(f"s3://nobody/x?endpoint_url={s3_endpoint}")
        for attempt in (lambda: nowhere.put("a", source), nowhere.list, lambda: nowhere.read("a")):
            with pytest.raises(StoreError, match="create the bucket first"):
                attempt()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StoreError, match="check AWS_SECRET_ACCESS_KEY"):
            open_store(f"s3://reef/x?endpoint_url={s3_endpoint}").read("a")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(StoreError, match="credentials"):
            open_store(f"s3://reef/x?endpoint_url={s3_endpoint}").read("a")


@pytest.mark.parametrize("address", ["", "gs://bucket/x", "ftp://host"])
def test_an_unknown_scheme_is_told(address: str) -> None:
    with pytest.raises(UserError, match="names no store"):
        open_store(address)


@pytest.mark.parametrize("address", ["s3://", "s3://bucket?password=1", "s3://me:secret@bucket/x"])
def test_an_address_that_is_no_bucket_is_told_without_its_secrets(address: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/prefix"):
        open_store(address)
