"""The engine's parts by themselves: schedule, order, averaging, watch on the loss, checkpoints."""

from __future__ import annotations

import json
import math
import platform
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics.engine.trainer import BaseTrainer

from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.settings import Decides
from marauder.engine.averaging import AveragedModel
from marauder.engine.checkpoints import LATEST, Checkpointer
from marauder.engine.guards import LossWatch
from marauder.engine.loader import Order, share_of
from marauder.engine.memory import keep_freed_memory
from marauder.engine.schedule import Schedule
from marauder.engine.settings import OptimizerSettings, TrainingSettings
from marauder.engine.training_identity import describe_differences


@given(st.integers(0, 200), st.integers(1, 9))
def test_shares_cover_a_batch_once(length: int, size: int) -> None:
    taken = [index for rank in range(size) for index in range(length)[share_of(length, rank, size)]]
    assert taken == list(range(length))


@given(st.integers(1, 60), st.integers(1, 17), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4))
def test_every_epoch_sees_every_sample_once_whatever_the_ranks_and_the_start(
    length: int, batch_size: int, seed: int, epochs: int, size: int
) -> None:
    order = Order(length, batch_size, seed, epochs)
    per_step = [list(order.shares(0, rank, size)) for rank in range(size)]
    for epoch in range(epochs):
        seen = []
        for position in range(order.steps_per_epoch):
            step = epoch * order.steps_per_epoch + position
            for rank in range(size):
                seen += per_step[rank][step][: order.share_weight(step, rank, size)]
        assert sorted(key.index for key in seen) == list(range(length))
        assert {key.epoch for key in seen} == {epoch}
    start = order.total_steps // 2
    assert list(order.shares(start, 0, size)) == per_step[0][start:]


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_schedule_warms_up_and_decays(name: str) -> None:
    settings = OptimizerSettings(schedule=name, warmup_epochs=2, learning_rate=0.01, final_fraction=0.1)
    schedule = Schedule(settings, 100, 10)
    rates = [schedule.values(step).learning_rate for step in range(101)]
    assert rates[0] == 0
    assert schedule.values(0).bias_learning_rate == pytest.approx(0.1)
    assert schedule.values(0).momentum == pytest.approx(0.8)
    assert rates[100] == pytest.approx(0.001)
    assert all(later <= earlier for earlier, later in pairwise(rates[20:]))
    middle = 0.1 + 0.9 * (0.5 if name == "linear" else (1 + math.cos(math.pi / 2)) / 2)
    assert rates[50] == pytest.approx(0.01 * middle)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_decay_by_epochs_gives_the_rates_of_ultralytics(name: str) -> None:
    epochs, steps = 10, 7
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    arguments = SimpleNamespace(cos_lr=name == "cosine", lrf=0.05, warmup_epochs=3.0)
    theirs: Any = SimpleNamespace(args=arguments, epochs=epochs, optimizer=optimizer)
    BaseTrainer._setup_scheduler(theirs)
    warmup = BaseTrainer._get_warmup_iterations(theirs, steps)
    expected = []
    for epoch in range(epochs):
        (rate,) = theirs.scheduler.get_last_lr()
        for step in range(epoch * steps, (epoch + 1) * steps):
            # As their loop does: below the warm-up's end it interpolates from 0 to the epoch's rate.
            expected.append(float(np.interp(step, [0, warmup], [0.0, rate])))
        optimizer.step()
        theirs.scheduler.step()
    settings = OptimizerSettings(schedule=name, learning_rate=0.01, final_fraction=0.05, decay_each="epoch")
    schedule = Schedule(settings, epochs * steps, steps)
    assert [schedule.values(step).learning_rate for step in range(epochs * steps)] == pytest.approx(expected)
    # By steps, the default, every rate after the first of an epoch is lower.
    by_step = Schedule(settings.changed({"decay_each": "step"}), epochs * steps, steps)
    assert all(by_step.values(n).learning_rate < rate for n, rate in enumerate(expected) if n % steps)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_parts_of_one_schedule_follow_one_another_as_the_whole(name: str) -> None:
    settings = OptimizerSettings(schedule=name, warmup_epochs=0)
    whole, found = Schedule(settings, 100, 10), []
    for begins, ends in ((0.0, 0.4), (0.4, 0.8), (0.8, 1.0)):
        steps = round((ends - begins) * 100)
        part = Schedule(settings.changed({"begins_at": begins, "ends_at": ends}), steps, 10)
        found += [part.values(step).learning_rate for step in range(steps)]
    assert found == pytest.approx([whole.values(step).learning_rate for step in range(100)])
    with pytest.raises(ValueError, match=r"begins_at: 0\.5 is not before ends_at, 0\.4"):
        settings.changed({"begins_at": 0.5, "ends_at": 0.4})


def test_short_trainings_warm_up_for_half_their_steps_at_most() -> None:
    assert Schedule(OptimizerSettings(warmup_epochs=3), 20, 10).warmup_steps() == 10


