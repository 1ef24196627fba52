"""Tables as lines of a terminal: columns side by side, no wider than the screen, and no word cut in two."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence

GAP = "  "
LEAST_TEXT = 16
"""A column of words is made no narrower than this many characters."""


def screen_width() -> int | None:
    """Characters of a line on standard output; ``None``: it is no terminal, and has no width to fit into."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return None


def table_lines(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Collection[int] = (),
    title: str = "",
    width: int | None = None,
) -> list[str]:
    """``title``, ``header`` (left out where all of it is empty) and ``rows``; columns ``numeric`` are to the right.

    What does not fit into ``width`` characters (``None``: everything fits) is wrapped between words, and where that is
    not enough the last columns continue below the first ones. No rows make no lines.
    """
    if not rows:
        return []
    shown = [list(header), *map(list, rows)] if any(header) else list(map(list, rows))
    widths = [max(len(row[place]) for row in shown) for place in range(len(header))]
    if width is not None:
        widths = _narrowed(shown, widths, width)
    parts = _folded(widths, width)
    lines = [title] if title else []
    for row in shown:
        for number, part in enumerate(parts):
            indent = GAP if number else ""
            lines += [f"{indent}{line}".rstrip() for line in _row(row, widths, part, numeric)]
    return lines


def wrapped(label: str, text: str, width: int | None = None) -> list[str]:
    """``text`` behind ``label``, in lines of ``width`` characters (``None``: in one) that all begin below the first;
    where the label leaves too little room, they are below it, a little to the right of where it begins."""
    if width is None or len(label) + len(text) <= width:
        return [label + text]
    if width - len(label) < LEAST_TEXT:
        indent = " " * min(len(label), 2 * len(GAP))
        # Some words must fit behind the indent, on however narrow a screen.
        return [label.rstrip(), *wrapped(indent, text, max(width, len(indent) + LEAST_TEXT))]
    return textwrap.wrap(
        text,
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _space(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _narrowed(rows: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> list[int]:
    """``widths`` where columns of words give way, the widest first, as far as their longest words let them."""
    least = [max((len(word) for row in rows for word in row[at].split()), default=0) for at in range(len(widths))]
    least = [min(own, max(word, LEAST_TEXT)) for own, word in zip(widths, least, strict=True)]
    found = list(widths)
    while _space(found) > width:
        at = max(range(len(found)), key=lambda place: found[place] - least[place])
        if found[at] <= least[at]:
            # It does not fit this way either: what is folded below need not be wrapped.
            return [min(own, max(LEAST_TEXT, width - len(GAP))) for own in widths]
        found[at] -= 1
    return found


def _folded(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """The columns that stand side by side, line by line."""
    parts: list[list[int]] = [[]]
    for at in range(len(widths)):
        room = None if width is None else width - (len(GAP) if len(parts) > 1 else 0)
        if parts[-1] and room is not None and _space([widths[place] for place in (*parts[-1], at)]) > room:
            parts.append([])
        parts[-1].append(at)
    return parts


def _row(row: Sequence[str], widths: Sequence[int], part: Sequence[int], numeric: Collection[int]) -> list[str]:
    cells = [_wrapped(row[at], widths[at]) for at in part]
    lines = []
    for number in range(max(map(len, cells))):
        words = [cell[number] if number < len(cell) else "" for cell in cells]
        padded = [
            word.rjust(widths[at]) if at in numeric else word.ljust(widths[at])
            for word, at in zip(words, part, strict=True)
        ]
        lines.append(GAP.join(padded))
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    # As it is where it fits: wrapping would change the spaces in it.
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
