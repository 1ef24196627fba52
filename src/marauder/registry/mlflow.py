"""The registry of MLflow: a registered model per project, MLflow's own versions and aliases.

The files of a version are artifacts of the tracked run (found by its tag ``marauder.run_id``), or of a run made for
them where nothing was tracked. Without options it works on the embedded SQLite store that the tracker uses.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.errors import UserError
from marauder.core.files import fingerprint, to_plain
from marauder.core.locks import turn
from marauder.core.plain import Plain, PlainMapping
from marauder.registry.base import VERDICT, WITHHELD, Candidate, ModelVersion, Registry
from marauder.registry.record import (
    RECORD,
    VersionRecord,
    check_alias,
    check_project,
    inventory,
    make_record,
    must_be_folder,
)
from marauder.tracking.mlflow_moves import RUN_TAG
from marauder.tracking.mlflow_store import MlflowSettings, create_experiment, locate, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

OWN = "marauder."
PROMOTION_TAG, MODEL_TAG = f"{OWN}promotion.", f"{OWN}project"
FACTS = ("run_id", "weights_sha256", "verdict", "metrics", "folder")
"""What is in a version's tags under ``marauder.<name>``."""
FILES = "registered"
"""Folder of a run's artifacts with those of its versions."""
LONGEST_TAG = 5000
REGISTERING_SECONDS = 600.0


