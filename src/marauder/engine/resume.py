"""Going on from a checkpoint: found on the first rank, checked to be of this training, given to every rank."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.engine.checkpoints import SET_ASIDE, Checkpointer
from marauder.engine.distributed import Group
from marauder.engine.micro_batch import recorded_micro_batch
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import TrainState, about_epoch, agrees, are_of
from marauder.engine.task import Weights
from marauder.engine.training_identity import refuse_other_training

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class Resumption:
    """Picks up where an earlier process left off. ``folder``: the run's; ``identity``: what a checkpoint must match.

    ``going_back``: called on the first rank with the step of a named checkpoint that was accepted, before anything
    later is set aside.
    """

    state: TrainState
    checkpointer: Checkpointer
    settings: TrainingSettings
    group: Group
    folder: Path
    weights: Weights
    identity: Plain
    at_default: frozenset[str] = frozenset()
    going_back: Callable[[int], None] = lambda _: None

    def take_up(self, named: Path | None) -> bool:
        """Restore the checkpoint ``named``, else the newest whole one, on every rank; ``False``: there is none.

        Later checkpoints, damaged or of a branch given up, are set aside, and so are the weights of such a branch.
        Raises ``UserError`` for a checkpoint of another training.
        """
        stored = None
        if self.group.leads:
            stored = self.checkpointer.read(named) if named is not None else self.checkpointer.newest()
        content = self.group.broadcast(stored.state if stored is not None else None)
        if content is None:
            self._begin()
            return False
        # Every rank looks at the same content and raises the same: none is left waiting for the others.
        where = stored.path if stored is not None else "the checkpoint"
        refuse_other_training(where, content["identity"], self.identity, self.at_default)
        _refuse_other_network(where, content["model"], self.state.model.state_dict())
        self.state.restore(content)
        position = self.state.position
        if self.settings.micro_batch_size is not None:
            # The size in the checkpoint may have been halved by an earlier lack of memory: never go above it.
            position.micro_batch_size = min(position.micro_batch_size, self.settings.micro_batch_size)
        self._fit_memory()
        if self.settings.threads is None and position.threads:
            torch.set_num_threads(position.threads)  # the order of additions, and so the last bit, depends on it
        if self.group.leads:
            if named is not None:
                self.going_back(position.step)
            self.checkpointer.set_aside_after(position.step)
        # A named checkpoint may lie elsewhere, so that the first save here must not be skipped as done.
        self.checkpointer.saved_step = position.step if named is None else None
        self._keep_to_this_branch(named is not None)
        return True

    def _begin(self) -> None:
        if self.group.leads:
            # Only damaged checkpoints are left here; they would look newer than those this beginning is about to write.
            self.checkpointer.set_aside_after(-1)
        position = self.state.position
        # Rounded up: shares of the ranks may differ by one sample.
        per_rank = -(-self.settings.batch_size // self.group.size)
        position.micro_batch_size = self.settings.micro_batch_size or per_rank
        self._fit_memory()
        position.threads = torch.get_num_threads()

    def _fit_memory(self) -> None:
        """Cut batches as small as an earlier group of as many processes had to."""
        recorded = None
        if self.group.leads:
            recorded = recorded_micro_batch(self.folder, self.identity, self.group.size)
        recorded = self.group.broadcast(recorded)
        if recorded is not None:
            self.state.position.micro_batch_size = min(self.state.position.micro_batch_size, recorded)

    def _keep_to_this_branch(self, given_up: bool) -> None:
        """Make sure that ``best`` holds what the checkpoint knows as the best weights.

        The file may be lost, or newer than the checkpoint. Where these weights are the checkpoint's own they are saved
        once more, else the best is sought anew from here on. ``given_up``: what was trained after the checkpoint counts
        no more, and its weights are set aside.
        """
        position = self.state.position
        held = False
        if self.group.leads:
            best = [row for row in position.history if row["epoch"] == position.best_epoch]
            if given_up:
                if not agrees(self.weights.about("best"), best):
                    self._set_aside("best")
                about = self.weights.about("last")
                # Of an epoch of this branch, or of exactly this position within one.
                if not agrees(about, position.history) and not are_of(about, position):
                    self._set_aside("last")
            # Only the first rank looks at the disk and all take its word, so that they go on alike.
            held = agrees(self.weights.about("best"), best) or self._save_best_again(best)
        held = self.group.broadcast(held)
        if not held and position.best_score is not None:
            if self.group.leads:
                log.warning(
                    "the best weights (epoch %s) are missing; the best is determined again", position.best_epoch
                )
            position.best_score, position.best_epoch, position.evaluations_since_best = None, None, 0
            # The position has changed although its step has not: save it all the same.
            self.checkpointer.saved_step = None

    def _set_aside(self, name: str) -> None:
        """Move weights of another branch, where there are any, into the folder ``set_aside``."""
        about = self.weights.about(name)
        if about is None:
            return
        log.warning("the %s weights (epoch %s) are of a branch given up; they are set aside", name, about.get("epoch"))
        (self.folder / SET_ASIDE).mkdir(exist_ok=True)
        for path in self.weights.files(name):
            if path.is_file():
                path.replace(self.folder / SET_ASIDE / path.name)

    def _save_best_again(self, best: Sequence[Mapping[str, float]]) -> bool:
        """Save the checkpoint's own weights as the best, if they are: it was made right after their evaluation."""
        for row in best:
            if row["step"] == self.state.position.step:
                self.weights.save(self.state.average.model, "best", about_epoch(row))
                return True
        return False


def _refuse_other_network(
    where: Path | str, stored: Mapping[str, torch.Tensor], current: Mapping[str, torch.Tensor]
) -> None:
    """Raise ``UserError`` where the weights ``stored`` in the checkpoint ``where`` are not those of a network that has
    the weights ``current``: the same settings may have built another one in an earlier version."""
    before, after = ({name: tensor.shape for name, tensor in weights.items()} for weights in (stored, current))
    if before == after:
        return
    name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
    shapes = [_sides(one.get(name)) for one in (before, after)]
    raise UserError(
        f"{where} holds another network than these settings build ({name}: {shapes[0]} there, {shapes[1]} here); an "
        "earlier version of Marauder wrote it: start over with --fresh, or finish the training with that version"
    )


def _sides(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else "x".join(str(side) for side in shape) or "one number"
