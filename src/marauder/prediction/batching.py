"""Pictures in batches of equal shape, in an order that depends on the pictures alone; decoding one batch ahead."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

DECODING_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunks_of_one_shape(
    indices: Sequence[int], shape_of: Callable[[int], tuple[int, int]], size: int
) -> list[list[int]]:
    """``indices`` by shape, then by number, cut into chunks of at most ``size`` that share a shape."""
    chunks: list[list[int]] = []
    for index in sorted(indices, key=lambda index: (shape_of(index), index)):
        if chunks and len(chunks[-1]) < size and shape_of(chunks[-1][0]) == shape_of(index):
            chunks[-1].append(index)
        else:
            chunks.append([index])
    return chunks


def one_chunk_ahead(
    chunks: Sequence[Sequence[Item]], work: Callable[[Item], Result], threads: int | None = None
) -> Iterator[list[Result]]:
    """``work`` of every item, chunk by chunk and in order, in threads that are at most one chunk ahead of the reader.

    ``threads``: ``None`` for as many as there are processors, up to ``DECODING_THREADS``; 0: work as it is read.
    """
    count = min(DECODING_THREADS, os.cpu_count() or 1) if threads is None else threads
    if count == 0:
        for chunk in chunks:
            yield [work(item) for item in chunk]
        return
    pool = ThreadPoolExecutor(count)
    try:
        waiting = [pool.submit(work, item) for item in chunks[0]] if chunks else []
        for number in range(len(chunks)):
            ahead = chunks[number + 1] if number + 1 < len(chunks) else ()
            current, waiting = waiting, [pool.submit(work, item) for item in ahead]
            yield [future.result() for future in current]
    finally:
        pool.shutdown(cancel_futures=True)
