"""The settings of a YOLO data set: which file they are (``data.yaml``, darknet's ``obj.data``); the names in it."""

from __future__ import annotations

from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.yaml_text import parse_yaml
from marauder.data.formats.entries import SPLIT_NAMES, Findings
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text, lines_of, read_text, whole

SPLIT_KEYS = ("train", "val", "test")
UNLABELLED_KEY = "unlabelled"
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
MOST_UNNAMED = 10_000


def settings_file(source: Source) -> Path | None:
    """The data.yaml or obj.data of a folder, at its top."""
    candidates = [source.root / name for name in YAML_NAMES]
    tops = [name for name in source.files if "/" not in name and name.lower().endswith((".yaml", ".yml", ".data"))]
    candidates += [source.root / name for name in tops]
    return next((file for file in candidates if file.is_file() and is_settings(file)), None)


def settings_below(source: Source) -> list[Path]:
    """Files like data.yaml in the folders of a folder that has none itself."""
    found = [source.root / name for name in source.files if name.rpartition("/")[2] in YAML_NAMES]
    return [path for path in found if path.parent != source.root and is_settings(path)]


def is_settings(path: Path) -> bool:
    if path.suffix.lower() == ".data":
        return path.name.lower() == "obj.data"
    if path.suffix.lower() not in (".yaml", ".yml"):
        return False
    try:
        content = read_settings(path)
    except UserError:
        # A broken data.yaml is still one: reading it then names the line.
        return path.name in ("data.yaml", "data.yml")
    splits = {*SPLIT_NAMES, UNLABELLED_KEY} & content.keys()
    return "train" in content or (bool({"names", "nc"} & content.keys()) and bool(splits))


def read_settings(path: Path) -> Plain:
    """A YAML mapping, every value as the text that was written: names are no numbers, dates and truths."""
    findings = Findings()
    text = read_text(path, findings)
    if text is None:
        raise UserError(f"{path}: {findings.list[0].message}")
    content = parse_yaml(
        text, lambda line: f"{path}:{line}" if line is not None else str(path), as_written=True
    ).content
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}:1: expected 'key: value' lines, found {type(content).__name__}")
    return content


def read_darknet(path: Path, findings: Findings) -> Plain:
    """darknet's obj.data: ``key = value`` lines."""
    lines = [line.partition("=") for line in lines_of(read_text(path, findings) or "")]
    return {key.strip(): value.strip() for key, mark, value in lines if mark and value.strip()}


def names_of(stated: object, count: object, file: Path, findings: Findings) -> dict[int, str]:
    """Class names by number of ``names:`` and ``nc:``."""
    wanted = whole(count)
    if stated in (None, ""):
        if wanted is not None and wanted > MOST_UNNAMED:
            raise UserError(f"{file}: nc: {wanted} classes without a name; write names")
        return {index: f"class_{index}" for index in range(wanted or 0)}
    if not isinstance(stated, (dict, list)):
        raise UserError(f"{file}: names: expected a list of class names, or numbers with names")
    rows: dict[int, str] = {}
    for key, value in stated.items() if isinstance(stated, dict) else enumerate(stated):
        index = whole(key)
        if index is None or index < 0:
            raise UserError(f"{file}: names: the keys must be class numbers from 0, like '0: lionfish'")
        rows[index] = _name(value, file)
    end = max(rows, default=-1) + 1
    if end > max(1000, 10 * len(rows)):
        raise UserError(f"{file}: names: class number {end - 1} is far beyond {len(rows)} names; correct it")
    if gaps := [str(index) for index in range(end) if not rows.get(index)]:
        findings.add("names-missing", f"names: no name for class {', '.join(gaps[:8])}; write it", file)
    if wanted is not None and wanted != end:
        findings.add("names-missing", f"nc is {wanted}, and there are {end} names; correct one", file)
    return {index: rows.get(index) or f"class_{index}" for index in range(end)}


def _name(value: object, file: Path) -> str:
    if not isinstance(value, str):
        raise UserError(
            f"{file}: names: {clean_text(value, 60)} is not a class name; write text, in quotes if it has : or #"
        )
    return clean_text(value)
