"""The training loop: from a task, settings and a folder to trained weights, stopping in time and going on exactly."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.events import EventLog
from marauder.core.files import append_line, atomic_path, to_plain, write_text
from marauder.core.progress import Progress
from marauder.engine.averaging import AveragedModel
from marauder.engine.checkpoints import Checkpointer
from marauder.engine.distributed import Group, choose_precision
from marauder.engine.guards import LossWatch, TrainingFailure, check_sanity
from marauder.engine.identity import describe_differences
from marauder.engine.loader import Order, batches, default_workers
from marauder.engine.optimizer import apply_schedule, build_optimizer
from marauder.engine.schedule import Schedule
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import Outcome, Position, TrainState
from marauder.engine.task import Batch, LocalBatch, Task, Weights
from marauder.engine.timing import Stopwatch
from marauder.engine.update import Updater, UpdateResult

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class Pending:
    """An update whose numbers were not looked at yet."""

    step: int
    result: UpdateResult
    local: LocalBatch
    batch: Batch


class Trainer:
    """Runs one training in one process of ``group``. Every rank makes one; the first writes files into ``folder``.

    A checkpoint only goes on under the same ``data_fingerprint`` and the same ``described`` settings of the task.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainingSettings,
        group: Group,
        folder: Path,
        checkpoint_folder: Path,
        weights: Weights,
        clock: Clock,
        data_fingerprint: str,
        described: Mapping[str, Any] | None = None,
    ) -> None:
        if settings.best_metric not in task.metric_names:
            known = ", ".join(task.metric_names)
            raise UserError(f"best_metric {settings.best_metric!r}: not measured here; choose one of: {known}")
        self.task, self.settings, self.group, self.folder, self.clock = task, settings, group, folder, clock
        self.weights = weights
        self.identity = {
            "settings": {**(described or {}), "training": settings.deciding()},
            "data": data_fingerprint,
        }
        self.events = EventLog(folder / "events.jsonl")
        self.checkpointer = Checkpointer(checkpoint_folder, settings.keep_checkpoints)
        self.order = Order(
            task.training_length, settings.batch_size, settings.seed, settings.epochs, settings.close_mosaic_epochs
        )
        self.schedule = Schedule(settings.optimizer, self.order.total_steps, self.order.steps_per_epoch)
        self.precision = choose_precision(settings.precision, group.device)
        self.state = self._build_state()
        self.updater: Updater | None = None
        self.stopwatch = Stopwatch()
        self.watch = LossWatch(settings.exploding_factor, [0.0, 0.0])
        self._pending: deque[Pending] = deque()
        self._loss = float("nan")
        self._set_aside: set[str] = set()
        self._mark = time.monotonic()

    def fit(self, resume: Path | None = None, fresh: bool = False) -> Outcome:
        """Train to the end. Raises ``Interrupted`` when stopped in time with everything saved."""
        if self.group.leads:
            self.checkpointer.prepare(fresh)
        try:
            self._resume(resume)
            self._train_if_needed()
        finally:
            self.checkpointer.finish()  # however the training ends, the checkpoint under way gets written
        return self.state.position.outcome(self.order.steps_per_epoch)

    def _train_if_needed(self) -> None:
        self.updater = Updater(self.task, self.state, self.group, self.settings, self.precision)
        position = self.state.position
        if self._epoch_end_is_due() or (position.step < self.order.total_steps and not position.stopped_early):
            self._train()
        if position.best_score is None and position.step:
            self._evaluate(position.step // self.order.steps_per_epoch)
            if self.group.leads:
                self._save_checkpoint(wait=True)
        if self.group.leads and not self.weights.has("last"):
            self._save_last()

    def _build_state(self) -> TrainState:
        model = self.task.build_model(self.settings.seed).to(self.group.device)
        model = model.to(memory_format=torch.channels_last).train()
        average = AveragedModel(model, self.settings.average_decay, self.settings.average_ramp)
        scaler = torch.amp.GradScaler(self.group.device.type, enabled=self.precision == torch.float16)
        return TrainState(model, average, build_optimizer(model, self.settings.optimizer), scaler, Position())

    def _resume(self, named: Path | None) -> None:
        """Find the checkpoint to go on from on the first rank, and give every rank its content.

        Later checkpoints, damaged or of a branch given up, are set aside.
        """
        stored = None
        if self.group.leads:
            stored = self.checkpointer.read(named) if named is not None else self.checkpointer.newest()
        content = self.group.broadcast(stored.state if stored is not None else None)
        if content is None:
            if self.group.leads:
                self.checkpointer.set_aside_after(-1)
            per_rank = -(-self.settings.batch_size // self.group.size)
            self.state.position.micro_batch_size = self.settings.micro_batch_size or per_rank
            self.state.position.threads = torch.get_num_threads()
            self._event("started", steps=self.order.total_steps, processes=self.group.size)
            self._rewrite_metrics()
            return
        differences = describe_differences(content["identity"], self.identity)
        if differences:
            where = stored.path if stored is not None else "the checkpoint"
            raise UserError(
                f"{where} belongs to a training with other settings or data ({differences}); "
                "start over with --fresh, or give back the former settings"
            )
        self.state.restore(content)
        position = self.state.position
        self.watch = LossWatch(self.settings.exploding_factor, list(position.loss_means), position.loss_count)
        if self.settings.micro_batch_size is not None:
            position.micro_batch_size = min(position.micro_batch_size, self.settings.micro_batch_size)
        if position.step < self.order.total_steps and not self._patience_spent():
            position.stopped_early = False
        if self.settings.threads is None and position.threads:
            torch.set_num_threads(position.threads)  # the order of additions, and so the last bit, depends on it
        if self.group.leads:
            self.checkpointer.set_aside_after(position.step)
        self.checkpointer.saved_step = position.step if named is None else None
        self._forget_lost_best()
        self._event("resumed", step=position.step, processes=self.group.size)
        self._rewrite_metrics()

    def _forget_lost_best(self) -> None:
        """Without the best weights' file (lost, or left with another run) the best is sought anew from here on."""
        position = self.state.position
        lost = self.group.broadcast(not self.weights.has("best") if self.group.leads else None)
        if lost and position.best_score is not None:
            if self.group.leads:
                log.warning("the best weights (epoch %s) are not here; the best is sought anew", position.best_epoch)
            position.best_score, position.best_epoch, position.evaluations_since_best = None, None, 0
            self.checkpointer.saved_step = None

    def _train(self) -> None:
        settings, position = self.settings, self.state.position
        workers = settings.workers
        if workers is None:
            workers = default_workers(self.group.device.type, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        on_gpu = self.group.device.type == "cuda"
        stream = batches(self.task, self.order, position.step, self.group.rank, self.group.size, workers, on_gpu)
        progress = Progress("training", self.order.total_steps, "steps", already_done=position.step)
        saved_at = self._mark = time.monotonic()
        if self._epoch_end_is_due():
            self._end_epoch()
        for local in self.stopwatch.timed("data", stream):
            batch = self._to_device(local.tensors)
            self._report_set_aside(local)
            if settings.sanity_check and not position.sanity_passed:
                self._check_sanity(batch)
            self._pending.append(Pending(position.step, self._step(batch), local, batch))
            position.step += 1
            # On a GPU the numbers of a step are looked at one step later, so that the next is already under way.
            self._settle(keep=1 if on_gpu else 0)
            epoch_ends = position.step % self.order.steps_per_epoch == 0
            if epoch_ends:
                self._end_epoch()
            if self.group.leads:
                progress.advance(note=self._note())
            if self._stop_or_save(saved_at, epoch_ends):
                saved_at = time.monotonic()
            if position.stopped_early:
                break
        if self.group.leads:
            progress.close()
            self._save_checkpoint(wait=True)
            self._save_last()

    def _step(self, batch: Batch) -> UpdateResult:
        """One update; out of memory halves the micro-batch and tries the same batch again."""
        assert self.updater is not None
        position = self.state.position
        samples = self.order.share_weight(position.step, self.group.rank, self.group.size)
        apply_schedule(self.state.optimizer, self.schedule.values(position.step))
        while True:
            try:
                with self.stopwatch.measure("update"):
                    return self.updater.update(batch, samples)
            except torch.OutOfMemoryError as error:
                self._halve(error)

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        position = self.state.position
        half = position.micro_batch_size // 2
        if half < 1:
            raise TrainingFailure(
                f"out of memory at step {position.step}: choose a smaller --imgsz or model"
            ) from error
        if self.group.size > 1:
            raise TrainingFailure(
                f"out of memory at step {position.step}: run again with training.micro_batch_size={half}; "
                "it goes on from the last checkpoint"
            ) from error
        position.micro_batch_size = half
        if self.group.device.type == "cuda":
            torch.cuda.empty_cache()
        pieces = -(-self.settings.batch_size // half)
        log.warning(
            "out of memory at step %d: going on with %d samples at a time, %d times an update (same result)",
            position.step,
            position.micro_batch_size,
            pieces,
        )
        self._event("out_of_memory", step=position.step, micro_batch_size=position.micro_batch_size)

    def _settle(self, keep: int) -> None:
        """Judge and count the numbers of finished updates, all but the newest ``keep``."""
        position = self.state.position
        while len(self._pending) > keep:
            pending = self._pending.popleft()
            result = pending.result
            sums = result.sums.to("cpu", torch.float64)
            per_positive, per_sample = float(sums.sum() / result.weight), float(sums.sum() / result.samples)
            norm = 0.0 if self.state.scaler.is_enabled() else float(result.gradient_norm)  # the scaler skips bad ones
            complaint = self.watch.complaint(per_positive, per_sample, norm)
            if complaint is not None:
                self._fail(complaint, pending)
            position.loss_means, position.loss_count = self.watch.means, self.watch.count
            losses = (sums / result.weight.cpu()).tolist()
            totals = position.epoch_sums or [0.0] * len(losses)
            position.epoch_sums = [total + value for total, value in zip(totals, losses, strict=True)]
            position.epoch_steps += 1
            self._loss = per_positive
            now = time.monotonic()
            position.epoch_seconds += now - self._mark
            position.seconds_spent += now - self._mark
            self._mark = now

    def _fail(self, complaint: str, pending: Pending) -> None:
        pictures = self.task.describe_batch(pending.local.keys)
        path = self.folder / f"failed_batch_rank{self.group.rank}.pt"
        tensors = {key: value.cpu() for key, value in pending.batch.items()}
        with atomic_path(path) as temporary:
            torch.save({"step": pending.step, "pictures": pictures, **tensors}, temporary)
        self._event("failed", step=pending.step, why=complaint, batch=str(path), pictures=pictures)
        shown = ", ".join(pictures[:4]) + (f" and {len(pictures) - 4} more" if len(pictures) > 4 else "")
        raise TrainingFailure(
            f"stopped at step {pending.step}: {complaint}. The batch is in {path} ({shown}). Look at its labels, lower "
            "the learning rate, and run again: training goes on from the last checkpoint (--fresh starts over)"
        )

    def _end_epoch(self) -> None:
        position, settings = self.state.position, self.settings
        epoch = position.step // self.order.steps_per_epoch
        self._settle(keep=0)
        values = self.schedule.values(position.step - 1)
        row: dict[str, float] = {"epoch": epoch, "step": position.step}
        for name, total in zip(self.task.loss_names, position.epoch_sums, strict=True):
            row[f"train/{name}"] = total / position.epoch_steps
        row["learning_rate"] = values.learning_rate
        if epoch % settings.evaluate_every == 0 or epoch == settings.epochs:
            row |= {f"val/{name}": value for name, value in self._evaluate(epoch).items()}
        row["seconds"] = position.seconds_spent
        row["pictures_per_second"] = position.epoch_steps * settings.batch_size / max(position.epoch_seconds, 1e-9)
        position.history.append(row)
        position.epoch_sums, position.epoch_steps, position.epoch_seconds = [], 0, 0.0
        if self.group.leads:
            append_line(self.folder / "metrics.jsonl", row)
        if self._patience_spent() and epoch < settings.epochs:
            position.stopped_early = True
            log.info("no better evaluation in %d: stopping early after epoch %d", settings.patience, epoch)

    def _evaluate(self, epoch: int) -> dict[str, float]:
        position = self.state.position
        average = self.state.average.model
        with self.stopwatch.measure("evaluation"):
            self.group.broadcast_buffers(average)
            share = self.task.predict(average, self.group.rank, self.group.size, self._must_stop)
            shares = self.group.gather(share)
            if any(part is None for part in shares):
                self._interrupt(self.group.agree(self.clock.stop_reason()) or "stopped while evaluating")
            metrics = self.group.broadcast(self.task.score(shares) if self.group.leads else None)
        score = metrics[self.settings.best_metric]
        if position.best_score is None or score > position.best_score:
            position.best_score, position.best_epoch, position.evaluations_since_best = score, epoch, 0
            if self.group.leads:
                self.weights.save(average, "best", {"epoch": epoch, "metrics": metrics})
        else:
            position.evaluations_since_best += 1
        now = time.monotonic()
        position.seconds_spent += now - self._mark
        self._mark = now
        return metrics

    def _patience_spent(self) -> bool:
        return 0 < self.settings.patience <= self.state.position.evaluations_since_best

    def _stop_or_save(self, saved_at: float, epoch_ends: bool) -> bool:
        """Save when it is time; leave when it is. Every rank decides the same. Returns whether a save was made."""
        position, settings = self.state.position, self.settings
        reason = self.group.agree(self.clock.stop_reason())
        if reason is not None and position.step < self.order.total_steps and not position.stopped_early:
            self._interrupt(reason)
        due = time.monotonic() - saved_at >= settings.checkpoint_seconds * (0.5 if epoch_ends else 1.0)
        due = due or (settings.checkpoint_steps is not None and position.step % settings.checkpoint_steps == 0)
        if due and self.group.leads:
            self._save_checkpoint()
        return due

    def _interrupt(self, reason: str) -> NoReturn:
        step = self.state.position.step
        if self.group.leads:
            self._save_checkpoint(wait=True)
            self._event("interrupted", step=step, why=reason)
        raise Interrupted(f"{reason}; saved at step {step} of {self.order.total_steps}")

    def _must_stop(self) -> bool:
        return self.clock.stop_reason() is not None

    def _epoch_end_is_due(self) -> bool:
        """Whether the last epoch's steps are done and its evaluation is not (it was interrupted)."""
        position = self.state.position
        finished = position.step // self.order.steps_per_epoch
        return finished > len(position.history)

    def _save_checkpoint(self, wait: bool = False) -> None:
        self._settle(keep=0)
        step = self.state.position.step
        if self.checkpointer.saved_step == step:
            self.checkpointer.finish()
            return
        with self.stopwatch.measure("checkpoint"):
            about = {"epoch": step // self.order.steps_per_epoch, "of_steps": self.order.total_steps}
            self.checkpointer.save(self.state.snapshot(self.identity), step, about, wait)

    def _save_last(self) -> None:
        position = self.state.position
        row = position.history[-1] if position.history else {}
        metrics = {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}
        epoch = position.step // self.order.steps_per_epoch
        self.weights.save(self.state.average.model, "last", {"epoch": epoch, "metrics": metrics})
        self._event("finished", step=position.step, best_epoch=position.best_epoch, best_score=position.best_score)

    def _check_sanity(self, batch: Batch) -> None:
        samples = min(8, len(self.task.inputs(batch)))
        part = self.task.cut(batch, 0, samples)
        first, lowest = check_sanity(self.task, self.state.model, part)
        self.state.position.sanity_passed = True
        self._event("sanity_passed", first_loss=round(first, 4), lowest_loss=round(lowest, 4))

    def _to_device(self, tensors: Batch) -> Batch:
        return {key: value.to(self.group.device, non_blocking=True) for key, value in tensors.items()}

    def _report_set_aside(self, local: LocalBatch) -> None:
        for picture, reason in local.set_aside.items():
            if picture not in self._set_aside:
                self._set_aside.add(picture)
                log.warning("set aside: %s: %s", picture, reason)
                self._event("set_aside", picture=picture, why=reason)

    def _rewrite_metrics(self) -> None:
        """Bring ``metrics.jsonl`` to what the checkpoint knows, so that repeated epochs do not stand in it twice."""
        if self.group.leads:
            rows = "".join(json.dumps(to_plain(row)) + "\n" for row in self.state.position.history)
            write_text(self.folder / "metrics.jsonl", rows)

    def _event(self, kind: str, **fields: Any) -> None:
        if self.group.leads:
            self.events.write(kind, **fields)

    def _note(self) -> str:
        position = self.state.position
        epoch = (position.step - 1) // self.order.steps_per_epoch + 1
        note = f"epoch {epoch}/{self.settings.epochs}, loss {self._loss:.3f}"
        if position.best_score is not None:
            note += f", best {self.settings.best_metric} {position.best_score:.4f}"
        return note
