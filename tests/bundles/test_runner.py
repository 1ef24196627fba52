"""The board's runner beside Marauder's own prediction: the same boxes to the last bit; and what old Pythons can run."""

from __future__ import annotations

import ast
import ctypes
import json
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import parso
import pytest
import torch

from marauder.bundles.device import runner
from marauder.bundles.fixtures import describe_rules, reference_predictor
from marauder.imaging.letterbox import fit_rectangle
from marauder.models.ultralytics_adapter import suppress
from marauder.prediction.folder import FolderPredictor
from marauder.prediction.folder_description import FolderDescription
from marauder.prediction.opening import open_predictor
from marauder.prediction.score_calibration import ScoreCalibration

DEVICE = Path(runner.__file__).parent


def raw_answer(draw: np.random.Generator, classes: int, places: int) -> np.ndarray:
    """A raw answer with clusters of boxes, equal scores, boxes without area."""
    centres = draw.uniform(0, 320, (2, 12))[:, draw.integers(0, 12, places)] + draw.normal(0, 3, (2, places))
    sizes = np.abs(draw.normal(40, 20, (2, places)))
    sizes[:, draw.random(places) < 0.02] = 0
    scores = draw.random((classes, places)) ** 4
    scores = np.where(draw.random(scores.shape) < 0.3, np.round(scores, 2), scores)
    return np.concatenate([centres, sizes, scores]).astype(np.float32)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("classes", [1, 3, 11])
def test_suppression_is_ours_to_the_last_bit(classes: int, several: bool) -> None:
    draw = np.random.default_rng(classes + 100 * several)
    for number in range(35):
        raw = raw_answer(draw, classes, int(draw.integers(7, 900)))
        confidence, iou = float(draw.choice([0.01, 0.25, 0.3])), float(draw.choice([0.45, 0.6, 0.7]))
        most = int(draw.choice([5, 300]))
        ours = suppress(torch.from_numpy(raw.copy()[None]), confidence, iou, most, several)[0].numpy()
        theirs = runner.suppress(raw, confidence, iou, most, several)
        assert theirs.dtype == np.float32
        assert np.array_equal(ours, theirs), (number, len(ours), len(theirs))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (33, 700), (96, 96), (1, 5), (101, 67)])
def test_letterbox_and_way_back_are_ours(width: int, height: int) -> None:
    draw = np.random.default_rng(width)
    picture = draw.integers(0, 255, (height, width, 3), np.uint8)
    frame = fit_rectangle(width, height, 160, 96)
    canvas, place = runner.letterbox(picture, 96, 160)
    assert np.array_equal(canvas, frame.apply(picture))
    boxes = draw.uniform(-20, 200, (50, 4)).astype(np.float32)
    assert np.array_equal(runner.restore(boxes, place), frame.restore(boxes))


def calibration(names: tuple[str, ...]) -> ScoreCalibration:
    rising = (np.array([0.0, 0.2, 0.5, 1.0]), np.array([0.0, 0.3, 0.3, 0.9]))
    return ScoreCalibration(names, (rising, (np.array([0.0, 1.0]), np.array([0.1, 0.6])), rising), ("beta",) * 3, {})


@pytest.mark.parametrize("calibrated", [False, True])
def test_pictures_give_the_boxes_that_marauder_finds(
    graphs: dict[str, Path], pictures: list[np.ndarray], calibrated: bool
) -> None:
    predictor = open_predictor(graphs["fp32"], "cpu")
    if calibrated:
        thresholds = dict(zip(predictor.names, (0.35, 0.2, 0.25)))
        said = FolderDescription("m.onnx", calibration=calibration(predictor.names), thresholds=thresholds)
        predictor = FolderPredictor(graphs["fp32"].parent, predictor, said)
    bundle = {
        "input": list(predictor.accepts.size or ()),
        "names": list(predictor.names),
        "rules": describe_rules(predictor),
    }
    detector = runner.Detector(runner.open_engine(str(graphs["fp32"])), json.loads(json.dumps(bundle)))
    told = 0
    for picture in pictures:
        ours, theirs = predictor.predict([picture])[0], detector.find(np.ascontiguousarray(picture[:, :, ::-1]))
        assert [one["class"] for one in theirs] == [predictor.names[kind] for kind in ours.classes]
        assert np.array_equal(ours.scores, [one["score"] for one in theirs])
        assert np.array_equal(ours.boxes.reshape(-1, 4), np.reshape([one["box"] for one in theirs], (-1, 4)))
        told += len(theirs)
    assert told > 10


