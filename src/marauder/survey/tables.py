"""The tables: counts by picture, MaxN by clip, every box (CSV, Parquet), what was set aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import atomic_path
from marauder.core.plain import Plain
from marauder.data.csv_files import write_csv
from marauder.survey.counts import Counts, counts_of
from marauder.survey.seen import Seen, Survey

COUNTS_FILE, MAX_N_FILE, SET_ASIDE_FILE = "counts.csv", "maxn.csv", "set_aside.csv"
BOXES_FILE, PARQUET_FILE = "boxes.csv", "boxes.parquet"
PLACE_COLUMNS = ("file", "clip", "frame", "seconds", "width", "height")
BOX_COLUMNS = (*PLACE_COLUMNS, "species", "score", "x0", "y0", "x1", "y1")
BLOCK_ROWS = 50_000


def write_counts(folder: Path, survey: Survey, clip_of: dict[str, str]) -> Path:
    """``counts.csv``: one row for each picture or frame, one column for each class of the model, zeros included."""
    header = ["file", "clip", "frame", "time", "seconds", "total", *survey.names]
    rows = ([*_place(seen, clip_of), len(seen.found), *counts_of(seen, len(survey.names)).tolist()] for seen in survey)
    return write_csv(folder / COUNTS_FILE, header, rows)


def write_max_n(folder: Path, counts: Counts, names: tuple[str, ...]) -> Path:
    """``maxn.csv``: a row for each clip and each species that was seen anywhere; MaxN 0 where it was not seen."""
    header = ["clip", "species", "maxn", "time", "seconds", "frame", "file", "mean_count"]
    header += ["first_seen_time", "first_seen_seconds", "first_seen_frame", "frames_looked_at"]
    rows = []
    for clip in counts.clips:
        for species in counts.species:
            max_n = clip.max_n(species)
            found = [max_n.most, *_moment(max_n.at), max_n.at.key if max_n.at else None, round(max_n.mean, 4)]
            rows.append([clip.clip, names[species], *found, *_moment(max_n.first), len(clip.frames)])
    return write_csv(folder / MAX_N_FILE, header, rows)


def write_boxes(folder: Path, survey: Survey, clip_of: dict[str, str]) -> Path:
    """``boxes.csv``: one row for each box, corners in pixels of the picture as displayed."""
    return write_csv(folder / BOXES_FILE, BOX_COLUMNS, _box_rows(survey, clip_of))


def write_parquet(folder: Path, survey: Survey, clip_of: dict[str, str]) -> Path:
    """``boxes.parquet``: the same. Raises ``UserError`` where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise UserError("Parquet needs the package 'pyarrow', which is not installed: run `make setup`") from None
    text, number = pa.string(), pa.float64()
    kinds = (text, text, pa.int64(), number, pa.int32(), pa.int32(), text, number, number, number, number, number)
    # Said, not inferred: a first block of pictures alone has no frame numbers to infer a type from.
    schema = pa.schema(list(zip(BOX_COLUMNS, kinds, strict=True)))
    with (
        atomic_path(folder / PARQUET_FILE) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        block: list[Plain] = []
        for row in _box_rows(survey, clip_of):
            block.append(dict(zip(BOX_COLUMNS, row, strict=True)))
            if len(block) == BLOCK_ROWS:
                writer.write_table(pa.Table.from_pylist(block, schema))
                block = []
        # An empty block, too: a survey without boxes still is a table with columns.
        writer.write_table(pa.Table.from_pylist(block, schema))
    return folder / PARQUET_FILE


def write_set_aside(folder: Path, problems: list[tuple[str, str]]) -> Path:
    """``set_aside.csv``: the pictures, videos and frames that could not be looked at, and why."""
    return write_csv(folder / SET_ASIDE_FILE, ["file", "problem"], problems)


def clock_time(seconds: float, decimals: int = 3) -> str:
    """``00:01:02.500``: hours, minutes and seconds with ``decimals`` digits."""
    # Rounded before it is split: 59.9996 would else become 60.000 seconds of the same minute.
    units = round(seconds * 10**decimals)
    whole, rest = divmod(units, 10**decimals)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{rest:0{decimals}d}"


def _place(seen: Seen, clip_of: dict[str, str]) -> list[Any]:
    time, seconds, frame = _moment(seen)
    return [seen.key, clip_of[seen.key], frame, time, seconds]


def _moment(seen: Seen | None) -> list[Any]:
    """Time, seconds and number of a frame; nothing of a picture."""
    if seen is None or seen.seconds is None:
        return [None, None, None]
    return [clock_time(seen.seconds), seen.seconds, seen.number]


def _box_rows(survey: Survey, clip_of: dict[str, str]) -> Iterator[list[Any]]:
    for seen in survey:
        _, seconds, frame = _moment(seen)
        place = [seen.key, clip_of[seen.key], frame, seconds, seen.width, seen.height]
        for box, score, index in zip(
            seen.found.boxes.tolist(), seen.found.scores.tolist(), seen.found.classes.tolist(), strict=True
        ):
            yield [*place, survey.names[index], score, *box]
