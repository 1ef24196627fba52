"""The species table and the mapping of real sources' names onto it."""

from __future__ import annotations

import json
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.data.records import Dataset, Record
from marauder.data.taxonomy import Taxonomy, alike_pairs, apply_taxonomy, look_alike


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.load()


def test_the_table(taxonomy: Taxonomy):
    assert [entry.id for entry in taxonomy.species] == list(range(36))
    assert Counter(entry.tier for entry in taxonomy.species) == {
        "critical": 20,
        "important": 9,
        "general": 7,
    }
    assert taxonomy.class_names[0] == "Lionfish"
    assert taxonomy.class_names[19] == "Rockfish"
    assert taxonomy.class_names[35] == "Reef Fish (unidentified)"


def test_every_entry_matches_itself(taxonomy: Taxonomy):
    for entry in taxonomy.species:
        for name in (entry.common, entry.scientific, *entry.names, entry.common.upper(), f"{entry.scientific} sp."):
            assert taxonomy.match(name) == entry, name


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("Pterois volitans", "Lionfish"),
        ("Pterois sp. 2", "Lionfish"),
        ("Sebastes mystinus", "Rockfish"),
        ("sebastes_mystinus", "Rockfish"),
        ("Sebastolobus", "Reef Fish (unidentified)"),
        ("Strongylocentrotus purpuratus", "Purple Sea Urchin"),
        ("S. purpuratus", "Purple Sea Urchin"),
        ("Strongylocentrotus fragilis", "Sea Urchin (general)"),
        ("Strongylocentrotus", "Sea Urchin (general)"),
        ("Mesocentrotus nudus", "Sea Urchin (general)"),
        ("Oncorhynchus mykiss", "Rainbow Trout"),
        ("Oncorhynchus kisutch", "Salmon"),
        ("Pycnopodia helianthoides", "Sunflower Sea Star"),
        ("Holothuria (Vaneyothuria) zacae", None),
        ("Aeolidiidae sp. 1", "Sea Slug"),
        ("starfish", "Sea Star"),
        ("Sea urchins", "Sea Urchin (general)"),
        ("jellyfish", "Jellyfish"),
        ("shark", "Shark"),
        ("fish", "Reef Fish (unidentified)"),
        ("Sea pen", None),
        ("Enteroctopus megalocyathus", None),
        ("Haliotis", None),
        ("penguin", None),
        ("stingray", None),
        ("unidentified", None),
        ("", None),
    ],
)
def test_names(taxonomy: Taxonomy, name: str, common: str | None):
    found = taxonomy.match(name)
    assert (found.common if found else None) == common


# What FathomNet's coarse groups mean here; groups not named have no entry in the table.
GROUPS = {"Urchin": {"Sea Urchin (general)"}, "Sea star": {"Sea Star", "Sunflower Sea Star"}}
FISH = {"Reef Fish (unidentified)", "Rockfish", "Eel"}


def test_fathomnet_concepts(taxonomy: Taxonomy, shared_data: Path):
    categories = json.loads((shared_data / "fathomnet/fgvc2023_val.json").read_text())["categories"]
    for category in categories:
        found = taxonomy.match(category["name"])
        common = found.common if found else None
        group = category["supercategory"]
        if group in GROUPS:
            assert common in GROUPS[group], category
        elif group in ("Fish", "Eel"):
            assert common in FISH or category["name"] == "Eptatretus", category  # a hagfish is no ray-finned fish
        elif group == "Shrimp":
            assert common == "Shrimp" or category["name"].startswith("Calocarides"), category  # a ghost shrimp
        elif group == "Gastropod":
            assert common in ("Sea Slug", None), category
        else:
            assert common is None, category


