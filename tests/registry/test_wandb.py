"""What W&B is told of the registry, read back from its offline runs with its own command."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marauder.core.errors import UserError
from marauder.registry import wandb as registry_wandb
from marauder.registry.base import PRODUCTION, WITHHELD
from marauder.registry.wandb import WandbRegistry
from marauder.testing.registries import PROJECT, judged, register
from models import made


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WandbRegistry:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    registry: WandbRegistry = made(tmp_path, "wandb")
    return registry


def artifacts(registry: WandbRegistry) -> list[dict[str, Any]]:
    """The artifacts of all offline runs, in the order they were logged."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json"]
    found = []
    for folder in sorted(
        (registry.folder / PROJECT / "wandb").glob("offline-run-*"), key=lambda one: one.stat().st_mtime
    ):
        shown = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True, timeout=60).stdout
        records = [json.loads(line) for line in shown.splitlines()]
        found += [one["artifact"] for one in records if one["type"] == "artifact"]
    return found


def collected(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent from now on, by a process that always succeeds."""
    orders: list[dict[str, Any]] = []

    def process(command: list[str], **arguments: Any) -> subprocess.CompletedProcess[str]:
        orders.append(json.loads(arguments["input"]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(registry_wandb.subprocess, "run", process)
    return orders


def told_by_an_earlier_version(registry: WandbRegistry, told: dict[str, list[str]]) -> None:
    """Which aliases W&B knows, as they were kept before runs could be judged again."""
    (registry.folder / PROJECT / "told.json").write_text(json.dumps(told))


def test_versions_and_moved_aliases_lie_ready_for_the_server(registry: WandbRegistry, tmp_path: Path) -> None:
    register(registry, tmp_path, "a")
    registry.set_alias(PROJECT, PRODUCTION, "1")
    registry.set_alias(PROJECT, PRODUCTION, "1")
    logged = artifacts(registry)
    assert [set(one["aliases"]) - {"latest"} for one in logged] == [{"marauder-1"}, {"marauder-1", PRODUCTION}]
    assert len({one["digest"] for one in logged}) == 1, "W&B must know it as the same version"
    entries = logged[0]["manifest"]["contents"]
    assert sorted(one["path"] for one in entries) == ["best.pt", "eval_report.json", "exported/model.onnx"]
    assert all(Path(one["local_path"]).is_file() for one in entries), "the files must be there when it is synced"
    assert {one["type"] for one in logged} == {"model"} and {one["name"] for one in logged} == {PROJECT}


def test_a_wandb_that_fails_is_told_later_and_stops_nothing(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    orders: list[dict[str, Any]] = []
    works = False

    def process(command: list[str], **arguments: Any) -> subprocess.CompletedProcess[str]:
        orders.append(json.loads(arguments["input"]))
        if len(orders) == 1:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, 0 if works else 1, "", "the network is away")

    monkeypatch.setattr(registry_wandb.subprocess, "run", process)
    register(registry, tmp_path, "a")
    register(registry, tmp_path, "b")
    registry.set_alias(PROJECT, PRODUCTION, "1")
    assert "no answer within" in caplog.text and "the network is away" in caplog.text
    assert [one.aliases for one in registry.versions(PROJECT)] == [(PRODUCTION,), ()]
    works = True
    registry.set_alias(PROJECT, PRODUCTION, "2")
    told = [sorted(one["artifact"]["aliases"]) for one in orders[-2:]]
    assert told == [["marauder-1"], ["marauder-2", PRODUCTION]]
    asked = len(orders)
    assert registry.tell(PROJECT) and len(orders) == asked, "what it knows is not told again"
    registry.set_alias(PROJECT, PRODUCTION, "1")
    assert len(orders) == asked + 1 and sorted(orders[-1]["artifact"]["aliases"]) == ["marauder-1", PRODUCTION]


def test_a_run_that_is_judged_again_is_told_with_its_new_files(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = collected(monkeypatch)
    (version,) = register(registry, tmp_path, "a")
    registry.judge_again(version, judged(tmp_path, "a", overall=0.25))
    assert len(orders) == 2, "another report is other content"
    registry.judge_again(version, judged(tmp_path, "a", "warn", {WITHHELD: "floor: has not learned yet"}, overall=0.25))
    told = orders[-1]["artifact"]
    assert told["description"] == "run a, gates: warn; withheld: floor: has not learned yet"
    assert (told["metadata"]["verdict"], told["aliases"]) == ("warn", ["marauder-1"])
    assert json.loads((Path(told["folder"]) / "eval_report.json").read_text()) == {"overall": 0.25}
    registry.judge_again(version, judged(tmp_path, "a", "warn", {WITHHELD: "floor: has not learned yet"}, overall=0.25))
    assert len(orders) == 3, "the same judgement is not told twice"


def test_what_an_earlier_version_sent_is_not_sent_again(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = collected(monkeypatch)
    versions = register(registry, tmp_path, "a", "b")
    former = {"1": ["marauder-1"], "2": ["marauder-2"]}
    told_by_an_earlier_version(registry, former)
    assert registry.tell(PROJECT) and len(orders) == 2
    registry.set_alias(PROJECT, PRODUCTION, "2")
    assert [one["artifact"]["aliases"] for one in orders[2:]] == [["marauder-2", PRODUCTION]]
    told_by_an_earlier_version(registry, former)
    registry.judge_again(versions[0], judged(tmp_path, "a", "fail"))
    sent = {one["artifact"]["aliases"][0]: one["artifact"]["metadata"]["verdict"] for one in orders[3:]}
    assert sent == {"marauder-1": "fail", "marauder-2": "pass"}, "the one judged again, and the one with a new alias"


def test_what_was_sent_before_a_failure_is_not_sent_again(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collected(monkeypatch)
    register(registry, tmp_path, "a", "b", "c")
    (registry.folder / PROJECT / "told.json").unlink()
    sent: list[str] = []
    clock = 0.0

    def slow(command: list[str], **arguments: Any) -> subprocess.CompletedProcess[str]:
        nonlocal clock
        clock += 200
        if len(sent) == 1 and clock < 500:
            raise subprocess.TimeoutExpired(command, 1)
        sent.append(json.loads(arguments["input"])["artifact"]["aliases"][0])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(registry_wandb.subprocess, "run", slow)
    with monkeypatch.context() as patch:
        patch.setattr(registry_wandb.time, "monotonic", lambda: clock)
        assert not registry.tell(PROJECT) and sent == ["marauder-1"]
        assert registry.tell(PROJECT) and sent == ["marauder-1", "marauder-2", "marauder-3"]
        (registry.folder / PROJECT / "told.json").unlink()
        caplog.clear()
        assert not registry.tell(PROJECT) and sent[3:] == ["marauder-1", "marauder-2"], "a command must end"
        assert "not all versions were sent within 300 s" in caplog.text
        assert registry.tell(PROJECT) and sent[5:] == ["marauder-3"]


def test_a_judgement_that_changes_back_after_a_failure_is_sent_again(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = collected(monkeypatch)
    (version,) = register(registry, tmp_path, "a")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry_wandb.subprocess, "run", killed)
        registry.judge_again(version, judged(tmp_path, "a", "fail"))
    registry.judge_again(version, judged(tmp_path, "a"))
    assert [one["artifact"]["metadata"]["verdict"] for one in orders] == ["pass", "pass"], "W&B may have the other one"


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_mode_follows_the_key_and_a_wrong_one_is_told(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert registry.settings.mode == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert made(tmp_path, "wandb").settings.mode == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert made(tmp_path, "wandb").settings.mode == "offline"
    with pytest.raises(UserError, match=r"registry\.options\.mode.*offline"):
        made(tmp_path, "wandb", mode="shared")
