"""What every tracker must do: take each kind of record, take it twice without harm, go on after kills and resumes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marauder.core.errors import UserError
from marauder.core.plugins import make
from marauder.delivery.journal import Cursor
from marauder.testing.trackers import CONFIG, Recorded, TrackerContract
from marauder.tracking.base import TrackedRun
from marauder.tracking.hub import TrackingHub
from marauder.tracking.mlflow_store import MlflowSettings, locate, open_client
from marauder.tracking.records import tracking_folder


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


OPENED = """
import sys
from pathlib import Path
from marauder.tracking.mlflow_store import MlflowSettings, locate, open_client
open_client(locate(MlflowSettings(folder=Path(sys.argv[1])), Path("runs")))
"""


def test_a_new_store_of_mlflow_is_made_without_a_word(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OPENED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (tmp_path / "mlflow.db").is_file()
    assert (done.stdout, done.stderr) == ("", "")


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

    def test_data_description_and_kind_stand_where_mlflow_shows_them(self, tmp_path: Path) -> None:
        hub = self.hub(tmp_path)
        for _ in range(2):  # a run that goes on tells it again
            with hub:
                hub.data_set("reef", "a" * 64, {"train": 160, "val": 40})
                hub.tags({"description": "**Gates: pass**"})
        client = open_client(locate(MlflowSettings(folder=self.folder), self.folder))
        experiment = client.get_experiment_by_name(hub.run.project)
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        (run,) = client.search_runs([experiment.experiment_id], f"tags.`marauder.run_id` = '{hub.run.run_id}'")
        assert run.data.tags["mlflow.note.content"] == "**Gates: pass**"
        (given,) = run.inputs.dataset_inputs
        assert (given.dataset.name, json.loads(given.dataset.profile)) == ("reef", {"train": 160, "val": 40})
        assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]

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
