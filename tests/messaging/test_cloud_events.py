"""Envelopes are CloudEvents 1.0 by the reference library's reading, and an outbox is a file of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from marauder.messaging.cloud_events import CONTENT_TYPE, encode, make_event
from marauder.messaging.outbox import Outbox
from marauder.messaging.settings import EventSettings


def test_the_reference_library_reads_an_event() -> None:
    event = make_event(7, "run.gate", "lab/reef", "run é/1", {"gate": "drift", "value": math.nan}, 1_795_316_954.3449)
    message = HTTPMessage(headers={"content-type": CONTENT_TYPE}, body=encode(event))
    read = from_structured_event(message, JSONFormat())
    assert read.get_specversion() == "1.0" and read.get_type() == "io.marauder.run.gate"
    assert read.get_source() == "lab/reef" and read.get_subject() == "run é/1"
    time = read.get_time()
    assert time is not None and abs(time.timestamp() - 1_795_316_954.3449) < 0.001
    assert read.get_extension("sequence") == "000000000007"
    assert read.get_data() == {"gate": "drift", "value": None}
    assert read.get_id() == event["id"] and event["id"].isascii() and "/" not in event["id"]


def test_ids_differ_by_place_type_subject_and_time_but_not_by_data() -> None:
    base = (1, "run.started", "s", "run-1", {}, 5.0)
    others = [(2, *base[1:]), (1, "run.failed", *base[2:]), (*base[:3], "run-2", {}, 5.0), (*base[:5], 6.0)]
    ids = [make_event(*arguments)["id"] for arguments in [base, *others]]
    assert len(set(ids)) == 5
    assert make_event(1, "run.started", "s", "run-1", {"other": 1}, 5.0)["id"] == ids[0]
    assert make_event(1, "io.marauder.run.started", "s", "run-1", {}, 5.0)["id"] == ids[0]


def test_an_outbox_is_a_file_of_events_that_several_may_write(tmp_path: Path) -> None:
    path = tmp_path / "run-1" / "outbox.jsonl"
    first, second = (Outbox(path, EventSettings(), "run-1") for _ in range(2))
    ids = [outbox.emit("run.checkpoint", {"step": step}) for step, outbox in enumerate([first, second, first])]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["id"] for event in events] == ids and len(set(ids)) == 3
    assert [event["sequence"] for event in events] == ["000000000001", "000000000002", "000000000003"]
    assert first.finish() == []
