"""gates.yaml becomes a plan: order, switches, mistakes with their line; verdicts become an outcome."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from marauder.core.errors import UserError
from marauder.core.layers import Layer
from marauder.core.metrics import Metric
from marauder.core.plugins import names
from marauder.core.settings import load_settings
from marauder.data.slices.settings import SlicesSettings
from marauder.gates.base import GateSettings
from marauder.gates.floor import FloorEvidence
from marauder.gates.limits import SHARES, LimitsEvidence
from marauder.gates.outcome import decide, withheld
from marauder.gates.plan import GatePlan, load_gates
from marauder.gates.verdict import Answer, Verdict


def write(folder: Path, text: str) -> Path:
    file = folder / "gates.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_plan_that_comes_along_asks_every_gate_in_the_order_of_a_run() -> None:
    plan = load_gates()
    assert sorted(plan.names()) == sorted(names("gate"))
    phases = [plan.gate(name).phase for name in plan.names()]
    assert phases == sorted(phases, key=("before", "during", "end").index)
    assert plan.names("during") == ["health"]
    assert plan.off_verdicts() == []
    assert set(plan.to_json()) == set(names("gate"))


def test_a_file_lies_over_the_defaults_and_switches_gates_off(tmp_path: Path) -> None:
    plan = load_gates(write(tmp_path, "latency: off\nregression:\n  alpha: 0.01\nhealth:\nlimits: {severity: off}\n"))
    assert plan.names() == [name for name in load_gates().names() if name not in ("latency", "limits")]
    assert plan.names("end") == ["floor", "slices", "regression", "representation", "energy"]
    assert plan.gate("regression").settings.alpha == 0.01
    assert plan.gate("latency") is None
    off = {verdict.gate: verdict.why for verdict in plan.off_verdicts()}
    assert off == dict.fromkeys(["limits", "latency"], "switched off in gates.yaml")
    mixed = [Verdict(name, "end", "pass", "") for name in ("drift", "limits", "health", "regression")]
    assert [one.gate for one in plan.in_order(mixed)] == ["drift", "health", "limits", "regression"]


def test_overrides_change_add_and_switch_off(tmp_path: Path) -> None:
    file = write(tmp_path, "regression:\nhealth:\n")
    plan = load_gates(file, ["regression.alpha=0.1", "health=off", "latency.p95=25", "latency.hardware=any"])
    assert plan.names() == [name for name in load_gates().names() if name != "health"]
    assert plan.gate("regression").settings.alpha == 0.1
    assert plan.gate("latency").settings.p95 == 25
    assert "regression" not in load_gates(file, ["regression.severity=off"]).names()
    again = load_gates(write(tmp_path, "drift: off\nlatency: {p95: 9, hardware: any}\n"), ["drift=on"])
    assert "drift" in again.names() and again.gate("latency").settings.format == "onnx"


def test_every_mistake_is_told_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    file = write(
        tmp_path, "regresion:\nlimits:\n  metrics:\n    map50: {}\nregression:\n  alfa: 0.1\nlatency: {p95: 9}\n"
    )
    with pytest.raises(UserError) as caught:
        load_gates(file, ["health.severity=loud"])
    message = str(caught.value)
    assert message.startswith(f"5 mistakes in {file} and on the command line:")
    assert f"{file}:1: regresion: no such setting; did you mean regression" in message
    assert f"{file}:4: limits.metrics.map50: give a minimum, a maximum, or both" in message
    assert f"{file}:6: regression.alfa: no such setting; did you mean alpha?" in message
    assert f"{file}:7: latency: a budget needs the hardware it is meant for" in message
    assert "override 'health.severity=loud': health.severity:" in message


def test_limits_that_nothing_can_break_are_told_with_their_line(tmp_path: Path) -> None:
    """YAML's .nan and .inf are numbers, and no figure is ever beyond them."""
    file = write(
        tmp_path,
        "limits:\n  metrics:\n    map50: {minimum: .nan}\n    f1:\n      maximum: .inf\n"
        "latency:\n  hardware: any\n  p95: .inf\n  throughput: .nan\n"
        "contract:\n  attributes:\n    depth: {minimum: -.inf}\n"
        "drift:\n  numeric_limit: .inf\ndeterminism:\n  tolerance: .inf\n",
    )
    with pytest.raises(UserError) as caught:
        load_gates(file)
    message = str(caught.value)
    assert message.startswith("7 mistakes in ")
    for line, where in (
        (3, "limits.metrics.map50.minimum"), (5, "limits.metrics.f1.maximum"), (8, "latency.p95"),
        (9, "latency.throughput"), (12, "contract.attributes.depth.minimum"), (14, "drift.numeric_limit"),
        (16, "determinism.tolerance"),
    ):  # fmt: skip
        assert f"{file}:{line}: {where}: Input should be" in message


