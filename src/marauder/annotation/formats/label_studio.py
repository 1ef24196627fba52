"""Label Studio: ``tasks.json`` with pre-labels as predictions; reads its JSON and JSON_MIN exports.

Sources: labelstud.io/guide/task_format ("Label Studio JSON format of annotated tasks"), /guide/predictions and
/tags/rectanglelabels: places are per cent of the picture, and a box turns about its top left corner.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from marauder.annotation.formats.base import AnnotationFormat, Item, Package, Reading, Size
from marauder.annotation.formats.collecting import (
    Box,
    Collector,
    clean_text,
    envelope,
    files_with,
    number,
    parse_json,
    rotated,
    sniff,
)
from marauder.annotation.formats.package_files import PICTURES, common_entries
from marauder.annotation.packing import Entry
from marauder.data.records import Attribute
from marauder.data.sheets import colour_of

LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels", "brushlabels", "keypointlabels")
PICTURE_CONTROLS = ("choices", "textarea", "rating", "number", "taxonomy", "relation", "datetime")
"""Controls that say something of the picture as a whole, or of a region that has its own entry."""
SHAPES = ("rectangle", "polygon", "ellipse", "brush", "keypoint")


class LabelStudioFormat(AnnotationFormat):
    """Label Studio's tasks."""

    name = "label_studio"
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

    def recognises(self, folder: Path) -> bool:
        return any(_looks_like_tasks(path) for path in files_with(folder, ".json"))

    def read(self, folder: Path, expected: Mapping[str, Size], names: Sequence[str] = ()) -> Reading:
        collector = Collector(folder, expected)
        files = files_with(folder, ".json")
        for path in [path for path in files if _looks_like_tasks(path)] or files:
            _read_file(path, collector)
        if not files:
            collector.problem(folder, "label-syntax", "no JSON in the delivery; export it as JSON from Label Studio")
        return collector.reading()


def _read_file(path: Path, collector: Collector) -> None:
    content = parse_json(path, collector)
    if content is None:
        return
    tasks = [content] if isinstance(content, dict) else content
    if not isinstance(tasks, list):
        collector.problem(path, "label-syntax", "not a list of tasks; export it as JSON from Label Studio")
        return
    for position, task in enumerate(tasks, 1):
        place = f"task {position}"
        if not isinstance(task, dict):
            collector.problem(path, "label-syntax", f"{place}: no mapping ({clean_text(task, 60)}); export it again")
        elif isinstance(task.get("data"), dict):
            _read_task(task, place, path, collector)
        else:
            _read_flat_task(task, place, path, collector)


def _read_task(task: dict[str, Any], place: str, path: Path, collector: Collector) -> None:
    """A task of the JSON export: ``data``, ``annotations`` (older: ``completions``)."""
    spellings = _names_in(task["data"], task.get("file_upload"))
    answers = task.get("annotations", task.get("completions"))
    known = collector.find(*spellings) or ""
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        message = f"{place}: no list of annotations; export the tasks with their annotations as JSON"
        collector.problem(path, "label-syntax", message, None, known)
        return
    done = [answer for answer in answers if not answer.get("was_cancelled")]
    if not done:
        if known:
            message = (
                f"{place}: {'skipped' if answers else 'not annotated'} in Label Studio; submit it, also when empty"
            )
            collector.problem(path, "not-answered", message, None, known)
        else:
            collector.open(path, None, *spellings)
        return
    file = collector.open(path, None, *spellings)
    if file is None:
        return
    if len(done) > 1:
        message = f"{place}: {len(done)} annotations; the one marked as ground truth, else the latest, is taken"
        collector.problem(path, "several-answers", message, None, file)
    chosen = max(done, key=lambda answer: (bool(answer.get("ground_truth")), str(answer.get("updated_at") or "")))
    result = chosen.get("result")
    if not isinstance(result, list):
        collector.problem(path, "label-syntax", f"{place}: its annotation has no list 'result'", None, file)
        collector.drop(file)
        return
    _add_regions(_regions(result), file, place, path, collector)


def _read_flat_task(task: dict[str, Any], place: str, path: Path, collector: Collector) -> None:
    """A task of the JSON_MIN export: the data's keys and, under the names of the controls, lists of values."""
    file = collector.open(path, None, *_names_in(task, None))
    if file is None:
        return
    regions = []
    for values in task.values():
        for value in values if isinstance(values, list) else []:
            if isinstance(value, dict) and (
                "x" in value or "points" in value or any(key in value for key in LABEL_KEYS)
            ):
                size = {key: value.get(key) for key in ("original_width", "original_height")}
                regions.append(
                    {**size, "value": value, "type": next((k for k in LABEL_KEYS if k in value), "rectangle")}
                )
    _add_regions(regions, file, place, path, collector)


def _names_in(data: Mapping[Any, Any], upload: object) -> list[str]:
    """What may name the picture: our own key first, then every text of the task's data."""
    texts = [data.get("file"), data.get("image"), upload, *data.values()]
    return [text for text in texts if isinstance(text, str)]


