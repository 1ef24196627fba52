"""Embeddings: unit length, the same whatever the company, tied to the weights that made them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import hash_file
from marauder.data.pictures import PictureStore
from marauder.data.records import Dataset, Record
from marauder.models.embeddings import embed, embed_profile, make_profile
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import build_detector


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    records = []
    for number in range(20):
        random = np.random.default_rng(number)
        shape = (48, 96, 3) if number % 3 else (96, 64, 3)
        path = tmp_path / f"{number:02d}.png"
        cv2.imwrite(str(path), cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), shape[1::-1]))
        records.append(Record(path.stem, path, shape[1], shape[0]))
    return Dataset(("fish",), tuple(records))


@pytest.mark.parametrize("architecture", ["yolov8t", "yolo11t"])
def test_vectors_have_unit_length_and_do_not_depend_on_their_company(dataset: Dataset, architecture: str) -> None:
    model = build_detector(architecture, ["fish"], 0)
    store = PictureStore(dataset.records, 96, None, 0)
    together = embed(model, dataset.records, store, range(20))
    assert together is not None and together.shape[0] == 20 and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = embed(model, dataset.records, store, [7])
    assert alone is not None
    np.testing.assert_allclose(alone[0], together[7], atol=1e-5)
    assert not np.allclose(together[7], together[8], atol=1e-3)
    turned = embed(model, dataset.records, store, [8, 7], torch.device("cpu"))
    assert turned is not None
    np.testing.assert_allclose(turned, together[[8, 7]], atol=1e-5)
    assert model.training, "the model is left in the mode it was in"


def test_they_are_the_mean_of_the_map_that_the_backbone_gives(dataset: Dataset) -> None:
    model = build_detector("yolov8t", ["fish"], 0).eval()
    maps: list[torch.Tensor] = []
    end = len(model.yaml["backbone"]) - 1
    hook = model.model[end].register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    store = PictureStore(dataset.records, 96, None, 0)
    picture = torch.from_numpy(store.get(1).copy())[None].permute(0, 3, 1, 2).float() / 255
    canvas = torch.full((1, 3, 64, 96), 114 / 255)
    canvas[:, :, 8:56] = picture
    with torch.inference_mode():
        model(canvas)
    hook.remove()
    pooled = maps[0].mean(dim=(2, 3))[0].numpy()
    found = embed(model, dataset.records, store, [1])
    assert found is not None
    np.testing.assert_allclose(found[0], pooled / np.linalg.norm(pooled), atol=1e-5)


def test_a_picture_that_cannot_be_read_has_no_vector(dataset: Dataset) -> None:
    dataset.records[3].picture.write_bytes(b"no picture")
    model = build_detector("yolov8t", ["fish"], 0)
    found = embed(model, dataset.records, PictureStore(dataset.records, 96, None, 0), range(20))
    assert found is not None
    assert np.isnan(found).any(axis=1).tolist() == [number == 3 for number in range(20)]


def test_embedding_stops_between_batches(dataset: Dataset) -> None:
    model = build_detector("yolov8t", ["fish"], 0)
    asked = iter((False, True))
    store = PictureStore(dataset.records, 96, None, 0)
    assert embed(model, dataset.records, store, range(20), should_stop=lambda: next(asked)) is None
    assert model.training


def test_a_profile_names_the_weights_that_embedded_it(dataset: Dataset, tmp_path: Path) -> None:
    for number in (0, 1):
        save_detector(build_detector("yolov8t", ["fish"], number), tmp_path / f"model{number}", 96, {})
    first = make_profile(dataset, tmp_path / "model0.pt", sample=8)
    assert first.embedded_by == hash_file(tmp_path / "model0.pt") and len(first) == 8
    same = make_profile(dataset, tmp_path / "model0.safetensors", sample=8)
    assert first.embeddings is not None and same.embeddings is not None
    np.testing.assert_array_equal(first.embeddings, same.embeddings)
    assert same.embedded_by == hash_file(tmp_path / "model0.safetensors"), "the file that was named"
    other = embed_profile(first, dataset, tmp_path / "model1.pt")
    assert other.embedded_by == hash_file(tmp_path / "model1.pt") != first.embedded_by
    assert other.embeddings is not None and not np.allclose(other.embeddings, first.embeddings, atol=1e-2)
    assert make_profile(dataset, sample=8).embeddings is None
    with pytest.raises(Interrupted):
        embed_profile(first, dataset, tmp_path / "model1.pt", clock=Clock(max_seconds=1e-9))
    moved = Dataset(("fish",), tuple(replace(record) for record in reversed(dataset.records)))
    again = embed_profile(first, moved, tmp_path / "model0.pt").embeddings
    assert again is not None
    np.testing.assert_array_equal(again, first.embeddings, "vectors follow the keys of the profile")
