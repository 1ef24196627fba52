"""Checkpoints in tiers: what is copied, what stays, what comes back when folders are lost."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import marauder
from marauder.core.files import hash_file, write_bytes, write_json
from marauder.storage.base import Store, StoreError, StoreSettings
from marauder.storage.mirror import (
    CheckpointMirror,
    newest_whole,
    open_mirrors,
    plan_restore,
    restore_newest,
    stored_steps,
)
from marauder.storage.opening import open_store
from marauder.storage.settings import CheckpointTiers

PREFIX = "runs/7/checkpoints"
SOURCES = str(Path(marauder.__file__).parents[1])


def checkpoint(folder: Path, step: int, size: int = 1000) -> Path:
    """Two files as the checkpointer writes them."""
    path = folder / f"checkpoint_{step:09d}.pt"
    digest = write_bytes(path, bytes([step % 256]) * size)
    write_json(path.with_suffix(".json"), {"sha256": digest, "step": step})
    return path


def forget(folder: Path, step: int) -> None:
    for suffix in (".pt", ".json"):
        (folder / f"checkpoint_{step:09d}{suffix}").unlink()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "local").mkdir()
    return tmp_path / "local"


@pytest.fixture
def mirror(address: str) -> CheckpointMirror:
    return CheckpointMirror(open_store(address), PREFIX, every_seconds=0.0, keep=2)


def offer(mirror: CheckpointMirror, local: Path, *steps: int) -> None:
    for step in steps:
        mirror.offer(checkpoint(local, step), step)
        assert mirror.finish(30)


steps = st.lists(st.integers(0, 20), max_size=5)


@given(local=st.none() | st.integers(0, 20), tiers=st.lists(steps, max_size=3))
def test_the_plan_is_the_newest_first_and_never_older_than_what_is_here(
    local: int | None, tiers: list[list[int]]
) -> None:
    plan = plan_restore(local, tiers)
    assert all(step in tiers[tier] for tier, step in plan)
    assert all(local is None or step > local for _, step in plan)
    assert plan == sorted(plan, key=lambda candidate: (-candidate[1], candidate[0]))
    wanted = {step for tier in tiers for step in tier if local is None or step > local}
    assert {step for _, step in plan} == wanted and len(set(plan)) == len(plan)


def test_a_lost_folder_comes_back(mirror: CheckpointMirror, local: Path) -> None:
    offer(mirror, local, 10, 20, 30)
    assert stored_steps(mirror.store, PREFIX) == [20, 30], "older ones are pruned"
    assert len(mirror.store.list(PREFIX)) == 4
    assert not list(local.glob(".mirror*")), "second names go when nothing waits"
    assert (mirror.counts.copied, mirror.counts.failed, mirror.counts.step) == (3, 0, 30)
    content = (local / "checkpoint_000000030.pt").read_bytes()
    shutil.rmtree(local)
    assert restore_newest(local, [mirror]) == local / "checkpoint_000000030.pt"
    assert (local / "checkpoint_000000030.pt").read_bytes() == content
    assert newest_whole(local) == 30
    assert restore_newest(local, [mirror]) is None, "what is here already is not fetched again"


def test_a_damaged_newest_in_a_tier_is_passed_over_with_a_warning(
    mirror: CheckpointMirror, local: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offer(mirror, local, 10, 20)
    wrong = write_bytes(tmp_path / "wrong", b"half")
    assert wrong
    mirror.store.put(f"{PREFIX}/checkpoint_000000020.pt", tmp_path / "wrong")
    shutil.rmtree(local)
    with caplog.at_level(logging.WARNING):
        assert restore_newest(local, [mirror]) == local / "checkpoint_000000010.pt"
    assert "falling back to the checkpoint before it" in caplog.text
    assert sorted(path.name for path in local.iterdir()) == ["checkpoint_000000010.json", "checkpoint_000000010.pt"]


def test_a_damaged_local_newest_is_replaced_from_a_tier(mirror: CheckpointMirror, local: Path) -> None:
    offer(mirror, local, 10, 20)
    (local / "checkpoint_000000020.pt").write_bytes(b"half")
    assert newest_whole(local) == 10
    assert restore_newest(local, [mirror]) == local / "checkpoint_000000020.pt"
    assert newest_whole(local) == 20


def test_a_newer_local_one_stays(mirror: CheckpointMirror, local: Path) -> None:
    offer(mirror, local, 10)
    checkpoint(local, 15)
    assert restore_newest(local, [mirror]) is None


def test_steps_of_a_branch_given_up_go_with_the_first_copy_after_it(mirror: CheckpointMirror, local: Path) -> None:
    offer(mirror, local, 10, 20)
    offer(mirror, local, 15)
    assert stored_steps(mirror.store, PREFIX) == [10, 15]


def test_a_branch_given_up_does_not_come_back_when_a_kill_precedes_the_first_copy(address: str, local: Path) -> None:
    offer(CheckpointMirror(open_store(address), PREFIX, every_seconds=0.0), local, 10, 20)
    CheckpointMirror(open_store(address), PREFIX).give_up_after(local, 10)
    forget(local, 20)
    # The next process: nothing was copied in between.
    again = CheckpointMirror(open_store(address), PREFIX, every_seconds=0.0)
    assert restore_newest(local, [again]) is None
    assert newest_whole(local) == 10 and stored_steps(again.store, PREFIX) == [10]


def test_a_branch_given_up_while_the_mirror_is_away_is_deleted_before_anything_else_is_done_there(
    tmp_path: Path, local: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "store")
    for continues in (False, True):
        offer(CheckpointMirror(open_store(address), PREFIX, every_seconds=0.0, keep=5), local, 10, 20, 30)
        away = CheckpointMirror(SlowStore(address, failures=1), PREFIX)
        away.give_up_after(local, 10)
        for step in (20, 30):
            forget(local, step)
        assert restore_newest(local, [away]) is None
        assert "looking for checkpoints failed" in caplog.text
        assert stored_steps(open_store(address), PREFIX)[-1] == 30, "it was away"
        back = CheckpointMirror(open_store(address), PREFIX, every_seconds=0.0, keep=5)
        if continues:
            offer(back, local, 25)  # not only 30, which the new branch has not reached, but 20 goes as well
        assert restore_newest(local, [back]) is None
        assert stored_steps(back.store, PREFIX) == ([10, 25] if continues else [10])
        assert not list(local.glob(".mirror*")), "the note is gone with the branch"


def test_a_cleared_mirror_holds_nothing_of_its_run_and_leaves_the_others(address: str, local: Path) -> None:
    companion = local / "best.safetensors"
    companion.write_bytes(b"weights")
    store = open_store(address)
    one = CheckpointMirror(store, PREFIX, every_seconds=0.0, keep=2, companions=[companion])
    other = CheckpointMirror(store, "runs/8/checkpoints", every_seconds=0.0, keep=2, companions=[companion])
    for mirror in (one, other):
        offer(mirror, local, 10, 20)
        assert stored_steps(store, mirror.prefix) == [10, 20]
        assert mirror.companion_key(companion) in {entry.key for entry in store.list(mirror.prefix)}
    kept = store.list(other.prefix)
    one.clear()
    assert store.list(one.prefix) == []
    assert store.list(other.prefix) == kept


class SlowStore(Store):
    """A store that takes its time, or fails, before it passes on to a real one."""

    def __init__(self, address: str, pause: float = 0.0, failures: int = 0) -> None:
        super().__init__(StoreSettings(address=address))
        self.real, self.pause, self.failures, self.puts = open_store(address), pause, failures, 0

    def put(self, key: str, path: Path):  # type: ignore[no-untyped-def]
        self.puts += 1
        time.sleep(self.pause)
        if self.failures:
            self.failures -= 1
            raise StoreError("the network is away; check the cable")
        return self.real.put(key, path)

    def get(self, key: str, path: Path) -> None:
        if self.failures:
            raise StoreError("the network is away; check the cable")
        self.real.get(key, path)

    def read(self, key: str) -> tuple[bytes, str]:
        return self.real.read(key)

    def replace(self, key: str, content: bytes, expected_version: str | None) -> str:
        return self.real.replace(key, content, expected_version)

    def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        if self.failures:
            raise StoreError("the network is away; check the cable")
        return self.real.list(prefix)

    def delete(self, key: str) -> None:
        self.real.delete(key)


def test_offering_returns_at_once_and_what_the_training_deletes_is_still_copied(tmp_path: Path, local: Path) -> None:
    store = SlowStore(str(tmp_path / "store"), pause=0.3)
    mirror = CheckpointMirror(store, PREFIX, every_seconds=0.0, keep=5)
    started = time.monotonic()
    for step in (10, 20, 30, 40):
        mirror.offer(checkpoint(local, step), step)
        forget(local, step)
        time.sleep(0.02)
    assert time.monotonic() - started < 1.2, "a copy takes two puts: all four would take 2.4 s"
    assert mirror.finish(30)
    assert stored_steps(store, PREFIX) == [10, 40], "the one under way, and the newest; those between are superseded"
    assert not list(local.glob(".mirror*"))


def test_between_two_copies_lies_the_schedule_but_the_end_does_not_wait(tmp_path: Path, local: Path) -> None:
    mirror = CheckpointMirror(open_store(str(tmp_path / "store")), PREFIX, every_seconds=3600, keep=5)
    mirror.offer(checkpoint(local, 10), 10)
    deadline = time.monotonic() + 10
    while mirror.counts.copied < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for step in (20, 30):
        mirror.offer(checkpoint(local, step), step)
    time.sleep(0.2)
    assert stored_steps(mirror.store, PREFIX) == [10]
    assert mirror.finish(10)
    assert stored_steps(mirror.store, PREFIX) == [10, 30]


def test_a_failing_mirror_warns_once_is_counted_and_tries_again(
    tmp_path: Path, local: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = CheckpointMirror(SlowStore(str(tmp_path / "store"), failures=2), PREFIX, every_seconds=0.0)
    with caplog.at_level(logging.WARNING):
        mirror.offer(checkpoint(local, 10), 10)
        assert not mirror.finish(0.1)
        assert mirror.finish(30)
    assert (mirror.counts.copied, mirror.counts.failed) == (1, 2)
    assert len([record for record in caplog.records if "was not mirrored" in record.message]) == 1
    assert stored_steps(mirror.store, PREFIX) == [10]


def test_a_checkpoint_that_is_gone_is_counted_and_does_not_raise(tmp_path: Path, local: Path) -> None:
    mirror = CheckpointMirror(open_store(str(tmp_path / "store")), PREFIX, every_seconds=0.0)
    mirror.offer(local / "checkpoint_000000010.pt", 10)
    assert mirror.finish(10) and mirror.counts.failed == 1
    mirror.offer(local / "nowhere" / "checkpoint_000000010.pt", 10)
    assert mirror.counts.failed == 2


def test_an_unreachable_mirror_is_left_out(tmp_path: Path, local: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = CheckpointMirror(open_store(str(tmp_path / "good")), PREFIX, every_seconds=0.0)
    offer(good, local, 10)
    shutil.rmtree(local)
    away = CheckpointMirror(SlowStore(str(tmp_path / "away"), failures=9), PREFIX)
    assert restore_newest(local, [away, good]) == local / "checkpoint_000000010.pt"
    assert "looking for checkpoints failed" in caplog.text


def test_a_killed_run_goes_on_from_the_volume_and_without_it_from_the_store(tmp_path: Path, s3_endpoint: str) -> None:
    """A real process is killed while it writes and mirrors; then the local folder is lost, then the volume, too."""
    tiers = CheckpointTiers.model_validate(
        {
            "volume": {"address": str(tmp_path / "volume"), "seconds": 0, "keep": 2},
            "store": {"address": f"s3://reef/{tmp_path.name}?endpoint_url={s3_endpoint}", "seconds": 0, "keep": 2},
        }
    )
    reached = []
    for lost in ((), ("local",), ("local", "volume"), ("local",)):
        for name in lost:
            shutil.rmtree(tmp_path / name)
        process = subprocess.Popen(
            [sys.executable, __file__, tiers.model_dump_json(), str(tmp_path / "local")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        assert process.stdout is not None
        begun = int(process.stdout.readline())
        while int(process.stdout.readline()) < begun + 12:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached.append(begun)
        mirrors = open_mirrors(tiers, PREFIX)
        for mirror in mirrors:
            for step in stored_steps(mirror.store, PREFIX):
                name = f"checkpoint_{step:09d}"
                mirror.store.get(f"{PREFIX}/{name}.pt", tmp_path / "seen.pt")
                description = json.loads(mirror.store.read(f"{PREFIX}/{name}.json")[0])
                assert hash_file(tmp_path / "seen.pt") == description["sha256"]
    assert reached[0] == 0
    assert all(later > earlier for earlier, later in itertools.pairwise(reached)), reached


def main() -> None:
    """A training: steps from the newest checkpoint on, each of them mirrored; prints where it began and each step."""
    tiers, local = CheckpointTiers.model_validate_json(sys.argv[1]), Path(sys.argv[2])
    local.mkdir(exist_ok=True)
    mirrors = open_mirrors(tiers, PREFIX)
    restore_newest(local, mirrors)
    begun = newest_whole(local) or 0
    print(begun, flush=True)
    for step in range(begun + 1, begun + 10_000):
        path = checkpoint(local, step, size=2_000_000)
        for mirror in mirrors:
            mirror.offer(path, step)
        for old in sorted(local.glob("checkpoint_*.json"))[:-2]:
            old.unlink()
            old.with_suffix(".pt").unlink()
        time.sleep(0.03)
        print(step, flush=True)


if __name__ == "__main__":
    main()
