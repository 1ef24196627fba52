"""Every exporter in the table of plug points passes the contract; and what is particular to ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marauder.core.errors import UserError
from marauder.core.plugins import make, names
from marauder.exporting.base import GraphOptions, run_of
from marauder.exporting.graph import describe_graph
from marauder.exporting.inputs import make_batches, pattern
from marauder.models.files import LoadedDetector
from marauder.prediction.opening import open_predictor
from marauder.testing.exporters import HEIGHT, WIDTH, ExporterContract
from marauder.testing.lively_detectors import save_lively


# The second with the class branch of a start from 50 classes.
@pytest.fixture(scope="module", params=[("yolov8t", None), ("yolo11t", 50)], ids=["yolov8t", "yolo11t-wide"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedDetector:
    name, width = request.param
    return save_lively(tmp_path_factory.mktemp(name) / "best", name, branch_width=width)


@pytest.mark.parametrize("name", names("exporter"))
class TestEveryExporter(ExporterContract):
    """All there are."""


def test_onnx_stays_within_what_old_runtimes_read(detector: LoadedDetector, tmp_path: Path) -> None:
    """Opset and IR version as asked for, and operators that TensorRT 8.2 has."""
    options = GraphOptions(HEIGHT, WIDTH)
    exporter = make("exporter", "onnx")
    facts = exporter.export(detector, options, describe_graph(detector, options, ""), tmp_path / "model.onnx")
    assert facts["opset"] == 13 and facts["ir_version"] <= 7
    missing = {"Mod", "OneHot", "RoiAlign", "NonMaxSuppression", "ScatterND", "Einsum"}
    assert not missing.intersection(facts["operators"])


def test_simplifying_removes_nodes_and_changes_no_answer(detector: LoadedDetector, tmp_path: Path) -> None:
    exporter = make("exporter", "onnx")
    facts, answers = [], []
    batch = make_batches([pattern(2, 0)], GraphOptions(HEIGHT, WIDTH), 32)[0]
    for simplify in (False, True):
        options = GraphOptions(HEIGHT, WIDTH, simplify=simplify)
        path = tmp_path / f"{simplify}.onnx"
        facts.append(exporter.export(detector, options, describe_graph(detector, options, ""), path))
        answers.append(run_of(open_predictor(path, "cpu"))(batch))
    assert facts[1]["nodes"] <= facts[0]["nodes"]
    np.testing.assert_allclose(answers[0], answers[1], atol=2e-3)


def test_a_head_that_picks_its_own_boxes_is_refused(tmp_path: Path) -> None:
    detector = save_lively(tmp_path / "best")
    head = detector.model.model[-1]
    head.one2one_cv2, head.one2one_cv3, head.end2end = head.cv2, head.cv3, True
    with pytest.raises(UserError, match="only detectors of the YOLOv8 and YOLO11 kind"):
        make("exporter", "onnx").export(detector, GraphOptions(64, 64), {}, tmp_path / "model.onnx")
