"""Released weights by name (``yolov8n.pt``): where they are looked for and how they are fetched. Needs no torch.

A name is looked for in the folder the command is called in, then in the folder ``MARAUDER_WEIGHTS``, then among the
files fetched before; then it is fetched, by a process of its own that can be ended (``models.fetching``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from marauder.core.clock import Clock
from marauder.core.environment import cache_folder
from marauder.core.errors import UserError
from marauder.core.files import atomic_path, hash_file
from marauder.core.plain import Plain
from marauder.core.work import Work
from marauder.models.naming import FAMILIES, detector_names

FOLDER = "MARAUDER_WEIGHTS"
"""Names the folder of weights files."""
MODULE = "marauder.models.fetching"
"""What the process that fetches runs."""
ADDRESS = "MARAUDER_WEIGHTS_URL"
"""Names the address to fetch from, as of a mirror: ``ADDRESS/yolov8n.pt``; unset: Ultralytics' release."""
OFFLINE = "MARAUDER_OFFLINE"
"""Anything but empty or 0: nothing is fetched."""

HOST = "github.com"
ORIGIN = f"Ultralytics' release on {HOST}"
LOOK_SECONDS = 10.0
"""Longest wait for the address of the server's name."""
START_SECONDS, STALL_SECONDS, MOST_SECONDS = 120.0, 30.0, 1800.0
"""Longest times: until fetching begins (PyTorch is loaded first), without a new byte, and in all."""
PAUSES = (2.0, 8.0)
"""Seconds before another attempt, where the server said that it was its own fault."""
_RELEASED = re.compile(rf"({'|'.join(FAMILIES)})[nsmlx]\.pt")


class UnavailableError(Exception):
    """Weights that cannot be had: why, in words."""


@dataclass(frozen=True)
class Fetching:
    """How files are fetched. ``stall_seconds``: the longest wait for the next byte."""

    start_seconds: float = START_SECONDS
    stall_seconds: float = STALL_SECONDS
    most_seconds: float = MOST_SECONDS
    pauses: tuple[float, ...] = PAUSES


def is_released(name: str) -> bool:
    """Whether ``name`` is that of released COCO weights for an architecture that is trained here."""
    return _RELEASED.fullmatch(name) is not None


def released_names() -> list[str]:
    """Of all released COCO weights, small to large."""
    return [name for name in (f"{model}.pt" for model in detector_names()) if is_released(name)]


def released_for(model: str) -> str | None:
    """The name of the COCO weights for the architecture ``model`` (``yolov8n``); ``None``: none were released."""
    name = f"{model.lower().removesuffix('.yaml').removesuffix('.pt')}.pt"
    return name if is_released(name) else None


def fetched_folder() -> Path:
    """Where fetched files are kept."""
    return cache_folder() / "weights"


def find_weights(name: str, clock: Clock, fetching: Fetching | None = None) -> Path:
    """The file of the released weights ``name``, fetched where no folder has it.

    Raises ``UnavailableError`` with the reason where it cannot be had, ``Interrupted`` where the clock says to stop,
    ``UserError`` for a ``MARAUDER_WEIGHTS`` that is not a folder and a ``MARAUDER_WEIGHTS_URL`` that is no address.
    """
    found = here_or_reachable(name)
    if found is not None:
        return found
    target = fetched_folder() / name
    _fetch(name, target, clock, fetching or Fetching())
    _work(name).finish([target], {"sha256": hash_file(target), "from": _origin(), "fetched": time.time()})
    return target


def here_or_reachable(name: str) -> Path | None:
    """The file of the released weights ``name`` where this machine has it; ``None``: it is to be fetched.

    Asks no network. Raises ``UnavailableError`` where nothing may be fetched, and ``UserError`` as ``find_weights``.
    """
    found = weights_here(name)
    if found is None:
        if os.environ.get(OFFLINE, "0") not in ("", "0"):
            raise UnavailableError(f"{OFFLINE} is set, so nothing is fetched")
        _server()
    return found


def weights_here(name: str) -> Path | None:
    """The file of the released weights ``name`` where this machine has it. Raises ``UserError`` for a
    ``MARAUDER_WEIGHTS`` that is not a folder."""
    if Path(name).is_file():
        return Path(name)
    folder = os.environ.get(FOLDER, "")
    if folder:
        if not Path(folder).is_dir():
            raise UserError(f"{FOLDER}={folder}: no such folder; correct the variable, or unset it")
        if Path(folder, name).is_file():
            return Path(folder, name)
    # The checksum recorded when it was fetched: a file that was damaged since is fetched again.
    return fetched_folder() / name if _work(name).done() is not None else None


