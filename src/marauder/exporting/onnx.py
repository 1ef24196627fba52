"""ONNX files: traced, simplified, checked, with Ultralytics' metadata."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import onnxslim
import torch

from marauder.core.files import write_bytes
from marauder.core.plain import Plain
from marauder.exporting.base import Exporter, GraphOptions
from marauder.exporting.graph import deployable, example_input
from marauder.models.files import LoadedDetector

INPUT, OUTPUT = "images", "output0"
DYNAMIC_AXES = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch", 2: "anchors"}}


class OnnxExporter(Exporter):
    """ONNX through the tracing exporter, which keeps the opset that was asked for."""

    name = "onnx"
    title = "ONNX"
    suffix = ".onnx"
    packages = ("torch", "onnx", "onnxslim", "ultralytics")

    def export(self, detector: LoadedDetector, options: GraphOptions, metadata: Plain, target: Path) -> Plain:
        """Write the ONNX file; returns opset, IR version, number of nodes and the operators used."""
        graph = _trace(deployable(detector, options.dynamic), options)
        if options.simplify:
            graph = onnxslim.slim(graph)
        # Shapes noted between nodes change no result, and the simplifier writes them in an order of its own.
        del graph.graph.value_info[:]
        del graph.metadata_props[:]
        for key, value in metadata.items():
            entry = graph.metadata_props.add()
            # ONNX holds text only; Ultralytics' loaders read Python literals back from it.
            entry.key, entry.value = key, str(value)
        onnx.checker.check_model(graph, full_check=True)
        write_bytes(target, graph.SerializeToString(deterministic=True))
        return {
            "opset": max(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")),
            "ir_version": graph.ir_version,
            "nodes": len(graph.graph.node),
            "operators": sorted({node.op_type for node in graph.graph.node}),
        }


def _trace(model: torch.nn.Module, options: GraphOptions) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        target = Path(folder, "traced.onnx")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            model,
            (example_input(options),),
            target,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=DYNAMIC_AXES if options.dynamic else None,
            dynamo=False,  # the newer exporter raises opset 13 to 18 on its own
        )
        return onnx.load(target)
