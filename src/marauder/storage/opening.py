"""From an address to a store: ``s3://bucket/prefix``, ``file:///folder``, or a plain path."""

from __future__ import annotations

from marauder.core.errors import UserError
from marauder.core.plugins import is_known, make, names
from marauder.storage.base import Store


def open_store(address: str) -> Store:
    """The store at ``address``. Nothing is read or written yet. Raises ``UserError`` for an unknown scheme."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        scheme = "file"
    if not address.strip() or not is_known("store", scheme):
        raise UserError(
            f"{address!r} names no store; write a folder's path, file:///folder or s3://bucket/prefix "
            f"(known: {', '.join(names('store'))})"
        )
    store: Store = make("store", scheme, {"address": address})
    return store
