"""What came back without a usable answer goes out again with a new batch, and the old one waits for it no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from provider import HIDDEN, OVERLAP, World, deliver, make_world, same_labels

from marauder.annotation.batch import list_batches, read_batch, write_batch
from marauder.annotation.delivery import find_delivery
from marauder.annotation.export import export_batch
from marauder.annotation.importing import ImportSummary, import_delivery
from marauder.annotation.price import batch_price
from marauder.annotation.status import batch_status
from marauder.core.clock import Clock
from marauder.data.reading import read_dataset

FIRST = "batch-1"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, ("coco",))


def take(world: World, path: Path) -> ImportSummary:
    return import_delivery(world.settings.model_copy(update={"accept": True}), path, Clock())


def send_back(world: World, summary: ImportSummary) -> World:
    listed = summary.report / "return_pictures.txt"
    again = world.settings.model_copy(update={"pictures": listed, "new": True, "overlap_share": 0.0})
    sent = export_batch(again, Clock())
    assert not sent.existed, sent.notes
    return replace(world, batch=read_batch(sent.folder))


def test_returned_pictures_go_out_again_and_the_first_batch_is_done(world: World) -> None:
    summary = take(world, deliver(world, "d.zip", keys=lambda key: key[-2:] not in ("05", "07", "08")))
    assert summary.merged and not summary.complete
    second = send_back(world, summary)
    assert {item.key for item in second.batch.items} == {"dive/05", "dive/07", "dive/08"}
    first = read_batch(world.settings.outbox / FIRST)
    assert first.state == "imported" and set(first.back) == {"dive_05.jpg", "dive_07.jpg", "dive_08.jpg"}
    status = batch_status(world.settings.model_copy(update={"batch": FIRST}))
    assert not status.waiting and (status.answered, status.pictures) == (HIDDEN + OVERLAP - 3,) * 2
    assert "3 more went out again" in status.words

    found = deliver(second, "rest.zip", parts=("first",))
    assert find_delivery(second.settings) == found
    last = take(second, found)
    assert last.complete and last.batch == second.batch.id
    for record in read_dataset(world.settings.output / "data.yaml"):
        assert record.labelled and same_labels(record, world.truth[record.key])
    assert not batch_status(world.settings).waiting


def test_what_is_sent_again_is_not_sent_a_third_time_while_it_is_out(world: World) -> None:
    summary = take(world, deliver(world, "d.zip", keys=lambda key: key[-2:] != "05"))
    send_back(world, summary)
    listed = summary.report / "return_pictures.txt"
    again = export_batch(world.settings.model_copy(update={"pictures": listed, "new": True}), Clock())
    assert again.existed and "use --new" not in again.notes[0] and "out already" in again.notes[0]
    assert len(list_batches(world.settings.outbox)) == 2


def test_a_batch_with_other_pictures_outstanding_waits_for_these_alone(world: World) -> None:
    summary = take(world, deliver(world, "d.zip", parts=("first",), keys=lambda key: key[-2:] not in ("05", "07")))
    second = send_back(world, summary)
    assert read_batch(world.settings.outbox / FIRST).state == "partly"
    status = batch_status(world.settings.model_copy(update={"batch": FIRST}))
    assert status.waiting and status.pictures - status.answered == OVERLAP
    take(second, deliver(second, "rest.zip", parts=("first",)))
    assert take(world, deliver(world, "overlap.zip", parts=("second",))).complete
    assert {batch.state for batch in list_batches(world.settings.outbox)} == {"imported"}


def test_an_export_that_was_cut_before_it_closed_the_first_batch_does_so_when_called_again(world: World) -> None:
    summary = take(world, deliver(world, "d.zip", keys=lambda key: key[-2:] != "05"))
    before = read_batch(world.settings.outbox / FIRST)
    second = send_back(world, summary)
    write_batch(world.settings.outbox, before)  # as a kill between the two records leaves it
    assert read_batch(world.settings.outbox / FIRST).state == "partly"
    assert export_batch(world.settings, Clock()).batch == second.batch.id
    assert read_batch(world.settings.outbox / FIRST).state == "imported"


def test_what_nobody_answered_of_a_delivery_that_is_none_of_ours_stays_out(world: World) -> None:
    stray = world.settings.inbox / "odd.zip"
    stray.write_bytes(b"no zip")
    assert not take(world, stray).merged
    assert read_batch(world.settings.outbox / FIRST).back == ()
    price = batch_price(world.batch.items, world.settings.price).as_dict()
    write_batch(world.settings.outbox, replace(world.batch, price=price))
    again = export_batch(world.settings.model_copy(update={"new": True}), Clock())
    assert again.existed and again.batch == FIRST


def test_an_answer_of_the_new_batch_goes_before_a_late_one_of_the_old(world: World) -> None:
    summary = take(world, deliver(world, "d.zip", keys=lambda key: key[-2:] != "05"))
    second = send_back(world, summary)
    take(second, deliver(second, "rest.zip", parts=("first",)))
    right = world.truth["dive/05"]
    wrong = world.truth | {"dive/05": right.with_boxes(np.zeros(len(right.boxes), bool))}
    late = deliver(world, "late.zip", parts=("first",), keys=lambda key: key[-2:] == "05", truth=wrong)
    take(replace(world, settings=world.settings.model_copy(update={"batch": FIRST})), late)
    merged = {record.key: record for record in read_dataset(world.settings.output / "data.yaml")}
    assert same_labels(merged["dive/05"], world.truth["dive/05"])
