"""Some pictures with what the teacher found in them, to be looked at: one sheet for each kind of picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marauder.core.randomness import stream
from marauder.data.contact_sheets import Tile, contact_sheet
from marauder.students.deciding import LABELLED, UNLABELLED, Decided

SHOWN = 8
"""Pictures of a sheet at most."""
COLOURS = {"learned": (255, 150, 40), "ignored": (150, 150, 150), "labelled": (255, 225, 120)}
"""What the teacher found, by what becomes of it."""
LABEL = (70, 200, 255)
"""What a person labelled."""
TITLES = {
    UNLABELLED: "Without labels: orange is learned, with its trust; grey is ignored",
    LABELLED: "Labelled: blue is a label; yellow the teacher's box of it, orange is learned, grey ignored",
}


def sheet_name(kind: str) -> str:
    """The file of a kind of pictures."""
    return f"lessons_{kind}.jpg"


def examples(decided: Sequence[Decided], seed: int) -> dict[str, list[Decided]]:
    """Up to ``SHOWN`` pictures of each kind in which the teacher found something, drawn by ``seed``, each group once
    before any comes twice."""
    found: dict[str, list[Decided]] = {}
    for kind in (UNLABELLED, LABELLED):
        held = [one for one in decided if one.kind == kind and (one.fates != "background").any()]
        order = stream(seed, "lesson examples", kind).permutation(len(held)).tolist()
        first: dict[str, Decided] = {}
        for place in order:
            first.setdefault(held[place].record.group, held[place])
        once = list(first.values())
        again = [held[place] for place in order if first[held[place].record.group] is not held[place]]
        if once:
            found[kind] = [*once, *again][:SHOWN]
    return found


def write_examples(folder: Path, chosen: dict[str, list[Decided]], names: Sequence[str]) -> list[Path]:
    """The sheets; returns their paths."""
    return [
        contact_sheet([tile(one, names) for one in some], folder / sheet_name(kind), title=TITLES[kind])
        for kind, some in chosen.items()
    ]


def tile(one: Decided, names: Sequence[str]) -> Tile:
    """A picture with labels and the teacher's boxes, whose text is class and trust."""
    record, shown = one.record, one.fates != "background"
    found, fates = one.found.chosen(shown), one.fates[shown].tolist()
    own = [names[number] for number in record.classes.tolist()]
    told = [f"{names[number]} {score:.2f}" for number, score in zip(found.classes.tolist(), found.scores.tolist())]
    return Tile(
        record.picture,
        record.key,
        np.concatenate([record.boxes, found.boxes]),
        [*own, *told],
        [*[LABEL] * len(own), *[COLOURS[fate] for fate in fates]],
        (record.width, record.height),
    )
