"""The table of step 1's gain: which trainings it runs in which order, and what it concludes from their figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

import pretraining_gain
from detector_trainings import add_training_options
from marauder.data.records import Dataset, Record
from pretraining_gain import ARMS, MAIN, PRETRAININGS, Place, findings, labelled_part, trainings
from tables import Line


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fractions", type=int, nargs="+", default=[10, 100])
    add_training_options(parser, ARMS)
    return parser.parse_args(list(words))


def with_weights(folder: Path) -> tuple[str, str]:
    (folder / "coco.pt").write_bytes(b"weights")
    return "--weights", str(folder / "coco.pt")


def test_a_backbone_is_pretrained_before_the_detector_that_takes_it_and_only_once(tmp_path: Path) -> None:
    keys = trainings(options(*with_weights(tmp_path), "--seeds", "2"))
    assert all(key not in keys[:place] for place, key in enumerate(keys))
    pretrained = set()
    for key in keys:
        if key["arm"] == "pretraining":
            pretrained.add((key["of"], key["seed"]))
        elif ARMS[key["arm"]].backbone:
            assert (ARMS[key["arm"]].backbone, key["seed"]) in pretrained
    assert pretrained == {(name, seed) for name in PRETRAININGS for seed in (0, 1)}


def test_main_arms_of_all_seeds_at_the_first_fraction_come_first(tmp_path: Path) -> None:
    keys = trainings(options(*with_weights(tmp_path), "--seeds", "3"))
    detectors = [key for key in keys if key["arm"] != "pretraining"]
    first = detectors[: 3 * len(MAIN)]
    assert {(key["arm"], key["seed"], key["percent"]) for key in first} == {(a, s, 10) for a in MAIN for s in range(3)}
    assert [key["percent"] for key in detectors if key["arm"] not in MAIN] == [10] * 3 * (len(ARMS) - len(MAIN))


def test_random_arms_are_the_same_trainings_with_and_without_weights_to_start_the_others_from(tmp_path: Path) -> None:
    alone = trainings(options("--seeds", "1"))
    assert {key["arm"] for key in alone} == {"random", "ours_random", "ours_random_distillation", "pretraining"}
    assert all(key in trainings(options(*with_weights(tmp_path), "--seeds", "1")) for key in alone)


@pytest.mark.parametrize("name", PRETRAININGS)
def test_every_pretraining_has_settings_that_step_1_takes(name: str, tmp_path: Path) -> None:
    _, weights = with_weights(tmp_path)
    (tmp_path / "data.yaml").write_text("train: .\nnames: [fish]\n", encoding="utf-8")
    training = {"scale": "small", "seed": 3, "device": "cpu", "threads": 1, "start": weights}
    place = Place(tmp_path, tmp_path / "data.yaml", training)
    settings = place.pretraining_settings(name, tmp_path / "data.yaml", 7)
    made = PRETRAININGS[name]
    assert (settings.training.epochs, settings.training.seed) == (7, 3)
    assert settings.weights == (Path(weights) if made.start == "coco" else None)
    assert settings.pretraining.method == ("distillation" if "distillation" in name else "moco")
    assert (settings.training.optimizer.learning_rate < 1e-3) == ("low_rate" in name)


def clips(sizes: dict[str, tuple[int, int]]) -> Dataset:
    """A data set of clips, each of so many pictures with a box of one class."""
    records = [
        Record(f"{clip}_{place}", Path(f"{clip}_{place}.jpg"), 100, 100, [[1, 1, 9, 9]], [index], group=clip)
        for clip, (count, index) in sizes.items()
        for place in range(count)
    ]
    return Dataset(("fish", "shark", "puffin"), tuple(records))


@pytest.mark.parametrize("seed", range(5))
def test_labelled_parts_are_clips_with_every_class_and_lie_in_larger_ones(seed: int) -> None:
    dataset = clips({**{f"long{n}": (20, 0) for n in range(8)}, "a": (2, 1), "b": (3, 1), "c": (2, 2), "d": (1, 0)})
    sizes = {clip: sum(record.group == clip for record in dataset) for clip in {record.group for record in dataset}}
    before: set[str] = set()
    for percent in (5, 25, 100):
        part = labelled_part(dataset, percent, seed)
        groups = [record.group for record in part]
        assert all(groups.count(clip) == sizes[clip] for clip in groups if clip != groups[-1])
        assert len(part) == round(len(dataset) * percent / 100)
        assert {int(record.classes[0]) for record in part} == {0, 1, 2}
        assert before <= {record.key for record in part}
        before = {record.key for record in part}


def test_a_picture_whose_labels_are_hidden_is_unlabelled_and_not_empty() -> None:
    record = Record("a", Path("a.jpg"), 10, 10, [[1, 1, 9, 9]], [0], box_attributes={"occluded": np.array([True])})
    hidden = pretraining_gain.without_labels(record)
    assert (len(hidden.boxes), len(hidden.box_attributes["occluded"]), hidden.labelled) == (0, 0, False)


def detectors(arm: str, values: list[float], percent: int = 10, scale: str = "small") -> list[Line]:
    about = {"arm": arm, "percent": percent, "pictures": "aquarium", "scale": scale}
    return [
        {"training": {**about, "seed": seed}, "map50": value, "map50_95": value} for seed, value in enumerate(values)
    ]


def probes(of: str, gains: list[float]) -> list[Line]:
    about = {"arm": "pretraining", "of": of, "pictures": "aquarium", "scale": "small"}
    return [{"training": {**about, "seed": seed}, "probe_gain": gain} for seed, gain in enumerate(gains)]


PLAIN = detectors("coco", [0.20, 0.21, 0.22])


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [([0.25, 0.26, 0.27], "met"), ([0.20, 0.21, 0.221], "refuted"), ([0.20, 0.30, 0.19], "open")],
)
def test_the_target_is_judged_by_the_paired_interval(ours: list[float], verdict: str) -> None:
    found = findings([*PLAIN, *detectors("ours_coco", ours), *detectors("ours_coco", [0.9, 0.9, 0.9], percent=5)])
    assert [row.verdict for row in found] == [verdict]
    assert "3 pairs" in found[0].figure
    assert ("is advised" in found[0].consequence) == (verdict == "met")


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [([0.1] * 9, "met"), ([-0.1] * 9, "refuted"), ([0.1] * 5 + [-0.1] * 4, "open")],
)
def test_the_probe_is_kept_only_where_its_sign_is_that_of_the_detector(gains: list[float], verdict: str) -> None:
    lines = [*detectors("coco", [0.2] * 9), *detectors("ours_coco", [0.3] * 9), *probes("coco", gains)]
    row = findings(lines)[-1]
    assert (row.verdict, "probe" in row.question) == (verdict, True)
    assert ("nothing" in row.consequence) == (verdict != "met")


def test_trainings_that_only_try_the_command_prove_nothing() -> None:
    lines = detectors("coco", [0.1, 0.1], scale="tiny") + detectors("ours_coco", [0.5, 0.5], scale="tiny")
    assert findings(lines) == []
