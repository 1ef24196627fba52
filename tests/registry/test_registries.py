"""The contract of registries, the same for every kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import marauder
from marauder.registry.base import ModelVersion, Registry
from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings
from marauder.testing.registries import PROJECT, RegistryContract, candidate, judged

SOURCES = str(Path(marauder.__file__).parents[1])


class TestEveryRegistry(RegistryContract):
    """The registries of ``conftest.settings``."""

    @pytest.fixture
    def settings(self, settings: RegistrySettings) -> RegistrySettings:
        return settings

    def test_a_registration_killed_at_any_file_is_finished_by_the_next(
        self, registry: Registry, settings: RegistrySettings, tmp_path: Path
    ) -> None:
        for number, moment in enumerate(("first", "last")):
            offered = candidate(tmp_path, f"run-{moment}")
            code = subprocess.run(
                [sys.executable, __file__, settings.model_dump_json(), str(tmp_path), offered.run_id, moment],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, str(Path(__file__).parent)])},
                check=False,
            ).returncode
            assert code == -signal.SIGKILL
            assert len(registry.versions(PROJECT)) == number, "half a version must not show"
            version = registry.register(offered)
            assert version.version == str(number + 1)
            registry.fetch(version, tmp_path / f"fetched-{moment}")

    def test_a_run_judged_again_while_it_is_fetched_arrives_with_its_new_files(
        self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = registry.register(candidate(tmp_path, "a", overall=0.5))
        changed, shortened = judged(tmp_path / "changed", "a", overall=0.25), judged(tmp_path / "short", "a")
        (shortened.folder / "exported" / "model.onnx").unlink()
        again = [changed, shortened]
        real = registry.fetch_file

        def meanwhile(version: ModelVersion, name: str, path: Path) -> None:
            # Another process, between the reading of the list and that of the report, then of the export.
            if again and name == ("eval_report.json" if len(again) == 2 else "exported/model.onnx"):
                registry.judge_again(version, again.pop(0))
            real(version, name, path)

        monkeypatch.setattr(registry, "fetch_file", meanwhile)
        registry.fetch(version, tmp_path / "fetched", ("eval_report.json",))
        assert json.loads((tmp_path / "fetched" / "eval_report.json").read_text()) == {"overall": 0.25}
        weights = registry.fetch(version, tmp_path / "again")
        assert not again and weights.is_file()
        report = json.loads((tmp_path / "again" / "eval_report.json").read_text())
        exported = (tmp_path / "again" / "exported" / "model.onnx").exists()
        # Where the former files stay within reach, a fetch may end with them: the files are of one judgement.
        assert (report, exported) in [({}, False), ({"overall": 0.25}, True)]


def main() -> None:
    """Register a run and die after the first file, or before the version is made."""
    settings, folder, run_id, moment = sys.argv[1:]
    registry = open_registry(RegistrySettings(**json.loads(settings)), Path(folder) / "runs")
    assert registry is not None
    put: object
    if hasattr(registry, "store"):
        owner, name = registry.store, "put"
    else:
        owner, name = registry._client, "log_artifact"  # type: ignore[attr-defined]
    put = getattr(owner, name)
    calls = {"first": 1, "last": 3}[moment]

    def dying(*arguments: object) -> object:
        nonlocal calls
        answer = put(*arguments)  # type: ignore[operator]
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, dying)
    registry.register(candidate(Path(folder), run_id))


if __name__ == "__main__":
    main()
