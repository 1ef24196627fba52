"""Label Studio: ``tasks.json`` with pre-labels as predictions.

Sources: labelstud.io/guide/task_format ("Label Studio JSON format of annotated tasks"), /guide/predictions and
/tags/rectanglelabels: places are per cent of the picture, and a box turns about its top left corner.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from marauder.annotation.formats.base import ExchangeFormat, Item, Package
from marauder.annotation.formats.package_files import PICTURES, common_entries
from marauder.annotation.packing import Entry
from marauder.core.plain import Plain
from marauder.data.contact_sheets import colour_of
from marauder.data.formats.text import clean_text


class LabelStudioExchange(ExchangeFormat):
    """Label Studio's tasks."""

    name = "label_studio"
    title = "Label Studio JSON"
    how_to = (
        "Loading it into Label Studio: make a project, paste label_config.xml under Labeling Interface, Code. Unpack "
        "this zip into a folder of its own name below the one that LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names, start "
        "Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, add that folder as local storage (without "
        "syncing), then import tasks.json. Submit every task, also empty ones; a suggested box counts only once its "
        "task is submitted. Send back: Export, JSON."
    )

    def entries(self, package: Package) -> Iterator[Entry]:
        tasks = [_task(item, package) for item in package.items]
        yield Entry("tasks.json", (json.dumps(tasks, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))
        yield Entry("label_config.xml", label_config(package.names).encode("utf-8"))
        yield from common_entries(package)


def _task(item: Item, package: Package) -> Plain:
    # Local files are served below the folder that LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names.
    address = f"/data/local-files/?d={quote(f'{package.name}/{PICTURES}/{item.file}')}"
    data = {"image": address, "file": item.file, "batch": package.batch}
    if not len(item.boxes):
        return {"data": data, "predictions": []}
    result = []
    for position, (box, index) in enumerate(zip(item.boxes.tolist(), item.classes.tolist())):
        x0, y0, x1, y1 = box
        region: Plain = {
            "id": f"box{position}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": item.width,
            "original_height": item.height,
            "image_rotation": 0,
            "value": {
                "x": x0 / item.width * 100,
                "y": y0 / item.height * 100,
                "width": (x1 - x0) / item.width * 100,
                "height": (y1 - y0) / item.height * 100,
                "rotation": 0,
                "rectanglelabels": [package.names[index]],
            },
        }
        if item.scores is not None:
            # The box's own; the prediction's below is the task's, by which Label Studio sorts.
            region["score"] = round(float(item.scores[position]), 4)
        result.append(region)
    scores = item.scores.tolist() if item.scores is not None else []
    prediction = {"model_version": "prelabels", "result": result}
    if scores:
        prediction["score"] = round(sum(scores) / len(scores), 4)
    return {"data": data, "predictions": [prediction]}


def label_config(names: Sequence[str]) -> str:
    """The labelling interface: paste it under Settings, Labeling Interface, Code."""
    labels = []
    for index, name in enumerate(names):
        colour = "#{:02x}{:02x}{:02x}".format(*colour_of(index))
        labels.append(f'    <Label value={quoteattr(clean_text(name))} background="{colour}"/>\n')
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true" zoomControl="true"/>\n'
        '  <RectangleLabels name="label" toName="image" canRotate="false">\n'
        f"{''.join(labels)}  </RectangleLabels>\n</View>\n"
    )
