"""A JSON-lines manifest as flat Parquet columns: made once, kept beside it, trusted while size and time are the same.

Text is slow to search: what a query asks for is a few numbers a row, hidden in a kilobyte of JSON. Blocks of lines are
parsed by Arrow where their rows are as ``format.row_of`` writes them, and by ``format.parse_row`` where they are not,
so that both give the same columns.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.environment import cache_folder
from marauder.core.errors import UserError
from marauder.core.files import TEMPORARY_SUFFIX, fingerprint, read_json, write_json
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.data.manifests.format import (
    BOX_KEYS,
    IGNORED,
    METADATA,
    OWN_KEYS,
    SOURCE,
    RowError,
    decode_row,
    label_of,
    parse_row,
)
from marauder.data.manifests.journal import stamp_of
from marauder.data.records import Attribute, Problem

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
INDEX = "index.json"
BLOCK_BYTES = 32 << 20
ARROW_BLOCK_BYTES = 4 << 20
BUILT_IN = (SOURCE, "key", "group", "labelled", "width", "height", "box_count", "line", "offset")
# Another process may be making the same cache now: only what has lain still for so long is a leftover.
ABANDONED_SECONDS = 3600.0
MOST_PROBLEMS = 1000
"""Problems kept; a file of ten million bad rows says no more than one of a thousand."""


def flat_parts(path: Path, clock: Clock | None = None) -> tuple[list[Path], list[Problem]]:
    """The Parquet files that hold the columns of a JSON-lines manifest, and what was wrong with its rows.

    Columns: those of ``BUILT_IN`` (``line`` from 1, ``offset`` in bytes; ``box_count`` as stated, before boxes that
    cannot be used are dropped) and one for each picture attribute. They lie in ``.<name>.cache`` beside the manifest,
    or in the cache folder where that cannot be written. Making them asks the clock between blocks (``Interrupted``).
    """
    folder = _folder(path)
    found = _valid(folder, path)
    if found is not None:
        return found
    _remove_abandoned(folder)
    # A folder of its own for each process: two may convert the same manifest at once.
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    temporary.mkdir(parents=True)
    try:
        _convert(path, temporary, clock)
        # A folder cannot be replaced in one step; who reads in between finds no index and makes a cache itself.
        shutil.rmtree(folder, ignore_errors=True)
        try:
            temporary.rename(folder)
        except OSError:
            if _valid(folder, path) is None:  # another process may have been quicker
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    found = _valid(folder, path)
    if found is None:
        raise UserError(f"{path}: changed while it was read; run again when it is no longer being written")
    return found


def flat_table(path: Path, problems: list[Problem]) -> pa.Table:
    """The same columns in memory: for small manifests."""
    import pyarrow as pa

    tables = list(_tables(path, problems, None))
    if not tables:
        return pa.table({name: pa.array([], kind) for name, kind in _built_in_types().items()})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowInvalid:
        # One attribute holds text here and numbers there.
        schema = _united(tables)
        return pa.concat_tables([_cast(table, schema) for table in tables], promote_options="default")


def _united(tables: list[pa.Table]) -> dict[str, pa.DataType]:
    import pyarrow as pa

    kinds: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    numbers = {pa.int64(), pa.float64()}
    return {
        name: next(iter(found)) if len(found) == 1 else pa.float64() if found <= numbers else pa.string()
        for name, found in kinds.items()
    }


def _cast(table: pa.Table, kinds: dict[str, pa.DataType]) -> pa.Table:
    import pyarrow as pa

    return table.cast(pa.schema([(name, kinds[name]) for name in table.column_names]))


def _folder(path: Path) -> Path:
    if os.access(path.parent, os.W_OK):
        return path.with_name(f".{path.name}.cache")
    return cache_folder() / "manifests" / fingerprint(str(path.absolute()))[:16]


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed processes left: half-made caches into which nothing was written for long."""
    for leftover in folder.parent.glob(f"{folder.name}.*{TEMPORARY_SUFFIX}"):
        latest = max((file.stat().st_mtime for file in (leftover, *leftover.glob("*"))), default=0.0)
        if time.time() - latest > ABANDONED_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _identity(path: Path) -> list[Any]:
    return [VERSION, *stamp_of(path)[1:3]]


