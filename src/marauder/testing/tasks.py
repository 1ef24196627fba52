"""What every task of the engine must pass: subclass ``TaskContract``, say how the task is made, and pytest runs it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from marauder.engine.loader import Loader, Order
from marauder.engine.settings import TrainingSettings
from marauder.engine.smoke import look_at_one_batch, two_short_runs
from marauder.engine.task import Batch, SampleContext, SampleKey, Task, Trouble

CPU = torch.device("cpu")
EPOCHS = 4
SAMPLES = 5
SEED = 3


class TaskContract(ABC):
    """Tests of a task with at least ``SAMPLES`` samples, on a CPU.

    ``sizes``: image sizes other than its own that its samples can have. ``tolerance``: how far sums over the parts of
    a batch may lie from those of the whole, relative to them.
    """

    sizes: tuple[int, ...] = ()
    tolerance = 1e-4

    @abstractmethod
    def make_task(self, folder: Path) -> Task:
        """A new task at every call, of the same data and settings; what it stores goes into ``folder``."""

    @pytest.fixture
    def task(self, tmp_path: Path) -> Iterator[Task]:
        """The task, let go of afterwards."""
        task = self.make_task(tmp_path / "one")
        yield task
        task.close(remove=True)

    @pytest.fixture
    def twin(self, tmp_path: Path) -> Iterator[Task]:
        """A second one that shares nothing with the first."""
        task = self.make_task(tmp_path / "other")
        yield task
        task.close(remove=True)

    @property
    def settings(self) -> TrainingSettings:
        """Settings of a short training of the task."""
        return TrainingSettings(device="cpu", batch_size=SAMPLES, epochs=EPOCHS, seed=SEED, workers=0)

    def test_a_context_is_a_function_of_its_arguments(self, task: Task, twin: Task) -> None:
        # The twin shares nothing with the task: what only one of them remembers shows as a difference.
        steps = Order(task.training_length, SAMPLES, SEED, EPOCHS)
        for step in range(steps.total_steps):
            context = steps.context(task, step)
            assert context == steps.context(twin, step) == steps.context(task, step)
            with pytest.raises(dataclasses.FrozenInstanceError):
                context.closing = True  # type: ignore[misc]

    def test_a_sample_is_a_function_of_its_key_and_context(self, task: Task, twin: Task) -> None:
        for context in contexts(task):
            for epoch in (0, 2):
                keys = keys_of(epoch)
                batch = task.load(keys, context).tensors
                assert_same(batch, task.load(keys, context).tensors, "drawn twice")
                backwards = twin.load(keys[::-1], context).tensors
                for number, key in enumerate(keys):
                    alone = twin.load([key], context).tensors
                    assert_same(task.cut(batch, number, number + 1), alone, f"{key} among others and alone")
                    place = len(keys) - 1 - number
                    assert_same(twin.cut(backwards, place, place + 1), alone, f"{key} in another order")

    def test_a_loading_process_gives_the_same(self, task: Task, twin: Task) -> None:
        order = Order(task.training_length, SAMPLES, SEED, EPOCHS)
        there = next(iter(Loader(task, order, 0, 0, 1, workers=1, pin_memory=False, timeout=60)))
        here = next(iter(Loader(twin, order, 0, 0, 1, workers=0, pin_memory=False)))
        assert there.keys == here.keys == order.batch(0, 0)
        assert_same(there.tensors, here.tensors, "loaded by another process")

    def test_samples_come_at_the_size_that_the_context_says(self, task: Task) -> None:
        own = task.inputs(task.load(keys_of(0), SampleContext()).tensors).shape[-1]
        for size in self.sizes:
            batch = task.load(keys_of(0), SampleContext(image_size=size, base_image_size=own)).tensors
            inputs = task.inputs(batch)
            assert inputs.shape[-2:] == (size, size)
            model = task.build_model(SEED)
            sums, counts = task.criterion(model)(model(inputs), batch)
            assert sums.isfinite().all() and counts.isfinite().all()

    def test_inputs_are_floats_with_the_samples_first(self, task: Task) -> None:
        inputs = task.inputs(task.load(keys_of(0), SampleContext()).tensors)
        assert inputs.is_floating_point() and len(inputs) == SAMPLES and inputs.isfinite().all()

    def test_every_part_of_the_loss_has_a_sum_and_a_count(self, task: Task) -> None:
        model = without_noise(task.build_model(SEED))
        batch = task.load(keys_of(0), SampleContext()).tensors
        sums, counts = task.criterion(model)(model(task.inputs(batch)), batch)
        assert sums.shape == (len(task.loss_names),) and len(set(task.loss_names)) == len(task.loss_names)
        assert counts.numel() in (1, len(task.loss_names)) and counts.dim() <= 1
        assert sums.requires_grad and sums.isfinite().all()
        assert not counts.requires_grad and counts.isfinite().all() and (counts >= 0).all()
        assert (counts > 0).any(), "the first samples of the contract's data have nothing to learn"

    def test_the_parts_of_a_batch_add_up_to_the_whole(self, task: Task) -> None:
        model = without_noise(task.build_model(SEED))
        criterion = task.criterion(model)
        batch = task.load(keys_of(0), SampleContext()).tensors

        def measured(part: Batch) -> torch.Tensor:
            with torch.no_grad():
                sums, counts = criterion(model(task.inputs(part)), part)
            return torch.cat([sums, counts.reshape(-1)])

        whole = measured(batch)
        for bounds in ((0, 2, SAMPLES), tuple(range(SAMPLES + 1))):
            parts = [measured(task.cut(batch, *pair)) for pair in itertools.pairwise(bounds)]
            torch.testing.assert_close(
                torch.stack(parts).sum(0), whole, rtol=self.tolerance, atol=self.tolerance * float(whole.abs().max())
            )

    def test_a_model_is_a_function_of_the_seed_and_building_it_draws_nothing(self, task: Task, twin: Task) -> None:
        before = torch.get_rng_state()
        one, other, third = task.build_model(SEED), twin.build_model(SEED), task.build_model(SEED + 1)
        assert torch.equal(before, torch.get_rng_state()), "the generators that all share stand elsewhere"
        assert_same(one.state_dict(), other.state_dict(), "two models of one seed")
        assert any(not torch.equal(value, third.state_dict()[name]) for name, value in one.state_dict().items())

    def test_one_batch_trains_all_parameters(self, task: Task) -> None:
        found = look_at_one_batch(task, self.settings, CPU)
        assert (found.error, found.without_gradient) == (None, ())
        assert found.lowest_loss < found.first_loss and found.gradient_norm > 0

    def test_two_short_runs_agree(self, task: Task) -> None:
        """With all that ``updated`` does, too."""
        result = two_short_runs(task, self.settings, CPU, steps=2, samples=SAMPLES)
        assert result.same_batches and result.exact

    def test_metrics_are_named_and_do_not_depend_on_how_pictures_are_shared_out(self, task: Task, twin: Task) -> None:
        model = task.build_model(SEED)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        whole = task.score([task.predict(model, 0, 1, lambda: False)])
        assert_same(model.state_dict(), before, "a model before and after it was measured")
        shared = twin.score([twin.predict(model, rank, 3, lambda: False) for rank in range(3)])
        assert set(task.metric_names) <= set(whole) == set(shared)
        for name, value in whole.items():
            assert isinstance(value, float)
            # Not to the last bit: sums over shares add up in another order.
            both_undefined = math.isnan(value) and math.isnan(shared[name])
            assert both_undefined or math.isclose(value, shared[name], rel_tol=1e-9)
        for _ in range(2):
            trouble = task.trouble(whole)
            assert trouble is None or isinstance(trouble, Trouble)
            assert trouble == twin.trouble(whole)

    def test_measuring_stops_when_told(self, task: Task) -> None:
        assert task.predict(task.build_model(SEED), 0, 1, lambda: True) is None

    def test_pictures_behind_keys_are_told(self, task: Task, twin: Task) -> None:
        names = task.describe_batch(keys_of(1))
        assert len(names) == SAMPLES and all(isinstance(name, str) and name for name in names)
        assert names == twin.describe_batch(keys_of(1))

    def test_closing_may_be_repeated_and_leaves_no_file_where_told_so(self, tmp_path: Path) -> None:
        folder = tmp_path / "stored"
        task = self.make_task(folder)
        task.load(keys_of(0), SampleContext())
        task.close()
        task.close(remove=True)
        task.close(remove=True)
        assert [path for path in folder.rglob("*") if path.is_file()] == []


def contexts(task: Task) -> list[SampleContext]:
    """The different contexts of a training of ``EPOCHS`` epochs."""
    order = Order(task.training_length, SAMPLES, SEED, EPOCHS)
    return list(dict.fromkeys(order.context(task, step) for step in range(order.total_steps)))


def keys_of(epoch: int) -> list[SampleKey]:
    """The keys of the first samples."""
    return [SampleKey(epoch, index) for index in range(SAMPLES)]


def without_noise(model: nn.Module) -> nn.Module:
    """The model in training, but with running statistics instead of a batch's own, and without dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)):
            # With statistics of its own a part of a batch would not be what it is in the whole.
            module.eval()
    return model


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], what: str) -> None:
    """Both hold the same tensors, bit for bit."""
    assert one.keys() == other.keys(), what
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), f"{what}: {name}"
