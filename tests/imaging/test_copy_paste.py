"""Copy-paste: outlines on real animals, colours that fit the place, boxes that tell what is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.randomness import stream
from marauder.data.pictures import decode_picture, scale_picture
from marauder.data.reading import read_dataset
from marauder.imaging.augmentation import Source
from marauder.imaging.copy_paste import _cut_hidden, draw_count, match_water, paste
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.imaging.cut_outs import animal_mask, covered_share, cut_outs

NAMES = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
RARE = (5, 6)
SETTINGS = CopyPasteSettings(probability=1.0)


def source_of(record) -> Source:
    gain = 320 / max(record.width, record.height)
    return Source(scale_picture(decode_picture(record.picture), 320), record.boxes * gain, record.classes)


@pytest.fixture(scope="module")
def animals(shared_data) -> tuple[list[Source], list[Source]]:
    """Cut-outs of starfish and stingrays, and pictures to paste them into."""
    records = read_dataset(shared_data / "aquarium", names=NAMES).records
    rare = [record for record in records if np.isin(record.classes, RARE).any()]
    donors = [found for record in rare[::4] for found in cut_outs(source_of(record), RARE, SETTINGS)]
    assert len(donors) > 20
    return donors, [source_of(record) for record in records[5::30]]


def disc(colour: tuple[int, int, int], around: tuple[int, int, int], side: int = 80, radius: int = 25) -> Source:
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    inside = np.hypot(x, y) < radius
    picture = np.where(inside[..., None], np.array(colour), np.array(around))
    picture = picture + stream(3).integers(-4, 5, picture.shape)
    box = np.array([[side / 2 - radius, side / 2 - radius, side / 2 + radius, side / 2 + radius]], np.float64)
    return Source(np.clip(picture, 0, 255).astype(np.uint8), box, np.array([5]))


def test_the_outline_of_a_disc_is_found() -> None:
    donor = disc((220, 120, 60), (20, 60, 110))
    mask = animal_mask(donor.picture, donor.boxes[0], 1)
    y, x = np.mgrid[:80, :80] - 39.5
    inside = np.hypot(x, y) < 25
    found = mask > 0.5
    assert (found & inside).sum() / (found | inside).sum() > 0.93


def test_an_animal_like_its_background_gets_a_soft_ellipse_inside_its_box() -> None:
    donor = disc((80, 80, 80), (80, 80, 80))
    mask = animal_mask(donor.picture, donor.boxes[0], 1)
    assert mask[40, 40] == 1 and mask[:12].max() == 0 and mask[:, 68:].max() == 0
    assert 0.3 < mask[15:65, 15:65].mean() < 0.95


def test_outlines_of_real_animals_fill_their_boxes(animals) -> None:
    donors, _ = animals
    extents = []
    for donor in donors:
        mask = animal_mask(donor.picture, donor.boxes[0], 1)
        rows, columns = np.nonzero(mask > 0.5)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
        inner = np.minimum(box[2:], donor.boxes[0, 2:]) - np.maximum(box[:2], donor.boxes[0, :2])
        union = np.prod(box[2:] - box[:2]) + np.prod(donor.boxes[0, 2:] - donor.boxes[0, :2]) - np.prod(inner)
        extents.append(np.prod(inner) / union)
        assert mask.min() >= 0 and mask.max() <= 1
    assert np.median(extents) > 0.7 and min(extents) > 0.3


def test_cut_outs_leave_out_what_is_small_cut_off_or_hidden() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    boxes = np.array(
        [[50, 50, 90, 90], [0, 50, 40, 90], [100, 100, 108, 108], [120, 20, 160, 60], [130, 20, 170, 60]], np.float64
    )
    found = cut_outs(Source(picture, boxes, np.array([5, 5, 5, 5, 0])), [5], SETTINGS)
    assert len(found) == 1
    assert found[0].picture.shape == (68, 68, 3)
    assert found[0].boxes.tolist() == [[14, 14, 54, 54]] and found[0].classes.tolist() == [5]


def test_the_same_draws_give_the_same_picture_and_inputs_stay(animals) -> None:
    donors, targets = animals
    target = min(targets, key=lambda source: len(source.boxes))
    before = target.picture.copy(), donors[0].picture.copy()
    one, again = (paste(target, donors[:2], SETTINGS, stream(4, "paste")) for _ in range(2))
    assert np.array_equal(one.picture, again.picture) and np.array_equal(one.boxes, again.boxes)
    assert np.array_equal(before[0], target.picture) and np.array_equal(before[1], donors[0].picture)
    assert not np.array_equal(one.picture, target.picture)


def test_pixels_change_inside_pasted_boxes_only(animals) -> None:
    donors, targets = animals
    pasted = 0
    for number, target in enumerate(targets):
        result = paste(target, [donors[number % len(donors)]], SETTINGS, stream(number))
        if len(result.boxes) == 0 or np.array_equal(result.picture, target.picture):
            continue
        pasted += 1
        box = result.boxes[-1]
        assert result.classes[-1] in RARE
        assert (box[:2] >= 0).all() and (box[2:] <= target.picture.shape[1::-1]).all() and (box[2:] > box[:2]).all()
        changed = np.abs(result.picture.astype(int) - target.picture).max(axis=2) > 12
        rows, columns = np.nonzero(changed)
        assert len(rows)
        # Soft borders reach a little past the box, which counts pixels that are mostly animal.
        assert columns.min() >= box[0] - 8 and columns.max() <= box[2] + 8
        assert rows.min() >= box[1] - 8 and rows.max() <= box[3] + 8
        for other in target.boxes:
            assert covered_share(other, box[None])[0] < 0.35
    assert pasted > len(targets) / 2


def test_matched_backgrounds_are_nearer_to_the_place_than_naive_pasting(animals) -> None:
    donors, targets = animals
    naive, matched = [], []
    for number, donor in enumerate(donors):
        target = targets[number % len(targets)]
        height, width = donor.picture.shape[:2]
        if height > target.picture.shape[0] or width > target.picture.shape[1]:
            continue
        place = target.picture[:height, :width]
        mask = animal_mask(donor.picture, donor.boxes[0], 1)
        outside = mask < 0.05
        moved = match_water(donor.picture, place, mask, 0.85)
        mean = place[outside].mean(axis=0)
        naive.append(np.abs(donor.picture[outside].mean(axis=0) - mean).sum())
        matched.append(np.abs(moved[outside].mean(axis=0) - mean).sum())
    assert len(naive) > 15
    assert np.mean(matched) < 0.6 * np.mean(naive)


def test_brightening_burns_nothing_out() -> None:
    donor = disc((200, 190, 180), (15, 20, 30))
    place = np.full((80, 80, 3), 170, np.uint8)
    moved = match_water(donor.picture, place, animal_mask(donor.picture, donor.boxes[0], 1), 1.0)
    assert (moved[30:50, 30:50] == 255).mean() < 0.02


def test_nothing_is_pasted_where_there_is_no_room() -> None:
    target = Source(np.full((100, 100, 3), 90, np.uint8), np.array([[0.0, 0, 100, 100]]), np.array([0]))
    result = paste(target, [disc((220, 120, 60), (20, 60, 110))], SETTINGS, stream(0))
    assert result.picture is target.picture and result.boxes.tolist() == [[0, 0, 100, 100]]
    tiny = paste(target, [disc((220, 120, 60), (20, 60, 110), 20, 5)], SETTINGS, stream(0))
    assert tiny.picture is target.picture


def test_hidden_boxes_are_cut_or_dropped() -> None:
    visible = np.ones((40, 40), bool)
    boxes = np.array([[10.0, 10, 30, 30], [40, 10, 60, 30], [45, 12, 90, 28], [200, 200, 210, 210]])
    kept, cut = _cut_hidden(boxes, visible, (10, 0), 0.6)
    # Wholly hidden; half hidden from the left; a tenth hidden; untouched.
    assert kept.tolist() == [1, 2, 3]
    assert cut.tolist() == [[50, 10, 60, 30], [50, 12, 90, 28], [200, 200, 210, 210]]


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0, 90), st.floats(1, 60), st.floats(1, 60)), max_size=6),
    st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_boxes_never_grow_when_something_lies_before_them(rows, left: int, top: int, seed: int) -> None:
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float64).reshape(-1, 4)
    visible = stream(seed).random((30, 30)) < 0.7
    kept, cut = _cut_hidden(boxes, visible, (left, top), 0.6)
    assert (cut[:, :2] >= boxes[kept][:, :2]).all() and (cut[:, 2:] <= boxes[kept][:, 2:]).all()
    assert (cut[:, 2:] > cut[:, :2]).all()


def test_the_count_follows_the_probability() -> None:
    counts = [draw_count(CopyPasteSettings(probability=0.3, most=3), stream(number)) for number in range(2000)]
    assert np.mean(np.array(counts) > 0) == pytest.approx(0.3, abs=0.04)
    assert set(counts) == {0, 1, 2, 3}
    assert not any(draw_count(CopyPasteSettings(), stream(number)) for number in range(50))
