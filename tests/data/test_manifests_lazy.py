"""Large manifests: fast reading of JSON lines equals careful reading, queries equal those on records, samples hold."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import small_sets
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.data.manifests import flat_cache, lazy
from marauder.data.manifests.flat_cache import flat_parts, flat_table
from marauder.data.manifests.lazy import key_hashes, scan
from marauder.data.manifests.parquet import write_parquet
from marauder.data.manifests.writing import write_rows
from marauder.data.reading import read_dataset
from marauder.data.slices.query import QueryError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def row(number: int, label: str = "objects", **changes: Any) -> dict[str, Any]:
    """A row as ``format.row_of`` writes it, varied by its number."""
    boxes = [{"class_id": 0, "left": n, "top": 2.5, "width": 3, "height": 4} for n in range(number % 4)]
    for box in boxes[1:2]:
        box["ignored"] = number % 3 == 0
    content: dict[str, Any] = {
        "source-ref": f"pictures/p{number}.jpg",
        "id": f"p{number}",
        "group": f"clip{number // 3}",
        "attributes": {"depth": number % 50 + 0.25, "weather": ("rain", "sun")[number % 2], "night": number % 5 == 0},
        label: {"image_size": [{"width": 80, "height": 60 + number, "depth": 3}], "annotations": boxes},
        f"{label}-metadata": {"class-map": {"0": "fish"}, "type": "groundtruth/object-detection"},
    }
    if number % 7 == 6:
        del content[label], content[f"{label}-metadata"]
    return {**content, **changes}


def write_lines(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in rows))
    return file


def both(file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pl.DataFrame, pl.DataFrame, bool]:
    """The table by Arrow where it takes the rows, the table row by row, and whether Arrow took them all."""
    real = flat_cache._ArrowBlocks.table
    taken: list[bool] = []
    problems: list[Any] = []

    def spy(*words: Any) -> Any:
        table = real(*words)
        taken.append(table is not None)
        return table

    with monkeypatch.context() as patch:
        patch.setattr(flat_cache._ArrowBlocks, "table", spy)
        fast = pl.from_arrow(flat_table(file, problems))
        patch.setattr(flat_cache._ArrowBlocks, "table", lambda *_: None)
        slow = pl.from_arrow(flat_table(file, problems))
    assert isinstance(fast, pl.DataFrame) and isinstance(slow, pl.DataFrame)
    return fast, slow, all(taken)


class TestFastEqualsCareful:
    def test_rows_as_we_write_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        fast, slow, taken = both(write_lines(tmp_path / "m.jsonl", [row(n) for n in range(60)]), monkeypatch)
        assert taken, "Arrow must take rows that we write"
        assert_frame_equal(fast, slow, check_column_order=False)
        assert fast["box_count"].sum() < sum(n % 4 for n in range(60))

    @pytest.mark.parametrize(
        "changes",
        [
            {"attributes": {"date": "2026-11-01", "time": "2026-11-01T10:00:00"}},
            {"attributes": {}},
            {"attributes": {"depth": 3, "x": None}},
            {"attributes": {"depth": "deep"}},
            {"attributes": {"width": 4, "key": "k", "nested": {"a": 1}, "list": [1]}},
            {"attributes": None},
            {"attributes": "none"},
            {"id": ""},
            {"id": 7},
            {"id": None, "group": None},
            {"site": "reef"},
            {"source-ref": "  spaced.jpg "},
            {"objects": None},
            {"objects": {"image_size": [], "annotations": []}},
            {"objects": {"image_size": [{"width": 0, "height": 9}], "annotations": []}},
            {"objects": {"image_size": [{"width": 9.5, "height": 9}], "annotations": []}},
            {"objects": {"image_size": [{"width": 9, "height": 9}], "annotations": [{"class_id": 1}]}},
            {"objects": {"image_size": [{"width": 9, "height": 9}], "annotations": [None]}},
            {"objects": {"image_size": [{"width": 9, "height": 9}]}},
            {"second": {"annotations": []}, "second-metadata": {"type": "groundtruth/object-detection"}},
        ],
        ids=str,
    )
    def test_rows_of_others(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]):
        rows = [row(0), row(1), row(2, **changes), row(3)]
        fast, slow, _ = both(write_lines(tmp_path / "m.jsonl", rows), monkeypatch)
        assert_frame_equal(fast, slow, check_column_order=False)

    def test_a_bare_carriage_return_ends_no_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        lines = [json.dumps(row(n)).replace('"group"', '\r"group"') for n in range(3)]
        problems: list[Any] = []
        for odd in ("", "[1]"):  # with a row that is none, Arrow passes the block on
            file = tmp_path / "m.jsonl"
            file.write_bytes("\r\n".join([*lines, odd]).encode())
            fast, slow, _ = both(file, monkeypatch)
            assert_frame_equal(fast, slow, check_column_order=False)
            assert slow["key"].to_list() == ["p0", "p1", "p2"]
            assert slow["line"].to_list() == [1, 2, 3]
            assert slow["offset"].to_list() == [0, len(lines[0]) + 2, len(lines[0]) + len(lines[1]) + 4]
        flat_table(file, problems)
        assert [problem.line for problem in problems] == [4]

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_mixture(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
        value = (
            st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["a", "2026-11-01", ""])
        )
        attributes = st.dictionaries(st.sampled_from(["a", "b", "line"]), value, max_size=3)
        lines = st.one_of(
            st.builds(lambda n, found: row(n, attributes=found), st.integers(0, 20), attributes),
            st.sampled_from(["", "  ", "[1]", '{"a": ', '{"source-ref": "x.jpg"}']),
        )
        file = write_lines(tmp_path_factory.mktemp("m") / "m.jsonl", data.draw(st.lists(lines, max_size=6)))
        with pytest.MonkeyPatch.context() as patch:
            fast, slow, _ = both(file, patch)
        assert_frame_equal(fast, slow, check_column_order=False, check_dtypes=False)

    def test_blocks_of_any_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        rows = [row(n, attributes={"depth": n if n < 30 else n + 0.5}) for n in range(60)]
        file = write_lines(tmp_path / "m.jsonl", rows)
        whole = pl.from_arrow(flat_table(file, []))
        for size in (100, 1000, 7777):
            monkeypatch.setattr(flat_cache, "BLOCK_BYTES", size)
            pieces = pl.from_arrow(flat_table(file, []))
            assert_frame_equal(whole, pieces, check_dtypes=False)
        raw = file.read_bytes()
        for line, offset in zip(whole["line"], whole["offset"]):
            assert json.loads(raw[offset:].split(b"\n")[0])["id"] == f"p{line - 1}"


class TestCache:
    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(lazy, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(flat_cache, "BLOCK_BYTES", 5000)
        late = [row(n, attributes={"depth": "unknown" if n == 180 else 4, "late": n}) for n in range(150, 200)]
        return write_lines(tmp_path / "rows.jsonl", [*(row(n) for n in range(150)), "{broken", *late])

    def test_is_made_once_and_again_after_a_change(self, file: Path, monkeypatch: pytest.MonkeyPatch):
        first = scan(file)
        assert first.count() == 200
        assert [problem.line for problem in first.problems] == [151]
        assert first.where("late > 100").count() == 50
        monkeypatch.setattr(flat_cache, "_convert", lambda *_: pytest.fail("read again"))
        assert scan(file).count() == 200
        assert [problem.line for problem in scan(file).problems] == [151]
        monkeypatch.undo()
        monkeypatch.setattr(lazy, "IN_MEMORY_BYTES", 0)
        write_lines(file, [row(n) for n in range(10)])
        assert scan(file).count() == 10

    def test_parts_of_different_types_are_one_table(self, file: Path):
        parts, _ = flat_parts(file)
        assert len(parts) > 1
        found = scan(file).frame.select("depth").collect()["depth"]
        assert found.dtype == pl.String and found[180] == "unknown"

    def test_an_interrupted_reading_leaves_nothing_half(self, file: Path):
        with pytest.raises(Interrupted):
            scan(file, Clock(max_seconds=1e-9))
        assert [path.name for path in file.parent.iterdir() if "rows" in path.name] == ["rows.jsonl"]
        assert scan(file).count() == 200

    def test_what_a_killed_process_left_goes(self, file: Path):
        old, new = (file.with_name(f".rows.jsonl.cache.{name}.partial") for name in ("old", "new"))
        for folder in (old, new):
            folder.mkdir()
            (folder / "part-00000.parquet").write_bytes(b"PAR1")
        for path in (old / "part-00000.parquet", old):
            os.utime(path, (1, 1))
        assert scan(file).count() == 200
        assert (old.exists(), new.exists()) == (False, True)

    def test_a_folder_that_cannot_be_written(self, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert scan(file).count() == 200
        assert [path.name for path in file.parent.iterdir() if "rows" in path.name] == ["rows.jsonl"]
        assert list((tmp_path / "cache/marauder/manifests").iterdir())

    def test_a_damaged_cache_is_made_again(self, file: Path):
        scan(file)
        shutil.rmtree(next(file.parent.glob(".rows.jsonl.cache")) / "absent", ignore_errors=True)
        next(file.parent.glob(".rows.jsonl.cache/part-00000.parquet")).unlink()
        assert scan(file).count() == 200


def spec_of_both(root: Path) -> Path:
    """dataset.yaml with JSON lines for train and Parquet for val; real small pictures."""
    for number in range(40):
        small_sets.picture(root / "pictures" / f"p{number}.jpg", number, (80, 60 + number))
    write_lines(root / "train.jsonl", [row(n) for n in range(30)])
    write_parquet(root / "val.parquet", lambda: [row(n) for n in range(30, 40)])
    (root / "dataset.yaml").write_text("version: 1\ntrain: train.jsonl\nval: val.parquet\n")
    return root / "dataset.yaml"


class TestScan:
    @pytest.mark.parametrize(
        "query",
        [
            "depth > 20 and weather == 'rain'",
            "not night",
            "box_count >= 2 and split == 'val'",
            "width == 80 and height > 75",
            "labelled and group in ['clip2', 'clip11']",
            "depth % 10 < 3 or weather == 'sun'",
            "depth BETWEEN 3 AND 20 AND weather LIKE 'r%' OR weather IN ('sun')",
        ],
    )
    def test_queries_take_the_same_pictures_as_on_records(self, tmp_path: Path, query: str):
        from marauder.data.slices.columns import picture_columns
        from marauder.data.slices.query import parse_query
        from marauder.data.slices.query_polars import evaluate_query, frame_of

        spec = spec_of_both(tmp_path)
        records = [record for record in read_dataset(spec) if record.labelled]
        parsed = parse_query(query)
        mask = evaluate_query(parsed, frame_of(picture_columns(records, sorted(parsed.names)), len(records)))
        expected = {record.key for record, taken in zip(records, mask) if taken}
        found = scan(spec).where("labelled").where(query).sample(1000).rows
        assert set(found["key"]) == expected
        assert 0 < len(expected) < len(records)

    def test_sample_is_of_the_keys_and_the_seed_alone(self, tmp_path: Path):
        rows = [row(n) for n in range(300)]
        lines = write_lines(tmp_path / "m.jsonl", rows)
        write_parquet(tmp_path / "m.parquet", lambda: rows)
        random.Random(4).shuffle(rows)
        shuffled = write_lines(tmp_path / "shuffled.jsonl", rows)

        def keys(file: Path, count: int, seed: int) -> set[str]:
            return set(scan(file).sample(count, seed).rows["key"])

        drawn = [keys(file, 20, 3) for file in (lines, tmp_path / "m.parquet", shuffled)]
        assert drawn[0] == drawn[1] == drawn[2] and len(drawn[0]) == 20
        assert keys(lines, 10, 3) < drawn[0] < keys(lines, 40, 3)
        assert keys(lines, 20, 4) != drawn[0]
        assert len(keys(lines, 1000, 0)) == 300 == scan(lines).sample(5).total
        assert keys(lines, 0, 0) == set()

    def test_sample_is_uniform(self):
        keys = pl.Series([f"p{number}" for number in range(100_000)])
        shares = [float((key_hashes(keys, seed) < np.uint64(2**62)).mean()) for seed in range(5)]
        assert all(abs(share - 0.25) < 0.005 for share in shares)
        assert len(np.unique(key_hashes(keys, 0))) == len(keys)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
    def test_hashes_do_not_depend_on_the_neighbours(self, keys: list[str]):
        together = key_hashes(pl.Series(keys), 1)
        alone = [int(key_hashes(pl.Series([key]), 1)[0]) for key in keys]
        assert together.tolist() == alone
        assert len(set(alone)) == len(set(keys))

    def test_the_hash_is_pinned(self):
        """Samples that were written down must be found again in years."""
        found = key_hashes(pl.Series(["IMG_2274", "", "a much longer key than one word"]), 7)
        assert [f"{value:016x}" for value in found.tolist()] == PINNED

    def test_a_sample_becomes_a_manifest(self, tmp_path: Path):
        chosen = scan(spec_of_both(tmp_path / "set")).where("depth > 5")
        rows = chosen.sample(12, seed=1).rows
        (tmp_path / "out").mkdir()
        assert write_rows(tmp_path / "out/sample.manifest", chosen.contents(rows)) == 12
        dataset = read_dataset(tmp_path / "out/sample.manifest")
        assert {record.key for record in dataset} == set(rows["key"])
        original = {record.key: record for record in read_dataset(tmp_path / "set/dataset.yaml")}
        for record in dataset:
            np.testing.assert_array_equal(record.boxes, original[record.key].boxes)
            assert record.picture.samefile(original[record.key].picture)

    def test_parquet_that_mirrors_json_rows(self, tmp_path: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [row(n) for n in range(20)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
        found = scan(tmp_path / "m.parquet")
        assert found.where("weather == 'rain' and labelled").count() == sum(
            n % 2 == 0 and n % 7 != 6 for n in range(20)
        )
        assert found.frame.select("width", "height").collect()["height"][3] == 63

    def test_mistakes(self, tmp_path: Path):
        lines = write_lines(tmp_path / "m.jsonl", [row(n) for n in range(5)])
        with pytest.raises(QueryError, match="depht"):
            scan(lines).where("depht > 3")
        with pytest.raises(UserError, match="no manifest"):
            scan(small_sets.yolo(tmp_path / "yolo"))
        damaged = tmp_path / "bad.parquet"
        damaged.write_bytes(b"PAR1 nothing")
        with pytest.raises(UserError, match="cannot be read as Parquet"):
            scan(damaged)
        empty = write_lines(tmp_path / "empty.manifest", ['{"source-ref": 3}'])
        assert scan(empty).count() == 0


PINNED = ["db88a34b6909cb74", "3281d619f7be7dbe", "8890579574ac2e18"]
