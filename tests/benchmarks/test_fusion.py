"""Weighted boxes fusion against an independent reading of its paper, and what its benchmark says of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fusion
from fusion import reference_fusion
from marauder.core.plugins import make
from marauder.data.records import Detections
from marauder.testing.fusions import scene


def differences(found: Detections, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> float:
    """The largest difference of two lists of boxes, pixels or scores, each put in the same order first."""
    assert len(found) == len(scores)
    if not len(found):
        return 0.0

    def order(score: np.ndarray, box: np.ndarray, kind: np.ndarray) -> np.ndarray:
        return np.lexsort((box[:, 1].round(3), box[:, 0].round(3), -score.round(5), kind))

    first, second = order(found.scores, found.boxes, found.classes), order(scores, boxes, classes)
    assert np.array_equal(found.classes[first], classes[second])
    return float(
        max(np.abs(found.boxes[first] - boxes[second]).max(), np.abs(found.scores[first] - scores[second]).max())
    )


@pytest.mark.parametrize("scoring", ["avg", "box_and_model_avg"])
def test_weighted_boxes_are_those_of_the_paper_in_500_scenes(scoring: str) -> None:
    """With equal weights by its default, with others by the way that is meant for them; a random overlap."""
    worst, compared = 0.0, 0
    for seed in range(500):
        random = np.random.default_rng(seed)
        members, classes = int(random.integers(1, 6)), int(random.integers(1, 5))
        found = scene(seed, members, objects=int(random.integers(1, 9)), classes=classes)
        weights = np.full(members, random.uniform(0.2, 3)) if scoring == "avg" else random.uniform(0.2, 3, members)
        overlap = float(random.uniform(0.3, 0.8))
        way = make("fusion", "weighted_boxes", {"overlap": overlap, "scoring": scoring})
        fused = way.fuse(found, np.repeat(weights[:, None], classes, axis=1))
        worst = max(worst, differences(fused, *reference_fusion(found, weights.tolist(), overlap, scoring)))
        compared += len(fused)
    assert compared > 1000
    assert worst <= 1e-6


def test_the_benchmark_fails_where_results_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "BOXES", 30)
    monkeypatch.setattr("sys.argv", ["fusion.py", "--repeats", "1"])
    # As if it was not installed.
    monkeypatch.setitem(sys.modules, "ensemble_boxes", None)
    with pytest.raises(SystemExit) as ended:
        fusion.main()
    assert ended.value.code == 0
    right = fusion.reference_fusion
    monkeypatch.setattr(fusion, "reference_fusion", lambda *given: right(*given[:2], 0.6, given[3]))
    with pytest.raises(SystemExit) as ended:
        fusion.main()
    assert ended.value.code == 1
