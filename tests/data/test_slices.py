"""slices.yaml: mistakes with their lines, masks over pictures and boxes, findings beside the data, the commands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_sets
from typer.testing import CliRunner

from marauder.cli.slices import app
from marauder.core.errors import UserError
from marauder.data.records import Dataset, Record
from marauder.data.slices.check import check, count_slices, refuse_mistakes
from marauder.data.slices.counting import Counter
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import SliceBook, automatic_slices, load_slices

NAMES = ("fish", "crab")
SIDES = (10.0, 32.0, 50.0, 96.0, 200.0)


def records(count: int = 40) -> list[Record]:
    """Each picture has a fish and a crab; sides go through ``SIDES``, depths from 0 up, every fourth has none."""
    made = []
    for index in range(count):
        side = SIDES[index % 5]
        attributes = {"site": "reef" if index % 2 else "wreck", "night": index % 3 == 0}
        made.append(
            Record(
                key=f"picture{index}",
                picture=Path(f"{index}.jpg"),
                width=400,
                height=200,
                boxes=[[0, 0, side, side], [100, 50, 140, 60]],
                classes=[0, 1],
                group=f"clip{index // 4}",
                split="train" if index < 20 else "val",
                attributes={**attributes, **({"depth": float(index)} if index % 4 else {})},
                box_attributes={"occluded": np.array([index / 40, np.nan]), "truncated": np.array(["yes", ""])},
            )
        )
    return made


def book(tmp_path: Path, text: str) -> SliceBook:
    (tmp_path / "slices.yaml").write_text(text, encoding="utf-8")
    return load_slices(tmp_path / "slices.yaml")


def masks(tmp_path: Path, text: str, of: list[Record] | None = None) -> dict[str, SliceMask]:
    return {mask.name: mask for mask in book(tmp_path, text).apply(of if of is not None else records(), NAMES)}


def places(mask: np.ndarray | None) -> list[int]:
    assert mask is not None
    return np.flatnonzero(mask).tolist()


def test_pictures_boxes_ids_and_intersections(tmp_path: Path) -> None:
    (tmp_path / "mined.txt").write_text("# mined\npicture3\n\n picture4 \npicture39\n")
    found = masks(
        tmp_path,
        """
slices:
  deep:
    where: depth > 30 and not night
    protected: true
    limits: {map50: {minimum: 0.4}, recall: {minimum: 0.1, maximum: 0.9}}
    description: far from light
  mined: {ids: mined.txt}
  listed: {ids: [picture1, picture2]}
  both: {all_of: [mined, reef]}
  reef: {where: "site == 'reef'"}
  small_fish: {boxes: "class == 'fish' and size == 'small'"}
  small_fish_at_the_reef: {all_of: [small_fish, reef], boxes: area > 500}
  hidden: {boxes: occluded >= 0.5}
  seen: {boxes: not occluded >= 0.5}
  cut: {boxes: truncated is not None}
  flat: {boxes: aspect == 4 and relative_area < 0.01, where: width == 400 and box_count == 2}
