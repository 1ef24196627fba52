"""One model's way through all formats: made, compared with the model, moved into place, timed, recorded.

A format is written under a name of its own and renamed into place only when it answers as the model does. What is
recorded in ``export_report.json`` with the same fingerprint, and whose file still has the recorded hash, is not done
again, except for a latency that was measured while the machine was busy.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from importlib import metadata as packages
from pathlib import Path

import torch
import yaml

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import (
    DamagedFileError,
    fingerprint,
    hash_file,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.exporting.base import Exporter, GraphOptions, Run, run_of
from marauder.exporting.graph import deployable, describe_graph
from marauder.exporting.inputs import Pictures, make_batches
from marauder.exporting.latency import PYTORCH, available_threads, describe_machine, measure_latency
from marauder.exporting.parity import Parity, Reference, check_parity, make_reference
from marauder.exporting.report import markdown
from marauder.exporting.settings import ExportSettings
from marauder.models.files import LoadedDetector, load_detector
from marauder.models.ultralytics_adapter import input_stride
from marauder.prediction.detector import DetectorPredictor
from marauder.prediction.opening import open_predictor

log = logging.getLogger("marauder")
REPORT, READABLE_REPORT, METADATA = "export_report.json", "export_report.md", "metadata.yaml"
UNCHECKED, FAILED, SUPERSEDED = "unchecked", "failed_parity", "superseded"
"""What is between ``model`` and the suffix of a file that is not in place."""


@dataclass(frozen=True)
class FormatResult:
    """One exported file: its place, the verdict, and whether an earlier run had made it already."""

    path: Path
    passed: bool
    reused: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelResult:
    """The exports of one model. ``problem``: why it could not be exported at all."""

    name: str
    source: Path
    folder: Path
    formats: dict[str, FormatResult]
    report: Plain | None = None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Every format made and equal to the model."""
        return self.problem is None and all(result.passed for result in self.formats.values())


