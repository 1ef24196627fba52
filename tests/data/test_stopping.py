"""Whatever takes long on many pictures asks the clock, so that SIGTERM ends it within seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_sets

from marauder.core.clock import Clock, Interrupted
from marauder.data.check import CheckReport, check_dataset
from marauder.data.duplicates import PictureHash, close_pairs, exact_clusters, near_clusters
from marauder.data.manifests.splitting import divided
from marauder.data.manifests.writing import write_manifests
from marauder.data.organize import OrganizeSettings, organize
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.repair import repair
from marauder.data.splits import split_dataset
from marauder.data.writers import is_complete, write_yolo

Work = Callable[[Dataset, Path, Clock], object]


def hashes(count: int) -> list[PictureHash]:
    grey = np.random.default_rng(0).integers(0, 256, (count, 288), dtype=np.uint8)
    return [PictureHash(number, False, one.tobytes()) for number, one in enumerate(grey)]


WORK: dict[str, Work] = {
    "exact copies": lambda data, _, clock: exact_clusters([record.picture for record in data], clock),
    "near copies": lambda _, __, clock: near_clusters(hashes(20), 4, clock),
    "pairs of hashes": lambda _, __, clock: close_pairs(np.arange(20, dtype=np.uint64), 4, clock),
    "splitting": lambda data, _, clock: split_dataset(data, clock=clock),
    "splitting for manifests": lambda data, _, clock: divided(data, {"train": 1.0}, 0, False, clock),
    "writing manifests": lambda data, folder, clock: write_manifests(data, folder, clock=clock),
    "writing": lambda data, folder, clock: write_yolo(data, folder, "reference", clock),
    "looking whether it is whole": lambda data, folder, clock: is_complete(write_yolo(data, folder).parent, clock),
    "checking": lambda data, _, clock: check_dataset(data, clock=clock),
    "mending": lambda data, folder, clock: repair(
        CheckReport("", len(data), 0, data.names, (), dataset=data), folder, clock=clock
    ),
    "listing sources": lambda data, folder, clock: organize(
        OrganizeSettings(inputs=(data.records[0].picture.parent,), output=folder), clock
    ),
}


class Asked(Clock):
    """Stops when it is asked for the tenth time, so that asking once at the start is not enough."""

    times = 0

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        self.times += 1
        return "enough" if self.times == 10 else None


@pytest.mark.parametrize("name", WORK)
def test_the_clock_is_asked_all_along(name: str, tmp_path: Path) -> None:
    picture = small_sets.picture(tmp_path / "in" / "0.jpg")
    for number in range(1, 12):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(picture.read_bytes())
    boxes = np.array([[1.0, 1, 20, 20]])
    records = [
        Record(f"p{n}", tmp_path / "in" / f"{n}.jpg", *small_sets.SIZE, boxes, np.zeros(1, int), split="train")
        for n in range(12)
    ]
    with pytest.raises(Interrupted, match="enough"):
        WORK[name](Dataset(("fish",), tuple(records)), tmp_path / "out", Asked())


def test_reading_hears_the_signals_of_the_command_that_reads(tmp_path: Path) -> None:
    root = small_sets.yolo(tmp_path / "set")
    with Clock().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM received"):
            read_dataset(root)
    assert len(read_dataset(root)) == 3
