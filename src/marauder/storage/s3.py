"""A store in an S3 bucket, or in anything that speaks S3 (MinIO, SeaweedFS, Ceph).

Addresses: ``s3://bucket/prefix``, with ``?endpoint_url=http://host:port&region=name`` where the server is not Amazon's
(or ``AWS_ENDPOINT_URL_S3`` and ``AWS_DEFAULT_REGION`` in the environment). Credentials come from boto3's normal chain:
environment, ``~/.aws``, instance or pod role. They never stand in an address.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from marauder.core.files import DamagedFileError, atomic_path, hash_file
from marauder.core.plain import Plain
from marauder.storage.base import (
    ConflictError,
    Store,
    StoredObject,
    StoreError,
    StoreSettings,
    check_key,
    explained,
)

PART_BYTES = 64 << 20
"""Files above this go up in parts of this size; 10,000 parts are allowed, so objects may reach 640 GB."""
BLOCK = 1 << 20
TRIES = 3
"""How often a download starts over when the connection breaks in the middle."""
MISSING = ("404", "NoSuchKey", "NotFound")
CONFLICT = ("412", "409", "PreconditionFailed", "ConditionalRequestConflict")
REMEDIES = {
    "NoSuchBucket": "create the bucket first, or correct its name in the address",
    "AccessDenied": "let these credentials read, write, list and delete below the prefix",
    "403": "check the credentials, and that they may read and write below the prefix",
    "InvalidAccessKeyId": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose AWS_PROFILE",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, and the clock of this machine",
    "ExpiredToken": "renew the session's credentials",
    "SlowDown": "the server is busy; try again later",
}


class S3Store(Store):
    """Objects in a bucket, each with its SHA-256 in its metadata. Safe for threads, processes and machines."""

    name = "s3"
    title = "S3 bucket"

    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        parts = urlsplit(self.address)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        unknown = sorted(set(query) - {"endpoint_url", "region"})
        if parts.scheme != "s3" or not parts.netloc or unknown or parts.username or parts.password:
            raise StoreError(
                f"{self.address.partition('?')[0]}: write it as s3://bucket/prefix, with ?endpoint_url=… and &region=… "
                "where needed; keys and secrets belong into the environment or ~/.aws"
            )
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        endpoint = query.get("endpoint_url")
        config = Config(
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
            # Other servers seldom have a host name for each bucket.
            s3={"addressing_style": "path"} if endpoint else None,
        )
        with self._explained("the bucket"):
            session = Session()  # the default session is not for threads
            region = query.get("region") or session.region_name or "us-east-1"
            self._client = session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        self._transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)

    def put(self, key: str, path: Path) -> StoredObject:
        """Upload with a SHA-256 that the server checks part by part, and that of the whole in the metadata."""
        full = self._full(key)
        if not path.is_file():
            raise StoreError(f"no such file: {path}; it cannot be stored as {self._show(key)}; check the path")
        # The file is read twice, for its hash and for the upload: both must see the same content.
        before = path.stat()
        digest = hash_file(path)
        with self._explained(key), path.open("rb") as stream:
            self._client.upload_fileobj(
                stream,
                self.bucket,
                full,
                ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": digest}},
                Config=self._transfer,
            )
            about = self._client.head_object(Bucket=self.bucket, Key=full)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise StoreError(f"{path}: changed while it was stored as {self._show(key)}; store it again")
        return StoredObject(key, about["ContentLength"], about["LastModified"].timestamp(), about["ETag"])

    def get(self, key: str, path: Path) -> None:
        """Download and compare with the SHA-256 in the metadata before ``path`` is replaced."""
        for attempt in range(1, TRIES + 1):
            try:
                with explained(f"{self._show(key)} cannot be fetched to {path}"), atomic_path(path) as staged:
                    self._download(key, staged)
                return
            except _BrokenConnectionError as error:
                # botocore repeats requests, but not a body that breaks off while it is read.
                if attempt == TRIES:
                    raise StoreError(f"{self._show(key)}: {error}; check the network, then try again") from error
            except DamagedFileError as error:
                raise StoreError(str(error)) from None

    def read(self, key: str) -> tuple[bytes, str]:
        """Content and ETag."""
        answer = self._open(key)
        with self._explained(key):
            content: bytes = answer["Body"].read()
        if hashlib.sha256(content).hexdigest() != self._recorded(key, answer):
            raise StoreError(self._damaged(key))
        return content, answer["ETag"]

    def replace(self, key: str, content: bytes, expected_version: str | None) -> str:
        """A conditional put: ``If-Match`` the expected ETag, or ``If-None-Match: *``."""
        full = self._full(key)
        digest = hashlib.sha256(content)
        # Tells this put from another's with the same content, and so the same ETag.
        token = uuid.uuid4().hex
        condition = {"IfNoneMatch": "*"} if expected_version is None else {"IfMatch": expected_version}
        try:
            with self._explained(key):
                answer = self._client.put_object(
                    Bucket=self.bucket,
                    Key=full,
                    Body=content,
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode("ascii"),
                    Metadata={"sha256": digest.hexdigest(), "writer": token},
                    **condition,
                )
            return str(answer["ETag"])
        except (ConflictError, FileNotFoundError):
            # The answer to a put that succeeded may be lost; its repetition then meets the object it wrote itself.
            version = self._version_written_by(key, token)
            if version is not None:
                return version
            raise ConflictError(
                f"{self._show(key)}: was changed by someone else meanwhile; read it again and repeat"
            ) from None

    def list(self, prefix: str = "") -> list[StoredObject]:
        """All pages of the listing."""
        root = f"{self.prefix}/" if self.prefix else ""
        found = []
        with self._explained(prefix or "the listing"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root + prefix)
            for page in pages:
                for entry in page.get("Contents", []):
                    if not entry["Key"].endswith("/"):  # consoles mark folders with empty objects
                        key = entry["Key"].removeprefix(root)
                        found.append(StoredObject(key, entry["Size"], entry["LastModified"].timestamp(), entry["ETag"]))
        return sorted(found, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Remove an object; in a bucket with versions the old ones stay."""
        full = self._full(key)
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=full)

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def _show(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix + '/' if self.prefix else ''}{key}"

    def _open(self, key: str) -> Plain:
        full = self._full(key)
        with self._explained(key):
            answer: Plain = self._client.get_object(Bucket=self.bucket, Key=full)
        return answer

    def _download(self, key: str, staged: Path) -> None:
        answer = self._open(key)
        expected = self._recorded(key, answer)
        digest = hashlib.sha256()
        with staged.open("wb") as stream:
            try:
                for block in answer["Body"].iter_chunks(BLOCK):
                    digest.update(block)
                    stream.write(block)
            except BotoCoreError as error:
                raise _BrokenConnectionError(f"the connection broke ({error})") from error
        # Not the ETag: of an object sent in parts it is no hash of the content.
        if digest.hexdigest() != expected:
            raise DamagedFileError(self._damaged(key))

    def _recorded(self, key: str, answer: Plain) -> str:
        recorded = answer["Metadata"].get("sha256")
        if recorded is None:
            raise StoreError(
                f"{self._show(key)}: has no recorded SHA-256, so it was not stored by Marauder; store it again"
            )
        return str(recorded)

    def _damaged(self, key: str) -> str:
        return f"{self._show(key)}: is damaged (its SHA-256 is not the recorded one); store it again from its source"

    def _version_written_by(self, key: str, token: str) -> str | None:
        try:
            with self._explained(key):
                about = self._client.head_object(Bucket=self.bucket, Key=self._full(key))
        except FileNotFoundError:
            return None
        return str(about["ETag"]) if about["Metadata"].get("writer") == token else None

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """boto3's errors as those of the contract, with the remedy."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in MISSING:
                raise FileNotFoundError(f"{self._show(key)}: no such object") from None
            if code in CONFLICT:
                raise ConflictError(f"{self._show(key)}: was changed meanwhile") from None
            remedy = REMEDIES.get(code, "see the message of the server")
            raise StoreError(f"{self._show(key)}: {error}; {remedy}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise StoreError(
                f"{self._show(key)}: {error}; check the address, the network and the credentials (environment, "
                "~/.aws or role)"
            ) from error


class _BrokenConnectionError(Exception):
    """A download stopped in the middle."""
