"""Starting from other weights: the class branch at the source's width, class rows by name, and files that keep both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from ultralytics import YOLO

from marauder.core.errors import UserError
from marauder.models.files import load_detector, save_detector
from marauder.models.transfer import load_matching, start_detector
from marauder.models.ultralytics_adapter import DetectionModel, build_detector, class_branch_width

MANY = tuple(f"species {number}" for number in range(50))
"""Enough classes for another width than few have: 50 channels, not 16."""
FEW = ("eel", "species 7", "Species_3")
TINY = pytest.mark.parametrize("architecture", ["yolov8t", "yolo11t"])


def source_at(folder: Path, architecture: str = "yolov8t", names: tuple[str, ...] = MANY) -> Path:
    """A saved detector of many classes whose every number is its own."""
    model = build_detector(architecture, names, 3)
    for layer in last_layers(model):
        nn.init.normal_(layer.bias)  # a fresh one has the same bias in every row
    save_detector(model, folder / "source", 96, {})
    return folder / "source.safetensors"


def last_layers(model: DetectionModel) -> list[nn.Conv2d]:
    """The class branch's last layers, one a stride."""
    return [branch[-1] for branch in model.model[-1].cv3]  # type: ignore[index, union-attr]


def without_last(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All but the class branch's last layers."""
    return {name: value for name, value in state.items() if not ("cv3" in name and name.split(".")[-2] == "2")}


@TINY
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_start_keeps_the_width_and_takes_rows_by_name(architecture: str, suffix: str, tmp_path: Path) -> None:
    path = source_at(tmp_path, architecture).with_suffix(suffix)
    source = load_detector(path).model
    model, (account,) = start_detector(architecture, FEW, seed=9, weights=path)
    assert class_branch_width(build_detector(architecture, FEW)) == 16
    assert class_branch_width(model) == class_branch_width(source) == 50
    own, theirs = model.state_dict(), source.state_dict()
    assert without_last(own).keys() == without_last(theirs).keys() == set(account.taken)
    assert all(torch.equal(own[name], theirs[name]) for name in account.taken)
    fresh = last_layers(build_detector(architecture, FEW, 9, branch_width=50))
    for layer, other, untouched in zip(last_layers(model), last_layers(source), fresh, strict=True):
        for row, expected in ((1, other.weight[7]), (2, other.weight[3]), (0, untouched.weight[0])):
            assert torch.equal(layer.weight[row], expected)
        assert torch.equal(layer.bias, torch.stack([untouched.bias[0], other.bias[7], other.bias[3]]))
    assert (account.classes_taken, account.classes_initialised) == (FEW[1:], FEW[:1])
    assert not account.missing and not account.other_shape and len(account.by_class) == 6


def test_the_account_says_what_became_of_the_class_branch(tmp_path: Path) -> None:
    _, (account,) = start_detector("yolov8t", FEW, weights=source_at(tmp_path))
    for text in (account.describe(), account.listing()):
        assert "6 by class name, 0 stay as initialised" in text
        assert "class branch: 50 channels wide as in the source, not 16" in text
        assert "classes taken by name: 2 of 3 (species 7, Species_3); as initialised: eel" in text
    assert all(f"  {name} " in account.listing() for name in account.by_class)


def test_the_numbers_that_are_counted_are_those_that_were_taken(tmp_path: Path) -> None:
    model, (account,) = start_detector("yolov8t", FEW, weights=source_at(tmp_path))
    rows = 3 * 2 * (50 + 1)  # strides, classes found, weights and a bias
    assert account.numbers == sum(value.numel() for value in without_last(model.state_dict()).values()) + rows


def test_classes_in_another_order_take_their_own_rows(tmp_path: Path) -> None:
    path = source_at(tmp_path, names=("ray", "eel", "cod"))
    model, (account,) = start_detector("yolov8t", ("cod", "ray", "eel"), weights=path)
    for layer, other in zip(last_layers(model), last_layers(load_detector(path).model), strict=True):
        assert torch.equal(layer.weight, other.weight[[2, 0, 1]])
        assert torch.equal(layer.bias, other.bias[[2, 0, 1]])
    assert account.branch_widths is None and not account.classes_initialised


def test_no_class_of_the_same_name_leaves_every_row_as_initialised(tmp_path: Path) -> None:
    path = source_at(tmp_path, names=("ray", "eel"))
    model, (account,) = start_detector("yolov8t", ("cod", "hake"), seed=4, weights=path)
    untouched = last_layers(build_detector("yolov8t", ("cod", "hake"), 4))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(last_layers(model), untouched, strict=True))
    assert len(account.other_classes) == 6 and set(account.other_classes) <= set(account.missing)
    assert "rows of other classes: " in account.describe() and "taken by name: 0 of 2" in account.describe()


