"""The package for the provider "Mindy Services": one zip of pictures, COCO pre-labels and guidelines.

What comes back is COCO too; ``prelabels.json``, sent back beside it, is not taken for an answer.
"""

from __future__ import annotations

from marauder.annotation.formats.coco import CocoExchange
from marauder.data.formats.coco import PRELABEL_MARK


class MindyExchange(CocoExchange):
    """COCO at the top of the zip, under a name that the provider does not overwrite by accident."""

    name = "mindy"
    title = "Mindy package (COCO JSON)"
    layout = "coco"
    # The reader of deliveries passes over files of this name.
    annotation_file = f"{PRELABEL_MARK}.json"
    how_to = (
        f"Loading it: {PRELABEL_MARK}.json is COCO: the list of pictures and classes, and boxes to start from where "
        "there are any. Send back COCO too, under the name annotations.json, with every picture in its list of images."
    )
