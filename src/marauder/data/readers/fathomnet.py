"""FathomNet exports: COCO JSON whose category ids are floats or missing, with UUID file names and pictures by URL.

Pictures need not be there: sizes are taken from the JSON then. A picture without boxes counts as unlabelled, since an
export lists the concepts somebody annotated and not that a picture was searched. The vehicle and its dive, read from
the URL, are the group: pictures of one dive show the same animals.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from marauder.data.readers.base import Draft
from marauder.data.readers.coco import SNIFFED_BYTES, CocoReader, annotation_files

DIVE = re.compile(r"/(?P<vehicle>[^/]+)/images/(?P<dive>[^/]+)/[^/]+$")


class FathomNetReader(CocoReader):
    """Reads FathomNet's COCO exports."""

    name = "fathomnet"
    unboxed_pictures_are_labelled = False
    pictures_required = False

    def recognises(self, path: Path) -> bool:
        for file in annotation_files(path)[:3]:
            with file.open("rb") as stream:
                if b"fathomnet.org" in stream.read(SNIFFED_BYTES):
                    return True
        return False

    def describe(self, row: dict[str, Any], draft: Draft) -> None:
        super().describe(row, draft)
        url = draft.attributes.get("url") or row.get("flickr_url")
        match = DIVE.search(unquote(urlsplit(str(url)).path)) if url else None
        if match:
            draft.attributes["vehicle"] = match["vehicle"]
            draft.attributes["dive"] = match["dive"]
            draft.group = f"{match['vehicle']}/{match['dive']}"
