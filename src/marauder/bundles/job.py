"""The export job with engines: the portable files of every model, and of each a bundle for the board that is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.bundles.making import BundleMaking, BundleResult
from marauder.bundles.settings import EngineSettings
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.data.reading import read_dataset
from marauder.exporting.job import ExportSummary, export_models

TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")
"""Where JetPack puts it."""


@dataclass(frozen=True)
class EngineSummary(ExportSummary):
    """What an export with engines did. ``bundles``: of each model that was exported; ``board``: the target, or none."""

    bundles: tuple[BundleResult, ...] = ()
    board: str | None = None

    @property
    def passed(self) -> bool:
        """Whether all files are in place and every bundle holds what was asked for."""
        return super().passed and all(one.passed for one in self.bundles)


def export_engines(settings: EngineSettings, clock: Clock) -> EngineSummary:
    """Export every model, then make its bundle; both continue where they were.

    Raises ``UserError``, ``Interrupted``. A model whose ONNX file failed gets no bundle.
    """
    if settings.build and find_trtexec() is None:
        raise UserError("build: there is no trtexec on this machine; install TensorRT, or name it: TRTEXEC=PATH")
    if settings.data is not None:
        read_dataset(settings.data).split(settings.split)  # refused before hours of work
    exported = export_models(settings, clock)
    bundles = []
    for model in exported.models if settings.target is not None else ():
        onnx = model.formats.get("onnx")
        if onnx is None or not onnx.passed:
            continue
        clock.check()
        try:
            bundle = BundleMaking(model.source, onnx.path, settings, clock).run()
        except UserError as error:
            bundles.append(BundleResult(model.name, None, {}, (str(error),)))
            continue
        bundles.append(_built(bundle, clock) if settings.build else bundle)
    fields = {name: getattr(exported, name) for name in ExportSummary.__dataclass_fields__}
    return EngineSummary(**fields, bundles=tuple(bundles), board=settings.target)


def _built(bundle: BundleResult, clock: Clock) -> BundleResult:
    """The bundle, with the words on the engine that was built of it on this machine."""
    trtexec = find_trtexec()
    if bundle.archive is None or trtexec is None:
        return bundle
    passed, words = build_here(bundle.archive, trtexec, clock)
    if passed:
        return replace(bundle, built=words)
    return replace(bundle, problems=(*bundle.problems, f"engine built here: {words}"))


def find_trtexec() -> Path | None:
    """TensorRT's builder on this machine, if there is one."""
    found = os.environ.get("TRTEXEC") or shutil.which("trtexec")
    if found:
        return Path(found)
    return TRTEXEC if TRTEXEC.is_file() else None


def build_here(bundle: Path, trtexec: Path, clock: Clock) -> tuple[bool, str]:
    """Unpack a bundle beside itself, build its engine on this machine and test it: whether one passed, and the words.

    ``trtexec``: TensorRT's builder. Raises ``Interrupted`` before it begins.
    """
    clock.check()
    folder = bundle.parent / bundle.name.removesuffix(".tar.gz")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(bundle) as archive:
        archive.extractall(bundle.parent, filter="data")
    environment = {"PYTHON": sys.executable, **os.environ, "TRTEXEC": str(trtexec)}
    done = subprocess.run(["sh", "build.sh"], cwd=folder, env=environment, capture_output=True, text=True)
    verdict = folder / "verdict.json"
    engine = read_json(verdict)["engine"] if verdict.is_file() else None
    if engine is None:
        return False, (done.stderr or done.stdout).strip()
    return True, f"{folder / engine}: built here and tested"