def _regions(result: list[Any]) -> list[dict[str, Any]]:
    """The regions of an annotation: entries with a place, with the labels that a separate control gave to their id."""
    rows = [row if isinstance(row, dict) else {"type": "unknown", "value": row} for row in result]
    labels: dict[str, list[Any]] = {}
    for row in rows:
        value = row.get("value")
        if row.get("type") == "labels" and isinstance(value, dict) and isinstance(value.get("labels"), list):
            labels[clean_text(row.get("id"))] = value["labels"]
    shaped = {clean_text(row.get("id")) for row in rows if row.get("type") in SHAPES}
    regions = []
    for row in rows:
        kind, value, identity = row.get("type"), row.get("value"), clean_text(row.get("id"))
        placed = isinstance(value, dict) and ("x" in value or "points" in value)
        if kind in PICTURE_CONTROLS or (kind == "labels" and (not placed or identity in shaped)):
            continue
        if isinstance(value, dict) and not any(key in value for key in LABEL_KEYS) and identity in labels:
            row = {**row, "value": {**value, "labels": labels[identity]}}
        regions.append(row)
    return regions


def _add_regions(regions: Sequence[Mapping[str, Any]], file: str, place: str, path: Path, collector: Collector) -> None:
    width, height = collector.expected[file]
    for position, region in enumerate(regions, 1):
        where = f"{place}, region {clean_text(region.get('id') or position, 40)}"
        value, kind = region.get("value"), str(region.get("type"))
        if position == 1:
            collector.scale(file, (region.get("original_width"), region.get("original_height")), path)
        if (
            not isinstance(value, dict)
            or not kind.startswith((*SHAPES, "labels"))
            or kind.startswith(("brush", "keypoint"))
        ):
            message = f"{where}: no box can be made of {clean_text(kind, 40)!r}; draw a box"
            collector.problem(path, "shape-unknown", message, None, file)
            continue
        box, converted = _box_of(value, width, height)
        if box is None:
            shown = clean_text({key: value.get(key) for key in ("x", "y", "width", "height", "points")}, 80)
            message = f"{where}: place {shown} is not usable numbers; draw it again"
            collector.problem(path, "number-invalid", message, None, file)
            continue
        labels = _labels(value)
        if not labels:
            collector.problem(path, "class-missing", f"{where}: no label; name its class", None, file)
            continue
        label = labels[0]
        if len(labels) > 1:
            message = f"{where}: several labels ({', '.join(labels[:6])}); which is meant? Keep one"
            collector.problem(path, "class-several", message, None, file)
        if converted:
            collector.problem(path, "shape-converted", f"{where}: the upright box around it is taken", None, file)
        collector.add(file, box, label, f"{where} {label!r}", path, None, _details(region))


def _box_of(value: Mapping[str, Any], width: int, height: int) -> tuple[Box | None, bool]:
    """The upright box of a region in pixels, and whether the region was something else."""
    if isinstance(value.get("points"), list):
        rows = [point if isinstance(point, list) and len(point) == 2 else (None, None) for point in value["points"]]
        pairs = [(number(x), number(y)) for x, y in rows]
        points = [(x * width / 100, y * height / 100) for x, y in pairs if x is not None and y is not None]
        return (envelope(points), True) if points and len(points) == len(pairs) else (None, False)
    ellipse = "radiusX" in value
    places = [
        number(value.get(key)) for key in ("x", "y", *(("radiusX", "radiusY") if ellipse else ("width", "height")))
    ]
    x, y, across, down = (place if place is not None else 0.0 for place in places)
    turn = number(value.get("rotation") or 0)
    if None in places or turn is None:
        return None, False
    x, across, y, down = x * width / 100, across * width / 100, y * height / 100, down * height / 100
    box = (x - across, y - down, x + across, y + down) if ellipse else (x, y, x + across, y + down)
    turned = turn % 360 != 0
    return (rotated(box, turn, (x, y)) if turned else box), ellipse or turned


def _labels(value: Mapping[str, Any]) -> list[str]:
    """The labels of a region, each once, of the first control that gave it any."""
    for key in LABEL_KEYS:
        labels = value.get(key)
        given = labels if isinstance(labels, list) else [labels]
        found = dict.fromkeys(clean_text(label) for label in given if isinstance(label, str) and label.strip())
        if found:
            return list(found)
    return []


def _details(region: Mapping[str, Any]) -> dict[str, Attribute]:
    """What the annotator said of a region beyond its class: the values of a per-region ``meta``."""
    meta = region.get("meta")
    text = meta.get("text") if isinstance(meta, dict) else None
    first = text[0] if isinstance(text, list) and text else text
    return {"note": clean_text(first)} if isinstance(first, str) and first.strip() else {}


def _task(item: Item, package: Package) -> dict[str, Any]:
    # Local files are served below the folder that LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names.
    address = f"/data/local-files/?d={quote(f'{package.name}/{PICTURES}/{item.file}')}"
    data = {"image": address, "file": item.file, "batch": package.batch}
    if not len(item.boxes):
        return {"data": data, "predictions": []}
    result = []
    for position, (box, index) in enumerate(zip(item.boxes.tolist(), item.classes.tolist())):
        x0, y0, x1, y1 = box
        region: dict[str, Any] = {
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


def _looks_like_tasks(path: Path) -> bool:
    text = sniff(path)
    start = text.lstrip("\ufeff \t\r\n")
    marks = ('"data"', '"rectanglelabels"', '"annotations"', '"completions"', '"annotation_id"', '"annotator"')
    if start.startswith("{"):
        return '"data"' in text and '"images"' not in text and '"annotations"' in text
    return start.startswith("[") and any(mark in text for mark in marks)