def test_average_follows_the_formula() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = AveragedModel(model, decay=0.9, ramp=10)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for update in range(1, 4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        model[1].num_batches_tracked += 1
        average.update(model)
        decay = 0.9 * (1 - math.exp(-update / 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_watch_passes_empty_and_crowded_batches_and_stops_explosions() -> None:
    watch = LossWatch(30.0)
    assert all(watch.judge(5.0, 500.0, 1.0) is None for _ in range(60))
    assert watch.judge(2000.0, 50.0, 1.0) is None, "a batch of empty scenes"
    assert watch.judge(5.0, 50000.0, 1.0) is None, "a crowded batch"
    exploded = watch.judge(5000.0, 500000.0, 1.0)
    assert exploded is not None
    assert (exploded.kind, "times its running mean" in exploded.why) == ("exploding", True)
    for values in ((float("nan"), 1.0, 1.0), (1.0, float("inf"), 1.0), (1.0, 1.0, float("inf"))):
        found = watch.judge(*values)
        assert found is not None
        assert found.kind == "nan"


def save_some(folder: Path, steps: list[int]) -> Checkpointer:
    checkpointer = Checkpointer(folder, keep=2)
    checkpointer.prepare()
    for step in steps:
        checkpointer.save({"step": step, "weights": torch.full((3,), float(step))}, step, {"epoch": 1}, wait=True)
    return checkpointer


def test_checkpoints_keep_the_newest_and_name_it(tmp_path: Path) -> None:
    checkpointer = save_some(tmp_path, [1, 5, 9])
    assert sorted(path.name for path in tmp_path.glob("checkpoint_0*.pt")) == [
        "checkpoint_000000005.pt", "checkpoint_000000009.pt",
    ]  # fmt: skip
    assert (tmp_path / LATEST).read_bytes() == (tmp_path / "checkpoint_000000009.pt").read_bytes()
    newest = checkpointer.newest()
    assert newest is not None
    assert newest.state["step"] == 9
    assert checkpointer.read(tmp_path / LATEST).state["step"] == 9
    assert json.loads((tmp_path / "checkpoint_000000009.json").read_text())["epoch"] == 1


def test_a_snapshot_is_not_changed_by_later_steps(tmp_path: Path) -> None:
    checkpointer = save_some(tmp_path, [])
    weights = torch.zeros(1000)
    checkpointer.save({"step": 1, "weights": weights}, 1, {})
    weights += 1
    checkpointer.finish()
    newest = checkpointer.newest()
    assert newest is not None
    assert float(newest.state["weights"].sum()) == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove", "description"])
def test_a_damaged_newest_falls_back_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpointer = save_some(tmp_path, [3, 4])
    path = tmp_path / "checkpoint_000000004.pt"
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "remove":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")
    newest = checkpointer.newest()
    assert newest is not None
    assert newest.state["step"] == 3
    assert "falling back" in caplog.text


def test_a_named_checkpoint_that_is_damaged_is_a_clear_error(tmp_path: Path) -> None:
    checkpointer = save_some(tmp_path, [3])
    (tmp_path / "checkpoint_000000003.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="damaged"):
        checkpointer.read(tmp_path / "checkpoint_000000003.pt")
    with pytest.raises(UserError, match=r"no such checkpoint; .* holds checkpoint_000000003\.pt\. Name one"):
        checkpointer.read(tmp_path / "none.pt")
    with pytest.raises(UserError) as caught:
        Checkpointer(tmp_path / "new").read(Path("nonsense.pt"))
    assert str(caught.value) == (
        f"nonsense.pt: no such checkpoint; {tmp_path / 'new'} holds none yet. Name one of the run's, or omit --resume"
    )
    with pytest.raises(UserError, match="no intact checkpoint"):
        checkpointer.read(tmp_path)


@pytest.mark.parametrize("content", [b"hello\n", b"", b"PK\x03\x04", bytes(range(256))])
def test_a_file_that_is_no_checkpoint_is_told_in_our_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "garbage.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"garbage\.pt: cannot be read as a step checkpoint; those are"):
        Checkpointer(tmp_path).read(tmp_path / "garbage.pt")


def test_a_checkpoint_is_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"step": 1, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="cannot be read"):
        Checkpointer(tmp_path).read(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_a_failed_write_is_not_lost(tmp_path: Path) -> None:
    checkpointer = save_some(tmp_path / "folder", [1])
    checkpointer.folder = tmp_path / "file"
    checkpointer.folder.write_text("in the way")
    checkpointer.save({"step": 2}, 2, {})
    with pytest.raises(OSError, match=r"file|directory"):
        checkpointer.finish()


def test_differences_are_named() -> None:
    def of(settings: TrainingSettings) -> dict[str, object]:
        return decided(settings, Decides.RESULT)

    base = {"data": "1", "settings": of(TrainingSettings())}
    other = {"data": "2", "settings": of(TrainingSettings(optimizer=OptimizerSettings(learning_rate=0.5)))}
    words = describe_differences(base, other)
    assert "optimizer.learning_rate was 0.01, is 0.5" in words
    assert "other pictures" in words
    longer = {"data": "1", "settings": of(TrainingSettings(epochs=300))}
    assert describe_differences(base, longer) == ""


def test_freed_memory_is_kept_where_the_c_library_is_gnus() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
