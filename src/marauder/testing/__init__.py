"""Contract tests of plug points, for those who write an implementation: subclass one in a test module of your own.

Needs the packages of the extra ``test``; nothing else in Marauder imports it.
"""

from __future__ import annotations

import pkgutil

import pytest

# pytest shows the values of a failed assert in test modules alone, and must hear of others before their import.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

CONTRACTS: dict[str, str] = {
    "reader": "marauder.testing.readers:ReaderContract",
    "predictor": "marauder.testing.predictors:PredictorContract",
    "calibration_method": "marauder.testing.calibration_methods:CalibrationMethodContract",
    "fusion": "marauder.testing.fusions:FusionContract",
    "exporter": "marauder.testing.exporters:ExporterContract",
    "gate": "marauder.testing.gates:GateContract",
    "drift_engine": "marauder.testing.drift_engines:DriftEngineContract",
    "store": "marauder.testing.stores:StoreContract",
    "tracker": "marauder.testing.trackers:TrackerContract",
    "sink": "marauder.testing.sinks:SinkContract",
    "registry": "marauder.testing.registries:RegistryContract",
    "notice": "marauder.testing.notices:NoticeContract",
    "launcher": "marauder.testing.launchers:LauncherContract",
    "task": "marauder.testing.task_descriptions:TaskDescriptionContract",
    "pretraining_method": "marauder.testing.pretraining_methods:PretrainingMethodContract",
    "uncertainty": "marauder.testing.measures:MeasureContract",
    "strategy": "marauder.testing.strategies:StrategyContract",
    "annotation_format": "marauder.testing.annotation_formats:AnnotationFormatContract",
}
"""Kind of plug point to its contract class, as ``module:attribute``. What a task trains with has two contracts more:
``tasks.TaskContract`` and ``evaluators.EvaluatorContract``."""
