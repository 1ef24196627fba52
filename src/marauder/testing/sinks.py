"""The contract of sinks."""

from __future__ import annotations

from typing import Any

import pytest

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.messaging.base import DeliveryError, Sink
from marauder.messaging.cloud_events import make_event
from marauder.messaging.settings import EventSettings


def event_of(number: int = 1, **data: Any) -> Plain:
    """An event; ``number`` is its place in the outbox."""
    return make_event(number, "run.finished", "marauder", "run-1", data, 1_795_316_954.0 + number)


class SinkContract:
    """Run by every sink: a subclass makes it, reads what arrived, and makes the receiver unreachable or choosy."""

    sink: Sink
    unreachable: PlainMapping
    name: str

    def make(self, options: PlainMapping) -> Sink:
        """The sink with these options."""
        sink = EventSettings(sinks=(self.name,), options={self.name: dict(options)}).make_sink(self.name)
        assert isinstance(sink, Sink)
        return sink

    def arrived(self) -> list[Plain]:
        """The events that arrived, in their order."""
        raise NotImplementedError

    def refuse(self) -> Plain:
        """Make the receiver refuse for good; returns the event that it will refuse."""
        raise NotImplementedError

    def test_events_arrive_whole_in_order_and_twice_with_the_same_id(self) -> None:
        events = [event_of(1, metrics={"map50": 0.5}), event_of(2, word="Größe 🐟")]
        for event in [*events, events[1]]:
            self.sink.deliver(event)
        assert self.arrived() == [*events, events[1]]

    def test_nobody_there_is_worth_another_attempt(self) -> None:
        with pytest.raises(DeliveryError) as caught:
            self.make(self.unreachable).deliver(event_of())
        assert not caught.value.final

    def test_a_refusal_for_good_is_told_apart(self) -> None:
        event = self.refuse()
        with pytest.raises(DeliveryError) as caught:
            self.sink.deliver(event)
        assert caught.value.final and self.arrived() == []

    def test_an_option_that_is_none_is_told(self) -> None:
        with pytest.raises(UserError, match=rf"events\.options\.{self.name}\.colour"):
            self.make({**self.sink.settings.model_dump(), "colour": "red"})
