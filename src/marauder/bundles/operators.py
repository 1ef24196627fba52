"""Whether TensorRT's parser reads a graph: every node against the published table of each version (``parser_table``).

It names the node that stands in the way, so that a graph is refused here and not on the board after an hour's build.
What passes can be parsed; it proves no build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from marauder.bundles.parser_table import ParserTable
from marauder.core.plain import PlainMapping

TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.DOUBLE: "DOUBLE",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}
"""ONNX's element types as the tables call them."""
SHAPES_ONLY = ("Shape", "Size", "ConstantOfShape", "Cast", "Constant")
"""Operators whose table lists the types of what they give, not of what they take."""


@dataclass(frozen=True)
class Finding:
    """A place of the graph that a version does not read. ``node``: its name; empty: the graph as a whole."""

    tensorrt: str
    node: str
    operator: str
    words: str

    def __str__(self) -> str:
        where = f"{self.operator} {self.node}: " if self.node else ""
        return f"TensorRT {self.tensorrt}: {where}{self.words}"


def check_operators(graph: onnx.ModelProto, table: ParserTable) -> list[Finding]:
    """What of ``graph`` the version of ``table`` does not read, in the order of the nodes; empty: it reads it."""
    facts = _Facts(graph)
    found = list(_opsets(graph, table))
    for index, node in enumerate(graph.graph.node):
        name = node.name or (node.output[0] if node.output else f"node {index}")
        found += [Finding(table.version, name, node.op_type, words) for words in _node(node, table, facts)]
    return found


class _Facts:
    """What nodes are asked about: constants, element types and ranks by the name of a tensor; ``fixed``: constants,
    also quantised ones."""

    def __init__(self, model: onnx.ModelProto) -> None:
        # Where shapes cannot be inferred, what is unknown is not judged.
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.constants: dict[str, TensorProto] = {one.name: one for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                value = attributes(node).get("value")
                if value is not None:
                    self.constants[node.output[0]] = value
        self.fixed: set[str] = set(self.constants)
        for node in graph.node:
            # Explicit quantisation: weights pass through a pair of these, which the parser reads as a constant.
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") and self.fixed.issuperset(node.input):
                self.fixed.update(node.output)
        self.types: dict[str, str] = {
            name: TYPES.get(one.data_type, "another type") for name, one in self.constants.items()
        }
        self.ranks: dict[str, int] = {name: len(one.dims) for name, one in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = TYPES.get(tensor.elem_type, "another type")
            if tensor.HasField("shape"):
                self.ranks[value.name] = len(tensor.shape.dim)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name: numbers, text, lists of them, tensors."""
    found = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _opsets(graph: onnx.ModelProto, table: ParserTable) -> Iterator[Finding]:
    for entry in graph.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            if any(node.domain == entry.domain for node in graph.graph.node):
                yield Finding(table.version, "", "", f"operators of {entry.domain!r} are not ONNX's own")
        elif not table.oldest_opset <= entry.version <= table.newest_opset:
            words = f"opset {entry.version} is not among those it reads, {table.oldest_opset} to {table.newest_opset}"
            yield Finding(table.version, "", "", words)


def _node(node: onnx.NodeProto, table: ParserTable, facts: _Facts) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"an operator of {node.domain!r}, not of ONNX"
        return
    allowed = table.operators.get(node.op_type)
    if allowed is None:
        yield "there is no such operator"
        return
    kind = facts.types.get(node.input[0]) if node.input and node.op_type not in SHAPES_ONLY else None
    kind = table.narrowed.get(kind, kind) if kind is not None else None
    if kind is not None and kind not in allowed:
        yield f"{node.input[0]} is {kind}, and it takes only {', '.join(sorted(allowed))}"
    for rule in table.rules.get(node.op_type, ()):
        yield from _RULES[str(rule["rule"])](node, rule, facts)


def _name(node: onnx.NodeProto, at: int) -> str:
    """The tensor at a place of the inputs; empty where the node has none there."""
    return node.input[at] if at < len(node.input) else ""


def _constant_input(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    name = _name(node, rule["input"])
    if name and name not in facts.fixed:
        yield f"its input {rule['called']} is computed, and must be a constant"


def _constant_below(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    constant = facts.constants.get(_name(node, rule["input"]))
    if constant is not None:
        largest = int(np.max(numpy_helper.to_array(constant)))
        if largest >= rule["below"]:
            yield f"{rule['called']} is {largest}, and must be below {rule['below']}"


def _zero_point_is_zero(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    name = _name(node, rule["input"])
    constant = facts.constants.get(name)
    if name and constant is None:
        yield "its zero point is computed, and must be 0"
    elif constant is not None and np.any(numpy_helper.to_array(constant)):
        yield "its zero point is not 0: quantise symmetrically"
    elif constant is not None and constant.data_type != TensorProto.INT8:
        yield f"its zero point is {TYPES.get(constant.data_type, 'of another type')}, and must be INT8"


def _attribute_one_of(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    value = attributes(node).get(rule["attribute"])
    if value is not None and value not in rule["values"]:
        allowed = ", ".join(str(one) for one in rule["values"])
        yield f"{rule['attribute']} is {value}, and must be one of: {allowed}"


def _attribute_all_ones(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    value = attributes(node).get(rule["attribute"])
    if value is not None and any(one != 1 for one in value):
        yield f"{rule['attribute']} is {list(value)}, and must be 1 throughout"


def _attributes_absent(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    for name in sorted(set(rule["attributes"]) & set(attributes(node))):
        yield f"its attribute {name} is not read"


def _outputs_at_most(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    count = sum(1 for name in node.output if name)
    if count > rule["count"]:
        yield f"it gives {count} outputs, and only the first {rule['count']} may be asked for"


def _input_rank(node: onnx.NodeProto, rule: PlainMapping, facts: _Facts) -> Iterator[str]:
    rank = facts.ranks.get(_name(node, rule["input"]))
    if rank is not None and rank not in rule["ranks"]:
        yield f"its input has {rank} dimensions, and may have {' or '.join(map(str, rule['ranks']))}"


_RULES: Mapping[str, Callable[[onnx.NodeProto, PlainMapping, _Facts], Iterator[str]]] = {
    "constant_input": _constant_input,
    "constant_below": _constant_below,
    "zero_point_is_zero": _zero_point_is_zero,
    "attribute_one_of": _attribute_one_of,
    "attribute_all_ones": _attribute_all_ones,
    "attributes_absent": _attributes_absent,
    "outputs_at_most": _outputs_at_most,
    "input_rank": _input_rank,
}
