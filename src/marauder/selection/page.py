"""The report page of a selection: what was chosen and why, for people who know animals and not active learning."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from marauder.core.files import write_text
from marauder.core.plain import Plain
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import begin_sentence
from marauder.selection.basket import EXPECTED
from marauder.selection.outputs import KIND_WORDS, MAP, PAGE, SELECTION, SHEET, Selected
from marauder.selection.pick_sheet import MOST_BOXES

KIND_REASONS = {
    "uncertain": "The detector is unsure what is in these pictures, or whether there is anything at all. Of all such "
    "pictures, ones that differ from each other were chosen. Their labels teach it most.",
    "medoid": "Each of these represents a group of similar pictures, none of them labelled yet.",
    "far": "These look least like anything labelled or chosen before them. Rare scenes are among them, and sometimes a "
    "broken frame.",
    "typical": "Each of these is the most typical picture of a group of similar ones, none of them labelled yet: the "
    "best start while the detector has seen little.",
    "balance": "The detector expects animals here of which few boxes are labelled. Each was worth most for its price, "
    "given all that is labelled or chosen before it.",
    "quota": "The settings request a number of pictures with this animal, or of this site or kind; these fill it.",
    "random": "Drawn at random. They show what the detector gets wrong without being uncertain, and keep the labelled "
    "pictures a fair sample. Please label them like all the others.",
}
SEVERAL = 25
"""Reasons for leaving pictures out are listed up to this many pictures."""


def write_page(selected: Selected, next_command: str) -> Path:
    """Write ``report.html``, with sheet and map inside; returns its path."""
    output, picks = selected.settings.output, selected.picks
    counts = Counter(pick.kind for pick in picks)
    page = render_page(
        "selection/report.html",
        chosen=len(picks),
        candidates=len(selected.records),
        clips=_clips(selected),
        price=begin_sentence(selected.price.words()),
        selection_file=SELECTION,
        kinds=[
            {"count": counts[kind], "title": begin_sentence(words), "why": KIND_REASONS[kind]}
            for kind, words in KIND_WORDS.items()
            if counts[kind]
        ],
        sheet=embed_picture((output / SHEET).read_bytes()),
        sheet_cut=len(picks) > selected.settings.sheet_pictures,
        guesses=bool(selected.settings.models),
        most_boxes=MOST_BOXES,
        classes=_classes(selected),
        labelled_known=len(selected.pool.centres) > 0,
        map=embed_picture((output / MAP).read_bytes()),
        picks=_picks(selected),
        next_command=next_command,
        changes=[_sentence(change) for change in selected.changes],
        notes=_notes(selected),
    )
    write_text(output / PAGE, page)
    return output / PAGE


def _clips(selected: Selected) -> dict[str, int] | None:
    """How many clips the choice and the pool have; ``None`` where every picture is one of its own."""
    whole = len({record.group for record in selected.records})
    if whole == len(selected.records):
        return None
    return {"chosen": len({selected.records[pick.index].group for pick in selected.picks}), "all": whole}


def _classes(selected: Selected) -> list[Plain]:
    """What the detector expects of each class; nothing without one."""
    pool = selected.pool
    if pool.scores is None:
        return []
    chosen = np.array([pick.index for pick in selected.picks], np.int64)
    rows = []
    for place, name in enumerate(pool.names):
        expected = pool.class_counts[:, place] >= EXPECTED
        rows.append(
            {
                "name": name,
                "critical": name in selected.settings.critical,
                "pool": int(expected.sum()),
                "chosen": int(expected[chosen].sum()),
                "boxes": round(float(pool.class_counts[chosen, place].sum())),
                "labelled": int(pool.centre_counts[:, place].sum()) if len(pool.centres) else 0,
            }
        )
    return rows


def _picks(selected: Selected) -> list[dict[str, str]]:
    return [
        {
            "key": selected.records[pick.index].key,
            "why": begin_sentence(pick.reason),
            "boxes": f"{selected.pool.boxes[pick.index]:.1f}" if selected.boxes_known else "",
        }
        for pick in selected.picks
    ]


def _sentence(words: str) -> str:
    return f"{begin_sentence(words).rstrip('.')}."


def _notes(selected: Selected) -> list[str]:
    found = [_sentence(note) for note in selected.notes]
    for reason, count in Counter(selected.left_out.values()).most_common():
        found.append(f"{count:,} pictures were left out: they {reason}.")
    aside = sorted(selected.set_aside.items())
    found += [f"Cannot be read: {path} ({reason})." for path, reason in aside[:SEVERAL]]
    if len(aside) > SEVERAL:
        found.append(f"{len(aside) - SEVERAL:,} more cannot be read; {SELECTION} names them.")
    return found
