"""What is particular to the gates at the end of a run and to the one on its health."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import evidence as samples
import numpy as np
import pytest
from evidence import comparison, delta, figures, timed
from hypothesis import given
from hypothesis import strategies as st

from marauder.data.slices.mask import Limit, SliceMask
from marauder.engine.failures import FailureKind
from marauder.evaluation.intervals import Interval
from marauder.gates.floor import FloorEvidence, FloorGate, FloorSettings
from marauder.gates.health import NAMES, HealthEvidence, HealthGate
from marauder.gates.latency import LatencyEvidence, LatencyGate, LatencySettings
from marauder.gates.limits import LimitsEvidence, LimitsGate, LimitsSettings, broken_bound
from marauder.gates.regression import RegressionEvidence, RegressionGate, RegressionSettings
from marauder.gates.slices import SlicesEvidence, SlicesGate, SlicesSettings
from marauder.gates.verdict import Verdict


class TestRegression:
    def judge(self, *slices: Any, overall: Any = None, **settings: Any) -> Verdict:
        return RegressionGate(RegressionSettings(**settings)).judge(
            RegressionEvidence(comparison(*slices, overall=overall))
        )

    def test_without_production_it_is_off_and_says_so(self) -> None:
        verdict = RegressionGate(RegressionSettings()).judge(RegressionEvidence(None))
        assert (verdict.answer, verdict.why) == ("off", "nothing to compare with: no model is in production yet")
        unlike = RegressionEvidence(None, "its classes are others", expected=True)
        assert RegressionGate(RegressionSettings()).judge(unlike).answer == "warn"

    def test_only_sure_and_large_losses_count(self) -> None:
        assert self.judge(delta("dusk", -0.03, 0.2)).answer == "pass"
        assert self.judge(delta("dusk", -0.005, 0.001)).answer == "pass"
        assert self.judge(delta("dusk", -0.005, 0.001), least_loss=0.0).answer == "fail"
        assert self.judge(delta("dusk", -0.03, 0.03), alpha=0.01).answer == "pass"
        assert self.judge(delta("dusk", +0.03, 0.001)).answer == "pass"

    def test_it_says_what_loss_it_could_have_found(self) -> None:
        """Two tests at 0.05: 1.96 standard errors to be sure, 1.28 more to be so nine times in ten."""
        verdict = self.judge(delta("dusk", error=0.01), delta("murky", protected=False, p_protected=None))
        detectable = [row["detectable"] for row in verdict.evidence["slices"]]
        assert detectable[1] == pytest.approx(0.01 * (1.960 + 1.2816), abs=1e-5)
        assert detectable[2] == pytest.approx(0.005 * (2.1280 + 1.2816), abs=1e-5)
        assert "a loss of 3.2 points on dusk would have been found nine times out of ten" in verdict.why
        steady = self.judge(delta("dusk", error=0.0001)).evidence["slices"][1]
        assert steady["detectable"] == 0.01

    def test_other_slices_warn_unless_all_are_to_hold(self) -> None:
        other = delta("murky", -0.05, 0.001, protected=False, p_protected=None)
        verdict = self.judge(other)
        assert verdict.answer == "warn"
        assert verdict.evidence["lost"] == ["murky"]
        assert self.judge(other, protected_only=False).answer == "fail"

    def test_the_p_value_counts_that_goes_with_what_can_fail(self) -> None:
        both = delta("dusk", -0.03, p_all=0.08, p_protected=0.03)
        assert self.judge(both).answer == "fail"
        assert self.judge(both, protected_only=False).answer == "pass"

    def test_the_whole_is_protected(self) -> None:
        assert self.judge(overall=delta("overall", -0.03, 0.001)).answer == "fail"

    def test_protected_slices_too_small_to_tell_warn(self) -> None:
        nan = math.nan
        small = delta("dusk", nan, nan, groups=2, enough=False, candidate=nan, production=nan)
        verdict = self.judge(small, delta("deep"))
        assert verdict.answer == "warn"
        assert verdict.evidence["not_judged"] == ["dusk"]
        assert verdict.evidence["slices"][1]["delta"] is None
        assert self.judge(replace(small, protected=False, p_protected=None)).answer == "pass"

    def test_every_slice_is_listed_with_interval_and_adjusted_p(self) -> None:
        verdict = self.judge(delta("dusk", -0.03, 0.001), delta("deep", 0.01))
        assert [row["name"] for row in verdict.evidence["slices"]] == ["overall", "dusk", "deep"]
        row = verdict.evidence["slices"][1]
        assert (row["delta"], row["low"], row["p_adjusted"]) == (-0.03, -0.04, 0.001)
        assert "dusk (-3.0 points, adjusted p 0.001)" in verdict.why
        many = self.judge(*[delta(f"slice{one}", -0.03, 0.001) for one in range(5)])
        assert "and 2 more" in many.why


class TestLimits:
    def judge(self, found: dict[str, float], **limits: dict[str, float]) -> Verdict:
        return LimitsGate(LimitsSettings(metrics=limits)).judge(LimitsEvidence(found))  # type: ignore[arg-type]

    def test_bounds_themselves_are_allowed(self) -> None:
        assert self.judge({"map50": 0.5}, map50={"minimum": 0.5, "maximum": 0.5}).answer == "pass"
        low = self.judge({"map50": 0.4999}, map50={"minimum": 0.5})
        assert (low.answer, low.value, low.limit) == ("fail", 0.4999, 0.5)
        high = self.judge({"d_ece": 0.2}, d_ece={"maximum": 0.1})
        assert (high.answer, high.why) == ("fail", "d_ece is 0.2, above its maximum 0.1")

    def test_all_broken_limits_are_told(self) -> None:
        verdict = self.judge({"map50": 0.1, "recall": 0.2, "f1": 1}, map50={"minimum": 0.5}, recall={"minimum": 0.5})
        assert verdict.evidence["broken"] == ["map50", "recall"]
        assert "map50" in verdict.why and "recall" in verdict.why

    def test_a_metric_that_is_not_reported_breaks_its_limit(self) -> None:
        verdict = self.judge({"map50": 0.9, "ap50/starfish": 0.4}, **{"ap50/starfsh": {"minimum": 0.3}})
        assert verdict.answer == "fail"
        assert "did you mean ap50/starfish?" in verdict.why

    def test_a_metric_without_boxes_warns(self) -> None:
        undefined = self.judge({"ap50/starfish": math.nan}, **{"ap50/starfish": {"minimum": 0.3}})
        assert (undefined.answer, undefined.evidence["metrics"]) == ("warn", {"ap50/starfish": None})
        assert undefined.why == "ap50/starfish cannot be judged: no boxes of starfish"
        nothing = {"precision/crab": math.nan, "recall/crab": math.nan, "recall": 0.5}
        assert self.judge(nothing, **{"precision/crab": {"minimum": 0.3}}).answer == "warn"
        small = self.judge({"map_small": math.nan, "recall": 0.5}, map_small={"minimum": 0.3})
        assert (small.answer, small.why) == ("warn", "map_small cannot be judged: no boxes that it is measured on")

    def test_a_detector_that_finds_nothing_breaks_its_minima(self) -> None:
        """Its precision is undefined, as nothing can be divided by no detections."""
        import evaluation_of_two

        found = LimitsEvidence.of(evaluation_of_two.metrics(found=False), d_ece=math.nan).metrics
        assert math.isnan(found["precision"]) and found["recall"] == 0
        limits = {"precision": {"minimum": 0.5}, "precision/crab": {"minimum": 0.01}, "d_ece": {"maximum": 0.1}}
        verdict = self.judge(dict(found), **limits)
        assert (verdict.answer, verdict.value, verdict.limit) == ("fail", "undefined", 0.5)
        assert verdict.evidence["broken"] == ["precision", "precision/crab"]
        assert verdict.why.startswith("precision (nothing was detected) is undefined, which counts as below its")
        assert "d_ece cannot be judged: nothing was detected" in verdict.why
        assert self.judge(dict(found), d_ece={"maximum": 0.1}).answer == "warn"
        assert self.judge(dict(found), f1={"minimum": 0.1}).answer == "fail"

    @given(st.floats(allow_nan=False), st.floats(allow_nan=False))
    def test_no_number_keeps_to_no_limit(self, minimum: float, maximum: float) -> None:
        assert broken_bound("p50", math.nan, minimum, None) is not None
        assert broken_bound("p50", math.nan, None, maximum) is not None
        assert broken_bound("p50", math.nan, None, None) is None

    def test_evidence_holds_every_number_and_class(self) -> None:
        import evaluation_of_two

        metrics = evaluation_of_two.metrics()
        found = LimitsEvidence.of(metrics, d_ece=0.07).metrics
        assert found["map50"] == metrics.map50
        assert found["ap50/crab"] == metrics.per_class[1]["ap50"]
        assert found["recall/crab"] == metrics.per_class[1]["recall"]
        assert found["d_ece"] == 0.07
        assert not any(name.startswith(("name/", "n_boxes/")) for name in found)


class TestSlices:
    def judge(self, *slices: Any, **settings: Any) -> Verdict:
        return SlicesGate(SlicesSettings(**settings)).judge(SlicesEvidence(slices))

    @pytest.mark.parametrize(
        ("value", "by", "answer"),
        [
            (0.48, "value", "fail"), (0.52, "value", "pass"),
            (0.48, "surely", "pass"), (0.44, "surely", "fail"),
            (0.52, "safely", "fail"), (0.56, "safely", "pass"),
        ],
    )  # fmt: skip
    def test_value_or_interval_is_held_to_the_limit(self, value: float, by: str, answer: str) -> None:
        assert self.judge(figures(value), by=by).answer == answer

    def test_upper_limits_are_held_the_other_way_round(self) -> None:
        high = {"limits": {"map50": Limit(maximum=0.5)}}
        assert self.judge(figures(0.52, **high), by="surely").answer == "pass"
        assert self.judge(figures(0.56, **high), by="surely").answer == "fail"
        assert self.judge(figures(0.48, **high), by="safely").answer == "fail"

    def test_without_an_interval_the_value_counts_and_that_is_said(self) -> None:
        verdict = self.judge(figures(0.48, intervals={}), by="surely")
        assert verdict.answer == "fail"
        assert "there is no interval of map50" in verdict.why

    def test_unprotected_and_small_slices_warn(self) -> None:
        assert self.judge(figures(0.1, protected=False)).answer == "warn"
        small = self.judge(figures(0.1, groups=2))
        assert small.answer == "warn"
        assert small.evidence["too_small"] == ["dusk"]
        assert self.judge(figures(math.nan)).answer == "warn"
        mixed = self.judge(figures(0.1, limits={}), figures(0.6))
        assert (mixed.answer, [row["name"] for row in mixed.evidence["slices"]]) == ("pass", ["dusk"])

    def test_a_slice_on_which_nothing_is_found_breaks_its_minimum_of_precision(self) -> None:
        limits = {"precision": Limit(minimum=0.5)}
        silent = figures(0.0, metrics={"precision": math.nan}, limits=limits)
        verdict = self.judge(silent)
        assert (verdict.answer, verdict.value, verdict.limit) == ("fail", "undefined", 0.5)
        assert verdict.evidence["broken"] == ["dusk: precision"]
        assert "precision (nothing was detected) is undefined" in verdict.why
        assert self.judge(replace(silent, protected=False)).answer == "warn"
        without = self.judge(figures(0.6, metrics={"map_small": math.nan}, limits={"map_small": Limit(minimum=0.5)}))
        assert (without.answer, without.evidence["broken"]) == ("warn", [])
        assert "map_small cannot be judged: no boxes" in without.why

    @pytest.mark.parametrize("by", ["value", "surely", "safely"])
    def test_an_interval_that_is_undefined_hides_no_broken_limit(self, by: str) -> None:
        verdict = self.judge(figures(0.1, intervals={"map50": (math.nan, math.nan)}), by=by)
        assert verdict.answer == "fail"

    def test_a_metric_that_nobody_measures_fails_a_protected_slice(self) -> None:
        verdict = self.judge(figures(0.9, limits={"map5": Limit(minimum=0.1)}))
        assert verdict.answer == "fail"
        assert "no map5" in verdict.why

    def test_evidence_is_put_together_from_an_evaluation(self) -> None:
        import evaluation_of_two

        metrics, records = evaluation_of_two.metrics(), evaluation_of_two.RECORDS
        mask = SliceMask("all", np.ones(len(records), bool), protected=True, limits={"map50": Limit(minimum=0.1)})
        interval = Interval(metrics.map50, 0.2, 0.3, 0.95, 2, 100)
        made = SlicesEvidence.of([mask], records, {"all": metrics}, {"map50": {"all": interval}}).slices[0]
        assert (made.name, made.protected, made.pictures, made.groups) == ("all", True, 4, 2)
        assert made.boxes == metrics.boxes
        assert made.metrics["map50"] == metrics.map50
        assert made.intervals == {"map50": (0.2, 0.3)}
        assert made.limits == mask.limits


class TestLatency:
    def judge(self, found: LatencyEvidence, **settings: Any) -> Verdict:
        return LatencyGate(LatencySettings(**settings)).judge(found)

    def test_other_hardware_is_shown_and_not_judged(self) -> None:
        verdict = self.judge(timed(30.0), hardware="Jetson Xavier", p50=20.0)
        assert verdict.answer == "warn"
        assert verdict.evidence["judged"] is False
        assert (verdict.value, verdict.limit) == (30.0, 20.0)
        assert "meant for Jetson Xavier" in verdict.why

    def test_each_figure_has_its_own_limit(self) -> None:
        assert self.judge(timed(10.0), hardware="any", p50=10.0, p95=15.0, throughput=100.0).answer == "pass"
        assert "p95 (ms) is 15, above" in self.judge(timed(10.0), hardware="linux xeon", p95=14.0).why
        slow = self.judge(timed(10.0), hardware="any", throughput=101.0)
        assert (slow.answer, slow.value, slow.limit) == ("fail", 100.0, 101.0)

    def test_a_time_that_is_no_number_breaks_the_budget(self) -> None:
        assert self.judge(timed(math.nan), hardware="any", p95=10.0).answer == "fail"

    def test_a_format_that_was_not_measured_breaks_the_budget(self) -> None:
        verdict = self.judge(timed(1.0), hardware="any", p50=10.0, format="torchscript")
        assert verdict.answer == "fail"
        assert "there is: onnx" in verdict.why

    def test_without_a_budget_the_figures_are_kept_all_the_same(self) -> None:
        verdict = self.judge(timed(1000.0))
        assert (verdict.answer, verdict.evidence["formats"]["onnx"]["p50"]) == ("off", 1000.0)

    def test_evidence_from_a_measurement(self) -> None:
        plain = {
            "timings": {"pytorch": {"p50": 40.0, "p95": 60.0, "speedup": 1.0}}, "rounds": 9, "threads": 1,
            "machine": "Xeon", "batch": 4, "height": 320, "width": 352,
        }  # fmt: skip
        found = LatencyEvidence.of(plain)
        assert found.formats["pytorch"].throughput == 100.0
        assert (found.machine, found.batch, found.height, found.width) == ("Xeon", 4, 320, 352)


def test_health_has_words_for_every_failure_and_tells_what_was_lived_through() -> None:
    from typing import get_args

    assert set(NAMES) == set(get_args(FailureKind))
    gate = HealthGate(HealthGate.settings_model())
    verdict = gate.judge(samples.BROKEN["health"].make())
    assert verdict.why == "the loss was not a number at step 120 (batch: clip7-000123): the loss is nan"
    assert gate.judge(HealthEvidence(False)).answer == "fail"
    assert "skipped batch 2 times" in gate.judge(samples.PASSING["health"].make()).why


@pytest.mark.parametrize(
    ("evidence", "answer", "words"),
    [
        (FloorEvidence("mAP50", 0.003, 0.05, 0.0, 0.01), "fail", "has not learned yet: mAP50 is 0.003, below 0.05"),
        (FloorEvidence("mAP50", 0.0499, 0.05), "fail", "has not learned yet"),
        (FloorEvidence("mAP50", 0.12, 0.05, 0.04, 0.3, "6 clips"), "warn", "too few pictures to tell: mAP50 is 0.120"),
        (FloorEvidence("mAP50", 0.12, 0.05, unknown="only 2 labelled pictures"), "warn", "tell: only 2 labelled"),
        (FloorEvidence("mAP50", math.nan, 0.05), "warn", "too few pictures to tell: mAP50 was not measured"),
        (FloorEvidence("mAP50", 0.12, 0.05, 0.05, 0.3, "6 clips"), "pass", "0.050 to 0.300, 6 clips"),
        (
            FloorEvidence("mAP50", 0.12, 0.05, 0.08, 0.2, useless="nothing found"),
            "fail",
            "yet: nothing found (mAP50 is 0.120)",
        ),
        (FloorEvidence("gain", 0.02, 0.0), "pass", "no interval was drawn"),
        (FloorEvidence("gain", -0.02, 0.0, -0.1, 0.01), "fail", "below 0"),
    ],
)
def test_the_floor_tells_what_did_not_learn_from_what_cannot_be_told(
    evidence: FloorEvidence, answer: str, words: str
) -> None:
    verdict = FloorGate(FloorSettings()).judge(evidence)
    assert (verdict.answer, verdict.essential) == (answer, True)
    assert words in verdict.why
