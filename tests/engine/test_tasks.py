"""Every task keeps the engine's contract; tasks that break it are found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import LineTask

from marauder.core.clock import Clock
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset
from marauder.engine.task import Batch, LocalBatch, SampleContext, SampleKey, Task
from marauder.imaging.augmentation import AugmentationSettings
from marauder.imaging.underwater_view_settings import ViewSettings
from marauder.models.ignored_places import IGNORED_BOXES
from marauder.models.pretraining.settings import MethodSettings
from marauder.scenes.settings import SceneSettings
from marauder.scenes.writing import generate_scenes
from marauder.tasks.detection.multi_scale import SizePlan
from marauder.tasks.detection.training import DetectionPlan, DetectionTask
from marauder.tasks.pretraining.training import PretrainingTask, PretrainingTaskPlan
from marauder.testing.tasks import TaskContract, without_noise


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few generated pictures with boxes."""
    output = tmp_path_factory.mktemp("scenes")
    settings = SceneSettings(output=output, workers=1, count=12, clips=4, width=96, height=96, seed=5)
    return read_dataset(generate_scenes(settings, Clock()))


class OnScenes(TaskContract):
    """A task on the generated pictures."""

    @pytest.fixture(autouse=True)
    def take_scenes(self, scenes: Dataset) -> None:
        self.records = scenes.records
        self.names = scenes.names


class TestDetectionTask(OnScenes):
    sizes = (96, 32)

    def make_task(self, folder: Path) -> Task:
        plan = DetectionPlan(
            "yolov8t",
            self.names,
            self.records[:8],
            self.records[8:],
            64,
            1,
            AugmentationSettings(),
            close_mosaic_epochs=1,
        )
        return DetectionTask(plan, folder, int(1e8))

    def test_the_last_epochs_have_no_mosaic(self, task: Task) -> None:
        assert [task.context(epoch, 2 * epoch, 4).closing for epoch in range(4)] == [False, False, False, True]
        keys = [SampleKey(0, index) for index in range(8)]
        mosaics = task.load(keys, SampleContext()).tensors
        plain = task.load(keys, SampleContext(closing=True)).tensors
        assert len(mosaics["cls"]) > len(plain["cls"]) > 0, "four pictures show more than one"

    def test_boxes_stay_where_they_are_at_another_size(self, task: Task) -> None:
        keys = [SampleKey(0, index) for index in range(8)]
        own, larger = (task.load(keys, SampleContext(image_size=size, base_image_size=64)).tensors for size in (64, 96))
        # Composed anew, not enlarged: corners of a mosaic are whole pixels of either size, and less becomes too small.
        assert len(larger["bboxes"]) >= len(own["bboxes"]) > 0
        for index, box in zip(own["batch_idx"], own["bboxes"]):
            same = larger["bboxes"][larger["batch_idx"] == index]
            assert float((same - box).abs().amax(1).min()) < 1.5 / 64
        shrunk = torch.nn.functional.interpolate(task.inputs(larger), size=(64, 64), mode="area")
        assert float((shrunk - task.inputs(own)).abs().mean()) < 0.05


class TestMultiScaleDetectionTask(OnScenes):
    """Pictures stored at the largest size, and places that are ignored."""

    sizes = (64, 128)

    def make_task(self, folder: Path) -> Task:
        sizes = SizePlan((64, 96, 128), 96, seed=1, native_share=0.2, least_box=4.0)
        plan = DetectionPlan(
            "yolov8t", self.names, self.records[:8], self.records[8:], 96, 1, AugmentationSettings(), multi_scale=sizes
        )
        return DetectionTask(plan, folder, int(1e8))

    def test_parts_of_a_batch_add_up_at_every_size(self, task: Task) -> None:
        model = without_noise(task.build_model(3))
        criterion = task.criterion(model)
        for size in (64, 96, 128):
            batch = task.load([SampleKey(1, index) for index in range(8)], SampleContext(False, size, 96)).tensors
            assert size > 64 or len(batch[IGNORED_BOXES]), "nothing is ignored, and nothing would be proven"
            sums = []
            for micro in (8, 4, 2, 1):
                cuts = [task.cut(batch, start, start + micro) for start in range(0, 8, micro)]
                parts = [criterion(model(task.inputs(one)), one) for one in cuts]
                sums.append(torch.stack([torch.cat([one, count.reshape(-1)]) for one, count in parts]).sum(0).detach())
            for other in sums[1:]:
                torch.testing.assert_close(other, sums[0], rtol=1e-4, atol=1e-3)


