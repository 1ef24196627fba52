"""TorchScript files: traced in a fresh process, without the tracing machine's paths, with Ultralytics' metadata."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.exporting.base import Exporter, GraphOptions
from marauder.models.files import LoadedDetector

TRACING = (sys.executable, "-P", "-m", "marauder.exporting.tracing")
TRACING_SECONDS = 900.0
"""Time for one trace. It takes seconds; a process that needs this long is stopped or stuck and would never end."""


class TorchScriptExporter(Exporter):
    """TorchScript by tracing.

    The names of types inside a traced file count up over the life of a process, so the file is traced in a process of
    its own: the same detector then gives the same bytes.
    """

    name = "torchscript"
    title = "TorchScript"
    suffix = ".torchscript"
    packages = ("torch", "ultralytics")

    def export(self, detector: LoadedDetector, options: GraphOptions, metadata: Plain, target: Path) -> Plain:
        """Write the TorchScript file; returns the number of records in it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        request = {
            "weights": str(detector.path.absolute()),
            "options": options.plain(),
            "metadata": metadata,
            "target": str(target.absolute()),
        }
        status, words = _trace_apart(json.dumps(request), detector.path)
        if status != 0:
            raise RuntimeError(f"tracing {detector.path} failed with status {status}:\n{words}")
        with zipfile.ZipFile(target) as archive:
            return {"records": len(archive.namelist())}


def _trace_apart(request: str, weights: Path) -> tuple[int, str]:
    """Trace in a process of its own; returns its status and what it wrote to standard error.

    Raises ``UserError`` when it takes longer than ``TRACING_SECONDS``. It and what it started are gone in any case.
    """
    with subprocess.Popen(
        TRACING,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C asks this process to stop after the unit; it does not cut the unit short
    ) as process:
        try:
            _, words = process.communicate(request, timeout=TRACING_SECONDS)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"tracing {weights} for TorchScript did not end within {TRACING_SECONDS:g} s and was ended; see "
                "whether the machine is overloaded or out of memory, then run the same command again"
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # also ends a process that was stopped
    return process.returncode, words
