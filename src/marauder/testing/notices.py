"""The contract of sources of interruption notices."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.plugins import make
from marauder.launch.notices.base import NoticeSource


class NoticeContract:
    """What every source of interruption notices does. A subclass says its ``name`` and gives the fixtures."""

    name: str

    @pytest.fixture
    def options(self) -> Plain:
        """Options of a source that says nothing yet."""
        raise NotImplementedError

    @pytest.fixture
    def announce(self) -> Callable[[], None]:
        """What makes the source of ``options`` announce an interruption."""
        raise NotImplementedError

    @pytest.fixture
    def unreachable(self) -> Plain:
        """Options of a source that is out of reach."""
        raise NotImplementedError

    def make(self, options: Plain) -> NoticeSource:
        """The source with these options."""
        source = make("notice", self.name, options, f"notices.options.{self.name}")
        assert isinstance(source, NoticeSource)
        return source

    def test_it_is_silent_until_announced_and_then_says_it_again_and_again(
        self, options: Plain, announce: Callable[[], None]
    ) -> None:
        source = self.make(options)
        assert [source.poll(), source.poll()] == [None, None]
        announce()
        first = source.poll()
        assert first
        assert source.poll() == first
        assert self.make(options).poll() == first, "a source made later hears it too"

    def test_a_look_takes_a_second_at_most(self, options: Plain, unreachable: Plain) -> None:
        for given in (options, unreachable):
            source, started = self.make(given), time.monotonic()
            assert source.poll() is None
            # The second that is promised, and some for a busy machine.
            assert time.monotonic() - started < 1.3

    def test_an_option_it_does_not_know_is_named(self, options: Plain) -> None:
        with pytest.raises(UserError, match=rf"notices\.options\.{self.name}\.tomorrow"):
            self.make({**options, "tomorrow": 1})
