"""Who hears of a run: trackers through their journal, the world through the outbox of events."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from marauder.core.decides import decided
from marauder.core.files import portable_path
from marauder.core.plain import Plain
from marauder.core.settings import Decides
from marauder.gates.verdict import Verdict
from marauder.messaging.outbox import Outbox
from marauder.registry.base import WITHHELD
from marauder.runs.observer import RunObserver
from marauder.runs.package import FILES
from marauder.runs.record import RunRecord
from marauder.runs.settings import RunSettings
from marauder.runs.task_runtime import TaskRuntime
from marauder.storage.mirror import CheckpointMirror
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub


class RunNotifier:
    """Trackers and events of one run. Every call only appends to files of the run."""

    def __init__(self, settings: RunSettings) -> None:
        self.settings, self.folder = settings, settings.folder
        self.hub = _trackers(settings)
        self.outbox = Outbox(settings.folder / "outbox.jsonl", settings.events, settings.id or "")

    def started(self, record: RunRecord, splits: Mapping[str, int], fresh: bool) -> None:
        """Open the run in the trackers, start the followers. ``fresh``: what they know of the run counts no more."""
        self.hub.start(fresh=fresh)
        self.outbox.start()
        # Whoever counts runs by their starts must not count this one twice.
        kind = "io.marauder.run.started" if record.attempts == 1 else "io.marauder.run.resumed"
        self.outbox.emit(kind, {"project": record.project, "data": record.data, "splits": dict(splits)})
        data = self.settings.data
        # A data.yaml is called like any other; its folder is not.
        self.hub.data_set(data.absolute().parent.name if data.suffix else data.name, record.data, splits)

    def observer(self, mirrors: list[CheckpointMirror]) -> RunObserver:
        """What the engine tells goes on to trackers, events and mirrors."""
        return RunObserver(self.hub, self.outbox, mirrors, self.settings.checkpoint_folder)

    def judged(self, verdict: Verdict) -> None:
        """A gate answered."""
        self.outbox.emit("io.marauder.run.gate", verdict.to_json())
        self.hub.tags({f"gate.{verdict.gate}": f"{verdict.answer}: {verdict.why}"[:400]})

    def finished(self, runtime: TaskRuntime, record: RunRecord, step: int) -> None:
        """The run is complete: final numbers, curves, figures, files; slices below their target."""
        known = {f"final/{name}": float(value) for name, value in record.metrics.items() if value is not None}
        self.hub.metrics(step, known)
        for name, (columns, rows) in runtime.curves().items():
            self.hub.curve(name, columns, rows)
        for path in sorted(self.folder.glob("*.png")):
            self.hub.figure(path.stem, path, step)
        for name, what in {**runtime.description.files, **FILES}.items():
            if what and (self.folder / name).is_file():
                self.hub.artifact(self.folder / name, what)
        tags = {
            "verdict": record.verdict,
            "version": record.version or "",
            "description": _description(runtime, record),
        }
        # Empty, too: a run that is judged again may be withheld no longer.
        self.hub.tags({**tags, WITHHELD: record.withheld})
        for part in runtime.below_target():
            self.outbox.emit("io.marauder.run.slice_below_target", dict(part))
        about = {"verdict": record.verdict, "metrics": record.metrics, "version": record.version, "split": record.split}
        about["withheld"] = record.withheld
        self.outbox.emit("io.marauder.run.finished", {"project": record.project, **about})
        self._close("finished")

    def ended(self, state: str, message: str, stays_finished: bool = False) -> None:
        """The run ended before its end. ``stays_finished``: it was finished, and only measured again."""
        what = "interrupted" if state == "interrupted" else "failed"
        about: Plain = {"project": self.settings.project, "state": state, "message": message}
        self.outbox.emit(f"io.marauder.run.{what}", about)
        self._close("finished" if stays_finished else what)

    def _close(self, status: str) -> None:
        self.hub.finish(status)
        self.outbox.finish()


def _description(runtime: TaskRuntime, record: RunRecord) -> str:
    """Verdict and main figures, in Markdown."""
    titles = {metric.name: metric.title for metric in runtime.description.metrics if metric.headline}
    figures = [
        f"{title} {value:.3f}" for name, title in titles.items() if (value := record.metrics.get(name)) is not None
    ]
    lines = [f"**Gates: {record.verdict}**", f"{', '.join(figures)} on {record.split}" if figures else ""]
    lines += [f"Best epoch: {record.best_epoch} of {record.epochs}", record.stopped_early]
    return "\n\n".join(line for line in lines if line)


def _tracked(settings: RunSettings) -> TrackedRun:
    # Places say nothing about a result, and differ from machine to machine.
    shown = [what for what in Decides if what is not Decides.PLACE]
    config = {"data": str(settings.data), **decided(settings, *shown, by_content=False)}
    return TrackedRun(settings.project, settings.id or "", settings.folder, config, {"task": settings.task})


def _trackers(settings: RunSettings) -> TrackingHub:
    """Tracker and registry share one MLflow store where neither names its own.

    Its folder is written into the run's journal, as seen from the run's folder: both may have moved when it is read.
    """
    tracking = settings.tracking
    # A copy: the settings are shared and frozen in name only.
    chosen = dict(tracking.options.get("mlflow", {}))
    named = chosen.get("folder") or (
        settings.runs / "mlflow" if not chosen.get("uri") and "MLFLOW_TRACKING_URI" not in os.environ else None
    )
    if "mlflow" in tracking.trackers and named is not None:
        chosen["folder"] = portable_path(Path(named), settings.folder)
        tracking = tracking.changed({"options": {**tracking.options, "mlflow": chosen}})
    return TrackingHub(_tracked(settings), tracking)
