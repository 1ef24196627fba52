"""What TensorRT's parsers read: graphs of ours pass, and planted nodes are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from marauder.bundles.boards import boards, find_board
from marauder.bundles.operators import check_operators
from marauder.bundles.parser_table import VERSIONS, parser_table, stands_for_others, table_for
from marauder.core.errors import UserError


def findings(graph: onnx.ModelProto, version: str = "8.2") -> list[str]:
    return [str(one) for one in check_operators(graph, parser_table(version))]


def planted(graph: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """A copy of ``graph`` with further nodes before its last, and constants by name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    last = copy.graph.node.pop()
    copy.graph.node.extend([*nodes, last])
    copy.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return copy


@pytest.mark.parametrize("version", VERSIONS)
def test_graphs_of_ours_are_read_by_every_version(graphs: dict[str, Path], version: str) -> None:
    for precision, path in graphs.items():
        assert findings(onnx.load(path), version) == [], precision


def test_planted_nodes_are_named(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["fp32"])
    two = np.array([2], np.int64)
    # Mod came with a later parser.
    mod = planted(graph, helper.make_node("Mod", ["a", "b"], ["c"], name="/head/mod"), a=two, b=two)
    assert findings(mod) == ["TensorRT 8.2: Mod /head/mod: there is no such operator"]
    assert findings(mod, "10.1") == []
    # As a computed number of boxes would be.
    computed = helper.make_node("Add", ["a", "b"], ["k"], name="/head/add")
    top = helper.make_node("TopK", ["output0", "k"], ["values", "places"], name="/head/topk", axis=2)
    assert findings(planted(graph, computed, top, a=two, b=two)) == [
        "TensorRT 8.2: TopK /head/topk: its input K is computed, and must be a constant"
    ]
    many = helper.make_node("TopK", ["output0", "k"], ["values", "places"], name="/head/topk", sorted=0)
    assert [
        line.split(": ", 2)[2] for line in findings(planted(graph, many, k=np.array([4000], np.int64)), "10.1")
    ] == [
        "sorted is 0, and must be one of: 1",
        "K is 4000, and must be below 3840",
    ]
    axes = helper.make_node("Slice", ["output0", "a", "b", "axes"], ["cut"], name="/head/slice")
    dynamic = planted(graph, helper.make_node("Add", ["a", "b"], ["axes"], name="/sum"), axes, a=two, b=two)
    assert findings(dynamic) == ["TensorRT 8.2: Slice /head/slice: its input axes is computed, and must be a constant"]


def test_quantised_biases_and_zero_points_are_named(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["fp32"])
    scale, bias = np.array(0.1, np.float32), np.array([3, 4], np.int32)
    node = helper.make_node("DequantizeLinear", ["bias", "scale"], ["real"], name="/conv/bias")
    assert findings(planted(graph, node, bias=bias, scale=scale)) == [
        "TensorRT 8.2: DequantizeLinear /conv/bias: bias is INT32, and it takes only INT8"
    ]
    shifted = helper.make_node("QuantizeLinear", ["output0", "scale", "zero"], ["q"], name="/quantise")
    assert findings(planted(graph, shifted, scale=scale, zero=np.array(3, np.int8)), "8.6") == [
        "TensorRT 8.6: QuantizeLinear /quantise: its zero point is not 0: quantise symmetrically"
    ]


def test_a_newer_opset_is_told_of_the_whole_graph(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["fp32"])
    graph.opset_import[0].version = 17
    assert findings(graph) == ["TensorRT 8.2: opset 17 is not among those it reads, 7 to 13"]
    assert findings(graph, "8.5") == []


def test_operators_of_others_are_told(graphs: dict[str, Path]) -> None:
    graph = planted(onnx.load(graphs["fp32"]), helper.make_node("Gelu", ["output0"], ["g"], name="/g", domain="com.x"))
    graph.opset_import.append(helper.make_opsetid("com.x", 1))
    told = findings(graph, "8.6")
    assert len(told) == 2 and "operators of 'com.x' are not ONNX's own" in told[0] and "Gelu /g" in told[1]


def test_half_precision_of_an_operator_without_it_is_told() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.UINT8, [1])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"], name="/add")], "g", [value], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    assert findings(model) == ["TensorRT 8.2: Add /add: x is UINT8, and it takes only FP16, FP32, INT32"]


def test_tables_stand_for_versions_without_one() -> None:
    assert [table_for(one) for one in ("8.2.1", "8.5.2", "8.6.2", "10.3", "10.15", "11.0")] == [
        "8.2",
        "8.5",
        "8.6",
        "10.1",
        "10.1",
        "10.1",
    ]
    assert stands_for_others(["8.5.2", "10.3"]) == ["10.3"]
    with pytest.raises(ValueError, match=r"older than 8\.2"):
        table_for("8.0.1")


def test_boards_serve_all_their_jetpacks() -> None:
    assert find_board("jetson-orin-nano").versions(None) == ("8.5.2", "8.6.2", "10.3", "10.15")
    assert find_board("jetson-orin-nano").versions("6.2.1") == ("10.3",)
    assert find_board("jetson-nano").versions(None) == ("8.2.1",)
    assert find_board("jetson-nano").versions("4.6.4") == ("8.2.1",)
    with pytest.raises(UserError, match=r"4\.6\.0: its TensorRT 8\.0 is older"):
        find_board("jetson-nano").versions("4.6.0")
    with pytest.raises(UserError, match=r"jetpack 5\.0: Jetson Orin Nano has 5\.1, 6\.0, 6\.2, 7\.2"):
        find_board("jetson-orin-nano").versions("5.0")
    with pytest.raises(UserError, match="no such board; did you mean jetson-orin-nano"):
        find_board("jetson-orin-nanoo")
    for board in boards().values():
        for version in board.versions(None):
            assert table_for(version) in VERSIONS
