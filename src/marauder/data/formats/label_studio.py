"""Label Studio: its JSON and JSON_MIN exports.

Sources: labelstud.io/guide/task_format ("Label Studio JSON format of annotated tasks") and /tags/rectanglelabels:
places are per cent of the picture, and a box turns about its top left corner, an ellipse about its centre.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Entry, Findings, Label
from marauder.data.formats.shapes import Shape, centred, check_kind, outline, unusable, usable
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text, number, numbers, parse_json
from marauder.data.picture_files import is_picture

LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels", "brushlabels", "keypointlabels")
PICTURE_CONTROLS = ("choices", "textarea", "rating", "number", "taxonomy", "relation", "datetime")
"""Controls that say something of the picture as a whole, or of a region that has its own entry."""
KINDS = ("rectangle", "polygon", "ellipse", "labels")
SHAPES = (*KINDS[:3], "brush", "keypoint")
TASK_MARKS = frozenset({"data", "completions", "annotation_id", "annotator", "rectanglelabels"})
"""Keys that a list of tasks has one of; lists with ``annotations`` alone are written by others."""


class LabelStudioReader(Reader):
    """Label Studio's tasks."""

    name = "label_studio"
    title = "Label Studio JSON"

    def files(self, source: Source) -> list[Path]:
        return [path for path in source.with_suffix(".json") if _holds_tasks(source, path)]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        parsed = Parsed([])
        files = self.files(source) or source.with_suffix(".json")
        if not files:
            raise UserError(f"{source.path}: no JSON file in it; export it as JSON from Label Studio")
        for path in files:
            parsed.used.add(path)
            content = parse_json(path, findings)
            tasks = [content] if isinstance(content, dict) else content
            if isinstance(tasks, list):
                for position, task in enumerate(tasks, 1):
                    findings.tick()
                    if isinstance(task, dict):
                        parsed.entries.append(_entry(task, f"task {position}", path, findings))
                    else:
                        message = f"task {position}: no mapping ({clean_text(task, 60)}); export it again"
                        findings.add("label-syntax", message, path)
            elif content is not None:
                findings.add("label-syntax", "not a list of tasks; export it as JSON from Label Studio", path)
        return parsed


def _holds_tasks(source: Source, path: Path) -> bool:
    marks = source.marks(path)
    if marks.start.startswith("{"):
        return {"data", "annotations"} <= marks.keys and "images" not in marks.keys
    return marks.start.startswith("[") and not marks.keys.isdisjoint(TASK_MARKS)


def _entry(task: Plain, place: str, path: Path, findings: Findings) -> Entry:
    data = task.get("data")
    if isinstance(data, dict):
        entry = Entry(_names_in(data, task.get("file_upload")), path, relative=True)
        regions = _regions_of(task, entry, place, findings)
    else:
        entry = Entry(_names_in(task, task.get("file_upload")), path, relative=True)
        regions = _flat_regions(task, entry, place, findings)
    # Each region names the control, and so the picture, that it was drawn on.
    places = {str(region["to_name"]) for region in regions or [] if isinstance(region.get("to_name"), str)}
    if len(places) > 1 or any("item_index" in region for region in regions or []):
        message = f"{place}: labels of several pictures in one task; make a task of each picture, and export again"
        findings.add("picture-ambiguous", message, path, None, entry)
        regions = None
    entry.labelled = regions is not None
    sizes = [numbers([region.get("original_width"), region.get("original_height")], 2) for region in regions or []]
    entry.width, entry.height = next((size for size in sizes if size and min(size) > 0), (0.0, 0.0))
    for position, region in enumerate(regions or [], 1):
        where = f"{place}, region {clean_text(region.get('id') or position, 40)}"
        Shape(findings, entry, where).add(_label, region)
    return entry