def test_the_same_classes_are_taken_whole(tmp_path: Path) -> None:
    path = source_at(tmp_path)
    model, (account,) = start_detector("yolov8t", MANY, weights=path)
    theirs = load_detector(path).model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    assert set(account.taken) == set(theirs) and len(account.describe().splitlines()) == 1


def test_a_state_that_names_no_classes_is_taken_by_position(tmp_path: Path) -> None:
    state = load_detector(source_at(tmp_path)).model.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "plain.safetensors")
    others = tuple(f"other {number}" for number in range(50))
    model, (account,) = start_detector("yolov8t", others, weights=tmp_path / "plain.safetensors")
    assert set(account.taken) == set(state) and not account.by_class
    # With fewer classes the branch still has the source's width; its rows cannot be told apart.
    model, (account,) = start_detector("yolov8t", FEW, weights=tmp_path / "plain.safetensors")
    assert class_branch_width(model) == 50 and len(account.other_shape) == 6


def test_a_narrower_source_makes_a_narrower_branch(tmp_path: Path) -> None:
    model, (account,) = start_detector("yolov8t", MANY, weights=source_at(tmp_path, names=("eel",)))
    assert class_branch_width(model) == 16 and account.branch_widths == (16, 50)
    assert model.eval()(torch.rand(1, 3, 64, 64))[0].shape[1] == 4 + 50


def test_a_model_of_its_own_width_takes_no_half_of_a_row(tmp_path: Path) -> None:
    model = build_detector("yolov8t", FEW, 2)
    before = [layer.bias.clone() for layer in last_layers(model)]
    account = load_matching(model, source_at(tmp_path))
    assert not account.by_class
    assert all(torch.equal(layer.bias, bias) for layer, bias in zip(last_layers(model), before, strict=True))


