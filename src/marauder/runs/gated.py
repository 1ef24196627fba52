"""The gated run: from settings to a model with evidence, stage after stage, each going on where it was.

pin the data, gates before, train, measure on every slice, export, compare with production, gates at the end, report and
card, register as candidate. What a model is, how it is measured and which gates it has is the task's (``runs.tasks``).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import fingerprint, hash_file, write_json, write_text
from marauder.core.locks import exclusive
from marauder.core.plugins import resolve
from marauder.core.provenance import provenance
from marauder.data.manifests.pinning import DataPin, pin
from marauder.engine.distributed import choose_device
from marauder.engine.failures import TrainingFailure
from marauder.engine.observer import Observer
from marauder.engine.state import Outcome
from marauder.gates.base import GateSettings
from marauder.gates.outcome import decide
from marauder.gates.plan import load_gates
from marauder.gates.verdict import Verdict, worst
from marauder.launch.notices.watch import NoticeWatch
from marauder.launch.processes import launched_by_marauder
from marauder.messaging.outbox import Outbox
from marauder.runs.detection import prepare_process
from marauder.runs.engine_gates import health_evidence, latency_evidence, look_before_training
from marauder.runs.gatekeeper import Gatekeeper, GateStop
from marauder.runs.observer import RunObserver
from marauder.runs.packing import register, registry_words, store_files
from marauder.runs.production import find_production
from marauder.runs.recipes import as_yaml
from marauder.runs.record import RunRecord, open_record, read_record
from marauder.runs.settings import RunSettings
from marauder.runs.tasks.base import Findings, Production, TaskKind
from marauder.runs.training import is_one_of_several, leads, train, train_as_worker
from marauder.storage.mirror import open_mirrors, restore_newest
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub

log = logging.getLogger("marauder")
RESULT_SUFFIXES = frozenset({".pt", ".safetensors", ".html", ".png", ".json", ".jsonl", ".md", ".yaml", ".npz"})
MIRROR_SECONDS = 60.0


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
    failed: tuple[str, ...] = ()
    """Why gates failed, a sentence each."""
    promote: tuple[str, ...] = ()
    """Words after ``marauder registry promote`` that make it the production model."""


def run_gated(
    settings: RunSettings,
    clock: Clock,
    resume: Path | None = None,
    fresh: bool = False,
    begun: Callable[[], None] | None = None,
) -> RunSummary:
    """Do a run, or go on with it. ``begun`` is called once nothing of an earlier run can be taken up.

    A run whose gates failed at the end is finished: its summary says so. Raises ``Interrupted`` when stopped in time,
    ``GateStop`` when a gate before training failed, ``UserError`` for bad input, ``TrainingFailure`` when training
    cannot go on.
    """
    prepare_process(settings.training.threads, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if is_one_of_several() and (launched_by_marauder() or not leads()):
        _train_only(settings, clock, resume, fresh)
        raise SystemExit(0)
    pinned = pin(settings.data, clock)
    settings = placed(settings, pinned)
    kind: TaskKind = resolve("task", settings.task)(settings)
    identity = kind.open()
    settings.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.folder / ".lock", f"{settings.folder}"):
        return GatedRun(settings, kind, identity, pinned, clock).go(resume, fresh, begun)


def _train_only(settings: RunSettings, clock: Clock, resume: Path | None, fresh: bool) -> None:
    """One of several processes, all that does not lead a run: only the training."""
    if settings.output is None and settings.id is None:
        raise UserError("several processes must know their run: give id=NAME, or --output, when you call torchrun")
    name = settings.id or settings.folder.resolve().name
    settings = settings.model_copy(update={"id": name, "output": settings.folder})
    kind: TaskKind = resolve("task", settings.task)(settings)
    identity = kind.open()
    if not launched_by_marauder():
        train(kind, identity, clock, Observer(), resume, fresh, None)
        return
    mirrors = open_mirrors(settings.checkpoint_tiers, _prefix(settings)) if leads() else []
    try:
        train_as_worker(
            kind, identity, clock, RunObserver(_trackers(settings), _outbox(settings), mirrors), resume, fresh
        )
    finally:
        for mirror in mirrors:
            mirror.finish(MIRROR_SECONDS)


def placed(settings: RunSettings, pinned: DataPin) -> RunSettings:
    """``settings`` with the run's id and folder made from what decides its result, where none is given."""
    if settings.output is not None:
        name = settings.id or settings.output.resolve().name
        return settings.model_copy(update={"id": name})
    if settings.id is not None:
        return settings.model_copy(update={"output": settings.runs / settings.id})
    decides = [
        settings.described(), settings.training.deciding(), settings.training.epochs, pinned.fingerprint,
        *(hash_file(path) if path and path.is_file() else None for path in (settings.weights, settings.ssl_backbone)),
    ]  # fmt: skip
    stem = Path(settings.recipe).stem if settings.recipe else settings.model
    name = f"{stem}-{fingerprint(decides)[:8]}"
    return settings.model_copy(update={"id": name, "output": settings.runs / name})