""",
    )
    assert list(found)[:3] == ["deep", "mined", "listed"]
    deep = found["deep"]
    assert places(deep.pictures) == [31, 34, 35, 37, 38]  # 32 and 36 have no depth
    assert deep.protected and deep.boxes is None and deep.area is None and deep.description == "far from light"
    assert (deep.limits["map50"].minimum, deep.limits["recall"].maximum) == (0.4, 0.9)
    assert places(found["mined"].pictures) == [3, 4, 39]
    assert places(found["listed"].pictures) == [1, 2]
    assert places(found["both"].pictures) == [3, 39]
    small = found["small_fish"]
    assert small.pictures.all() and small.area == (0.0, 1024.0)
    assert places(small.boxes) == [2 * index for index in range(40) if index % 5 < 2]  # 32 x 32 belongs to small
    both = found["small_fish_at_the_reef"]
    assert both.area == (500.0, 1024.0)
    assert places(both.boxes) == [2 * index for index in range(40) if index % 5 == 1]
    assert places(both.pictures) == list(range(1, 40, 2))
    assert places(found["hidden"].boxes) == [2 * index for index in range(20, 40)]
    assert places(found["seen"].boxes) == [2 * index for index in range(20)]  # those that say nothing are in neither
    assert places(found["cut"].boxes) == list(range(0, 80, 2))
    assert places(found["flat"].boxes) == list(range(1, 80, 2))


@pytest.mark.parametrize(
    ("query", "area"),
    [
        ("area < 500", (0.0, 500.0)),
        ("500 < area <= 900", (500.0, 900.0)),
        ("not area < 500", (500.0, np.inf)),
        ("not (area < 500 or area > 900)", (500.0, 900.0)),
        ("area == 400", (400.0, 400.0)),
        ("size == 'medium'", (1024.0, 9216.0)),
        ("size in ['small', 'medium']", (0.0, 9216.0)),
        ("size == 'small' or size == 'large'", (0.0, 1e10)),
        ("size != 'small'", None),
        ("size == 'large' and class == 'crab'", (9216.0, 1e10)),
        ("area < 500 or class == 'crab'", None),
        ("width < 20", None),
        ("area * 2 < 100", None),
    ],
)
def test_the_areas_that_a_query_means(tmp_path: Path, query: str, area: tuple[float, float] | None) -> None:
    (mask,) = masks(tmp_path, f'slices: {{one: {{boxes: "{query}"}}}}').values()
    assert mask.area == area
    boxes = np.concatenate([record.boxes for record in records()])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if area is not None:
        assert mask.boxes is not None
        assert ((areas[mask.boxes] >= area[0]) & (areas[mask.boxes] <= area[1])).all()


def test_queries_need_polars_and_the_rest_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.delitem(sys.modules, "marauder.data.slices.query_polars", raising=False)
    assert places(masks(tmp_path, "slices: {one: {ids: [picture3]}, each: {by: site}}")["one"].pictures) == [3]
    with pytest.raises(UserError, match=r"package 'polars'.*extra 'data'"):
        masks(tmp_path, "slices: {deep: {where: depth > 3}}")


def test_one_slice_for_each_value(tmp_path: Path) -> None:
    found = masks(
        tmp_path,
        """
slices:
  sites: {by: site, protected: true}
  depth: {by: depth, where: depth >= 20, minimum_pictures: 3}
  kinds: {by: class}
  sizes: {by: size, boxes: "class == 'fish'"}
  night: {by: night}
  rare: {by: site, where: "depth > 36", minimum_pictures: 2}
""",
    )
    assert [name for name in found if name.startswith("sites")] == ["sites=reef", "sites=wreck"]
    assert found["sites=reef"].protected and places(found["sites=reef"].pictures) == list(range(1, 40, 2))
    deep = [mask.pictures for name, mask in found.items() if name.startswith("depth=")]
    assert sum(deep).max() == 1 and places(sum(deep)) == [i for i in range(20, 40) if i % 4]  # type: ignore[arg-type]
    assert places(found["kinds=crab"].boxes) == list(range(1, 80, 2))
    assert found["sizes=small"].area == (0.0, 1024.0) and len(places(found["sizes=small"].boxes)) == 16
    assert places(found["night=True"].pictures) == list(range(0, 40, 3))
    assert "rare=reef" in found and "rare=wreck" not in found  # 38 alone


def test_slices_without_a_file() -> None:
    found = {mask.name: mask for mask in automatic_slices(records(), NAMES)}
    assert {"site=reef", "night=True", "size=small", "size=medium", "size=large", "class=fish", "class=crab"} < set(
        found
    )
    assert sum(name.startswith("depth=") for name in found) == 0  # seven or eight pictures are too few
    assert sum(mask.name.startswith("depth=") for mask in automatic_slices(records(), NAMES, minimum=7)) == 4
    assert found["class=crab"].boxes is not None and found["class=crab"].area is None
    assert automatic_slices([], NAMES) == []
    ignored = [replace(record, ignored=np.array([False, True])) for record in records()]
    assert not any(mask.name.startswith("class=") for mask in automatic_slices(ignored, NAMES))  # fish are the whole


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        book(
            tmp_path,
            """slices:
  fog:
    where: weather == = 'fog'
    protectd: true
  odd: {boxes: "size == 'tiny'", minimum_pictures: 0}
  none: {}
  circle:
    all_of: [back]
  back:
    all_of: [circle, fgo, sites]
  sites: {by: site}
  gone: {ids: gone.txt}
  limit: {where: "a > 1", limits: {map5: {minimum: 1}}}
  empty: {where: "a > 1", limits: {map50: {}}}
  a/b: {where: "a > 1"}
