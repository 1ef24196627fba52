"""The self-test of a board: right engines pass, and each of eight planted faults is found at each precision."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marauder.bundles.archive import write_archive
from marauder.bundles.contents import bundle_files
from marauder.bundles.device import runner
from marauder.bundles.fixtures import make_fixtures, reference_predictor

PRECISIONS = ("int8", "fp16", "fp32")


@pytest.fixture(scope="module")
def packed(
    graphs: dict[str, Path], weights: Path, pictures: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle's archive."""
    predictor = reference_predictor(graphs["fp32"], weights)
    # Random weights do not survive seven bits as trained ones do: what is judged here are the limits.
    graphs = {**graphs, "int8": graphs["fp16"]}
    files = bundle_files("reef", "0" * 64, predictor, graphs, make_fixtures(predictor, pictures))
    target = tmp_path_factory.mktemp("packed") / "reef.tar.gz"
    first = write_archive(target, "reef", files)
    assert write_archive(target, "reef", dict(reversed(files.items()))) == first
    return target


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    """The bundle as a board unpacks it."""
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "reef"


@pytest.fixture
def selftest(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program as the board runs it: its neighbour is called ``runner``."""
    import importlib

    monkeypatch.setitem(sys.modules, "runner", runner)
    return importlib.import_module("marauder.bundles.device.selftest")


def verdict_on(
    selftest: Any, bundle: Path, precision: str, fault: Callable[[np.ndarray], np.ndarray] | None = None
) -> Any:
    """The verdict on an engine whose answers ``fault`` changes."""
    said = runner.read_bundle(str(bundle))
    engine = runner.open_engine(str(bundle / "graphs" / f"model_{precision}.onnx"))

    class Faulty:
        def run(self, pictures: np.ndarray) -> np.ndarray:
            answer = engine.run(pictures)
            return answer if fault is None else fault(answer.copy())

    fixtures = selftest.load_fixtures(str(bundle / "fixtures"))
    return selftest.test_engine(runner.Detector(Faulty(), said), fixtures, said["limits"][precision])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_right_engines_pass(selftest: Any, bundle: Path, precision: str) -> None:
    verdict = verdict_on(selftest, bundle, precision)
    assert verdict["reasons"] == [] and verdict["passed"]
    assert verdict["figures"]["animals_found"] > 10


def negated(answer: np.ndarray) -> np.ndarray:
    answer[:, 4:] *= -1
    return answer


def duplicated(answer: np.ndarray) -> np.ndarray:
    """Every animal a second time beside itself, in places that saw none."""
    best = answer[0, 4:].max(axis=0)
    sure, none = np.flatnonzero(best > 0.1), np.flatnonzero(best < 0.03)
    count = min(len(sure), len(none))
    answer[0][:, none[:count]] = answer[0][:, sure[:count]]
    answer[0][0, none[:count]] += answer[0][2, none[:count]]
    return answer


def shifted(answer: np.ndarray) -> np.ndarray:
    answer[:, :2] += 3
    return answer


def reordered(answer: np.ndarray) -> np.ndarray:
    answer[:, 4:] = answer[:, [5, 6, 4]]
    return answer


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "negated scores": negated,
    "duplicates": duplicated,
    "zeros": np.zeros_like,
    "boxes shifted by 3 pixels": shifted,
    "other order of classes": reordered,
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_engine_is_found(selftest: Any, bundle: Path, precision: str, fault: str) -> None:
    verdict = verdict_on(selftest, bundle, precision, FAULTS[fault])
    assert not verdict["passed"] and verdict["reasons"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fault", ["blue first", "not divided by 255", "letterbox without padding"])
def test_a_fault_of_the_runner_is_found(
    selftest: Any, bundle: Path, precision: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "blue first":
        monkeypatch.setattr(runner, "red_first", lambda picture: picture)
    elif fault == "not divided by 255":
        monkeypatch.setattr(
            runner, "to_input", lambda canvas: canvas.transpose(2, 0, 1)[None].astype(np.float32, order="C")
        )
    else:
        import cv2

        def stretched(picture: np.ndarray, height: int, width: int) -> Any:
            place = {"width": picture.shape[1], "height": picture.shape[0], "left": 0, "top": 0}
            place |= {"scaled_width": width, "scaled_height": height}
            return cv2.resize(picture, (width, height)), place

        monkeypatch.setattr(runner, "letterbox", stretched)
    verdict = verdict_on(selftest, bundle, precision)
    assert not verdict["passed"] and verdict["reasons"]


def run_build(bundle: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``build.sh`` of the bundle."""
    import os

    every = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(["sh", "build.sh", *words], cwd=bundle, env=every, capture_output=True, text=True)


def test_a_bundle_is_tried_at_the_desk(bundle: Path) -> None:
    done = run_build(bundle, "--desk")
    assert done.returncode == 0, done.stderr
    verdict = json.loads((bundle / "verdict.json").read_text())
    assert verdict["engine"] == "model_int8.onnx" and verdict["precision"] == "int8"
    assert verdict["engines"][0]["speed"]["energy"] == "no sensor"
    assert verdict["bundle"] == json.loads((bundle / "bundle.json").read_text())["digest"]


def test_a_damaged_bundle_is_refused(bundle: Path) -> None:
    with (bundle / "graphs" / "model_fp32.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0")
    done = run_build(bundle, "--desk")
    assert done.returncode == 1 and "damaged: copy it again" in done.stderr
