"""The table of active learning: its arms' settings, what a selection may see, budgets, ratios and verdicts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import active_learning_gain as gain
from marauder.core.settings import load_settings
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.selection.settings import SelectionSettings


def lines(arm: str, seed: int, curve: list[tuple[int, float]], first: int = 1) -> list[dict[str, Any]]:
    """Finished rounds of an arm: boxes and mAP50 of each."""
    key = {"seed": seed, "scale": "small", "pictures": "aquarium", "weights": "0140"}
    return [
        {
            "training": {"arm": arm, "round": number, **key},
            "boxes": boxes,
            "price": 0.1 * boxes,
            "map50": reached,
            "map50_95": reached / 2,
        }
        for number, (boxes, reached) in enumerate(curve, first)
    ]


def table(ahead: float, seeds: int = 3) -> list[dict[str, Any]]:
    """Random rises by 0.1 with each doubling of its boxes; hybrid has what random would with ``ahead`` as many."""
    found = []
    for seed in range(seeds):
        shift = 0.01 * seed

        def at(boxes: float, shift: float = shift) -> float:
            return 0.2 + shift + 0.1 * math.log2(boxes / 100)

        noise = 1 + 0.02 * (seed - 1)
        found += lines("beginning", seed, [(100, at(100))], 0)
        found += lines("random", seed, [(boxes, at(boxes)) for boxes in (200, 300, 400)])
        # More boxes than random's in the first round: what they bring is no gain.
        found += lines("hybrid", seed, [(boxes, at(boxes * ahead * noise)) for boxes in (250, 300, 400)])
    return found


def test_every_arm_has_settings_that_step_3_takes(tmp_path: Path) -> None:
    for words in gain.ARMS.values():
        load_settings(SelectionSettings, None, words, pool=tmp_path)
    assert not gain.ARMS["hybrid"], "as shipped"


def test_the_data_set_that_a_selection_reads_holds_no_hidden_label(tmp_path: Path) -> None:
    records = []
    for number, split in enumerate(["train", "train", "train", "val", "test"]):
        picture = tmp_path / f"{number}.jpg"
        Image.new("RGB", (64, 64), (40 * number, 9, 9)).save(picture)
        box = np.array([[1.0, 2.0, 30.0, 40.0]])
        records.append(Record(f"{number}", picture, 64, 64, box, np.zeros(1), split=split, group=f"clip {number}"))
    data = gain.write_known(Dataset(("fish",), tuple(records)), ["1"], tmp_path / "data")
    read = {record.key: record for record in read_dataset(data)}
    assert {key: (record.labelled, len(record.boxes), record.split) for key, record in read.items()} == {
        "0": (False, 0, None),
        "1": (True, 1, "train"),
        "2": (False, 0, None),
        "3": (True, 1, "val"),
        "4": (True, 1, "test"),
    }
    # Neither do its files, beside what is read from them.
    assert sorted(path.stem for path in data.parent.rglob("labels/*/*.txt")) == sorted(
        path.stem for path in data.parent.rglob("images/*/*.jpg") if path.parent.name != "unlabelled"
    )


def test_labels_are_revealed_until_the_budget_is_spent() -> None:
    pool = {
        name: Record(name, Path(name), 9, 9, np.zeros((n, 4)), np.zeros(n)) for name, n in zip("abcd", (3, 0, 4, 9))
    }
    assert gain.reveal(pool, ["a", "b", "c", "d"], 6) == ["a", "b", "c"]
    assert gain.reveal(pool, ["a", "b"], 6) == ["a", "b"]
    assert gain.reveal(pool, ["a"], 0) == []


@pytest.mark.parametrize(("ahead", "verdict"), [(1.5, "met"), (1.0, "refuted"), (1.29, "open")])
def test_the_ratio_is_that_of_boxes_at_equal_map(ahead: float, verdict: str) -> None:
    ratio = gain.cost_ratio(table(ahead), "hybrid")
    assert ratio.mean == pytest.approx(ahead, rel=1e-3) and ratio.low < ahead < ratio.high and ratio.pairs == 3
    found = gain.findings(table(ahead))
    assert [one.verdict for one in found] == [verdict]
    assert f"{ahead:.2f}" in found[0].figure and "aquarium, small, from COCO weights" in found[0].question


def test_only_seeds_with_all_rounds_of_both_arms_count() -> None:
    cut = [line for line in table(1.5) if line["training"] != {**line["training"], "seed": 2, "round": 2}]
    assert gain.cost_ratio(cut, "hybrid").pairs == 2
    assert gain.cost_ratio(cut, "entropy") is None
    assert gain.findings([line for line in cut if line["training"]["arm"] != "random"]) == []


def test_where_random_does_not_rise_nothing_is_shown() -> None:
    flat = [{**line, "map50": 0.3 - 0.001 * line["training"]["round"]} for line in table(1.5)]
    assert math.isnan(gain.cost_ratio(flat, "hybrid").mean)
    assert [one.verdict for one in gain.findings(flat)] == ["open"]


def test_hybrid_and_random_come_first_and_share_their_beginning() -> None:
    parser = gain.command_line()
    arguments = parser.parse_args(["--arms", "entropy", "random", "hybrid", "--seeds", "2", "--scale", "tiny"])
    keys = gain.trainings(arguments)
    order = [(key["seed"], key["arm"], key["round"]) for key in keys]
    of_seed = [("beginning", 0), ("hybrid", 1), ("hybrid", 2), ("random", 1), ("random", 2)]
    main = [(seed, arm, number) for seed in (0, 1) for arm, number in of_seed]
    assert order == main + [(seed, "entropy", number) for seed in (0, 1) for number in (1, 2)]
