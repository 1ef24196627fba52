"""Claim: a manifest of 10 million rows opens, is filtered by a slice and sampled in under 10 s and 4 GB on 2 cores.

Rows are those of the real aquarium and DeepFish pictures, repeated under own keys with varied attributes; once as
Parquet, once as JSON lines. Every arm runs in a process of its own with 2 threads and answers the same question: how
many rows the slice holds, and a sample of 1,000. Prints seconds, processor seconds, peak memory (resident set, mapped
files included) and the ratio to Marauder's arm on the same file; the arms that read JSON in Python read a part, and
their time is multiplied.
Exit status 1 where Marauder's arm on Parquet, or on JSON lines once they are cached, passes a limit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers import AQUARIUM_NAMES, processor_name, run_arm_process, shared_data

SECONDS, GIGABYTES = 10.0, 4.0
SLICE = "depth > 20 and weather in ['rain', 'fog']"
WEATHER = ("sun", "rain", "fog", "night")
SAMPLE = 1000
PART_ROWS = 200_000
BLOCK = 100_000
PLACES = ("@source@", "@key@", '"@depth@"', "@weather@")


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the files are made (about 1 KB a row); default: temporary")
    parser.add_argument("--only", choices=("parquet", "lines"), help="one of the two files")
    parser.add_argument("--arm", help="run one arm on FILE (used by the benchmark itself)")
    parser.add_argument("--file", type=Path)
    chosen = parser.parse_args()
    if chosen.arm:
        print(json.dumps(_measured(ARMS[chosen.arm], chosen.file)))
        return 0
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        return _compare(chosen.rows, Path(folder), chosen.only)


def _compare(rows: int, folder: Path, only: str | None) -> int:
    lines, parquet = folder / "rows.jsonl", folder / "rows.parquet"
    started = time.perf_counter()
    small = _real_rows(folder)
    if only != "parquet":
        _make_lines(small, lines, rows)
    if only != "lines":
        _make_parquet(folder / "small.parquet", parquet, rows)
    sizes = [f"{file.stat().st_size / 1e9:.2f} GB {file.suffix[1:]}" for file in (lines, parquet) if file.exists()]
    print(
        f"{processor_name()}, {len(os.sched_getaffinity(0))} cores; {rows:,} rows, {', '.join(sizes)}, made in", end=" "
    )
    print(f"{time.perf_counter() - started:.0f} s\nslice: {SLICE}; sample of {SAMPLE}\n")
    results = {}
    for name in [name for name in ARMS if only is None or name.startswith(only)]:
        file = parquet if name.startswith("parquet") else lines
        result = _run(name, file)
        factor = max(1.0, rows / PART_ROWS) if "of a part" in name else 1.0
        scaled = {key: result[key] * factor for key in ("seconds", "worked", "count")}
        results[name] = result = {**result, **scaled}
        ours = results.get(f"{name.split(',')[0]}, marauder")
        ratio = f"{result['seconds'] / ours['seconds']:8.1f} x" if ours and ours is not result else ""
        times = f"{result['seconds']:9.2f} s ({result['worked']:7.2f} s of processors)"
        shown = f"{times} {result['gigabytes']:6.2f} GB  {result['count']:12,.0f} rows {ratio}"
        print(f"{name:34} {'extrapolated' if factor > 1 else '':12}{shown}", flush=True)
    shutil.rmtree(folder / ".rows.jsonl.cache", ignore_errors=True)
    exact = {round(result["count"]) for name, result in results.items() if "of a part" not in name}
    if len(exact) != 1:
        print(f"the arms disagree: {exact}")
        return 1
    judged = [results[name] for name in ("parquet, marauder", "lines, marauder") if name in results]
    return 0 if all(one["seconds"] < SECONDS and one["gigabytes"] < GIGABYTES for one in judged) else 1


def _run(name: str, file: Path) -> dict[str, float]:
    environment = ["env", "POLARS_MAX_THREADS=2", "OMP_NUM_THREADS=2", f"PYTHONPATH={Path(__file__).parent}"]
    return run_arm_process(name, [*environment, sys.executable, __file__, "--arm", name, "--file", str(file)])


def _measured(arm: Callable[[Path], int], file: Path) -> dict[str, float]:
    started, worked = time.perf_counter(), time.process_time()
    count = arm(file)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    # ru_maxrss would include what the parent held when it forked.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "worked": worked, "gigabytes": int(peak) * 1024 / 1e9, "count": count}


def marauder_arm(file: Path) -> int:
    """Open, filter, sample."""
    from marauder.data.manifests.lazy import scan

    found = scan(file).where(SLICE).sample(SAMPLE)
    assert len(found.rows) == SAMPLE
    return found.total


def polars_lines_arm(file: Path) -> int:
    """The same by polars on the JSON lines themselves, with the two attributes named beforehand."""
    import polars as pl

    wanted = pl.Struct({"depth": pl.Float64, "weather": pl.String})
    frame = pl.scan_ndjson(file, schema={"id": pl.String, "attributes": wanted}, ignore_errors=True)
    attributes = pl.col("attributes").struct
    chosen = frame.filter((attributes.field("depth") > 20) & attributes.field("weather").is_in(["rain", "fog"]))
    found = chosen.select("id").collect(engine="streaming")
    assert len(found.sample(SAMPLE, seed=0)) == SAMPLE
    return len(found)


def python_arm(file: Path) -> int:
    """A plain loop over a part."""
    found = []
    with file.open("rb") as stream:
        for _, line in zip(range(PART_ROWS), stream):
            row = json.loads(line)
            attributes = row["attributes"]
            if attributes["depth"] > 20 and attributes["weather"] in ("rain", "fog"):
                found.append(row["id"])
    np.random.default_rng(0).choice(len(found), min(len(found), SAMPLE), replace=False)
    return len(found)


def pandas_lines_arm(file: Path) -> int:
    """pandas.read_json over a part."""
    import pandas as pd

    frame = pd.read_json(file, lines=True, nrows=PART_ROWS)
    attributes = pd.DataFrame(frame["attributes"].tolist())
    found = frame[(attributes["depth"] > 20) & attributes["weather"].isin(["rain", "fog"])]
    found.sample(min(len(found), SAMPLE), random_state=0)
    return len(found)


def pandas_parquet_arm(file: Path) -> int:
    """pandas.read_parquet of the columns that are needed."""
    import pandas as pd

    frame = pd.read_parquet(file, columns=["id", "source-ref", "depth", "weather"])
    found = frame[(frame["depth"] > 20) & frame["weather"].isin(["rain", "fog"])]
    assert len(found.sample(SAMPLE, random_state=0)) == SAMPLE
    return len(found)


def pyarrow_parquet_arm(file: Path) -> int:
    """pyarrow.dataset with the filter pushed down."""
    import pyarrow.dataset as ds

    chosen = (ds.field("depth") > 20) & ds.field("weather").isin(["rain", "fog"])
    table = ds.dataset(file).to_table(columns=["id", "source-ref"], filter=chosen)
    picked = np.sort(np.random.default_rng(0).choice(table.num_rows, SAMPLE, replace=False))
    assert table.take(picked).num_rows == SAMPLE
    return int(table.num_rows)


ARMS: dict[str, Callable[[Path], int]] = {
    "parquet, marauder": marauder_arm,
    "parquet, pyarrow": pyarrow_parquet_arm,
    "parquet, pandas": pandas_parquet_arm,
    "lines, marauder (the first time)": marauder_arm,
    "lines, marauder": marauder_arm,
    "lines, polars on the JSON itself": polars_lines_arm,
    "lines, json loop of a part": python_arm,
    "lines, pandas of a part": pandas_lines_arm,
}


def _real_rows(folder: Path) -> list[dict[str, Any]]:
    """JSON rows of the real pictures, and the same rows as small.parquet."""
    from marauder.data.manifests.format import row_of
    from marauder.data.manifests.parquet import write_parquet
    from marauder.data.reading import read_dataset

    rows = []
    for name, names in (("aquarium", AQUARIUM_NAMES), ("deepfish", ("fish",))):
        for record in read_dataset(shared_data() / name, names=names):
            row = row_of(record, names, f"s3://reef/{record.key}.jpg", "2026-11-01T00:00:00")
            row["attributes"] = {"depth": 0.5, "weather": "sun", "site": f"reef {len(rows) % 40}", "brightness": 90.25}
            rows.append(row)
    write_parquet(folder / "small.parquet", lambda: rows)
    return rows


def _varied(start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (metres, two decimals) and weather of rows ``start`` and on."""
    numbers = np.arange(start, start + count)
    return numbers * 7919 % 4001 / 100, np.array(WEATHER)[numbers * 31 % 7 % 4]


