"""The training loop: from a task, settings and a folder to trained weights, stopping in time and resuming exactly."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from marauder.core.clock import Clock, Interrupted, describe_seconds
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Decides
from marauder.core.wording import counted
from marauder.engine.averaging import AveragedModel
from marauder.engine.checkpoints import Checkpointer
from marauder.engine.distributed import Group, choose_precision
from marauder.engine.evidence import failure_of, keep_batch
from marauder.engine.guards import Finding, Guards, check_sanity, score_of
from marauder.engine.loader import Loader, Order, default_workers
from marauder.engine.micro_batch import halved
from marauder.engine.observer import Observer
from marauder.engine.optimizer import apply_schedule, build_optimizer
from marauder.engine.resume import Resumption
from marauder.engine.run_log import RunLog
from marauder.engine.schedule import Schedule
from marauder.engine.screen import Screen
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import Outcome, Position, TrainState, about_last, are_of, early_stop
from marauder.engine.task import Batch, LocalBatch, SampleContext, Task, Weights
from marauder.engine.telemetry import Telemetry
from marauder.engine.timing import Stopwatch
from marauder.engine.update import Updater, UpdateResult
from marauder.engine.watchdog import HangWatch

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class Pending:
    """An update whose numbers have not been looked at yet."""

    step: int
    result: UpdateResult
    local: LocalBatch
    batch: Batch


class Trainer:
    """Runs one training in one process of ``group``. Every rank makes one; the first writes files into ``folder``.

    A checkpoint only goes on under the same ``data_fingerprint`` and the same ``described`` settings: all that decide
    the weights, by default those of ``settings``. ``at_default``: which of them an older checkpoint need not know.
    ``observer`` hears how it goes, on the first rank. ``sanity_check``: first see that one batch trains, for a training
    that no gate looked at before. ``shown``: metrics, name to title, that the line of an epoch shows; by default all
    that are not of a slice, as far as they fit. ``section``: where ``settings`` are given, as messages name them.
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
        described: PlainMapping | None = None,
        at_default: frozenset[str] = frozenset(),
        observer: Observer | None = None,
        sanity_check: bool = False,
        shown: Mapping[str, str] | None = None,
        section: str = "training",
    ) -> None:
        if not settings.best_metric and task.metric_names:
            settings = settings.changed({"best_metric": task.metric_names[0]})
        if settings.best_metric not in task.metric_names:
            known = ", ".join(task.metric_names)
            raise UserError(f"best_metric {settings.best_metric!r}: not measured here; choose one of: {known}")
        self.task, self.settings, self.group, self.folder, self.clock = task, settings, group, folder, clock
        self.weights, self.sanity_check, self.section = weights, sanity_check, section
        self.identity = {
            "settings": dict(described or {"training": decided(settings, Decides.RESULT)}),
            "data": data_fingerprint,
        }
        self.at_default = at_default
        self.run_log = RunLog(folder, group.leads, observer)
        self.checkpointer = Checkpointer(
            checkpoint_folder, settings.keep_checkpoints, self.run_log.observer.checkpointed
        )
        self.order = Order(task.training_length, settings.batch_size, settings.seed, settings.epochs)
        self.schedule = Schedule(settings.optimizer, self.order.total_steps, self.order.steps_per_epoch)
        self.precision = choose_precision(settings.precision, group.device)
        self.state = self._build_state()
        metrics = {name: name for name in task.metric_names if "/" not in name}
        metrics = {name: title for name, title in (shown or {}).items() if name in metrics} or metrics
        self.screen = Screen(group.leads, settings.epochs, self.order.total_steps, task.loss_names, metrics)
        self.updater: Updater | None = None
        self.stopwatch = Stopwatch()
        self.guards = Guards(settings, self.state.position)
        observed = observer is not None and group.leads
        self.telemetry = (
            Telemetry(task.loss_names, settings.batch_size, group.device, self.stopwatch) if observed else None
        )
        self._pending: deque[Pending] = deque()
        self._collapse: Finding | None = None
        self._loss = float("nan")
        self._set_aside: set[str] = set()
        self._mark = time.monotonic()

    def fit(self, resume: Path | None = None, fresh: bool = False) -> Outcome:
        """Train to the end. Raises ``Interrupted`` when stopped in time with everything saved."""
        if self.group.leads:
            self.checkpointer.prepare(fresh)
        if fresh or resume is not None:
            self.run_log.forget_reached()
        try:
            self._resume(resume)
            with self._hang_watch():
                self._train_if_needed()
        finally:
            self.checkpointer.finish()  # however the training ends, the checkpoint under way gets written
        return self.state.position.outcome(self.order.steps_per_epoch)

    def _train_if_needed(self) -> None:
        self.updater = Updater(self.task, self.state, self.group, self.settings, self.precision, self.order.total_steps)
        position = self.state.position
        if self._is_left_to_train():
            self._train()
        if position.best_score is None and position.step:
            self._evaluate_again()
        if self.group.leads and not self._has_last():
            self._save_last()

    def _is_left_to_train(self) -> bool:
        position = self.state.position
        return self._epoch_end_is_due() or (position.step < self.order.total_steps and not position.stopped_early)

    def _evaluate_again(self) -> None:
        """Measure the weights as they stand, the best there are, where no best ones are known at the end."""
        position = self.state.position
        epoch = position.step // self.order.steps_per_epoch
        metrics = self._evaluate(epoch)
        if position.history and position.history[-1]["epoch"] == epoch:
            position.history[-1] |= {f"val/{name}": value for name, value in metrics.items()}
            self.run_log.rewrite_epochs(position.history)
        if self.group.leads:
            self._save_checkpoint(wait=True)

    def _build_state(self) -> TrainState:
        model = self.task.build_model(self.settings.seed).to(self.group.device)
        # Convolutions are faster in this layout, on CPUs too.
        model = model.to(memory_format=torch.channels_last).train()
        average = AveragedModel(model, self.settings.average_decay, self.settings.average_ramp)
        # bfloat16 has the exponents of float32: only float16's small gradients vanish without a scale.
        scaler = torch.amp.GradScaler(self.group.device.type, enabled=self.precision == torch.float16)
        return TrainState(model, average, build_optimizer(model, self.settings.optimizer), scaler, Position())

    def _resume(self, named: Path | None) -> None:
        found = Resumption(
            self.state,
            self.checkpointer,
            self.settings,
            self.group,
            self.folder,
            self.weights,
            self.identity,
            self.at_default,
            lambda step: self.run_log.event("went_back", step=step),
        ).take_up(named)
        position = self.state.position
        self.guards = Guards(self.settings, position)
        # A longer patience than when it stopped, or none: it continues. More epochs alone would stop again at once.
        if found and position.step < self.order.total_steps and not self._patience_spent():
            position.stopped_early = False
        self._tell_start(found)
        self.run_log.rewrite_epochs(position.history)

    def _tell_start(self, resumed: bool) -> None:
        """Say and note where training starts from, and what an earlier process did after that."""
        position, total, epochs = self.state.position, self.order.total_steps, self.settings.epochs
        lost_steps, lost_seconds = self.run_log.lost_since(position.step, position.seconds_spent)
        about: Plain = {"step": position.step} if resumed else {"steps": total}
        about["processes"] = self.group.size
        if resumed:
            epoch = min(position.step // self.order.steps_per_epoch + 1, epochs)
            about |= {"of_steps": total, "epoch": epoch, "of_epochs": epochs}
            where = f"step {position.step} of {total} (epoch {epoch} of {epochs})"
            over = position.step == total or position.stopped_early
            self.screen.say(f"training is complete at {where}" if over else f"training continues from {where}")
        every = self.settings.evaluate_every
        if every > 1 and self._is_left_to_train():
            setting = f"{self.section}.evaluate_every"
            self.screen.say(f"evaluates every {every} epochs and after the last ({setting}); – between")
        if lost_steps:
            about |= {"lost_steps": lost_steps, "lost_seconds": round(lost_seconds, 1)}
            steps = counted(lost_steps, "step")
            since = "since the last checkpoint" if resumed else "before the first checkpoint"
            self.screen.say(f"lost and repeated: {steps} {since} ({describe_seconds(lost_seconds)})")
        # A run that is only measured again trains no further.
        continued = "resumed" if self._is_left_to_train() else "already_trained"
        self.run_log.event(continued if resumed else "started", **about)

    def _workers(self) -> int:
        if self.settings.workers is not None:
            return self.settings.workers
        return default_workers(self.group.device.type, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    def _hang_watch(self) -> HangWatch:
        """Ends this process when no step is done any more; with loading processes the loader tells of late batches."""
        settings, rank = self.settings, self.group.rank
        loading = None if self._workers() else settings.loader_timeout

        def describe() -> Plain:
            step = self.state.position.step
            return {"step": step, "pictures": self.task.describe_batch(self.order.share(step, rank, self.group.size))}

        return HangWatch(self.stopwatch, self.folder, rank, settings.hang_timeout, {"data": loading}, describe)

    def _train(self) -> None:
        position = self.state.position
        loader = Loader(
            self.task,
            self.order,
            position.step,
            self.group.rank,
            self.group.size,
            self._workers(),
            self.group.device.type == "cuda",
            self.settings.loader_timeout,
        )
        try:
            self._do_steps(loader)
        except RuntimeError as error:  # a loading process that ends interrupts whatever is under way
            failure = loader.explain(error, position.step)
            if failure is None:
                raise
            self.run_log.event("failed", step=position.step, failure=failure.kind, why=str(failure))
            raise failure from error
        if self.group.leads:
            self._save_checkpoint(wait=True)
            self._save_last()

    def _do_steps(self, loader: Loader) -> None:
        position = self.state.position
        self.screen.begin(position.step)
        saved_at = self._mark = time.monotonic()
        # The process before stopped between the epoch's last step and the end of its evaluation.
        if self._epoch_end_is_due():
            self._end_epoch()
        for local in self.stopwatch.timed("data", loader):
            batch = self._to_device(local.tensors)
            self._report_set_aside(local)
            if self.sanity_check and not position.sanity_passed:
                self._check_sanity(batch)
            self._pending.append(Pending(position.step, self._step(batch), local, batch))
            # Before its numbers are judged: where the samples stand must follow the weights, which have changed.
            position.step += 1
            # On a GPU the numbers of a step are looked at one step later, so that the next is already under way.
            self._settle(keep=1 if self.group.device.type == "cuda" else 0)
            epoch_ends = position.step % self.order.steps_per_epoch == 0
            if epoch_ends:
                self._end_epoch()
            self.run_log.reached(position.step, position.seconds_spent)
            self.screen.advance(self._note())
            if self._stop_or_save(saved_at, epoch_ends):
                saved_at = time.monotonic()
            if position.stopped_early:
                break
        self.screen.close()

    def _step(self, batch: Batch) -> UpdateResult:
        """One update; out of memory halves the micro-batch and tries the same batch again."""
        assert self.updater is not None
        position = self.state.position
        samples = self.order.share_weight(position.step, self.group.rank, self.group.size)
        context = self.order.context(self.task, position.step)
        apply_schedule(self.state.optimizer, self.schedule.values(position.step))
        while True:
            try:
                with self.stopwatch.measure("update"):
                    return self.updater.update(batch, samples, context)
            except torch.OutOfMemoryError as error:
                self._halve(context, error)

    def _halve(self, context: SampleContext, error: torch.OutOfMemoryError) -> None:
        position = self.state.position
        size, step = position.micro_batch_size, position.step
        half = halved(size, context, step, self.group, self.folder, self.identity, error)
        position.micro_batch_size = half
        if self.group.device.type == "cuda":
            # Blocks cached at the former size do not serve the smaller ones and would count against them.
            torch.cuda.empty_cache()
        log.warning(
            "out of memory at step %d: continuing with %d samples at a time, %d times per update (same result)",
            step,
            half,
            -(-self.settings.batch_size // half),
        )
        self.run_log.event("out_of_memory", step=step, micro_batch_size=half)

    def _settle(self, keep: int) -> None:
        """Judge and count the numbers of finished updates, all but the newest ``keep``."""
        position = self.state.position
        while len(self._pending) > keep:
            pending = self._pending.popleft()
            result = pending.result
            # In double precision, so that the sums over a long epoch lose nothing.
            sums = result.sums.to("cpu", torch.float64)
            losses = (sums / result.counts.cpu()).tolist()
            loss, per_sample = sum(losses), float(sums.sum() / result.samples)
            norm = float(result.gradient_norm)
            judged = None if self.state.scaler.is_enabled() else norm  # the scaler skips bad ones
            finding = self.guards.judge_update(loss, per_sample, judged)
            if finding is not None:
                self._fail(finding, pending)
            self._report(pending.step, losses, norm)
            totals = position.epoch_sums or [0.0] * len(losses)
            position.epoch_sums = [total + value for total, value in zip(totals, losses, strict=True)]
            position.epoch_steps += 1
            self._loss = loss
            now = time.monotonic()
            position.epoch_seconds += now - self._mark
            position.seconds_spent += now - self._mark
            self._mark = now

    def _report(self, step: int, losses: list[float], norm: float) -> None:
        """Give the observer the numbers of the updates up to ``step`` when enough have come together."""
        if self.telemetry is None:
            return
        self.telemetry.add(losses, norm)
        if (step + 1) % self.settings.log_steps == 0 or step + 1 == self.order.total_steps:
            self.run_log.stepped(step + 1, self.telemetry.report(self.schedule.values(step).learning_rate))

    def _fail(self, finding: Finding, pending: Pending | None) -> NoReturn:
        """Stop for good, keeping the batch at fault where it was one."""
        step, batch, pictures = self.state.position.step, None, list[str]()
        if pending is not None:
            step, pictures = pending.step, self.task.describe_batch(pending.local.keys)
            batch = keep_batch(self.folder, self.group.rank, step, pending.batch, pictures)
        self.run_log.event("failed", step=step, failure=finding.kind, why=finding.why, batch=batch, pictures=pictures)
        raise failure_of(finding, step, batch, pictures)

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
        self.run_log.epoch_ended(epoch, row)
        self.screen.epoch_ended(position.history, position.best_epoch == epoch)
        # Only now: the row that shows it is on disk first.
        if self._collapse is not None:
            self._fail(self._collapse, None)
        if self._patience_spent() and epoch < settings.epochs:
            position.stopped_early = True
            why = early_stop(position.outcome(self.order.steps_per_epoch), settings, self.section)
            self.screen.say(why)
            self.run_log.event("stopped_early", step=position.step, epoch=epoch, of_epochs=settings.epochs, why=why)

    def _evaluate(self, epoch: int) -> dict[str, float]:
        position = self.state.position
        average = self.state.average.model
        self.clock.doing = "cutting the evaluation short"
        with self.stopwatch.measure("evaluation"):
            self.group.broadcast_buffers(average)
            # A rank that is out of time gives no share, but takes part in the gathering, where the others wait for it.
            share = self.task.predict(average, self.group.rank, self.group.size, self._must_stop)
            shares = self.group.gather(share)
            if any(part is None for part in shares):
                self._interrupt(self.group.agree(self.clock.stop_reason()) or "stopped while evaluating")
            metrics = self.group.broadcast(self.task.score(shares) if self.group.leads else None)
        self.clock.doing = ""
        score = score_of(metrics, self.settings.best_metric)
        self._collapse = self.guards.collapse.judge_score(self.settings.best_metric, score, position.best_score)
        trouble = self.task.trouble(metrics)
        if trouble is not None:
            self._collapse = Finding("collapsed", trouble.why, trouble.remedy)
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
        with self.stopwatch.measure("agreement"):
            reason = self.group.agree(self.clock.stop_reason())
        if reason is not None and position.step < self.order.total_steps and not position.stopped_early:
            self._interrupt(reason)
        # Twice as readily at an epoch's end: a kill would cost the evaluation too. The ranks' clocks differ, but only
        # the first rank saves.
        due = time.monotonic() - saved_at >= settings.checkpoint_seconds * (0.5 if epoch_ends else 1.0)
        due = due or (settings.checkpoint_steps is not None and position.step % settings.checkpoint_steps == 0)
        if due and self.group.leads:
            self._save_checkpoint()
        return due

    def _interrupt(self, reason: str) -> NoReturn:
        step = self.state.position.step
        self.clock.doing = "writing the checkpoint"
        if self.group.leads:
            self._save_checkpoint(wait=True)
            self.run_log.event("interrupted", step=step, why=reason)
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
            # Into the position before it is copied: watches go on from what they knew at this step.
            self.guards.remember(self.state.position)
            self.checkpointer.save(self.state.snapshot(self.identity), step, about, wait)

    def _save_last(self) -> None:
        position = self.state.position
        self.weights.save(self.state.average.model, "last", about_last(position))
        self.run_log.event(
            "finished", step=position.step, best_epoch=position.best_epoch, best_score=position.best_score
        )

    def _has_last(self) -> bool:
        """Whether the last weights are those of this position."""
        return are_of(self.weights.about("last"), self.state.position)

    def _check_sanity(self, batch: Batch) -> None:
        samples = min(8, len(self.task.inputs(batch)))
        # A few samples: memory has to be left for the copy of the model that they train.
        part = self.task.cut(batch, 0, samples)
        with self.stopwatch.measure("sanity"):
            first, lowest = check_sanity(self.task, self.state.model, part)
        self.state.position.sanity_passed = True
        self.run_log.event("sanity_passed", first_loss=round(first, 4), lowest_loss=round(lowest, 4))

    def _to_device(self, tensors: Batch) -> Batch:
        return {key: value.to(self.group.device, non_blocking=True) for key, value in tensors.items()}

    def _report_set_aside(self, local: LocalBatch) -> None:
        for picture, reason in local.set_aside.items():
            if picture not in self._set_aside:
                self._set_aside.add(picture)
                log.warning("set aside: %s: %s", picture, reason)
                self.run_log.event("set_aside", picture=picture, why=reason)

    def _note(self) -> str:
        position = self.state.position
        epoch = (position.step - 1) // self.order.steps_per_epoch + 1
        note = f"epoch {epoch}/{self.settings.epochs}, loss {self._loss:.3f}"
        if position.best_score is not None:
            note += f", best {self.settings.best_metric} {position.best_score:.4f}"
        return note
