"""Parity: what answers alike passes, every kind of difference fails and is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import box_iou

from marauder.core.clock import Clock, Interrupted
from marauder.data.boxes import iou_matrix
from marauder.exporting.base import GraphOptions, Run, run_of
from marauder.exporting.inputs import make_batches, pattern
from marauder.exporting.parity import Reference, check_parity, make_reference, pairs_by_overlap
from marauder.exporting.report import describe_ties
from marauder.exporting.settings import ParitySettings
from marauder.models.files import LoadedDetector
from marauder.models.ultralytics_adapter import build_detector
from marauder.prediction.detector import DetectorPredictor
from marauder.testing.lively_detectors import SIZE, save_lively

SETTINGS = ParitySettings()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> LoadedDetector:
    return save_lively(tmp_path_factory.mktemp("model") / "best")


@pytest.fixture(scope="module")
def reference(detector: LoadedDetector) -> Reference:
    images = [pattern(1, index) for index in range(5)]
    return make_reference(
        run_of(DetectorPredictor(detector)), make_batches(images, GraphOptions(SIZE, SIZE), 32), SETTINGS, Clock()
    )


def altered(detector: LoadedDetector, change: Callable[[np.ndarray], None]) -> Run:
    """The detector with its raw answers changed."""

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answer = detector.model(torch.from_numpy(batch))[0].numpy().copy()
        change(answer)
        return answer

    return run


def test_the_model_itself_passes(detector: LoadedDetector, reference: Reference) -> None:
    parity = check_parity(reference, altered(detector, lambda answer: None), SETTINGS, Clock())
    assert parity.passed and not parity.reasons and not parity.remarks
    assert parity.pictures == 5 and parity.boxes >= SETTINGS.least_boxes
    assert parity.confidence == SETTINGS.confidence
    assert parity.least_iou == pytest.approx(1) and parity.score_difference == 0
    assert parity.raw_box_difference == parity.raw_score_difference == 0
    assert parity.unmatched == parity.near_ties == 0
    assert parity.plain()["verdict"] == "pass"


def strongest(answer: np.ndarray) -> tuple[int, int]:
    """Class and anchor of the highest score."""
    return tuple(np.unravel_index(answer[0, 4:].argmax(), answer[0, 4:].shape))  # type: ignore[return-value]


def move_strongest(answer: np.ndarray) -> None:
    answer[0, 0, strongest(answer)[1]] += 3.0


def drop_strongest(answer: np.ndarray) -> None:
    answer[0, 4:, strongest(answer)[1]] = 0.0


def lower_scores(answer: np.ndarray) -> None:
    answer[:, 4:] *= 0.98


def shift_everything(answer: np.ndarray) -> None:
    answer[:, 0] += 0.5


def rename_class(answer: np.ndarray) -> None:
    answer[:, 4:] = np.roll(answer[:, 4:], 1, axis=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (move_strongest, "raw boxes differ by up to 3 pixels"),
        (drop_strongest, "raw scores differ"),
        (lower_scores, "raw scores differ"),
        (shift_everything, "raw boxes differ by up to 0.5 pixels"),
        (rename_class, "raw scores differ"),
        (lambda answer: answer.__setitem__((0, 5, 7), np.nan), "not finite"),
    ],
)
def test_a_difference_fails_and_is_named(
    change: Callable[[np.ndarray], None], said: str, detector: LoadedDetector, reference: Reference
) -> None:
    parity = check_parity(reference, altered(detector, change), SETTINGS, Clock())
    assert not parity.passed
    assert any(said in reason for reason in parity.reasons), parity.reasons
    assert parity.plain()["verdict"] == "fail"


def test_boxes_after_suppression_are_told_beside_the_raw_numbers(
    detector: LoadedDetector, reference: Reference
) -> None:
    shifted = check_parity(reference, altered(detector, shift_everything), SETTINGS, Clock())
    assert shifted.least_iou is not None and shifted.least_iou < SETTINGS.box_iou
    renamed = check_parity(reference, altered(detector, rename_class), SETTINGS, Clock())
    assert renamed.unmatched > 0


def test_an_answer_of_another_shape_fails(detector: LoadedDetector, reference: Reference) -> None:
    parity = check_parity(reference, lambda batch: np.zeros((1, 7, 3), np.float32), SETTINGS, Clock())
    assert not parity.passed and "answers (1, 7, 3)" in parity.reasons[0]


def test_an_untrained_model_passes_with_a_remark(reference: Reference) -> None:
    model = build_detector("yolov8t", ["fish"]).eval()
    run = run_of(DetectorPredictor.of_model(model, ("fish",), SIZE))
    untrained = make_reference(run, reference.batches, SETTINGS, Clock())
    parity = check_parity(untrained, run, SETTINGS, Clock())
    assert parity.passed
    assert parity.confidence < SETTINGS.confidence
    assert any("nearly the same scores" in remark for remark in parity.remarks)


def near_tie_answer(first_score: float, second_score: float, count: int) -> np.ndarray:
    """``count`` pairs of boxes of one class that overlap by 0.75, far from one another: (1, 5, 2 · count)."""
    answer = np.zeros((1, 5, 2 * count), np.float32)
    for index in range(count):
        answer[0, :4, 2 * index] = (100 * index + 50, 50, 42, 60)
        answer[0, :4, 2 * index + 1] = (100 * index + 56, 50, 42, 60)
    answer[0, 4, 0::2], answer[0, 4, 1::2] = first_score, second_score
    return answer


@pytest.mark.parametrize("ties", [1, 4, 30])
def test_ties_that_suppression_breaks_differently_are_counted_and_fail_nothing(ties: int) -> None:
    def answer(first: float, second: float) -> np.ndarray:
        settled = near_tie_answer(0.9, 0.1, 30)
        settled[:, :, : 2 * ties] = near_tie_answer(first, second, ties)
        return settled

    expected = answer(0.800001, 0.8)
    batches = [np.zeros((1, 3, 32, 32), np.float32)]
    settled = make_reference(lambda _: expected, batches, SETTINGS, Clock())
    assert settled.boxes == 30
    parity = check_parity(settled, lambda _: answer(0.8, 0.800001), SETTINGS, Clock())
    assert parity.near_ties == 2 * ties and parity.unmatched == 0
    assert parity.passed and not parity.reasons
    assert describe_ties(parity.plain()) == [
        f"{2 * ties} boxes were kept by suppression on one side only: ties, since the raw answers are alike"
    ]


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> tuple[LoadedDetector, Reference]:
    """A detector that has learned little: its scores differ by a few percent, and all are below their tolerance."""
    loaded = save_lively(tmp_path_factory.mktemp("weak") / "best")
    with torch.no_grad():
        for layers in loaded.model.model[-1].cv3:
            layers[-1].weight *= 0.02
            layers[-1].bias[:] = -9
    found = make_reference(run_of(DetectorPredictor(loaded)), reference.batches, SETTINGS, Clock())
    assert max(answer[:, 4:].max() for answer in found.raw) < SETTINGS.score_tolerance
    return loaded, found


@pytest.mark.parametrize("change", [lower_scores, rename_class, shift_everything, move_strongest, drop_strongest])
def test_a_wrong_graph_of_a_weak_detector_fails(
    change: Callable[[np.ndarray], None], weak: tuple[LoadedDetector, Reference]
) -> None:
    detector, reference = weak
    parity = check_parity(reference, altered(detector, change), SETTINGS, Clock())
    assert not parity.passed, parity
    assert not describe_ties(parity.plain()), "a wrong graph is no matter of ties"


def test_rounding_in_a_weak_detector_passes(weak: tuple[LoadedDetector, Reference]) -> None:
    detector, reference = weak
    random = np.random.default_rng(0)

    def round_off(answer: np.ndarray) -> None:
        answer[:, 4:] *= 1 + random.uniform(-5e-4, 5e-4, answer[:, 4:].shape).astype(np.float32)

    parity = check_parity(reference, altered(detector, round_off), SETTINGS, Clock())
    assert parity.passed, parity.reasons
    assert parity.near_ties + parity.unmatched > 0, "nothing was tied: the case shows nothing"


def test_a_model_of_numbers_that_are_not_finite_is_named(reference: Reference) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        return np.full((1, 7, 525), np.nan, np.float32)

    answers = make_reference(broken, reference.batches, SETTINGS, Clock())
    parity = check_parity(answers, broken, SETTINGS, Clock())
    assert not parity.passed and "the model itself" in parity.reasons[0]


def test_an_unsure_model_is_compared_on_its_strongest_boxes(detector: LoadedDetector, reference: Reference) -> None:
    def unsure(batch: np.ndarray) -> np.ndarray:
        answer = run_of(DetectorPredictor(detector))(batch)
        answer[:, 4:] *= 0.1
        return answer

    lowered = make_reference(unsure, reference.batches, SETTINGS, Clock())
    assert lowered.confidence < 0.1 and SETTINGS.least_boxes <= lowered.boxes <= reference.boxes / 4
    parity = check_parity(lowered, unsure, SETTINGS, Clock())
    assert parity.passed and any("unsure" in remark for remark in parity.remarks)


def test_the_clock_is_asked(detector: LoadedDetector, reference: Reference) -> None:
    stopped = Clock()
    stopped.signal_name = "SIGTERM"
    with pytest.raises(Interrupted):
        check_parity(reference, altered(detector, lambda answer: None), SETTINGS, stopped)
    with pytest.raises(Interrupted):
        make_reference(run_of(DetectorPredictor(detector)), reference.batches, SETTINGS, stopped)


coordinates = st.floats(0, 100, width=32).map(lambda value: round(value, 2))


def rows(most: int) -> st.SearchStrategy[np.ndarray]:
    """Boxes as rows x0 y0 x1 y1 score class."""
    return (
        st.integers(0, most).flatmap(lambda count: arrays(np.float64, (count, 6), elements=coordinates)).map(as_boxes)
    )


def as_boxes(values: np.ndarray) -> np.ndarray:
    corners = np.concatenate([np.minimum(values[:, :2], values[:, 2:4]), np.maximum(values[:, :2], values[:, 2:4])], 1)
    return np.concatenate([corners, values[:, 4:5] / 100, values[:, 5:] // 50], axis=1)


@given(rows(8), rows(8))
@settings(max_examples=100, deadline=None)
def test_overlaps_are_those_of_torchvision(first: np.ndarray, second: np.ndarray) -> None:
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second)]
    first, second = first[areas[0] > 0], second[areas[1] > 0]
    expected = box_iou(torch.from_numpy(first[:, :4]), torch.from_numpy(second[:, :4])).numpy()
    np.testing.assert_allclose(iou_matrix(first[:, :4], second[:, :4]), expected, atol=1e-12)


@given(rows(8), rows(8))
@settings(max_examples=100, deadline=None)
def test_pairs_are_one_to_one_and_of_one_class(first: np.ndarray, second: np.ndarray) -> None:
    pairs, overlaps = pairs_by_overlap(first, second)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(first[row, 5] == second[column, 5] and overlaps[row, column] >= 0.5 for row, column in pairs)
    left_rows = set(range(len(first))) - {row for row, _ in pairs}
    left_columns = set(range(len(second))) - {column for _, column in pairs}
    assert all(overlaps[row, column] < 0.5 for row in left_rows for column in left_columns)


@given(rows(10), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_boxes_does_not_matter(boxes: np.ndarray, random: object) -> None:
    order = list(range(len(boxes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    pairs, overlaps = pairs_by_overlap(boxes, boxes[order])
    assert len(pairs) == len(boxes)
    assert all(overlaps[pair] == pytest.approx(1) for pair in pairs)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    from marauder.core.errors import UserError
    from marauder.exporting.inputs import load_pictures

    with pytest.raises(UserError, match="no such folder"):
        load_pictures(tmp_path / "nowhere", 4, 0)
    with pytest.raises(UserError, match="no pictures in it"):
        load_pictures(tmp_path, 4, 0)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match="none of the 1 tried can be read"):
        load_pictures(tmp_path, 4, 0)
