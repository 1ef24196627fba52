"""The contract of registries, and finished runs to register, as small as can be."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marauder.core.errors import UserError
from marauder.registry.base import CANDIDATE, PREVIOUS, PRODUCTION, WITHHELD, Candidate, ModelVersion, Registry
from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings

PROJECT = "reef-fish"


def candidate(folder: Path, run_id: str, verdict: str = "pass", project: str = PROJECT, **report: Any) -> Candidate:
    """A run in ``folder/run_id`` with weights, an export and a report."""
    folder = folder / run_id
    (folder / "exported").mkdir(parents=True, exist_ok=True)
    weights = f"weights of {run_id}".encode() * 1000
    (folder / "best.pt").write_bytes(weights)
    (folder / "exported" / "model.onnx").write_bytes(b"onnx")
    (folder / "eval_report.json").write_text(json.dumps(report))
    metrics = {"map50": 0.5 + len(run_id) / 100}
    tags = {"data": "abc", "note": "größer"}
    return Candidate(project, run_id, folder, hashlib.sha256(weights).hexdigest(), verdict, metrics, tags)


def judged(
    folder: Path, run_id: str, verdict: str = "pass", tags: Mapping[str, str] | None = None, **report: Any
) -> Candidate:
    """The same run and weights as those of ``candidate``, judged again, with another report."""
    again = candidate(folder, run_id, verdict, **report)
    return replace(again, tags={**again.tags, **(tags or {})})


def register(registry: Registry, folder: Path, *runs: str, verdict: str = "pass") -> list[ModelVersion]:
    """The versions that these runs become."""
    return [registry.register(candidate(folder, run, verdict)) for run in runs]


def sha256(content: bytes) -> str:
    """Of the content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


