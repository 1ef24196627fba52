"""Writing many small files: each is flushed to the disk, and many wait for it together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 8
WAITING = 4 * THREADS
"""Files that may be under way; also bounds the memory that their contents take."""


class ManyFiles:
    """Calls writers in threads, in any order; all are done, or one of their errors is raised, at the block's end.

    >>> with ManyFiles() as files:
    ...     files.add(lambda: None)
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS)
        self._waiting: deque[Future[object]] = deque()

    def add(self, write: Callable[[], object]) -> None:
        """Have ``write`` called; where many are under way, waits first, and raises what an earlier one raised."""
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(write))

    def __enter__(self) -> ManyFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # What was begun is finished even when the block ends early: half of it would be done again.
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            while self._waiting:
                self._waiting.popleft().result()
