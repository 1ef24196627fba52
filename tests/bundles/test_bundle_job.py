"""``marauder export --target``: what the bundle holds, what is left out of it, what is refused, and continuing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnxruntime.quantization import quantize_static

from marauder.bundles.job import build_here, export_engines
from marauder.bundles.making import BundleMaking
from marauder.bundles.operators import check_operators
from marauder.bundles.parser_table import parser_table
from marauder.bundles.quantising import Batches
from marauder.bundles.settings import EngineSettings
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.mistakes import MistakesError
from marauder.core.settings import load_checked
from marauder.exporting.base import GraphOptions
from marauder.exporting.inputs import make_batches, pattern
from marauder.exporting.settings import LatencySettings
from marauder.prediction.opening import open_predictor

SIZE = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of four clips, and one that is broken."""
    found = tmp_path_factory.mktemp("pictures")
    for index in range(48):
        cv2.imwrite(str(found / f"dive{index % 4}.mp4_{index:04d}.png"), pattern(7, index)[:, :, ::-1])
    (found / "dive0.mp4_0000a.png").write_bytes(b"no picture")
    return found


def settings(weights: Path, output: Path, pictures: Path, **changes: Any) -> EngineSettings:
    values = {"models": (weights,), "output": output, "formats": ("onnx",), "pictures": pictures, "fixture_count": 4}
    values |= {"target": "jetson-orin-nano", "latency": LatencySettings(enabled=False), **changes}
    return EngineSettings.model_validate(values)


