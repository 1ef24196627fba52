"""Watches for notices beside a run: the first one becomes the clock's reason to stop, so that the run saves in time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import TracebackType

from marauder.core.clock import Clock
from marauder.core.plugins import make
from marauder.launch.notices.base import NoticeSource
from marauder.launch.settings import NoticeSettings

log = logging.getLogger("marauder")


class NoticeWatch:
    """Asks the sources of ``settings`` every few seconds, from a thread, while the ``with`` block runs.

    Of several processes the launching one watches; the others hear of it as of any stop. Sources are made here, so that
    options that do not fit raise ``UserError`` before anything starts.
    """

    def __init__(self, settings: NoticeSettings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.sources: Sequence[NoticeSource] = [
            make("notice", name, settings.options.get(name), f"notices.options.{name}") for name in settings.sources
        ]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notice watch", daemon=True)

    def __enter__(self) -> NoticeWatch:
        if self.sources:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()  # a look under way ends by itself; nobody waits for it

    def _watch(self) -> None:
        while not self._over.is_set():
            for source in self.sources:
                reason = source.poll()
                if reason is not None and not self._over.is_set():
                    log.warning("%s: saving and leaving", reason)
                    self.clock.notice = reason
                    return
            self._over.wait(self.settings.seconds)