class RegistryContract:
    """What every registry does. A subclass gives ``settings``, those of an empty one; runs lie in ``tmp_path/runs``."""

    @pytest.fixture
    def settings(self) -> RegistrySettings:
        """Of an empty registry."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self, settings: RegistrySettings, tmp_path: Path) -> Registry:
        """The registry itself."""
        found = open_registry(settings, tmp_path / "runs")
        assert found is not None
        return found

    def test_a_registered_run_is_a_version_with_all_that_was_said_of_it(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        offered = candidate(tmp_path, "run-a", verdict="warn")
        version = registry.register(offered)
        assert (version.project, version.version, version.run_id) == (PROJECT, "1", "run-a")
        assert (version.weights_sha256, version.verdict) == (offered.weights_sha256, "warn")
        assert version.metrics == offered.metrics and version.tags == offered.tags and version.aliases == ()
        assert abs(version.created - time.time()) < 60
        assert registry.versions(PROJECT) == [version]
        assert registry.projects() == [PROJECT]

    def test_the_same_run_and_weights_are_the_same_version(self, registry: Registry, tmp_path: Path) -> None:
        first, second = register(registry, tmp_path, "a", "b")
        assert register(registry, tmp_path, "a", "b") == [first, second]
        other = candidate(tmp_path / "again", "a", verdict="fail")
        (other.folder / "best.pt").write_bytes(b"trained further")
        third = registry.register(replace(other, weights_sha256=sha256(b"trained further")))
        assert [one.version for one in registry.versions(PROJECT)] == ["1", "2", "3"]
        assert registry.find(PROJECT, "a") == third, "of several versions of a run, the newest"

    def test_versions_stand_in_their_order_beyond_nine(self, registry: Registry, tmp_path: Path) -> None:
        register(registry, tmp_path, *"abcdefghijk")
        assert [one.version for one in registry.versions(PROJECT)] == [str(number) for number in range(1, 12)]
        assert [one.run_id for one in registry.versions(PROJECT)] == list("abcdefghijk")

    def test_aliases_move(self, registry: Registry, tmp_path: Path) -> None:
        register(registry, tmp_path, "a", "b")
        registry.set_alias(PROJECT, CANDIDATE, "2")
        registry.set_alias(PROJECT, PRODUCTION, "1")
        assert [one.aliases for one in registry.versions(PROJECT)] == [(PRODUCTION,), (CANDIDATE,)]
        registry.move_aliases(PROJECT, {PREVIOUS: "1", PRODUCTION: "2"})
        assert [one.aliases for one in registry.versions(PROJECT)] == [(PREVIOUS,), (CANDIDATE, PRODUCTION)]
        registry.set_alias(PROJECT, CANDIDATE, None)
        registry.set_alias(PROJECT, CANDIDATE, None)
        production = registry.find(PROJECT, PRODUCTION)
        assert production is not None and (production.version, production.aliases) == ("2", (PRODUCTION,))
        assert registry.find(PROJECT, CANDIDATE) is None
        assert registry.find(PROJECT, "1") == registry.find(PROJECT, "a") == registry.find(PROJECT, PREVIOUS)
        for wrong in ("3", "0", "../1", "best.pt", ""):
            with pytest.raises(UserError, match="no version"):
                registry.set_alias(PROJECT, PRODUCTION, wrong)
        for wrong in ("", "7", "latest", "v3", "Production", "a/b"):
            with pytest.raises(UserError, match="cannot be an alias"):
                registry.set_alias(PROJECT, wrong, "1")

    def test_what_is_not_there(self, registry: Registry, tmp_path: Path) -> None:
        assert registry.projects() == [] and registry.versions("nothing") == []
        assert registry.find("nothing", "1") is None and registry.find("nothing", PRODUCTION) is None
        assert registry.promotions("nothing") == []
        with pytest.raises(UserError, match="projects: none yet"):
            registry.require("nothing", "1")
        with pytest.raises(UserError, match="no version"):
            registry.add_tags("nothing", "1", {"a": "b"})
        register(registry, tmp_path, "a")
        with pytest.raises(UserError, match="there are: 1"):
            registry.require(PROJECT, "9")

    @pytest.mark.parametrize("project", ["", "a/b", "..", ".hidden", "a b", "größe", "x" * 64, "-a", "a\n"])
    def test_names_that_are_none_are_refused(self, registry: Registry, tmp_path: Path, project: str) -> None:
        offered = replace(candidate(tmp_path, "a"), project=project)
        for attempt in (
            lambda: registry.register(offered),
            lambda: registry.versions(project),
            lambda: registry.set_alias(project, PRODUCTION, "1"),
            lambda: registry.append_promotion(project, {}),
        ):
            with pytest.raises(UserError, match="cannot be a project's name"):
                attempt()

    def test_tags_are_added_and_replaced(self, registry: Registry, tmp_path: Path) -> None:
        register(registry, tmp_path, "a", "b")
        registry.add_tags(PROJECT, "1", {"note": "new", "promoted_by": "Ada"})
        first, second = registry.versions(PROJECT)
        assert first.tags == {"data": "abc", "note": "new", "promoted_by": "Ada"}
        assert second.tags == {"data": "abc", "note": "größer"}

    def test_the_last_judgement_of_a_run_counts(self, registry: Registry, tmp_path: Path) -> None:
        first, second = register(registry, tmp_path, "a", "b")
        registry.set_alias(PROJECT, PRODUCTION, "1")
        registry.judge_again(first, judged(tmp_path, "a", "fail", {"key": "other gates"}))
        registry.judge_again(second, judged(tmp_path, "b", "warn", {WITHHELD: "floor: has not learned yet"}))
        first, kept = registry.versions(PROJECT)
        assert (first.verdict, first.is_offered, first.aliases) == ("fail", False, (PRODUCTION,))
        assert first.tags["key"] == "other gates" and first.tags["data"] == "abc"
        assert (kept.verdict, kept.is_offered, kept.withheld) == ("warn", False, "floor: has not learned yet")
        registry.judge_again(kept, judged(tmp_path, "b", "pass"))
        again = registry.find(PROJECT, "2")
        assert again is not None and (again.verdict, again.is_offered) == ("pass", True)
        assert again.metrics == second.metrics and registry.files(again) == registry.files(second)

    def test_files_and_figures_are_those_of_the_last_judgement(self, registry: Registry, tmp_path: Path) -> None:
        version = registry.register(candidate(tmp_path, "a", overall={"map50": 0.5}))
        for value in (0.25, 0.125, 0.25):
            registry.judge_again(version, replace(judged(tmp_path, "a", overall=value), metrics={"map50": value}))
            (now,) = registry.versions(PROJECT)
            assert (now.version, now.weights_sha256) == (version.version, version.weights_sha256)
            assert now.metrics == {"map50": value} and abs(now.created - version.created) < 1
            folder = tmp_path / f"fetched {value}"
            assert registry.fetch(now, folder) == folder / "best.pt"
            assert json.loads((folder / "eval_report.json").read_text()) == {"overall": value}
        lacking = judged(tmp_path, "a")
        (lacking.folder / "exported" / "model.onnx").unlink()
        registry.judge_again(version, lacking)
        assert sorted(registry.files(version)) == ["best.pt", "eval_report.json"]
        other = judged(tmp_path, "a")
        (other.folder / "best.pt").write_bytes(b"other weights")
        with pytest.raises(UserError, match="is not the file that was evaluated"):
            registry.judge_again(version, other)

    def test_fetched_files_are_the_registered_ones(self, registry: Registry, tmp_path: Path) -> None:
        offered = candidate(tmp_path, "a", overall={"map50": 0.5})
        version = registry.register(offered)
        assert sorted(registry.files(version)) == ["best.pt", "eval_report.json", "exported/model.onnx"]
        weights = registry.fetch(version, tmp_path / "fetched")
        assert weights == tmp_path / "fetched" / "best.pt"
        for name in registry.files(version):
            assert (tmp_path / "fetched" / name).read_bytes() == (offered.folder / name).read_bytes()
        registry.fetch(version, tmp_path / "one", names=("eval_report.json",))
        assert [path.name for path in (tmp_path / "one").iterdir()] == ["eval_report.json"]
        with pytest.raises(UserError, match="has no file"):
            registry.fetch(version, tmp_path / "one", names=("../best.pt",))

    def test_a_damaged_file_is_not_taken(
        self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = registry.register(candidate(tmp_path, "a"))
        real = registry.fetch_file

        def damaged(version: object, name: str, path: Path) -> None:
            real(version, name, path)  # type: ignore[arg-type]
            if name == "best.pt":
                path.write_bytes(path.read_bytes()[:-1] + b"!")

        monkeypatch.setattr(registry, "fetch_file", damaged)
        with pytest.raises(UserError, match=r"best\.pt: is damaged"):
            registry.fetch(version, tmp_path / "fetched")
        assert not (tmp_path / "fetched" / "best.pt").exists()
        with pytest.raises(UserError, match=r"does not fit the weights|are gone"):
            registry.fetch(replace(version, weights_sha256="0" * 64), tmp_path / "fetched")

    def test_weights_that_were_not_the_judged_ones_are_refused(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is not the file that was evaluated"):
            registry.register(replace(candidate(tmp_path, "a"), weights_sha256="0" * 64))
        (tmp_path / "a" / "best.pt").unlink()
        with pytest.raises(UserError, match=r"holds no best\.pt or backbone"):
            registry.register(replace(candidate(tmp_path, "b"), folder=tmp_path / "a"))
        with pytest.raises(UserError, match="no such folder"):
            registry.register(replace(candidate(tmp_path, "b"), folder=tmp_path / "gone"))
        assert registry.versions(PROJECT) == []

    def test_the_record_of_promotions_only_grows(self, registry: Registry, tmp_path: Path) -> None:
        register(registry, tmp_path, "a")
        entries = [{"id": str(number), "why": "weiß nicht: {\"}'\n", "override": number == 1} for number in range(3)]
        for entry in entries:
            registry.append_promotion(PROJECT, entry)
        assert registry.promotions(PROJECT) == entries

    def test_readers_always_see_exactly_one_production(
        self, registry: Registry, settings: RegistrySettings, tmp_path: Path
    ) -> None:
        register(registry, tmp_path, "a", "b")
        registry.set_alias(PROJECT, PRODUCTION, "1")
        seen: list[list[str]] = []
        done = threading.Event()

        def look() -> None:
            # One of its own, as another process has: nothing that the writer remembers helps it.
            mine = open_registry(settings, tmp_path / "runs")
            assert mine is not None
            while not done.is_set():
                seen.append([one.version for one in mine.versions(PROJECT) if PRODUCTION in one.aliases])

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for number in range(20):
                registry.set_alias(PROJECT, PRODUCTION, str(number % 2 + 1))
        finally:
            done.set()
            reader.join()
        assert len(seen) > 1 and all(len(versions) == 1 for versions in seen)