def test_mistakes_in_a_file_are_all_named(tmp_path: Path):
    file = tmp_path / "species.yaml"
    file.write_text(
        "species:\n"
        "  - {id: 0, common: A, scientific: Aus bus, tier: critical, names: [x]}\n"
        "  - {id: 2, common: B, scientific: Cus, tier: general, names: [X]}\n"
    )
    with pytest.raises(UserError) as caught:
        Taxonomy.load(file)
    assert "ids must be 0 to 1" in str(caught.value)
    assert "'X' is in both 'A' and 'B'" in str(caught.value)
    file.write_text("species:\n  - {id: 0, common: A, scientific: Aus, tier: vital}\n")
    with pytest.raises(UserError, match=r"species.yaml:2"):
        Taxonomy.load(file)


def test_an_entry_with_wrong_keys_is_told_once_and_nothing_hides_what_else_is_wrong(tmp_path: Path):
    file = tmp_path / "species.yaml"
    file.write_text("species:\n  - {number: 0}\n  - {id: 0, scientific: Aus bus, tier: critical}\n")
    with pytest.raises(UserError) as caught:
        Taxonomy.load(file)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
        f"{file}:2: species.0: id, common, scientific, tier are missing",
        f"{file}:2: species.0.number: no such setting",
        f"{file}:3: species.1: common is missing",
    ]
    file.write_text(
        "species:\n"
        "  - {id: 0, common: A, scientific: Aus bus, tier: vital}\n"
        "  - {id: 5, common: B, scientific: Aus Bus, tier: general}\n"
        "  - 7\n"
    )
    with pytest.raises(UserError) as caught:
        Taxonomy.load(file)
    told = str(caught.value)
    assert "species.yaml:2: species.0.tier: " in told and "species.yaml:3: id 5: ids must be 0 to 2" in told
    assert "species.yaml:3: 'Aus Bus' is in both 'A' and 'B'" in told and "species.yaml:4: species.2" in told


def test_boxes_that_do_not_map_go_and_are_counted(taxonomy: Taxonomy):
    boxes = np.array([[0, 0, 5, 5], [1, 1, 6, 6], [2, 2, 7, 7]], float)
    records = (
        Record("a", Path("a"), 9, 9, boxes, np.array([0, 1, 1])),
        Record("b", Path("b"), 9, 9, boxes[:1], np.array([1]), np.array([True])),
    )
    result, mapping = apply_taxonomy(Dataset(("Pterois volitans", "anemone"), records), taxonomy)
    assert result.names == taxonomy.class_names
    assert result.records[0].classes.tolist() == [0]
    assert result.records[0].labelled
    assert not result.records[1].labelled
    assert mapping.unmapped == ("anemone",)
    assert mapping.boxes == {"Pterois volitans": 1, "anemone": 3}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Platlets", "Platelets", True),
        ("Sea Urchins", "sea_urchin", True),
        ("Lionfihs", "Lionfish", True),
        ("Sebastes mystinus", "Sebastes mystimus", True),
        ("class 1", "class 2", False),
        ("species10", "species11", False),
        ("cod", "cow", False),
        ("Sebastes mystinus", "Sebastes melanops", False),
        ("starfish", "swordfish", False),
        ("\u9c7c", "\u87f9", False),
    ],
)
def test_names_that_one_slip_makes_of_each_other(one: str, other: str, alike: bool):
    assert look_alike(one, other) is look_alike(other, one) is alike
    assert bool(alike_pairs([one, "crab", other])) is bool(alike_pairs([other, one])) is alike


@given(st.lists(st.text("abAs ", min_size=4, max_size=9), max_size=12))
def test_pairs_that_look_alike_are_all_found(names: list[str]):
    pairs = [(a, b) for a, b in combinations(range(len(names)), 2) if names[a] != names[b]]
    assert [pair[:2] for pair in alike_pairs(names)] == [p for p in pairs if look_alike(names[p[0]], names[p[1]])]


def test_many_names_are_compared_soon_and_the_clock_is_asked():
    letters = np.random.default_rng(0).integers(97, 123, (2000, 9), np.uint8)
    names = [f"genus {bytes(row).decode()}" for row in letters]
    started = time.perf_counter()
    assert alike_pairs([*names, names[7][:-1]]) == [(7, 2000, True)]
    assert time.perf_counter() - started < 3
    with pytest.raises(Interrupted):
        alike_pairs(names, Clock(max_seconds=1e-9))
