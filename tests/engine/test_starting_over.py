"""A training that starts over keeps the former checkpoints until an epoch of the new one is done."""

from __future__ import annotations

from pathlib import Path

from marauder.engine.checkpoints import FORMER, Checkpointer


def save(folder: Path, step: int, epoch: int) -> None:
    Checkpointer(folder).save({"step": step}, step, {"epoch": epoch}, wait=True)


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint_0*.json"))


def test_the_former_checkpoints_stay_until_an_epoch_is_done(tmp_path: Path) -> None:
    save(tmp_path, 9, 3)
    Checkpointer(tmp_path).prepare(fresh=True)
    assert steps(tmp_path) == [] and steps(tmp_path / FORMER) == ["checkpoint_000000009.json"]
    named = Checkpointer(tmp_path).read(tmp_path / FORMER)
    assert named.state["step"] == 9, "they can be gone on from"
    save(tmp_path, 1, 0)
    # An attempt that never got through an epoch must not push out what was there before it.
    Checkpointer(tmp_path).prepare(fresh=True)
    assert "checkpoint_000000009.json" in steps(tmp_path / FORMER)
    save(tmp_path, 3, 1)
    assert not (tmp_path / FORMER).exists() and steps(tmp_path) == ["checkpoint_000000003.json"]
