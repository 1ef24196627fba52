"""What becomes of a teacher's box follows from its score, the labels and the settings; lessons keep it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.data.records import Detections, Record
from marauder.students.deciding import Account, Decided, decide, one_box_a_place, totals
from marauder.students.examples import examples, tile
from marauder.students.settings import LessonSettings
from marauder.tasks.detection.lessons import Lesson, mixed, read_lessons, taught, write_lessons

NAMES = ("fish", "ray")
BOXES = np.array([[0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60], [40, 40, 60, 60]], float)
SCORES = np.array([0.9, 0.6, 0.3, 0.05])


def found(classes: tuple[int, ...] = (0, 1, 0, 1)) -> Detections:
    return Detections(BOXES, SCORES, np.array(classes))


def record(labelled: bool, boxes: list[list[float]] | None = None, key: str = "a", ignored: bool = False) -> Record:
    array = np.array(boxes or [], float).reshape(-1, 4)
    flags, classes = np.full(len(array), ignored), np.ones(len(array), int)
    return Record(key, Path(f"{key}.png"), 64, 64, array, classes, flags, labelled=labelled)


def fates(one: Record, **rules: object) -> list[str]:
    return decide(one, found(), LessonSettings(**rules)).fates.tolist()


def test_without_labels_the_score_decides() -> None:
    assert fates(record(False)) == ["learned", "learned", "ignored", "background"]
    assert fates(record(False), sure=0.7, doubt=0.04) == ["learned", "ignored", "ignored", "ignored"]
    # At a limit a box is what comes above it; where both limits are one, nothing is ignored.
    assert fates(record(False), sure=0.6, doubt=0.6) == ["learned", "learned", "background", "background"]
    with pytest.raises(ValidationError, match=r"doubt, 0\.6, is above sure, 0\.5"):
        LessonSettings(doubt=0.6)


@pytest.mark.parametrize(
    ("missing", "rest"),
    [("ignore", ["ignored", "ignored"]), ("learn", ["learned", "ignored"]), ("background", 2 * ["background"])],
)
@pytest.mark.parametrize("crowd", [False, True])
def test_labels_win_whatever_their_class(missing: str, rest: list[str], crowd: bool) -> None:
    # The first box is on a label of another class, with an overlap of 0.8.
    one = record(True, [[0, 4, 20, 20]], ignored=crowd)
    assert fates(one, missing=missing) == ["labelled", *rest, "background"]
    assert fates(one, missing="learn", overlap=0.9)[0] == "learned"


def test_of_boxes_of_several_classes_at_a_place_the_surest_counts() -> None:
    boxes = np.array([[0, 0, 20, 20], [0, 1, 20, 20], [30, 30, 50, 50]], float)
    kept = one_box_a_place(Detections(boxes, np.array([0.4, 0.7, 0.5]), np.array([0, 1, 0])))
    assert kept.scores.tolist() == [0.7, 0.5] and kept.classes.tolist() == [1, 0]
    assert len(one_box_a_place(Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0)))) == 0


def test_a_lesson_is_what_is_learned_and_ignored() -> None:
    lesson = decide(record(False), found(), LessonSettings()).lesson("hash", "score")
    assert lesson.boxes.tolist() == BOXES[:2].tolist() and lesson.trusts.tolist() == [0.9, 0.6]
    assert lesson.classes.tolist() == [0, 1] and lesson.ignored.tolist() == BOXES[2:3].tolist()
    assert decide(record(False), found(), LessonSettings()).lesson("hash", "whole").trusts.tolist() == [1, 1]


def lessons() -> list[Lesson]:
    labelled = decide(record(True, [[0, 4, 20, 20]]), found(), LessonSettings(missing="learn")).lesson("x", "score")
    return [labelled, decide(record(False, key="b"), found(), LessonSettings()).lesson("y", "score")]


def test_records_get_what_was_found_behind_their_labels() -> None:
    others = record(True, [[1, 1, 9, 9]], key="c")
    records, trusts = taught([record(True, [[0, 4, 20, 20]]), others], lessons())
    assert [one.key for one in records] == ["a", "c", "b"] and [one.labelled for one in records] == [True, True, False]
    assert records[0].boxes.tolist() == [[0, 4, 20, 20], *BOXES[1:3].tolist()]
    assert records[0].ignored.tolist() == [False, False, True] and trusts[0].tolist() == [1, 0.6, 1]
    assert records[1] is others and trusts[1].tolist() == [1]
    assert trusts[2].tolist() == [0.9, 0.6, 1] and records[2].ignored.tolist() == [False, False, True]
    # A bag without the labelled picture does not make it one without labels.
    assert [one.key for one in taught([others], lessons())[0]] == ["c", "b"]


def test_lessons_are_read_as_they_were_written_and_only_for_the_same_classes(tmp_path: Path) -> None:
    path = tmp_path / "lessons.json"
    first = write_lessons(path, lessons(), NAMES, {"teacher": "t"})
    again = read_lessons(path, NAMES)
    for one, other in zip(lessons(), again, strict=True):
        for name in ("boxes", "classes", "trusts", "ignored"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()
        assert (one.record.key, one.record.labelled, one.content) == (
            other.record.key,
            other.record.labelled,
            other.content,
        )
        assert other.record.picture == one.record.picture.absolute() and not len(other.record.boxes)
    assert write_lessons(path, again, NAMES, {"teacher": "t"}) == first
    with pytest.raises(UserError, match="made for other classes"):
        read_lessons(path, ("ray", "fish"))
    write_json(path, {**read_json(path), "format": 99})
    with pytest.raises(UserError, match=r"not a lessons\.json of this version"):
        read_lessons(path, NAMES)
    with pytest.raises(UserError, match="no such file"):
        read_lessons(tmp_path / "absent.json", NAMES)


@given(st.integers(1, 30), st.integers(0, 60), st.floats(0, 0.95), st.floats(0.5, 4))
@limits(max_examples=60, deadline=None)
def test_an_epoch_has_its_length_and_its_share_of_unlabelled_pictures(
    labelled: int, unlabelled: int, share: float, length: float
) -> None:
    resampling = mixed(np.ones(labelled), unlabelled, share, length)
    assert abs(resampling.length - length * labelled) <= 1
    drawn = np.array([[resampling.record_at(3, epoch, i) for i in range(resampling.length)] for epoch in range(4)])
    expected = min(share, unlabelled / (unlabelled + labelled))
    # Systematic resampling: each record at floor or ceil of its factor, so that sums are off by one draw or so.
    assert np.abs((drawn >= labelled).sum(1) - expected * resampling.length).max() <= 2
    assert (
        drawn == np.array([[resampling.record_at(3, e, i) for i in range(resampling.length)] for e in range(4)])
    ).all()


def test_boxes_are_counted_by_kind_class_and_fate() -> None:
    account = Account(NAMES, 0.1)
    account.add(decide(record(False), found(), LessonSettings()))
    account.add(decide(record(True, [[0, 4, 20, 20]]), found(), LessonSettings()))
    told = account.to_json()
    assert told["pictures"] == {"labelled": 1, "unlabelled": 1} and told["mean_score_of_learned"] == pytest.approx(0.75)
    assert totals(told["boxes"], ["unlabelled"]) == {
        "given": 3, "learned": 2, "ignored": 1, "labelled": 0, "background": 0,
    }  # fmt: skip
    assert told["boxes"]["labelled"]["fish"] == {
        "given": 2, "learned": 0, "ignored": 1, "labelled": 1, "background": 0,
    }  # fmt: skip


def test_examples_show_each_clip_once_before_any_twice() -> None:
    def one(number: int) -> Decided:
        made = record(False, key=f"{number}")
        made = Record(made.key, made.picture, 64, 64, group=f"clip {number % 3}", labelled=False)
        return decide(made, found(), LessonSettings())

    chosen = examples([one(number) for number in range(30)], 0)["unlabelled"]
    assert len(chosen) == 8 and {one.record.group for one in chosen[:3]} == {"clip 0", "clip 1", "clip 2"}
    shown = tile(chosen[0], NAMES)
    assert list(shown.labels) == ["fish 0.90", "ray 0.60", "fish 0.30"] and len(set(shown.colours)) == 2
