"""One row of a manifest: a picture with its boxes in the augmented-manifest convention of SageMaker Ground Truth.

A manifest is a file of JSON lines. ``source-ref`` names the picture; a label attribute of any name holds ``image_size``
and ``annotations``; ``<label>-metadata`` holds the class map and ``type: groundtruth/object-detection``. A row without
a label attribute is a picture without labels. Our own keys beside them: ``id``, ``group``, ``attributes`` (of the
picture), and further keys of an annotation (of the box; ``ignored`` marks one that neither rewards nor punishes).
Source: Amazon SageMaker Developer Guide, "Labeling job output data", bounding box job output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marauder.core.files import to_plain
from marauder.core.plain import Plain, PlainMapping
from marauder.data.records import Attribute, Record

LABEL = "objects"
"""Name of the label attribute that is written."""

BOX_TYPE = "groundtruth/object-detection"
CLASS_TYPE = "groundtruth/image-classification"
SOURCE, METADATA = "source-ref", "-metadata"
BOX_KEYS = ("class_id", "left", "top", "width", "height")
IGNORED = "ignored"
OWN_KEYS = ("id", "group", "attributes")
DECIMALS = 6


class RowError(ValueError):
    """A row that cannot be used at all; the message says why."""


@dataclass
class Annotation:
    """One box as a row states it: x0 y0 x1 y1 in pixels, the class's number in the row's class map, further keys."""

    box: tuple[float, float, float, float]
    class_id: int
    ignored: bool = False
    details: dict[str, Attribute] = field(default_factory=dict)


@dataclass
class Row:
    """What a row says. ``width``/``height``: 0 where not stated. ``mistakes``: annotations that were left out, why."""

    source: str
    identity: str = ""
    group: str = ""
    width: int = 0
    height: int = 0
    annotations: list[Annotation] = field(default_factory=list)
    class_map: dict[int, str] = field(default_factory=dict)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    labelled: bool = True
    mistakes: list[str] = field(default_factory=list)


def decode_row(line: bytes) -> Any:
    """Decode a JSON line. Raises ``RowError``, also for text with half of a surrogate pair (``\\ud800``): neither UTF-8
    nor Parquet can hold it, so that it could be read and never written."""
    try:
        content = json.loads(line)
        if b"\\u" in line:
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            f"half of a surrogate pair ({error.object[error.start]!r}) in its text; write both halves"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RowError(f"not valid JSON ({error})") from None
    return content


def parse_row(content: Any, label: str | None = None) -> Row:
    """Read one decoded JSON line. ``label``: the attribute with the boxes; ``None``: the last one of that type.

    Raises ``RowError`` for a row that names no picture. A bad annotation is left out and reported in ``mistakes``.
    """
    if not isinstance(content, dict):
        raise RowError(f"expected an object with {SOURCE!r}, found {type(content).__name__}")
    source = content.get(SOURCE)
    if not isinstance(source, str) or not source.strip():
        raise RowError(f"no {SOURCE!r}: the row names no picture")
    row = Row(source.strip(), identity=_text(content.get("id")), group=_text(content.get("group")))
    row.attributes = _picture_attributes(content)
    name = label if label is not None else label_of(content)
    value, metadata = (content.get(name), content.get(f"{name}{METADATA}")) if name is not None else (None, None)
    if value is None:
        row.labelled = False
        if isinstance(metadata, dict) and metadata.get("failure-reason"):
            row.mistakes.append(f"labelling failed: {metadata['failure-reason']}")
        elif isinstance(metadata, dict):
            row.mistakes.append(f"no {name!r} beside its metadata: nothing says what was labelled")
        return row
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        row.labelled = False
        row.mistakes.append(f"{name!r} holds no list 'annotations'")
        return row
    row.width, row.height = _image_size(value.get("image_size"))
    metadata = metadata if isinstance(metadata, dict) else {}
    row.class_map = _class_map(metadata.get("class-map"), row.mistakes)
    confidences = _confidences(metadata, len(value["annotations"]))
    for number, (entry, confidence) in enumerate(zip(value["annotations"], confidences), 1):
        try:
            row.annotations.append(_annotation(entry, confidence))
        except ValueError as error:
            row.mistakes.append(f"annotation {number}: {error}")
    return row


def label_of(content: PlainMapping) -> str | None:
    """Name of the attribute that holds boxes, by its metadata; the last of several, which adjusts those before it."""
    found = None
    for key, metadata in content.items():
        if key.endswith(METADATA) and isinstance(metadata, dict):
            name = key.removesuffix(METADATA)
            value = content.get(name)
            if metadata.get("type") == BOX_TYPE or (isinstance(value, dict) and "annotations" in value):
                found = name
    if found is None and isinstance(content.get(LABEL), dict):
        return LABEL
    if found in content:
        return found
    # Boxes without their metadata are boxes all the same.
    return next((key for key, value in content.items() if isinstance(value, dict) and "annotations" in value), found)


def row_of(
    record: Record, names: Sequence[str], source: str, created: str, job_name: str = "marauder", label: str = LABEL
) -> Plain:
    """The row of a record. ``names``: the data set's, all of which stand in the class map; ``source``: what the row
    calls the picture; ``created``: ISO 8601 date and time of the labels."""
    row: Plain = {SOURCE: source, "id": record.key, "group": record.group}
    if record.attributes:
        row["attributes"] = to_plain(dict(sorted(record.attributes.items())))
    if not record.labelled:
        return row
    annotations = list(_annotation_rows(record))
    row[label] = {
        "image_size": [{"width": record.width, "height": record.height, "depth": 3}],
        "annotations": annotations,
    }
    row[f"{label}{METADATA}"] = {
        "objects": [{"confidence": 1.0}] * len(annotations),
        "class-map": {str(index): name for index, name in enumerate(names)},
        "type": BOX_TYPE,
        "human-annotated": "yes",
        "creation-date": created,
        "job-name": job_name,
    }
    return row


def _annotation_rows(record: Record) -> Iterator[Plain]:
    for index, (class_id, (x0, y0, x1, y1)) in enumerate(zip(record.classes.tolist(), record.boxes.tolist())):
        sides = (x0, y0, x1 - x0, y1 - y0)
        entry: Plain = dict(zip(BOX_KEYS, (class_id, *(_number(side) for side in sides))))
        if record.ignored[index]:
            entry[IGNORED] = True
        for name, column in record.box_attributes.items():
            value = to_plain(column[index])
            if value is not None and value != "":  # NaN and "": not said
                entry[name] = value
        yield entry


def _number(value: float) -> int | float:
    rounded = round(value, DECIMALS)
    return int(rounded) if rounded.is_integer() else rounded


def _annotation(entry: Any, confidence: float | None) -> Annotation:
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, found {type(entry).__name__}")
    lacking = [key for key in BOX_KEYS if key not in entry]
    if lacking:
        raise ValueError(f"without {', '.join(lacking)}")
    try:
        class_number, left, top, width, height = (float(entry[key]) for key in BOX_KEYS)
    except (TypeError, ValueError):
        raise ValueError(f"{[entry[key] for key in BOX_KEYS]} are not five numbers") from None
    if not all(math.isfinite(value) for value in (class_number, left, top, width, height)):
        raise ValueError("not finite")
    if not class_number.is_integer():
        raise ValueError(f"class_id {entry['class_id']} is not a whole number")
    details = {name: value for name, value in entry.items() if name not in (*BOX_KEYS, IGNORED) and _is_plain(value)}
    if confidence is not None:
        details.setdefault("confidence", confidence)
    box = (left, top, left + width, top + height)
    return Annotation(box, int(class_number), bool(entry.get(IGNORED, False)), details)


def _picture_attributes(content: PlainMapping) -> dict[str, Attribute]:
    """Our ``attributes``, classes of the whole picture that Ground Truth gave, and plain values beside them."""
    found: dict[str, Attribute] = {}
    for key, value in content.items():
        metadata = content.get(f"{key}{METADATA}")
        if isinstance(metadata, dict):
            if metadata.get("type") == CLASS_TYPE and isinstance(metadata.get("class-name"), str):
                found[key] = metadata["class-name"]
        elif key not in (SOURCE, *OWN_KEYS) and not key.endswith(METADATA) and _is_plain(value):
            found[key] = value
    own = content.get("attributes")
    if isinstance(own, dict):
        found |= {str(name): value for name, value in own.items() if _is_plain(value)}
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _image_size(value: Any) -> tuple[int, int]:
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return 0, 0
    sides = (first.get("width"), first.get("height"))
    if not all(isinstance(side, (int, float)) and math.isfinite(side) and side > 0 for side in sides):
        return 0, 0
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]  # both are numbers: just looked at


def _class_map(value: Any, mistakes: list[str]) -> dict[int, str]:
    found = {}
    for key, name in value.items() if isinstance(value, dict) else ():
        try:
            found[int(key)] = str(name)
        except ValueError:
            mistakes.append(f"class-map: {key!r} is not a whole number")
    return found


def _confidences(metadata: PlainMapping, count: int) -> list[float | None]:
    """What a machine said of each box; ``None`` for boxes that people drew."""
    objects = metadata.get("objects")
    if metadata.get("human-annotated") != "no" or not isinstance(objects, list) or len(objects) != count:
        return [None] * count
    values = [entry.get("confidence") if isinstance(entry, dict) else None for entry in objects]
    return [float(value) if isinstance(value, (int, float)) else None for value in values]


def local_path(source: str, folder: Path, uris: Mapping[str, Path]) -> Path | None:
    """Where the picture that a row calls ``source`` lies: by the longest beginning among ``uris``, as ``file://``
    address, or as path relative to the manifest's ``folder``. ``None``: an address without a local place.

    An address never leads out of the folder that stands for its beginning.
    """
    from urllib.parse import unquote, urlsplit

    for prefix in sorted(uris, key=len, reverse=True):
        if source.startswith(prefix):
            inside = [part for part in source[len(prefix) :].split("/") if part not in ("", ".", "..")]
            return uris[prefix].joinpath(*inside)
    if source.startswith("file://"):
        try:
            return Path(unquote(urlsplit(source).path))
        except ValueError:  # file://[: no address at all
            return None
    if "://" in source:
        return None
    return folder / source
