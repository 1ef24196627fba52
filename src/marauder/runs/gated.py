"""The gated run: from settings to a model with evidence, stage after stage, each going on where it was.

pin the data, gates before, train, measure on every slice, export, compare with production, gates at the end, report and
card, register as candidate. What a model is, how it is measured and which gates it has is the task's
(``runs.task_runtime``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock, Interrupted
from marauder.core.decides import at_default, decided
from marauder.core.errors import UserError
from marauder.core.files import fingerprint, hash_file, read_lines, to_plain, write_json, write_text
from marauder.core.locks import LOCK_FILE, exclusive
from marauder.core.metrics import with_floor
from marauder.core.plain import Plain
from marauder.core.provenance import provenance
from marauder.core.settings import Decides, Places
from marauder.data.manifests.pinning import DataPin, pin
from marauder.engine.checkpoints import StoredCheckpoint
from marauder.engine.distributed import choose_device
from marauder.engine.failures import TrainingFailure
from marauder.engine.process import prepare_process
from marauder.engine.state import Outcome, early_stop, longer_than_asked
from marauder.engine.training_identity import describe_differences, refuse_other_training
from marauder.gates.base import GateSettings
from marauder.gates.outcome import decide, withheld
from marauder.gates.plan import GatePlan, gates_in, load_gates
from marauder.gates.verdict import Verdict, worst
from marauder.launch.notices.watch import NoticeWatch
from marauder.reporting.advice import Advice
from marauder.runs.engine_gates import floor_evidence, health_evidence, latency_evidence, look_before_training
from marauder.runs.gatekeeper import Gatekeeper, GateStop
from marauder.runs.mirroring import start_brought_back
from marauder.runs.notifying import RunNotifier
from marauder.runs.package import register, registry_place, store_files
from marauder.runs.production_model import find_production, is_in_production
from marauder.runs.recipes import as_yaml
from marauder.runs.record import RunRecord, State, open_record, read_record, set_aside_results, whose
from marauder.runs.run_name import with_run_id
from marauder.runs.settings import CONFIG_FILE, RunSettings
from marauder.runs.start_weights import Start, is_open, read_start, started, write_start
from marauder.runs.task_description import FLOOR_GATE, describe_task
from marauder.runs.task_runtime import Findings, Production, TaskRuntime
from marauder.runs.training_processes import is_one_of_several, leads
from marauder.runs.training_stage import HISTORY_FILE, RunInHand, SingleTraining, TrainingStage
from marauder.runs.worker_training import train_only

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class RunSummary:
    """What a finished run leaves: files, headline figures, and the verdict of its gates."""

    folder: Path
    weights: Path
    report: Path
    split: str
    metrics: dict[str, float | None]
    epochs: int
    best_epoch: int | None
    seconds: float
    verdict: str
    exit_status: int
    version: str | None
    project: str
    task: str
    failed: tuple[str, ...] = ()
    """Why gates failed, a sentence each."""
    stopped_early: str = ""
    """Why training ended before its last epoch; empty: it did not."""
    longer_than_asked: str = ""
    """What became of more epochs than were asked for; empty: there are none."""
    withheld: str = ""
    """Why it is not offered for production though no gate failed it; empty: it is."""
    advice: tuple[Advice, ...] = ()
    """What to do next, the most urgent first."""
    in_production: bool = False
    finished_before: bool = False
    """An earlier call had finished it, and nothing was done again."""
    training_seconds: float = 0.0
    """The training's share of ``seconds``."""
    gates: int = 0
    """How many gates there are for this kind of run."""
    not_run: tuple[str, ...] = ()
    """Those of them that judged nothing: off, or without what they judge."""