def gate_overrides(given: Mapping[str, Any]) -> list[str]:
    """The section ``gate`` of the settings as dotted overrides of gates.yaml."""
    words = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            words += [f"{name}.{key}={json.dumps(inner)}" for key, inner in value.items()]
        else:
            words.append(f"{name}={json.dumps(value)}")
    return words


def _tracked(settings: RunSettings) -> TrackedRun:
    config = settings.model_dump(mode="json", exclude={"tracking", "events", "registry", "notices"})
    return TrackedRun(settings.project, settings.id or "", settings.folder, config, {"task": settings.task})


def _trackers(settings: RunSettings) -> TrackingHub:
    """Tracker and registry share one MLflow store where neither names its own."""
    tracking = settings.tracking
    chosen = dict(tracking.options.get("mlflow", {}))
    if (
        "mlflow" in tracking.trackers
        and not {"uri", "folder"} & chosen.keys()
        and "MLFLOW_TRACKING_URI" not in os.environ
    ):
        chosen["folder"] = str((settings.runs / "mlflow").absolute())
        tracking = tracking.model_copy(update={"options": {**tracking.options, "mlflow": chosen}})
    return TrackingHub(_tracked(settings), tracking)


def _outbox(settings: RunSettings) -> Outbox:
    return Outbox(settings.folder / "outbox.jsonl", settings.events, settings.id or "")


def _prefix(settings: RunSettings) -> str:
    return f"checkpoints/{settings.project}/{settings.id}"


