"""The README of a package: what is in it, how to load it, what to send back."""

from __future__ import annotations

from textwrap import fill
from typing import Literal

from marauder.annotation.formats.base import ExchangeFormat


def readme(batch: str, format: ExchangeFormat, part: Literal["first", "second"], pictures: int, suggested: bool) -> str:
    """The text of README.txt. ``suggested``: whether boxes of a model are in the package."""
    paragraphs = [f"Pictures to label: batch {batch}, {pictures} pictures."]
    if part == "second":
        paragraphs.append(
            "THIS PACKAGE IS FOR ANOTHER ANNOTATOR than the first one of this batch. Its pictures are labelled twice, "
            "to measure how well people agree. Whoever labels it must not see the other one's boxes; it has none to "
            "start from."
        )
    paragraphs += [
        "Please read guidelines/guidelines.html first (open it in any browser; it needs no network).",
        "images/ holds the pictures, classes.txt the class names in their order, SHA256SUMS the checksums of all files "
        "(check with: sha256sum -c SHA256SUMS).",
    ]
    if suggested:
        paragraphs.append(
            "Boxes that a model suggests are included. Correct them: move, rename, delete, and add what is missing."
        )
    paragraphs += [
        format.how_to,
        "Sending back: one zip (or folder) with the labels in this format; COCO, YOLO, Pascal VOC, CVAT for images "
        "1.1, Label Studio JSON, labelme, VIAME CSV and BIIGLE reports are all read. Keep the names of the pictures "
        "and the names of the classes as they are. Do not turn, crop, scale or convert pictures; they need not be "
        "sent back. Every picture is answered, also those with nothing in them: list them without boxes.",
    ]
    return "\n\n".join(fill(text, 100) for text in paragraphs) + "\n"