def test_limits_outside_of_what_a_metric_can_reach_are_told_with_their_line(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "limits:\n  metrics:\n    map50:\n      minimum: 55\n    ap50/sea/star:\n      maximum: 1.5\n"
        "    d_ece: {minimum: -0.1}\n    boxes: {minimum: 500}\n    recall: {minimum: 0, maximum: 1}\n",
    )
    with pytest.raises(UserError) as caught:
        load_gates(file)
    message = str(caught.value)
    assert message.startswith("3 mistakes in ")
    assert f"{file}:4: limits.metrics.map50.minimum: must be between 0 and 1" in message
    assert f"{file}:6: limits.metrics.ap50/sea/star.maximum: must be between 0 and 1" in message
    assert f"{file}:7: limits.metrics.d_ece.minimum: must be between 0 and 1" in message


def test_limits_of_slices_are_held_to_the_same(tmp_path: Path) -> None:
    limits = "map50: {minimum: .nan}\n      recall: {maximum: .inf}\n      f1:\n        minimum: 55\n"
    file = tmp_path / "slices.yaml"
    file.write_text(f'slices:\n  deep:\n    where: "a > 1"\n    limits:\n      {limits}', encoding="utf-8")
    with pytest.raises(UserError, match="3 mistakes in") as error:
        load_settings(SlicesSettings, file)
    for line, where in ((5, "map50.minimum"), (6, "recall.maximum"), (8, "f1.minimum")):
        assert f"{file}:{line}: slices.deep.limits.{where}: Input should be" in str(error.value)


def test_every_metric_of_a_run_but_its_counts_is_known_to_lie_from_0_to_1() -> None:
    import evaluation_of_two

    found = LimitsEvidence.of(evaluation_of_two.metrics(), d_ece=0.1, la_ece=0.1).metrics
    assert {name for name in found if name.partition("/")[0] not in SHARES} == {"pictures", "boxes", "detections"}


def test_a_gate_needs_a_mapping_and_a_name_that_exists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gates\.yaml:1: health"):
        load_gates(write(tmp_path, "health: [1, 2]\n"))
    with pytest.raises(UserError, match="no gate named 'helth'"):
        load_gates().gate("helth")
    with pytest.raises(UserError, match="cannot be read"):
        load_gates(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("answers", "answer", "status"),
    [
        ((), "pass", 0),
        (("off", "off"), "pass", 0),
        (("pass", "off"), "pass", 0),
        (("pass", "warn"), "warn", 0),
        (("warn", "fail", "pass"), "fail", 3),
    ],
)
def test_the_worst_answer_is_the_runs(answers: tuple[Answer, ...], answer: str, status: int) -> None:
    verdicts = [Verdict(f"gate{place}", "end", one, "") for place, one in enumerate(answers)]
    outcome = decide(verdicts)
    assert (outcome.answer, outcome.exit_status) == (answer, status)
    assert outcome.failed == tuple(one.gate for one in verdicts if one.answer == "fail")
    assert outcome.warned == tuple(one.gate for one in verdicts if one.answer == "warn")


def test_only_the_warning_of_an_essential_gate_withholds_a_model() -> None:
    warned, broken = Verdict("drift", "before", "warn", "x"), Verdict("floor", "end", "fail", "y", essential=True)
    assert withheld([warned, broken, Verdict("floor", "end", "off", "z", essential=True)]) == ""
    assert withheld([warned, Verdict("floor", "end", "warn", "has not learned yet", essential=True)]) == (
        "floor: has not learned yet"
    )


