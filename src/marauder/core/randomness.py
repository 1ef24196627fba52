"""Random streams by key: what a sample draws is a function of (seed, purpose, epoch, index), never of who draws it.

Source: counter-based generators, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *key: int | str) -> np.random.Generator:
    """Return the random generator of ``(seed, *key)``: the same key gives the same draws in every process.

    ``stream(7, "augment", epoch, index)`` and ``stream(7, "mosaic", epoch, index)`` are independent.
    """
    return np.random.Generator(np.random.Philox(key=_philox_key(seed, key)))


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of an epoch: a permutation of ``range(length)``, int64, a function of ``(seed, epoch, length)``."""
    return stream(seed, "order", epoch).permutation(length)


def _philox_key(seed: int, key: tuple[int | str, ...]) -> int:
    # The letter of its type keeps 1 and "1" apart, the separator ("a", "bc") and ("ab", "c").
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__[0]}{part}" for part in _plain(key))])
    # Philox takes 128 bits. Not hash(): that of a text is another one in every process.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest(), "little")


def _plain(key: tuple[int | str, ...]) -> list[int | str]:
    # NumPy's integers and truth values have type names of their own, but must give the key of the plain number.
    return [part if isinstance(part, str) else int(part) for part in key]
