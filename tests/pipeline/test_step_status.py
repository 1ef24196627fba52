"""The decision where a step stands: a pure function, tried on every kind of fact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.pipeline.graph import discover
from marauder.pipeline.record import StepRecord
from marauder.pipeline.status import Change, Facts, State, decide, flatten, reports_of, setting_differences
from marauder.pipeline.step import Step

RECORD = StepRecord(
    state="done", version=1, settings={"epochs": 5}, inputs={"data set": "aa"}, started=1.0, seconds=2.0
)
FACTS = Facts(settings={"epochs": 5}, defaults={"epochs": 3}, version=1, inputs={"data set": "aa"}, record=RECORD)


def words(changes: list[Change]) -> list[str]:
    return [change.words for change in changes]


def recorded(**changes: Any) -> StepRecord:
    return RECORD.model_copy(update=changes)


def test_reports_are_found_in_what_a_step_tells() -> None:
    told = {"map50": 0.5, "report": "a.html", "nano": {"energy": "pass", "report": "b.html"}, "reef report": "c.html",
            "reported": "never", "shore": {"report": None}}  # fmt: skip
    assert reports_of(told) == {"report": "a.html", "nano.report": "b.html", "reef report": "c.html"}


def test_same_settings_inputs_and_outputs_are_done() -> None:
    assert decide(FACTS).state == State.DONE


def test_a_step_that_never_ran_is_ready_once_its_input_is_there() -> None:
    assert decide(replace(FACTS, record=None)).state == State.READY
    waiting = decide(replace(FACTS, record=None, inputs={}, missing={"data set": "put one into images"}))
    assert waiting.state == State.WAITING
    assert waiting.reasons == ("for data set: put one into images",)


def test_an_unfinished_producer_is_waited_for() -> None:
    waiting = decide(replace(FACTS, producers={"preprocessing": State.STALE, "scenes": State.DONE}))
    assert waiting.state == State.WAITING
    assert waiting.reasons == ("for preprocessing (stale)",)


def test_a_changed_setting_makes_it_stale_and_is_named() -> None:
    stale = decide(replace(FACTS, settings={"epochs": 8}))
    assert (stale.state, stale.reasons, stale.fresh) == (State.STALE, ("epochs: 5 → 8",), True)


def test_a_changed_input_makes_it_stale_and_is_named() -> None:
    stale = decide(replace(FACTS, inputs={"data set": "bb", "weights": "cc"}))
    assert (stale.state, stale.reasons) == (State.STALE, ("input changed: data set", "new input: weights"))


def test_a_new_version_of_the_step_makes_it_stale() -> None:
    assert "version 1 → 2" in decide(replace(FACTS, version=2)).reasons[0]


def test_a_lost_output_makes_it_stale_without_starting_over() -> None:
    stale = decide(replace(FACTS, output_problems=("output is gone: best.pt",)))
    assert (stale.state, stale.reasons, stale.fresh) == (State.STALE, ("output is gone: best.pt",), False)


def test_a_finished_step_does_not_mind_that_its_raw_input_was_cleared_away() -> None:
    done = decide(replace(FACTS, inputs={}, missing={"data set": "put one into images"}))
    assert (done.state, done.reasons) == (State.DONE, ("its input is gone: data set",))


def test_a_record_of_running_means_running_only_while_the_lock_is_held() -> None:
    running = recorded(state="running")
    assert decide(replace(FACTS, record=running, locked=True)).state == State.RUNNING
    killed = decide(replace(FACTS, record=running))
    assert (killed.state, killed.reasons, killed.fresh) == (State.INTERRUPTED, ("was killed while it ran",), False)


def test_interrupted_work_goes_on_unless_something_changed() -> None:
    stopped = recorded(state="interrupted", message="SIGTERM received")
    assert decide(replace(FACTS, record=stopped)).reasons == ("SIGTERM received",)
    changed = decide(replace(FACTS, record=stopped, settings={"epochs": 6}))
    assert changed.state == State.INTERRUPTED
    assert changed.fresh and changed.reasons == ("SIGTERM received", "starts over: epochs: 5 → 6")


def test_a_setting_that_extends_the_work_does_not_start_it_over() -> None:
    extended = decide(replace(FACTS, settings={"epochs": 8}, continued=frozenset({"epochs"})))
    assert (extended.state, extended.fresh) == (State.STALE, False)
    both = replace(FACTS, settings={"epochs": 8}, inputs={"data set": "bb"}, continued=frozenset({"epochs"}))
    assert decide(both).fresh


def test_a_start_over_that_was_killed_before_it_cleared_away_starts_over_again() -> None:
    assert decide(replace(FACTS, record=recorded(state="running", fresh=True))).fresh


def test_a_failure_is_shown_with_its_message() -> None:
    failed = decide(replace(FACTS, record=recorded(state="failed", message="loss is not finite")))
    assert (failed.state, failed.reasons) == (State.FAILED, ("loss is not finite",))


def test_an_optional_step_without_a_section_is_off() -> None:
    assert decide(replace(FACTS, configured=False)).state == State.OFF


def test_a_setting_newer_than_the_record_counts_only_away_from_its_default() -> None:
    assert setting_differences({}, {"mixup": 0.0}, {"mixup": 0.0}) == []
    assert words(setting_differences({}, {"mixup": 0.1}, {"mixup": 0.0})) == ["mixup: not set → 0.1"]
    assert words(setting_differences({"gone": 1}, {}, {})) == ["gone: 1 → no longer set"]


leaves = st.integers(0, 3) | st.text("ab", max_size=2)
settings = st.dictionaries(
    st.text("xyz", min_size=1, max_size=2),
    leaves | st.dictionaries(st.text("uv", min_size=1, max_size=2), leaves, max_size=3),
    max_size=4,
)


@given(settings, settings)
def test_differences_name_exactly_the_leaves_that_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    before, after = flatten(one), flatten(other)
    named = {change.setting for change in setting_differences(before, after, {})}
    missing = object()
    assert named == {name for name in {*before, *after} if before.get(name, missing) != after.get(name, missing)}


TRAINING = ("pretraining", "baseline", "critical", "multiscale")


@pytest.mark.parametrize("step", [step for step in discover() if step.name in TRAINING])
def test_more_epochs_are_not_a_finished_step(step: Step) -> None:
    assert {"training.epochs", "training.patience"} <= step.continued()
    assert not {"training.epochs", "training.optimizer.learning_rate", "project"} & step.without_effect()
    assert {"training.workers", "processes", "tracking.trackers", "store"} <= step.without_effect()
