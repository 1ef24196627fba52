"""The contract of a task's evaluator."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod

import pytest
import torch
from torch import nn

from marauder.runs.task_runtime import Evaluator


class EvaluatorContract(ABC):
    """What every evaluator does, however its samples are shared out."""

    @abstractmethod
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        """One to test, on a few samples."""

    @abstractmethod
    @pytest.fixture
    def model(self) -> nn.Module:
        """A model for it, in training mode."""

    def test_the_score_does_not_depend_on_how_samples_were_shared_out(
        self, evaluator: Evaluator, model: nn.Module
    ) -> None:
        scores = []
        for size in (1, 2, 3):
            shares = [evaluator.predict(model, rank, size, lambda: False) for rank in range(size)]
            scores.append(evaluator.score(shares))
            # Shares may come in any order.
            scores.append(evaluator.score(shares[::-1]))
        assert all(score == scores[0] for score in scores)

    def test_it_measures_what_it_names_and_only_finite_numbers(self, evaluator: Evaluator, model: nn.Module) -> None:
        score = evaluator.score([evaluator.predict(model, 0, 1, lambda: False)])
        assert set(evaluator.metric_names) <= set(score)
        assert all(isinstance(value, float) and math.isfinite(value) for value in score.values())

    def test_stopping_gives_nothing(self, evaluator: Evaluator, model: nn.Module) -> None:
        assert evaluator.predict(model, 0, 1, lambda: True) is None

    def test_the_model_stays_as_it_was(self, evaluator: Evaluator, model: nn.Module) -> None:
        before = copy.deepcopy(model.state_dict())
        evaluator.predict(model, 0, 1, lambda: False)
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
