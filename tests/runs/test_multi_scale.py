"""Training at changing sizes: sizes are functions of the update, one size is plain training, tiny boxes are ignored."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError
from small_reef import PLAIN
from test_interruption import kill_after, weights

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.files import hash_file
from marauder.core.randomness import stream
from marauder.core.settings import Decides
from marauder.engine.loader import Loader, Order
from marauder.engine.task import SampleContext, SampleKey
from marauder.imaging.augmentation import AugmentationSettings, Source, compose
from marauder.models.ignored_places import IGNORED_BOXES, IGNORED_INDEX, LossOutside, ignored_cells
from marauder.models.ultralytics_adapter import DetectionLossSums, build_detector
from marauder.runs.gated import run_gated
from marauder.runs.recipes import load_run_settings
from marauder.tasks.detection.data import DetectionData
from marauder.tasks.detection.multi_scale import MultiScaleSettings, SizePlan
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.detection.training import DetectionTask

SIZES = tuple(range(480, 769, 32))
CHANGING = ["multi_scale.enabled=true", "multi_scale.sizes=[64,96,128]"]


def settings(data: Path, *words: str) -> DetectionSettings:
    return load_run_settings(DetectionSettings, None, list(words), data=data, model="yolov8t", image_size=64)


def task(data: Path, *words: str) -> DetectionTask:
    return DetectionTask(DetectionData(settings(data, *words)).plan(), None, 0)


def test_the_set_follows_the_native_size() -> None:
    assert MultiScaleSettings().set_for(640) == SIZES
    assert MultiScaleSettings().set_for(320) == (224, 256, 288, 320, 352, 384)
    assert MultiScaleSettings(smallest=160, largest=288, step=64).set_for(224) == (160, 224, 288)
    assert MultiScaleSettings(sizes="128, 64,96").set_for(96) == (64, 96, 128)
    assert MultiScaleSettings().measured_for(640) == (480, 544, 640, 704, 768)
    assert MultiScaleSettings(measured_sizes=(480,)).measured_for(640) == (480, 640)
    assert not settings(Path("d"), "multi_scale=true").multi_scale.is_off


@pytest.mark.parametrize(
    "given",
    [{"sizes": "100"}, {"sizes": "32"}, {"smallest": 128, "largest": 96}, {"step": 48}, {"sizes": "64", "largest": 96}],
)
def test_what_cannot_be_a_set_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MultiScaleSettings.model_validate(given)
    with pytest.raises(ValueError, match="at image_size 64 the sizes would go from 128 to 96"):
        MultiScaleSettings(smallest=128).set_for(64)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 12), st.booleans(), st.floats(0, 1))
@limits(max_examples=60, deadline=None)
def test_the_size_of_an_update_is_a_function_of_the_seed_and_the_update(
    seed: int, epochs: int, steps: int, progressive: bool, share: float
) -> None:
    one, other = (SizePlan(SIZES, 640, seed, progressive, share) for _ in range(2))
    whole = [one.at(step // steps, step, epochs) for step in range(epochs * steps)]
    # Asked backwards and from the middle on, as after a kill, by something that shares nothing with the first.
    assert [other.at(step // steps, step, epochs) for step in reversed(range(epochs * steps))] == whole[::-1]
    for step, size in enumerate(whole):
        assert size in one.of_epoch(step // steps, epochs)


def test_every_deal_has_every_size_and_the_end_is_native() -> None:
    plan = SizePlan(SIZES, 640, 3, native_share=0.2)
    sizes = [plan.at(step // 5, step, 10) for step in range(50)]
    for deal in range(4):
        assert sorted(sizes[10 * deal : 10 * deal + 10]) == list(SIZES)
    assert sizes[40:] == [640] * 10
    assert sizes != [SizePlan(SIZES, 640, 4, native_share=0.2).at(step // 5, step, 10) for step in range(50)]
    assert SizePlan(SIZES, 640, 3, native_share=0.01).of_epoch(9, 10) == (640,), "asked for, it is an epoch at least"
    assert SizePlan(SIZES, 640, 3).of_epoch(9, 10) == SIZES


def test_progressive_sizes_rise() -> None:
    plan = SizePlan(SIZES, 640, 3, progressive=True, native_share=0.1)
    means = [np.mean(plan.of_epoch(epoch, 20)) for epoch in range(18)]
    assert means == sorted(means) and plan.of_epoch(0, 20)[0] == 480 and plan.of_epoch(17, 20)[-1] == 768
    assert plan.of_epoch(18, 20) == plan.of_epoch(19, 20) == (640,)


def test_ranks_and_a_training_that_goes_on_load_the_same_sizes(small_reef: Path) -> None:
    one = task(small_reef, *CHANGING)
    order = Order(one.training_length, 4, one.plan.seed, 3)
    whole = [batch.tensors["images"].shape[1] for batch in Loader(one, order, 0, 0, 1, workers=0, pin_memory=False)]
    assert set(whole) >= {64, 96, 128} and whole[-3:] == [64, 64, 64]
    for rank in (0, 1):
        shares = Loader(one, order, 4, rank, 2, workers=0, pin_memory=False)
        assert [batch.tensors["images"].shape[1] for batch in shares] == whole[4:]
    # As many pixels at a time, whatever the size: cut in pieces, all are of the update's size.
    for micro, pieces in ((4, [4, 1, 1]), (2, [2, 1, 1]), (1, [1, 1, 1])):
        assert [SampleContext(False, size, 64).samples_per_pass(micro) for size in (64, 96, 128)] == pieces


def test_pictures_are_stored_at_the_largest_size_and_drawn_from_there(small_reef: Path) -> None:
    plain, changing = task(small_reef), task(small_reef, *CHANGING, "augmentation.mosaic=0")
    assert (plain.training_store.long_side, changing.training_store.long_side) == (64, 128)
    assert changing.validation_store.long_side == 64, "measured at the size of use"
    keys = [SampleKey(0, index) for index in range(4)]
    small, large = (
        changing.load(keys, SampleContext(image_size=size, base_image_size=64)).tensors["images"].numpy()
        for size in (64, 96)
    )
    for one, other in zip(small, large):
        enlarged = cv2.resize(one, (96, 96), interpolation=cv2.INTER_LINEAR)
        # Noise of single pixels, which enlarging cannot bring back.
        assert cv2.Laplacian(other, cv2.CV_64F).var() > 1.5 * cv2.Laplacian(enlarged, cv2.CV_64F).var()


def test_one_size_is_plain_training_to_the_last_bit(small_reef: Path, tmp_path: Path) -> None:
    words = ["training.epochs=2", "training.batch_size=4", "training.device=cpu", "training.threads=1", "weights=none",
             "training.optimizer.warmup_epochs=1", "evaluation.draws=20", *PLAIN]  # fmt: skip
    hashes = []
    for name, more in (("plain", []), ("one_size", ["multi_scale.enabled=true", "multi_scale.sizes=64"])):
        run_gated(settings(small_reef, *words, *more).changed({"output": tmp_path / name}), Clock())
        hashes.append([hash_file(tmp_path / name / f"{which}.safetensors") for which in ("best", "last")])
    assert hashes[0] == hashes[1]


def test_sizes_decide_the_weights_and_how_they_are_measured_does_not(small_reef: Path) -> None:
    def result(*words: str) -> object:
        return decided(settings(small_reef, *words), Decides.RESULT)["multi_scale"]

    assert result() == result("multi_scale.step=64") == "off"
    assert result(*CHANGING) != result(*CHANGING, "multi_scale.schedule=progressive")
    assert result(*CHANGING) == result(*CHANGING, "multi_scale.measured_sizes=96")


def test_the_zoom_is_narrowed_so_that_animals_stay_as_large_as_in_plain_training() -> None:
    plan = SizePlan((480, 640, 768), 640, 0)
    low, high = plan.zoom(0.5)
    assert (low * 480, high * 768) == pytest.approx((0.5 * 640, 1.5 * 640))
    assert SizePlan((640,), 640, 0).zoom(0.5) == (0.5, 1.5) == SizePlan(SIZES, 640, 0, limit_zoom=False).zoom(0.5)
    assert SizePlan((320, 1280), 640, 0).zoom(0.1) == (1.0, 1.0), "never more than what the sizes do already"


def test_boxes_that_get_too_small_are_ignored_and_no_background() -> None:
    still = AugmentationSettings(mosaic=0, translate=0, scale=0, flip_horizontal=0, hue=0, saturation=0, value=0)
    boxes = np.array([[10.0, 10, 30, 30], [40, 40, 43, 60], [50, 10, 51.5, 12], [-50, 0, 2, 20]])
    source = Source(np.full((64, 64, 3), 90, np.uint8), boxes, np.arange(4))
    found = compose([source], 64, still, stream(0, "x"), ignored_side=3.5)
    assert found.classes.tolist() == [0] and found.boxes.tolist() == [[10, 10, 30, 30]]
    # What is mostly outside is neither: nobody could say what it is.
    assert found.ignored.tolist() == [[40, 40, 43, 60], [50, 10, 51.5, 12]]
    plain = compose([source], 64, still, stream(0, "x"))
    assert plain.classes.tolist() == [0, 1] and not len(plain.ignored)


def test_the_loss_leaves_out_the_cells_of_ignored_boxes_and_nothing_else() -> None:
    cells = ignored_cells(
        torch.tensor([1.0]), torch.tensor([[0.30, 0.55, 0.02, 0.02]]), 2, [(8, 8), (4, 4), (2, 2)]
    )  # fmt: skip
    assert not cells[0].any() and cells[1].nonzero().flatten().tolist() == [4 * 8 + 2, 64 + 2 * 4 + 1, 64 + 16 + 2]
    loss = LossOutside(torch.nn.BCEWithLogitsLoss(reduction="none"))
    scores, targets = torch.randn(2, 84, 3), torch.zeros(2, 84, 3)
    targets[1, 64 + 9, 0] = 0.7  # an animal is learned there all the same
    whole = loss(scores, targets)
    loss.cells = cells
    assert torch.equal((loss(scores, targets) != whole).any(-1).nonzero(), torch.tensor([[1, 34], [1, 82]]))


def test_an_ignored_place_gives_no_gradient_and_none_ignored_changes_no_bit() -> None:
    model = build_detector("yolov8t", ("fish",)).train()
    batch = {
        "batch_idx": torch.tensor([0.0]),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]),
    }
    images = torch.from_numpy(stream(1, "pictures").random((2, 3, 64, 64))).float()
    outputs = model(images)

    def sums(more: dict[str, torch.Tensor]) -> torch.Tensor:
        return DetectionLossSums(model).sums(outputs, {**batch, **more})[0]

    plain = sums({})
    nothing = {IGNORED_INDEX: torch.zeros(0), IGNORED_BOXES: torch.zeros(0, 4)}
    assert torch.equal(sums(nothing), plain)
    everything = sums({IGNORED_INDEX: torch.tensor([1.0]), IGNORED_BOXES: torch.tensor([[0.5, 0.5, 1.0, 1.0]])})
    assert torch.equal(everything[[0, 2]], plain[[0, 2]]) and 0 < float(everything[1]) < float(plain[1])
    (gradient,) = torch.autograd.grad(everything.sum(), outputs["scores"])
    assert not gradient[1].any() and gradient[0].any()


@pytest.mark.slow
def test_killed_at_changing_sizes_it_ends_with_the_same_weights(
    start_baseline: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    words = [*CHANGING, "multi_scale.schedule=progressive", "training.micro_batch_size=2"]
    text, _ = start_baseline(tmp_path / "undisturbed", *words).communicate(timeout=300)
    assert (tmp_path / "undisturbed" / "best.safetensors").is_file(), text
    kills = sum(
        kill_after(start_baseline(tmp_path / "killed", *words), tmp_path / "killed", step, 0.05) for step in (4, 16)
    )
    text, _ = start_baseline(tmp_path / "killed", *words).communicate(timeout=300)
    assert kills and weights(tmp_path / "killed") == weights(tmp_path / "undisturbed"), text
