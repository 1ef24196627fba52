"""All that a resumed training needs, in one place: ``TrainState``, to plain values and tensors and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from marauder.core.files import to_plain
from marauder.core.plain import Plain, PlainMapping
from marauder.engine.averaging import AveragedModel
from marauder.engine.settings import TrainingSettings

STEPS_BEYOND = "steps_of_next_epoch"
"""Noted with weights that hold a part of an epoch: how many of its updates."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended. ``history``: one row of numbers per epoch."""

    epochs: int
    steps: int
    best_score: float | None
    best_epoch: int | None
    seconds: float
    history: list[dict[str, float]]
    stopped_early: bool


def early_stop(outcome: Outcome, training: TrainingSettings, section: str = "training") -> str:
    """Why a training ended before its last epoch, in a sentence; empty: it did not. ``section``: where its settings are
    given."""
    if not outcome.stopped_early or outcome.epochs >= training.epochs:
        return ""
    best = "" if outcome.best_score is None else f" above {outcome.best_score:.4g} (epoch {outcome.best_epoch})"
    metric = training.best_metric or "the first metric"
    # The first of equals is kept: with 0 everywhere that says nothing about the first epoch.
    nothing = "; it was 0 in all of them, so no epoch is better than another" if outcome.best_score == 0 else ""
    return (
        f"stopped early after {outcome.epochs} of {training.epochs} epochs: {metric} did not rise{best} "
        f"in {training.patience} evaluations ({section}.patience){nothing}"
    )


def longer_than_asked(trained: int, asked: int) -> str:
    """What becomes of a run with ``trained`` epochs that is ``asked`` for fewer, in a sentence; empty: it is not."""
    if trained <= asked:
        return ""
    return (
        f"already trained {trained} epochs; {asked} requested: nothing is trained, and the weights are still those of "
        f"{trained} epochs; --fresh, or another id or output, trains a shorter run"
    )


@dataclass
class Position:
    """Where a training is. ``step`` counts finished updates; the epoch and the place in it follow from it."""

    step: int = 0
    micro_batch_size: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    evaluations_since_best: int = 0
    seconds_spent: float = 0.0
    epoch_sums: list[float] = field(default_factory=list)
    epoch_steps: int = 0
    epoch_seconds: float = 0.0
    loss_means: list[float] = field(default_factory=lambda: [0.0, 0.0])
    loss_count: int = 0
    guards: dict[str, Plain] = field(default_factory=dict)
    """What ``marauder.engine.guards`` remembers, by watch."""
    sanity_passed: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_early: bool = False
    threads: int = 0

    @property
    def steps_beyond(self) -> int:
        """Updates since the last whole epoch."""
        return self.step - (int(self.history[-1]["step"]) if self.history else 0)

    def outcome(self, steps_per_epoch: int) -> Outcome:
        """What a training at this position has reached."""
        return Outcome(
            self.step // steps_per_epoch,
            self.step,
            self.best_score,
            self.best_epoch,
            self.seconds_spent,
            self.history,
            self.stopped_early,
        )


def about_epoch(row: Mapping[str, float]) -> Plain:
    """What is noted with weights that are saved after an epoch, from its row (an entry of ``history``)."""
    metrics = {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}
    return {"epoch": int(row["epoch"]), "metrics": metrics}


def about_last(position: Position) -> Plain:
    """What is noted with the weights of a training that is at ``position``: those of an epoch, or, where it was
    stopped within one and no more is asked for, of the epoch before it and ``STEPS_BEYOND``. Then nothing was measured
    of them."""
    row = position.history[-1] if position.history else {"epoch": 0}
    if position.steps_beyond:
        return {"epoch": int(row["epoch"]), STEPS_BEYOND: position.steps_beyond, "metrics": {}}
    return about_epoch(row)


def agrees(about: PlainMapping | None, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether weights with which ``about`` is noted (``None``: there are none) are of one of the epochs ``rows``."""
    if about is None or about.get(STEPS_BEYOND):
        return False
    # What was saved has been through JSON, where NaN became null; it may hold more than these entries.
    return any(to_plain(about_epoch(row)).items() <= dict(about).items() for row in rows)


def are_of(about: PlainMapping | None, position: Position) -> bool:
    """Whether weights with which ``about`` is noted (``None``: there are none) are those of a training at
    ``position``."""
    if position.steps_beyond:
        return about is not None and about_last(position).items() <= dict(about).items()
    return agrees(about, position.history[-1:])


@dataclass
class TrainState:
    """The live objects of a training and its position."""

    model: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position

    def snapshot(self, identity: Plain) -> Plain:
        """What a checkpoint holds; ``identity`` says which settings and data it belongs to."""
        random: Plain = {"cpu": torch.get_rng_state()}
        # Asking an idle GPU for its state would set it up, and take its memory, for a training on the CPU.
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            random["cuda"] = torch.cuda.get_rng_state()
        return {
            "step": self.position.step,
            "position": asdict(self.position),
            "identity": identity,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random,
        }

    def restore(self, state: Plain) -> None:
        """Restore everything from a checkpoint's content."""
        self.position = Position(**state["position"])
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random"]["cuda"])