def test_a_bundle_is_made_once_and_again_when_something_changes(
    weights: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(weights, tmp_path, folder)
    done = export_engines(wanted, Clock())
    (bundle,) = done.bundles
    assert done.passed and bundle.archive is not None and bundle.report["problems"] == []
    first = bundle.archive.read_bytes()
    with tarfile.open(bundle.archive) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
        content = archive.extractfile("reef_jetson-orin-nano/bundle.json")
        assert content is not None
        said = json.load(content)
        assert all(entry.mtime == 0 and not entry.name.startswith("/") for entry in archive)
    assert {"build.sh", "runner.py", "selftest.py", "labels.txt", "checksums.sha256"} <= names
    assert {name for name in names if name.startswith("graphs/")} == {
        "graphs/model_fp16.onnx",
        "graphs/model_fp32.onnx",
    }
    assert said["precisions"] == ["fp16", "fp32"] and said["input"] == [SIZE, SIZE]
    # Of every clip, and those pictures in which the detector finds something.
    assert len(bundle.report["pictures"]["fixtures"]) == 4 and bundle.report["animals_in_fixtures"] > 4
    assert "no table of TensorRT 10.3, 10.15 is published: that of 10.1 stands for it" in bundle.report["remarks"]

    def never(self: BundleMaking) -> Any:
        raise AssertionError("made again")

    with monkeypatch.context() as patched:
        patched.setattr(BundleMaking, "_make", never)
        again = export_engines(wanted, Clock()).bundles[0]
        assert again.archive == bundle.archive and again.report == bundle.report
        with pytest.raises(AssertionError, match="made again"):
            export_engines(settings(weights, tmp_path, folder, fixture_count=5), Clock())
    bundle.archive.write_bytes(b"damaged")
    assert export_engines(wanted, Clock()).bundles[0].passed and bundle.archive.read_bytes() == first


def test_a_precision_that_answers_otherwise_is_left_out(weights: Path, folder: Path, tmp_path: Path) -> None:
    # Random weights do not survive int8: what would be found on the board is found here.
    wanted = settings(weights, tmp_path, folder, calibration_data=folder, quantisation={"picture_count": 16})
    done = export_engines(wanted, Clock())
    (bundle,) = done.bundles
    assert not done.passed and bundle.archive is not None
    assert any(one.startswith("int8: inputs: ") for one in bundle.problems)
    with tarfile.open(bundle.archive) as archive:
        assert not [name for name in archive.getnames() if "int8" in name]
    assert bundle.report["precisions"]["int8"]["parser_findings"] == 0


def test_what_a_precision_costs_is_measured_on_labelled_pictures(weights: Path, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part in ("images/train", "labels/train", "images/val", "labels/val"):
        (data / part).mkdir(parents=True)
    predictor = open_predictor(weights, "cpu")
    (data / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {list(predictor.names)}\n")
    for number, path in enumerate(sorted(folder.glob("*[0-9].png"))[:24]):
        split = "train" if number < 4 else "val"
        picture = cv2.imread(str(path))[:, :, ::-1]
        found = predictor.predict([np.ascontiguousarray(picture)])[0]
        (data / "images" / split / path.name).write_bytes(path.read_bytes())
        height, width = picture.shape[:2]
        lines = [
            f"{kind} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}"
            for kind, (x0, y0, x1, y1) in zip(found.classes, found.boxes)
        ]
        (data / "labels" / split / f"{path.stem}.txt").write_text("\n".join(lines))
    wanted = settings(weights, tmp_path / "out", folder, data=data / "data.yaml")
    with pytest.raises(UserError, match="test"):
        export_engines(wanted.changed({"split": "test"}), Clock())
    assert not (tmp_path / "out").exists()
    (bundle,) = export_engines(wanted, Clock()).bundles
    assert bundle.problems == ()
    told = bundle.report["precisions"]
    assert told["fp32"]["map50"] > 0.5 and told["fp32"]["lost_map50_95"] == 0
    assert abs(told["fp16"]["lost_map50_95"]) < 0.02


def test_the_default_call_of_the_quantiser_is_refused(
    graphs: dict[str, Path], pictures: list[np.ndarray], tmp_path: Path
) -> None:
    batches = make_batches(pictures[:2], GraphOptions(SIZE, SIZE), 32)
    quantize_static(graphs["fp32"], tmp_path / "default.onnx", Batches("images", batches))
    findings = check_operators(onnx.load(tmp_path / "default.onnx"), parser_table("8.5"))
    assert len(findings) > 50 and any("zero point is not 0" in str(one) for one in findings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "jetson-nanoo"}, "no such board; did you mean jetson-nano"),
        ({"target": "jetson-nano", "jetpack": "4.6.0"}, r"its TensorRT 8\.0 is older"),
        ({"target": "jetson-nano", "precision": "int8"}, "the GPU of Jetson Nano \\(first\\) has none"),
        ({"precision": "int8"}, "give real pictures that set its scales"),
        ({"target": None, "jetpack": "6.2"}, "jetpack: is of a bundle for a board"),
        ({"dynamic": True}, "one picture of fixed size at a time"),
        ({"formats": ["torchscript"]}, "let onnx be among them"),
    ],
)
def test_what_cannot_be_is_refused(weights: Path, folder: Path, tmp_path: Path, changes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(weights, tmp_path, folder, **changes)


def test_pictures_are_asked_for(weights: Path, tmp_path: Path) -> None:
    given = [f"models=[{weights}]", f"output={tmp_path / 'out'}", "target=jetson-nano"]
    with pytest.raises(MistakesError, match="a board tests its engine by real pictures"):
        load_checked(EngineSettings, None, given)


FAKE = """#!/bin/sh
# Builds what it is told to, in the way of TensorRT {version}.
case "$1" in --help) echo "{help}"; exit 0 ;; esac
echo "$@" >> {calls}
for word in "$@"; do
    case "$word" in
    --onnx=*) graph=${{word#--onnx=}} ;;
    --saveEngine=*) engine=${{word#--saveEngine=}} ;;
    esac
done
{fault}
cp "$graph" "$engine"
"""


def fake_trtexec(folder: Path, version: str, help: str, fault: str = "") -> tuple[Path, Path]:
    """A program in place of TensorRT's builder, and the file of its calls."""
    calls, program = folder / "calls", folder / "trtexec"
    program.write_text(FAKE.format(version=version, help=help, calls=calls, fault=fault))
    program.chmod(0o755)
    return program, calls


def test_build_here_tells_of_an_engine_that_cannot_be_opened(weights: Path, folder: Path, tmp_path: Path) -> None:
    (bundle,) = export_engines(settings(weights, tmp_path / "out", folder), Clock()).bundles
    assert bundle.archive is not None
    # Built, but there is no TensorRT to open it: no engine passes, and both precisions were tried.
    program, calls = fake_trtexec(tmp_path, "8.5", "--fp16 --int8 --memPoolSize --noTF32")
    passed, words = build_here(bundle.archive, program, Clock())
    assert not passed and "no engine is right on this board" in words
    tried = calls.read_text().splitlines()
    assert (
        "--onnx=graphs/model_fp32.onnx --saveEngine=engine_fp16.plan.part --fp16 --memPoolSize=workspace:" in tried[0]
    )
    assert "engine_fp32.plan.part --noTF32" in tried[1]
    verdict = json.loads((bundle.archive.parent / "reef_jetson-orin-nano" / "verdict.json").read_text())
    assert verdict["engine"] is None and "tensorrt" in verdict["engines"][0]["reasons"][0]


def test_flags_follow_what_the_builder_knows(weights: Path, folder: Path, tmp_path: Path) -> None:
    (bundle,) = export_engines(settings(weights, tmp_path / "out", folder), Clock()).bundles
    assert bundle.archive is not None
    # TensorRT 11: precisions stand in the graph; TensorRT 8.2: another word for the memory.
    program, calls = fake_trtexec(tmp_path, "11.0", "--memPoolSize")
    build_here(bundle.archive, program, Clock())
    assert "--onnx=graphs/model_fp16.onnx" in calls.read_text().splitlines()[0]
    calls.unlink()
    program, calls = fake_trtexec(tmp_path, "8.2", "--fp16 --int8 --workspace")
    build_here(bundle.archive, program, Clock())
    assert " --workspace=" in calls.read_text()


def test_a_build_that_fails_goes_on_with_the_next(weights: Path, folder: Path, tmp_path: Path) -> None:
    (bundle,) = export_engines(settings(weights, tmp_path / "out", folder), Clock()).bundles
    assert bundle.archive is not None
    fault = 'case "$engine" in *fp16*) echo "out of memory"; exit 1 ;; esac'
    program, calls = fake_trtexec(tmp_path, "8.5", "--fp16 --memPoolSize", fault)
    _, words = build_here(bundle.archive, program, Clock())
    assert "engine_fp16.plan could not be built" in words and len(calls.read_text().splitlines()) == 2


def test_a_former_engine_is_kept_and_taken_back(weights: Path, folder: Path, tmp_path: Path) -> None:
    (bundle,) = export_engines(settings(weights, tmp_path / "out", folder), Clock()).bundles
    assert bundle.archive is not None
    with tarfile.open(bundle.archive) as archive:
        archive.extractall(tmp_path, filter="data")
    board = tmp_path / "reef_jetson-orin-nano"
    (board / "engine_fp16.plan").write_bytes(b"the engine that is in use")
    (board / "verdict.json").write_text(json.dumps({"engine": "engine_fp16.plan"}))
    program, _ = fake_trtexec(tmp_path, "8.5", "--fp16 --memPoolSize")
    environment = {**os.environ, "TRTEXEC": str(program), "PYTHON": sys.executable}

    def build(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "build.sh", *words], cwd=board, env=environment, capture_output=True, text=True)

    assert build().returncode == 1
    assert json.loads((board / "verdict.json").read_text())["engine"] is None
    assert build("--rollback").returncode == 0
    assert json.loads((board / "verdict.json").read_text())["engine"] == "engine_fp16.plan"
    assert (board / "engine_fp16.plan").read_bytes() == b"the engine that is in use"
    assert "nothing to go back to" in build("--rollback").stderr
