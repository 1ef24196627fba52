"""Signs of collapse: planted collapses are found, healthy features pass, the measures are what they say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.pictures import decode_picture
from marauder.models.pretraining.network import build_backbone
from marauder.models.pretraining.signs import CollapseSettings, Signs, effective_rank, judge, measure_signs


def healthy(count: int = 128, dimension: int = 48, seed: int = 0) -> np.ndarray:
    """Features as a backbone's: positive, with a common part, falling variances."""
    random = np.random.default_rng(seed)
    return np.abs(1 + 0.3 * random.normal(size=(count, dimension)) / np.sqrt(1 + np.arange(dimension)))


def test_healthy_features_pass() -> None:
    signs = measure_signs(healthy())
    assert judge(signs) is None
    assert judge(signs, None, signs) is None


@pytest.mark.parametrize("architecture", ["yolov8t", "yolov8n"])
def test_untrained_backbones_pass_and_planted_collapses_do_not(architecture: str, shared_data: Path) -> None:
    paths = sorted((shared_data / "aquarium").rglob("*.jpg"))[::24]
    pictures = np.stack([cv2.resize(decode_picture(path), (64, 64)) for path in paths])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    backbone = build_backbone(architecture, 0).eval()
    with torch.no_grad():
        before = torch.cat([maps.mean(dim=(2, 3)) for maps in backbone(images)], dim=1)
        assert judge(measure_signs(before.numpy())) is None
        for tap in backbone.taps:  # the answer no longer depends on the picture
            backbone.get_parameter(f"layers.{tap}.cv2.bn.weight").mul_(1e-5)
            backbone.get_parameter(f"layers.{tap}.cv2.bn.bias").fill_(1.0)
        after = torch.cat([maps.mean(dim=(2, 3)) for maps in backbone(images)], dim=1)
    why = judge(measure_signs(after.numpy()))
    assert why is not None and "every picture looks the same" in why


def test_complete_collapse() -> None:
    rows = np.ones((64, 16)) + 1e-5 * np.random.default_rng(0).normal(size=(64, 16))
    why = judge(measure_signs(rows))
    assert why is not None and "every picture looks the same" in why
    exactly = measure_signs(np.full((64, 16), 0.3))
    assert exactly.effective_rank == 0
    assert exactly.similarity == pytest.approx(1)
    assert judge(exactly) is not None
    assert judge(measure_signs(np.zeros((64, 16)))) is not None


def test_dimensional_collapse() -> None:
    random = np.random.default_rng(0)
    line = random.normal(size=(64, 1)) * np.linspace(1, 2, 32) + 0.001 * random.normal(size=(64, 32))
    why = judge(measure_signs(line))
    assert why is not None and "few directions" in why
    start = measure_signs(healthy(dimension=32))
    plane = random.normal(size=(128, 3)) @ random.normal(size=(3, 32))
    assert judge(measure_signs(plane)) is None  # three directions may be all there is at the start
    why = judge(measure_signs(plane), CollapseSettings(), start)
    assert why is not None and "few directions" in why


def test_few_pictures_say_nothing() -> None:
    assert judge(measure_signs(np.ones((8, 4)))) is None


def test_bad_features_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        measure_signs(np.array([[1.0, np.nan], [1, 1]]))
    with pytest.raises(ValueError, match="at least two rows"):
        measure_signs(np.ones((1, 3)))


def test_rank_of_known_features() -> None:
    """Equal variance in k directions is an effective rank of k."""
    for k in (1, 2, 7):
        axes = np.concatenate([np.eye(k, 10), -np.eye(k, 10)])
        assert effective_rank(np.tile(axes, (3, 1)) + 5) == pytest.approx(k)


def test_deviation_of_evenly_spread_directions_is_one() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 32))
    signs = measure_signs(rows)
    assert signs.deviation == pytest.approx(1, abs=0.01)
    assert signs.similarity == pytest.approx(0, abs=0.01)
    assert signs.rank_share > 0.95


@given(st.integers(2, 40), st.integers(1, 20), st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_bounds_and_invariances(count: int, dimension: int, seed: int, scale: float) -> None:
    """Within their bounds; the same for rows in another order, turned axes and another scale."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, dimension)) + random.normal(size=dimension)
    signs = measure_signs(rows)
    assert 0 <= signs.deviation <= 1 + 1e-9
    assert -1 - 1e-9 <= signs.similarity <= 1 + 1e-9
    assert 0 <= signs.effective_rank <= min(count - 1, dimension) + 1e-6
    turned = np.linalg.qr(random.normal(size=(dimension, dimension)))[0]
    for other in (rows[::-1], rows * scale, rows @ turned):
        again = measure_signs(other)
        assert again.effective_rank == pytest.approx(signs.effective_rank, rel=1e-6)
        assert again.similarity == pytest.approx(signs.similarity, abs=1e-9)
    assert isinstance(signs, Signs)