""",
        )
    text = str(error.value)
    path = tmp_path / "slices.yaml"
    for part in (
        "12 mistakes in",
        f"{path}:3: slices.fog.where: cannot be read: = does not belong here (column 12",
        f"{path}:4: slices.fog.protectd: no such setting",
        f"{path}:5: slices.odd.boxes: size is one of 'small', 'medium', 'large'",
        f"{path}:5: slices.odd.minimum_pictures:",
        f"{path}:6: slices.none: says nothing",
        f"{path}:8: slices.circle.all_of: 'back' leads back to 'circle'",
        f"{path}:10: slices.back.all_of: 'circle' leads back to 'back'",
        "no slice 'fgo'; did you mean 'fog'?",
        "'sites' is many slices",
        f"{path}:12: slices.gone.ids: {tmp_path / 'gone.txt'}: cannot be read (No such file or directory)",
        f"{path}:13: slices.limit.limits.map5: no metric 'map5'; did you mean",
        f"{path}:14: slices.empty.limits.map50: a limit needs a minimum or a maximum",
    ):
        assert part in text, part
    with pytest.raises(UserError, match="without '/'"):
        book(tmp_path, 'slices: {a/b: {where: "a > 1"}}')
    with pytest.raises(UserError, match=r"slices\.yaml:1: slice: no such setting"):
        book(tmp_path, "slice: {}")


def test_the_metrics_of_limits_are_those_of_an_evaluation() -> None:
    from marauder.data.slices.settings import METRICS
    from marauder.evaluation.metrics import Metrics

    assert set(METRICS) == set(Metrics.scalars()) - {"confidence", "pictures", "boxes", "detections"}


def kinds(tmp_path: Path, text: str, split: str | None = None) -> list[tuple[str, str | None, str]]:
    dataset = Dataset(NAMES, tuple(records()))
    return [(one.slice, one.split, one.kind) for one in check(book(tmp_path, text), dataset, split)]


def test_what_the_data_says_of_slices(tmp_path: Path) -> None:
    text = """
slices:
  typo: {where: dept > 3}
  swapped: {where: "occluded > 0.5"}
  other: {boxes: depth > 3}
  text: {where: depth == 'deep'}
  by: {by: sitee}
  keys: {by: key}
  ids: {ids: [picture1, nobody]}
"""
    dataset = Dataset(NAMES, tuple(records(120)))
    findings = check(book(tmp_path, text), dataset)
    assert {(one.slice, one.kind) for one in findings if one.severity == "error"} == {
        ("typo", "unknown-attribute"),
        ("swapped", "unknown-attribute"),
        ("other", "unknown-attribute"),
        ("text", "other-kind"),
        ("by", "unknown-attribute"),
        ("keys", "too-many-values"),
        ("ids", "unknown-id"),
    }
    words = "\n".join(map(str, findings))
    assert f"{tmp_path / 'slices.yaml'}:3: slices.typo.where: no attribute 'dept'; did you mean 'depth'?" in words
    assert "it is an attribute for 'boxes'" in words and "it is an attribute for 'where'" in words
    assert "'depth' holds numbers, but is compared with text" in words
    assert "slices.ids.ids: 1 of 2 are not keys of pictures: nobody" in words
    with pytest.raises(UserError, match=r"7 mistakes in .*slices\.yaml"):
        refuse_mistakes(findings)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "slices:\n", "slices: {}\n"])
def test_a_file_without_slices_says_how_to_write_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"slices\.yaml: defines no slices; write one below the word slices"):
        book(tmp_path, text)


def test_values_that_no_data_have_are_told_with_those_that_there_are(tmp_path: Path) -> None:
    text = """
slices:
  a:
    where: depth = 99
  b:
    where: site IN ('nowhere', 'reef')
  c:
    boxes: class = 'wolf'
"""
    found = [one for one in check(book(tmp_path, text), Dataset(NAMES, tuple(records()))) if one.split is None]
    assert [(one.slice, one.severity, one.kind) for one in found] == [
        ("c", "error", "unknown-class"),
        ("a", "warning", "unknown-value"),
        ("b", "warning", "unknown-value"),
    ]
    assert "'depth' is never 99; it is: 1 to 39" in found[1].message
    assert "'site' is never 'nowhere'; it is: reef, wreck" in found[2].message


def test_empty_tiny_and_equal_slices_are_told_split_by_split(tmp_path: Path) -> None:
    text = """
