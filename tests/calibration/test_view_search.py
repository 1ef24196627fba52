"""The greedy search for views: kept only where a gain shows beyond its price, the same whatever time was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marauder.calibration.settings import ViewSettings
from marauder.calibration.view_search import ViewSearch, confirm, fused_views, search_views
from marauder.data.records import Detections, Record
from marauder.prediction.view_fusion import view_fusion
from marauder.prediction.view_names import PLAIN, find_picture_views

NAMES = ("fish",)
VIEWS = find_picture_views((PLAIN, "flip", "turn_180", "tiles_2x2"))


def world(seed: int, clips: int = 30) -> tuple[list[Record], dict[str, list[Detections]]]:
    """Pictures of four animals among false boxes. The plain look is unsure of all; ``flip`` finds the animals with
    false boxes elsewhere, so that both together tell them apart; ``turn_180`` says what the plain look says;
    ``tiles_2x2`` shows only false boxes."""
    random = np.random.default_rng(seed)
    records, seen = [], {view.name: list[Detections]() for view in VIEWS}
    for number in range(clips * 2):
        corners = np.stack([np.arange(4) * 30.0 + 5, random.uniform(5, 100, 4)], axis=1)
        boxes = np.concatenate([corners, corners + 20], axis=1)
        records.append(Record(f"p{number}", Path("p"), 130, 130, boxes, np.zeros(4, int), group=f"c{number // 2}"))

        def look(count: int, chance: np.random.Generator, boxes: np.ndarray = boxes) -> Detections:
            wrong = chance.uniform(0, 110, (count, 2))
            every = np.concatenate([boxes, np.concatenate([wrong, wrong + 15], axis=1)])
            return Detections(every, chance.uniform(0.3, 0.9, len(every)), np.zeros(len(every), int))

        plain = look(6, random)
        seen[PLAIN].append(plain)
        seen["flip"].append(look(6, random))
        seen["turn_180"].append(plain)
        seen["tiles_2x2"].append(look(12, random).chosen(slice(4, None)))
    return records, seen


def searched(seed: int = 0, clips: int = 30, seconds: float = 1.0, **given: object) -> ViewSearch:
    records, seen = world(seed, clips)
    settings = ViewSettings(draws=100).changed(given)
    return search_views(records, seen, dict.fromkeys(seen, seconds), VIEWS, NAMES, settings, 0)


def test_what_helps_is_kept_and_what_only_costs_is_not() -> None:
    found = searched()
    assert found.kept == (PLAIN, "flip") and found.helps and found.groups == 30
    first = {one.view: one for one in found.trials if one.round == 1}
    assert first["flip"].kept and first["flip"].low > 0.002 and first["flip"].gain > 0.05
    assert first["turn_180"].gain == pytest.approx(0, abs=0.01) and not first["turn_180"].kept
    assert first["tiles_2x2"].cost == 4 and first["tiles_2x2"].gain < 0
    assert "flip" in found.words() and {one.round for one in found.trials} == {1, 2}


@pytest.mark.parametrize("given", [{"price": 0.5}, {"most": 0}])
def test_a_price_or_a_limit_forbids_what_would_help(given: dict[str, object]) -> None:
    found = searched(**given)
    assert found.kept == (PLAIN,) and not found.helps
    assert "none" in found.words()


def test_few_clips_show_nothing_beyond_doubt() -> None:
    """With a handful of clips a gain by chance must not pass for one: same detections, other labels."""
    kept = 0
    for seed in range(6):
        records, seen = world(seed, 4)
        seen = {PLAIN: seen[PLAIN], **{name: world(seed + 100, 4)[1]["tiles_2x2"] for name in ("flip", "tiles_2x2")}}
        views = [view for view in VIEWS if view.name in seen]
        settings = ViewSettings(draws=100)
        kept += search_views(records, seen, dict.fromkeys(seen, 1.0), views, NAMES, settings, 0).helps
    assert kept == 0


def test_measured_time_is_told_and_decides_nothing() -> None:
    slow, fast = searched(seconds=100.0), searched(seconds=0.1)
    assert slow.kept == fast.kept and slow.plain_milliseconds == pytest.approx(1000 * fast.plain_milliseconds)


def test_the_gain_is_measured_again_where_it_was_not_chosen() -> None:
    records, seen = world(7)
    fused = fused_views([seen[PLAIN], seen["flip"]], view_fusion())
    found = confirm(records, seen[PLAIN], fused, NAMES, ViewSettings(draws=100), 0)
    assert found.low < found.value - found.plain < found.high and found.low > 0
    assert found.metric in found.words()


def test_what_suppression_alone_gives_is_no_gain_of_a_view() -> None:
    """Each animal is shown twice, by boxes that the detector's own suppression leaves; the view shows the same."""
    records, seen = world(3)
    twice = [
        Detections(
            np.concatenate([one.boxes, one.boxes + np.array([4.0, 0.0, 4.0, 0.0])]),
            np.concatenate([one.scores, one.scores * 0.98]),
            np.concatenate([one.classes, one.classes]),
        )
        for one in seen[PLAIN]
    ]
    settings = ViewSettings(draws=100, price=0.0)
    found = search_views(
        records, {PLAIN: twice, "flip": twice}, {PLAIN: 1.0, "flip": 1.0}, VIEWS[:2], NAMES, settings, 0
    )
    assert found.suppressed > found.plain + 0.05 and not found.helps
    assert found.trials[0].value == pytest.approx(found.suppressed) and found.trials[0].gain == pytest.approx(0)
    fused = fused_views([twice, twice], view_fusion())
    confirmed = confirm(records, twice, fused, NAMES, settings, 0)
    assert confirmed.value == pytest.approx(confirmed.plain)
