"""docs/formats.md has a row for every format that is read and for every kind of finding, in the group it belongs to."""

from __future__ import annotations

import re

from documents import REPOSITORY

from marauder.core import plugins
from marauder.data.check import DEFECTS
from marauder.data.repair import SET_ASIDE_KINDS

TABLE = re.compile(r"^\| (?P<head>[^|]+?) \|.*\n\|[-|]+\|\n(?P<rows>(?:\|.*\n)+)", re.MULTILINE)
ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def tables(head: str) -> list[list[str]]:
    """The names in the first column of every table whose first column is called ``head``."""
    text = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")
    return [ROW.findall(table["rows"]) for table in TABLE.finditer(text) if table["head"] == head]


def test_every_format_has_a_row() -> None:
    assert [sorted(names) for names in tables("format")] == [sorted(plugins.names("reader"))]


def test_the_order_in_which_formats_are_tried_is_the_real_one() -> None:
    text = " ".join((REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8").split())
    assert ", ".join(f"`{name}`" for name in plugins.names("reader")) in text


def test_every_kind_of_finding_has_a_row_in_its_group() -> None:
    aside, errors, warnings = tables("kind")
    of = {severity: {k for k, d in DEFECTS.items() if d.severity == severity} for severity in ("error", "warning")}
    assert sorted(aside) == sorted(SET_ASIDE_KINDS)
    assert sorted(errors) == sorted(of["error"] - {*SET_ASIDE_KINDS})
    assert sorted(warnings) == sorted(of["warning"])
