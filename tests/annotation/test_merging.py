"""Merging: versions, sides of the split, negatives; killed at every rename and called again."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from provider import HEIGHT, NAMES, WIDTH, World, deliver, make_world, same_labels

from marauder.annotation.checking import Taken
from marauder.annotation.importing import import_delivery
from marauder.annotation.merging import latest_version, merged_dataset, publish
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.data.manifests.pinning import DataPin, pin, verify
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.splits import leaking_groups


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def answers(world: World, count: int = 10) -> dict[str, Taken]:
    chosen = [world.truth[item.key] for item in world.batch.items[:count]]
    return {one.key: Taken(one.boxes, one.classes, one.ignored, {}) for one in chosen}


def test_groups_stay_on_their_side_and_empty_pictures_are_negatives(world: World) -> None:
    base = read_dataset(world.settings.data)
    sides = {record.group: record.split for record in base if record.split}
    assert {"val", "test"} <= set(sides.values())
    merged = merged_dataset(base, [(world.batch, answers(world))])
    assert not leaking_groups(merged)
    for record in merged:
        assert record.labelled and record.split == sides.get(record.group, "train")
    assert sum(record.split == "train" for record in merged) > 4
    empty = [record for record in merged if not len(record.boxes)]
    assert {record.key for record in empty} >= {"dive/04", "dive/09"}


def test_what_was_not_answered_stays_unlabelled(world: World) -> None:
    merged = merged_dataset(read_dataset(world.settings.data), [(world.batch, answers(world, 4))])
    assert sum(not record.labelled for record in merged) == 6


def test_a_base_that_leaks_is_refused(world: World) -> None:
    base = read_dataset(world.settings.data)
    spoilt = base.with_records(replace(record, group="one clip") for record in base)
    with pytest.raises(UserError, match="in two splits, one clip"):
        merged_dataset(spoilt, [(world.batch, answers(world))])


def test_classes_are_found_by_name(world: World) -> None:
    base = read_dataset(world.settings.data)
    turned = Dataset(("whale", *NAMES[::-1]), tuple(replace(r, classes=3 - r.classes) for r in base), base.source)
    merged = {record.key: record for record in merged_dataset(turned, [(world.batch, answers(world))])}
    for item in world.batch.items:
        np.testing.assert_array_equal(merged[item.key].classes, 3 - world.truth[item.key].classes)
    lacking = Dataset(NAMES[:2], (), "lacking")
    with pytest.raises(UserError, match="no class stingray"):
        merged_dataset(lacking, [(world.batch, answers(world))])


def test_a_picture_that_changed_since_is_refused(world: World) -> None:
    base = read_dataset(world.settings.data)
    grown = base.with_records(replace(record, width=200) for record in base)
    with pytest.raises(UserError, match="200x72 now, 96x72"):
        merged_dataset(grown, [(world.batch, answers(world))])


def test_attributes_and_crowds_are_kept(world: World, tmp_path: Path) -> None:
    record = world.truth["dive/00"]
    count = len(record.boxes)
    assert count > 1
    taken = Taken(
        record.boxes,
        record.classes,
        np.arange(count) == 0,
        {"occluded": np.arange(count) % 2 == 0, "note": np.array(["", *["x"] * (count - 1)])},
    )
    merged = merged_dataset(read_dataset(world.settings.data), [(world.batch, {"dive/00": taken})])
    publish(tmp_path / "out", merged, {})
    read = {one.key: one for one in read_dataset(tmp_path / "out" / "data.yaml")}["dive/00"]
    assert read.ignored.sum() == 1 and set(read.box_attributes) == {"occluded", "note"}


def test_versions_are_pinned_logged_and_all_usable(world: World, tmp_path: Path) -> None:
    out, base = tmp_path / "out", read_dataset(world.settings.data)
    first = publish(out, merged_dataset(base, [(world.batch, answers(world, 3))]), {"batch": "b", "pictures": 3})
    again = publish(out, merged_dataset(base, [(world.batch, answers(world, 3))]), {"batch": "b", "pictures": 3})
    assert (first.new, again.new, again.number, again.fingerprint) == (True, False, 1, first.fingerprint)
    second = publish(out, merged_dataset(base, [(world.batch, answers(world, 10))]), {"batch": "b", "pictures": 7})
    assert second.number == 2 and second.new
    for version, labelled in ((first, 9), (second, 16)):
        data = read_dataset(version.folder / "data.yaml")
        assert sum(record.labelled for record in data) == labelled
        assert verify(DataPin.read(version.folder), version.folder / "data.yaml") == []
    assert verify(DataPin.read(out), out / "data.yaml") == []
    log = json.loads((second.folder / "change_log.json").read_text())
    total = sum(log["boxes_by_class"].values())
    assert total == sum(len(record.boxes) for record in world.truth.values())
    assert log["previous_fingerprint"] == first.fingerprint
    added = sum(len(world.truth[item.key].boxes) for item in world.batch.items[3:])
    assert sum(log["boxes_added_by_class"].values()) == added
    history = (out / "versions" / "CHANGES.md").read_text()
    assert history.index("## 0002") < history.index("## 0001")


def test_copies_do_not_need_the_originals(world: World, tmp_path: Path) -> None:
    merged = merged_dataset(read_dataset(world.settings.data), [(world.batch, answers(world))])
    publish(tmp_path / "out", merged, {}, copy_pictures=True)
    for path in (world.root / "pictures").iterdir():
        path.unlink()
    assert all(record.picture.is_file() for record in read_dataset(tmp_path / "out" / "data.yaml"))


def test_a_folder_with_a_data_set_of_somebody_else_is_refused(world: World, tmp_path: Path) -> None:
    base = read_dataset(world.settings.data)
    with pytest.raises(UserError, match="name another output folder"):
        publish(world.settings.data.parent, base, {})
    assert read_dataset(world.settings.data).names == NAMES


def test_the_merged_set_is_the_base_of_the_next_round(world: World) -> None:
    import_delivery(world.settings, deliver(world, "d.zip"), Clock())
    following = read_dataset(world.settings.output / "data.yaml")
    again = publish(world.settings.output, following, {})
    assert not again.new
    for record in following:
        assert (record.width, record.height) == (WIDTH, HEIGHT)
        assert record.picture.resolve().parent == world.root / "pictures"


def test_a_clock_that_says_stop_leaves_the_old_version(world: World, tmp_path: Path) -> None:
    base = read_dataset(world.settings.data)
    publish(tmp_path / "out", merged_dataset(base, [(world.batch, answers(world, 3))]), {})
    before = pin(tmp_path / "out" / "data.yaml").fingerprint
    stopped = Clock(max_seconds=1e-9)
    with pytest.raises(Interrupted):
        publish(tmp_path / "out", merged_dataset(base, [(world.batch, answers(world))]), {}, clock=stopped)
    assert pin(tmp_path / "out" / "data.yaml").fingerprint == before
    assert publish(tmp_path / "out", merged_dataset(base, [(world.batch, answers(world))]), {}).number == 2


def killed_at(step: int, world: World, delivery: Path) -> bool:
    """Import in a child process that is killed (SIGKILL) at its ``step``-th rename or removal; whether it was."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in ("os.rename", "os.remove", "os.rmdir", "os.symlink", "os.mkdir"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        status = 1
        try:
            import_delivery(world.settings, delivery, Clock())
            status = 0
        except Exception:  # noqa: BLE001 - shown here; the parent sees the status
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def whole(world: World) -> int | None:
    """Checks that the merged set is one whole version, if there is any, and says which."""
    data = world.settings.output / "data.yaml"
    if not data.exists():
        return None
    latest = latest_version(world.settings.output)
    assert latest is not None
    pinned = DataPin.read(world.settings.output)
    assert verify(pinned, data) == []
    for record in read_dataset(data):
        if record.labelled:
            assert same_labels(record, world.truth[record.key])
    return int(pinned.version or 0)