def test_the_command_reads_pictures_and_sets_bad_ones_aside(
    graphs: dict[str, Path], weights: Path, pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = reference_predictor(graphs["fp32"], weights)
    bundle = {
        "format": 1,
        "input": list(predictor.accepts.size or ()),
        "names": list(predictor.names),
        "rules": describe_rules(predictor),
    }
    monkeypatch.setattr(runner, "read_bundle", lambda: bundle)
    cv2.imwrite(str(tmp_path / "a.png"), pictures[1][:, :, ::-1])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "found.jsonl"
    words = [str(tmp_path / "a.png"), str(tmp_path / "bad.png"), "--engine", str(graphs["fp32"]), "--output", str(out)]
    assert runner.main(words) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(line["picture"]).name for line in lines] == ["a.png"] and lines[0]["animals"]


@pytest.mark.parametrize("name", ["runner.py", "selftest.py"])
def test_the_programs_run_on_python_3_6(name: str, tmp_path: Path) -> None:
    assert problems_on_3_6((DEVICE / name).read_text(), tmp_path) == []


@pytest.mark.parametrize(
    "line",
    ["if (n := 3): pass", "from dataclasses import dataclass", "import time; time.time_ns()", "def f(a, /): pass"],
)
def test_what_python_3_6_lacks_is_found(line: str, tmp_path: Path) -> None:
    assert problems_on_3_6(line, tmp_path)


def problems_on_3_6(text: str, folder: Path) -> list[str]:
    """Syntax that 3.6 does not read, and what the libraries of 3.6 do not have."""
    grammar = parso.load_grammar(version="3.6")
    problems = [error.message for error in grammar.iter_errors(grammar.parse(text))]
    file = folder / "program.py"
    file.write_text(text)
    command = [
        sys.executable,
        "-c",
        "from vermin.main import main; main()",
        "-t=3.6-",
        "--eval-annotations",
        "--no-tips",
        str(file),
    ]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    # By this line alone: a file without any evidence ends with status 1, too.
    least = re.search(r"Minimum required versions:.*?(3\.\d+)", told)
    if least is not None and int(least[1].split(".")[1]) > 6:
        problems.append(told.strip())
    return problems


OLD_NUMPY = {
    *("abs", "any", "arange", "argsort", "array", "asarray", "ascontiguousarray", "concatenate", "empty", "errstate"),
    *(
        "flatnonzero",
        "float32",
        "float64",
        "int64",
        "interp",
        "isfinite",
        "load",
        "maximum",
        "mean",
        "minimum",
        "ndarray",
    ),
    *("nonzero", "percentile", "searchsorted", "sum", "uint8", "unique", "__version__"),
}
"""What the programs take of numpy: all of it is in 1.13."""


