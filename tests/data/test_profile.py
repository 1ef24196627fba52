"""Profiles: features mean what they say, the sample is steady, files survive and damage is noticed."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import DamagedFileError, write_json
from marauder.data.profile import (
    Profile,
    load_profile,
    measure_pixels,
    profile_dataset,
    sample_records,
    save_profile,
)
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    records = []
    for number in range(6):
        path = tmp_path / "pictures" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((60, 80, 3), (200, 100, 50 + number), np.uint8))
        boxes = np.array([[0, 0, 40, 30], [10, 10, 20, 22]], np.float64)[: number % 3]
        records.append(
            Record(
                str(number),
                path,
                80,
                60,
                boxes,
                np.arange(len(boxes)),
                group=f"clip{number // 2}",
                attributes={"water": "clear" if number else "turbid", "depth": float(number), "name": f"dive {number}"},
            )
        )
    return Dataset(("fish", "shark"), tuple(records), "reef")


def test_features_are_what_they_say(dataset: Dataset) -> None:
    profile = profile_dataset(dataset)
    assert profile.keys == tuple("012345") and profile.group_count() == 3 and profile.pictures == 6
    numbers = profile.numeric
    np.testing.assert_allclose(numbers["red"], (50 + np.arange(6)) / 255, atol=1e-6)
    np.testing.assert_allclose(numbers["green"], 100 / 255, atol=1e-6)
    np.testing.assert_allclose(numbers["blue"], 200 / 255, atol=1e-6)
    np.testing.assert_allclose(numbers["blue_red"], np.log2(201 / (51 + np.arange(6))), atol=1e-5)
    luminance = (0.299 * (50 + np.arange(6)) + 0.587 * 100 + 0.114 * 200) / 255
    np.testing.assert_allclose(numbers["brightness"], luminance, atol=1e-5)
    np.testing.assert_allclose(numbers["contrast"], 0, atol=1e-5)
    np.testing.assert_allclose(numbers["sharpness"], math.log2(1 / 255), atol=1e-3)
    assert set(numbers["width"].tolist()) == {80.0} and set(numbers["height"].tolist()) == {60.0}
    assert numbers["boxes"].tolist() == [0, 1, 2, 0, 1, 2]
    assert profile.box_picture.tolist() == [1, 2, 2, 4, 5, 5]
    np.testing.assert_allclose(profile.box_numeric["box_size"][:3], [0.5, 0.5, math.sqrt(120 / 4800)], rtol=1e-6)
    assert profile.box_class.tolist() == ["fish", "fish", "shark", "fish", "fish", "shark"]
    assert numbers["attribute depth"].tolist() == [0, 1, 2, 3, 4, 5]
    assert profile.categories["attribute water"].tolist() == ["turbid", *["clear"] * 5]


def test_a_blurred_picture_is_less_sharp_and_a_small_copy_measures_alike() -> None:
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), (1024, 768))
    plain, blurred = measure_pixels(picture), measure_pixels(cv2.GaussianBlur(picture, (0, 0), 12))
    assert blurred["sharpness"] < plain["sharpness"] - 1
    small = measure_pixels(cv2.resize(picture, (512, 384), interpolation=cv2.INTER_AREA))
    assert all(abs(small[name] - plain[name]) < 0.02 for name in ("brightness", "contrast", "red", "blue_red"))
    assert abs(small["sharpness"] - plain["sharpness"]) < 0.2


def test_what_nobody_labelled_and_what_cannot_be_read_is_unknown_not_zero(dataset: Dataset) -> None:
    records = list(dataset.records)
    records[1] = replace(records[1], labelled=False)
    records[2].picture.write_bytes(b"no picture")
    records[5] = replace(records[5], ignored=np.array([True, False]))
    profile = profile_dataset(dataset.with_records(records))
    assert math.isnan(profile.numeric["boxes"][1]) and profile.box_picture.tolist() == [2, 2, 4, 5]
    assert math.isnan(profile.numeric["brightness"][2]) and profile.numeric["boxes"][2] == 2
    assert len(profile.set_aside) == 1 and str(records[2].picture) in profile.set_aside[0]


def test_attributes_that_name_single_pictures_are_not_compared(dataset: Dataset) -> None:
    many = dataset.with_records(
        replace(dataset.records[0], key=str(number), attributes={"url": f"p{number}", "site": number % 3 == 0})
        for number in range(60)
    )
    profile = profile_dataset(many)
    assert set(profile.categories) == {"attribute site"}
    assert set(profile.categories["attribute site"].tolist()) == {"True", "False"}


@given(st.integers(0, 5), st.integers(1, 60), st.integers(0, 40))
def test_a_grown_data_set_keeps_what_it_had_in_the_sample(seed: int, sample: int, more: int) -> None:
    records = [Record(f"picture{number}", Path("x"), 10, 10) for number in range(60 + more)]
    before = {record.key for record in sample_records(records[:60], sample, seed)}
    after = {record.key for record in sample_records(records, sample, seed)}
    assert len(before) == sample and len(after) == sample
    new = {record.key for record in records[60:]}
    assert after - new <= before, "only new pictures push others out"


def test_the_sample_depends_on_the_seed_and_not_on_the_order() -> None:
    records = [Record(f"picture{number}", Path("x"), 10, 10) for number in range(200)]
    drawn = [{record.key for record in sample_records(order, 20, seed)} for order, seed in
             ((records, 0), (records[::-1], 0), (records, 1))]  # fmt: skip
    assert drawn[0] == drawn[1] != drawn[2]


def test_profiling_stops_when_the_clock_says_so(dataset: Dataset) -> None:
    with pytest.raises(Interrupted):
        profile_dataset(dataset, clock=Clock(max_seconds=1e-9))


def same(one: Profile, other: Profile) -> None:
    assert (one.keys, one.groups, one.pictures, one.source) == (other.keys, other.groups, other.pictures, other.source)
    assert (one.embedded_by, one.set_aside, dict(one.about)) == (other.embedded_by, other.set_aside, dict(other.about))
    for here, there in ((one.numeric, other.numeric), (one.categories, other.categories)):
        assert here.keys() == there.keys()
        for name in here:
            np.testing.assert_array_equal(here[name], there[name])
            assert here[name].dtype == there[name].dtype
    np.testing.assert_array_equal(one.box_class, other.box_class)
    np.testing.assert_array_equal(one.box_picture, other.box_picture)
    np.testing.assert_array_equal(one.box_numeric["box_size"], other.box_numeric["box_size"])
    if one.embeddings is not None and other.embeddings is not None:
        np.testing.assert_array_equal(one.embeddings, other.embeddings)
    assert (one.embeddings is None) == (other.embeddings is None)


def test_a_saved_profile_comes_back_and_is_the_same_file_every_time(dataset: Dataset, tmp_path: Path) -> None:
    profile = profile_dataset(dataset)
    for made in (profile, profile.with_embeddings(np.eye(6, 4), "ab" * 32)):
        for folder in ("one", "two"):
            save_profile(made, tmp_path / folder)
        same(made, load_profile(tmp_path / "one"))
        for name in ("reference_profile.json", "reference_profile.npz"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    facts = json.loads((tmp_path / "one" / "reference_profile.json").read_text(encoding="utf-8"))
    assert facts["classes"] == {"fish": round(4 / 6, 5), "shark": round(2 / 6, 5)}
    assert facts["features"]["boxes"]["median"] == 1.0 and facts["embedded_by"] == "ab" * 32


def test_damaged_profiles_are_told_and_pickles_are_not_opened(dataset: Dataset, tmp_path: Path) -> None:
    packed, facts = tmp_path / "reference_profile.npz", tmp_path / "reference_profile.json"
    with pytest.raises(FileNotFoundError):
        load_profile(tmp_path)
    save_profile(profile_dataset(dataset), tmp_path)
    whole, described = packed.read_bytes(), json.loads(facts.read_text(encoding="utf-8"))
    packed.write_bytes(whole[:-40])
    with pytest.raises(DamagedFileError, match="is not the one"):
        load_profile(tmp_path)
    packed.write_bytes(whole)
    facts.write_text("{", encoding="utf-8")
    with pytest.raises(DamagedFileError, match="not valid JSON"):
        load_profile(tmp_path)
    write_json(facts, {**described, "format": 99})
    with pytest.raises(DamagedFileError, match="not a profile of format"):
        load_profile(tmp_path)
    for content in (whole[:-40], pickled()):
        from hashlib import sha256

        packed.write_bytes(content)
        write_json(facts, {**described, "arrays_sha256": sha256(content).hexdigest()})
        with pytest.raises(DamagedFileError, match="cannot be read"):
            load_profile(tmp_path)


def pickled() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = io.BytesIO()
        np.lib.format.write_array(entry, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        archive.writestr("keys.npy", entry.getvalue())
    return buffer.getvalue()


def test_taking_some_pictures_takes_their_boxes(dataset: Dataset) -> None:
    whole = profile_dataset(dataset).with_embeddings(np.arange(12.0).reshape(6, 2), "x")
    part = whole.take([5, 1])
    assert part.keys == ("5", "1") and part.groups == ("clip2", "clip0") and part.pictures == 2
    assert part.box_picture.tolist() == [1, 0, 0] and part.box_class.tolist() == ["fish", "fish", "shark"]
    assert part.embeddings is not None and part.embeddings.tolist() == [[10, 11], [2, 3]]
    with pytest.raises(ValueError, match="6 pictures"):
        whole.with_embeddings(np.zeros((5, 2)), "x")


def test_real_pictures(shared_data: Path) -> None:
    profile = profile_dataset(read_dataset(shared_data / "aquarium", format="yolo"), sample=50)
    assert len(profile) == 50 and profile.pictures == 575 and not profile.set_aside
    for name, values in profile.numeric.items():
        assert np.isfinite(values).all(), name
    assert 0.1 < np.median(profile.numeric["brightness"]) < 0.8 and np.median(profile.numeric["blue_red"]) > 0
