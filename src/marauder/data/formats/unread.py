"""What lies beside what was read: pictures, labels, other formats, data sets of their own. Nothing is passed over in
silence: it is counted and reported with an example."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from marauder.core.errors import printable
from marauder.core.plugins import make
from marauder.core.plugins import names as plugin_names
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Findings
from marauder.data.formats.source import Source
from marauder.data.picture_files import is_picture, pointer_hint
from marauder.data.stored import RECORDS_FILE, STATE_FILE

LABEL_SUFFIXES = (".txt", ".xml", ".json", ".csv", ".jsonl", ".manifest", ".parquet")
SIDE_FILES = re.compile(
    r"^((readme.*|licen[cs]e.*|notes?|citation.*|changelog.*|requirements.*|classes|names|obj|labels|sha256sums)\.txt|"
    r"(dataset|organize|set_aside|labels)\.json|(records|hashes)\.jsonl|(frames|set_aside)\.csv|label_config\.xml)$",
    re.IGNORECASE,
)
"""What lies beside labels and is none: texts, and what our own commands and packages leave."""


def tell_unread(layout: Reader, source: Source, options: ReadOptions, parsed: Parsed, findings: Findings) -> None:
    """Add findings on what below the source belongs to nothing that was read."""
    # A folder of pictures is listed on its own, too.
    for name in dict.fromkeys(map(os.path.normpath, source.odd_names)):
        message = "its name is not UTF-8, so no label or list can name it; rename it (left out)"
        findings.add("name-unreadable", message, Path(printable(name)))
    root = parsed.root or source.root
    named = source.path.is_file() and source.path.suffix.lower() not in (".yaml", ".yml", ".data")
    if named or (root / RECORDS_FILE).is_file():
        return  # the one file that was named was read; what we wrote has only what is ours beside it
    pictures = [entry.picture for entry in parsed.entries if entry.picture is not None]
    used = {os.path.abspath(path) for path in (*parsed.used, *pictures)}  # noqa: PTH100 - of many files
    base, top = source.root.absolute(), f"{root.absolute()}/"
    places = (f"{base}/{name}" for name in source.files)
    rest = [Path(place) for place in places if place not in used and place.startswith(top)]
    if rest:
        # Links may lead to the same files.
        used = {os.path.realpath(path) for path in used}
        rest = [path for path in rest if os.path.realpath(path) not in used]
    foreign = _foreign_folders(rest, used)
    rest = [path for path in rest if not foreign & {*path.parents}]
    others = _other_formats(layout, source, {path for path in rest if not is_picture(path)}, findings)
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in rest:
        folder = path.parent.relative_to(base).as_posix().partition("/")[0]
        if is_picture(path) and options.pictures is None:
            groups.setdefault(("picture-unread", folder), []).append(path)
        elif path.suffix.lower() == ".dvc" and not path.with_suffix("").exists():
            message = f"{path.stem} is tracked by DVC and not here: run `dvc pull`"
            kind = "file-unread" if is_picture(path.stem) else "label-unreadable"
            findings.add(kind, message, source.shown(path))
        elif may_hold_labels(path) and (hint := pointer_hint(source.marks(path).start.encode()[:200])):
            findings.add("label-unreadable", hint, source.shown(path))
        elif may_hold_labels(path) and path not in others:
            groups.setdefault(("file-unread", folder), []).append(path)
    for (kind, folder), files in groups.items():
        what = "picture" if kind == "picture-unread" else "label file or other text"
        place = f"{base.name}/{folder}".rstrip("./")
        those = f"{what} in {place} belongs" if len(files) == 1 else f"{what}s in {place} belong"
        message = f"{len(files)} {those} to nothing that was read, such as {files[0].name} (left out)"
        findings.add(kind, message, source.shown(files[0]), count=len(files))
    for other in sorted(other for other in foreign if not (other / STATE_FILE).is_file()):
        message = "is a separate data set, which was not read; name it as an input to read it, too"
        findings.add("file-unread", message, source.shown(other))


def may_hold_labels(path: Path) -> bool:
    """Whether a file has a suffix of labels and is none of what lies beside them."""
    return path.suffix.lower() in LABEL_SUFFIXES and not SIDE_FILES.match(path.name)


def _foreign_folders(rest: Sequence[Path], used: set[str]) -> set[Path]:
    """Folders that are data sets of their own and of which nothing was read."""
    marks = {path.parent for path in rest if path.name in (STATE_FILE, "data.yaml", "dataset.yaml")}
    places = {f"{os.path.dirname(path)}/" for path in used}  # noqa: PTH120 - of many files
    return {folder for folder in marks if not any(place.startswith(f"{os.path.realpath(folder)}/") for place in places)}


def _other_formats(layout: Reader, source: Source, rest: set[Path], findings: Findings) -> set[Path]:
    """Files of other formats, told with the option that reads them."""
    found: set[Path] = set()
    for name in plugin_names("reader") if rest else ():
        # FathomNet's files are COCO files, so that each format would tell of the other's.
        if name in (layout.name, "pictures") or {name, layout.name} == {"coco", "fathomnet"}:
            continue
        files = [path.absolute() for path in make("reader", name).files(source)]
        files = [path for path in files if path in rest - found]
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            message = f"{files[0].name}{more}: in the format {name}, not read; --format {name} reads it instead"
            findings.add("format-unread", message, source.shown(files[0]), count=len(files))
            found |= set(files)
    return found
