"""Released weights by name: where they are looked for, and fetching them from a server on this machine."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json
from marauder.models import released, ultralytics_adapter
from marauder.models.fetching import fetch
from marauder.models.files import save_detector
from marauder.models.released import Fetching, UnavailableError, fetched_folder, find_weights, is_released, released_for
from marauder.models.ultralytics_adapter import build_detector, download_released

NAME = "yolov8n.pt"
FAKE = "fake_fetching"
"""A module that stands in for the fetching process."""


@dataclass
class Server:
    """Answers every request with ``content``; ``statuses`` come first, one a request; ``cut`` ends the body early."""

    content: bytes
    statuses: list[int] = field(default_factory=list)
    cut: bool = False
    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector's ``.pt``: whatever is served must be one."""
    stem = tmp_path_factory.mktemp("detector") / "tiny"
    save_detector(build_detector("yolov8t", ["fish"]), stem, 64, {})
    return stem.with_suffix(".pt")


@pytest.fixture
def server(detector: Path) -> Iterator[Server]:
    told = Server(detector.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response(told.statuses.pop(0) if told.statuses else 200)
            self.send_header("Content-Length", str(len(told.content)))
            self.end_headers()
            self.wfile.write(told.content[: len(told.content) // 2] if told.cut else told.content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.address = f"http://127.0.0.1:{serving.server_port}/weights"
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield told
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to be called in, and a cache of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    """Fetching is allowed, from the server alone."""
    monkeypatch.delenv(released.OFFLINE)
    monkeypatch.setenv(released.ADDRESS, server.address)
    return server


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let the fetching process be one that does ``body``."""
    (folder / f"{FAKE}.py").write_text(f"import json, pathlib, sys, time\nname, folder = sys.argv[1:3]\n{body}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(released, "MODULE", FAKE)


def test_names_are_those_of_architectures_that_are_trained_here() -> None:
    assert [released_for(name) for name in ("yolov8n", "YOLO11m.pt", "yolov8x.yaml")] == [
        "yolov8n.pt", "yolo11m.pt", "yolov8x.pt",
    ]  # fmt: skip
    assert released_for("yolov8t") is None and not is_released("yolov8n-seg.pt") and not is_released("best.pt")


def test_a_file_here_comes_before_the_folder_and_the_folder_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnavailableError, match="MARAUDER_OFFLINE is set"):
        find_weights(NAME, Clock())
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / NAME).write_bytes(b"of the folder")
    monkeypatch.setenv(released.FOLDER, str(folder))
    assert find_weights(NAME, Clock()) == folder / NAME
    Path(NAME).write_bytes(b"here")
    assert find_weights(NAME, Clock()) == Path(NAME)
    monkeypatch.setenv(released.FOLDER, str(tmp_path / "gone"))
    Path(NAME).unlink()
    with pytest.raises(UserError, match=r"MARAUDER_WEIGHTS=.*gone: no such folder"):
        find_weights(NAME, Clock())


def test_the_suite_reaches_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object, **__: object) -> None:
        raise AssertionError("a fetching process was started")

    monkeypatch.setattr(subprocess, "Popen", begin)
    with pytest.raises(UnavailableError, match="nothing is fetched"):
        find_weights(NAME, Clock())
    # And if somebody fetched all the same, the request would end at a closed port of this machine.
    assert fetch(NAME, tmp_path, "") == {"problem": "no connection to the server, ProxyError", "again": False}


@pytest.mark.slow
def test_what_was_fetched_is_kept_with_its_checksum_and_fetched_again_when_damaged(
    tmp_path: Path, online: Server, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_weights(NAME, Clock())
    assert found == fetched_folder() / NAME and found.read_bytes() == detector.read_bytes()
    assert read_json(fetched_folder() / f"{NAME}.json")["about"]["sha256"] == hash_file(detector)
    assert online.asked == [f"/weights/{NAME}"]
    monkeypatch.setenv(released.OFFLINE, "1")
    assert find_weights(NAME, Clock()) == found, "fetched before, it needs no network"
    found.write_bytes(b"damaged")
    with pytest.raises(UnavailableError):
        find_weights(NAME, Clock())
    monkeypatch.delenv(released.OFFLINE)
    stand_in(tmp_path, monkeypatch, f"print(json.dumps({{'file': {str(detector)!r}}}))")
    assert find_weights(NAME, Clock()).read_bytes() == detector.read_bytes()


@pytest.mark.parametrize(
    ("statuses", "page", "cut", "problem", "again"),
    [
        ([404], False, False, "404", False),
        ([503], False, False, "503", True),
        ([], True, False, "cannot be opened as a detector", None),
        ([], False, True, "", False),
    ],
)
def test_nothing_else_is_taken_for_weights(
    tmp_path: Path, server: Server, statuses: list[int], page: bool, cut: bool, problem: str, again: bool | None
) -> None:
    server.statuses, server.cut = statuses, cut
    if page:
        server.content = b"<html>log in first</html>" * 10_000
    outcome = fetch(NAME, tmp_path, server.address)
    assert problem in outcome["problem"] and outcome.get("again") == again
    assert "file" not in outcome


def test_a_process_that_hangs_or_dies_is_an_answer_in_time(
    tmp_path: Path, online: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Fetching(start_seconds=60, stall_seconds=0.3, pauses=())
    stand_in(tmp_path, monkeypatch, "pathlib.Path(folder, 'begun').touch(); time.sleep(600)")
    with pytest.raises(UnavailableError, match=r"no answer for 0\.3 s"):
        find_weights(NAME, Clock(), limits)
    stand_in(tmp_path, monkeypatch, "sys.exit('out of luck')")
    with pytest.raises(UnavailableError, match="out of luck"):
        find_weights(NAME, Clock(), limits)
    stand_in(tmp_path, monkeypatch, "time.sleep(600)")
    with pytest.raises(Interrupted):
        find_weights(NAME, Clock(max_seconds=0.5), limits)


def test_a_server_that_is_at_fault_is_asked_again(
    tmp_path: Path, online: Server, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"""
count = pathlib.Path({str(tmp_path / "count")!r})
count.write_text(count.read_text() + '.' if count.exists() else '.')
print(json.dumps({{'problem': 'busy', 'again': True}} if len(count.read_text()) < 3 else {{'file': {str(detector)!r}}}))
"""
    stand_in(tmp_path, monkeypatch, body)
    assert hash_file(find_weights(NAME, Clock(), Fetching(pauses=(0.0, 0.0)))) == hash_file(detector)
    shutil.rmtree(fetched_folder())
    (tmp_path / "count").unlink()
    with pytest.raises(UnavailableError, match="busy"):
        find_weights(NAME, Clock(), Fetching(pauses=(0.0,)))


def test_without_a_network_the_answer_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(released.OFFLINE)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("socket.getaddrinfo", _no_network)
    stand_in(tmp_path, monkeypatch, "sys.exit('a fetching process was started')")
    with pytest.raises(UnavailableError, match="no network: the server is not found"):
        find_weights(NAME, Clock())


@pytest.mark.parametrize("address", ["mirror.example/w", "file:///srv/w", "http://", "http://[user:secret@host/w"])
def test_an_address_that_is_none_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.delenv(released.OFFLINE)
    monkeypatch.setenv(released.ADDRESS, address)
    with pytest.raises(UserError, match=r"MARAUDER_WEIGHTS_URL: not an http\(s\) address; .*unset it") as told:
        find_weights(NAME, Clock())
    assert address not in str(told.value) and "secret" not in str(told.value)


def test_credentials_of_a_mirror_are_neither_shown_nor_kept(
    tmp_path: Path, online: Server, detector: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_secret = online.address.replace("http://", "http://user:secret@")
    monkeypatch.setenv(released.ADDRESS, with_secret)
    online.statuses = [404]
    assert fetch(NAME, tmp_path, with_secret)["problem"].startswith("the server answers 404")
    # The process fails if its command line holds the password.
    told = f"sys.exit(str(sys.argv)) if 'secret' in str(sys.argv) else print(json.dumps({{'file': {str(detector)!r}}}))"
    stand_in(tmp_path, monkeypatch, told)
    find_weights(NAME, Clock())
    kept = (fetched_folder() / f"{NAME}.json").read_text(encoding="utf-8")
    shutil.rmtree(fetched_folder())
    stand_in(tmp_path, monkeypatch, "sys.exit('out of luck')")
    with pytest.raises(UnavailableError) as failure:
        find_weights(NAME, Clock())
    for words in (capsys.readouterr().err, kept, str(failure.value)):
        assert online.address in words and "secret" not in words and "user" not in words


def test_a_file_of_the_same_name_elsewhere_is_not_taken_for_a_fetched_one(
    tmp_path: Path, online: Server, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "weights"
    own.mkdir()
    (own / NAME).write_bytes(b"my own" * 40_000)
    monkeypatch.setattr("ultralytics.utils.SETTINGS", {"weights_dir": own})
    # As from Ultralytics' release, which is on this machine here.
    monkeypatch.setattr(ultralytics_adapter, "RELEASE", online.address)
    (tmp_path / "fetched").mkdir()
    assert download_released(NAME, tmp_path / "fetched").read_bytes() == detector.read_bytes()
    assert online.asked == [f"/weights/{NAME}"]


def test_the_release_is_the_one_that_ultralytics_fetches_from() -> None:
    # Here, once the adapter has set up what the import reads.
    from ultralytics.utils.downloads import attempt_download_asset

    known = inspect.signature(attempt_download_asset).parameters
    repository, release = known["repo"].default, known["release"].default
    assert f"https://github.com/{repository}/releases/download/{release}" == ultralytics_adapter.RELEASE


def test_one_attempt_is_one_request(tmp_path: Path, server: Server) -> None:
    server.cut = True
    fetch(NAME, tmp_path, server.address)
    assert len(server.asked) == 1


def test_a_file_that_is_too_small_is_told_without_the_address(tmp_path: Path, server: Server) -> None:
    server.content = b"busy"
    outcome = fetch(NAME, tmp_path, server.address.replace("http://", "http://user:secret@"))
    assert outcome == {"problem": "what the server sent is not complete, or too small for weights", "again": False}


def test_no_file_of_the_current_folder_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, online: Server) -> None:
    Path("fake_fetching.py").write_text('print(\'{"problem": "code of the current folder was run"}\')')
    monkeypatch.setattr(released, "MODULE", FAKE)
    with pytest.raises(UnavailableError, match="No module named"):
        find_weights(NAME, Clock())


def _no_network(*_: object) -> None:
    raise OSError("Name or service not known")


def test_finding_weights_needs_no_torch() -> None:
    code = "import sys, marauder.models.released, marauder.runs.start_weights; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
