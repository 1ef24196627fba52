"""Fetches one file of released weights through Ultralytics' own downloader, in a process of its own.

``python -m marauder.models.fetching NAME FOLDER`` writes one line of JSON: ``file``, which was opened as a detector, or
``problem`` in words, with ``again`` where the server said that it was its own fault. The address to fetch from is read
from the environment (``MARAUDER_WEIGHTS_URL``): a command line can be seen by every user of the machine.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.models.released import ADDRESS
from marauder.models.ultralytics_adapter import download_released, load_foreign_checkpoint

BEGUN = "begun"
"""An empty file that says: all is loaded, fetching begins."""


def fetch(name: str, folder: Path, address: str) -> Plain:
    """Fetch ``name`` into ``folder``, from ``address`` or Ultralytics' release, and open it; what came of it."""
    (folder / BEGUN).touch()
    try:
        path = download_released(name, folder, address)
        # A page of a proxy, or a file that is not a detector, must not be kept under this name.
        load_foreign_checkpoint(path)
    except UserError as error:
        return {"problem": str(error)}
    except (OSError, MemoryError) as error:
        # The downloader tells of every failure as of a missing network; what happened is its cause.
        cause = error.__cause__ or error
        response = getattr(cause, "response", None)
        status = getattr(response, "status_code", None)
        words = " ".join(str(cause).encode("ascii", "ignore").decode().split())
        if status is not None:
            # Its own text ends with the whole address, credentials included.
            words = f"the server answers {status} {getattr(response, 'reason', '') or ''}".rstrip()
        elif isinstance(cause, ConnectionError) and cause is error:
            # The downloader's own, of a file that is not of the size announced; it names the address, too.
            words = "what the server sent is not complete, or too small for weights"
        elif type(cause).__module__.startswith("requests"):
            # Its own text is a chain of objects.
            words = f"no connection to the server, {type(cause).__name__}"
        return {"problem": words, "again": status is not None and status >= 500}
    return {"file": str(path)}


def main(words: list[str]) -> None:
    """``words``: name and folder. Whatever libraries print goes to standard error."""
    name, folder = words
    answer = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        json.dump(fetch(name, Path(folder), os.environ.get(ADDRESS, "")), stream)


if __name__ == "__main__":
    main(sys.argv[1:])
