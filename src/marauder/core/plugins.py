"""The one literal table of plug points, resolved lazily: naming an implementation imports it, listing them does not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from marauder.core.errors import UserError

TABLE: dict[str, dict[str, str]] = {
    "reader": {
        "yolo": "marauder.data.readers.yolo:YoloReader",
        "coco": "marauder.data.readers.coco:CocoReader",
        "voc": "marauder.data.readers.voc:VocReader",
        "fathomnet": "marauder.data.readers.fathomnet:FathomNetReader",
        "deepfish": "marauder.data.readers.deepfish:DeepFishReader",
    },
    "exporter": {
        "onnx": "marauder.export.onnx:OnnxExporter",
        "torchscript": "marauder.export.torchscript:TorchScriptExporter",
    },
}
"""Kind of plug point to implementation name to ``module:attribute``."""


def names(kind: str) -> list[str]:
    """Names of the implementations of a kind, in the table's order."""
    return list(TABLE[kind])


def resolve(kind: str, name: str) -> Any:
    """Import and return the implementation ``name`` of ``kind``; an unknown name raises ``UserError``."""
    table = TABLE[kind]
    if name not in table:
        raise UserError(f"no {kind} named {name!r}; choose one of: {', '.join(table)}")
    module, _, attribute = table[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "marauder":
            raise
        raise UserError(
            f"{kind} {name!r} needs the package {error.name!r}, which is not installed; "
            "run `make setup`, or install marauder with the matching extra"
        ) from None