def _make_lines(rows: list[dict[str, Any]], file: Path, count: int) -> None:
    templates = []
    for row in rows:
        source, key, depth, weather = PLACES
        attributes = {**row["attributes"], "depth": depth.strip('"'), "weather": weather}
        varied = {**row, "source-ref": f"s3://reef/{source}.jpg", "id": key, "attributes": attributes}
        text = json.dumps(varied, separators=(",", ":"))
        parts = []
        for place in PLACES:
            before, text = text.split(place)
            parts.append(before)
        templates.append((row["id"], *parts, text))
    with file.open("w", encoding="utf-8", buffering=1 << 20) as stream:
        for start in range(0, count, BLOCK):
            depths, weathers = _varied(start, min(BLOCK, count - start))
            for number, depth, weather in zip(range(start, count), depths.tolist(), weathers.tolist()):
                name, a, b, c, d, e = templates[number % len(templates)]
                stream.write(f"{a}{name}-{number}{b}{name}-{number}{c}{depth}{d}{weather}{e}\n")


def _make_parquet(small: Path, file: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(small)
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for start in range(0, count, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, count))
            block = table.take(numbers % table.num_rows)
            depths, weathers = _varied(start, len(numbers))
            keys = pc.binary_join_element_wise(block["id"], pa.array(numbers).cast(pa.string()), "-")
            sources = pc.binary_join_element_wise("s3://reef/", keys, ".jpg", "")
            varied = {"source-ref": sources, "id": keys, "depth": pa.array(depths), "weather": pa.array(weathers)}
            for name, values in varied.items():
                block = block.set_column(block.schema.get_field_index(name), name, values)
            writer.write_table(block.cast(table.schema))


if __name__ == "__main__":
    sys.exit(main())