def _regions_of(task: PlainMapping, entry: Entry, place: str, findings: Findings) -> list[Plain] | None:
    """What was drawn in a task of the JSON export (``annotations``, older: ``completions``); ``None`` for no answer."""
    answers = task.get("annotations", task.get("completions"))
    kind = "label-syntax"
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        message = "no list of annotations; export the tasks with their annotations as JSON"
    elif not (done := [answer for answer in answers if not answer.get("was_cancelled")]):
        kind = "not-answered"
        message = f"{'skipped' if answers else 'not annotated'} in Label Studio; submit it, also when empty"
    else:
        # Dates in ISO 8601 sort as text.
        chosen = max(done, key=lambda answer: (bool(answer.get("ground_truth")), str(answer.get("updated_at") or "")))
        if len(done) > 1:
            message = f"{place}: {len(done)} annotations; the one marked as ground truth, else the latest, is taken"
            findings.add("several-answers", message, entry.file, None, entry)
        if isinstance(chosen.get("result"), list):
            return _regions(chosen["result"])
        message = "its annotation has no list 'result'"
    findings.add(kind, f"{place}: {message}", entry.file, None, entry)
    return None


def _flat_regions(task: PlainMapping, entry: Entry, place: str, findings: Findings) -> list[Plain] | None:
    """What was drawn in a task of the JSON_MIN export, which has lists of values under the names of the controls."""
    values = [value for given in task.values() if isinstance(given, list) for value in given if isinstance(value, dict)]
    regions = [
        {**value, "value": value, "type": next((key for key in LABEL_KEYS if key in value), "rectangle")}
        for value in values
        if not {"x", "points", *LABEL_KEYS}.isdisjoint(value)
    ]
    if regions or not {"annotator", "annotation_id"}.isdisjoint(task):
        return regions
    message = f"{place}: no task of Label Studio; export as JSON or JSON_MIN"
    findings.add("label-syntax", message, entry.file, None, entry)
    return None


def _names_in(data: Mapping[Any, Any], upload: object) -> tuple[str, ...]:
    """What may name the picture: our own key first, then the usual one, then texts that end, as paths and addresses do,
    in the suffix of one. Any other text would find pictures, too: the station 12 is not 12.jpg."""
    texts = [data.get("file"), data.get("image"), upload]
    texts += [text for text in data.values() if isinstance(text, str) and any(map(is_picture, re.split("[?&#]", text)))]
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def _regions(result: Sequence[Any]) -> list[Plain]:
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


def _label(told: Shape, region: PlainMapping) -> Label:
    value, kind = region.get("value"), str(region.get("type"))
    check_kind(kind.removesuffix("labels") or kind, KINDS)
    if not isinstance(value, dict):
        raise unusable("region", value)
    turn, about_corner = number(value.get("rotation") or 0), False
    if isinstance(value.get("points"), list):
        box = outline("polygon", value["points"])
    elif "radiusX" in value:
        box = centred("ellipse", usable("ellipse", [value.get(side) for side in ("x", "y", "radiusX", "radiusY")], 4))
    else:
        x, y, across, down = usable("rectangle", [value.get(side) for side in ("x", "y", "width", "height")], 4)
        box, about_corner = (x, y, x + across, y + down), True
    if turn is None:
        raise unusable("rotation", value["rotation"])
    name = told.class_of(*_labels(value))
    if turn % 360 or not about_corner:
        told.converted(kind.removesuffix("labels") or "shape", turn)
    meta = region.get("meta")
    text = meta.get("text") if isinstance(meta, dict) else None
    note = clean_text(text[0] if isinstance(text, list) and text else text or "")
    # From per cent of the picture to the fractions that an Entry holds.
    x0, y0, x1, y1 = (side / 100 for side in box)
    details = {"note": note} if note else {}
    return Label((x0, y0, x1, y1), name, None, f"{told.place} {name!r}", False, details, turn, about_corner)


def _labels(value: PlainMapping) -> list[str]:
    """The labels of a region, of the first control that gave it any."""
    for key in LABEL_KEYS:
        labels = value.get(key)
        given = labels if isinstance(labels, list) else [labels]
        if found := [text for label in given if isinstance(label, str) and (text := clean_text(label))]:
            return found
    return []
