"""Exact maps of boxes between a picture and a changed one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.prediction.geometry import Chain, Change, CutOut, FlipHorizontal, FlipVertical, QuarterTurn, tiles
from marauder.prediction.view_names import find_picture_views

SIDES = st.integers(8, 5000)


@st.composite
def changes(draw: st.DrawFn, height: int, width: int) -> Chain:
    """Up to five changes one after the other, each fitting the picture that the one before it leaves."""
    shape, chain = (height, width), []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["flip", "vertical", "turn", "cut"]))
        change: Change
        if kind == "cut":
            top, left = draw(st.integers(0, shape[0] - 2)), draw(st.integers(0, shape[1] - 2))
            change = CutOut(left, top, draw(st.integers(1, shape[1] - left)), draw(st.integers(1, shape[0] - top)))
            if min(change.shape(shape)) < 4:
                continue
        else:
            turn = QuarterTurn(draw(st.integers(1, 3)))
            change = {"flip": FlipHorizontal(), "vertical": FlipVertical(), "turn": turn}[kind]
        chain.append(change)
        shape = change.shape(shape)
    return Chain(tuple(chain))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), height=SIDES, width=SIDES, seed=st.integers(0, 10_000))
def test_there_and_back_is_the_same_box(data: st.DataObject, height: int, width: int, seed: int) -> None:
    chain = data.draw(changes(height, width))
    random = np.random.default_rng(seed)
    corners = random.uniform(0, [width, height], (6, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    there = chain.forward(boxes, (height, width))
    assert np.abs(chain.back(there, (height, width)) - boxes).max() <= 1e-9
    assert np.all(there[:, :2] <= there[:, 2:]), "corners stay in order"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 10_000))
def test_boxes_go_where_the_pixels_go(data: st.DataObject, height: int, width: int, seed: int) -> None:
    chain = data.draw(changes(height, width))
    random = np.random.default_rng(seed)
    x0, y0 = int(random.integers(0, width - 1)), int(random.integers(0, height - 1))
    x1, y1 = int(random.integers(x0 + 1, width + 1)), int(random.integers(y0 + 1, height + 1))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y0:y1, x0:x1] = 255
    changed = chain.pixels(picture)
    assert changed.shape[:2] == chain.shape((height, width))
    rows, columns = np.nonzero(changed[:, :, 0])
    (there,) = chain.forward(np.array([[x0, y0, x1, y1]], float), (height, width))
    inside = np.clip(there, 0, [changed.shape[1], changed.shape[0]] * 2)
    if len(rows):
        assert inside.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    else:
        assert inside[0] == inside[2] or inside[1] == inside[3]


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    overlap=st.floats(0, 0.9),
)
def test_tiles_cover_every_pixel_and_are_alike(
    height: int, width: int, rows: int, columns: int, overlap: float
) -> None:
    parts = tiles((height, width), rows, columns, overlap)
    assert len({(part.width, part.height) for part in parts}) == 1
    for start, size, length in (("top", "height", height), ("left", "width", width)):
        ends = sorted({(getattr(part, start), getattr(part, start) + getattr(part, size)) for part in parts})
        assert ends[0][0] == 0 and ends[-1][1] == length
        assert all(later[0] <= earlier[1] for earlier, later in pairwise(ends))
    if rows == 2 and height > 50:
        tops = sorted({part.top for part in parts})
        assert len(tops) == 2 and parts[0].height - tops[1] >= overlap * parts[0].height - 1.5


def test_views_are_made_of_words() -> None:
    view, tiled = find_picture_views(("flip+scale_1.25", "tiles_2x3+turn_90"))
    assert view.gain == 1.25 and view.changes == Chain((FlipHorizontal(),)) and view.cost == 1.25**2
    assert len(tiled.looks((90, 120))) == 6 and tiled.looks((90, 120))[0][1].changes[1] == QuarterTurn(1)
    for wrong in ("rotate", "scale_9", "tiles_0x2", "scale_1.2+scale_1.2", "tiles_2x2+tiles_2x2", ""):
        with pytest.raises(UserError, match="which is no view"):
            find_picture_views((wrong,))
    with pytest.raises(UserError, match="twice"):
        find_picture_views(("flip", "flip"))