class MlflowRegistry(Registry):
    """MLflow's versions and aliases.

    On the embedded store registrations wait for one another; a server has no way to refuse the second of two that
    register the same run at the same moment, and then lists it twice.
    """

    name = "mlflow"
    title = "MLflow"
    settings_model = MlflowSettings
    settings: MlflowSettings

    def open(self, runs_folder: Path) -> None:
        """Locate the store."""
        self.place = locate(self.settings, runs_folder.absolute())

    def register(self, candidate: Candidate) -> ModelVersion:
        """Files first, then ``version.json`` with their list, then the version: MLflow creates it in one step."""
        project = check_project(candidate.project)
        files = inventory(candidate) if must_be_folder(candidate.folder) else {}
        with self._explained(), self._alone():
            for one in self._listed(project):
                facts = _facts(one)
                if (facts["run_id"], facts["weights_sha256"]) == (candidate.run_id, candidate.weights_sha256):
                    return self._version(one, self._aliases(project))
            run = self._run(candidate)
            folder = f"{FILES}/{candidate.weights_sha256[:12]}"
            record = make_record(candidate, "", time.time(), files)
            self._upload(run, candidate.folder, folder, record)
            self._ensure_model(project)
            facts = self._facts_of(candidate, record, folder)
            created = self._client.create_model_version(
                project,
                source=f"{run.info.artifact_uri}/{folder}",
                run_id=run.info.run_id,
                description=_description(candidate),
                tags={
                    **{name: value[:LONGEST_TAG] for name, value in record.tags.items()},
                    # Last, so that no tag of the run can take the place of a fact.
                    **{OWN + name: value for name, value in facts.items()},
                },
                # The files are there: nothing is left that MLflow's polling could wait for.
                await_creation_for=0,
            )
            return self._version(created, self._aliases(project))

    def projects(self) -> list[str]:
        """Registered models that Marauder made."""
        if self._is_unmade():
            return []
        with self._explained():
            models = self._pages("search_registered_models")
            return sorted(model.name for model in models if MODEL_TAG in model.tags and self._listed(model.name))

    def versions(self, project: str) -> list[ModelVersion]:
        """Versions that Marauder registered; aliases are read once."""
        check_project(project)
        if self._is_unmade():
            return []
        with self._explained():
            aliases = self._aliases(project)
            return [self._version(one, aliases) for one in self._listed(project)]

    def set_alias(self, project: str, alias: str, version: str | None) -> None:
        """MLflow's alias, set or removed in one transaction."""
        check_alias(alias)
        with self._explained():
            if version is None:
                if alias in self._aliases(project):
                    self._client.delete_registered_model_alias(project, alias)
                return
            self._must_be_there(project, version)
            self._client.set_registered_model_alias(project, alias, version)

    def add_tags(self, project: str, version: str, tags: Mapping[str, str]) -> None:
        """MLflow's tags of the version; what is longer than it takes is cut."""
        with self._explained():
            self._must_be_there(project, version)
            for name, value in tags.items():
                self._client.set_model_version_tag(project, version, name, str(value)[:LONGEST_TAG])

    def judge_again(self, version: ModelVersion, candidate: Candidate) -> None:
        """All files into a folder of their own, then the tag that names the version's folder, then the others."""
        files = inventory(candidate) if must_be_folder(candidate.folder) else {}
        with self._explained(), self._alone():
            self._must_be_there(version.project, version.version)
            found = self._client.get_model_version(version.project, version.version)
            record = make_record(candidate, "", version.created, files)
            folder = _facts(found)["folder"]
            if dict(self.files(version)) != files:
                folder = f"{FILES}/{candidate.weights_sha256[:12]}-{fingerprint(files)[:12]}"
                self._upload(self._client.get_run(str(found.run_id)), candidate.folder, folder, record)
            # The folder first: its files and its verdict are of one judgement, which the tags then repeat.
            facts = {OWN + name: value for name, value in self._facts_of(candidate, record, folder).items()}
            tags = {OWN + "folder": folder, **facts, **candidate.tags_again}
            for name, value in tags.items():
                self._client.set_model_version_tag(version.project, version.version, name, str(value)[:LONGEST_TAG])
            self._client.update_model_version(version.project, version.version, _description(candidate))

    def files(self, version: ModelVersion) -> Mapping[str, str]:
        """As listed in the version's ``version.json``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / RECORD
            try:
                self.fetch_file(version, RECORD, path)
            except FileNotFoundError as error:
                raise UserError(
                    f"{version.location}: the files of {version.project} version {version.version} are missing; "
                    "restore them from a copy, or register the run again"
                ) from error
            return VersionRecord.from_bytes(path.read_bytes(), f"{version.location}/{RECORD}").files

    def fetch_file(self, version: ModelVersion, name: str, path: Path) -> None:
        """An artifact of the version's run."""
        from mlflow.exceptions import MlflowException

        # Beside its goal, so that the move there is a rename.
        with self._explained(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
            found = self._client.get_model_version(version.project, version.version)
            source = f"{_facts(found)['folder']}/{name}"
            try:
                fetched = self._client.download_artifacts(str(found.run_id), source, folder)
            except (OSError, MlflowException) as error:
                # MLflow has no error of its own for a file that is missing.
                listed = self._client.list_artifacts(str(found.run_id), source.rpartition("/")[0])
                if source in (one.path for one in listed):
                    raise
                raise FileNotFoundError(f"{version.location}/{name}") from error
            shutil.move(fetched, path)

    def append_promotion(self, project: str, entry: PlainMapping) -> None:
        """A tag of the registered model under a name that no other entry has."""
        check_project(project)
        with self._explained():
            name = f"{PROMOTION_TAG}{time.time_ns():020d}.{uuid.uuid4().hex[:8]}"
            text = json.dumps(to_plain(dict(entry)), ensure_ascii=False, allow_nan=False)
            self._client.set_registered_model_tag(project, name, text)

    def promotions(self, project: str) -> list[Plain]:
        """Those tags, in the order of their names, which begin with the time."""
        if self._is_unmade():
            return []
        with self._explained():
            model = self._model(project)
        tags = {} if model is None else model.tags
        return [json.loads(tags[name]) for name in sorted(tags) if name.startswith(PROMOTION_TAG)]

    @cached_property
    def _client(self) -> MlflowClient:
        return open_client(self.place)

    def _is_unmade(self) -> bool:
        """Whether the embedded store is not there yet: looking into it must not make it."""
        return self.place.database is not None and not self.place.database.exists()

    def _alone(self) -> Any:
        if self.place.folder is None:
            return nullcontext()
        if self.place.is_read_only:
            raise self.place.explained(PermissionError("nothing can be written there"))
        lock = self.place.folder / ".registering.lock"
        return turn(lock, f"the registry {self.place.folder}", REGISTERING_SECONDS)

    def _run(self, candidate: Candidate) -> Run:
        experiments = self._pages("search_experiments")
        ids = [experiment.experiment_id for experiment in experiments]
        # In all experiments: the run may have been tracked under another one than the project's.
        found = self._client.search_runs(ids, f"tags.`{RUN_TAG}` = '{_quoted(candidate.run_id)}'", max_results=1)
        if found:
            return found[0]
        mine = [experiment.experiment_id for experiment in experiments if experiment.name == candidate.project]
        experiment = mine[0] if mine else create_experiment(self._client, self.place, candidate.project)
        run = self._client.create_run(experiment, tags={RUN_TAG: candidate.run_id}, run_name=candidate.run_id)
        self._client.set_terminated(run.info.run_id)  # nothing is running; files can still be added
        return run

    def _upload(self, run: Run, source: Path, folder: str, record: VersionRecord) -> None:
        for name in record.files:
            parent = f"{folder}/{name}".rpartition("/")[0]
            self._client.log_artifact(run.info.run_id, str(source / name), parent)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / RECORD
            path.write_bytes(record.to_bytes())
            self._client.log_artifact(run.info.run_id, str(path), folder)

    @staticmethod
    def _facts_of(candidate: Candidate, record: VersionRecord, folder: str) -> dict[str, str]:
        return {
            "run_id": candidate.run_id,
            "weights_sha256": candidate.weights_sha256,
            "verdict": candidate.verdict,
            "metrics": json.dumps(record.metrics),
            "folder": folder,
        }

    def _ensure_model(self, project: str) -> None:
        if self._model(project) is None:
            self._client.create_registered_model(project, tags={MODEL_TAG: project})
        else:
            # A model that somebody made by hand under this name becomes the project's.
            self._client.set_registered_model_tag(project, MODEL_TAG, project)

    def _model(self, project: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(check_project(project))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _aliases(self, project: str) -> dict[str, str]:
        model = self._model(project)
        return {} if model is None else {alias: str(version) for alias, version in model.aliases.items()}

    def _listed(self, project: str) -> list[MlflowVersion]:
        found = self._pages("search_model_versions", f"name = '{check_project(project)}'")
        return sorted((one for one in found if OWN + "weights_sha256" in one.tags), key=lambda one: int(one.version))

    def _must_be_there(self, project: str, version: str) -> None:
        if version not in [str(one.version) for one in self._listed(project)]:
            raise UserError(f"{project} has no version {version!r}; see: marauder registry list {project}")

    def _version(self, one: MlflowVersion, aliases: Mapping[str, str]) -> ModelVersion:
        facts = _facts(one)
        return ModelVersion(
            project=one.name,
            version=str(one.version),
            run_id=facts["run_id"],
            weights_sha256=facts["weights_sha256"],
            verdict=one.tags.get(VERDICT, facts["verdict"]),
            metrics=json.loads(facts["metrics"] or "{}"),
            tags={name: value for name, value in one.tags.items() if not name.startswith(OWN)},
            aliases=tuple(sorted(alias for alias, version in aliases.items() if version == str(one.version))),
            created=one.creation_timestamp / 1000,
            # MLflow never changes a version's source: it still names the files of the first judgement.
            location=f"{str(one.source).rpartition(f'/{FILES}/')[0]}/{facts['folder']}",
        )

    def _pages(self, method: str, *arguments: Any) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = getattr(self._client, method)(*arguments, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """MLflow's errors as ``UserError``."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, RequestException, SQLAlchemyError) as error:
            raise self.place.explained(error) from error


def _description(candidate: Candidate) -> str:
    withheld = candidate.tags.get(WITHHELD, "")
    return f"run {candidate.run_id}, gates: {candidate.verdict}" + (f"; withheld: {withheld}" if withheld else "")


def _facts(version: MlflowVersion) -> dict[str, str]:
    return {name: version.tags.get(OWN + name, "") for name in FACTS}


def _quoted(text: str) -> str:
    """For MLflow's filters, which know no escapes."""
    if "'" in text:
        raise UserError(f"{text!r} cannot be a run's id: leave the quotation mark out")
    return text