class TestMomentumContrastTask(OnScenes):
    sizes = (96,)
    method = "moco"

    def make_task(self, folder: Path) -> Task:
        settings = MethodSettings(queue=32, hidden=64, output=32, prototypes=64)
        plan = PretrainingTaskPlan(
            "yolov8t", self.method, settings, ViewSettings(), self.records[:8], self.records[8:], 64, 96, 1
        )
        return PretrainingTask(plan, folder, int(1e8))


class TestSelfDistillationTask(TestMomentumContrastTask):
    method = "distillation"


class TestLineTask(TaskContract):
    def make_task(self, folder: Path) -> Task:
        return LineTask()


class Unkeyed(LineTask):
    """Draws its samples from nowhere."""

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        images = torch.rand(len(keys), 1)
        return LocalBatch({"images": images, "targets": 2 * images + 1}, list(keys))


class Averaging(LineTask):
    """Gives means where sums are wanted."""

    def criterion(self, model: torch.nn.Module) -> Any:
        inner = super().criterion(model)

        def means(outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            sums, counts = inner(outputs, batch)
            return sums / counts, counts

        return means


class Uncounted(LineTask):
    """Gives a count for each sample instead of each part."""

    def criterion(self, model: torch.nn.Module) -> Any:
        inner = super().criterion(model)
        return lambda outputs, batch: (inner(outputs, batch)[0], torch.ones(len(outputs)))


class Careless(LineTask):
    """Cuts one sample too few."""

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        return super().cut(batch, start, max(stop - 1, start + 1))


class Moody(LineTask):
    """Its context depends on how often it was asked."""

    asked = 0

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        self.asked += 1
        return SampleContext(closing=self.asked % 2 == 0)


class Unnamed(LineTask):
    """Leaves out a metric that it promises."""

    def score(self, shares: list[Any]) -> dict[str, float]:
        return {"accuracy": 0.5}


class Unstoppable(LineTask):
    """Measures on whatever it is told."""

    def predict(self, model: torch.nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        return [rank]


class Littering(LineTask):
    """Leaves a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "left").touch()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Unkeyed, TaskContract.test_a_sample_is_a_function_of_its_key_and_context),
        (Unkeyed, TaskContract.test_a_loading_process_gives_the_same),
        (Averaging, TaskContract.test_the_parts_of_a_batch_add_up_to_the_whole),
        (Uncounted, TaskContract.test_every_part_of_the_loss_has_a_sum_and_a_count),
        (Careless, TaskContract.test_the_parts_of_a_batch_add_up_to_the_whole),
        (Moody, TaskContract.test_a_context_is_a_function_of_its_arguments),
        (Unnamed, TaskContract.test_metrics_are_named_and_do_not_depend_on_how_pictures_are_shared_out),
        (Unstoppable, TaskContract.test_measuring_stops_when_told),
        (Littering, TaskContract.test_closing_may_be_repeated_and_leaves_no_file_where_told_so),
    ],
    ids=lambda value: value.__name__.removeprefix("test_")[:24],
)
def test_a_task_that_breaks_the_contract_is_found_out(broken: Any, test: Callable[..., None], tmp_path: Path) -> None:
    class Contract(TaskContract):
        def make_task(self, folder: Path) -> Task:
            made: Task = broken(folder) if broken is Littering else broken()
            return made

    contract = Contract()
    names = test.__code__.co_varnames[1 : test.__code__.co_argcount]
    given = {name: tmp_path if name == "tmp_path" else contract.make_task(tmp_path / name) for name in names}
    with pytest.raises(AssertionError):
        test(contract, **given)
