"""Sample evidence of every gate for the contract test: some that must pass, some that must break a limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from marauder.data.slices.mask import Limit
from marauder.deployment.device_table import device_table
from marauder.deployment.profile import DutyCycle, profile
from marauder.evaluation.comparison import Comparison, SliceDelta
from marauder.gates.contract import Clause, ContractEvidence
from marauder.gates.determinism import DeterminismEvidence
from marauder.gates.drift import DriftEvidence
from marauder.gates.drift_engine_base import FeatureDrift
from marauder.gates.energy import EnergyEvidence
from marauder.gates.floor import FloorEvidence
from marauder.gates.health import HealthEvidence
from marauder.gates.latency import FormatTiming, LatencyEvidence
from marauder.gates.limits import LimitsEvidence
from marauder.gates.regression import RegressionEvidence
from marauder.gates.representation import RepresentationEvidence
from marauder.gates.sanity import SanityEvidence
from marauder.gates.slices import SliceFigures, SlicesEvidence
from marauder.testing.gates import Sample


def delta(name: str, change: float = 0.0, p: float = 0.5, **others: Any) -> SliceDelta:
    """A slice whose candidate is at 0.7 and whose adjusted p values are all ``p``."""
    made = SliceDelta(
        name=name, protected=True, pictures=300, boxes=900, groups=60, effective_groups=40.0, candidate=0.7,
        production=0.7 - change, delta=change, low=change - 0.01, high=change + 0.01, error=0.005, p=p, p_all=p,
        p_protected=p, enough=True,
    )  # fmt: skip
    return replace(made, **others)


def comparison(*slices: SliceDelta, overall: SliceDelta | None = None) -> Comparison:
    """The comparison of these slices."""
    return Comparison("map50", 1000, 0, 0.0, overall or delta("overall"), slices)


def figures(map50: float, **others: Any) -> SliceFigures:
    """A protected slice with at least 0.5 of mAP50 asked for."""
    made = SliceFigures(
        "dusk", True, 300, 900, 60, {"map50": map50}, {"map50": Limit(minimum=0.5)},
        {"map50": (map50 - 0.05, map50 + 0.05)},
    )  # fmt: skip
    return replace(made, **others)


def timed(p50: float, machine: str = "Xeon E5, 8 processors, Linux") -> LatencyEvidence:
    """One format on one machine."""
    return LatencyEvidence(machine, {"onnx": FormatTiming(p50, 1.5 * p50, 1000 / p50)}, 1, 320, 320)


def watching(cameras: int) -> EnergyEvidence:
    """Three detectors on an always-on Orin Nano, a picture a second from each camera."""
    members, table = {"first": "yolov8m", "second": "yolov8m", "third": "yolov8n"}, device_table()
    cycle = DutyCycle(cameras=cameras, always_on=True)
    return EnergyEvidence(profile(members, table.devices["orin_nano"], cycle, table))


def drifted(count: int) -> DriftEvidence:
    """``count`` of ten features drifted."""
    features = tuple(
        FeatureDrift(
            feature=f"feature{number}", kind="numeric", method="distance", value=0.4 if number < count else 0.01,
            limit=0.1, p_value=0.01, drifted=number < count, engine="scipy", reference="1", current="2",
        )
        for number in range(10)
    )  # fmt: skip
    return DriftEvidence(200, 200, 40, 40, "scipy", features)


def represented(collapsed: str, helped: Any, gain: float) -> RepresentationEvidence:
    """Features with one sign, broken where they ``collapsed``."""
    signs = {"variance": 0.001 if collapsed else 0.8, "rank": 12.0}
    return RepresentationEvidence(signs, {"variance": 0.1, "rank": 4.0}, collapsed, helped, f"the probe says {helped}",
                                  gain, gain - 0.02, gain + 0.02)  # fmt: skip


BUDGET = {"hardware": "xeon", "p50": 20.0}
CLAUSE = Clause("splits", "splits that are missing", 0, "train, val", "train, val")

PASSING: dict[str, Sample] = {
    "contract": Sample(lambda: ContractEvidence(10, 20, (CLAUSE,))),
    "drift": Sample(lambda: drifted(0)),
    "determinism": Sample(lambda: DeterminismEvidence("cpu", 0.0, True, 3, 1.5)),
    "sanity": Sample(lambda: SanityEvidence(9.0, 7.5, 3.0, (), 60)),
    "health": Sample(lambda: HealthEvidence(True, counts={"skipped batch": 2})),
    "limits": Sample(lambda: LimitsEvidence({"map50": 0.6}), {"metrics": {"map50": {"minimum": 0.5}}}),
    "floor": Sample(lambda: FloorEvidence("mAP50", 0.3, 0.05, 0.2, 0.4, "12 clips")),
    "slices": Sample(lambda: SlicesEvidence((figures(0.6),))),
    "regression": Sample(lambda: RegressionEvidence(comparison(delta("dusk", -0.004), delta("deep", 0.01)))),
    "representation": Sample(lambda: represented("", "yes", 0.05)),
    "latency": Sample(lambda: timed(10.0), BUDGET),
    "energy": Sample(lambda: watching(1)),
}
BROKEN: dict[str, Sample] = {
    "contract": Sample(lambda: ContractEvidence(10, 20, (replace(CLAUSE, broken=1, examples=("val is missing",)),))),
    "drift": Sample(lambda: drifted(8)),
    "determinism": Sample(lambda: DeterminismEvidence("cpu", 0.25, False, 3, 1.5)),
    "sanity": Sample(lambda: SanityEvidence(9.0, 9.0, 3.0, (), 60)),
    "health": Sample(lambda: HealthEvidence(False, "nan", 120, "clip7-000123", "the loss is nan")),
    "limits": Sample(lambda: LimitsEvidence({"map50": 0.4}), {"metrics": {"map50": {"minimum": 0.5}}}),
    "floor": Sample(lambda: FloorEvidence("mAP50", 0.01, 0.05, 0.0, 0.02, "12 clips")),
    "slices": Sample(lambda: SlicesEvidence((figures(0.4),))),
    "regression": Sample(lambda: RegressionEvidence(comparison(delta("dusk", -0.03, 0.001), delta("deep", 0.01)))),
    "representation": Sample(lambda: represented("the features of different pictures are the same", "no", -0.1)),
    "latency": Sample(lambda: timed(30.0), BUDGET),
    "energy": Sample(lambda: watching(6)),
}
NOTHING_ASKED: dict[str, Sample] = {
    "contract": Sample(lambda: ContractEvidence(10, 20, ())),
    "drift": Sample(lambda: DriftEvidence(None, 200, groups=40)),
    "limits": Sample(lambda: LimitsEvidence({"map50": 0.6})),
    "slices": Sample(lambda: SlicesEvidence((figures(0.1, limits={}),))),
    "regression": Sample(lambda: RegressionEvidence(None)),
    "latency": Sample(lambda: timed(1000.0)),
    "energy": Sample(lambda: watching(6), {"budget": None}),
}