def _valid(folder: Path, path: Path) -> tuple[list[Path], list[Problem]] | None:
    if not (folder / INDEX).is_file():
        return None
    index = read_json(folder / INDEX)
    parts = [folder / name for name in index.get("parts", [])]
    if index.get("identity") != _identity(path) or not all(part.is_file() for part in parts):
        return None
    return parts, [Problem(**problem) for problem in index["problems"]]


def _convert(path: Path, folder: Path, clock: Clock | None) -> None:
    """Write parts, a new one whenever a block's columns or their types differ, then the index that makes them count."""
    import pyarrow.parquet as pq

    # Taken before reading: if the manifest changes meanwhile, the cache is worthless and not wrong.
    identity = _identity(path)
    problems: list[Problem] = []
    parts: list[str] = []
    writer, schema = None, None
    try:
        for table in _tables(path, problems, clock):
            if writer is None or table.schema != schema:
                if writer is not None:
                    writer.close()
                schema = table.schema
                parts.append(f"part-{len(parts):05d}.parquet")
                writer = pq.ParquetWriter(folder / parts[-1], schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    told = [{name: getattr(problem, name) for name in Problem.__slots__} for problem in problems[:MOST_PROBLEMS]]
    write_json(folder / INDEX, {"identity": identity, "parts": parts, "problems": told})


def _tables(path: Path, problems: list[Problem], clock: Clock | None) -> Iterator[pa.Table]:
    size = path.stat().st_size
    fast: _ArrowBlocks | None = None
    large = size > 4 * BLOCK_BYTES
    progress = Progress(f"reading {path.name} once", size >> 20, "MB") if large else None
    for block, line, offset in _blocks(path):
        if clock is not None:
            clock.check()
        if fast is None:
            fast = _ArrowBlocks(block)
        table = fast.table(block, line, offset)
        if table is None:
            table = _plain_table(path, block, line, offset, problems)
        if table.num_rows:
            yield table
        if progress is not None:
            progress.advance(len(block) >> 20)
    if progress is not None:
        progress.close()


def _blocks(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Whole lines, with the number of the first (from 1) and the place of its first byte."""
    line, offset, rest = 1, 0, b""
    with path.open("rb") as stream:
        while chunk := stream.read(BLOCK_BYTES):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                continue
            block, rest = rest + chunk[:cut], chunk[cut:]
            yield block, line, offset
            line, offset = line + block.count(b"\n"), offset + len(block)
    if rest:
        yield rest, line, offset


def _built_in_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    text, whole = pa.string(), pa.int32()
    return dict(zip(BUILT_IN, (text, text, text, pa.bool_(), whole, whole, whole, pa.int64(), pa.int64())))


class _ArrowBlocks:
    """Parses blocks of rows of one shape with Arrow. ``first``: lines that show the shape."""

    def __init__(self, first: bytes) -> None:
        self.label: str | None = None
        # Rows without labels may come first, so that one line is not enough.
        for line in first.split(b"\n", 200)[:200]:
            try:
                content = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
                continue
            self.label = label_of(content) if isinstance(content, dict) else None
            if self.label is not None:
                break
        self.dates: set[str] = set()

    def table(self, block: bytes, line: int, offset: int) -> pa.Table | None:
        """The block's columns; ``None`` where a row is not as we write them, so that each must be looked at."""
        import pyarrow as pa

        if self.label is None:
            return None
        try:
            raw = self._read(block)
        except pa.ArrowInvalid:
            return None
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
        starts = np.concatenate([[0], ends[: raw.num_rows - 1]]).astype(np.int64)
        # Arrow passes over blank lines, after which line numbers and offsets would be wrong.
        if raw.num_rows != len(ends) + (not block.endswith(b"\n")) or not self._is_ours(raw.schema):
            return None
        columns = self._built_in(raw)
        if columns is None:
            return None
        columns["line"] = pa.array(np.arange(line, line + raw.num_rows), pa.int64())
        columns["offset"] = pa.array(starts + offset, pa.int64())
        return pa.table(columns | self._attributes(raw))

    def _read(self, block: bytes) -> pa.Table:
        import pyarrow as pa
        import pyarrow.json as pj

        options = pj.ReadOptions(block_size=ARROW_BLOCK_BYTES)
        stated = pa.schema([("attributes", pa.struct([(name, pa.string()) for name in sorted(self.dates)]))])
        parsing = pj.ParseOptions(explicit_schema=stated if self.dates else None)
        raw = pj.read_json(pa.py_buffer(block), read_options=options, parse_options=parsing)
        if "attributes" in raw.schema.names and pa.types.is_struct(raw.schema.field("attributes").type):
            # Arrow takes text that looks like a date for one, and would write it in another way.
            dates = {field.name for field in raw.schema.field("attributes").type if pa.types.is_temporal(field.type)}
            if dates:
                self.dates |= dates
                return self._read(block)
        return raw

    def _is_ours(self, schema: pa.Schema) -> bool:
        import pyarrow as pa

        known = {SOURCE, *OWN_KEYS, self.label, f"{self.label}{METADATA}"}
        texts = [schema.field(name).type for name in (SOURCE, "id", "group") if name in schema.names]
        if not {SOURCE, self.label} <= set(schema.names) <= known or not all(map(pa.types.is_string, texts)):
            return False
        if "attributes" in schema.names and not pa.types.is_struct(schema.field("attributes").type):
            return False
        value = schema.field(self.label).type
        if not pa.types.is_struct(value):
            return False
        shape = {field.name: field.type for field in value}
        return _is_list_of(shape.get("image_size"), ("width", "height"), whole=True) and (
            "annotations" in shape and (_is_empty(shape["annotations"]) or _is_list_of(shape["annotations"], BOX_KEYS))
        )

    def _built_in(self, raw: pa.Table) -> Plain | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        source = raw.column(SOURCE).combine_chunks()
        value = raw.column(self.label).combine_chunks()
        sizes, annotations = value.field("image_size"), value.field("annotations")
        labelled = pc.is_valid(value)
        stated = pc.equal(pc.list_value_length(sizes), 1)
        # Unlabelled rows hold nothing of a label; of labelled ones, size and list must be there.
        whole = pc.and_(pc.is_valid(annotations), pc.fill_null(stated, False))
        # parse_row strips names and refuses blank ones; blocks in which that matters go to it.
        trimmed = pc.equal(pc.utf8_trim_whitespace(source), source)
        if not pc.all(pc.equal(whole, labelled)).as_py() or not pc.all(pc.fill_null(trimmed, False)).as_py():
            return None
        if pc.any(pc.equal(source, "")).as_py():
            return None
        counts = pc.fill_null(pc.list_value_length(annotations), 0)
        boxes = pc.list_flatten(annotations)
        if not _is_empty(annotations.type):
            if any(boxes.field(name).null_count for name in BOX_KEYS) or boxes.null_count:
                return None
            if IGNORED in [field.name for field in boxes.type]:
                flags = boxes.field(IGNORED)
                if not pa.types.is_boolean(flags.type):
                    return None
                parents = pc.list_parent_indices(annotations).to_numpy()
                ignored = np.bincount(parents, pc.fill_null(flags, False).to_numpy(zero_copy_only=False), len(value))
                counts = pc.subtract(counts, pa.array(ignored.astype(np.int32)))
        flat = pc.list_flatten(sizes)
        sides = {}
        for name in ("width", "height"):
            column = flat.field(name)
            if column.null_count or not pc.all(pc.greater(column, 0)).as_py():
                return None
            numbers = np.zeros(len(value), np.int32)
            numbers[labelled.to_numpy(zero_copy_only=False)] = column.to_numpy()
            sides[name] = pa.array(numbers, pa.int32(), mask=~labelled.to_numpy(zero_copy_only=False))
        key = _filled(raw, "id", source)
        columns = dict(zip(BUILT_IN, (source, key, _filled(raw, "group", key), labelled)))
        return {**columns, **sides, "box_count": counts.cast(pa.int32())}

    def _attributes(self, raw: pa.Table) -> Plain:
        import pyarrow as pa

        if "attributes" not in raw.schema.names:
            return {}
        value = raw.column("attributes").combine_chunks()
        plain = (pa.types.is_boolean, pa.types.is_int64, pa.types.is_float64, pa.types.is_string)
        # Lists and objects are no attributes, as in parse_row.
        chosen = sorted(field.name for field in value.type if any(is_kind(field.type) for is_kind in plain))
        # flatten(), unlike field(), knows of rows without any attributes.
        fields = dict(zip([field.name for field in value.type], value.flatten()))
        return {attribute_column(name): fields[name] for name in chosen}


def attribute_column(name: str) -> str:
    """The column of a picture attribute: its name, with ``attribute.`` before it where a built-in has that name."""
    return f"attribute.{name}" if name in (*BUILT_IN, "split") else name


def _filled(raw: pa.Table, name: str, default: Any) -> Any:
    import pyarrow.compute as pc

    if name not in raw.schema.names:
        return default
    column = raw.column(name).combine_chunks()
    return pc.if_else(pc.fill_null(pc.not_equal(column, ""), False), column, default)


def _is_empty(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) and pa.types.is_null(kind.value_type))


def _is_list_of(kind: pa.DataType | None, names: tuple[str, ...], whole: bool = False) -> bool:
    import pyarrow as pa

    if kind is None or not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    found = {field.name: field.type for field in kind.value_type}
    fits = pa.types.is_int64 if whole else lambda one: pa.types.is_int64(one) or pa.types.is_float64(one)
    return all(name in found and fits(found[name]) for name in names) and (
        whole or pa.types.is_int64(found[BOX_KEYS[0]])
    )


def _plain_table(path: Path, block: bytes, line: int, offset: int, problems: list[Problem]) -> pa.Table:
    """The block's columns by looking at every row; bad ones are reported and left out."""
    import pyarrow as pa

    built_in: dict[str, list[Any]] = {name: [] for name in BUILT_IN}
    rows: list[dict[str, Attribute]] = []
    # Like _blocks and Arrow, by \n alone: splitlines would also end a line at a bare \r, which JSON takes for a blank.
    for number, raw in enumerate(io.BytesIO(block), line):
        start, offset = offset, offset + len(raw)
        text = raw.lstrip(b"\xef\xbb\xbf") if number == 1 else raw
        if not text.strip():
            continue
        try:
            row = parse_row(decode_row(text))
        except RowError as error:
            problems.append(Problem(str(path), number, "label-syntax", str(error)))
            continue
        key = row.identity or row.source
        problems.extend(
            Problem(str(path), number, "label-syntax", f"{row.source}: {mistake}", key) for mistake in row.mistakes
        )
        boxes = sum(not annotation.ignored for annotation in row.annotations)
        sides = (row.width or None, row.height or None)
        values = (row.source, key, row.group or key, row.labelled, *sides, boxes, number, start)
        for name, value in zip(BUILT_IN, values):
            built_in[name].append(value)
        rows.append(row.attributes)
    columns = {name: pa.array(built_in[name], kind) for name, kind in _built_in_types().items()}
    for name in sorted({name for row in rows for name in row}):
        columns[attribute_column(name)] = _attribute_array([row.get(name) for row in rows])
    return pa.table(columns)


def _attribute_array(values: list[Attribute | None]) -> Any:
    import pyarrow as pa

    from marauder.data.manifests.parquet import arrow_type

    kind = arrow_type({type(value) for value in values if value is not None})
    if pa.types.is_string(kind):
        values = [value if value is None or isinstance(value, str) else str(value) for value in values]
    return pa.array(values, kind)
