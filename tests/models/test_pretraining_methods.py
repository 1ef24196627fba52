"""Every pretraining method in the table of plug points passes the contract on real pictures; and their parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.core.plugins import TABLE, names, resolve
from marauder.data.pictures import decode_picture
from marauder.models.pretraining.base import build_method
from marauder.models.pretraining.correspondence import choose, locate, sample, take
from marauder.models.pretraining.network import STRIDES, build_backbone
from marauder.models.pretraining.settings import MethodSettings
from marauder.models.ultralytics_adapter import build_detector
from marauder.testing.pretraining_methods import SIZE, PretrainingMethodContract


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", names("pretraining_method"))
class TestEveryMethod(PretrainingMethodContract):
    """All there are, on real pictures."""

    @pytest.fixture(scope="class")
    @classmethod
    def pictures(cls, shared_data: Path) -> list[np.ndarray]:
        return [decode_picture(path) for path in sorted((shared_data / "aquarium").rglob("*.jpg"))[::70][:8]]


@pytest.mark.parametrize("name", TABLE["pretraining_method"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = TABLE["pretraining_method"][name].split(":")[0]
    for key in [key for key in sys.modules if key.startswith("lightly")]:
        monkeypatch.delitem(sys.modules, key)
    for key in (module, "marauder.models.pretraining.towers"):
        monkeypatch.delitem(sys.modules, key, raising=False)
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(UserError, match="needs the package 'lightly"):
        resolve("pretraining_method", name)


def test_unknown_method() -> None:
    with pytest.raises(UserError, match="choose one of: moco, distillation"):
        build_method("rotation", "yolov8t", MethodSettings(), 0)


@pytest.mark.parametrize("values", [{"levels": (0, 0, 0)}, {"global_weight": 0, "dense_weight": 0}])
def test_nothing_to_learn_is_a_mistake(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="nothing would be learned"):
        MethodSettings(**values)


@pytest.mark.parametrize("architecture", ["yolov8t", "yolov8n", "yolo11t", "yolo11n"])
def test_maps_have_the_strides_that_the_neck_takes(architecture: str) -> None:
    backbone = build_backbone(architecture, 0).eval()
    maps = backbone(torch.zeros(1, 3, 96, 160))
    assert [tuple(m.shape[2:]) for m in maps] == [(96 // s, 160 // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == backbone.channels
    detector = build_detector(architecture, ["fish"])
    taken = {source for layer in detector.yaml["head"] if isinstance(layer[0], list) for source in layer[0]}  # type: ignore[index]
    assert {*backbone.taps[:2]} == {source for source in taken if 0 <= source < len(backbone.layers) - 1}


def affine(draw: st.DrawFn) -> np.ndarray:
    flip = draw(st.sampled_from([-1.0, 1.0]))
    scale = draw(st.floats(0.3, 3))
    return np.array(
        [
            [flip * scale, 0, draw(st.floats(-40, 40)) + (scale * SIZE if flip < 0 else 0)],
            [0, draw(st.floats(0.3, 3)), draw(st.floats(-40, 40))],
            [0, 0, 1],
        ]
    )


@given(st.composite(affine)(), st.composite(affine)())
@settings(max_examples=60, deadline=None)
def test_places_are_those_of_the_same_source_pixel(one: np.ndarray, other: np.ndarray) -> None:
    """Both views' places lead to the same pixel of the source picture, and `inside` is what it says."""
    places, inside = locate(torch.tensor(one)[None], torch.tensor(other)[None], 8, 8, 8)
    y, x = np.meshgrid(np.arange(8) * 8 + 4.0, np.arange(8) * 8 + 4.0, indexing="ij")
    source = one @ np.stack([x.ravel(), y.ravel(), np.ones(64)])
    pixels = (places[0].double().numpy() + 1) / 2 * SIZE
    back = other @ np.concatenate([pixels.T, np.ones((1, 64))])
    np.testing.assert_allclose(back[:2], source[:2], atol=0.02)
    np.testing.assert_array_equal(inside[0].numpy(), (np.abs(places[0].numpy()) <= 1).all(axis=1))


def test_sampled_vectors_are_those_of_the_other_view() -> None:
    """A map that holds its own coordinates gives back the coordinates; a flipped view gives them mirrored."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    maps = torch.stack([x, y])[None]
    same = torch.eye(3)[None]
    flipped = torch.tensor([[-1.0, 0, SIZE], [0, 1, 0], [0, 0, 1]])[None]
    for other, expected in ((same, x), (flipped, 7 - x)):
        places, inside = locate(same, other, 8, 8, 8)
        assert bool(inside.all())
        found = sample(maps, places)[0]
        torch.testing.assert_close(found[:, 0].view(8, 8), expected)
        torch.testing.assert_close(found[:, 1].view(8, 8), y)
    cells = torch.tensor([[0, 9, 63]])
    assert take(maps, cells)[0].tolist() == [[0, 0], [1, 1], [7, 7]]


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 10_000), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_choice_takes_valid_cells_first_and_each_row_by_itself(length: int, count: int, turn: int, seed: int) -> None:
    valid = torch.from_numpy(np.random.default_rng(seed).random((3, length)) < 0.5)
    cells, known = choose(valid, count, torch.tensor(turn))
    for row in range(3):
        assert len(set(cells[row].tolist())) == min(count, length)
        assert int(known[row].sum()) == min(count, int(valid[row].sum()))
        assert bool((valid[row][cells[row]] == known[row]).all())
        alone, _ = choose(valid[row : row + 1], count, torch.tensor(turn))
        assert torch.equal(alone[0], cells[row])
