"""Plain YOLO: ``images/``, ``labels/`` with one text file for each picture, ``data.yaml`` and ``classes.txt``.

A label file without lines says that nothing is there; a picture without a label file was not answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from marauder.annotation.formats.base import ExchangeFormat, Item, Package
from marauder.annotation.formats.package_files import PICTURES, common_entries
from marauder.annotation.packing import Entry
from marauder.data.records import Record
from marauder.data.writers import label_text


class YoloExchange(ExchangeFormat):
    """YOLO detection labels, as Ultralytics reads them."""

    name = "yolo"
    title = "YOLO text files"
    how_to = (
        "Loading it: labels/ holds one text file a picture, one box a line: class number, centre x, centre y, width, "
        "height, as fractions of the picture; numbers count from 0 in the order of classes.txt. Send back labels/ with "
        "a file for every picture (an empty one where nothing is there), and classes.txt."
    )

    def entries(self, package: Package) -> Iterator[Entry]:
        # Both splits name the same folder: Ultralytics refuses a data.yaml that lacks one.
        content = {"path": ".", "train": PICTURES, "val": PICTURES, "names": dict(enumerate(package.names))}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        yield Entry("data.yaml", text.encode("utf-8"))
        for item in package.items:
            yield Entry(f"labels/{Path(item.file).stem}.txt", _label_text(item).encode("utf-8"))
        yield from common_entries(package)


def _label_text(item: Item) -> str:
    return label_text(Record(item.key, item.picture, item.width, item.height, item.boxes, item.classes))
