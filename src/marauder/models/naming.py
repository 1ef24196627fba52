"""Which file a detector is read from: the one that is named, or an error that says so. Asking needs no torch."""

from __future__ import annotations

from pathlib import Path

from marauder.core.errors import UserError

SUFFIXES = (".pt", ".safetensors")
"""Of files that hold a detector. A training leaves both, of the same weights; later they may be of two models."""


def model_file(path: Path) -> Path:
    """``path``, if it is a file. Raises ``UserError`` where it is not, with the one of the other kind beside it."""
    missing = explain_missing(path)
    if missing is not None:
        raise UserError(missing)
    return path


def explain_missing(path: Path) -> str | None:
    """Why no detector can be read from ``path``, and what to do; ``None``: the file is there."""
    if path.is_file():
        return None
    beside = [other for suffix in SUFFIXES if (other := path.with_suffix(suffix)).is_file()]
    remedy = f"there is {beside[0]}: name it, if it is meant" if beside else "check the path"
    return f"{path}: no such file; {remedy}"
