"""An fp16 graph: the network in half precision, the decoding of its answers in float32.

TensorRT 11 has no precision flags any more; a graph says itself what it computes in what. Half precision has ten bits,
so that a coordinate above 512 pixels would be rounded to half a pixel: anchors, distances and scores are worked out in
float32, from the last convolutions on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from marauder.bundles.quantising import answering_convolutions
from marauder.core.files import write_bytes
from marauder.core.plain import Plain

KEPT_INPUTS = {"Resize": (1, 2, 3)}
"""Inputs that ONNX wants in float32 or as numbers of pixels, whatever the picture is in."""
SUFFIX = "_half"


def to_half(source: Path, target: Path) -> Plain:
    """Write the fp16 graph of ``source`` (an ONNX file of ours, float32) to ``target``. Input and output stay float32.

    Returns how many nodes compute in half precision, and how many do not. Raises ``ValueError`` for a graph whose
    weights exceed half precision's range (65504).
    """
    model = onnx.load(source)
    graph = model.graph
    halved = _before(graph, answering_convolutions(model))
    floats = {one.name: one for one in graph.initializer if one.data_type == TensorProto.FLOAT}
    added: dict[str, TensorProto] = {}
    casts: dict[str, onnx.NodeProto] = {}
    made_in_half = {name for at, node in enumerate(graph.node) if at in halved for name in node.output}
    entrances = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    for at, node in enumerate(graph.node):
        for place, name in enumerate(node.input):
            if at in halved:
                if place in KEPT_INPUTS.get(node.op_type, ()):
                    continue
                if name in floats:
                    added.setdefault(name, _halved(floats[name]))
                    node.input[place] = name + SUFFIX
                elif name in entrances:
                    node.input[place] = _cast(name, TensorProto.FLOAT16, casts, nodes)
            elif name in made_in_half:
                node.input[place] = _cast(name, TensorProto.FLOAT, casts, nodes)
        if at in halved and node.op_type == "Constant":
            _halve_constant(node)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added.values())
    used = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    write_bytes(target, model.SerializeToString(deterministic=True))
    return {"half": len(halved), "float": len(nodes) - len(halved) - len(casts)}


def _before(graph: onnx.GraphProto, ends: list[onnx.NodeProto]) -> set[int]:
    """The places of the nodes that ``ends`` follow from, and of ``ends``; the one that sums distributions up follows
    from others of ``ends`` and is left out."""
    place = {name: at for at, node in enumerate(graph.node) for name in node.output}
    outputs = [node.output[0] for node in ends]

    def upstream(name: str, found: set[int]) -> set[int]:
        stack = [name]
        while stack:
            at = place.get(stack.pop())
            if at is not None and at not in found:
                found.add(at)
                stack += graph.node[at].input
        return found

    found: set[int] = set()
    for name in outputs:
        above = upstream(name, set())
        # One that follows from another of the ends belongs to the decoding.
        if not any(place[other] in above for other in outputs if other != name):
            found |= above
    return found


def _halved(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if values.size and float(np.abs(values).max()) > float(np.finfo(np.float16).max):
        raise ValueError(f"{tensor.name} has values beyond the range of half precision")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name + SUFFIX)


def _halve_constant(node: onnx.NodeProto) -> None:
    for one in node.attribute:
        if one.name == "value" and one.t.data_type == TensorProto.FLOAT:
            one.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one.t).astype(np.float16)))


def _cast(name: str, to: int, casts: dict[str, onnx.NodeProto], nodes: list[onnx.NodeProto]) -> str:
    """The name of ``name`` in another precision, cast once, just before it is first wanted."""
    cast = f"{name}_as_{'half' if to == TensorProto.FLOAT16 else 'float'}"
    if cast not in casts:
        casts[cast] = helper.make_node("Cast", [name], [cast], name=cast, to=to)
        nodes.append(casts[cast])
    return cast
