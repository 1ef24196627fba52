"""The contract of drift engines, and made-up profiles to compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from marauder.core.plugins import make
from marauder.data.profile import PICTURE_FEATURES, Profile
from marauder.gates.drift_engine_base import DriftEngine


def halves(profile: Profile, seed: int) -> tuple[Profile, Profile]:
    """Two random halves of a profile that share no group."""
    groups = sorted(set(profile.groups))
    chosen = set(np.random.default_rng(seed).permutation(groups)[: len(groups) // 2].tolist())
    first = np.array([group in chosen for group in profile.groups])
    return profile.take(np.flatnonzero(first)), profile.take(np.flatnonzero(~first))


def clips(seed: int, shift: float = 0.0, clips: int = 24, frames: int = 30, within: float = 0.3) -> Profile:
    """Made-up pictures: every clip has its own level, its frames differ little; ``shift`` moves all of them."""
    random = np.random.default_rng(seed)
    levels = random.normal(shift, 1, (clips, len(PICTURE_FEATURES)))
    values = np.repeat(levels, frames, axis=0) + random.normal(0, within, (clips * frames, len(PICTURE_FEATURES)))
    pictures = np.arange(clips * frames)
    return Profile(
        keys=tuple(f"{seed}-{number}" for number in pictures),
        groups=tuple(f"{seed}-{number // frames}" for number in pictures),
        numeric={name: values[:, place].astype(np.float32) for place, name in enumerate(PICTURE_FEATURES)},
        categories={"attribute water": np.repeat(random.choice(["clear", "turbid"], clips), frames)},
        box_picture=pictures,
        box_numeric={"box_size": random.random(len(pictures)).astype(np.float32)},
        box_class=np.repeat(random.choice(["fish", "shark"], clips), frames),
        pictures=len(pictures),
    )


class DriftEngineContract:
    """What every engine promises, whichever profiles it compares. A subclass is parametrized over ``name``."""

    def engine(self, name: str, **limits: float) -> DriftEngine:
        """The engine with these limits."""
        made: DriftEngine = make("drift_engine", name, limits)
        assert made.name == name
        return made

    def drifted(self, name: str, reference: Profile, current: Profile) -> set[str]:
        """The features that drifted."""
        return {item.feature for item in self.engine(name).compare(reference, current) if item.drifted}

    def test_halves_of_one_data_set_do_not_drift(self, name: str) -> None:
        for seed in range(3):
            found = self.engine(name).compare(*halves(clips(seed, clips=48), seed))
            assert len(found) == len(PICTURE_FEATURES) + 3 and not [item for item in found if item.drifted]
            assert all(item.limit >= 0.1 and item.engine == name for item in found)

    def test_only_what_changed_drifts(self, name: str) -> None:
        here, there = halves(clips(0, clips=48), 0)
        first, *others = PICTURE_FEATURES
        moved = replace(there, numeric={**there.numeric, first: there.numeric[first] + 3})
        assert self.drifted(name, here, moved) == {first}
        renamed = replace(there, box_class=np.where(there.box_class == "shark", "ray", there.box_class))
        assert self.drifted(name, here, renamed) == {"class"}
        assert {first, *others} <= self.drifted(name, here, clips(1, shift=3.0))

    def test_the_same_data_have_no_distance(self, name: str) -> None:
        for item in self.engine(name).compare(clips(0), clips(0)):
            assert item.value == pytest.approx(0, abs=1e-6) and item.p_value == 1 and not item.drifted

    def test_what_is_constant_or_known_on_one_side_only_is_no_obstacle(self, name: str) -> None:
        here, there = clips(0, clips=8), clips(1, clips=8)
        still = np.full(len(here), 7, np.float32)
        here = replace(here, numeric={**here.numeric, "still": still, "lost": still, "void": np.nan * still})
        there = replace(there, numeric={**there.numeric, "still": still, "void": np.nan * still}, categories={})
        found = {item.feature: item for item in self.engine(name).compare(here, there)}
        assert found["still"].value == 0 and not found["still"].drifted
        assert not {"lost", "void", "attribute water"} & set(found)
        moved = replace(there, numeric={**there.numeric, "still": still + 1})
        again = {item.feature: item for item in self.engine(name).compare(here, moved)}
        assert again["still"].value == pytest.approx(1000)

    def test_the_limits_are_those_that_were_given(self, name: str) -> None:
        sides = clips(0, clips=40), clips(1, shift=3.0, clips=40)
        assert all(item.drifted for item in self.engine(name).compare(*sides) if item.feature in PICTURE_FEATURES)
        strict = self.engine(name, numeric=100.0).compare(*sides)
        assert not [item for item in strict if item.drifted and item.kind == "numeric"]

    def test_engines_measure_the_same(self, name: str) -> None:
        sides = clips(0), clips(1, shift=1.0)
        ours, theirs = (self.engine(which).compare(*sides) for which in (name, "scipy"))
        for one, other in zip(ours, theirs, strict=True):
            assert replace(one, engine="", value=0) == replace(other, engine="", value=0)
            assert one.value == pytest.approx(other.value, rel=1e-6)
