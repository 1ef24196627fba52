"""Manifests as Parquet: one flat column for every picture attribute, so that a query reads only what it asks for.

Columns: ``source-ref``, ``id``, ``group``, ``labelled``, ``width``, ``height``, ``box_count`` (ignored boxes left out),
``annotations`` (a list of structs with the keys of the JSON rows), ``class-map`` (JSON), and the attributes by name. An
attribute that has one of these names is called ``attribute.<name>``. A Parquet file that mirrors JSON rows (a struct
for the label attribute and one for its metadata) is read, too.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import atomic_path
from marauder.core.plain import Plain
from marauder.data.manifests.format import BOX_KEYS, BOX_TYPE, IGNORED, LABEL, METADATA, SOURCE

FIXED = (SOURCE, "id", "group", "labelled", "width", "height", "box_count", "annotations", "class-map")
PREFIX = "attribute."
BLOCK_ROWS = 50_000


def column_of(attribute: str) -> str:
    """The column that holds a picture attribute."""
    return f"{PREFIX}{attribute}" if attribute in FIXED else attribute


def write_parquet(path: Path, rows: Callable[[], Iterable[Plain]]) -> None:
    """Write rows as ``format.row_of`` makes them. ``rows`` is called twice: for the columns' types, for the content.

    Whole and broken numbers of one attribute become float64; any other mixture becomes text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    attributes: dict[str, set[type]] = {}
    details: dict[str, set[type]] = {}
    for row in rows():
        for name, value in row.get("attributes", {}).items():
            attributes.setdefault(name, set()).add(type(value))
        for entry in row.get(LABEL, {}).get("annotations", ()):
            for name in entry.keys() - {*BOX_KEYS, IGNORED}:
                details.setdefault(name, set()).add(type(entry[name]))
    number = pa.float64()
    sides = [pa.field(name, number) for name in BOX_KEYS[1:]]
    extras = [pa.field(name, arrow_type(kinds)) for name, kinds in sorted(details.items())]
    box = pa.struct([pa.field(BOX_KEYS[0], pa.int32()), *sides, pa.field(IGNORED, pa.bool_()), *extras])
    kinds_of_fixed = [pa.string(), pa.string(), pa.string(), pa.bool_(), pa.int32(), pa.int32(), pa.int32()]
    columns = dict(zip(FIXED, [*kinds_of_fixed, pa.list_(box), pa.string()]))
    columns |= {column_of(name): arrow_type(kinds) for name, kinds in sorted(attributes.items())}
    schema = pa.schema(list(columns.items()))
    texts = {name for name, kind in columns.items() if kind == pa.string()}
    texts_of_boxes = {field.name for field in extras if field.type == pa.string()}
    with atomic_path(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        remaining = iter(rows())
        while block := [_flat(row, texts, texts_of_boxes) for row in islice(remaining, BLOCK_ROWS)]:
            writer.write_table(pa.Table.from_pylist(block, schema=schema))


def arrow_type(kinds: set[type]) -> Any:
    """The Arrow type that holds attributes of these Python types."""
    import pyarrow as pa

    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _flat(row: Plain, texts: set[str], texts_of_boxes: set[str]) -> Plain:
    value = row.get(LABEL)
    size = value["image_size"][0] if value else {}
    annotations = value["annotations"] if value else None
    flat = {
        SOURCE: row[SOURCE],
        "id": row["id"],
        "group": row["group"],
        "labelled": value is not None,
        "width": size.get("width"),
        "height": size.get("height"),
        "box_count": sum(not entry.get(IGNORED, False) for entry in annotations or ()),
        # None for a picture without labels, [] for one that shows nothing.
        "annotations": annotations and [_as_text(entry, texts_of_boxes) for entry in annotations],
        "class-map": json.dumps(row[f"{LABEL}{METADATA}"]["class-map"], ensure_ascii=False) if value else None,
    }
    named = {column_of(name): attribute for name, attribute in row.get("attributes", {}).items()}
    return flat | _as_text(named, texts)


def _as_text(values: Plain, names: set[str]) -> Plain:
    return {
        name: str(value) if name in names and not isinstance(value, str) else value for name, value in values.items()
    }


def parquet_rows(path: Path) -> Iterator[Plain]:
    """Rows of a Parquet manifest as JSON rows. Raises ``UserError`` for a file that is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error}); restore it or write it again") from None
    with file:
        names = file.schema_arrow.names
        if SOURCE not in names:
            raise UserError(
                f"{path}: has no column {SOURCE!r}, so it is not a manifest (columns: {', '.join(names[:12])})"
            )
        flat = "annotations" in names
        try:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    yield _unflattened(row) if flat else _without_nulls(row)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged Parquet ({error}); restore it or write it again") from None


def parquet_rows_at(path: Path, numbers: Sequence[int]) -> Iterator[Plain]:
    """The rows with these numbers (from 0), in the file's order; only row groups that hold one are read."""
    import pyarrow.parquet as pq

    wanted = sorted(numbers)
    with pq.ParquetFile(path) as file:
        flat = "annotations" in file.schema_arrow.names
        first = taken = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            upto = bisect_left(wanted, end, taken)
            if upto > taken:
                chosen = file.read_row_group(group).take([number - first for number in wanted[taken:upto]])
                for row in chosen.to_pylist():
                    yield _unflattened(row) if flat else _without_nulls(row)
            first, taken = end, upto


def _unflattened(row: Plain) -> Plain:
    attributes = {
        name.removeprefix(PREFIX): value for name, value in row.items() if name not in FIXED and value is not None
    }
    content = {SOURCE: row[SOURCE], "id": row.get("id"), "group": row.get("group"), "attributes": attributes}
    if row.get("labelled", True):
        annotations = [
            {name: value for name, value in entry.items() if value is not None} for entry in row["annotations"] or ()
        ]
        content[LABEL] = {
            "image_size": [{"width": row.get("width"), "height": row.get("height")}],
            "annotations": annotations,
        }
        content[f"{LABEL}{METADATA}"] = {"class-map": json.loads(row.get("class-map") or "{}"), "type": BOX_TYPE}
    return content


def _without_nulls(value: Any) -> Any:
    """A mirrored JSON row: Parquet gives every row all keys, ``None`` where the JSON row had none."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
