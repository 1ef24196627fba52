"""The MLflow tracker: an experiment per project, a run per run, found again by the tag ``marauder.run_id``.

Source of the limits on names and values: ``mlflow.utils.validation``.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.errors import UserError
from marauder.core.files import located_path, write_json
from marauder.delivery.follower import Refused
from marauder.tracking.base import Tracker
from marauder.tracking.mlflow_moves import RUN_TAG
from marauder.tracking.mlflow_store import MlflowSettings, create_experiment, locate, open_client
from marauder.tracking.records import flatten, safe_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

GENERATION_TAG = "marauder.generation"
CHANGED_TAG = "marauder.changed_settings"
DESCRIPTION_TAG = "mlflow.note.content"
# MLflow 3 itself takes more (6000 and 8000 characters), older servers refuse it. 100 is what one request may hold of
# parameters and of tags.
LONGEST_VALUE, LONGEST_TAG, LONGEST_KEY, BATCH = 500, 5000, 250, 100
LONGEST_DATA_NAME, LONGEST_DIGEST = 500, 36
STATES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MlflowTracker(Tracker):
    """An experiment per project, a run per run. A relative ``folder`` in the settings starts at the run's folder.

    A number is logged once for a step: where a resumed run repeats a step, the first one stays.
    """

    name = "mlflow"
    title = "MLflow"
    settings_model = MlflowSettings
    settings: MlflowSettings

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        """MLflow's own, its database's and its network's, and ``UserError`` of a store that cannot be opened; a wrong
        value among them is told apart by ``_call``."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        return (OSError, UserError, MlflowException, RequestException, SQLAlchemyError)

    def open(self) -> None:
        """Open the store, find or create the run, log the settings that are not there yet."""
        settings = self.settings
        if settings.folder is not None:
            settings = settings.changed({"folder": located_path(str(settings.folder), self.run.folder)})
        self.store = locate(settings, self.run.folder.absolute().parent)
        self.logged: dict[str, set[int]] = {}
        self.client: MlflowClient = open_client(self.store)
        experiment = self._experiment()
        generation = str(self.run.generation)
        same_id = self.client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{self.run.run_id}'")
        # A run without the tag is of the first generation.
        found = [run for run in same_id if run.data.tags.get(GENERATION_TAG, "0") == generation]
        if found:
            run = found[0]
            self.client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {RUN_TAG: self.run.run_id, GENERATION_TAG: generation, "mlflow.source.name": "marauder"}
            run = self.client.create_run(experiment, tags=tags, run_name=self.run.run_id)
        self.id: str = run.info.run_id
        for name in run.data.metrics:
            # MLflow keeps every value that is logged for a step: a repeated one would be a second point.
            self.logged[name] = {metric.step for metric in self.client.get_metric_history(self.id, name)}
        self._log_config(run)
        self.set_tags(self.run.tags)

    def log_metrics(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Those of ``values`` that the run does not have for this step."""
        from mlflow.entities import Metric

        named = {_key(name): value for name, value in values.items()}
        new = {name: value for name, value in named.items() if step not in self.logged.get(name, ())}
        # MLflow counts in milliseconds.
        metrics = [Metric(name, value, round(time * 1000), step) for name, value in new.items()]
        for start in range(0, len(metrics), BATCH):
            self._call("log_batch", self.id, metrics=metrics[start : start + BATCH])
        for name in new:
            self.logged.setdefault(name, set()).add(step)

    def log_figure(self, name: str, path: Path, step: int) -> None:
        """As ``figures/<name>/<step>`` among the run's files."""
        with tempfile.TemporaryDirectory() as folder:
            # MLflow names an artifact as the file on disk is named.
            copy = Path(folder) / f"step_{step:08d}{path.suffix.lower()}"
            shutil.copyfile(path, copy)
            self._call("log_artifact", self.id, str(copy), f"figures/{safe_name(name)}")

    def log_curve(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """As ``curves/<name>.csv``, which MLflow shows as a table."""
        safe = Path(safe_name(name))
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / f"{safe.name}.csv"
            with table.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows([columns, *rows])
            self._call("log_artifact", self.id, str(table), (Path("curves") / safe.parent).as_posix())

    def log_artifact(self, path: Path, kind: str) -> None:
        """A copy, in the folder ``kind`` of the run's files."""
        self._call("log_artifact", self.id, str(path), safe_name(kind))

    def log_data_set(self, name: str, digest: str, splits: Mapping[str, int]) -> None:
        """As an input of the run; the same one again is the same input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, profile = json.dumps({"uri": str(self.run.config.get("data", ""))}), json.dumps(dict(splits))
        data_set = Dataset(name[:LONGEST_DATA_NAME], digest[:LONGEST_DIGEST], "local", source, profile=profile)
        given = DatasetInput(data_set, [InputTag("mlflow.data.context", "training")])
        self._call("log_inputs", self.id, datasets=[given])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Long values are cut. ``description`` is where MLflow shows it."""
        from mlflow.entities import RunTag

        named = {DESCRIPTION_TAG if name == "description" else _key(name): value for name, value in tags.items()}
        entries = [RunTag(name, str(value)[:LONGEST_TAG]) for name, value in named.items()]
        for start in range(0, len(entries), BATCH):
            self._call("log_batch", self.id, tags=entries[start : start + BATCH])

    def finish(self, status: str) -> None:
        """Close the run with MLflow's word for the status."""
        self._call("set_terminated", self.id, STATES[status], round(time.time() * 1000))

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.run.project)
        if found is None:
            return create_experiment(self.client, self.store, self.run.project)
        # A deleted experiment still holds its name, and takes no runs.
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _log_config(self, run: Run) -> None:
        """Parameters of MLflow never change: what a resumed run changes is noted in a tag and in config.json."""
        from mlflow.entities import Param

        wanted = {_key(name): _cut(value) for name, value in flatten(self.run.config).items()}
        params = [Param(name, value) for name, value in wanted.items() if name not in run.data.params]
        for start in range(0, len(params), BATCH):
            self._call("log_batch", self.id, params=params[start : start + BATCH])
        changed = sorted(name for name, value in wanted.items() if run.data.params.get(name, value) != value)
        if changed:
            self.set_tags({CHANGED_TAG: ", ".join(changed)})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.json"
            write_json(path, self.run.config)
            self._call("log_artifact", self.id, str(path))

    def _call(self, method: str, *arguments: Any, **named: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            getattr(self.client, method)(*arguments, **named)
        except MlflowException as error:
            # A value that MLflow refuses stays refused; other errors may pass.
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise Refused(str(error)) from error
            raise


def _key(name: str) -> str:
    """A name that MLflow takes: letters, digits and ``_-. :/``."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:LONGEST_KEY]


def _cut(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"