def run_gated(
    settings: RunSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
    open_runtime: Callable[[Any], TaskRuntime] | None = None,
    stage: TrainingStage | None = None,
    asked_to_resume: bool = False,
) -> RunSummary:
    """Do a run, or go on with it. ``begun`` is called once nothing of an earlier run can be taken up.

    ``resume``: a checkpoint to go on from instead of the newest, also one of another run with equal settings and data.
    ``asked_to_resume``: say so where there is nothing to go on from.

    ``open_runtime`` makes the task's runtime (default: of the task that ``task`` names), ``stage`` its weights.

    A run whose gates failed at the end is finished: its summary says so. Raises ``Interrupted`` when stopped in time,
    ``GateStop`` when a gate before training failed, ``UserError`` for bad input, ``TrainingFailure`` when training
    cannot go on.
    """
    prepare_process(settings.training.threads, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if is_one_of_several() and not leads():
        # Under torchrun all processes come here; one leads, and the others do nothing but train.
        train_only(settings, clock, resume, fresh)
        raise SystemExit(0)
    task = describe_task(settings.task)
    # The gates that ship with Marauder are for every task; only those that were asked for by name must fit.
    plan = load_gates(settings.gates, given=gates_in(settings.gate, Places())).restricted(task.answerable())
    plan = plan.for_task(task.headline(), task.comparable(), with_floor(task.metrics))
    pinned = pin(settings.data, clock)
    # After the pin: without an id, the run's name is made from the data, too.
    settings = with_run_id(settings, pinned)
    with start_brought_back(settings, fresh), started(settings, fresh, clock) as (settings, start):
        runtime = (open_runtime or task.load())(settings)
        # Reading and hashing large data sets takes long enough to be stopped.
        runtime.clock = clock
        identity = runtime.open()
        for words in runtime.unjudged(plan):
            log.warning("%s", words)
        settings.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(settings.folder / LOCK_FILE, f"{settings.folder}"):
            run = GatedRun(settings, start, runtime, identity, pinned, plan, clock, stage or SingleTraining())
            return run.go(resume, fresh, begun, asked_to_resume)


class GatedRun:
    """One run in the process that leads it. ``settings`` have their run id; ``start`` is what their ``weights`` turned
    out to be; ``runtime`` is open."""

    def __init__(
        self,
        settings: RunSettings,
        start: Start,
        runtime: TaskRuntime,
        identity: str,
        pinned: DataPin,
        plan: GatePlan,
        clock: Clock,
        stage: TrainingStage,
    ) -> None:
        self.settings, self.runtime, self.identity, self.pinned, self.clock = settings, runtime, identity, pinned, clock
        self.folder, self.start = settings.folder, start
        self.plan, self.stage = plan, stage
        self.device = choose_device(settings.training.device)
        self.notifier = RunNotifier(settings)
        # Wider than the identity of checkpoints: other gates or slices leave the weights and ask for new verdicts.
        self.key = self._key(settings)
        self.keeper = Gatekeeper(self.plan, self.folder, self.key, self.notifier.judged)
        self.record: RunRecord | None = None
        self.former: RunRecord | None = None
        self.finished_before: RunRecord | None = None
        """``former``, the record of when this run was finished, where it is only measured again."""
        self.production: Production | None = None
        self.production_unknown = False
        self.begun_at = time.monotonic()
        self.seconds_before = 0.0

    def go(
        self, resume: Path | None, fresh: bool, begun: Callable[[], None] | None, asked_to_resume: bool = False
    ) -> RunSummary:
        """All stages; whatever ends the run is written down first."""
        if not fresh and resume is None:
            # Before the record is opened: a finished run is not "running" again because somebody looked.
            done = self._finished()
            if done is not None:
                return done
        if fresh:
            former = set_aside_results(self.folder)
            if former is not None:
                log.warning("starting over: what the former run left is in %s", former)
        else:
            self._refuse_another_run(resume)
            if asked_to_resume and resume is None and not self.stage.has_begun(self.settings):
                log.warning("nothing to resume in %s: starts from the beginning", self.folder)
        self._start(fresh, resume)
        try:
            with self._watching():
                self.clock.doing = "looking at the data"
                self.runtime.preview()
                self._before()
                self.clock.doing = ""
                outcome = self._train(resume, fresh, begun)
                return self._after(outcome)
        except Interrupted as stop:
            self._end("interrupted", stop.reason)
            raise
        except GateStop as stop:
            # Before ``UserError``, of which it is one.
            self._end("stopped", str(stop), verdict="fail", exit_status=stop.exit_status)
            raise
        except UserError as error:
            self._end("failed", str(error), verdict="fail", exit_status=error.exit_status)
            raise
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}", verdict="fail")
            raise

    def _key(self, settings: RunSettings) -> str:
        deciding = decided(settings, Decides.RESULT, Decides.LENGTH, Decides.MEASUREMENT)
        made_from = [self.identity, self.pinned.fingerprint, deciding, self.plan.to_json()]
        return fingerprint([*made_from, *self.runtime.measured_with()])

    def _finished(self) -> RunSummary | None:
        """The summary of this very run, if it is finished and all it left is whole."""
        record = read_record(self.folder)
        if record is None or record.state != "finished" or record.key not in (self.key, self._key_of_longer(record)):
            return None
        if not self.stage.has_left(self.folder):
            return None
        if not record.told or record.production_unknown:
            return None  # what is left to do starts from the measured weights, and is quick
        weights = self.runtime.weights()
        if None in (weights.about("best"), weights.about("last")) or not (self.folder / record.report).is_file():
            return None
        if not self._holds_weights_of(record):
            return None
        self.record = record
        # Recognised by the epochs asked for before: the verdicts lie under that key.
        self.keeper = Gatekeeper(self.plan, self.folder, record.key, self.notifier.judged)
        self._register()
        return replace(self._summary(), finished_before=True)

    def _holds_weights_of(self, record: RunRecord) -> bool:
        sealed = self.folder / self.runtime.description.sealed_file
        # The hash, not the time: somebody may have copied other weights here.
        return sealed.is_file() and hash_file(sealed) == record.sealed_sha256

    def _key_of_longer(self, record: RunRecord) -> str:
        """The key of this run with the epochs that it was asked for before, where it has more than it is asked for now:
        a training can be made longer, not shorter."""
        if not self._longer_than_asked(record):
            return self.key
        return self._key(self.settings.changed({"training.epochs": record.epochs_asked}))

    def _longer_than_asked(self, record: RunRecord) -> str:
        asked = self.settings.training.epochs
        # By what was asked for, too: a series rounds, and may have an epoch more than it was asked for.
        return longer_than_asked(record.epochs or 0, asked) if record.epochs_asked > asked else ""

    def _decides(self) -> Plain:
        """What a checkpoint of this run belongs to (``engine.trainer.Trainer.identity``)."""
        return dict(to_plain({"settings": decided(self.settings, Decides.RESULT), "data": self.identity}))

    def _refuse_another_run(self, resume: Path | None) -> None:
        """Refuse before anything of the run that lies here is touched: by its record, or by the checkpoint named."""
        named = self.stage.read_named(resume, self.settings) if resume is not None else None
        if named is not None:
            identity = named.state["identity"]
            refuse_other_training(named.path, identity, self._decides(), at_default(self.settings, Decides.RESULT))
            self._tell_where_from(named)
            return
        record = read_record(self.folder)
        if record is None or not record.identity or self.stage.gives_way(self.settings):
            return
        known, decides = record.identity, self._decides()
        former = read_start(self.folder)
        if former is not None and is_open(former, self.settings) and record.data == self.pinned.fingerprint:
            # Nothing was trained from the random weights that it was to begin with for want of others. The identity of
            # the data covers weights, too.
            known = {**decides, "settings": {**known["settings"], "weights": decides["settings"]["weights"]}}
        differences = describe_differences(known, decides, at_default(self.settings, Decides.RESULT))
        if differences:
            raise UserError(
                f"{self.folder} holds a run with other settings or data ({differences}); start over with --fresh, "
                "give back the former settings, or choose another id or output"
            )

    def _tell_where_from(self, named: StoredCheckpoint) -> None:
        """Say it where a checkpoint that was named is not this run's own, though its settings and data are the same."""
        place = named.path.resolve()
        if any(place.is_relative_to(own.resolve()) for own in (self.folder, self.settings.checkpoint_folder)):
            return
        log.warning(
            "%s is a checkpoint of %s, which has the same settings and data: the run in %s continues from its step %d",
            named.path,
            whose(named.path),
            self.folder,
            named.state["step"],
        )

    def _start(self, fresh: bool, resume: Path | None) -> None:
        settings, earlier = self.settings, read_record(self.folder)
        before = earlier.epochs_asked if earlier is not None and resume is None else 0
        self.former = None if fresh or resume is not None or earlier is None else earlier.measured_before()
        if self.former is not None and self.former.project != settings.project:
            self._tell_other_project(self.former)
        if earlier is not None and earlier.state != "finished" and self.former is None and not fresh:
            self._tell_shortened(earlier)
        # One that stopped early may be about to train on: whether it is shows once training returns.
        if self.former is not None and not self.former.stopped_early:
            trains = settings.training.epochs > self.former.epochs_asked or not self.stage.is_trained(settings)
            self.finished_before = None if trains else self.former
        self.record = open_record(
            self.folder,
            id=settings.id,
            project=settings.project,
            task=settings.task,
            key=self.key,
            data=self.pinned.fingerprint,
            identity=self._decides(),
            epochs_asked=max(before, settings.training.epochs),
            finished_before=_content(self.finished_before),
        )
        self.seconds_before = self.record.seconds
        # Before the record: a folder with one and without the other would be taken for an older version's.
        write_start(self.start, self.folder)
        # On disk before anything long begins: whatever kills the run, its folder says whose it is.
        self.record.write(self.folder)
        write_text(self.folder / CONFIG_FILE, as_yaml(settings))
        write_json(self.folder / "data_pin.json", self.pinned.to_json())
        write_json(
            self.folder / "provenance.json", provenance(self.folder, settings.training.seed, self.record.started)
        )
        self.notifier.started(self.record, self.runtime.splits(), fresh)

    def _tell_shortened(self, earlier: RunRecord) -> None:
        """Say what becomes of the schedule of a training that stopped on its way and is now asked for fewer epochs."""
        asked, planned = self.settings.training.epochs, earlier.epochs_asked
        if len(read_lines(self.folder / HISTORY_FILE)) < asked < planned:
            log.warning(
                "%s was planned over %d epochs and is asked for %d now: what is left follows the learning-rate "
                "schedule of %d epochs, so that the rate drops here; --fresh trains all %d on one schedule",
                self.folder,
                planned,
                asked,
                asked,
                asked,
            )

    def _tell_other_project(self, former: RunRecord) -> None:
        """Say what becomes of a run that was finished in another project."""
        stays = f"; version {former.version} stays in {former.project}, as it is" if former.version else ""
        log.warning(
            "%s was finished in the project %s: it is measured again, now for the project %s, whose production model "
            "it is compared with%s",
            self.folder,
            former.project,
            self.settings.project,
            stays,
        )

    def _watching(self) -> contextlib.AbstractContextManager[Any]:
        return NoticeWatch(self.settings.notices, self.clock)

    def _before(self) -> None:
        """The gates before training, in the plan's order; those that an earlier attempt passed are not asked again."""
        # Before training already, since the drift gate compares with it.
        self._find_production()
        if self.production is not None and (why := self.runtime.incomparable(self.production)):
            log.warning("the new model will not be compared with the one in production: %s", why)
        for name in self.keeper.names("before"):
            # A run that was interrupted in training does not pay for the gates once more.
            if self.keeper.holds(name):
                continue
            self.clock.check()
            self.keeper.ask(name, partial(self._evidence_before, name))
        self.keeper.stop_if_failed("before")

    def _find_production(self) -> None:
        found = find_production(self.settings)
        self.production, self.production_unknown = found.production, found.unknown
        self.runtime.why_no_production, self.runtime.production_unknown = found.why, found.unknown

    def _evidence_before(self, name: str, asked: GateSettings) -> Any:
        if name in self.runtime.description.gates:
            return self._evidence_of_task(name, asked)
        return look_before_training(name, asked, self.runtime, self.device)

    def _evidence_of_task(self, name: str, asked: GateSettings) -> Any:
        return self.runtime.evidence(name, asked, self.production, self.clock)

    def _train(self, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        judged = "health" in self.keeper.names("during")
        run = RunInHand(self.settings, self.runtime, self.identity, self.device, self.clock, self.notifier)
        try:
            outcome = self.stage.train(run, resume, fresh, begun)
        except TrainingFailure as failure:
            if judged:
                # The gate's verdict must be on record, though the failure itself ends the run.
                self._judge_health(failure)
            raise
        former = self.former
        if self.record is not None and former is not None and former.epochs == outcome.epochs:
            self.finished_before = former if self._holds_weights_of(former) else None
            self.record = self.record.write(self.folder, finished_before=_content(self.finished_before))
        if judged:
            self._judge_health(None)
        return outcome

    def _judge_health(self, failure: TrainingFailure | None) -> None:
        self.keeper.ask("health", lambda _: health_evidence(self.folder, failure))

    def _after(self, outcome: Outcome) -> RunSummary:
        """Measure, export, judge, report, register."""
        assert self.record is not None
        runtime, clock = self.runtime, self.clock
        if self.production_unknown:
            # The registry was away before training; it may answer now.
            self._find_production()
        if self.production is not None and self._is_production(self.production):
            self.production, runtime.why_no_production = None, "the model in production is this very one"
        findings = Findings(outcome, self.production)
        clock.doing = "measuring the model"
        metrics = runtime.measure(findings, self.device, clock)
        clock.check()
        clock.doing = "exporting the model"
        runtime.export(self.device, clock, findings)
        clock.check()
        clock.doing = "asking the gates"
        # Not read by this run: later ones compare their data with it once this model is in production.
        runtime.profile(self.device, clock)
        findings.verdicts = self._judge(findings, metrics)
        decision = decide(findings.verdicts)
        clock.doing = "writing the report"
        report = runtime.report(findings, self.pinned, clock)
        sealed = hash_file(self.folder / runtime.description.sealed_file)
        # The registry and the store have other weights yet, or what was said of these before.
        self.record = self.record.model_copy(update={"version": None, "registry": "", "stored": ""})
        self.record = self.record.write(
            self.folder,
            state="finished",
            verdict=worst(findings.verdicts),
            withheld=withheld(findings.verdicts),
            advice=[vars(one) for one in findings.advice],
            exit_status=decision.exit_status,
            metrics=dict(metrics),
            split=runtime.split,
            epochs=outcome.epochs,
            # More were asked for before, by a call that did not come to train them.
            epochs_asked=max(self.settings.training.epochs, min(self.record.epochs_asked, outcome.epochs)),
            best_epoch=outcome.best_epoch,
            weights=runtime.description.weights_file,
            weights_sha256=hash_file(self.folder / runtime.description.weights_file),
            sealed=runtime.description.sealed_file,
            sealed_sha256=sealed,
            report=report.name,
            stopped_early=early_stop(outcome, self.settings.training),
            finished=time.time(),
            seconds=self._seconds(),
            training_seconds=round(outcome.seconds, 1),
            # Finished first, told after: killed in between, trackers hear of it from the next call.
            told=False,
            production_unknown=self.production_unknown,
            finished_before={},
        )
        self.finished_before = None
        clock.doing = "registering the model and telling trackers of it"
        # The registry or the store may have been away when the run ended.
        self._register()
        self.notifier.finished(runtime, self.record, outcome.steps)
        self.record = self.record.write(self.folder, told=True)
        return self._summary()

    def _register(self) -> None:
        """Make the run a registered candidate, and put its files into the store; what fails is tried by the next call
        of the same command."""
        assert self.record is not None
        place = registry_place(self.settings)
        if place and (self.record.version is None or self.record.registry != place):
            version = register(self.settings, self.record, self.pinned)
            self.record = self.record.write(self.folder, version=version, registry=place if version else "")
        if self.settings.store is not None and self.record.stored != self.settings.store and store_files(self.settings):
            self.record = self.record.write(self.folder, stored=self.settings.store)

    def _judge(self, findings: Findings, metrics: Mapping[str, float]) -> list[Verdict]:
        """Ask the gates at the end; returns the verdicts of all."""
        for name in [*self.keeper.names("epoch"), *self.keeper.names("end")]:
            self.clock.check()
            if name in self.runtime.description.gates:
                self.keeper.ask(name, partial(self._evidence_of_task, name))
            elif name == FLOOR_GATE:
                self.keeper.ask(name, lambda _: floor_evidence(self.runtime, metrics))
            elif findings.exported:
                self.keeper.ask(name, partial(latency_evidence, findings))
            else:
                self.keeper.off(name, f"no format is exported ({findings.why_none_exported})")
        return self.keeper.all()

    def _end(self, state: State, message: str, **changes: Any) -> None:
        self.clock.doing = "telling trackers and event sinks how the run ended"
        stays_finished = self.finished_before is not None and state != "stopped"
        if self.record is not None and self.finished_before is not None and stays_finished:
            # What ended is the measuring. Without a key: some files are of it already, so that it has to be done again.
            message = f"measuring it again {'was interrupted' if state == 'interrupted' else 'failed'}: {message}"
            about = {"key": "", "attempts": self.record.attempts, "message": message, "seconds": self._seconds()}
            self.finished_before.write(self.folder, **about)
        elif self.record is not None:
            self.record.write(self.folder, state=state, message=message, seconds=self._seconds(), **changes)
        self.notifier.ended(state, message, stays_finished)

    def _seconds(self) -> float:
        """The whole time so far, over all attempts."""
        return round(self.seconds_before + time.monotonic() - self.begun_at, 1)

    def _is_production(self, production: Production) -> bool:
        """Whether these are the weights that are in production: compared with themselves they would prove nothing."""
        return hash_file(self.folder / self.runtime.description.weights_file) == production.version.weights_sha256

    def _summary(self) -> RunSummary:
        record = self.record
        assert record is not None
        verdicts = self.keeper.all()
        failed = tuple(f"{one.gate}: {one.why}" for one in verdicts if one.answer == "fail")
        version = record.version if registry_place(self.settings) else None
        return RunSummary(
            self.folder,
            self.folder / record.weights,
            self.folder / record.report,
            record.split,
            dict(record.metrics),
            record.epochs or 0,
            record.best_epoch,
            record.seconds,
            record.verdict,
            record.exit_status or 0,
            version,
            record.project,
            record.task,
            failed,
            record.stopped_early,
            self._longer_than_asked(record),
            record.withheld,
            tuple(Advice(**one) for one in record.advice),
            version is not None and is_in_production(self.settings, version, record.weights_sha256),
            training_seconds=record.training_seconds,
            gates=len(verdicts),
            not_run=tuple(one.gate for one in verdicts if one.answer == "off"),
        )


def _content(record: RunRecord | None) -> Plain:
    return {} if record is None else record.model_dump(mode="json")