class ModelExport:
    """Exports ``source`` to ``folder``; ``run`` may be interrupted between steps and continued by another object."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        settings: ExportSettings,
        exporters: dict[str, Exporter],
        pictures: Pictures,
        tensorrt: str,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self.source, self.folder, self.settings, self.exporters = source, folder, settings, exporters
        self.pictures, self.tensorrt, self.clock, self.progress = pictures, tensorrt, clock, progress
        self.weights_hash = hash_file(source)
        self.recorded = read_report(folder)
        self._detector: LoadedDetector | None = None
        self._reference: Reference | None = None

    def run(self) -> ModelResult:
        remove_leftovers(self.folder)
        marks = {name: self._format_mark(name) for name in self.exporters}
        reusable = {name for name, mark in marks.items() if self._is_done(name, mark)}
        results: dict[str, FormatResult] = {}
        report = self._start_report(reusable)
        for name, exporter in self.exporters.items():
            self.clock.check()
            if name not in reusable:
                report["formats"][name] = self._make(exporter, marks[name])
                self._write(report)
            entry = report["formats"][name]
            parity = entry["parity"]
            path = self.folder / entry["file"]
            passed = parity["verdict"] == "pass"
            results[name] = FormatResult(path, passed, name in reusable, tuple(parity["reasons"]))
            self.progress.advance(note=f"{self.folder.name}: {name}")
        if self.settings.latency.enabled:
            self._time(report, results)
            self.progress.advance(note=f"{self.folder.name}: latency")
        self._write(report)
        return ModelResult(self.folder.name, self.source, self.folder, results, report)

    @property
    def detector(self) -> LoadedDetector:
        """The model, opened when it is first needed."""
        if self._detector is None:
            self._detector = load_detector(self.source)
        return self._detector

    @property
    def options(self) -> GraphOptions:
        """The input shape, the model's own size where none was asked for. Raises ``UserError`` for a bad one."""
        settings, stride = self.settings, input_stride(self.detector.model)
        if settings.image_size is None:
            height = width = -(-self.detector.image_size // stride) * stride
        else:
            height, width = settings.image_size
        if height % stride or width % stride:
            raise UserError(f"image size {height}x{width}: both must be multiples of {stride}")
        return GraphOptions(height, width, settings.batch, settings.dynamic, settings.opset, settings.simplify)

    @property
    def reference(self) -> Reference:
        """The model's own answers, computed once for all formats."""
        if self._reference is None:
            batches = make_batches(self.pictures.images, self.options, input_stride(self.detector.model))
            self._reference = make_reference(
                run_of(DetectorPredictor(self.detector)), batches, self.settings.parity, self.clock
            )
        return self._reference

    def _format_mark(self, name: str) -> str:
        """The fingerprint of all that a format's file and verdict depend on."""
        settings = self.settings
        keys = ("image_size", "batch", "dynamic", "opset", "simplify")
        return fingerprint(
            {
                "weights": self.weights_hash,
                "graph": {key: getattr(settings, key) for key in keys},
                "parity": settings.parity.model_dump(),
                "pictures": self.pictures.identity,
                "packages": {
                    package: packages.version(package) for package in ("marauder", *self.exporters[name].packages)
                },
            }
        )

    def _is_done(self, name: str, mark: str) -> bool:
        entry = self.recorded.get("formats", {}).get(name)
        if entry is None or entry["fingerprint"] != mark or entry["parity"]["verdict"] != "pass":
            return False
        path = self.folder / entry["file"]
        return path.is_file() and hash_file(path) == entry["sha256"]

    def _start_report(self, reusable: set[str]) -> Plain:
        if reusable == set(self.exporters):
            return {**self.recorded, "formats": {name: self.recorded["formats"][name] for name in self.exporters}}
        options = self.options
        return {
            "name": self.folder.name,
            "source": relative_source(self.source, self.folder),
            "weights_sha256": self.weights_hash,
            "architecture": getattr(self.detector.model, "marauder_architecture", ""),
            "names": list(self.detector.names),
            "image_size": [options.height, options.width],
            "graph": options.plain(),
            "metadata": describe_graph(self.detector, options, self.weights_hash),
            "pictures": {
                "source": self.pictures.source,
                "real": self.pictures.real,
                "names": list(self.pictures.names),
                "skipped": list(self.pictures.skipped),
            },
            "formats": {name: self.recorded["formats"][name] for name in self.exporters if name in reusable},
            "latency": None,
            "tensorrt": self.tensorrt,
        }

    def _make(self, exporter: Exporter, mark: str) -> Plain:
        """Write one format beside its place, compare it, and move it into place or aside."""
        unchecked, target = (self._path(exporter, kind) for kind in (UNCHECKED, None))
        metadata = describe_graph(self.detector, self.options, self.weights_hash)
        facts = exporter.export(self.detector, self.options, metadata, unchecked)
        parity = check_parity(
            self.reference, run_of(open_predictor(unchecked, "cpu")), self.settings.parity, self.clock
        )
        final = self._place(exporter, unchecked, target, parity)
        return {
            "file": final.name,
            "sha256": hash_file(final),
            "bytes": final.stat().st_size,
            "fingerprint": mark,
            "graph": facts,
            "parity": parity.plain(),
        }

    def _place(self, exporter: Exporter, unchecked: Path, target: Path, parity: Parity) -> Path:
        failed = self._path(exporter, FAILED)
        # At no moment does a file that was not checked, or that failed, stand under the good name.
        if parity.passed:
            unchecked.replace(target)
            failed.unlink(missing_ok=True)
            return target
        if target.is_file():  # of other weights or settings: nobody may take it for this model's
            target.replace(self._path(exporter, SUPERSEDED))
        unchecked.replace(failed)
        return failed

    def _path(self, exporter: Exporter, kind: str | None) -> Path:
        return self.folder / f"model{f'.{kind}' if kind else ''}{exporter.suffix}"

    def _time(self, report: Plain, results: dict[str, FormatResult]) -> None:
        """Measure latency, unless the same files were measured on this machine at rest with these settings before."""
        settings = self.settings.latency
        mark = fingerprint(
            [
                {name: report["formats"][name]["sha256"] for name in results},
                settings.model_dump(),
                settings.threads or available_threads(),
                describe_machine(),
            ]
        )
        recorded = self.recorded.get("latency")
        # What was measured on a busy machine is measured again, as its own words ask. Older reports do not say.
        if recorded is not None and recorded["fingerprint"] == mark and not recorded.get("unsteady"):
            report["latency"] = recorded
            return
        self.clock.check()
        runs: dict[str, Run] = {
            # Batch normalisation folded, as in the files: otherwise their speed-up would partly be that.
            PYTORCH: run_of(DetectorPredictor(replace(self.detector, model=deployable(self.detector))))
        }
        threads = settings.threads or available_threads()
        # Opening a TorchScript file sets the number for the whole process.
        before = torch.get_num_threads()
        try:
            for name, result in results.items():
                runs[name] = run_of(open_predictor(result.path, "cpu", threads=threads))
            batches = self.reference.batches
            measured = measure_latency(runs, batches[0], settings, self.clock)
            if measured.unsteady:
                log.warning("latency of %s: %s", self.folder.name, measured.unsteady)
            report["latency"] = {**measured.plain(), "fingerprint": mark}
        finally:
            torch.set_num_threads(before)

    def _write(self, report: Plain) -> None:
        metadata = {**report["metadata"], "names": dict(enumerate(report["names"]))}
        write_text(self.folder / METADATA, yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True))
        write_json(self.folder / REPORT, report)
        write_text(self.folder / READABLE_REPORT, markdown(report))


def read_report(folder: Path) -> Plain:
    """The recorded report of a folder; empty where there is none, or none that can be trusted."""
    try:
        report = read_json(folder / REPORT)
    except (FileNotFoundError, DamagedFileError):
        return {}
    return report if isinstance(report, dict) else {}


def relative_source(source: Path, folder: Path) -> str:
    """The weights' path as seen from the export's folder: the same after the whole workspace moved."""
    return Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()
