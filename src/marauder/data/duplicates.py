"""Pictures that are the same or nearly so: a perceptual hash, and clusters of hashes that lie close together.

The hash is the 64-bit difference hash (dHash; N. Krawetz, "Kind of like that", 2013): the picture as displayed is
squeezed to 9x8 grey levels, each bit says whether a pixel is brighter than its right neighbour. Pictures whose hashes
differ in few bits are candidates: the hash knows directions only, and pictures of different things whose light falls
off alike towards the borders share it. Near are those candidates whose grey copies of 18x16 pixels also correlate
(Pearson), which a change of brightness or contrast does not disturb.

Limits. Clusters are built around a leader: every member lies within the distance of the leader, so that a slow camera
pan does not chain into one giant cluster; two pictures near each other may therefore stand in neighbouring clusters.
Pictures with hardly any structure (open water) have hashes of noise and are never called near-duplicates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import append_to_cache, read_lines
from marauder.core.progress import Progress
from marauder.data.picture_files import DECODING_VERSION, PictureError, load_small_grey, missing_picture

DEFAULT_DISTANCE = 4
"""Bits of 64 by which two hashes may differ and still be near."""

COPY_WIDTH, COPY_HEIGHT = 18, 16
"""Size in pixels of the small grey copy: two by two of them make a pixel of the hash."""

LEAST_CORRELATION = 0.95
"""Correlation of the small grey copies from which two pictures are near. Frames of one still camera and copies lie
above 0.97, generated pictures of different scenes with like hashes below 0.93."""

FLAT_CONTRAST = 3.0
"""Standard deviation of the 9x8 grey levels (0..255) below which a picture is flat and its hash says nothing."""

BLOCK = 32
THREADS = 2
"""Pictures between two looks at the clock: few enough to stop within seconds where each takes long to decode."""


@dataclass(frozen=True, slots=True)
class PictureHash:
    """The difference hash of a picture (0..2^64-1) and the small grey copy it was made from.

    ``flat``: too little structure for the hash to mean anything. ``grey``: ``COPY_HEIGHT`` rows of ``COPY_WIDTH``
    grey levels, a byte each.
    """

    value: int
    flat: bool
    grey: bytes


def hash_picture(path: Path) -> PictureHash:
    """Decode the whole picture (a JPEG at reduced scale) and hash it. Raises ``PictureError``, also when truncated."""
    return hash_grey(load_small_grey(path, COPY_WIDTH, COPY_HEIGHT))


def hash_grey(grey: np.ndarray) -> PictureHash:
    """The hash of a small grey copy: uint8 (``COPY_HEIGHT``, ``COPY_WIDTH``)."""
    cells = grey.reshape(COPY_HEIGHT // 2, 2, COPY_WIDTH // 2, 2).mean(axis=(1, 3))
    bits = np.packbits((cells[:, :-1] > cells[:, 1:]).reshape(-1))
    return PictureHash(int.from_bytes(bits.tobytes(), "big"), float(cells.std()) < FLAT_CONTRAST, grey.tobytes())


def hash_pictures(
    paths: Sequence[Path],
    clock: Clock | None = None,
    store: Path | None = None,
    label: str = "hashing pictures",
) -> list[PictureHash | PictureError]:
    """Hashes of many pictures, in order. With ``store`` (a JSON-lines file) finished blocks are kept and not redone.

    A kept hash counts while the picture's size and time of change are the same and pictures are decoded as they were.
    The clock is asked between blocks; raises ``Interrupted``.
    """
    rows = read_lines(store) if store else []
    # Rows from an older decoder, or in an older layout, do not count.
    known = {
        (row[0], row[1], row[2]): PictureHash(row[3], row[4], bytes.fromhex(row[5]))
        for row in rows
        if row[6:] == [DECODING_VERSION]
    }
    results: list[PictureHash | PictureError] = []

    def hash_one(path: Path) -> PictureHash | PictureError:
        try:
            return known.get(_stamp(path)) or hash_picture(path)
        except PictureError as error:
            return error

    # Threads suffice: the decoders release the interpreter's lock.
    with ThreadPoolExecutor(THREADS) as pool, Progress(label, len(paths)) as progress:
        for start in range(0, len(paths), BLOCK):
            if clock is not None:
                clock.check()
            block = paths[start : start + BLOCK]
            found = list(pool.map(hash_one, block))
            for path, result in zip(block, found):
                if store is not None and isinstance(result, PictureHash) and _stamp(path) not in known:
                    row = [*_stamp(path), result.value, result.flat, result.grey.hex(), DECODING_VERSION]
                    append_to_cache(store, row)
            results.extend(found)
            progress.advance(len(block))
    return results


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except FileNotFoundError:
        raise missing_picture(path) from None
    except OSError as error:
        raise PictureError(path, "missing", f"the picture cannot be opened ({error.strerror})") from None
    return str(path), state.st_size, state.st_mtime_ns


def near_clusters(
    hashes: Sequence[PictureHash], distance: int = DEFAULT_DISTANCE, clock: Clock | None = None
) -> list[list[int]]:
    """Positions of near-duplicates: clusters of two or more, each near its first member.

    Near: within ``distance`` bits, and the grey copies correlate by at least ``LEAST_CORRELATION``. Deterministic: in
    input order each free picture leads and takes all free pictures near it. The work grows with the number of pictures
    that share a hash without being alike. The clock is asked between leaders.
    """
    clock = clock or Clock()
    if not 0 <= distance <= 16:
        raise ValueError(f"distance is 0 to 16 bits, not {distance}")
    usable = [index for index, item in enumerate(hashes) if not item.flat]
    if len(usable) < 2:
        return []
    # Each value once: the frames of a still camera share one, and would otherwise all pair up.
    values = np.array([hashes[index].value for index in usable], np.uint64)
    unique, inverse = np.unique(values, return_inverse=True)
    neighbours: list[list[int]] = [[position] for position in range(len(unique))]
    for one, other in zip(*(side.tolist() for side in close_pairs(unique, distance, clock))):
        neighbours[one].append(other)
        neighbours[other].append(one)
    free: list[list[int]] = [[] for _ in unique]  # of each hash value, the pictures in no cluster yet
    for index, position in enumerate(inverse.tolist()):
        free[position].append(index)
    copies = _normalized_copies([hashes[index].grey for index in usable])
    taken = np.zeros(len(usable), bool)
    clusters = []
    for leader, position in enumerate(inverse.tolist()):
        if taken[leader]:
            continue
        clock.check()
        candidates = np.array([index for near in neighbours[position] for index in free[near]], np.int64)
        alike = copies[candidates] @ copies[leader] >= LEAST_CORRELATION
        members = sorted({leader, *candidates[alike].tolist()})
        taken[members] = True
        for near in neighbours[position]:
            # Taken pictures go, or every later leader with a similar hash would be compared with them again.
            free[near] = [index for index in free[near] if not taken[index]]
        if len(members) > 1:
            clusters.append([usable[index] for index in members])
    return clusters


def near_to(
    hashes: Sequence[PictureHash],
    others: Sequence[PictureHash],
    distance: int = DEFAULT_DISTANCE,
    clock: Clock | None = None,
) -> list[int | None]:
    """For each of ``hashes`` the position of the first of ``others`` that is near it; ``None``: none is.

    Near: as for ``near_clusters``, but each pair is looked at, so that nothing near is missed. Flat pictures are near
    to nothing. The clock is asked between pictures.
    """
    clock = clock or Clock()
    usable = [index for index, item in enumerate(others) if not item.flat]
    found: list[int | None] = [None] * len(hashes)
    if not usable:
        return found
    mine = np.array([item.value for item in hashes], np.uint64)
    unique = np.unique(np.concatenate([mine, np.array([others[index].value for index in usable], np.uint64)]))
    place = {int(value): number for number, value in enumerate(unique.tolist())}
    neighbours: list[list[int]] = [[number] for number in range(len(unique))]
    for one, other in zip(*(side.tolist() for side in close_pairs(unique, distance, clock))):
        neighbours[one].append(other)
        neighbours[other].append(one)
    holders: list[list[int]] = [[] for _ in unique]
    for number, index in enumerate(usable):
        holders[place[others[index].value]].append(number)
    copies = _normalized_copies([others[index].grey for index in usable])
    for position, item in enumerate(hashes):
        clock.check()
        candidates = sorted(number for near in neighbours[place[item.value]] for number in holders[near])
        if item.flat or not candidates:
            continue
        alike = copies[candidates] @ _normalized_copies([item.grey])[0] >= LEAST_CORRELATION
        if alike.any():
            found[position] = usable[candidates[int(alike.argmax())]]
    return found


def _normalized_copies(greys: Sequence[bytes]) -> np.ndarray:
    """Grey copies shifted to mean 0 and scaled to length 1, so that products are correlations: float32 (n, pixels)."""
    copies = np.frombuffer(b"".join(greys), np.uint8).reshape(len(greys), -1).astype(np.float32)
    copies -= copies.mean(axis=1, keepdims=True)
    return copies / np.maximum(np.linalg.norm(copies, axis=1, keepdims=True), np.float32(1e-6))


def close_pairs(values: np.ndarray, distance: int, clock: Clock | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of different positions in ``values`` (uint64, unique) that differ in at most ``distance`` bits.

    Two int64 arrays, the lower position first, sorted. Pigeonhole search: of ``distance + 1`` bands of bits, near
    values share at least one wholly; within a band, sorted values are compared with those that follow until the band
    differs. The work grows with the number of pairs that share a band, not with the square of the count.
    """
    found: list[np.ndarray] = []
    count = len(values)
    edges = np.linspace(0, 64, distance + 2).round().astype(int)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist()):
        mask = np.uint64((1 << (high - low)) - 1)
        band = (values >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        sorted_band, sorted_values = band[order], values[order]
        at = np.arange(count - 1)
        step = 1
        while len(at):
            if clock is not None:
                clock.check()
            at = at[at + step < count]
            at = at[sorted_band[at] == sorted_band[at + step]]
            near = at[np.bitwise_count(sorted_values[at] ^ sorted_values[at + step]) <= distance]
            if len(near):
                found.append(np.sort(np.stack([order[near], order[near + step]], axis=1), axis=1))
            step += 1
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def exact_clusters(paths: Sequence[Path], clock: Clock | None = None) -> list[list[int]]:
    """Positions of pictures with the same bytes, two or more a cluster; only files of equal size are read. The clock is
    asked between files."""
    clock = clock or Clock()
    by_size: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        clock.check()
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(index)
    by_content: dict[bytes, list[int]] = {}
    for candidates in by_size.values():
        if len(candidates) > 1:
            for index in candidates:
                clock.check()
                with paths[index].open("rb") as stream:
                    by_content.setdefault(hashlib.file_digest(stream, "sha256").digest(), []).append(index)
    return sorted(members for members in by_content.values() if len(members) > 1)
