"""What every tracker must do: take each kind of record, take it twice without harm, go on after kills and resumes."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from marauder.core.errors import UserError
from marauder.core.plugins import make
from marauder.delivery.journal import Cursor
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub
from marauder.tracking.mlflow_store import MlflowSettings, locate
from marauder.tracking.records import tracking_folder
from marauder.tracking.settings import TrackingSettings

CONFIG = {"training": {"epochs": 3, "lr": 0.01}, "notes": "x" * 9000, "empty": {}}


@dataclass
class Recorded:
    """What a tracking system holds of a run. ``points``: (name, step) to every value there is for it."""

    runs: int
    status: str
    config: dict[str, Any]
    tags: dict[str, str]
    points: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    figures: int = 0
    curves: dict[str, list[list[str]]] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)


class TrackerContract:
    """Run by every tracker: a subclass says its name and options, and how to read back."""

    name: str
    later_values_count: bool

    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {}

    def read(self, run: TrackedRun, generation: int = 0) -> Recorded:
        raise NotImplementedError

    def hub(self, tmp_path: Path, run_id: str = "run-1") -> TrackingHub:
        folder = tmp_path / "runs" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        run = TrackedRun("reef", run_id, folder, CONFIG, {"git": "abc123"})
        options = {self.name: self.options(tmp_path)}
        return TrackingHub(run, TrackingSettings(trackers=(self.name,), options=options, finish_seconds=60))

    def log_everything(self, hub: TrackingHub) -> None:
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


class TestFilesTracker(TrackerContract):
    name = "files"
    later_values_count = True

    def read(self, run: TrackedRun, generation: int = 0) -> Recorded:
        folder = tracking_folder(run.folder) / "files"
        status = json.loads((folder / "status.json").read_text())["status"]
        config = json.loads((folder / "config.json").read_text())
        tags = json.loads((folder / "tags.json").read_text())
        recorded = Recorded(1, status, {"training.lr": config["training"]["lr"]}, tags)
        with (folder / "metrics.csv").open() as stream:
            for row in csv.DictReader(stream):
                for name in row.keys() - {"step", "time"}:
                    if row[name]:
                        recorded.points.setdefault((name, int(row["step"])), []).append(float(row[name]))
        recorded.figures = len(list((folder / "figures").rglob("*.png")))
        for path in (folder / "curves").rglob("*.csv"):
            name = path.relative_to(folder / "curves").with_suffix("").as_posix()
            recorded.curves[name] = list(csv.reader(path.open()))
        listed = folder / "artifacts.json"
        recorded.artifacts = set(json.loads(listed.read_text())) if listed.exists() else set()
        return recorded


class TestMlflowTracker(TrackerContract):
    name = "mlflow"
    later_values_count = False

    @pytest.fixture(autouse=True)
    def store(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """One store for all tests: making its tables takes longer than the tests."""
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        self.folder = tmp_path_factory.getbasetemp() / "shared-mlflow"

    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"folder": str(self.folder)}

    def hub(self, tmp_path: Path, run_id: str = "run") -> TrackingHub:
        return super().hub(tmp_path, f"{run_id}-{tmp_path.name}")

    def read(self, run: TrackedRun, generation: int = 0) -> Recorded:
        from mlflow import MlflowClient

        store = locate(MlflowSettings(folder=self.folder), self.folder)
        client = MlflowClient(tracking_uri=store.uri)
        experiment = client.get_experiment_by_name("reef")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"tags.`marauder.run_id` = '{run.run_id}'")
        found = [one for one in found if one.data.tags["marauder.generation"] == str(generation)]
        stored = found[0]
        states = {"FINISHED": "finished", "KILLED": "interrupted", "FAILED": "failed"}
        recorded = Recorded(len(found), states[stored.info.status], stored.data.params, stored.data.tags)
        for name in stored.data.metrics:
            for metric in client.get_metric_history(stored.info.run_id, name):
                recorded.points.setdefault((name, metric.step), []).append(metric.value)
        root = Path(stored.info.artifact_uri.removeprefix("file://"))
        recorded.figures = len(list((root / "figures").rglob("*.png")))
        for path in (root / "curves").rglob("*.csv"):
            name = path.relative_to(root / "curves").with_suffix("").as_posix()
            recorded.curves[name] = list(csv.reader(path.open()))
        recorded.artifacts = {path.name for path in (root / "report").glob("*")}
        assert json.loads((root / "config.json").read_text())["notes"] == CONFIG["notes"]
        return recorded

    def test_where_the_store_lies(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        runs = tmp_path / "runs"
        assert locate(MlflowSettings(), runs).uri == f"sqlite:///{tmp_path}/runs/mlflow/mlflow.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
        assert locate(MlflowSettings(), runs).uri == "http://127.0.0.1:5000"
        assert locate(MlflowSettings(folder=tmp_path / "m"), runs).uri == f"sqlite:///{tmp_path}/m/mlflow.db"
        assert locate(MlflowSettings(uri="http://localhost:1"), runs).artifact_location is None
        with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD"):
            make("tracker", "mlflow", {"uri": "http://me:word@localhost:1"})

    def test_two_followers_make_the_tables_of_one_new_store(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "new"
        hubs = [self.hub(tmp_path, name).start() for name in ("one", "two")]
        for hub in hubs:
            hub.metrics(1, {"loss": 1.0})
        assert [hub.finish("finished") for hub in hubs] == [[], []]
        for hub in hubs:
            assert self.read(hub.run).points == {("loss", 1): [1.0]}
            assert Cursor.load(hub.followers.members[0].cursor_path).failures == 0

    def test_settings_that_a_resume_changes_are_told(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path)
        with hub:
            pass
        changed = TrackedRun("reef", hub.run.run_id, hub.run.folder, {**CONFIG, "training": {"lr": 0.5}}, {})
        with TrackingHub(changed, hub.settings):
            pass
        recorded = self.read(changed)
        assert recorded.config["training.lr"] == "0.01" and recorded.tags["marauder.changed_settings"] == "training.lr"


class TestWandbTracker(TrackerContract):
    name = "wandb"
    later_values_count = False

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("WANDB_API_KEY", "WANDB_MODE"):
            monkeypatch.delenv(variable, raising=False)

    def is_under_way(self, cursor: Path, folder: Path) -> bool:
        return any((tracking_folder(folder) / "wandb").glob("wandb/offline-run-*/*.wandb"))

    def records(self, run: TrackedRun) -> list[dict[str, Any]]:
        (folder,) = (tracking_folder(run.folder) / "wandb" / "wandb").glob("offline-run-*")
        command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def read(self, run: TrackedRun, generation: int = 0) -> Recorded:
        config: dict[str, Any] = {}
        recorded = Recorded(1, "", config, {})
        (folder,) = (tracking_folder(run.folder) / "wandb" / "wandb").glob("offline-run-*")
        for record in self.records(run):
            if record["type"] == "run":
                config["training.lr"] = record["run"]["config"]["update"]["training"]["lr"]
            elif record["type"] == "config":
                recorded.tags |= record["config"]["update"].get("tags", {})
            elif record["type"] == "summary":
                recorded.status = record["summary"]["update"].get("status", recorded.status)
            elif record["type"] == "artifact" and record["artifact"]["type"] == "report":
                recorded.artifacts |= {entry["path"] for entry in record["artifact"]["manifest"]["contents"]}
            elif record["type"] == "history":
                self._read_row(record["history"]["item"], folder / "files", recorded)
        return recorded

    def _read_row(self, row: dict[str, Any], files: Path, recorded: Recorded) -> None:
        for name, value in row.items():
            if name.startswith("figures/") and name.endswith(".path"):
                recorded.figures += (files / value).is_file()
            elif name.startswith("curves/") and name.endswith("_table.path"):
                table = json.loads((files / value).read_text())
                rows = [table["columns"], *([str(float(cell)) for cell in row] for row in table["data"])]
                recorded.curves[name.removeprefix("curves/").removesuffix("_table.path")] = rows
            elif not name.startswith(("_", "figures/", "curves/")):
                recorded.points.setdefault((name, row["_step"]), []).append(float(value))

    def test_nothing_is_written_outside_the_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(home)
        hub = self.hub(tmp_path)
        with hub:
            self.log_everything(hub)
        assert list(home.rglob("*")) == []
