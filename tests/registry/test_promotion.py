"""Promotion: the decision as a pure function, and what a kill between any two steps leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.registry import promotion
from marauder.registry.base import CANDIDATE, PREVIOUS, PRODUCTION, WITHHELD, Registry
from marauder.registry.files import FilesRegistry
from marauder.registry.promotion import Move, Override, decide, decide_rollback, promote, rollback
from marauder.testing.registries import PROJECT, candidate, judged, register
from models import made

NAMED = Override("Ada", "the deep slice has three pictures")
numbers = st.integers(1, 5).map(str)


@given(
    version=numbers,
    production=st.none() | numbers,
    verdict=st.sampled_from(["pass", "warn", "fail", "off", "nonsense"]),
    override=st.none() | st.just(NAMED) | st.just(Override("Ada", " ")) | st.just(Override("", "because")),
    withheld=st.sampled_from(["", "floor: has not learned yet"]),
)
def test_only_accepted_verdicts_or_a_named_override_move_anything(
    version: str, production: str | None, verdict: str, override: Override | None, withheld: str
) -> None:
    decision = decide(version, production, verdict, override, withheld)
    allowed = override == NAMED or (override is None and verdict in ("pass", "warn") and not withheld)
    assert (decision.refusal is None) == allowed
    if not allowed or version == production:
        assert decision.moves == ()
    else:
        assert decision.moves[-1] == Move(PRODUCTION, version)
        assert decision.moves[:-1] == ((Move(PREVIOUS, production),) if production else ())


@given(production=st.none() | numbers, previous=st.none() | numbers)
def test_rolling_back_twice_is_where_one_was(production: str | None, previous: str | None) -> None:
    decision = decide_rollback(production, previous)
    assert (decision.refusal is None) == (production is not None and previous not in (None, production))
    if decision.refusal is None:
        moved = {move.alias: move.version for move in decision.moves}
        again = decide_rollback(moved[PRODUCTION], moved[PREVIOUS])
        assert {move.alias: move.version for move in again.moves} == {PRODUCTION: production, PREVIOUS: previous}


def test_what_a_gate_withholds_is_promoted_by_name_only(registry: Registry, tmp_path: Path) -> None:
    offered = candidate(tmp_path / "untaught", "untaught", verdict="warn")
    why = "floor: has not learned yet: mAP50 is 0.003, below 0.05"
    registry.register(replace(offered, tags={**offered.tags, WITHHELD: why}))
    with pytest.raises(UserError, match=f"version 1 is not promoted: it is withheld: {why}") as refused:
        promote(registry, PROJECT, "1", "Ada")
    assert "--override --who NAME --why REASON" in str(refused.value)
    assert aliases(registry) == {} and registry.promotions(PROJECT) == []
    assert promote(registry, PROJECT, "1", "", override=NAMED).aliases == (PRODUCTION,)
    (entry,) = [one for one in registry.promotions(PROJECT) if one["state"] == "done"]
    assert (entry["override"], entry["who"], entry["why"]) == (True, NAMED.who, NAMED.why)


def test_a_candidate_that_was_withheld_is_said_to_be(registry: Registry, tmp_path: Path) -> None:
    offered = candidate(tmp_path, "a", verdict="warn")
    registry.register(replace(offered, tags={**offered.tags, WITHHELD: "floor: has not learned yet"}))
    with pytest.raises(UserError, match=r"version 1 \(run a\) was withheld: floor: has not learned yet") as refused:
        promote(registry, PROJECT, CANDIDATE, "Ada")
    assert "to promote it anyway, give version 1 with --override --who NAME --why REASON" in str(refused.value)
    register(registry, tmp_path, "b")
    with pytest.raises(UserError, match=r"no version, alias or run 'candidate'; there are: 1, 2"):
        promote(registry, PROJECT, CANDIDATE, "Ada")


def test_a_run_that_is_judged_again_is_promoted_by_its_new_verdict(registry: Registry, tmp_path: Path) -> None:
    (version,) = register(registry, tmp_path, "a")
    registry.judge_again(version, judged(tmp_path, "a", "fail"))
    with pytest.raises(UserError, match="gates say 'fail'"):
        promote(registry, PROJECT, "1", "Ada")
    registry.judge_again(version, judged(tmp_path, "a", "warn", {WITHHELD: "floor: has not learned yet"}))
    with pytest.raises(UserError, match="floor: has not learned yet"):
        promote(registry, PROJECT, "1", "Ada")
    registry.judge_again(version, judged(tmp_path, "a", "warn"))
    assert promote(registry, PROJECT, "1", "Ada").aliases == (PRODUCTION,)
    assert {one["verdict"] for one in registry.promotions(PROJECT)} == {"warn"}


class Events:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Mapping[str, Any]]] = []

    def emit(self, type: str, data: Mapping[str, Any]) -> None:
        self.seen.append((type.removeprefix("io.marauder.model."), dict(data)))


def aliases(registry: Registry) -> dict[str, str]:
    return {alias: one.version for one in registry.versions(PROJECT) for alias in one.aliases}


def test_promotions_and_a_rollback_in_every_registry(registry: Registry, tmp_path: Path) -> None:
    events = Events()
    register(registry, tmp_path, "a", "b")
    assert promote(registry, PROJECT, "a", "Ada", "first", emit=events.emit).aliases == (PRODUCTION,)
    assert promote(registry, PROJECT, "2", "Ada", emit=events.emit).version == "2"
    promote(registry, PROJECT, "2", "Ada", emit=events.emit)  # in production already: nothing happens
    assert aliases(registry) == {PRODUCTION: "2", PREVIOUS: "1"}
    assert rollback(registry, PROJECT, "Bob", "it misses rays", emit=events.emit).version == "1"
    assert aliases(registry) == {PRODUCTION: "1", PREVIOUS: "2"}
    assert [(kind, data["before"], data["version"]) for kind, data in events.seen] == [
        ("promoted", None, "1"),
        ("promoted", "1", "2"),
        ("rolled_back", "2", "1"),
    ]
    first, second = registry.versions(PROJECT)
    assert (first.tags["promoted_by"], first.tags["promoted_why"]) == ("Ada", "first")
    assert (second.tags["rolled_back_by"], second.tags["rolled_back_why"]) == ("Bob", "it misses rays")
    record = registry.promotions(PROJECT)
    assert [(entry["action"], entry["state"]) for entry in record] == [
        (action, state) for action in ("promote", "promote", "rollback") for state in ("begun", "done")
    ]


def test_the_gates_are_asked_and_an_override_is_recorded_everywhere(registry: Registry, tmp_path: Path) -> None:
    events = Events()
    register(registry, tmp_path, "a")
    register(registry, tmp_path, "b", verdict="fail")
    promote(registry, PROJECT, "1", "Ada")
    with pytest.raises(UserError, match=r"gates say 'fail'.*--override"):
        promote(registry, PROJECT, "2", "Ada", emit=events.emit)
    with pytest.raises(UserError, match="--who and --why"):
        promote(registry, PROJECT, "2", "Ada", override=Override("Ada", ""), emit=events.emit)
    assert aliases(registry) == {PRODUCTION: "1"} and events.seen == []
    promote(registry, PROJECT, "2", "x", override=NAMED, emit=events.emit)
    assert aliases(registry) == {PRODUCTION: "2", PREVIOUS: "1"}
    data = events.seen[0][1]
    assert (data["override"], data["who"], data["why"], data["verdict"]) == (True, NAMED.who, NAMED.why, "fail")
    tags = registry.versions(PROJECT)[1].tags
    assert (tags["promoted_override"], tags["promoted_by"], tags["promoted_why"]) == ("yes", NAMED.who, NAMED.why)
    entry = registry.promotions(PROJECT)[-1]
    assert (entry["override"], entry["who"], entry["why"]) == (True, NAMED.who, NAMED.why)


def test_what_cannot_be_rolled_back_is_told(tmp_path: Path) -> None:
    registry = made(tmp_path, "files", address=str(tmp_path / "registry"))
    with pytest.raises(UserError, match="no project"):
        rollback(registry, PROJECT, "Ada")
    register(registry, tmp_path, "a")
    with pytest.raises(UserError, match="nothing is in production"):
        rollback(registry, PROJECT, "Ada")
    promote(registry, PROJECT, "1", "Ada")
    with pytest.raises(UserError, match="no version is recorded before version 1"):
        rollback(registry, PROJECT, "Ada")


class Stop(BaseException):
    """A kill: nothing catches it."""


@pytest.mark.parametrize("moment", range(6))
def test_a_kill_between_any_two_steps_is_made_good_by_the_next_command(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    register(registry, tmp_path, "a", "b", "c")
    promote(registry, PROJECT, "1", "Ada")
    promote(registry, PROJECT, "2", "Ada")
    events = Events()
    left = moment

    def counted(step: Any) -> Any:
        def run(*arguments: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Stop
            left -= 1
            return step(*arguments)

        return run

    with monkeypatch.context() as patch:
        steps = ["append_promotion", "add_tags"]
        steps.append("move_aliases" if isinstance(registry, FilesRegistry) else "set_alias")
        for name in steps:
            patch.setattr(registry, name, counted(getattr(registry, name)))
        try:
            promote(registry, PROJECT, "3", "Ada", "better", emit=counted(events.emit))
            finished = True
        except Stop:
            finished = False
    state = aliases(registry)
    assert state[PRODUCTION] in ("2", "3") and state[PREVIOUS] in ("1", "2")
    if state[PRODUCTION] == "3":
        assert state[PREVIOUS] == "2", "a rollback must lead to the version that was replaced"
    moved = state[PRODUCTION] == "3"
    assert not promotion.settle(registry, PROJECT, events.emit) or not finished
    assert promotion.settle(registry, PROJECT, events.emit) == []
    told = [data for kind, data in events.seen if kind == "promoted"]
    assert {data["version"] for data in told} == ({"3"} if moved else set())
    assert len({data["id"] for data in told}) <= 1, "told twice, it is the same entry"
    if moved:
        assert registry.versions(PROJECT)[2].tags["promoted_why"] == "better"
    promote(registry, PROJECT, "3", "Ada", "better")
    assert aliases(registry) == {PRODUCTION: "3", PREVIOUS: "2"}
    states = [entry["state"] for entry in registry.promotions(PROJECT) if entry["version"] == "3"]
    assert states.count("done") == 1 and states[-1] == "done"


def test_a_version_whose_gates_were_not_asked_is_refused(tmp_path: Path) -> None:
    registry = made(tmp_path, "files", address=str(tmp_path / "registry"))
    registry.register(candidate(tmp_path, "a", verdict="off"))
    with pytest.raises(UserError, match="its gates were not run"):
        promote(registry, PROJECT, "1", "Ada")


def test_a_version_that_nobody_could_fetch_is_not_promoted(tmp_path: Path) -> None:
    registry = made(tmp_path, "files")
    register(registry, tmp_path, "a", "b")
    promote(registry, PROJECT, "1", "Ada")
    weights = tmp_path / "runs" / "registry" / "models" / PROJECT / "2" / "best.pt"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(UserError, match="missing"):
        promote(registry, PROJECT, "2", "Ada", override=NAMED)
    weights.write_bytes(content)
    promote(registry, PROJECT, "2", "Ada")
    (weights.parents[1] / "1" / "best.pt").unlink()
    with pytest.raises(UserError, match="missing"):
        rollback(registry, PROJECT, "Ada")
    production = registry.find(PROJECT, PRODUCTION)
    assert production is not None and production.version == "2"
    assert [entry["version"] for entry in registry.promotions(PROJECT)] == ["1", "1", "2", "2"]