@pytest.mark.parametrize("name", ["runner.py", "selftest.py"])
def test_the_programs_take_only_what_old_libraries_have(name: str) -> None:
    used: dict[str, set[str]] = {"np": set(), "cv2": set()}
    for node in ast.walk(ast.parse((DEVICE / name).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in used:
            used[node.value.id].add(node.attr)
    assert used["np"] <= OLD_NUMPY
    assert used["cv2"] <= {"imread", "resize", "INTER_LINEAR", "__version__"}


@pytest.fixture
def boards_tensorrt(graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module ``tensorrt`` in both of its shapes, with ONNX Runtime behind it, and host memory for the GPU's."""
    kept: list[Any] = []

    class Cuda:
        TO_DEVICE, TO_HOST = 1, 2

        def allocate(self, count: int) -> int:
            kept.append(ctypes.create_string_buffer(count))
            return ctypes.addressof(kept[-1])

        def copy(self, target: int, source: int, count: int, kind: int) -> None:
            ctypes.memmove(target, source, count)

        def wait(self) -> None:
            return

    monkeypatch.setattr(runner, "_Cuda", Cuda)

    def install(version: str) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version, graphs["fp32"]))

    return install


def fake_tensorrt(version: str, graph: Path) -> types.ModuleType:
    """TensorRT as its Python API is in 8 (bindings by number) and 10 (tensors by name)."""
    session = runner.OnnxEngine(str(graph))
    shapes = {"images": (1, 3, 96, 96), "output0": (1, 7, 189)}
    names = list(shapes)

    def compute(pointers: list[int]) -> bool:
        given, answer = (
            np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shapes[name]))).from_address(pointer))
            for name, pointer in zip(names, pointers)
        )
        answer[:] = session.run(given.reshape(shapes["images"])).ravel()
        return True

    class Context:
        def __init__(self) -> None:
            self.addresses: dict[str, int] = {}

        def execute_v2(self, pointers: list[int]) -> bool:
            return compute(pointers)

        def set_tensor_address(self, name: str, address: int) -> None:
            self.addresses[name] = address

        def execute_async_v3(self, stream: int) -> bool:
            return compute([self.addresses[name] for name in names])

    class Old:
        num_bindings = 2

        def get_binding_name(self, at: int) -> str:
            return names[at]

        def get_binding_shape(self, at: int) -> tuple[int, ...]:
            return shapes[names[at]]

        def get_binding_dtype(self, at: int) -> str:
            return "FLOAT"

        def binding_is_input(self, at: int) -> bool:
            return at == 0

        def create_execution_context(self) -> Context:
            return Context()

    class New:
        num_io_tensors = 2

        def get_tensor_name(self, at: int) -> str:
            return names[at]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return shapes[name]

        def get_tensor_dtype(self, name: str) -> str:
            return "FLOAT"

        def get_tensor_mode(self, name: str) -> str:
            return "INPUT" if name == "images" else "OUTPUT"

        def create_execution_context(self) -> Context:
            return Context()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, content: bytes) -> Any:
            # Of another board or version TensorRT gives nothing, and says so in its log.
            return None if content != b"engine" else (New() if version.startswith("10") else Old())

    class Logger:
        WARNING = 1

        def __init__(self, level: int) -> None:
            pass

    module = types.ModuleType("tensorrt")
    for name, value in (
        ("__version__", version),
        ("Runtime", Runtime),
        ("Logger", Logger),
        ("nptype", lambda kind: np.float32),
        ("TensorIOMode", types.SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")),
    ):
        setattr(module, name, value)
    return module


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_engines_run_by_either_api(version: str, boards_tensorrt: Any, graphs: dict[str, Path], tmp_path: Path) -> None:
    boards_tensorrt(version)
    (tmp_path / "e.plan").write_bytes(b"engine")
    engine = runner.open_engine(str(tmp_path / "e.plan"))
    assert engine.version == f"TensorRT {version}"
    pictures = np.random.default_rng(0).random((1, 3, 96, 96)).astype(np.float32)
    for _ in range(2):
        assert np.array_equal(engine.run(pictures), runner.OnnxEngine(str(graphs["fp32"])).run(pictures))
    (tmp_path / "foreign.plan").write_bytes(b"of another board")
    with pytest.raises(RuntimeError, match="built on another board or for another TensorRT"):
        runner.open_engine(str(tmp_path / "foreign.plan"))