def _work(name: str) -> Work:
    return Work(fetched_folder() / f"{name}.json", {"released": name})


def where_to_put(name: str) -> str:
    """What a user does who has the file, in words."""
    folder = os.environ.get(FOLDER, "")
    place = f"the folder {folder} ({FOLDER})" if folder else f"a folder that {FOLDER} names"
    return f"put the file {name} into {Path.cwd()} or into {place}"


def _server() -> SplitResult | None:
    """The address of ``MARAUDER_WEIGHTS_URL``, in its parts; ``None``: it is unset. Raises ``UserError``."""
    given = os.environ.get(ADDRESS, "")
    if not given:
        return None
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # Its value is not repeated: it may hold a password.
        raise UserError(f"{ADDRESS}: not an http(s) address; give one such as https://mirror/weights, or unset it")
    return parts


def _origin() -> str:
    """Where files are fetched from, in words: without user, password and query."""
    parts = _server()
    return ORIGIN if parts is None else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _fetch(name: str, target: Path, clock: Clock, limits: Fetching) -> None:
    server = _server()
    if _is_unknown(HOST if server is None else server.hostname or "", clock):
        raise UnavailableError(f"it cannot be fetched from {_origin()} (no network: the server is not found)")
    print(f"fetching {name} from {_origin()} ({OFFLINE}=1 forbids it)", file=sys.stderr)
    for pause in (*limits.pauses, None):
        with tempfile.TemporaryDirectory(prefix="marauder-fetch-") as folder:
            outcome = _attempt(name, Path(folder), clock, limits)
            if "file" in outcome:
                with atomic_path(target) as temporary:
                    shutil.copyfile(outcome["file"], temporary)
                return
        if pause is None or not outcome.get("again"):
            raise UnavailableError(f"it cannot be fetched from {_origin()} ({outcome['problem']})")
        _wait(pause, clock)


def _attempt(name: str, folder: Path, clock: Clock, limits: Fetching) -> Plain:
    """What ``models.fetching`` says of one attempt, which is ended when it stalls: ``file``, or ``problem``."""
    # -P: a file in the current folder must not pass for a package.
    words = [sys.executable, "-P", "-m", MODULE, name, str(folder)]
    with (folder / "outcome.json").open("wb") as said, (folder / "messages.txt").open("wb") as messages:
        process = subprocess.Popen(words, stdout=said, stderr=messages, stdin=subprocess.DEVNULL)
    begun = moved = time.monotonic()
    seen: Mapping[str, int] = {}
    try:
        while process.poll() is None:
            _wait(0.1, clock)
            now, sizes = time.monotonic(), _sizes(folder)
            if sizes != seen:
                seen, moved = sizes, now
            patience = limits.stall_seconds if len(seen) > 2 else limits.start_seconds
            if now - moved > patience:
                return {"problem": f"no answer for {patience:g} s"}
            if now - begun > limits.most_seconds:
                return {"problem": f"it was not complete after {limits.most_seconds:g} s"}
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    try:
        return dict(json.loads((folder / "outcome.json").read_text(encoding="utf-8")))
    except ValueError:
        told = (folder / "messages.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"problem": told[-1] if told else f"the fetching process ended with status {process.returncode}"}


def _is_unknown(host: str, clock: Clock) -> bool:
    """Whether no address is known for ``host``: known at once, where loading PyTorch for it would take much longer."""
    if getproxies().keys() & {"http", "https", "all"}:
        return False  # then the proxy asks for the address
    failed: list[OSError] = []

    def look() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            failed.append(error)

    # In a thread: it can be slow to answer, and cannot be interrupted.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    deadline = time.monotonic() + LOOK_SECONDS
    while thread.is_alive() and time.monotonic() < deadline:
        clock.check()
        thread.join(0.1)
    return bool(failed)


def _sizes(folder: Path) -> Mapping[str, int]:
    """Bytes by file below ``folder``; a file that is renamed meanwhile is left out."""
    found = {}
    for path in folder.iterdir():
        try:
            found[path.name] = path.stat().st_size
        except FileNotFoundError:
            continue
    return found


def _wait(seconds: float, clock: Clock) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        clock.check()
        time.sleep(min(0.1, left))
