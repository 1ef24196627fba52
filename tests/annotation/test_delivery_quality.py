"""Agreement and suspects: against sums by hand and a peer, planted errors found, the page whole without a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider import World, make_world
from sklearn.metrics import cohen_kappa_score

from marauder.annotation.agreement import View, agree, kappa_of, pair_boxes
from marauder.annotation.checking import Taken
from marauder.annotation.page import crop_window, write_quality_page
from marauder.annotation.quality import judge_quality
from marauder.annotation.settings import QualitySettings
from marauder.annotation.suspects import find_suspects, ranked_pictures
from marauder.core.randomness import stream
from marauder.data.records import Detections

BOX = np.array([[10.0, 10, 30, 30], [50, 50, 90, 80], [100, 20, 120, 60]])
CLASSES = np.array([0, 1, 2])


def view(boxes: object, classes: object) -> View:
    return View(np.array(boxes, np.float64).reshape(-1, 4), np.array(classes, np.int64))


def found(boxes: object, scores: object, classes: object) -> Detections:
    return Detections(np.array(boxes, np.float64), np.array(scores), np.array(classes))


def test_pairing_is_one_to_one_and_of_greatest_overlap() -> None:
    first = view([[0, 0, 10, 10], [4, 0, 14, 10]], [0, 0])
    second = view([[3, 0, 13, 10], [200, 200, 210, 210]], [0, 0])
    pairing = pair_boxes(first, second, 0.3)
    assert (pairing.first.tolist(), pairing.second.tolist()) == ([1], [0])
    assert pairing.iou[0] == pytest.approx(9 / 11)
    assert (pairing.first_alone.tolist(), pairing.second_alone.tolist()) == ([0], [1])


def test_of_equal_overlaps_the_same_class_is_paired() -> None:
    box = [0, 0, 10, 10]
    pairing = pair_boxes(view([box, box], [0, 1]), view([box, box], [1, 0]))
    assert dict(zip(pairing.first.tolist(), pairing.second.tolist())) == {0: 1, 1: 0}


def test_agreement_by_hand() -> None:
    """Three boxes against: one equal, one of another class, one missed; and a box that the second has alone."""
    second = view([BOX[0], BOX[1], [0, 60, 20, 70]], [0, 2, 0])
    result = agree(["a"], [view(BOX, CLASSES)], [second], 3)
    assert result.mean_iou.value == pytest.approx(1.0)
    assert result.found_by_both.value == pytest.approx(4 / 6)
    assert result.table.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert result.class_kappa.value == pytest.approx(kappa_of(np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]])))
    picture = result.pictures[0]
    assert (picture.first, picture.second, picture.paired, picture.other_class) == (3, 3, 2, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    table = np.zeros((4, 4), np.int64)
    for one, other in pairs:
        table[one, other] += 1
    if table.sum(0).max() == table.sum() and table.sum(1).max() == table.sum():
        return  # 0 / 0 there
    expected = cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs], labels=range(4))
    assert kappa_of(table) == pytest.approx(expected, abs=1e-12)


def test_the_interval_holds_the_value_and_narrows_with_more_pictures() -> None:
    def sloppy(count: int) -> tuple[list[View], list[View]]:
        first, second = [], []
        for number in range(count):
            generator = stream(1, "sloppy", number)
            first.append(view(BOX, CLASSES))
            kept = generator.random(3) > 0.2
            moved = BOX + generator.normal(0, 1.5, BOX.shape)
            second.append(view(moved[kept], np.where(generator.random(3) > 0.1, CLASSES, 0)[kept]))
        return first, second

    widths = []
    for count in (10, 160):
        result = agree([f"{number}" for number in range(count)], *sloppy(count), 3)
        for figure in (result.mean_iou, result.kappa, result.found_by_both):
            assert figure.low <= figure.value <= figure.high
        widths.append(result.kappa.high - result.kappa.low)
    assert widths[1] < widths[0] / 2


def test_nothing_to_compare_is_not_agreement() -> None:
    result = agree(["a"], [view([], [])], [view([], [])], 3)
    assert np.isnan(result.kappa.value) and np.isnan(result.mean_iou.value) and result.boxes == 0
    assert agree([], [], [], 3).pictures == ()


def test_the_three_kinds_are_told_apart() -> None:
    model = found(BOX, [0.9, 0.9, 0.9], CLASSES)
    shifted = BOX.copy()
    shifted[1] += 12
    cases = {
        "right": (view(BOX, CLASSES), []),
        "overlooked": (view(BOX[:2], CLASSES[:2]), [("overlooked", None)]),
        "badly": (view(shifted, CLASSES), [("badly_located", 1)]),
        "wrong": (view(BOX, [0, 1, 0]), [("wrong_class", 2)]),
        "empty": (view([], []), [("overlooked", None)] * 3),
    }
    for key, (labels, expected) in cases.items():
        suspects = find_suspects([key], [labels], [model])
        assert [(one.kind, one.label) for one in suspects] == expected, key


def test_what_the_model_does_not_see_is_no_suspect() -> None:
    assert find_suspects(["a"], [view(BOX, CLASSES)], [found(np.zeros((0, 4)), [], [])]) == []


def test_a_sure_model_makes_a_higher_score_and_its_own_sloppiness_none() -> None:
    labels = [view(BOX[:2], CLASSES[:2])] * 2
    models = [found(BOX, [0.9, 0.9, score], CLASSES) for score in (0.9, 0.3)]
    suspects = find_suspects(["sure", "unsure"], labels, models)
    assert [one.key for one in suspects] == ["sure", "unsure"]
    assert suspects[0].score == pytest.approx(0.9) and suspects[1].score == pytest.approx(0.3)

    loose = found(BOX + np.array([0, 0, 8, 8]), [0.9] * 3, CLASSES)
    many = find_suspects([f"{n}" for n in range(30)], [view(BOX, CLASSES)] * 30, [loose] * 30)
    assert many == [], "a model that is always loose says nothing of labels"


def test_several_boxes_of_one_object_are_one_suspect() -> None:
    model = found([BOX[0], BOX[0] + 1, BOX[0] + 2], [0.9, 0.8, 0.7], [0, 0, 1])
    assert len(find_suspects(["a"], [view([], [])], [model])) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_lie_in_range_and_order_does_not_matter(seed: int) -> None:
    generator = stream(seed, "any")
    corner = generator.uniform(0, 60, (6, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(2, 40, (6, 2))], 1)
    labels = view(boxes[:4] + generator.normal(0, 3, (4, 4)) * [0, 0, 1, 1], generator.integers(0, 3, 4))
    scores = np.sort(generator.random(6))[::-1]
    model = found(boxes, scores, generator.integers(0, 3, 6))
    one = find_suspects(["a"], [labels], [model])
    assert all(0 < suspect.score <= 1 for suspect in one)
    turned = find_suspects(["a"], [View(labels.boxes[::-1], labels.classes[::-1])], [model])
    assert sorted(suspect.score for suspect in one) == pytest.approx(sorted(suspect.score for suspect in turned))


def test_planted_errors_come_first(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    answers = right_answers(world)
    spoilt = world.batch.items[1].file
    right = answers[spoilt]
    answers[spoilt] = Taken(right.boxes, (right.classes + 1) % 3, right.ignored)
    quality = judge_quality(world.batch, answers, None, QualitySettings())
    assert ranked_pictures(quality.suspects)[0] == world.batch.items[1].key
    assert quality.suspects[0].kind == "wrong_class"
    assert quality.overlap is not None and quality.overlap.kappa.value < 1.0
    assert any("kappa" in warning for warning in quality.warnings) == (quality.overlap.class_kappa.value < 0.8)


def right_answers(world: World) -> dict[str, Taken]:
    answers = {}
    for item in world.batch.items:
        record = world.truth[item.key]
        for file in filter(None, (item.file, item.second_file)):
            answers[file] = Taken(record.boxes, record.classes, record.ignored)
    return answers


def test_suggestions_that_nobody_looked_at_are_told(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    nodded = {item.file: Taken(item.boxes, item.classes, np.zeros(len(item.boxes), bool)) for item in world.batch.items}
    quality = judge_quality(world.batch, nodded, None, QualitySettings())
    assert quality.untouched == 1.0 and any("came back unchanged" in words for words in quality.warnings)
    assert judge_quality(world.batch, right_answers(world), None, QualitySettings()).untouched < 0.5


def test_without_any_boxes_of_a_model_the_page_says_so(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    bare = replace(
        world.batch,
        items=tuple(replace(i, boxes=BOX[:0], classes=CLASSES[:0], scores=np.zeros(0)) for i in world.batch.items),
    )
    quality = judge_quality(bare, right_answers(world), None, QualitySettings())
    assert quality.model is None and quality.suspects == () and np.isnan(quality.untouched)
    page = write_quality_page(tmp_path / "page", bare, right_answers(world), quality, QualitySettings())
    assert "no boxes of a model to compare with" in page.read_text()


def test_the_page_is_whole_and_asks_no_network(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    answers = {file: replace(taken, classes=(taken.classes + 1) % 3) for file, taken in right_answers(world).items()}
    quality = judge_quality(world.batch, answers, None, QualitySettings())
    page = write_quality_page(tmp_path / "page", world.batch, answers, quality, QualitySettings(review_count=4))
    text = page.read_text()
    addresses = [one for one in re.findall(r"https?://[^\s\"'<]+", text) if one != "http://www.w3.org/2000/svg"]
    assert addresses == [] and "src=" not in text and "import " not in text
    cards = json.loads(re.search(r'id="cards">(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert len({card["key"] for card in cards}) == 4 and len({card["id"] for card in cards}) == len(cards)
    for card in cards:
        assert (page.parent / card["crop"]).is_file() and (page.parent / card["whole"]).is_file()
        x0, y0, x1, y1 = card["window"]
        assert 0 <= x0 < x1 <= card["size"][0] and 0 <= y0 < y1 <= card["size"][1]


def test_a_picture_that_is_gone_leaves_the_page_whole(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    answers = {file: replace(taken, classes=(taken.classes + 1) % 3) for file, taken in right_answers(world).items()}
    for path in (tmp_path / "pictures").iterdir():
        path.write_bytes(b"no picture")
    quality = judge_quality(world.batch, answers, None, QualitySettings())
    page = write_quality_page(tmp_path / "page", world.batch, answers, quality, QualitySettings())
    assert page.is_file() and list((page.parent / "crops").iterdir()) == []


@given(
    st.tuples(*[st.floats(-50, 1000)] * 4),
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
)
def test_a_crop_lies_in_the_picture(values: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    box = np.array(
        [min(values[0], values[2]), min(values[1], values[3]), max(values[0], values[2]), max(values[1], values[3])]
    )
    x0, y0, x1, y1 = crop_window([box], size)
    assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]
