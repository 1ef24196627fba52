"""Where the time of a training goes: seconds by phase, and the phase it is in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
BETWEEN = "between phases"


@dataclass(frozen=True, slots=True)
class Moment:
    """A phase that began; every change of phase makes a new one, so that another thread sees whether things go on."""

    phase: str


class Stopwatch:
    """Adds up seconds by phase (``data``, ``update``, ``evaluation``, ``checkpoint``, ``sanity``)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.now = Moment(BETWEEN)

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Count the block's time towards ``phase``."""
        outer, self.now = self.now, Moment(phase)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started
            # A new moment, not `outer`: coming back to a phase is progress too, and moments are told apart by identity.
            self.now = Moment(outer.phase)

    def timed(self, phase: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on, counting the time spent waiting for each towards ``phase``."""
        iterator = iter(items)
        while True:
            with self.measure(phase):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
