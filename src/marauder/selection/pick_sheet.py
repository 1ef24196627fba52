"""The contact sheet of a selection: picks grouped by why they were chosen, with what the detector sees in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from marauder.data.contact_sheets import Tile, colour_of, contact_sheet
from marauder.data.records import Detections
from marauder.selection.outputs import KIND_WORDS, Selected

COLUMNS, TILE_WIDTH = 5, 320
SHOWN_CONFIDENCE = 0.2
"""Score from which a box of the detector is drawn."""
MOST_BOXES = 20
"""Of a picture's boxes as many are drawn, the surest, or those of a weak detector would hide the picture."""


def shown_ranks(selected: Selected) -> dict[str, list[int]]:
    """Ranks (from 1) of the picks on the sheet by kind: each kind its share of the space, and one at least."""
    ranks: dict[str, list[int]] = {}
    for rank, pick in enumerate(selected.picks, 1):
        ranks.setdefault(pick.kind, []).append(rank)
    room, whole = selected.settings.sheet_pictures, max(1, len(selected.picks))
    return {
        kind: ranks[kind][: max(1, room * len(ranks[kind]) // whole)] if whole > room else ranks[kind]
        for kind in KIND_WORDS
        if kind in ranks
    }


def draw_sheet(selected: Selected, seen: Mapping[int, Detections], target: Path) -> Path:
    """Draw the sheet. ``seen``: the detector's boxes by place in the pool, in pixels of the picture."""
    tiles = []
    counts = {kind: sum(pick.kind == kind for pick in selected.picks) for kind in KIND_WORDS}
    for kind, ranks in shown_ranks(selected).items():
        tiles.append(_heading(KIND_WORDS[kind], len(ranks), counts[kind]))
        tiles += [_tile(selected, rank, seen) for rank in ranks]
    return contact_sheet(tiles, target, COLUMNS, TILE_WIDTH)


def _tile(selected: Selected, rank: int, seen: Mapping[int, Detections]) -> Tile:
    pick = selected.picks[rank - 1]
    record = selected.records[pick.index]
    caption = f"{rank}. {record.key}"
    found = seen.get(pick.index)
    size = (record.width, record.height)
    if found is None:
        return Tile(record.picture, caption, size=size)
    names = selected.pool.names
    drawn = np.argsort(-found.scores, kind="stable")[:MOST_BOXES]
    classes, scores = found.classes[drawn], found.scores[drawn]
    labels = [f"{names[index]} {score:.2f}" for index, score in zip(classes, scores, strict=True)]
    return Tile(record.picture, caption, found.boxes[drawn], labels, [colour_of(int(index)) for index in classes], size)


def _heading(words: str, shown: int, count: int) -> Tile:
    """A tile that says which kind of picks follows."""
    image = Image.new("RGB", (TILE_WIDTH, TILE_WIDTH * 3 // 4), (32, 60, 84))
    draw = ImageDraw.Draw(image)
    lines, line = [], ""
    for word in words.split():
        if len(line) + len(word) > 17 and line:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    draw.text((20, 50), "\n".join([*lines, line]), fill=(255, 255, 255), font=ImageFont.load_default(28), spacing=8)
    number = f"{count:,} chosen" if shown == count else f"{count:,} chosen, {shown:,} shown here"
    draw.text((20, 190), number, fill=(190, 210, 225), font=ImageFont.load_default(18))
    return Tile(np.asarray(image))
