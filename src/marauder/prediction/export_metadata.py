"""What exported files say of themselves, as Ultralytics and Marauder write it into ONNX and TorchScript files."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.models.files import operating_confidence
from marauder.prediction.predictor import Description, InputShape

DEFAULT_STRIDE = 32
DEFAULT_SIZE = 640


def describe_exported(path: Path, metadata: Mapping[str, str], accepts: InputShape | None = None) -> Description:
    """The description in the metadata of an exported detector.

    ``metadata``: values as text, Python or JSON literals. ``accepts``: what the file itself takes; ``None``: as the
    metadata says. Raises ``UserError`` for a file without class names, for tasks other than detection, and for graphs
    that suppress boxes themselves. (Heads that pick boxes without suppression are none of these.)
    """
    values = {key: _literal(text) for key, text in metadata.items()}
    names = values.get("names")
    if not isinstance(names, (dict, list)) or not names:
        raise UserError(
            f"{path}: says nothing of its classes; export it with Marauder or Ultralytics, which write them into the "
            "file, or put it into a predictor folder with its names"
        )
    if values.get("task", "detect") != "detect":
        raise UserError(f"{path}: was made for the task {values['task']}; expected a detector")
    said = values.get("args")
    arguments: Plain = said if isinstance(said, dict) else {}
    if arguments.get("nms") or values.get("nms"):
        raise UserError(f"{path}: applies its own non-maximum suppression; export it again without nms")
    size = _size(values.get("imgsz"))
    if accepts is None:
        dynamic = bool(arguments.get("dynamic") or values.get("dynamic"))
        accepts = InputShape() if dynamic else InputShape(int(values.get("batch") or 1), size)
    # JSON makes text of the classes' numbers, and as text 10 comes before 2.
    by_number = names if isinstance(names, list) else [names[key] for key in sorted(names, key=int)]
    stride = int(values.get("stride") or DEFAULT_STRIDE)
    return Description(
        tuple(str(name) for name in by_number),
        max(accepts.size or size),
        stride,
        accepts,
        metadata,
        operating_confidence(values),
    )


def _literal(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    # Ultralytics writes JSON into TorchScript, and Python literals into ONNX.
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, (list, tuple)) and value:
        return int(value[0]), int(value[-1])
    return (int(value), int(value)) if isinstance(value, int) else (DEFAULT_SIZE, DEFAULT_SIZE)
