"""Writing any data set as golden manifests, one a split, with the dataset.yaml that names them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import TEMPORARY_SUFFIX, atomic_path, write_text
from marauder.core.layers import read_yaml_mapping
from marauder.core.plain import Plain, PlainMapping
from marauder.data.manifests.format import LABEL, METADATA, SOURCE, local_path, row_of
from marauder.data.manifests.parquet import write_parquet
from marauder.data.manifests.rows import JSON_SUFFIXES, PARQUET_SUFFIX
from marauder.data.manifests.spec import SPEC_FILE, SPLITS, find_spec
from marauder.data.records import Dataset, Record

FORMATS = {"manifest": JSON_SUFFIXES[0], "parquet": PARQUET_SUFFIX}
UNLABELLED = "unlabelled"


def write_manifests(
    dataset: Dataset,
    folder: Path | str,
    version: str | None = None,
    formats: Sequence[str] = ("manifest",),
    uris: Mapping[str, Path] | None = None,
    slices: Path | None = None,
    clock: Clock | None = None,
) -> Path:
    """Write ``golden_train``, ``golden_val``, ``golden_test`` and ``dataset.yaml`` to ``folder``; returns the last.

    ``formats``: ``manifest`` (JSON lines), ``parquet`` or both; dataset.yaml names the first. Labelled pictures need a
    split; those without labels go to ``golden_unlabelled``. Pictures stay where they are and are named by the path
    from ``folder``, or, below one of the folders of ``uris``, by the address that it stands for. Written again without
    a change, the files stay as they are to the byte; what a dataset.yaml there says of slices and DVC, and its version
    unless another is given, is kept. Raises ``UserError`` for records without a split or with one that is not
    train, val or test, for class names that are empty or given twice, and for a dataset.yaml there that is not ours.
    """
    root = Path(folder)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(f"format {', '.join(unknown) or 'missing'}: choose of {', '.join(FORMATS)}")
    _require_own_names(dataset)
    parts = _parts(dataset)
    if (root / SPEC_FILE).exists() and find_spec(root) is None:
        raise UserError(f"{root / SPEC_FILE}: is there, and describes no manifests; name another folder")
    root.mkdir(parents=True, exist_ok=True)
    _remove_strangers(root, parts, formats)
    clock = clock or Clock()
    sources = {}
    for record in dataset:
        clock.check()
        sources[record.key] = _source(record.picture, root, uris or {})
    for part, records in parts.items():
        if "manifest" in formats:
            _write_lines(root / f"golden_{part}{JSON_SUFFIXES[0]}", records, dataset.names, sources, clock)
        if "parquet" in formats:
            created = _now()
            write_parquet(
                root / f"golden_{part}{PARQUET_SUFFIX}",
                lambda chosen=records, date=created: _rows(chosen, dataset.names, sources, date, clock),  # type: ignore[misc]
            )
    content = _spec_text(dataset, list(parts), root, version, FORMATS[formats[0]], uris or {}, slices)
    if not (root / SPEC_FILE).is_file() or (root / SPEC_FILE).read_text(encoding="utf-8") != content:
        write_text(root / SPEC_FILE, content)
    return root / SPEC_FILE


def write_rows(path: Path, rows: Iterable[tuple[Path, Plain]]) -> int:
    """Write JSON rows, each from the manifest beside it, as a manifest; returns how many.

    Paths of pictures are made relative to the new place; addresses stay as they are.
    """
    count = 0
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as stream:
        for origin, row in rows:
            place = local_path(row[SOURCE], origin.parent, {})
            source = row[SOURCE] if place is None or "://" in row[SOURCE] else _source(place, path.parent, {})
            stream.write(json.dumps({**row, SOURCE: source}, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def _remove_strangers(root: Path, parts: PlainMapping, formats: Sequence[str]) -> None:
    """Delete manifests of an earlier, other content, and what a killed writer left of ours."""
    wanted = {f"golden_{part}{FORMATS[name]}" for part in parts for name in formats}
    for part in (*SPLITS, UNLABELLED):
        for suffix in FORMATS.values():
            name = f"golden_{part}{suffix}"
            for leftover in root.glob(f".{name}.*{TEMPORARY_SUFFIX}"):
                leftover.unlink(missing_ok=True)
            if name not in wanted:
                (root / name).unlink(missing_ok=True)


def _require_own_names(dataset: Dataset) -> None:
    twice = {name for index, name in enumerate(dataset.names) if name in dataset.names[:index]}
    told = [
        f"class {index} is {name!r}" for index, name in enumerate(dataset.names) if not name.strip() or name in twice
    ]
    if told:
        raise UserError(
            f"{dataset.source}: {', '.join(told)}: give every class a different name, in the source or with --names"
        )


def _parts(dataset: Dataset) -> dict[str, list[Record]]:
    if not len(dataset):
        raise UserError(f"{dataset.source}: no picture to write")
    parts: dict[str, list[Record]] = {}
    for record in dataset:
        part = UNLABELLED if not record.labelled else record.split
        if part not in (*SPLITS, UNLABELLED):
            raise UserError(
                f"{record.key}: split {part!r}; labelled pictures must be in train, val or test: give --fractions"
            )
        parts.setdefault(part, []).append(record)
    if parts.keys() == {UNLABELLED}:
        raise UserError(f"{dataset.source}: no picture is labelled; a data set needs some that are")
    return {name: parts[name] for name in (*SPLITS, UNLABELLED) if name in parts}


def _source(picture: Path, root: Path, uris: Mapping[str, Path]) -> str:
    place = Path(os.path.abspath(picture))  # noqa: PTH100 - links stay as they are
    for prefix, folder in uris.items():
        base = Path(os.path.abspath(folder))  # noqa: PTH100
        if place.is_relative_to(base):
            return f"{prefix.rstrip('/')}/{place.relative_to(base).as_posix()}"
    # Both sides resolved: a relative path through a linked folder leads elsewhere.
    return Path(os.path.relpath(place.parent.resolve() / place.name, root.resolve())).as_posix()


def _rows(
    records: Sequence[Record], names: Sequence[str], sources: Mapping[str, str], created: str, clock: Clock
) -> Iterator[Plain]:
    for record in records:
        clock.check()
        yield row_of(record, names, sources[record.key], created)


def _write_lines(
    path: Path, records: Sequence[Record], names: Sequence[str], sources: Mapping[str, str], clock: Clock
) -> None:
    # Compared under the date of the file that is there: a new date alone is no change.
    created = _created(path)
    if created is not None and _same(path, _lines(records, names, sources, created, clock)):
        return
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(_lines(records, names, sources, _now(), clock))


def _lines(
    records: Sequence[Record], names: Sequence[str], sources: Mapping[str, str], created: str, clock: Clock
) -> Iterator[str]:
    for row in _rows(records, names, sources, created, clock):
        yield json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _same(path: Path, lines: Iterator[str]) -> bool:
    with path.open("rb") as stream:
        return all(line.encode("utf-8") == stream.readline() for line in lines) and not stream.readline()


def _created(path: Path) -> str | None:
    """The date in the first labelled row of what is written already."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        try:
            row = json.loads(stream.readline())
            date = row.get(f"{LABEL}{METADATA}", {}).get("creation-date", "") if isinstance(row, dict) else ""
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None
    return date if isinstance(date, str) else None


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def _spec_text(
    dataset: Dataset,
    parts: Sequence[str],
    root: Path,
    version: str | None,
    suffix: str,
    uris: Mapping[str, Path],
    slices: Path | None,
) -> str:
    existing = read_yaml_mapping(root / SPEC_FILE)[0] if (root / SPEC_FILE).is_file() else {}
    content: Plain = {"version": version or str(existing.get("version", "1"))}
    content |= {part: f"golden_{part}{suffix}" for part in parts}
    if slices is not None:
        content["slices"] = Path(os.path.relpath(slices, root)).as_posix()
    # People wrote these, and no manifest could bring them back.
    content |= {name: existing[name] for name in ("slices", "dvc") if name in existing and name not in content}
    content["names"] = list(dataset.names)
    if uris:
        content["uris"] = {prefix: Path(os.path.relpath(folder, root)).as_posix() for prefix, folder in uris.items()}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