slices:
  shallow: {where: depth < 15}
  wrek: {where: site == 'wrek'}
  reef: {where: site == 'reef'}
  again: {where: not site == 'wreck', minimum_pictures: 11}
  all: {boxes: area > 0}
"""
    assert kinds(tmp_path, text) == [
        ("wrek", None, "unknown-value"),
        ("shallow", "train", "tiny"),
        ("wrek", "train", "empty"),
        ("reef", "train", "tiny"),
        ("again", "train", "tiny"),
        ("all", "train", "tiny"),
        ("again", "train", "equal"),
        ("all", "train", "equal"),
        ("shallow", "val", "empty"),
        ("wrek", "val", "empty"),
        ("reef", "val", "tiny"),
        ("again", "val", "tiny"),
        ("all", "val", "tiny"),
        ("again", "val", "equal"),
        ("all", "val", "equal"),
    ]
    dataset = Dataset(NAMES, tuple(records()))
    found = check(book(tmp_path, text), dataset, "val")
    words = "\n".join(map(str, found))
    assert "'site' is never 'wrek'; did you mean 'wreck'? it is: reef, wreck" in words
    assert "again (val): tiny: 10 pictures of at least 11, 20 boxes of at least 50" in words
    assert "takes the same pictures and boxes as 'reef'" in words and "as the whole split" in words
    refuse_mistakes(found)
    with pytest.raises(UserError, match="no split named 'tset'"):
        check(book(tmp_path, text), dataset, "tset")


def test_counts_leave_out_what_does_not_count() -> None:
    first, second, third = records(3)
    mixed = [replace(first, labelled=False), replace(second, ignored=np.array([True, False])), third]
    counter = Counter(mixed)
    boxes = np.array([True, False] * 3)
    held = counter.count(SliceMask("fish", np.ones(3, bool), boxes))
    assert (held.pictures, held.boxes, held.groups) == (1, 1, 1)
    held = counter.count(SliceMask("all", np.ones(3, bool)))
    assert (held.pictures, held.boxes) == (2, 3)


def write_set(root: Path) -> Path:
    (root / "slices.yaml").write_text(
        "slices:\n  crabs: {boxes: \"class == 'crab'\"}\n  wide: {where: width > height}\n"
    )
    return small_sets.yolo(root)


def test_commands_check_and_show(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    options = ["--slices", str(root / "slices.yaml"), "--data", str(root / "data.yaml")]
    checked = CliRunner().invoke(app, ["check", *options])
    assert checked.exit_code == 0, checked.output
    for part in ("split train", "split val", "crabs", "tiny: 1 pictures", "remarks"):
        assert part in " ".join(checked.output.split()), part
    one = CliRunner().invoke(app, ["check", *options, "--split", "val"])
    assert "split train" not in one.output
    sheet = tmp_path / "out" / "crabs.png"
    shown = CliRunner().invoke(app, ["show", *options, "--name", "crabs", "--sheet", str(sheet)])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines() == ["train/a"]
    assert sheet.stat().st_size > 1000


def test_commands_leave_with_status_2_on_mistakes(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    (root / "bad.yaml").write_text("slices:\n  deep: {where: depht > 3}\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "marauder.cli.main", "slices", *words, "--data", str(root / "data.yaml")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    bad = run("check", "--slices", str(root / "bad.yaml"))
    assert bad.returncode == 2
    assert f"{root / 'bad.yaml'}:2: slices.deep.where: no attribute 'depht'" in bad.stderr
    unknown = run("show", "--slices", str(root / "slices.yaml"), "--name", "crab")
    assert unknown.returncode == 2
    assert "no slice 'crab'; did you mean 'crabs'?" in unknown.stderr


def test_settings_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys, marauder.data.slices.settings, marauder.data.slices.resolve, marauder.cli.slices;"
        "heavy = {'torch', 'scipy', 'cv2', 'matplotlib', 'polars', 'pandas', 'PIL'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_rows_are_one_for_each_slice_and_split(tmp_path: Path) -> None:
    dataset = Dataset(NAMES, tuple(records()))
    rows = count_slices(book(tmp_path, "slices: {sites: {by: site}}"), dataset)
    assert [(row.split, row.mask.name, row.count.pictures) for row in rows] == [
        ("train", "sites=reef", 10),
        ("train", "sites=wreck", 10),
        ("val", "sites=reef", 10),
        ("val", "sites=wreck", 10),
    ]
