"""Groups by name, and groups joined by likeness."""

from __future__ import annotations

from pathlib import Path

import pytest

from marauder.core.errors import UserError
from marauder.data.groups import group_of, join_groups
from marauder.data.records import Dataset, Record


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("IMG_2274_MOV-3", "IMG_2274_MOV"),
        ("IMG_2274", "IMG_2274"),
        ("7117_Caranx_sexfasciatus_juvenile_f000005", "7117_Caranx_sexfasciatus_juvenile"),
        ("7117_no_fish_2_f000004", "7117_no_fish_2"),
        ("IMG_8599_MOV-0_jpg.rf.0123456789abcdef0123456789abcdef", "IMG_8599_MOV"),
        ("IMG_2301_jpeg_jpg.rf.aBcDeF0123456789", "IMG_2301_jpeg"),
        ("dive7.mp4_000123", "dive7.mp4"),
        ("dive7_frame_0012", "dive7"),
        ("dive7-frame12", "dive7"),
        ("COCO_val2014_000000123456", "COCO_val2014_000000123456"),
        ("DSC_0001", "DSC_0001"),
    ],
)
def test_names(name: str, group: str):
    assert group_of(name) == group


def test_a_bare_frame_number_takes_the_folder():
    assert group_of("frame_0001", folder="clip7") == "clip7"
    assert group_of("frame_0001") == group_of("frame_0002")


def test_own_pattern_comes_first():
    assert group_of("dive12_cam3_0001", r"^(?P<clip>dive\d+)_") == "dive12"
    assert group_of("other_0001", r"^(?P<clip>dive\d+)_") == "other_0001"
    with pytest.raises(UserError, match="not a regular expression"):
        group_of("a", "(")
    with pytest.raises(UserError, match="brackets"):
        group_of("a", "dive")


def test_joining_is_transitive_and_independent_of_order():
    records = [Record(key, Path(key), 9, 9, group=group) for key, group in zip("abcdef", "112234")]
    dataset = Dataset(("x",), tuple(records))
    expected = ["1", "1", "1", "1", "1", "4"]
    for clusters in ([["b", "c"], ["d", "e"]], [["e", "d"], ["c", "a"]]):
        assert [record.group for record in join_groups(dataset, clusters)] == expected


def test_aquarium_clips(shared_data: Path):
    names = [file.stem for file in (shared_data / "aquarium/images").iterdir()]
    groups = {name: group_of(name) for name in names}
    clips = {name.split("_MOV-")[0] for name in names if "_MOV-" in name}
    assert len(set(groups.values())) == len(names) - sum("_MOV-" in name for name in names) + len(clips)
    assert len(clips) >= 10
