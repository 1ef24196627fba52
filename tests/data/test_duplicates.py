"""Perceptual hashes and clusters: the index finds what comparing all pairs finds, and clusters do not chain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_sets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import append_line
from marauder.data.duplicates import (
    COPY_HEIGHT,
    COPY_WIDTH,
    LEAST_CORRELATION,
    PictureHash,
    close_pairs,
    exact_clusters,
    hash_grey,
    hash_picture,
    hash_pictures,
    near_clusters,
)
from marauder.data.picture_files import PictureError


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30, unique=True), st.integers(0, 8), st.integers(0, 2**32))
def test_close_pairs_are_those_of_comparing_all(values, distance, seed):
    generator = np.random.default_rng(seed)
    for value in list(values)[:10]:  # neighbours a few bits away
        flipped = value
        for bit in generator.integers(0, 64, generator.integers(1, 10)):
            flipped ^= 1 << int(bit)
        if flipped not in values:
            values.append(flipped)
    array = np.array(values, np.uint64)
    left, right = close_pairs(array, distance)
    expected = {
        (one, other)
        for one in range(len(values))
        for other in range(one + 1, len(values))
        if (values[one] ^ values[other]).bit_count() <= distance
    }
    assert set(zip(left.tolist(), right.tolist())) == expected


GREY = bytes(range(COPY_WIDTH * COPY_HEIGHT // 2)) * 2


@given(st.lists(st.integers(0, 2**10 - 1), max_size=40))
def test_every_member_is_near_its_leader(values):
    clusters = near_clusters([PictureHash(value << 20, False, GREY) for value in values], 2)
    members = [index for cluster in clusters for index in cluster]
    assert len(members) == len(set(members))
    for cluster in clusters:
        assert all((values[cluster[0]] ^ values[index]).bit_count() <= 2 for index in cluster)


def test_a_slow_pan_does_not_chain():
    # Each step differs from the last in one bit; chained, all 60 would be one cluster.
    values = [(1 << step) - 1 for step in range(60)]
    clusters = near_clusters([PictureHash(value, False, GREY) for value in values], 4)
    assert max(map(len, clusters)) <= 5


def test_flat_pictures_are_no_duplicates(tmp_path: Path):
    for number, level in enumerate((10, 200)):
        Image.new("RGB", (64, 48), (0, level, level)).save(tmp_path / f"{number}.png")
    hashes = hash_pictures(sorted(tmp_path.glob("*.png")))
    assert all(isinstance(item, PictureHash) and item.flat for item in hashes)
    assert near_clusters([item for item in hashes if isinstance(item, PictureHash)]) == []


def vignette(things: int) -> np.ndarray:
    """A grey copy whose light falls off towards the borders, with rows of things on it that keep each row's order."""
    rows, columns = np.indices((COPY_HEIGHT, COPY_WIDTH))
    light = 36 - 3 * np.abs(columns - COPY_WIDTH // 2)
    shades = np.random.default_rng(things).integers(10, 210, COPY_HEIGHT // 2).repeat(2)
    return (light + shades[rows]).astype(np.uint8)


def test_like_hashes_of_different_pictures_are_not_near():
    one, other = vignette(1), vignette(2)
    brighter = np.clip(one * 0.8 + 40, 0, 255).astype(np.uint8)
    hashes = [hash_grey(grey) for grey in (one, other, brighter)]
    assert (hashes[0].value ^ hashes[1].value).bit_count() <= 4
    assert near_clusters(hashes) == [[0, 2]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40), st.integers(0, 2))
def test_clusters_are_those_of_comparing_with_every_leader(pictures, distance):
    greys = [vignette(things) for things in range(6)]
    hashes = [PictureHash(value, False, greys[things].tobytes()) for value, things in pictures]

    def near(one, other):
        correlation = np.corrcoef(greys[pictures[one][1]].ravel(), greys[pictures[other][1]].ravel())[0, 1]
        return (hashes[one].value ^ hashes[other].value).bit_count() <= distance and correlation >= LEAST_CORRELATION

    expected, free = [], list(range(len(hashes)))
    while free:
        members = [index for index in free if index == free[0] or near(free[0], index)]
        free = [index for index in free if index not in members]
        expected += [members] if len(members) > 1 else []
    assert near_clusters(hashes, distance) == expected


def test_frames_of_one_still_camera_are_near(shared_data: Path):
    frames = sorted((shared_data / "deepfish/images").glob("7117_Caranx_sexfasciatus_juvenile_f0000*.jpg"))[:12]
    clusters = near_clusters([hash_picture(path) for path in frames])
    assert sum(map(len, clusters)) >= len(frames) - 2


def test_a_recompressed_and_scaled_copy_is_near_and_others_are_not(shared_data: Path, tmp_path: Path):
    originals = sorted((shared_data / "aquarium/images").glob("IMG_22*.jpg"))[:20]
    with Image.open(originals[0]) as image:
        image.resize((image.width // 2, image.height // 2)).save(tmp_path / "copy.jpg", quality=40)
    values = [hash_picture(path) for path in [*originals, tmp_path / "copy.jpg"]]
    assert near_clusters(values) == [[0, 20]]


def test_truncated_missing_and_empty_pictures_are_named(tmp_path: Path):
    whole = small_sets.picture(tmp_path / "whole.jpg", size=(200, 200))
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    png = small_sets.picture(tmp_path / "whole.png", size=(200, 200))
    (tmp_path / "cut.png").write_bytes(png.read_bytes()[: png.stat().st_size // 2])
    names = ["whole.jpg", "cut.jpg", "empty.jpg", "text.jpg", "none.jpg", "cut.png"]
    results = hash_pictures([tmp_path / name for name in names])
    kinds = [item.kind if isinstance(item, PictureError) else "fine" for item in results]
    assert kinds == ["fine", "truncated", "empty", "unreadable", "missing", "truncated"]


def test_kept_hashes_are_reused_until_the_picture_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [small_sets.picture(tmp_path / f"{number}.jpg", number) for number in range(4)]
    store = tmp_path / "hashes.jsonl"
    first = hash_pictures(paths, store=store)
    small_sets.picture(paths[0], 99, size=(90, 60))
    calls = []
    monkeypatch.setattr("marauder.data.duplicates.hash_picture", lambda path: calls.append(path) or hash_picture(path))
    second = hash_pictures(paths, store=store)
    assert calls == [paths[0]]
    assert second[1:] == first[1:]
    assert second[0] != first[0]


def test_hashes_kept_without_a_grey_copy_are_made_again(tmp_path: Path):
    path = small_sets.picture(tmp_path / "0.jpg")
    store = tmp_path / "hashes.jsonl"
    state = path.stat()
    append_line(store, [str(path), state.st_size, state.st_mtime_ns, 5, False])
    assert hash_pictures([path], store=store) == [hash_picture(path)]


def test_the_clock_is_asked(tmp_path: Path):
    clock = Clock(max_seconds=1e-9)
    with pytest.raises(Interrupted):
        hash_pictures([small_sets.picture(tmp_path / "a.jpg")], clock)


def test_exact_clusters(tmp_path: Path):
    paths = [small_sets.picture(tmp_path / f"{number}.png", number % 3) for number in range(5)]
    assert exact_clusters(paths) == [[0, 3], [1, 4]]
