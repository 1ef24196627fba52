"""FathomNet exports: COCO JSON whose category ids are floats or missing, with UUID file names and pictures by URL.

Pictures need not be there: sizes are taken from the JSON then. A picture without boxes counts as unlabelled, since an
export lists the concepts somebody annotated and not that a picture was searched. The vehicle and its dive, read from
the URL, are the group: pictures of one dive show the same animals.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from marauder.core.plain import PlainMapping
from marauder.data.formats.coco import CocoReader
from marauder.data.formats.entries import Entry
from marauder.data.formats.source import Source

DIVE = re.compile(r"/(?P<vehicle>[^/]+)/images/(?P<dive>[^/]+)/[^/]+$")


class FathomNetReader(CocoReader):
    """COCO as FathomNet exports it; a box without a category becomes an ignored one."""

    name = "fathomnet"
    title = "FathomNet export"
    unboxed_pictures_are_labelled = False
    category_required = False
    pictures_required = False

    def files(self, source: Source) -> list[Path]:
        return [path for path in super().files(source) if "fathomnet.org" in source.marks(path).keys]

    def describe(self, row: PlainMapping, entry: Entry) -> None:
        super().describe(row, entry)
        url = entry.attributes.get("url") or row.get("flickr_url")
        match = DIVE.search(unquote(urlsplit(str(url)).path)) if url else None
        if match:
            entry.attributes["vehicle"] = match["vehicle"]
            entry.attributes["dive"] = match["dive"]
            entry.group = f"{match['vehicle']}/{match['dive']}"
