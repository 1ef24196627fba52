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
    told = [sorted(one["aliases"]) for one in orders[-1]["artifacts"]]
    assert told == [["marauder-1"], ["marauder-2", PRODUCTION]]
    asked = len(orders)
    assert registry.tell(PROJECT) and len(orders) == asked, "what it knows is not told again"
    registry.set_alias(PROJECT, PRODUCTION, "1")
    assert [sorted(one["aliases"]) for one in orders[-1]["artifacts"]] == [["marauder-1", PRODUCTION]]


def test_a_run_that_is_judged_again_is_told_with_its_new_files(
    registry: WandbRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[dict[str, Any]] = []

    def process(command: list[str], **arguments: Any) -> subprocess.CompletedProcess[str]:
        orders.append(json.loads(arguments["input"]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(registry_wandb.subprocess, "run", process)
    (version,) = register(registry, tmp_path, "a")
    registry.judge_again(version, judged(tmp_path, "a", overall=0.25))
    assert len(orders) == 2, "another report is other content"
    registry.judge_again(version, judged(tmp_path, "a", "warn", {WITHHELD: "floor: has not learned yet"}, overall=0.25))
    (told,) = orders[-1]["artifacts"]
    assert told["description"] == "run a, gates: warn; withheld: floor: has not learned yet"
    assert (told["metadata"]["verdict"], told["aliases"]) == ("warn", ["marauder-1"])
    assert json.loads((Path(told["folder"]) / "eval_report.json").read_text()) == {"overall": 0.25}
    registry.judge_again(version, judged(tmp_path, "a", "warn", {WITHHELD: "floor: has not learned yet"}, overall=0.25))
    assert len(orders) == 3, "the same judgement is not told twice"


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
