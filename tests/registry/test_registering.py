"""Registering beside others: the tracked run of MLflow, and several processes at once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from marauder.core.files import read_json
from marauder.core.plain import Plain
from marauder.registry import objects
from marauder.registry.base import WITHHELD
from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings
from marauder.testing.registries import PROJECT, candidate, judged
from marauder.tracking.mlflow_moves import RUN_TAG
from marauder.tracking.mlflow_store import MlflowSettings, locate, open_client
from models import made


@pytest.fixture
def runs(tmp_path: Path, mlflow_database: Path) -> Path:
    (tmp_path / "runs" / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_database, tmp_path / "runs" / "mlflow")
    return tmp_path / "runs"


def test_the_version_belongs_to_the_tracked_run(runs: Path, tmp_path: Path) -> None:
    client = open_client(locate(MlflowSettings(), runs))
    experiment = client.create_experiment("another", artifact_location=str(tmp_path / "artifacts"))
    tracked = client.create_run(experiment, tags={RUN_TAG: "run-a"})
    registry = made(tmp_path, "mlflow")
    registry.register(candidate(tmp_path, "run-a"))
    registry.register(candidate(tmp_path, "run-b"))
    first, second = (client.get_model_version(PROJECT, number) for number in ("1", "2"))
    assert first.run_id == tracked.info.run_id
    own = client.get_run(str(second.run_id))
    assert own.data.tags[RUN_TAG] == "run-b" and own.info.status == "FINISHED"
    experiment_of_project = client.get_experiment_by_name(PROJECT)
    assert experiment_of_project is not None and own.info.experiment_id == experiment_of_project.experiment_id


@pytest.mark.parametrize("kind", ["files", "mlflow"])
def test_of_several_that_register_at_once_each_run_is_one_version(kind: str, runs: Path, tmp_path: Path) -> None:
    offered = [candidate(tmp_path, run) for run in ("a", "b", "c") for _ in range(2)]

    def register(index: int) -> str:
        registry = open_registry(RegistrySettings(kind=kind), runs)
        assert registry is not None
        return registry.register(offered[index]).version

    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(register, range(6)))
    assert numbers[::2] == numbers[1::2] and sorted(numbers[::2]) == ["1", "2", "3"]


def test_a_version_is_whole_where_judging_it_again_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = made(tmp_path, "files")
    version = registry.register(candidate(tmp_path, "a", overall=0.5))
    before = registry.files(version)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(objects, "update", cut_short)
        registry.judge_again(version, judged(tmp_path, "a", "fail", overall=0.25))
    (kept,) = registry.versions(PROJECT)
    assert kept == version and registry.files(kept) == before
    registry.fetch(kept, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "eval_report.json").read_text() == '{"overall": 0.5}'
    registry.judge_again(version, judged(tmp_path, "a", "fail", overall=0.25))
    registry.fetch(version, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "eval_report.json").read_text() == '{"overall": 0.25}'


def cut_short(*_: object) -> None:
    raise KeyboardInterrupt


def test_mlflow_describes_a_version_by_its_last_judgement(runs: Path, tmp_path: Path) -> None:
    registry = made(tmp_path, "mlflow")
    version = registry.register(candidate(tmp_path, "a"))
    client = open_client(locate(MlflowSettings(), runs))
    assert client.get_model_version(PROJECT, "1").description == "run a, gates: pass"
    registry.judge_again(version, judged(tmp_path, "a", "warn", {WITHHELD: "floor: too few pictures to tell"}))
    described = client.get_model_version(PROJECT, "1").description
    assert described == "run a, gates: warn; withheld: floor: too few pictures to tell"


def test_the_location_in_mlflow_is_that_of_the_latest_files(runs: Path, tmp_path: Path) -> None:
    registry = made(tmp_path, "mlflow")
    version = registry.register(candidate(tmp_path, "a", overall=0.5))
    assert report_in(version.location) == {"overall": 0.5}
    registry.judge_again(version, judged(tmp_path, "a", overall=0.25))
    (again,) = registry.versions(PROJECT)
    assert report_in(again.location) == {"overall": 0.25}
    source = open_client(locate(MlflowSettings(), runs)).get_model_version(PROJECT, "1").source
    assert report_in(str(source)) == {"overall": 0.5}, "what docs/registry.md says of MLflow's own address"


def report_in(location: str) -> Plain:
    report: Plain = read_json(Path(url2pathname(urlsplit(location).path)) / "eval_report.json")
    return report
