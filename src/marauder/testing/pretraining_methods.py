"""The contract of pretraining methods."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from marauder.core.errors import UserError
from marauder.core.plugins import resolve
from marauder.core.randomness import stream
from marauder.data.pictures import scale_picture
from marauder.imaging.underwater_view_settings import ViewSettings
from marauder.imaging.underwater_views import draw_views
from marauder.models.files import save_detector
from marauder.models.pretraining.base import PretrainingMethod, build_method
from marauder.models.pretraining.network import Backbone
from marauder.models.pretraining.settings import MethodSettings
from marauder.models.transfer import load_matching
from marauder.models.ultralytics_adapter import build_detector
from marauder.scenes.rendering import ClipRenderer

SIZE = 64
"""Pixels of the side of a view."""
Batch = dict[str, torch.Tensor]


def small_settings(name: str, **changes: float) -> MethodSettings:
    """Of the method ``name``: heads as small as they can be."""
    model: type[MethodSettings] = resolve("pretraining_method", name).settings_model
    return model.model_validate({"hidden": 32, "output": 16, "queue": 64, "prototypes": 32, "points": 8, **changes})


def build(name: str, seed: int = 0, **changes: float) -> PretrainingMethod:
    """The method around a small backbone."""
    return build_method(name, "yolov8t", small_settings(name, **changes), seed)


def make_batch(pictures: Sequence[np.ndarray]) -> Batch:
    """Two views of each of B pictures, uint8 (H, W, 3): views (B, 2, 3, ``SIZE``, ``SIZE``) in 0..1, and matrices."""
    views, matrices = [], []
    for number, picture in enumerate(pictures):
        drawn = draw_views(scale_picture(picture, 160), SIZE, ViewSettings(), stream(3, "views", number))
        views.append([view.picture for view in drawn])
        matrices.append([view.matrix for view in drawn])
    tensor = torch.from_numpy(np.array(views)).permute(0, 1, 4, 2, 3).float() / 255
    return {"views": tensor, "matrices": torch.from_numpy(np.array(matrices)).float()}


def train(method: PretrainingMethod, batch: Batch, steps: int, optimizer: torch.optim.Optimizer) -> list[float]:
    """Updates on one repeated batch as the engine does them; the losses."""
    losses = []
    for step in range(steps):
        sums, weight = method.loss(method(batch["views"]), batch)
        loss = sums.sum() / weight
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.updated(step, 20)
        losses.append(loss.item())
    return losses


def backbone_of(method: PretrainingMethod) -> Backbone:
    """The student's backbone."""
    found = method.get_submodule("student.backbone")
    assert isinstance(found, Backbone)
    return found


def adam(method: PretrainingMethod) -> torch.optim.Optimizer:
    """Of all that is trained."""
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)


def equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether both hold the same tensors, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class PretrainingMethodContract:
    """What every method promises: signal on all levels, sums, exact resumption. A subclass is parametrized over
    ``name``; it may give other ``pictures`` than those of the generated reef."""

    @pytest.fixture(scope="class")
    @classmethod
    def pictures(cls) -> list[np.ndarray]:
        """Eight pictures, uint8 (H, W, 3), red first."""
        return [ClipRenderer(7, clip, 192, 160).frame(0).picture[:, :, ::-1].copy() for clip in range(8)]

    @pytest.fixture
    def batch(self, pictures: list[np.ndarray]) -> Batch:
        """Their views."""
        return make_batch(pictures)

    def test_the_loss_falls_on_a_repeated_batch(self, name: str, batch: Batch) -> None:
        method = build(name)
        first = method.state_dict()
        trial = copy.deepcopy(method)
        losses = []
        optimizer = adam(trial)
        # No ``updated`` between the steps: with queues and centres as they were, losses can be compared.
        for _ in range(12):
            sums, weight = trial.loss(trial(batch["views"]), batch)
            optimizer.zero_grad()
            (sums.sum() / weight).backward()
            optimizer.step()
            losses.append(float((sums.sum() / weight).detach()))
        assert losses[-1] < 0.9 * losses[0]
        assert equal_states(first, method.state_dict())

    def test_every_level_gets_signal_of_its_own(self, name: str, batch: Batch) -> None:
        """Each part of the loss moves the layer that ends its level, and none of the later ones."""
        method = build(name)
        backbone = backbone_of(method)
        last = [list(backbone.get_submodule(f"layers.{tap}").parameters()) for tap in backbone.taps]
        sums, _ = method.loss(method(batch["views"]), batch)
        assert method.loss_names == tuple(f"{t}_{p}" for t in ("global", "dense") for p in ("p3", "p4", "p5"))
        for place, part in enumerate(method.loss_names):
            method.zero_grad()
            sums[place].backward(retain_graph=True)
            moved = [any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in layer) for layer in last]
            level = ("p3", "p4", "p5").index(part.split("_")[1])
            assert moved == [place <= level for place in range(3)], part

    def test_all_trained_parameters_take_part_and_the_teacher_has_no_gradients(self, name: str, batch: Batch) -> None:
        method = build(name).train()
        sums, _ = method.loss(method(batch["views"]), batch)
        sums.sum().backward()
        for key, parameter in method.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), key
            assert not (key.startswith("teacher.") and parameter.requires_grad), key
        assert any(key.startswith("teacher.") for key in method.state_dict())

    def test_parts_of_a_batch_add_up(self, name: str, batch: Batch) -> None:
        method = build(name)
        train(method, batch, 2, adam(method))
        outputs = {key: value.detach() for key, value in method(batch["views"]).items()}
        whole, weight = method.loss(outputs, batch)
        pieces = []
        for part in (slice(0, 1), slice(1, 6), slice(6, 8)):
            cut = {"matrices": batch["matrices"][part]}
            pieces.append(method.loss({key: value[part] for key, value in outputs.items()}, cut))
        torch.testing.assert_close(torch.stack([sums for sums, _ in pieces]).sum(dim=0), whole)
        assert sum(float(count) for _, count in pieces) == float(weight) == 8

    def test_cutting_a_batch_leaves_the_same_queues_and_centres(self, name: str, batch: Batch) -> None:
        """Given the same outputs, what an update leaves behind does not depend on micro-batches."""
        whole = build(name)
        outputs = {key: value.detach() for key, value in whole(batch["views"]).items()}
        cut = copy.deepcopy(whole)
        whole.loss(outputs, batch)
        for part in (slice(0, 3), slice(3, 8)):
            cut.loss({k: v[part] for k, v in outputs.items()}, {"matrices": batch["matrices"][part]})
        for method in (whole, cut):
            method.updated(0, 10)
        for key, value in whole.state_dict().items():
            torch.testing.assert_close(cut.state_dict()[key], value, msg=key)

    def test_goes_on_bit_for_bit_from_its_state(self, name: str, batch: Batch) -> None:
        method = build(name)
        optimizer = adam(method)
        train(method, batch, 3, optimizer)
        other = build(name, seed=5)
        other.load_state_dict(copy.deepcopy(method.state_dict()))
        following = adam(other)
        following.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert train(method, batch, 3, optimizer) == train(other, batch, 3, following)
        assert equal_states(method.state_dict(), other.state_dict())

    def test_weights_are_a_function_of_the_seed(self, name: str) -> None:
        torch.manual_seed(99)
        one = build(name, seed=1).state_dict()
        torch.manual_seed(98)
        assert equal_states(one, build(name, seed=1).state_dict())
        assert not equal_states(one, build(name, seed=2).state_dict())

    def test_the_teacher_follows_the_student(self, name: str, batch: Batch) -> None:
        method = build(name, momentum=0.5)
        student = method.get_parameter("student.backbone.layers.0.conv.weight")
        teacher = method.get_parameter("teacher.backbone.layers.0.conv.weight")
        with torch.no_grad():
            student.add_(1)
        before = teacher.clone()
        method.updated(0, 100)
        torch.testing.assert_close(teacher, before + 0.5)
        held = teacher.clone()
        # The last one: the momentum has risen to 1.
        method.updated(99, 100)
        assert torch.equal(teacher, held)

    @pytest.mark.parametrize("architecture", ["yolov8t", "yolo11t"])
    def test_the_whole_backbone_goes_into_the_detector(self, name: str, architecture: str, tmp_path: Path) -> None:
        method = build_method(name, architecture, small_settings(name), 3)
        save_file(method.backbone_state(), tmp_path / "backbone.safetensors")
        detector = build_detector(architecture, ["fish", "ray"], seed=7)
        account = load_matching(detector, tmp_path / "backbone.safetensors", backbone_only=True)
        count = len(detector.yaml["backbone"])  # type: ignore[index]
        own = {key for key in detector.state_dict() if int(key.split(".")[1]) < count}
        assert set(account.taken) == own == set(method.backbone_state())
        assert not account.other_shape and not account.unknown
        method.eval(), detector.eval()
        images = torch.rand(1, 3, SIZE, SIZE)
        layers = detector.model
        maps = images
        for layer in list(layers)[:count]:  # type: ignore[arg-type]
            maps = layer(maps)
        assert torch.equal(maps, method.maps(images)[-1])

    def test_starts_from_a_detector(self, name: str, tmp_path: Path) -> None:
        detector = build_detector("yolov8t", ["fish"], seed=11)
        save_detector(detector, tmp_path / "best", 64, {})
        for suffix in (".pt", ".safetensors"):
            method = build_method(name, "yolov8t", small_settings(name), 0, tmp_path / f"best{suffix}")
            for key, tensor in method.backbone_state().items():
                assert torch.equal(tensor, detector.state_dict()[key]), key
            teacher = method.get_parameter("teacher.backbone.layers.0.conv.weight")
            assert torch.equal(teacher, detector.state_dict()["model.0.conv.weight"])

    def test_other_weights_are_refused_in_words(self, name: str, tmp_path: Path) -> None:
        save_detector(build_detector("yolo11t", ["fish"]), tmp_path / "best", 64, {})
        with pytest.raises(UserError, match="tensors fit yolov8n"):
            build_method(name, "yolov8n", small_settings(name), 0, tmp_path / "best.safetensors")

    def test_features_and_copies(self, name: str, batch: Batch) -> None:
        method = build(name)
        train(method, batch, 1, adam(method))
        method.eval()
        with torch.no_grad():
            features = method.features(batch["views"][:, 0])
            again = copy.deepcopy(method).features(batch["views"][:, 0])
        assert features.shape == (8, sum(backbone_of(method).channels))
        assert torch.equal(features, again)

    def test_half_precision_gives_a_finite_loss_in_full_precision(self, name: str, batch: Batch) -> None:
        method = build(name)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = method(batch["views"])
        sums, _ = method.loss(outputs, batch)
        assert sums.dtype == torch.float32
        assert bool(torch.isfinite(sums).all())
        sums.sum().backward()

    def test_views_without_a_common_place_leave_the_dense_terms_empty(self, name: str, batch: Batch) -> None:
        method = build(name)
        apart = batch["matrices"].clone()
        apart[:, 1, 0, 2] += 10_000
        sums, _ = method.loss(method(batch["views"]), {"matrices": apart})
        assert bool((sums[:3] > 0).all())
        assert sums[3:].tolist() == [0, 0, 0]
