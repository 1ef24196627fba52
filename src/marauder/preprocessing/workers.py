"""Worker processes that end with their parent, give results back in order, and survive a file that kills one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from marauder.core.plain import Plain
from marauder.preprocessing.inventory import PICTURE, Item
from marauder.preprocessing.work import SET_ASIDE, Done, Job, prepare_process, process

CHUNK = 8
"""Files sent to a worker at once."""

CHUNKS_AHEAD = 3
"""Chunks a worker may have waiting or in hand; also bounds what is finished after a request to stop."""


class WorkerPool:
    """Runs ``process`` over chunks of files in ``count`` processes; one process means this one."""

    def __init__(self, job: Job, count: int) -> None:
        self.job, self.count = job, count
        self._pool: ProcessPoolExecutor | None = None

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> Iterator[Done]:
        """Yield finished files in the order of ``items``; after ``stopping()`` only what is already under way."""
        chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
        if self.count == 1:
            prepare_process()
            for chunk in chunks:
                if stopping():
                    return
                yield from process(self.job, chunk)
            return
        try:
            yield from self._run_parallel(chunks, stopping)
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)

    def _run_parallel(self, chunks: list[Sequence[Item]], stopping: Callable[[], bool]) -> Iterator[Done]:
        todo = deque(chunks)
        under_way: deque[tuple[Sequence[Item], Future[list[Done]]]] = deque()
        while todo or under_way:
            try:
                # A pool that is broken says so when asked for more: the chunk must still be in todo then.
                while todo and len(under_way) < self.count * CHUNKS_AHEAD and not stopping():
                    under_way.append((todo[0], self._submit(todo[0])))
                    todo.popleft()
                if not under_way:
                    return
                finished = under_way[0][1].result()
                under_way.popleft()
            except BrokenProcessPool:
                # It does not say which file it was.
                suspects = [item for chunk, _ in under_way for item in chunk]
                under_way.clear()
                self._pool = None
                yield from self._one_by_one(suspects or list(todo.popleft()), stopping)
                continue
            yield from finished

    def _submit(self, chunk: Sequence[Item]) -> Future[list[Done]]:
        if self._pool is None:
            self._pool = _new_pool(self.count)
        return self._pool.submit(process, self.job, chunk)

    def _one_by_one(self, items: Sequence[Item], stopping: Callable[[], bool]) -> Iterator[Done]:
        """Find the file that kills its process by running each on its own; that one is set aside."""
        pool = _new_pool(1)
        try:
            for item in items:
                if stopping():
                    return
                try:
                    yield from pool.submit(process, self.job, [item]).result()
                except BrokenProcessPool:
                    pool = _new_pool(1)
                    yield Done(item, _killer(item), None)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _killer(item: Item) -> Plain:
    what = "decoding or enhancing" if item.kind == PICTURE else "copying"
    reason = f"{what} it ended the worker process (out of memory, or a fault in a decoder)"
    return {"path": item.path, "status": SET_ASIDE, "reason": reason}


def _new_pool(count: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Leave signals to the parent, end when it ends, and settle the process for the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # sys.exit would end this thread alone.
        os._exit(1)
