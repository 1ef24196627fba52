"""Changing a small object that others may change at the same time: read, change, compare and swap, again if needed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from marauder.storage.base import ConflictError, Store

TRIES = 30


def update(store: Store, key: str, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the object by ``change`` of its content (``None``: it is not there); returns the new content.

    ``change`` is called again with the newer content when someone else was faster, so it must not keep state. What
    comes out unchanged is not written. Raises ``ConflictError`` after ``TRIES`` lost races.
    """
    for attempt in range(TRIES):
        content, version = read_or_none(store, key)
        changed = change(content)
        if changed == content:
            return changed
        try:
            store.replace(key, changed, version)
            return changed
        except ConflictError:
            # Of random length: writers that lost together would otherwise meet again. No result depends on it.
            time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
    raise ConflictError(f"{key}: others keep changing it; try again later")


def read_or_none(store: Store, key: str) -> tuple[bytes | None, str | None]:
    """Content and version of a small object, or ``None`` for both when it is not there."""
    try:
        return store.read(key)
    except FileNotFoundError:
        return None, None
