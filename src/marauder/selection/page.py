"""The report page of a selection: what was chosen and why, for people who know animals and not active learning."""

from __future__ import annotations

import base64
from collections import Counter
from html import escape
from pathlib import Path

import numpy as np

from marauder.core.files import write_text
from marauder.selection.basket import EXPECTED
from marauder.selection.outputs import KIND_WORDS, MAP, PAGE, SELECTION, SHEET, Selected

KIND_REASONS = {
    "uncertain": "The detector sees something in these pictures but cannot decide what it is, or whether it is there "
    "at all. Of all such pictures, ones that differ from each other were taken. These labels teach it most.",
    "medoid": "Each of these stands for a group of similar pictures of which none is labelled yet.",
    "far": "These look least like anything that is labelled or was chosen before them. Rare scenes are among them, and "
    "now and then a broken frame.",
    "typical": "Each of these is the most ordinary picture of a group of similar ones of which none is labelled yet: "
    "the best beginning while the detector has seen little.",
    "quota": "The settings ask for a number of pictures with this animal, or of this site or kind; these fill it.",
    "random": "Chosen by lot. They show what the detector does not know that it does not know, and they keep the "
    "labelled pictures an honest sample. Please label them like all the others.",
}
SEVERAL = 25
"""Reasons for leaving pictures out are listed up to this many pictures."""

STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1d2529}"
    "h1{margin-bottom:.2rem}h2{margin-top:2.2rem}.lead{font-size:1.15rem}img{max-width:100%;border:1px solid #d5dade}"
    "table{border-collapse:collapse}th,td{text-align:left;vertical-align:top;padding:.35rem 1.2rem .35rem 0;"
    "border-bottom:1px solid #e3e7ea}td.n{text-align:right;font-variant-numeric:tabular-nums}"
    "code,pre{background:#f1f4f6;padding:.1rem .3rem}pre{padding:.7rem;white-space:pre-wrap}.quiet{color:#5b676e}"
    "@media print{body{margin:0;max-width:none}}"
)


def write_page(selected: Selected, next_command: str) -> Path:
    """Write ``report.html``, with sheet and map inside; returns its path."""
    output = selected.settings.output
    parts = [
        f"<h1>Which pictures to label next</h1><p class=lead>{_lead(selected)}</p>",
        f"<p>{escape(_first_up(selected.price.words()))}. The pictures lie in <code>images/</code>, the most wanted "
        f"first; <code>{SELECTION}</code> says of each why it was chosen.</p>",
        _kinds(selected),
        _image(output / SHEET, "chosen pictures", "What was chosen", _sheet_words(selected)),
        _classes(selected),
        _image(output / MAP, "map of the pool", "Map of the pool", MAP_WORDS),
        _every_pick(selected),
        _next(next_command),
        _notes(selected),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Which pictures to label next</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>{"".join(parts)}</html>\n'
    )
    write_text(output / PAGE, page)
    return output / PAGE


MAP_WORDS = (
    "Every dot is a picture; similar pictures lie close together. Good choices are spread over the whole map and dense "
    "where the detector is unsure. Large grey areas without a coloured dot or a cross are scenes that nobody will have "
    "looked at. The small pictures show what kind of scene lies around them. Only nearness means something here: left "
    "and right, up and down, and the distance of groups that lie far apart, do not."
)


def _lead(selected: Selected) -> str:
    clips = len({selected.records[pick.index].group for pick in selected.picks})
    whole = len({record.group for record in selected.records})
    text = (
        f"<b>{len(selected.picks):,} pictures</b> were chosen out of {len(selected.records):,} that nobody has labelled"
    )
    if whole < len(selected.records):
        text += f", from {clips:,} of {whole:,} clips and stills"
    return f"{text}."


def _kinds(selected: Selected) -> str:
    counts = Counter(pick.kind for pick in selected.picks)
    rows = "".join(
        f"<tr><td class=n><b>{counts[kind]:,}</b><td><b>{escape(_first_up(KIND_WORDS[kind]))}</b><br>"
        f"{escape(KIND_REASONS[kind])}"
        for kind in KIND_WORDS
        if counts[kind]
    )
    return f"<h2>Why these</h2><table>{rows}</table>"


