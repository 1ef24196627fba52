"""Label Studio: its JSON and JSON_MIN exports.

Sources: labelstud.io/guide/task_format ("Label Studio JSON format of annotated tasks") and /tags/rectanglelabels:
places are per cent of the picture, and a box turns about its top left corner, an ellipse about its centre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.data.formats.base import Entry, Findings, Format, Label, Parsed, ReadOptions
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text, envelope, number, numbers, pairs, parse_json

LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels", "brushlabels", "keypointlabels")
PICTURE_CONTROLS = ("choices", "textarea", "rating", "number", "taxonomy", "relation", "datetime")
"""Controls that say something of the picture as a whole, or of a region that has its own entry."""
SHAPES = ("rectangle", "polygon", "ellipse", "brush", "keypoint")
TASK_MARKS = frozenset({"data", "completions", "annotation_id", "annotator", "rectanglelabels"})
"""Keys that a list of tasks has one of; lists with ``annotations`` alone are written by others."""


class LabelStudioFormat(Format):
    """Label Studio's tasks."""

    name = "label_studio"
    title = "Label Studio (JSON, JSON_MIN)"

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


def _entry(task: dict[str, Any], place: str, path: Path, findings: Findings) -> Entry:
    data = task.get("data")
    if isinstance(data, dict):
        entry = Entry(_names_in(data, task.get("file_upload")), path, relative=True)
        regions = _regions_of(task, entry, place, findings)
    else:
        entry = Entry(_names_in(task, None), path, relative=True)
        regions = _flat_regions(task, entry, place, findings)
    entry.labelled = regions is not None
    sizes = [numbers([region.get("original_width"), region.get("original_height")], 2) for region in regions or []]
    entry.width, entry.height = next((size for size in sizes if size and min(size) > 0), (0.0, 0.0))
    for position, region in enumerate(regions or [], 1):
        _add(region, f"{place}, region {clean_text(region.get('id') or position, 40)}", entry, findings)
    return entry


def _regions_of(task: Mapping[str, Any], entry: Entry, place: str, findings: Findings) -> list[dict[str, Any]] | None:
    """What was drawn in a task of the JSON export (``annotations``, older: ``completions``); ``None`` for no answer."""
    answers = task.get("annotations", task.get("completions"))
    kind = "label-syntax"
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        message = "no list of annotations; export the tasks with their annotations as JSON"
    elif not (done := [answer for answer in answers if not answer.get("was_cancelled")]):
        kind = "not-answered"
        message = f"{'skipped' if answers else 'not annotated'} in Label Studio; submit it, also when empty"
    else:
        chosen = max(done, key=lambda answer: (bool(answer.get("ground_truth")), str(answer.get("updated_at") or "")))
        if len(done) > 1:
            message = f"{place}: {len(done)} annotations; the one marked as ground truth, else the latest, is taken"
            findings.add("several-answers", message, entry.file, None, entry)
        if isinstance(chosen.get("result"), list):
            return _regions(chosen["result"])
        message = "its annotation has no list 'result'"
    findings.add(kind, f"{place}: {message}", entry.file, None, entry)
    return None


def _flat_regions(task: Mapping[str, Any], entry: Entry, place: str, findings: Findings) -> list[dict[str, Any]] | None:
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
    """What may name the picture: our own key first, then every text of the task's data."""
    texts = [data.get("file"), data.get("image"), upload, *data.values()]
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def _regions(result: Sequence[Any]) -> list[dict[str, Any]]:
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


def _add(region: Mapping[str, Any], where: str, entry: Entry, findings: Findings) -> None:
    """A region as a label of the entry, or a finding."""
    given, kind = region.get("value"), str(region.get("type"))
    value = given if isinstance(given, dict) else {}
    usable = isinstance(given, dict) and kind.startswith((*SHAPES, "labels"))
    label, names = _shape(value), _labels(value)
    told, message = "", ""
    if usable and kind.startswith("keypoint"):
        told, message = "shape-without-extent", "a point has no extent; draw a box"
    elif not usable or kind.startswith("brush"):
        told, message = "shape-unknown", f"no box can be made of {clean_text(kind, 40)!r}; draw a box"
    elif label is None:
        shown = clean_text({key: value.get(key) for key in ("x", "y", "width", "height", "points")}, 80)
        told, message = "number-invalid", f"place {shown} is not usable numbers; draw it again"
    elif not names:
        told, message = "class-missing", "no label; name its class"
    else:
        if len(names) > 1:
            several = f"{where}: several labels ({', '.join(names[:6])}); which is meant? Keep one"
            findings.add("class-several", several, entry.file, None, entry)
        if label.turn % 360 or not label.about_corner:
            told, message = "shape-converted", "the upright box around it is taken"
        label.class_name, label.place = names[0], f"{where} {names[0]!r}"
        meta = region.get("meta")
        text = meta.get("text") if isinstance(meta, dict) else None
        note = text[0] if isinstance(text, list) and text else text
        if isinstance(note, str) and note.strip():
            label.details = {"note": clean_text(note)}
        entry.labels.append(label)
    if told:
        findings.add(told, f"{where}: {message}", entry.file, None, entry)


def _shape(value: Mapping[str, Any]) -> Label | None:
    """The place of a region in fractions of the picture, its class still unnamed."""
    if isinstance(value.get("points"), list):
        points = pairs(value["points"])
        return Label(envelope([(x / 100, y / 100) for x, y in points]), "") if points else None
    ellipse = "radiusX" in value
    keys = ("x", "y", "radiusX", "radiusY") if ellipse else ("x", "y", "width", "height")
    place, turn = numbers([value.get(key) for key in keys], 4), number(value.get("rotation") or 0)
    if place is None or turn is None:
        return None
    x, y, across, down = (part / 100 for part in place)
    box = (x - across, y - down, x + across, y + down) if ellipse else (x, y, x + across, y + down)
    return Label(box, "", turn=turn, about_corner=not ellipse)


def _labels(value: Mapping[str, Any]) -> list[str]:
    """The labels of a region, each once, of the first control that gave it any."""
    for key in LABEL_KEYS:
        labels = value.get(key)
        given = labels if isinstance(labels, list) else [labels]
        found = [text for label in given if isinstance(label, str) and (text := clean_text(label))]
        if found:
            return list(dict.fromkeys(found))
    return []
