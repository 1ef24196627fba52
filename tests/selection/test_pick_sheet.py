"""The contact sheet of a selection stays legible where a weak detector sees boxes everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from marauder.data.contact_sheets import Tile
from marauder.data.records import Detections, Record
from marauder.selection import pick_sheet
from marauder.selection.basket import Pick
from marauder.selection.outputs import Selected


def test_only_the_highest_scores_of_a_picture_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tile] = []

    def keep(tiles: Sequence[Tile], target: Path, *_: Any) -> Path:
        drawn.extend(tiles)
        return target

    monkeypatch.setattr(pick_sheet, "contact_sheet", keep)
    count = 3 * pick_sheet.MOST_BOXES
    scores = np.random.default_rng(0).permutation(count) / count
    boxes = np.stack([scores, scores, scores + 1, scores + 1], axis=1)
    record = Record("a", tmp_path / "a.jpg", 100, 80)
    selected = SimpleNamespace(
        picks=(Pick(0, "random", "drawn"),),
        records=[record],
        settings=SimpleNamespace(sheet_pictures=10),
        pool=SimpleNamespace(names=("fish", "shark")),
    )
    seen = {0: Detections(boxes, scores, np.arange(count) % 2)}
    pick_sheet.draw_sheet(cast(Selected, selected), seen, tmp_path / "sheet.jpg")
    shown = sorted(scores, reverse=True)[: pick_sheet.MOST_BOXES]
    assert drawn[-1].boxes[:, 0].tolist() == shown
    assert [label.split()[1] for label in drawn[-1].labels] == [f"{score:.2f}" for score in shown]
    assert [label.split()[0] for label in drawn[-1].labels] == [
        ("fish", "shark")[seen[0].classes[np.flatnonzero(scores == s)[0]]] for s in shown
    ]
