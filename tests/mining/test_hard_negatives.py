"""Mining decided: planted false alarms become negatives, planted missing labels do not, copies and old ones go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.duplicates import hash_grey
from marauder.data.records import Detections, Record
from marauder.evaluation.matching import match
from marauder.mining.hard_negatives import (
    HardNegative,
    Looked,
    Trust,
    aged,
    judge_picture,
    sample,
    settle,
    trusted_scores,
    without_copies,
)
from marauder.mining.hard_negatives_file import unsure_classes, write_mining

Box = tuple[float, float, float, float]
NAMES = ("starfish", "stingray", "fish")
TRUSTED = np.array([0.7, 0.7, 0.7])


def record(boxes: list[list[float]], classes: list[int], ignored: list[bool] | None = None, key: str = "a") -> Record:
    return Record(key, Path(f"{key}.jpg"), 200, 100, np.array(boxes), np.array(classes), np.array(ignored or []))


def found(*rows: tuple[list[float], float, int]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    )


NOTHING = found()
BOX, ELSEWHERE = [10.0, 10.0, 50.0, 50.0], [120.0, 20.0, 160.0, 60.0]
CORNERS: Box = (10.0, 10.0, 50.0, 50.0)


def judge(one: Record, plain: Detections, flipped: Detections = NOTHING) -> tuple[list[HardNegative], list]:
    return judge_picture(Looked(one, plain, flipped), NAMES, TRUSTED, 0.1)


def test_background_and_confusions_are_errors_and_right_or_badly_placed_ones_are_not() -> None:
    one = record([BOX], [0])
    shifted = [30.0, 10.0, 70.0, 50.0]  # IoU 1/3 with the box
    errors, suspected = judge(
        one,
        found(
            (BOX, 0.9, 0), (BOX, 0.5, 0), (BOX, 0.4, 1), (shifted, 0.6, 0), (ELSEWHERE, 0.3, 2), (ELSEWHERE, 0.05, 0)
        ),
    )
    assert [(error.predicted, error.true, error.score) for error in errors] == [
        ("stingray", "starfish", 0.4),
        ("fish", "", 0.3),
    ]
    assert suspected == [] and not any(error.empty for error in errors)


def test_a_confident_detection_without_a_label_that_the_flipped_picture_shows_too_is_no_negative() -> None:
    one = record([BOX], [0])
    planted = found((ELSEWHERE, 0.9, 1))
    errors, suspected = judge(one, planted, found((ELSEWHERE, 0.8, 1)))
    assert errors == [] and [(s.predicted, s.score, s.flipped_score) for s in suspected] == [("stingray", 0.9, 0.8)]
    for flipped in (NOTHING, found((ELSEWHERE, 0.3, 1)), found((ELSEWHERE, 0.9, 0)), found((BOX, 0.9, 1))):
        errors, suspected = judge(one, planted, flipped)
        assert len(errors) == 1 and suspected == [], "one view alone is no reason to believe it"
    errors, suspected = judge(one, found((ELSEWHERE, 0.6, 1)), found((ELSEWHERE, 0.9, 1)))
    assert len(errors) == 1 and suspected == [], "not confident enough"


def test_no_detection_where_a_label_may_be_missing_is_a_negative_whatever_its_class() -> None:
    one = record([BOX], [0])
    near, far = [132.0, 20.0, 172.0, 60.0], [145.0, 20.0, 185.0, 60.0]  # IoU 0.54 and 0.23 with ELSEWHERE
    plain = found((ELSEWHERE, 0.95, 2), (ELSEWHERE, 0.9, 1), (ELSEWHERE, 0.3, 0), (near, 0.5, 1), (far, 0.4, 1))
    errors, suspected = judge(one, plain, found((ELSEWHERE, 0.8, 1)))
    assert [s.predicted for s in suspected] == ["stingray"]
    assert [error.box for error in errors] == [tuple(far)], "a surer one of another class neither"
    earlier = [negative("a", box=(132.0, 20.0, 172.0, 60.0)), negative("a", box=(145.0, 20.0, 185.0, 60.0))]
    assert [kept.box for kept in aged(earlier, [], 2, suspected)] == [tuple(far)]


def test_ignored_boxes_excuse_and_empty_pictures_count() -> None:
    assert judge(record([BOX], [0], [True]), found((BOX, 0.9, 1)))[0] == []
    empty = judge(record([], []), found((BOX, 0.4, 0)))[0]
    assert [error.empty for error in empty] == [True] and empty[0].pool == "starfish for background"


def test_the_trusted_score_is_where_held_out_precision_is_high_enough() -> None:
    records = [record([BOX], [0], key=str(number)) for number in range(20)]
    detections = [found((BOX, 0.5 + 0.02 * number, 0)) for number in range(20)]
    for number in range(20):  # false ones with scores below 0.6
        extra = found((ELSEWHERE, 0.2 + 0.02 * number, 0))
        detections[number] = Detections(
            np.concatenate([detections[number].boxes, extra.boxes]),
            np.concatenate([detections[number].scores, extra.scores]), np.zeros(2, int),
        )  # fmt: skip
    trust = trusted_scores(match(records, detections, NAMES), 0.9)
    trusted = trust.scores
    assert trust.reached.tolist() == [True, False, False]
    judged = [(score, right) for one in detections for score, right in zip(one.scores, (True, False))]
    above = [right for score, right in judged if score >= trusted[0]]
    below = [right for score, right in judged if score >= trusted[0] - 0.021]
    assert np.mean(above) >= 0.9 > np.mean(below)
    assert trusted[1] == 0.5, "a class that was never right"


def test_a_class_that_never_reaches_the_precision_is_believed_strictly_and_said_to_be_unsure() -> None:
    def trust(rights: list[bool], top: float) -> Trust:
        records = [record([BOX], [0], key=str(number)) for number in range(len(rights))]
        detections = [
            found((BOX if right else ELSEWHERE, top * (1 - 0.01 * number), 0)) for number, right in enumerate(rights)
        ]
        return trusted_scores(match(records, detections, NAMES), 0.9)

    rights = [True, True, True, False, True, *[False, True] * 20]
    weak, strong = trust(rights, 0.1), trust(rights, 0.9)
    assert not weak.reached[0] and weak.scores[0] == 0.25, "places at 0.1 are not confident"
    assert not strong.reached[0] and np.isclose(strong.scores[0], 0.9 * 0.96), "four of the first five are right"
    few = trust([True, True], 0.6)
    assert not few.reached[0] and few.scores[0] == 0.6, "two detections are too few to tell a precision"


def test_the_list_for_people_says_which_classes_are_unsure(tmp_path: Path) -> None:
    trust = Trust(np.array([0.4, 0.5, 0.25]), np.array([True, True, False]))
    summary = write_mining(tmp_path, [], [], [], "0" * 64, NAMES, 0, trust, 0.9)
    assert unsure_classes(summary.suspected) == {"fish": 0.25}


def negative(key: str = "a", score: float = 0.5, box: Box = (0.0, 0.0, 10.0, 10.0), predicted: str = "starfish",
             true: str = "", group: str = "clip", age: int = 0) -> HardNegative:  # fmt: skip
    return HardNegative(key, group, f"{key}.jpg", box, predicted, true, score, age)


def test_near_copies_of_one_clip_are_one_and_a_clip_gives_only_so_many() -> None:
    draw = np.random.default_rng(0)
    rock = draw.integers(0, 255, (16, 18)).astype(np.uint8)
    other = draw.integers(0, 255, (16, 18)).astype(np.uint8)
    again = np.clip(rock.astype(int) + 2, 0, 255).astype(np.uint8)
    errors = [negative("a", 0.4), negative("b", 0.9), negative("c", 0.3), negative("d", 0.8, group="elsewhere")]
    hashes = [hash_grey(rock), hash_grey(again), hash_grey(other), hash_grey(rock)]
    assert [one.key for one in without_copies(errors, hashes, 10)] == ["b", "c", "d"]
    assert [one.key for one in without_copies(errors, hashes, 1)] == ["b", "d"]
    assert len(without_copies(errors, [None] * 4, 10)) == 4


def test_what_is_not_seen_again_grows_old_and_goes() -> None:
    pool = [negative("a")]
    for age in (1, 2):
        pool = aged(pool, [], 2)
        assert [one.age for one in pool] == [age]
    assert aged(pool, [], 2) == []
    assert [one.age for one in aged(pool, [negative("a", box=(1.0, 0.0, 10.0, 10.0))], 2)] == [0]


def test_what_is_suspected_now_leaves_the_pool() -> None:
    suspected = judge(record([], [], key="a"), found((BOX, 0.9, 0)), found((BOX, 0.9, 0)))[1]
    assert len(suspected) == 1
    assert aged([negative("a", box=CORNERS), negative("b", box=CORNERS)], [], 2, suspected)[0].key == "b"


def test_a_person_settles_what_was_suspected() -> None:
    suspected = judge(record([], [], key="a"), found((BOX, 0.9, 0), (ELSEWHERE, 0.8, 1)),
                      found((BOX, 0.9, 0), (ELSEWHERE, 0.8, 1)))[1]  # fmt: skip
    assert len(suspected) == 2
    errors, still_open = settle(suspected, [("a", "starfish", BOX, "background")], {"a": "clip"})
    assert [(one.predicted, one.true, one.group) for one in errors] == [("starfish", "", "clip")]
    assert [one.predicted for one in still_open] == ["stingray"]
    assert settle(suspected, [("a", "starfish", BOX, "missing")], {"a": "clip"})[0] == []


@given(st.dictionaries(st.sampled_from(["starfish", "stingray", "fish", "shark", "puffin"]), st.integers(1, 60)),
       st.integers(0, 120), st.integers(0, 5))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_sampling_keeps_the_shares_of_the_pools(sizes: dict[str, int], count: int, seed: int) -> None:
    pool = [
        negative(f"{name}{number}", 0.1 + 0.01 * number, predicted=name)
        for name, size in sizes.items() for number in range(size)
    ]  # fmt: skip
    chosen = [one for one in sample(pool, count, seed) if one.sampled]
    assert len(chosen) == min(count, len(pool))
    for name, size in sizes.items():
        got = sum(one.predicted == name for one in chosen)
        assert got <= size
        if count >= len(sizes):
            assert got >= 1 or not size
            assert abs(got - min(count, len(pool)) * size / len(pool)) <= len(sizes)
    assert chosen == [one for one in sample(pool, count, seed) if one.sampled], "the same seed, the same sample"


def test_surer_and_younger_errors_are_taken_more_often() -> None:
    pool = [negative(f"{kind}{n}", score, age=age) for n in range(300)
            for kind, score, age in (("sure", 0.9, 0), ("vague", 0.1, 0), ("old", 0.9, 2))]  # fmt: skip
    chosen = [one.key for one in sample(pool, 300, 0) if one.sampled]
    sure, vague, old = (sum(key.startswith(kind) for key in chosen) for kind in ("sure", "vague", "old"))
    assert sure > 2 * old > 2 * vague and sure > 150
