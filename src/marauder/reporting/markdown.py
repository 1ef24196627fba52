"""Markdown that no name can break: text escaped, tables, lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

# An underscore inside a word is plain text to CommonMark; only those at a word's edge are marks.
_SPECIAL = re.compile(r"([\\`*\[\]<>|~!$])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f\u0085\u2028\u2029]+")


def escape(text: str) -> str:
    """``text`` as one line that shows as it is (CommonMark with tables): marks escaped, line breaks as blanks."""
    # & first: what follows adds backslashes alone, which it would not touch.
    line = _BLANK.sub(" ", text).strip().replace("&", "&amp;")
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", line)
    # GitHub makes links of bare addresses; a backslash before the colon or dot prevents it.
    line = re.sub(r"(https?|ftp)(:)|(www)(\.)", lambda found: f"{found[1] or found[3]}\\{found[2] or found[4]}", line)
    # At the start of a line these open headings and lists, or make a heading of the line above.
    line = re.sub(r"^(#{1,6}|[-+])(?=\s|$)|^(?=[-=]+$)", lambda found: f"\\{found[0]}", line)
    # A numbered list: CommonMark takes up to nine digits.
    return re.sub(r"^(\d{1,9})([.)])(?=\s|$)", r"\1\\\2", line)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table: the columns ``text`` to the left, numbers to the right. All text is escaped."""
    rule = [":---" if column in text else "---:" for column in range(len(heads))]
    lines = [[escape(head) for head in heads], rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """A list, a line each, escaped."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def terms(lines: Sequence[tuple[str, str]]) -> str:
    """A list of names and values, escaped."""
    return "\n".join(f"- **{escape(name)}:** {escape(value)}" for name, value in lines)
