"""Finished runs to register, as small as can be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from marauder.registry.base import Candidate, ModelVersion, Registry
from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings

PROJECT = "reef-fish"


def candidate(folder: Path, run_id: str, verdict: str = "pass", project: str = PROJECT, **report: Any) -> Candidate:
    folder = folder / run_id
    (folder / "exported").mkdir(parents=True, exist_ok=True)
    weights = f"weights of {run_id}".encode() * 1000
    (folder / "best.pt").write_bytes(weights)
    (folder / "exported" / "model.onnx").write_bytes(b"onnx")
    (folder / "eval_report.json").write_text(json.dumps(report))
    metrics = {"map50": 0.5 + len(run_id) / 100}
    tags = {"data": "abc", "note": "größer"}
    return Candidate(project, run_id, folder, hashlib.sha256(weights).hexdigest(), verdict, metrics, tags)


def register(registry: Registry, folder: Path, *runs: str, verdict: str = "pass") -> list[ModelVersion]:
    return [registry.register(candidate(folder, run, verdict)) for run in runs]


def made(folder: Path, kind: str, **options: Any) -> Any:
    """A registry of a kind, for runs in ``folder/runs``."""
    registry = open_registry(RegistrySettings(kind=kind, options=options), folder / "runs")
    assert registry is not None
    return registry
