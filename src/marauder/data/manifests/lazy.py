"""Manifests too large to become records: opened lazily, filtered by a query, counted and sampled by polars.

Ten million rows open, are filtered and sampled in seconds from Parquet; JSON lines become flat Parquet once
(``flat_cache``). A sample depends on the rows' keys and the seed alone: not on threads, order or what else is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.randomness import stream
from marauder.core.wording import to_type
from marauder.data.formats.coco import split_of_file
from marauder.data.manifests.flat_cache import attribute_column, flat_parts, flat_table
from marauder.data.manifests.format import METADATA, SOURCE
from marauder.data.manifests.parquet import FIXED, parquet_rows_at
from marauder.data.manifests.rows import PARQUET_SUFFIX, is_blank, is_manifest
from marauder.data.manifests.spec import find_spec, load_spec, require_files
from marauder.data.records import Problem

if TYPE_CHECKING:
    import polars as pl

ROW = "row"
"""Place of a row in its file: line (from 1) of JSON lines, row (from 0) of Parquet."""

OFFSET = "offset"
# Keys hashed at a time, which bounds the memory that their words take.
HASH_ROWS = 1_000_000

IN_MEMORY_BYTES = 64 << 20
"""JSON lines below this size are read each time; no cache is written beside them."""


@dataclass(frozen=True)
class Sample:
    """Rows that were drawn, and of how many."""

    rows: pl.DataFrame
    total: int


@dataclass(frozen=True)
class ManifestScan:
    """Rows of one manifest file or of several, one for each split.

    ``frame``: flat columns ``key``, ``group``, ``split``, ``source-ref``, ``width``, ``height``, ``box_count`` (ignored
    boxes left out), ``labelled``, ``row``, and every picture attribute by name (``attribute.<name>`` where a column has
    that name already). ``problems``: bad rows of JSON lines, left out. ``all_rows``: the frame before any filter.
    """

    frame: pl.LazyFrame
    files: Mapping[str, Path]
    problems: tuple[Problem, ...]
    all_rows: pl.LazyFrame

    def where(self, query: str | pl.Expr) -> ManifestScan:
        """Those rows for which the query (``data.slices.query``, or a polars expression) is true.

        Raises ``UserError`` for a query that cannot be read or asks for what is not there.
        """
        if isinstance(query, str):
            from marauder.data.slices.query import parse_query
            from marauder.data.slices.query_polars import to_polars

            query = to_polars(parse_query(query), self.frame.collect_schema())
        return replace(self, frame=self.frame.filter(query))

    def count(self) -> int:
        """Number of rows."""
        import polars as pl

        counted = self.frame.select(pl.len()).collect(engine="streaming")
        return int(counted.item())

    def sample(self, count: int, seed: int = 0, columns: Sequence[str] = ("split", "key", SOURCE)) -> Sample:
        """``count`` rows (all, where there are fewer), in the file's order, with ``columns`` and ``row``.

        A row is in the sample when the hash of (seed, key) is among the smallest: the same rows on any machine, and a
        smaller sample is part of a larger one.
        """
        import polars as pl

        keys = self.frame.select("split", ROW, "key").collect(engine="streaming")
        total = len(keys)
        picked = keys[_smallest(key_hashes(keys["key"], seed), count)].select("split", ROW)
        # Millions of keys must not lie in memory beside the columns that are read next.
        del keys
        wanted = list(dict.fromkeys([*columns, "split", ROW]))
        # Of all rows: those that were picked need no second look at the query's columns.
        near = self.all_rows.select(wanted).filter(pl.col(ROW).is_in(picked[ROW].unique().implode()))
        # nulls_equal: a manifest on its own has no split, and null joins with nothing by default.
        found = near.collect(engine="streaming").join(picked, on=["split", ROW], how="semi", nulls_equal=True)
        rows = found.sort("split", ROW, nulls_last=True).select(list(dict.fromkeys([*columns, ROW])))
        return Sample(rows, total)

    def contents(self, rows: pl.DataFrame) -> Iterator[tuple[Path, Plain]]:
        """The file and the whole JSON row of each row of a sample (which has ``split`` and ``row``)."""
        import polars as pl

        for split, file in self.files.items():
            of_file = rows.filter(pl.col("split").fill_null("") == split)
            numbers = of_file[ROW].to_list()
            if not numbers:
                continue
            if file.suffix.lower() == PARQUET_SUFFIX:
                yield from ((file, content) for content in parquet_rows_at(file, numbers))
                continue
            near = self.frame.filter(pl.col("split").fill_null("") == split, pl.col(ROW).is_in(numbers))
            with file.open("rb") as stream_of_lines:
                for offset in near.select(ROW, OFFSET).collect(engine="streaming").sort(ROW)[OFFSET]:
                    stream_of_lines.seek(offset)
                    yield file, json.loads(stream_of_lines.readline().lstrip(b"\xef\xbb\xbf"))


def scan(path: Path | str, clock: Clock | None = None) -> ManifestScan:
    """Open a manifest, a Parquet manifest, or a dataset.yaml of such, without reading its rows.

    JSON lines of ``IN_MEMORY_BYTES`` and more become Parquet the first time, which takes a while and asks the clock.
    Raises ``UserError`` for anything else.
    """
    import polars as pl

    place = Path(path).expanduser()
    spec_file = find_spec(place) if place.exists() else None
    if spec_file is not None:
        spec = load_spec(spec_file)
        require_files(spec, spec_file)
        files = spec.sources()
    else:
        split = split_of_file(Path(place.name)) if place.is_file() else None
        files = {split or "": place}
    problems: list[Problem] = []
    frames = []
    for split, file in files.items():
        if file.is_file() and is_blank(file):
            raise UserError(f"{file}: has no rows; write it again, or name another manifest")
        if not is_manifest(file):
            make = to_type("manifest", "write", "--input", file)
            raise UserError(f"{file}: no manifest; `{make} --output FOLDER` makes one")
        frame, found = _scan_file(file, clock)
        frames.append(frame.with_columns(pl.lit(split or None, dtype=pl.String).alias("split")))
        problems += found
    united = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
    return ManifestScan(united, files, tuple(problems), united)


def _scan_file(file: Path, clock: Clock | None) -> tuple[pl.LazyFrame, list[Problem]]:
    import polars as pl

    if file.suffix.lower() == PARQUET_SUFFIX:
        return _flattened(_scan_parquet(file, row_index_name=ROW), file), []
    if file.stat().st_size < IN_MEMORY_BYTES:
        problems: list[Problem] = []
        table = pl.from_arrow(flat_table(file, problems))
        assert isinstance(table, pl.DataFrame)
        return table.lazy().rename({"line": ROW}), problems
    parts, problems = flat_parts(file, clock)
    if not parts:
        raise UserError(f"{file}: no usable row in it; first: {next(iter(problems), 'it is empty')}")
    frames = [_scan_parquet(part) for part in parts]
    united = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
    return united.rename({"line": ROW}), problems


def _scan_parquet(file: Path, **options: Any) -> pl.LazyFrame:
    import polars as pl

    try:
        # A name may hold * or [. The schema is asked for now, since a scan opens nothing, and its errors name no file.
        frame = pl.scan_parquet(file, glob=False, **options)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({error}); restore it or write it again") from None
    return frame


def _flattened(frame: pl.LazyFrame, file: Path) -> pl.LazyFrame:
    """The columns of a scan, of a flat Parquet manifest or of one that mirrors JSON rows."""
    import polars as pl

    schema = frame.collect_schema()
    if SOURCE not in schema:
        raise UserError(f"{file}: has no column {SOURCE!r}, so it is not a manifest")
    source = pl.col(SOURCE)
    identity = pl.coalesce(pl.col("id"), source) if "id" in schema else source
    group = pl.coalesce(pl.col("group"), identity) if "group" in schema else identity
    built_in = [pl.col(ROW), source, identity.alias("key"), group.alias("group"), pl.lit(None).alias(OFFSET)]
    if "annotations" in schema:
        known = [name for name in ("labelled", "width", "height", "box_count") if name in schema]
        attributes = [pl.col(name) for name in schema.names() if name not in (*FIXED, ROW)]
        return frame.select(*built_in, *known, *attributes)
    label = next((name for name in schema if f"{name}{METADATA}" in schema), None)
    if label is None:
        raise UserError(f"{file}: has neither a column 'annotations' nor one for a label attribute and its metadata")
    size = pl.col(label).struct.field("image_size").list.first().struct
    annotations = pl.col(label).struct.field("annotations")
    measured = [
        annotations.is_not_null().alias("labelled"),
        size.field("width").alias("width"),
        size.field("height").alias("height"),
        annotations.list.len().fill_null(0).alias("box_count"),
    ]
    own = schema.get("attributes")
    names = [field.name for field in own.fields] if isinstance(own, pl.Struct) else []
    nested = [pl.col("attributes").struct.field(name).alias(attribute_column(name)) for name in names]
    return frame.select(*built_in, *measured, *nested)


def key_hashes(keys: pl.Series, seed: int) -> np.ndarray:
    """A 64-bit hash of (seed, key) for each text: uint64 (N,), the same on every machine and in every version.

    Words of 8 bytes are mixed in one after the other with the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014); the seed and the length come first.
    """
    start = np.uint64(stream(seed, "manifest-sample").integers(0, 2**64, dtype=np.uint64))
    parts = [_hash_block(keys[first : first + HASH_ROWS], start) for first in range(0, len(keys), HASH_ROWS)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hash_block(keys: pl.Series, start: np.uint64) -> np.ndarray:
    import pyarrow as pa

    array = keys.to_arrow().cast(pa.large_string())
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    # Seven bytes more, so that the last word may be read whole.
    data = np.concatenate([np.frombuffer(data_buffer or b"", np.uint8), np.zeros(8, np.uint8)])
    words = np.ndarray(len(data) - 7, np.dtype("<u8"), data, strides=(1,))
    starts, lengths = offsets[:-1], np.diff(offsets)
    hashes = _mixed(start ^ lengths.astype(np.uint64))
    rows: np.ndarray = np.flatnonzero(lengths > 0)
    place = 0
    while len(rows):
        left = np.minimum(lengths[rows] - place, 8).astype(np.uint64)
        masks = np.uint64(0xFFFFFFFFFFFFFFFF) >> (np.uint64(8) * (np.uint64(8) - left))
        hashes[rows] = _mixed(hashes[rows] ^ (words[starts[rows] + place] & masks))
        place += 8
        rows = rows[lengths[rows] > place]
    return hashes


def _mixed(values: np.ndarray) -> np.ndarray:
    # Products wrap at 2^64, as the mixer wants them.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _smallest(hashes: np.ndarray, count: int) -> np.ndarray:
    """Places of the ``count`` smallest hashes; of equal ones the first."""
    if count <= 0:
        return np.zeros(0, np.int64)
    if count >= len(hashes):
        return np.arange(len(hashes))
    limit = np.partition(hashes, count - 1)[count - 1]
    below = np.flatnonzero(hashes < limit)
    return np.sort(np.concatenate([below, np.flatnonzero(hashes == limit)[: count - len(below)]]))