@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere_and_called_again(tmp_path: Path, seed: int) -> None:
    """A second delivery is killed again and again, each time a few steps further, until it comes through."""
    world = make_world(tmp_path)
    import_delivery(
        world.settings.model_copy(update={"accept": True}),
        deliver(world, "part.zip", parts=("first",), keys=lambda key: key < "dive/04"),
        Clock(),
    )
    assert whole(world) == 1
    delivery = deliver(world, "rest.zip", keys=lambda key: key >= "dive/02")
    step, kills, seen = 1 + 6 * seed, 0, set()
    accepting = replace(world, settings=world.settings.model_copy(update={"accept": True}))
    while killed_at(step, accepting, delivery):
        kills += 1
        seen.add(whole(world))
        step += 12 if step < 100 else 5
    assert kills > 5 and seen <= {1, 2}
    assert whole(world) == 2
    summary = import_delivery(accepting.settings, delivery, Clock())
    assert summary.merged and summary.version == 2
    merged = read_dataset(world.settings.output / "data.yaml")
    assert all(record.labelled for record in merged)
    assert not list((world.settings.output / "versions").glob(".*"))
    assert [path.name for path in sorted((world.settings.output / "versions").glob("[0-9]*"))] == ["0001", "0002"]


def test_records_of_pictures_that_the_base_does_not_have(world: World) -> None:
    base = read_dataset(world.settings.data)
    known = base.with_records(record for record in base if record.key != "dive/03")
    merged = {record.key: record for record in merged_dataset(known, [(world.batch, answers(world))])}
    assert isinstance(merged["dive/03"], Record) and merged["dive/03"].picture.is_file()
