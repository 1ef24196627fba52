"""Evidence for the gates of detection: data contract, drift, limits, slices, regression."""

from __future__ import annotations

from typing import Any

from marauder.core.clock import Clock
from marauder.data.profile import load_profile
from marauder.engine.distributed import choose_device
from marauder.gates.base import GateSettings
from marauder.gates.contract import ContractSettings
from marauder.gates.contract_clauses import contract_evidence
from marauder.gates.drift import DriftSettings, drift_evidence
from marauder.gates.limits import LimitsEvidence
from marauder.gates.regression import RegressionEvidence, RegressionSettings
from marauder.gates.slices import SlicesEvidence
from marauder.prediction.embeddings import make_profile
from marauder.runs.task_runtime import Production
from marauder.tasks.detection.results import DetectionResults


def collect(
    kind: DetectionResults, gate: str, settings: GateSettings, production: Production | None, clock: Clock
) -> Any:
    """The evidence of ``gate``. Raises ``UserError`` for what the user has to mend, ``Interrupted``."""
    if gate == "contract":
        assert isinstance(settings, ContractSettings)
        return contract_evidence(kind.data.dataset, settings, clock)
    if gate == "drift":
        assert isinstance(settings, DriftSettings)
        return _drift(kind, settings, production, clock)
    assert kind.measured is not None, "the gates at the end come after measure()"
    result = kind.measured.result
    if gate == "limits":
        return LimitsEvidence.of(result.overall, d_ece=kind.calibration().d_ece, la_ece=kind.calibration().la_ece)
    if gate == "slices":
        return SlicesEvidence.of(result.masks, kind.measured.records, result.slices, {"map50": kind.intervals()})
    assert gate == "regression" and isinstance(settings, RegressionSettings)
    return _regression(kind, settings, production)


def _drift(kind: DetectionResults, settings: DriftSettings, production: Production | None, clock: Clock) -> Any:
    train = kind.data.dataset.split("train")
    # Without a production model there is nothing to drift from; without an answer from the registry there may be.
    reference, why_none = None, kind.why_no_production if kind.production_unknown else ""
    if production is not None and (production.folder / "reference_profile.json").is_file():
        reference = load_profile(production.folder)
    elif production is not None:
        why_none = f"version {production.version.version} in production has no reference profile"
    # The detector that the reference was embedded with: two detectors' embeddings are not comparable.
    weights = production.weights if production is not None and reference is not None else None
    device = choose_device(kind.settings.training.device)
    current = make_profile(train, weights, device, sample=settings.sample, seed=settings.seed, clock=clock)
    return drift_evidence(reference, current, settings, kind.settings.folder, why_no_reference=why_none)


def _regression(kind: DetectionResults, settings: RegressionSettings, production: Production | None) -> Any:
    if production is None:
        why = kind.why_no_production or "no model is in production yet"
        return RegressionEvidence(None, why, expected=kind.production_unknown)
    # There is one, and it could not be measured on these data: that is no reason to pass.
    if kind.production is None:
        return RegressionEvidence(None, kind.production_problem, expected=True)
    return RegressionEvidence(kind.compared(settings), "", expected=True)