class GatedRun:
    """One run in the process that leads it. ``settings`` are placed; ``kind`` is open."""

    def __init__(self, settings: RunSettings, kind: TaskKind, identity: str, pinned: DataPin, clock: Clock) -> None:
        self.settings, self.kind, self.identity, self.pinned, self.clock = settings, kind, identity, pinned, clock
        self.folder = settings.folder
        self.plan = load_gates(settings.gates, gate_overrides(settings.gate))
        self.device = choose_device(settings.training.device)
        self.outbox = _outbox(settings)
        self.hub = _trackers(settings)
        self.key = self._key()
        self.keeper = Gatekeeper(self.plan, self.folder, self.key, self._heard)
        self.record: RunRecord | None = None
        self.production: Production | None = None
        self.production_problem = ""
        self.begun_at = time.monotonic()

    def go(self, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> RunSummary:
        """All stages; whatever ends the run is written down first."""
        if not fresh and resume is None:
            done = self._finished()
            if done is not None:
                return done
        if fresh:
            set_aside_results(self.folder)
        self._start()
        try:
            with self._watching():
                self._before()
                outcome = self._train(resume, fresh, begun)
                return self._after(outcome)
        except Interrupted as stop:
            self._end("interrupted", stop.reason, "io.marauder.run.interrupted", "interrupted")
            raise
        except GateStop as stop:
            self._end("stopped", str(stop), "io.marauder.run.failed", "failed", verdict="fail", exit_status=3)
            raise
        except UserError as error:
            self._end("failed", str(error), "io.marauder.run.failed", "failed", verdict="fail", exit_status=2)
            raise
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}", "io.marauder.run.failed", "failed", verdict="fail")
            raise

    def _key(self) -> str:
        settings = self.settings
        slices = settings.slices.read_text(encoding="utf-8") if settings.slices is not None else None
        return fingerprint([
            self.identity, settings.described(), settings.training.deciding(), settings.training.epochs,
            settings.training.patience, self.plan.to_json(), slices, settings.evaluation.model_dump(mode="json"),
            settings.export.model_dump(mode="json"), settings.card.model_dump(mode="json"),
        ])  # fmt: skip

    def _finished(self) -> RunSummary | None:
        """The summary of this very run, if it is finished and all it left is whole."""
        record = read_record(self.folder)
        if record is None or record.state != "finished" or record.key != self.key:
            return None
        weights = self.kind.weights()
        if not (weights.has("best") and weights.has("last") and (self.folder / record.report).is_file()):
            return None
        if hash_file(self.folder / "best.safetensors") != record.weights_sha256:
            return None
        self.record = record
        if record.version is None and self.settings.registry.kind != "none":
            self._register()
        return self._summary()

    def _start(self) -> None:
        settings = self.settings
        self.record = open_record(
            self.folder, id=settings.id, project=settings.project, task=settings.task, key=self.key,
            data=self.pinned.fingerprint,
        )  # fmt: skip
        self.record.write(self.folder)
        write_text(self.folder / "config.yaml", as_yaml(settings))
        write_json(self.folder / "data_pin.json", self.pinned.to_json())
        write_json(self.folder / "provenance.json", provenance(self.folder, settings.training.seed))
        self.hub.start()
        self.outbox.start()
        kind = "io.marauder.run.started" if self.record.attempts == 1 else "io.marauder.run.resumed"
        self.outbox.emit(kind, {"project": settings.project, "data": self.pinned.fingerprint, "splits": self._splits()})

    def _splits(self) -> dict[str, int]:
        return dict(self.kind.splits())

    def _watching(self) -> contextlib.AbstractContextManager[Any]:
        return NoticeWatch(self.settings.notices, self.clock)

    def _before(self) -> None:
        """The gates before training, in the plan's order; those that an earlier attempt passed are not asked again."""
        self.production, self.production_problem = find_production(self.settings)
        for name in self.keeper.names("before"):
            if self.keeper.holds(name):
                continue
            self.clock.check()
            self.keeper.ask(name, partial(self._evidence_before, name))
        self.keeper.stop_if_failed("before")

    def _evidence_before(self, name: str, asked: GateSettings) -> Any:
        if name in self.kind.gates:
            return self._evidence_of_task(name, asked)
        return look_before_training(name, asked, self.kind, self.device)

    def _evidence_of_task(self, name: str, asked: GateSettings) -> Any:
        return self.kind.evidence(name, asked, self.production, self.clock)

    def _train(self, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        mirrors = open_mirrors(self.settings.checkpoint_tiers, _prefix(self.settings))
        if fresh:
            for mirror in mirrors:
                mirror.clear()
        elif resume is None:
            restore_newest(self.settings.checkpoint_folder, mirrors)
        observer = RunObserver(self.hub, self.outbox, mirrors)
        judged = "health" in self.keeper.names("during")
        try:
            outcome = train(self.kind, self.identity, self.clock, observer, resume, fresh, begun)
        except TrainingFailure as failure:
            if judged:
                self._judge_health(failure)
            raise
        finally:
            for mirror in mirrors:
                mirror.finish(MIRROR_SECONDS)
        if judged:
            self._judge_health(None)
        return outcome

    def _judge_health(self, failure: TrainingFailure | None) -> None:
        self.keeper.ask("health", lambda _: health_evidence(self.folder, failure))

    def _after(self, outcome: Outcome) -> RunSummary:
        """Measure, export, judge, report, register."""
        assert self.record is not None
        kind, clock = self.kind, self.clock
        findings = Findings(outcome, self.production)
        metrics = kind.measure(findings, self.device, clock)
        clock.check()
        kind.export(self.device, clock, findings)
        clock.check()
        kind.profile(self.device, clock)
        for name in [*self.keeper.names("epoch"), *self.keeper.names("end")]:
            clock.check()
            if name in kind.gates:
                self.keeper.ask(name, partial(self._evidence_of_task, name))
            elif self.settings.export.formats:
                self.keeper.ask(name, lambda asked: latency_evidence(findings))
            else:
                self.keeper.off(name, "no format is exported (export.formats is empty)")
        findings.verdicts = self.keeper.all()
        decision = decide(findings.verdicts)
        facts = {"pin": self.pinned, "run_id": self.settings.id, "identity": self.identity,
                 "production_problem": self.production_problem}  # fmt: skip
        report = kind.report(findings, facts, clock)
        best = hash_file(self.folder / "best.safetensors")
        self.record = self.record.write(
            self.folder, state="finished", verdict=worst(findings.verdicts), exit_status=decision.exit_status,
            metrics=dict(metrics),
            split=getattr(kind, "split", ""), epochs=outcome.epochs, best_epoch=outcome.best_epoch, weights="best.pt",
            weights_sha256=best, report=report.name, finished=time.time(), seconds=round(outcome.seconds, 1),
        )  # fmt: skip
        self._register()
        self._tell(metrics, self.record.verdict, outcome.steps)
        return self._summary()

    def _register(self) -> None:
        """Make the run a registered candidate, and put its files into the store; what fails is tried by the next call
        of the same command."""
        assert self.record is not None
        version = register(self.settings, self.record, self.pinned)
        if version is not None:
            self.record = self.record.write(self.folder, version=version, registry=self.settings.registry.kind)
        store_files(self.settings)

    def _tell(self, metrics: Mapping[str, float | None], verdict: str, step: int) -> None:
        """Trackers and events hear how the run ended."""
        assert self.record is not None
        known = {f"final/{name}": float(value) for name, value in metrics.items() if value is not None}
        self.hub.metrics(step, known)
        for name, (columns, rows) in self.kind.curves().items():
            self.hub.curve(name, columns, rows)
        for path in sorted(self.folder.glob("*.png")):
            self.hub.figure(path.stem, path, step)
        for name, what in ARTIFACTS.items():
            if (self.folder / name).is_file():
                self.hub.artifact(self.folder / name, what)
        self.hub.tags({"verdict": verdict, "version": str(self.record.version or "")})
        for slice_ in self.kind.below_target():
            self.outbox.emit("io.marauder.run.slice_below_target", dict(slice_))
        self.outbox.emit(
            "io.marauder.run.finished",
            {"project": self.settings.project, "verdict": verdict, "metrics": dict(metrics),
             "version": self.record.version, "split": self.record.split},
        )  # fmt: skip
        self.hub.finish("finished")
        self.outbox.finish()

    def _heard(self, verdict: Verdict) -> None:
        self.outbox.emit("io.marauder.run.gate", verdict.to_json())
        self.hub.tags({f"gate.{verdict.gate}": f"{verdict.answer}: {verdict.why}"[:400]})

    def _end(self, state: str, message: str, event: str, status: str, **changes: Any) -> None:
        if self.record is not None:
            seconds = round(self.record.seconds + time.monotonic() - self.begun_at, 1)
            self.record.write(self.folder, state=state, message=message, seconds=seconds, **changes)
        self.outbox.emit(event, {"project": self.settings.project, "message": message})
        self.hub.finish(status)
        self.outbox.finish()

    def _promotion(self, record: RunRecord) -> tuple[str, ...]:
        return (record.project, record.version or "candidate", *registry_words(self.settings))

    def _summary(self) -> RunSummary:
        record = self.record
        assert record is not None
        failed = tuple(
            f"{one.gate}: {one.why}" for one in self.keeper.all() if one.answer == "fail"
        )  # fmt: skip
        return RunSummary(
            self.folder, self.folder / record.weights, self.folder / record.report, record.split,
            dict(record.metrics), record.epochs or 0, record.best_epoch, record.seconds, record.verdict,
            record.exit_status or 0, record.version, record.project, failed, self._promotion(record),
        )  # fmt: skip


ARTIFACTS = {
    "best.pt": "model",
    "report.html": "report",
    "eval_report.json": "report",
    "model_card.md": "card",
    "model_card.json": "card",
    "config.yaml": "data",
    "data_pin.json": "data",
    "provenance.json": "data",
    "gates.json": "report",
}
"""Files of a run that trackers keep, and what they are."""


def set_aside_results(folder: Path) -> None:
    """Move a finished run's weights and reports into ``previous``, so that a new run's do not mix with them."""
    record = read_record(folder)
    if record is None:
        return
    previous = folder / "previous"
    if previous.exists() and record.state == "finished":
        shutil.rmtree(previous)
    previous.mkdir(exist_ok=True)
    files = [
        path for path in folder.iterdir() if path.is_file() and path.suffix in RESULT_SUFFIXES and path.name[0] != "."
    ]
    # The record goes last: killed in between, the next start finds it and moves the rest.
    for path in sorted(files, key=lambda path: path.name == "run.json"):
        path.replace(previous / path.name)
