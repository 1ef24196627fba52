"""Boxes of several models become objects as weighted boxes fusion makes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.data.boxes import iou_matrix, overlap_of
from marauder.evaluation.pairing import find_candidates
from marauder.prediction.association import associate, most_overlapping


def random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    corners = random.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + random.uniform(5, 40, (count, 2))], axis=1)


def plain_iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def fuse_by_the_book(
    boxes: list[np.ndarray], scores: list[np.ndarray], overlap: float
) -> tuple[list[list[float]], list[list[tuple[int, int]]]]:
    """Weighted boxes fusion as steps 1 to 5 of the paper say, list by list: L sorted by score, clusters, fused boxes
    made anew of all members of the cluster."""
    every = [(float(score), model, place) for model, part in enumerate(scores) for place, score in enumerate(part)]
    every.sort(key=lambda item: (-item[0], item[1], item[2]))
    clusters: list[list[tuple[int, int]]] = []
    fused: list[list[float]] = []
    for _, model, place in every:
        box = boxes[model][place].tolist()
        matches = [(plain_iou(box, other), -number) for number, other in enumerate(fused)]
        best = max(matches, default=(0.0, 0))
        if matches and best[0] > overlap:
            number = -best[1]
            clusters[number].append((model, place))
        else:
            number = len(clusters)
            clusters.append([(model, place)])
            fused.append(box)
        total = sum(scores[m][p] for m, p in clusters[number])
        fused[number] = [
            sum(scores[m][p] * boxes[m][p][side] for m, p in clusters[number]) / total for side in range(4)
        ]
    return fused, clusters


@given(seed=st.integers(0, 100_000), models=st.integers(1, 4), overlap=st.sampled_from([0.2, 0.4, 0.55, 0.8]))
def test_clusters_and_fused_boxes_are_those_of_the_paper(seed: int, models: int, overlap: float) -> None:
    random = np.random.default_rng(seed)
    boxes = [random_boxes(random, int(random.integers(0, 9))) for _ in range(models)]
    scores = [random.uniform(0.05, 1, len(part)) for part in boxes]
    found = associate(boxes, scores, overlap)
    fused, clusters = fuse_by_the_book(boxes, scores, overlap)
    assert np.allclose(found.boxes, np.array(fused).reshape(-1, 4))
    assert found.index.shape == (models, len(clusters))
    for number, cluster in enumerate(clusters):
        for model in range(models):
            own = [place for m, place in cluster if m == model]
            strongest = max(own, key=lambda place: scores[model][place], default=-1)
            assert found.index[model, number] == strongest


def test_two_models_on_one_object_by_hand() -> None:
    """Scores 0.8 and 0.4: the fused box lies a third of the way from the first to the second."""
    boxes = [np.array([[0.0, 0.0, 9.0, 9.0], [100, 100, 120, 120]]), np.array([[0.0, 0.0, 12.0, 9.0]])]
    found = associate(boxes, [np.array([0.8, 0.3]), np.array([0.4])], 0.55)
    assert found.boxes == pytest.approx(np.array([[0, 0, 10, 9], [100, 100, 120, 120]]))
    assert found.index.tolist() == [[0, 1], [0, -1]]


@given(seed=st.integers(0, 100_000))
def test_models_may_come_in_any_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes = [random_boxes(random, 6) for _ in range(3)]
    scores = [random.uniform(0.05, 1, 6) for _ in boxes]
    forward = associate(boxes, scores, 0.5)
    turned = associate(boxes[::-1], scores[::-1], 0.5)
    assert np.allclose(forward.boxes, turned.boxes)
    assert np.array_equal(forward.index, turned.index[::-1])


def test_models_that_saw_nothing_are_absent() -> None:
    nothing = np.zeros((0, 4))
    assert associate([nothing, nothing], [np.zeros(0)] * 2, 0.5).index.shape == (2, 0)
    found = associate([nothing, np.array([[0.0, 0, 5, 5]])], [np.zeros(0), np.array([0.0])], 0.5)
    assert found.index.tolist() == [[-1], [0]]
    assert found.boxes.tolist() == [[0, 0, 5, 5]]


@given(seed=st.integers(0, 100_000))
def test_overlaps_are_those_of_the_evaluation(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random_boxes(random, 8), random_boxes(random, 5)
    ious = iou_matrix(first, second)
    pairs = find_candidates(first, np.zeros(8, int), second, np.zeros(5, int), np.zeros(5, bool), 1e-9)
    table = np.zeros((8, 5))
    table[pairs.detection, pairs.box] = pairs.iou
    assert np.allclose(ious, table, atol=1e-12)
    nearest = most_overlapping(first, second)
    assert nearest.tolist() == [int(row.argmax()) if row.max() > 0 else -1 for row in table]


def test_nothing_overlaps_nothing() -> None:
    assert most_overlapping(np.ones((3, 4)), np.zeros((0, 4))).tolist() == [-1, -1, -1]
    assert most_overlapping(np.zeros((0, 4)), np.ones((3, 4))).shape == (0,)
    assert overlap_of(np.array([[5.0, 5, 5, 5]]), np.array([[5.0, 5, 5, 5]])).tolist() == [0.0]
    assert most_overlapping(np.array([[5.0, 5, 5, 5]]), np.array([[5.0, 5, 5, 5]])).tolist() == [-1]
