"""The process that traces one detector to TorchScript: reads a request as JSON on standard input, writes one file."""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from pathlib import Path

import torch

from marauder.core.files import write_bytes
from marauder.core.plain import Plain
from marauder.exporting.base import GraphOptions
from marauder.exporting.graph import deployable, example_input
from marauder.models.files import LoadedDetector, load_detector
from marauder.prediction.torchscript import METADATA_FILE

WRITER_OWN = ("version", "byteorder", ".data/serialization_id")
"""Records that the archive writer adds by itself."""


def trace(detector: LoadedDetector, options: GraphOptions, metadata: Plain) -> bytes:
    """The TorchScript archive of a detector. Its bytes depend on what this process traced before."""
    model = deployable(detector, options.dynamic)
    with warnings.catch_warnings(), torch.no_grad():
        for kind in (FutureWarning, DeprecationWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", kind)
        # check_trace would run a second trace; the file is compared with the model on pictures anyway.
        traced = torch.jit.trace(model, example_input(options), strict=False, check_trace=False)
        content = traced.save_to_buffer(_extra_files={METADATA_FILE: json.dumps(metadata)})
    return without_debug_records(content)


def without_debug_records(content: bytes) -> bytes:
    """The same archive without source positions (they hold this machine's paths) and the traced example."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.namelist():
            name = entry.partition("/")[2]
            if name.endswith(".debug_pkl") or name.startswith("traced_inputs") or name in WRITER_OWN:
                continue
            record = archive.read(entry)
            writer.write_record(name, record, len(record))
        version = next(entry for entry in archive.namelist() if entry.partition("/")[2] == "version")
        writer.set_min_version(int(archive.read(version)))  # says which meaning of an operator holds
    writer.write_end_of_file()
    return buffer.getvalue()


def main() -> None:
    """Serve the one request."""
    request = json.load(sys.stdin)
    detector = load_detector(Path(request["weights"]))
    metadata = request["metadata"]
    write_bytes(Path(request["target"]), trace(detector, GraphOptions(**request["options"]), metadata))


if __name__ == "__main__":
    main()
