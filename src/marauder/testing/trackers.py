"""The contract of trackers: each kind of record arrives, twice without harm, also after kills and resumes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.delivery.journal import Cursor
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub
from marauder.tracking.records import tracking_folder
from marauder.tracking.settings import TrackingSettings

# The notes are longer than MLflow takes for a parameter.
CONFIG = {"training": {"epochs": 3, "lr": 0.01}, "notes": "x" * 9000, "empty": {}}


@dataclass
class Recorded:
    """What a tracking system holds of a run. ``points``: (name, step) to every value there is for it."""

    runs: int
    status: str
    config: Plain
    tags: dict[str, str]
    points: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    figures: int = 0
    curves: dict[str, list[list[str]]] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)


class TrackerContract:
    """Run by every tracker: a subclass says its name and options, and how to read back."""

    name: str
    later_values_count: bool
    """Whether a step's later value replaces an earlier one."""

    def options(self, tmp_path: Path) -> Plain:
        """Options that keep the tracking system on this machine."""
        return {}

    def read(self, run: TrackedRun, generation: int = 0) -> Recorded:
        """What the tracking system holds of the run."""
        raise NotImplementedError

    def hub(self, tmp_path: Path, run_id: str = "run-1") -> TrackingHub:
        """A hub that feeds this tracker alone."""
        folder = tmp_path / "runs" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        run = TrackedRun("reef", run_id, folder, CONFIG, {"git": "abc123"})
        options = {self.name: self.options(tmp_path)}
        return TrackingHub(run, TrackingSettings(trackers=(self.name,), options=options, finish_seconds=60))

    def log_everything(self, hub: TrackingHub) -> None:
        """A record of every kind."""
        folder = hub.run.folder
        hub.metrics(10, {"loss": 2.0, "val/map50@all": 0.25})
        hub.metrics(20, {"loss": 1.0, "gradient_norm": math.nan})
        Image.new("RGB", (12, 8), "teal").save(folder / "matrix.png")
        hub.figure("confusion/matrix", folder / "matrix.png", 20)
        hub.curve("precision_recall/fish", ["recall", "precision"], [[0.0, 1.0], [1.0, 0.25]])
        (folder / "report.html").write_text("<p>report</p>")
        hub.artifact(folder / "report.html", "report")
        hub.tags({"verdict": "pass"})

    def check_everything(self, recorded: Recorded) -> None:
        """That all of it arrived, once."""
        assert recorded.runs == 1 and recorded.status == "finished"
        assert recorded.points["loss", 10] == [2.0] and recorded.points["loss", 20] == [1.0]
        assert [value for (name, _), values in recorded.points.items() if "map50" in name for value in values] == [0.25]
        (norm,) = recorded.points["gradient_norm", 20]
        assert math.isnan(norm)
        assert recorded.tags.items() >= {"git": "abc123", "verdict": "pass"}.items()
        assert recorded.config["training.lr"] in (0.01, "0.01")
        assert recorded.figures == 1
        assert recorded.curves["precision_recall/fish"] == [["recall", "precision"], ["0.0", "1.0"], ["1.0", "0.25"]]
        assert recorded.artifacts == {"report.html"}

    def test_every_kind_of_record_arrives_and_again_does_no_harm(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path)
        with hub:
            self.log_everything(hub)
        self.check_everything(self.read(hub.run))
        cursor_path = tracking_folder(hub.run.folder) / f"{self.name}.json"
        assert Cursor.load(cursor_path).refused == []
        # Without its cursor the follower delivers everything a second time.
        cursor_path.unlink()
        subprocess.run([*hub.followers.members[0].command], check=True, capture_output=True)
        assert Cursor.load(cursor_path).delivered == hub.journal.last_number()
        self.check_everything(self.read(hub.run))

    def test_a_killed_follower_loses_nothing(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path).start()
        follower = hub.followers.members[0].process
        assert follower is not None
        deadline = time.monotonic() + 60
        for step in range(20):
            hub.metrics(step, {"loss": float(step)})
        # Kill it in the middle of its work: some is delivered (or, where only the end counts, the run is open).
        cursor, log_folder = tracking_folder(hub.run.folder) / f"{self.name}.json", hub.run.folder
        while not self.is_under_way(cursor, log_folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(follower.pid, signal.SIGKILL)
        for step in range(20, 40):
            hub.metrics(step, {"loss": float(step)})
        assert hub.finish("finished") == []
        recorded = self.read(hub.run)
        assert recorded.runs == 1 and recorded.status == "finished"
        losses = {step: values for (name, step), values in recorded.points.items() if name == "loss"}
        assert losses == {step: [float(step)] for step in range(40)}

    def is_under_way(self, cursor: Path, folder: Path) -> bool:
        """Whether the follower has begun to deliver."""
        return cursor.exists() and Cursor.load(cursor).delivered > 0

    def test_a_resumed_run_is_the_same_run(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path)
        with hub:
            for step in range(6):
                hub.metrics(step, {"loss": 1.0})
            hub.finish("interrupted")
        assert self.read(hub.run).status == "interrupted"
        again = self.hub(tmp_path)
        with again:
            for step in range(3, 9):
                again.metrics(step, {"loss": 2.0})
        recorded = self.read(again.run)
        assert recorded.runs == 1 and recorded.status == "finished"
        value = 2.0 if self.later_values_count else 1.0
        expected = {step: [1.0 if step < 3 else value if step < 6 else 2.0] for step in range(9)}
        assert {step: values for (_, step), values in recorded.points.items()} == expected

    def test_a_run_that_starts_over_leaves_no_number_behind(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path)
        with hub:
            for step in range(6):
                hub.metrics(step, {"loss": 1.0, "old": 1.0})
            hub.finish("interrupted")
        again = self.hub(tmp_path).start(fresh=True)
        again.metrics(2, {"loss": 2.0})
        assert again.finish("finished") == []
        recorded = self.read(again.run, generation=1)
        assert recorded.points == {("loss", 2): [2.0]} and recorded.status == "finished"

    def test_what_was_refused_can_be_offered_again(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path)
        with hub:
            hub.metrics(1, {"loss": 1.0})
            hub.figure("late", hub.run.folder / "late.png", 1)
        cursor_path = tracking_folder(hub.run.folder) / f"{self.name}.json"
        assert [entry["number"] for entry in Cursor.load(cursor_path).refused] == [3]
        Image.new("RGB", (12, 8)).save(hub.run.folder / "late.png")
        subprocess.run([*hub.followers.members[0].command, "--refused"], check=True, capture_output=True)
        assert Cursor.load(cursor_path).refused == []
        recorded = self.read(hub.run)
        assert recorded.figures == 1 and recorded.points == {("loss", 1): [1.0]} and recorded.status == "finished"

    def test_an_option_that_is_none_is_told_before_the_run(self, tmp_path: Path) -> None:
        run = TrackedRun("reef", "run-1", tmp_path, {}, {})
        settings = TrackingSettings(trackers=(self.name,), options={self.name: {"colour": "red"}})
        with pytest.raises(UserError, match=rf"tracking\.options\.{self.name}\.colour"):
            TrackingHub(run, settings).start()