def _sheet_words(selected: Selected) -> str:
    some = " Only a part is shown." if len(selected.picks) > selected.settings.sheet_pictures else ""
    words = f"Grouped by why they were chosen; the number is the place in the order in which to label.{some}"
    if selected.settings.models:
        words += (
            " Boxes are what the detector believes it sees, with how sure it is (0 to 1): guesses, often wrong here."
        )
    return words


def _classes(selected: Selected) -> str:
    pool = selected.pool
    if not pool.names or selected.pool.scores is None:
        return ""
    chosen = np.array([pick.index for pick in selected.picks], np.int64)
    rows = []
    for place, name in enumerate(pool.names):
        expected = pool.class_counts[:, place] >= EXPECTED
        critical = " <span class=quiet>(critical)</span>" if name in selected.settings.critical else ""
        share = int(expected[chosen].sum())
        known = f"<td class=n>{int(pool.centre_counts[:, place].sum()):,}" if len(pool.centres) else ""
        rows.append(
            f"<tr><td>{escape(name)}{critical}<td class=n>{int(expected.sum()):,}<td class=n>{share:,}"
            f"<td class=n>{pool.class_counts[chosen, place].sum():,.0f}{known}"
        )
    known = "<th>boxes labelled so far" if len(pool.centres) else ""
    return (
        "<h2>Which animals to expect</h2><p>Estimates of the detector, so only a rough guide. A rare animal that is "
        "not expected anywhere may still be there: that is what the random pictures are for.</p><table><tr><th>animal"
        f"<th>pictures of the pool<th>pictures chosen<th>boxes to expect{known}{''.join(rows)}</table>"
    )


def _image(path: Path, alt: str, title: str, words: str) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<h2>{escape(title)}</h2><p>{escape(words)}</p><img alt="{alt}" src="data:image/{kind};base64,{content}">'


def _every_pick(selected: Selected) -> str:
    """All picks with their reasons, folded away."""
    rows = []
    for rank, pick in enumerate(selected.picks, 1):
        boxes = f"{selected.pool.boxes[pick.index]:.1f}" if selected.boxes_known else ""
        key, reason = escape(selected.records[pick.index].key), escape(_first_up(pick.reason))
        rows.append(f"<tr><td class=n>{rank:,}<td>{key}<td>{reason}<td class=n>{boxes}")
    return (
        "<h2>Every picture and its reason</h2><details><summary>Show the list</summary><table><tr><th>place<th>picture"
        f"<th>why<th>boxes to expect{''.join(rows)}</table></details>"
    )


def _next(command: str) -> str:
    return (
        "<h2>What to do next</h2><ol><li>Look through the sheet. Too many of the same scene, or broken frames? Change "
        "a setting (docs/step3_active_learning.md) and run the same command again.<li>Pack the pictures for annotation "
        f"(with guidelines, and the detector's boxes to correct):<pre>{escape(command)}</pre><li>When the labels are "
        "back and merged, train again, and choose the next pictures with the new detector.</ol>"
    )


def _notes(selected: Selected) -> str:
    found = [f"<li>{escape(_first_up(note).rstrip('.'))}." for note in selected.notes]
    for reason, count in Counter(selected.left_out.values()).most_common():
        found.append(f"<li>{count:,} pictures were left out: they {escape(reason)}.")
    aside = sorted(selected.set_aside.items())
    found += [f"<li>Cannot be read: {escape(path)} ({escape(reason)})." for path, reason in aside[:SEVERAL]]
    if len(aside) > SEVERAL:
        found.append(f"<li>{len(aside) - SEVERAL:,} more cannot be read; {SELECTION} names them.")
    return f"<h2>Worth knowing</h2><ul>{''.join(found)}</ul>" if found else ""


def _first_up(text: str) -> str:
    """``text`` with a capital, unless it begins with the name of a file."""
    return text if "." in text.split(" ")[0] else text[:1].upper() + text[1:]