def test_the_floor_is_on_by_default_and_only_warns() -> None:
    plan = load_gates()
    for value, answer in ((0.0, "warn"), (0.3, "pass")):
        verdict = plan.judge("floor", FloorEvidence("mAP50", value, 0.05, value, value))
        assert (verdict.answer, verdict.essential) == (answer, True)
    below = load_gates(overrides=["floor.level=0.5"]).judge("floor", FloorEvidence("mAP50", 0.3, 0.05))
    assert (below.answer, below.why) == ("warn", "below the level you set: mAP50 is 0.300, below 0.5")


def test_the_level_of_the_floor_is_bounded_by_the_figure_that_it_is_of() -> None:
    share, decibels = Metric("map50", "mAP50", floor=0.05), Metric("psnr", "PSNR", share=False, unit="dB", floor=18.0)
    for level in (5, -1):
        plan = load_gates(overrides=[f"floor.level={level}"])
        with pytest.raises(UserError, match=r"floor\.level: must be between 0 and 1, as mAP50 is"):
            plan.for_task("map50", ("map50",), share)
        (mistake,) = plan.unfit(("floor",), "map50", ("map50",), share)
        assert mistake.place == f"override 'floor.level={level}'"
    settings = load_gates(overrides=["floor.level=25", "regression=off"]).for_task("psnr", ("psnr",), decibels).settings
    assert settings["floor"].level == 25  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"floor\.level"):
        load_gates(overrides=["floor.level=.nan"])


def test_settings_of_another_package_are_asked_with_two_arguments() -> None:
    class Depth(GateSettings):
        metric: str = ""

        def for_task(self, headline: str, comparable: Sequence[str]) -> Self:
            return self.changed({"metric": f"{headline} of {len(comparable)}"})

    plan = GatePlan({"depth": Depth()}, Layer({}, {})).for_task("map50", ("map50", "map"), Metric("map50", "mAP50"))
    assert plan.settings["depth"] == Depth(metric="map50 of 2")


def test_reading_the_plan_loads_nothing_heavy() -> None:
    code = (
        "import sys; from marauder.gates.plan import load_gates; load_gates(); "
        "print([name for name in ('torch', 'scipy', 'cv2', 'matplotlib', 'polars', 'pandas', 'mlflow', 'evidently')"
        " if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_kind_of_run_is_asked_only_what_it_can_answer(tmp_path: Path) -> None:
    known = ("sanity", "representation")
    plan = load_gates().restricted(known)
    assert plan.names() == ["sanity", "representation"]
    assert plan.off_verdicts() == []
    overrides = ["latency=off", "sanity=off"]
    switched = load_gates(overrides=overrides).restricted(known)
    assert switched.names() == ["representation"]
    assert [verdict.gate for verdict in switched.off_verdicts()] == ["sanity"]


def test_a_gate_that_cannot_be_answered_is_a_mistake_where_somebody_asked_for_it(tmp_path: Path) -> None:
    overrides = ["regression.severity=warn"]
    with pytest.raises(UserError, match="gate regression: this kind of run has no evidence"):
        load_gates(overrides=overrides).restricted(("sanity",))
    file = tmp_path / "gates.yaml"
    file.write_text("sanity:\nslices:\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"gates.yaml:2: gate slices: .*leave it out"):
        load_gates(file).restricted(("sanity",))


def test_what_nobody_judges_is_said() -> None:
    limited = ["limits.metrics={map50: {minimum: 0.5}}"]
    assert load_gates(overrides=limited).unjudged(["deep"], ["deep", "near"]) == []
    off = [*limited, "limits.severity=off", "slices=off", "regression=off"]
    assert load_gates(overrides=off).unjudged(["deep"], ["deep", "near"]) == [
        "the limits on map50 are not checked: the gate limits is off",
        "the limits of the slices deep are not checked: the gate slices is off",
        "the slices deep, near are not protected: the gate regression is off",
    ]
