"""An int8 graph for TensorRT: scales written into the graph (explicit quantisation), from real pictures.

Only convolutions are quantised, symmetrically, and not those whose result is the answer: the last of the head, and the
one that turns distributions into distances. The default call of ONNX Runtime's quantiser takes the joined output, too,
where one scale covers boxes (0..640 pixels) and scores (0..1), and what comes out finds nothing; and it writes biases
and zero points that TensorRT does not read (``operators`` names them).

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018; Nagel et al., "A White Paper on Neural Network Quantization", 2021; the options that TensorRT asks for:
microsoft/onnxruntime pull request 9616.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process

from marauder.core.errors import UserError
from marauder.core.files import write_bytes
from marauder.core.plain import Plain

METHODS = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
}
"""How the range of an activation follows from what the pictures gave: all of it, or all but the outermost values, which
would leave few of the 255 steps to the others."""


class Batches(CalibrationDataReader):
    """Inputs one after another, as the quantiser asks for them."""

    def __init__(self, name: str, batches: Sequence[np.ndarray]) -> None:
        self.name, self.batches = name, batches
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, ``None`` after the last."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Begin again."""
        self._left: Iterator[dict[str, np.ndarray]] = iter([{self.name: batch} for batch in self.batches])


def quantise(source: Path, target: Path, batches: Sequence[np.ndarray], method: str = "percentile") -> Plain:
    """Write the int8 graph of ``source`` (an ONNX file of ours) to ``target``; returns how many convolutions are int8.

    ``batches``: inputs float32 (B, 3, H, W) in 0..1, as the detector sees them; their activations set the scales.
    ``method``: of ``METHODS``. Raises ``ValueError`` without batches, ``UserError`` where nothing varies on them.
    """
    if not batches:
        raise ValueError("scales follow from pictures: give some")
    graph = onnx.load(source)
    kept = [node.name for node in answering_convolutions(graph)]
    chosen, extra = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        # Shapes only: its optimiser would write operators of its own that no parser but ONNX Runtime's reads.
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        with _quiet(), _explained():
            quantize_static(
                prepared,
                quantised,
                Batches(graph.graph.input[0].name, batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                calibrate_method=chosen,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "AddQDQPairToWeight": True,
                    "DedicatedQDQPair": True,
                    "QuantizeBias": False,
                    "OpTypesToExcludeOutputQuantization": ["Conv"],
                    **extra,
                },
            )
        made = onnx.load(quantised)
    _settle(made, graph)
    onnx.checker.check_model(made, full_check=True)
    write_bytes(target, made.SerializeToString(deterministic=True))
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return {"int8": len(convolutions) - len(kept), "float": len(kept), "calibration": method, "pictures": len(batches)}


def answering_convolutions(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions whose result is the answer, in the graph's order: the last before the output, and those before
    the one that sums distributions up."""
    made_by = {name: node for node in graph.graph.node for name in node.output}
    sums = {one.name for one in graph.graph.initializer if _sums_a_distribution(one)}
    found: dict[str, onnx.NodeProto] = {}

    def walk(names: Sequence[str], seen: set[str]) -> None:
        for name in names:
            node = made_by.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            if node.op_type != "Conv":
                walk(node.input, seen)
                continue
            found[node.name] = node
            if node.input[1] in sums:
                walk(node.input[:1], seen)

    walk([value.name for value in graph.graph.output], set())
    return [node for node in graph.graph.node if node.name in found]


def _sums_a_distribution(weights: onnx.TensorProto) -> bool:
    """Whether these are the weights 0, 1, 2 … that make a distance of the distribution over its bins (Li et al.,
    "Generalized Focal Loss", NeurIPS 2020)."""
    if len(weights.dims) != 4 or weights.dims[0] != 1 or weights.dims[1] < 2:
        return False
    return bool(np.array_equal(numpy_helper.to_array(weights).ravel(), np.arange(np.prod(weights.dims))))


def _settle(made: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Metadata of the source, and nothing that says which tool wrote it when."""
    del made.graph.value_info[:]
    del made.metadata_props[:]
    made.metadata_props.extend(source.metadata_props)
    made.producer_name, made.producer_version = source.producer_name, source.producer_version


@contextmanager
def _explained() -> Iterator[None]:
    """Scales of activations that do not vary do not exist."""
    try:
        yield
    except ValueError as error:
        raise UserError(
            f"the detector cannot be quantised: its activations hardly vary on these pictures ({error}); is it trained?"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints what it counts, and advises through the root logger to do what was done before."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
