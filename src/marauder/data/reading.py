"""One call that opens a data set of any known layout; a new layout joins through core.plugins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plugins import names as plugin_names
from marauder.core.plugins import resolve
from marauder.core.settings import read_yaml_mapping
from marauder.data.manifests.rows import JSON_SUFFIXES, PARQUET_SUFFIX, is_blank
from marauder.data.readers.base import Reader, ReadOptions
from marauder.data.records import Dataset

DETECTION_ORDER = ("manifest", "deepfish", "fathomnet", "voc", "coco", "yolo", "pictures")
"""The most particular layout first: a FathomNet export is also COCO. Bare pictures are what nothing else is."""


def read_dataset(
    path: Path | str,
    format: str = "auto",
    names: Sequence[str] | None = None,
    group_pattern: str | None = None,
    pictures: Path | str | None = None,
    parts: Sequence[str] | None = None,
    missing_label: str = "unlabelled",
    uris: Mapping[str, Path] | None = None,
) -> Dataset:
    """Read the data set at ``path`` (a folder, a manifest, a dataset.yaml, a data.yaml or a JSON file).

    ``format`` is a reader's name or ``auto``; the other values are those of ``readers.base.ReadOptions``. Bad pictures
    and label lines do not end the reading: they are in the data set's ``problems``. Raises ``UserError`` for a path
    that does not exist, that no reader recognises, or that holds no picture at all.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"{place}: no such file or folder; check the path")
    if is_empty(place):
        raise UserError(f"{place}: is empty; put labelled pictures into it (docs/data.md shows the layouts)")
    options = ReadOptions(
        names=tuple(names) if names is not None else None,
        group_pattern=group_pattern,
        pictures=Path(pictures) if pictures is not None else None,
        parts=tuple(parts) if parts is not None else None,
        missing_label=missing_label,
        uris=uris or {},
    )
    return choose_reader(place, format).read(place, options)


def refuse_output_among_pictures(output: Path, source: Path) -> None:
    """Raise ``UserError`` for an output in a folder that is read for every picture in it: the next call would read what
    this one writes."""
    inside = output.resolve().is_relative_to(source.resolve())
    if inside and source.is_dir() and not is_empty(source) and choose_reader(source).name == "pictures":
        raise UserError(
            f"{output}: lies in the folder of pictures {source}, and would be read as some of them; name "
            "an output outside of it"
        )


def is_empty(path: Path) -> bool:
    """Whether ``path`` is a folder without a file in it or below it; hidden ones do not count."""
    if not path.is_dir():
        return False
    found = (name for _, _, names in os.walk(path, followlinks=True) for name in names)
    return all(name.startswith(".") for name in found)


def choose_reader(path: Path, format: str = "auto") -> Reader:
    """The reader named ``format``, or the first that recognises ``path``. Raises ``UserError``."""
    if format != "auto":
        reader: Reader = resolve("reader", format)()
        return reader
    known = plugin_names("reader")
    for name in sorted(known, key=lambda name: DETECTION_ORDER.index(name) if name in DETECTION_ORDER else -1):
        reader = resolve("reader", name)()
        if reader.recognises(path):
            return reader
    if path.suffix.lower() in (*JSON_SUFFIXES, PARQUET_SUFFIX) and is_blank(path):
        raise UserError(f"{path}: has no rows; write it again, or name another manifest")
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        read_yaml_mapping(path)  # one that is no valid YAML is not recognised as anything: say its line
    raise UserError(
        f"{path}: not recognised as any of {', '.join(known)}; say which with --format, "
        "or see docs/data.md for the layouts"
    )
