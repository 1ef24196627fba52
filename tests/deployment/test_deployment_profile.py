"""The deployment profile: known days come out, parts of a day sum to a day, and the largest affordable set is named."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from marauder.cli.deployment import app
from marauder.core.errors import UserError
from marauder.core.settings import load_settings
from marauder.deployment import affordable as affordable_module
from marauder.deployment.affordable import affordable
from marauder.deployment.device_table import device_table
from marauder.deployment.profile import BASE_SIZE, PARTS, SECONDS_OF_A_DAY, DutyCycle, Profile, profile
from marauder.deployment.settings import DeploymentSettings, ProfileSettings
from marauder.deployment.table import profile_lines
from marauder.gates.energy import EnergyEvidence, EnergyGate, EnergySettings

TABLE = device_table()
ONCE_A_SECOND = DutyCycle(always_on=True)


def of(
    members: list[str], device: str = "orin_nano", cycle: DutyCycle = ONCE_A_SECOND, size: int = BASE_SIZE
) -> Profile:
    return profile(
        {f"{n}_{model}": model for n, model in enumerate(members)}, TABLE.devices[device], cycle, TABLE, size
    )


@pytest.mark.parametrize(
    ("members", "watt_hours"), [(["yolov8n"], 64), (["yolov8m"] * 3, 78), (["yolov8l"] * 3, 96), (["yolov8x"] * 6, 142)]
)
def test_an_always_on_orin_nano_at_one_picture_a_second(members: list[str], watt_hours: float) -> None:
    # Worked out by hand beforehand, from 2.6 W idle, 12 W active and the same published latencies.
    assert of(members).day.total == pytest.approx(watt_hours, abs=1)


def test_idle_decides_at_low_rates() -> None:
    rare = replace(ONCE_A_SECOND, frames_per_second=0.01)
    assert of([], cycle=rare).day.total == pytest.approx(2.6 * 24)
    assert all(of(members, cycle=rare).day.total < 64 for members in (["yolov8n"], ["yolov8x"] * 6))
    assert of(["yolov8x"] * 6, cycle=rare).day.budgeted < 2


def test_a_switched_off_board_needs_little() -> None:
    day = of(["yolov8m"] * 3, cycle=DutyCycle()).day
    assert day.total < 10 < 62 < of(["yolov8m"] * 3).day.total
    assert day.seconds["idle"] == 0 and day.seconds["off"] > 20 * 3600
    assert day.watt_hours["wake"] > day.watt_hours["inference"] > 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(TABLE.models)), min_size=0, max_size=6),
    st.sampled_from(TABLE.names),
    st.integers(1, 8),
    st.floats(0.01, 30),
    st.floats(1, 300),
    st.floats(0, 300),
    st.floats(0.5, 144),
    st.booleans(),
    st.sampled_from([64, 320, 640, 1280]),
)
def test_parts_sum_to_a_day_and_more_members_never_cost_less(
    members: list[str],
    device: str,
    cameras: int,
    rate: float,
    watch: float,
    wake: float,
    wakes: float,
    on: bool,
    size: int,
) -> None:
    cycle = DutyCycle(cameras, rate, watch, wake, wakes, on)
    made = of(members, device, cycle, size)
    day = made.day
    assert set(day.seconds) == set(day.watt_hours) == set(PARTS)
    assert all(value >= 0 for value in (*day.seconds.values(), *day.watt_hours.values()))
    if day.fits:
        assert sum(day.seconds.values()) == pytest.approx(SECONDS_OF_A_DAY)
    else:
        assert sum(day.seconds.values()) > SECONDS_OF_A_DAY
    assert day.total == pytest.approx(sum(day.watt_hours.values())) and day.budgeted <= day.total
    for count in range(len(members)):
        fewer = of(members[:count], device, cycle, size)
        assert fewer.day.budgeted <= day.budgeted + 1e-9 and fewer.latency <= made.latency + 1e-9


def test_latency_follows_pixels_and_weights_do_not() -> None:
    small, large = of(["yolov8n"], size=320).members[0], of(["yolov8n"], size=640).members[0]
    assert (small.milliseconds or 0) * 4 == pytest.approx(large.milliseconds)
    assert small.weights_megabytes == large.weights_megabytes == pytest.approx(6.3, abs=0.1)


def test_what_is_not_published_is_estimated_and_says_so() -> None:
    published, estimated = of(["yolov8m", "yolo11m"]).members
    assert (published.milliseconds, published.estimated, published.source) == (23.6, False, "the0807")
    # Fewer operations than yolov8m, more than yolov8s.
    assert estimated.estimated and 11.4 < (estimated.milliseconds or 0) < 23.6
    tiny, largest = of(["yolo11t", "yolo11n"]).members[0], of(["yolov8x"], "agx_orin").members[0]
    assert tiny.milliseconds == 7.3, "no faster than the smallest that is known"
    assert largest.estimated and (largest.milliseconds or 0) == pytest.approx(10.85 * 257.803 / 165.147, rel=1e-3)


def test_what_does_not_run_on_a_board_has_no_latency() -> None:
    made = of(["yolov8n", "yolov8m", "yolo11m", "unheard_of"], "jetson_nano")
    assert [one.runs for one in made.members] == [True, False, False, False]
    assert [one.why for one in made.members][1:] == [
        "it does not run there", "it is larger than any that is known to run there", "its operations are not known",
    ]  # fmt: skip
    assert made.latency == 52.6
    verdict = EnergyGate().judge(EnergyEvidence(replace(made, day=made.day_of([]))))
    assert verdict.answer == "warn" and "1_yolov8m (yolov8m): it does not run there" in verdict.why


def test_the_gate_names_the_largest_set_that_fits() -> None:
    cycle = DutyCycle(cameras=4, always_on=True)
    made = of(["yolov8n", "yolov8m", "yolov8l"], cycle=cycle)
    verdict = EnergyGate().judge(EnergyEvidence(made))
    assert verdict.answer == "fail" and verdict.limit == 40.0
    assert verdict.evidence["fitting"] == ["0_yolov8n", "1_yolov8m"]
    assert "these fit: 0_yolov8n and 1_yolov8m" in verdict.why
    none = EnergyGate(EnergySettings(budget=1.0)).judge(EnergyEvidence(made))
    assert none.answer == "fail" and "not one member fits" in none.why


def test_of_equal_sets_the_one_that_contributes_most_is_named() -> None:
    made = of(["yolov8m"] * 3, cycle=DutyCycle(cameras=4, always_on=True))
    budget = made.day_of(["0_yolov8m", "1_yolov8m"]).budgeted + 0.1
    assert affordable(made, budget) == ("0_yolov8m", "1_yolov8m")
    contributions = {"0_yolov8m": 0.01, "1_yolov8m": 0.0, "2_yolov8m": 0.02}
    assert affordable(made, budget, contributions) == ("0_yolov8m", "2_yolov8m")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolo11x"]), min_size=1, max_size=6),
    st.floats(0.5, 200),
)
def test_no_larger_set_fits(members: list[str], budget: float) -> None:
    made = of(members, cycle=DutyCycle(cameras=2, frames_per_second=2, always_on=True))
    chosen = affordable(made, budget)
    assert not chosen or made.day_of(chosen).budgeted <= budget
    names = [one.name for one in made.members]
    for larger in combinations(names, len(chosen) + 1):
        day = made.day_of(larger)
        assert day.budgeted > budget or not day.fits


def test_of_many_members_the_cheapest_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made = of(["yolov8l", "yolov8n", "yolov8m"], cycle=DutyCycle(cameras=4, always_on=True))
    exact = affordable(made, 60.0)
    monkeypatch.setattr(affordable_module, "MOST_COMPARED", 2)
    assert affordable(made, 60.0) == exact == ("1_yolov8n", "2_yolov8m")


def test_a_day_that_is_too_short_fails_whatever_the_budget() -> None:
    made = of(["yolov8l"], cycle=DutyCycle(frames_per_second=30, always_on=True))
    verdict = EnergyGate(EnergySettings(budget=10_000)).judge(EnergyEvidence(made))
    assert verdict.answer == "fail" and "do not fit into the day" in verdict.why


def test_memory_that_is_not_there_is_a_warning() -> None:
    made = replace(of(["yolov8n"]), memory=500.0)
    assert EnergyGate().judge(EnergyEvidence(made)).answer == "warn"


def test_lines_name_members_sources_and_assumptions() -> None:
    text = "\n".join(profile_lines(of(["yolov8m", "yolo11m"]), TABLE))
    for word in (
        "0_yolov8m",
        "estimated by operations",
        "none was measured here",
        "active watts: 12, assumed",
        "the0807: ",
    ):
        assert word in text


def test_settings_refuse_a_day_that_is_too_long_and_unknown_devices() -> None:
    with pytest.raises(UserError, match="more than a day"):
        load_settings(DeploymentSettings, None, ["wakes_per_day=2000"])
    with pytest.raises(UserError, match="no device named 'orin_nan'; did you mean orin_nano"):
        load_settings(DeploymentSettings, None, ["device=orin_nan"])
    assert load_settings(DeploymentSettings, None, ["device=none"]).device is None
    assert load_settings(DeploymentSettings, None, ["wakes_per_day=2000", "always_on=true"]).cycle.always_on
    assert load_settings(ProfileSettings, None, ["members=[yolov8m,yolov8m]"]).members == ("yolov8m", "yolov8m")


def test_the_command_prints_a_profile_and_ends_with_the_gates_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    good = run(app, ["--device", "orin_nano", "--members", "yolov8m", "yolov8m:second", "--cameras", "2"])
    assert good.exit_code == 0, good.output
    assert "second" in good.output and "pass: " in good.output
    over = run(app, ["--members", "yolov8x,yolov8x", "--always-on", "--budget", "20"])
    assert over.exit_code == 3 and "fail: " in over.output
    # Lines end where the terminal does.
    assert "these fit: yolov8x" in " ".join(over.output.split())
    wrong = run(app, ["--members", "yolov8q"])
    assert isinstance(wrong.exception, UserError) and "no model named 'yolov8q'" in str(wrong.exception)
