"""CVAT for images 1.1: ``annotations.xml`` one ``image`` element for each picture, one ``box`` element for each box.

Source: docs.cvat.ai, "XML annotation format", version 1.1. Written so that CVAT takes it as annotations to correct:
make a task of ``images/`` with the labels of ``labels.json``, then upload ``annotations.xml`` as "CVAT 1.1".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from marauder.annotation.formats.base import ExchangeFormat, Item, Package
from marauder.annotation.formats.package_files import common_entries
from marauder.annotation.packing import Entry
from marauder.data.contact_sheets import colour_of
from marauder.data.formats.text import clean_text


class CvatExchange(ExchangeFormat):
    """CVAT's own XML."""

    name = "cvat"
    title = "CVAT for images XML"
    how_to = (
        'Loading it into CVAT: make a task, paste labels.json under "Raw" for its labels, choose the files of images/; '
        'then Actions, Upload annotations, "CVAT 1.1", annotations.xml. Send back: Export task dataset, '
        '"CVAT for images 1.1", without pictures.'
    )

    def entries(self, package: Package) -> Iterator[Entry]:
        yield Entry("annotations.xml", annotations_xml(package).encode("utf-8"))
        yield Entry("labels.json", _labels_json(package.names).encode("utf-8"))
        yield from common_entries(package)


def annotations_xml(package: Package) -> str:
    """The pre-labels as CVAT's XML; coordinates in pixels, four decimals."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta>"]
    lines += [
        f"    <task>\n      <name>{_element_text(package.batch)}</name>",
        f"      <size>{len(package.items)}</size>",
    ]
    lines += ["      <mode>annotation</mode>", "      <labels>"]
    for index, name in enumerate(package.names):
        lines += ["        <label>", f"          <name>{_element_text(name)}</name>"]
        lines += [f"          <color>{_colour(index)}</color>", "          <type>rectangle</type>"]
        lines += ["          <attributes></attributes>", "        </label>"]
    lines += ["      </labels>", "    </task>", "  </meta>"]
    for identity, item in enumerate(package.items):
        lines += _image_lines(identity, item, package.names)
    return "\n".join([*lines, "</annotations>"]) + "\n"


def _image_lines(identity: int, item: Item, names: Sequence[str]) -> list[str]:
    opening = f'  <image id="{identity}" name={_quoted(item.file)} width="{item.width}" height="{item.height}">'
    lines = [opening]
    for (x0, y0, x1, y1), index in zip(item.boxes.tolist(), item.classes.tolist()):
        place = f'xtl="{x0:.4f}" ytl="{y0:.4f}" xbr="{x1:.4f}" ybr="{y1:.4f}"'
        label = _quoted(names[index])
        lines.append(f'    <box label={label} source="auto" occluded="0" {place} z_order="0"></box>')
    return [*lines, "  </image>"]


def _labels_json(names: Sequence[str]) -> str:
    """The labels as CVAT's "Raw" label constructor takes them."""
    rows = [
        {"name": name, "color": _colour(index), "type": "rectangle", "attributes": []}
        for index, name in enumerate(names)
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


def _colour(index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour_of(index))


def _element_text(text: str) -> str:
    return escape(clean_text(text))


def _quoted(text: str) -> str:
    # Not ``clean_text``, which joins spaces and shortens: the name must come back as it went out.
    return str(quoteattr("".join(letter for letter in text if letter.isprintable())))
