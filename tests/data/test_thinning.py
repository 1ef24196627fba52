"""Thinning: near-duplicate frames of a clip go, groups never thin each other, limits spread in time, in any order."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.clock import Clock, Interrupted
from marauder.core.randomness import stream
from marauder.data.duplicates import COPY_HEIGHT, COPY_WIDTH, hash_grey
from marauder.data.reading import read_dataset
from marauder.data.records import Record
from marauder.data.thinning import ThinningSettings, natural_key, spread_evenly, thin


def clips(folder: Path, counts: dict[str, int], still: bool = True) -> list[Record]:
    """Clips of one scene each, with noise between frames; of another scene a frame where they are not still."""
    records = []
    for number, (clip, count) in enumerate(counts.items()):
        scene = stream(number, "scene").integers(0, 255, (6, 8, 3)).astype(np.uint8)
        for frame in range(count):
            shown = scene if still else stream(number, "scene", frame).integers(0, 255, (6, 8, 3)).astype(np.uint8)
            picture = cv2.resize(shown, (128, 96), interpolation=cv2.INTER_CUBIC).astype(int)
            picture = np.clip(picture + stream(frame).integers(-3, 4, picture.shape), 0, 255)
            path = folder / f"{clip}-{frame}.png"
            cv2.imwrite(str(path), picture.astype(np.uint8))
            records.append(Record(f"{clip}-{frame}", path, 128, 96, group=clip, labelled=False))
    return records


def test_a_still_clip_leaves_its_first_frame(tmp_path: Path) -> None:
    records = clips(tmp_path, {"dive": 12, "reef": 5})
    thinned = thin(records, ThinningSettings())
    assert [records[i].key for i in thinned.kept] == ["dive-0", "reef-0"]
    assert thinned.groups["dive"].found == 12 and thinned.groups["dive"].near == 11 and thinned.groups["dive"].kept == 1
    assert thinned.total().kept == 2
    assert "2 of 17 pictures kept: 15 are near-duplicates" in thinned.describe()
    assert len(thin(records, ThinningSettings(near_duplicates=False)).kept) == 17


def test_groups_never_thin_each_other(tmp_path: Path) -> None:
    records = clips(tmp_path, {"dive": 2})
    apart = [Record(r.key, r.picture, 128, 96, group=r.key) for r in records]
    assert len(thin(apart, ThinningSettings()).kept) == 2


def test_the_limit_is_spread_over_time_by_number_not_by_letter(tmp_path: Path) -> None:
    records = clips(tmp_path, {"dive": 24}, still=False)
    thinned = thin(records, ThinningSettings(most_per_group=4))
    kept = sorted(int(records[i].key.split("-")[1]) for i in thinned.kept)
    assert kept == [3, 9, 15, 21]
    assert thinned.groups["dive"].over == 20


def test_the_order_of_the_records_does_not_matter(tmp_path: Path) -> None:
    records = clips(tmp_path, {"dive": 9, "reef": 4}) + clips(tmp_path, {"wreck": 15}, still=False)
    settings = ThinningSettings(most_per_group=6)
    expected = {records[i].key for i in thin(records, settings).kept}
    for seed in range(3):
        mixed = [records[i] for i in stream(seed).permutation(len(records))]
        assert {mixed[i].key for i in thin(mixed, settings).kept} == expected


def test_unreadable_pictures_are_left_out_and_told(tmp_path: Path) -> None:
    records = clips(tmp_path, {"dive": 3}, still=False)
    records[1].picture.write_bytes(b"no picture")
    thinned = thin(records, ThinningSettings())
    assert thinned.kept.tolist() == [0, 2]
    assert thinned.groups["dive"].unreadable == 1 and len(thinned.unreadable) == 1
    assert "1 cannot be read" in thinned.describe()


def test_a_spent_clock_stops_and_kept_hashes_are_not_made_again(tmp_path: Path) -> None:
    records = clips(tmp_path, {"dive": 3})
    stop = tmp_path / "stop"
    stop.write_text("asked to stop", encoding="utf-8")
    with pytest.raises(Interrupted, match="asked to stop"):
        thin(records, ThinningSettings(), clock=Clock(stop_file=stop))
    store = tmp_path / "hashes.jsonl"
    first = thin(records, ThinningSettings(), store=store)
    written = store.read_bytes()
    assert thin(records, ThinningSettings(), store=store).kept.tolist() == first.kept.tolist()
    assert store.read_bytes() == written


def test_fifty_thousand_hashes_take_seconds() -> None:
    random = stream(4)
    scenes = random.integers(0, 255, (2500, COPY_HEIGHT, COPY_WIDTH))
    hashes, records = [], []
    for number in range(50_000):
        grey = np.clip(scenes[number // 20] + random.integers(-2, 3, (COPY_HEIGHT, COPY_WIDTH)), 0, 255)
        hashes.append(hash_grey(grey.astype(np.uint8)))
        records.append(Record(f"f{number}", Path("none"), 9, 9, group=f"clip{number // 1000}"))
    started = time.perf_counter()
    thinned = thin(records, ThinningSettings(), hashes)
    assert time.perf_counter() - started < 30
    assert 2500 <= len(thinned.kept) < 5000


@given(st.integers(0, 500), st.integers(0, 60))
def test_spread_is_even_and_within_bounds(count: int, most: int) -> None:
    places = spread_evenly(count, most)
    assert len(places) == (count if most == 0 else min(count, most))
    assert places == sorted(set(places)) and all(0 <= place < count for place in places)
    if len(places) > 1:
        steps = np.diff(places)
        assert steps.max() - steps.min() <= 1


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["b1", "a10", "a9", "a", "1", "a9b2", "a9b10"]
    assert sorted(names, key=natural_key) == ["1", "a", "a9", "a9b2", "a9b10", "a10", "b1"]


def test_clips_of_the_real_sets_are_thinned(shared_data) -> None:
    records = read_dataset(shared_data / "deepfish").records[:300]
    thinned = thin(records, ThinningSettings())
    assert 0 < len(thinned.kept) < len(records)
    assert set(thinned.groups) == {record.group for record in records}
    assert sum(account.kept for account in thinned.groups.values()) == len(thinned.kept)
    assert all(account.kept >= 1 for account in thinned.groups.values())