def test_the_backbone_comes_last_and_changes_no_width(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    path, backbone = source_at(tmp_path), source_at(tmp_path / "other", names=("eel",))
    model, accounts = start_detector("yolov8t", FEW, weights=path, backbone=backbone)
    first = "model.0.conv.weight"
    assert torch.equal(model.state_dict()[first], load_detector(backbone).model.state_dict()[first])
    assert class_branch_width(model) == 50 and [one.source for one in accounts] == [path, backbone]
    alone, (account,) = start_detector("yolov8t", FEW, backbone=path)
    assert class_branch_width(alone) == 16 and not account.by_class and account.branch_widths is None


def test_weights_of_another_scale_are_refused_with_their_own_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tensors fit yolov8n"):
        start_detector("yolov8n", FEW, weights=source_at(tmp_path))


@TINY
def test_a_kept_width_is_like_one_built_for_as_many_classes(architecture: str) -> None:
    kept = build_detector(architecture, FEW, 1, branch_width=50)
    native = build_detector(architecture, MANY, 1)
    for (name, module), (other_name, other) in zip(kept.named_modules(), native.named_modules(), strict=True):
        assert name == other_name and type(module) is type(other)
        if isinstance(module, nn.BatchNorm2d):
            assert isinstance(other, nn.BatchNorm2d)
            assert (module.eps, module.momentum) == (other.eps, other.momentum)
    mine, theirs = without_last(kept.state_dict()), without_last(native.state_dict())
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    usual = last_layers(build_detector(architecture, FEW, 1))
    assert all(torch.equal(a.bias, b.bias) for a, b in zip(last_layers(kept), usual, strict=True))
    predictions = kept.train()(torch.rand(2, 3, 64, 64))
    assert predictions["scores"].shape[1] == kept.model[-1].nc == kept.yaml["nc"] == 3  # type: ignore[index, union-attr]


def test_the_seed_alone_decides_and_nobody_elses_numbers_are_drawn() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    models = [build_detector("yolov8t", FEW, seed, branch_width=50) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    one, same, other = (last_layers(model)[0].weight for model in models)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_width_that_no_number_of_classes_has_is_refused() -> None:
    for width in (0, 15, 101):
        with pytest.raises(UserError, match=f"class branch {width} channels wide"):
            build_detector("yolov8t", FEW, branch_width=width)


@TINY
def test_both_files_bring_the_width_back(architecture: str, tmp_path: Path) -> None:
    model, _ = start_detector(architecture, FEW, weights=source_at(tmp_path, architecture))
    save_detector(model, tmp_path / "best", 96, {})
    pictures = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        expected = model.eval()(pictures)[0]
        for suffix in (".pt", ".safetensors"):
            loaded = load_detector(tmp_path / f"best{suffix}")
            assert loaded.metadata["class_branch_width"] == class_branch_width(loaded.model) == 50
            assert torch.equal(loaded.model(pictures)[0], expected)
    # A detector that was fine-tuned is a start like any other: its width goes on.
    again, (account,) = start_detector(architecture, ("squid",), weights=tmp_path / "best.pt")
    assert class_branch_width(again) == 50 and account.classes_initialised == ("squid",)


def test_files_of_before_the_width_was_noted_are_read(tmp_path: Path) -> None:
    path = source_at(tmp_path)
    with safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
        described = json.loads(stored.metadata()["marauder"])
    del described["class_branch_width"]
    save_file(tensors, tmp_path / "old.safetensors", {"marauder": json.dumps(described)})
    checkpoint = torch.load(path.with_suffix(".pt"), weights_only=False)  # written here, just now
    torch.save({**checkpoint, "marauder": json.dumps(described)}, tmp_path / "old.pt")
    for suffix in (".pt", ".safetensors"):
        assert class_branch_width(load_detector(tmp_path / f"old{suffix}").model) == 50


@pytest.mark.parametrize("noted", ["wide", 7])
def test_a_noted_width_that_cannot_be_is_an_error_that_names_the_file(noted: object, tmp_path: Path) -> None:
    path = source_at(tmp_path)
    with safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
        described = {**json.loads(stored.metadata()["marauder"]), "class_branch_width": noted}
    save_file(tensors, tmp_path / "odd.safetensors", {"marauder": json.dumps(described)})
    with pytest.raises(UserError, match=r"odd\.safetensors: "):
        load_detector(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("architecture", ["yolov8n", "yolo11n"])
def test_a_real_coco_detector_gives_its_class_branch(architecture: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "weights" / f"{architecture}_coco.pt"
    if not path.is_file():
        pytest.skip(f"no COCO weights at {path}")
    names = ("fish", "Dog", "boat")
    model, (account,) = start_detector(architecture, names, weights=path)
    theirs = load_detector(path).model
    assert class_branch_width(model) == 80 and account.branch_widths == (80, 64)
    assert account.classes_taken == ("Dog", "boat") and not account.missing
    for layer, other in zip(last_layers(model), last_layers(theirs), strict=True):
        assert torch.equal(layer.weight[1:], other.weight[[16, 8]]) and torch.equal(layer.bias[1:], other.bias[[16, 8]])
    picture = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        kept = model.eval()(picture)[0][:, [0, 1, 2, 3, 5, 6]]
        torch.testing.assert_close(kept, theirs.eval()(picture)[0][:, [0, 1, 2, 3, 4 + 16, 4 + 8]])
    save_detector(model, tmp_path / "best", 96, {})
    opened = YOLO(tmp_path / "best.pt")
    assert opened.names == dict(enumerate(names))
    with torch.inference_mode():
        assert torch.equal(opened.model.eval()(picture)[0], model(picture)[0])
