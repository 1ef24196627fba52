"""The export job: files in place only when they answer as the model does, folders of their own, nothing done twice."""

from __future__ import annotations

import itertools
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.settings import load_settings
from marauder.engine.state import Outcome
from marauder.exporting.folders import folder_names, weight_files
from marauder.exporting.job import ExportSummary, describe_tensorrt, export_models
from marauder.exporting.latency import Timing, measure_latency, why_unsteady
from marauder.exporting.onnx import OnnxExporter
from marauder.exporting.settings import ExportSettings
from marauder.exporting.settings import LatencySettings as LatencyMeasuring
from marauder.gates.latency import LatencyEvidence, LatencySettings
from marauder.models.files import save_detector
from marauder.prediction.onnx import OnnxPredictor
from marauder.runs.engine_gates import latency_evidence
from marauder.runs.task_runtime import Exported, Findings
from marauder.testing.lively_detectors import NAMES, SIZE, save_lively, write_pictures


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two different detectors, both in files called ``best.pt``, as training leaves them."""
    folder = tmp_path_factory.mktemp("models")
    return [save_lively(folder / name / "best", seed=seed).path.with_suffix(".pt") for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


QUICK = {"latency": {"rounds": 5, "warm_up": 1, "threads": 1}}
Exports = Callable[..., ExportSummary]
OUTCOME = Outcome(3, 30, None, None, 1.0, [], False)


@pytest.fixture
def exports(models: list[Path], pictures: Path, tmp_path: Path) -> Exports:
    """Run an export with quick settings into ``tmp_path / "out"``."""

    def run(clock: Clock | None = None, **changes: Any) -> ExportSummary:
        content = {"models": models[:1], "pictures": pictures, "output": tmp_path / "out", **QUICK, **changes}
        return export_models(ExportSettings.model_validate(content), clock or Clock())

    return run


class StoppingClock(Clock):
    """A clock that lets ``checks`` questions pass and then says stop."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.checks = checks

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        self.checks -= 1
        return "test" if self.checks < 0 else None


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_models_of_one_name_get_folders_of_their_own(exports: Exports, models: list[Path], tmp_path: Path) -> None:
    summary = exports(models=models)
    assert summary.passed and summary.real_pictures
    assert [model.name for model in summary.models] == ["a", "b"]
    for model in summary.models:
        assert set(files(model.folder)) == {
            "model.onnx",
            "model.torchscript",
            "metadata.yaml",
            "export_report.json",
            "export_report.md",
        }
        report = json.loads((model.folder / "export_report.json").read_text(encoding="utf-8"))
        assert report["names"] == list(NAMES) and report["pictures"]["real"]
        assert (model.folder / report["source"]).resolve() == (models[0].parents[1] / model.name / "best.pt").resolve()
        for name in ("onnx", "torchscript"):
            parity = report["formats"][name]["parity"]
            assert parity["verdict"] == "pass" and parity["boxes"] >= 20 and parity["unmatched"] == 0
        timings = report["latency"]["timings"]
        assert set(timings) == {"pytorch", "onnx", "torchscript"}
        assert all(0 < timing["p50"] <= timing["p95"] for timing in timings.values())
        assert report["latency"]["threads"] == 1 and report["latency"]["machine"]
        readable = (model.folder / "export_report.md").read_text(encoding="utf-8")
        assert "| onnx | `model.onnx` |" in readable and "interleaved" in readable
        assert readable.splitlines()[-1] == describe_tensorrt()
    first, second = (model.folder / "model.onnx" for model in summary.models)
    assert first.read_bytes() != second.read_bytes()
    assert json.loads((tmp_path / "out" / "export_summary.json").read_text())["verdict"] == "pass"


def test_what_is_done_is_not_done_again(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    # A latency of a busy machine is measured again: here the machine counts as one at rest.
    monkeypatch.setattr("marauder.exporting.latency.why_unsteady", lambda _timings: "")
    before = files(exports().models[0].folder)
    monkeypatch.setattr(OnnxExporter, "export", forbidden)
    monkeypatch.setattr("marauder.exporting.model_export.load_detector", forbidden)
    again = exports()
    assert all(result.reused for result in again.models[0].formats.values())
    assert files(again.models[0].folder) == before


def forbidden(*_arguments: object) -> None:
    raise AssertionError("done again")


def test_only_what_changed_is_done_again(exports: Exports, models: list[Path]) -> None:
    folder = exports().models[0].folder
    right = files(folder)
    (folder / "model.onnx").write_bytes(right["model.onnx"][:-1] + b"!")
    mended = exports()
    assert {name: result.reused for name, result in mended.models[0].formats.items()} == {
        "onnx": False,
        "torchscript": True,
    }
    assert files(folder)["model.onnx"] == right["model.onnx"]
    assert not any(result.reused for result in exports(image_size=128).models[0].formats.values())
    assert files(folder)["model.onnx"] != right["model.onnx"]


def test_a_busy_processor_is_told() -> None:
    calm, jumpy = Timing(10, 15, 1.0), Timing(10, 91, 1.0)
    assert why_unsteady({"onnx": calm, "a": Timing(10, 30, 1.0)}) == ""
    assert "the 95th percentile of onnx is 9.1 times its median" in why_unsteady({"a": calm, "onnx": jumpy})


def test_others_on_the_host_do_not_make_figures_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load average counts the whole host, of which a container has a part, and this process's own past minute."""
    monkeypatch.setattr("os.getloadavg", lambda: (500.0, 500.0, 500.0))
    ticks = itertools.count()
    # Steady by decree, not by the machine that the test runs on.
    monkeypatch.setattr("marauder.exporting.latency.time", SimpleNamespace(sleep=id, perf_counter=lambda: next(ticks)))
    example, settings = np.zeros((1, 3, 32, 32), np.float32), LatencyMeasuring(rounds=5, warm_up=1, threads=1)
    measured = measure_latency({"pytorch": np.copy, "onnx": np.copy}, example, settings, Clock())
    assert measured.rounds == 5 and measured.unsteady == ""


def test_a_latency_of_a_busy_machine_is_measured_again_and_only_that(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words say "measure again": the same command does."""
    spreads = iter(("the processor was busy", ""))
    monkeypatch.setattr("marauder.exporting.latency.why_unsteady", lambda _timings: next(spreads))
    told = [exports(formats="torchscript").models[0].report for _ in range(3)]
    busy, calm, kept = (report["latency"] for report in told if report is not None)
    assert busy["unsteady"] == "the processor was busy" and calm["unsteady"] == ""
    assert kept == calm, "a third measurement was not asked for"


def test_a_damaged_report_is_made_again(exports: Exports) -> None:
    folder = exports(formats="onnx").models[0].folder
    (folder / "export_report.json").write_text("{", encoding="utf-8")
    assert not exports(formats="onnx").models[0].formats["onnx"].reused
    assert exports(formats="onnx").models[0].formats["onnx"].reused


def test_fresh_starts_over(exports: Exports) -> None:
    before = files(exports(formats="onnx").models[0].folder)
    again = exports(formats="onnx", fresh=True)
    assert not again.models[0].formats["onnx"].reused
    assert files(again.models[0].folder)["model.onnx"] == before["model.onnx"]


def test_interrupted_anywhere_and_run_again_it_ends_the_same(exports: Exports, tmp_path: Path) -> None:
    whole = exports(output=tmp_path / "whole").models[0].folder
    checks, interruptions = 1, 0
    while True:
        try:
            cut = exports(StoppingClock(checks)).models[0]
            break
        except Interrupted:
            interruptions += 1
            checks += 4
            half = tmp_path / "out" / "a"
            if (half / "model.onnx").exists():
                assert (half / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()
    assert interruptions >= 3
    for name in ("model.onnx", "model.torchscript", "metadata.yaml"):
        assert (cut.folder / name).read_bytes() == (whole / name).read_bytes()
    assert set(files(cut.folder)) == set(files(whole)), "nothing unchecked is left behind"


def test_a_file_that_answers_otherwise_is_not_put_in_place(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    good = files(exports(formats="onnx").models[0].folder)
    run_rightly = OnnxPredictor.run
    monkeypatch.setattr(OnnxPredictor, "run", lambda self, images: run_rightly(self, images) * 1.01)
    summary = exports(formats="onnx", opset=14)
    result = summary.models[0].formats["onnx"]
    assert not summary.passed and not result.passed and result.reasons
    assert result.path.name == "model.failed_parity.onnx" and result.path.is_file()
    folder = summary.models[0].folder
    assert not (folder / "model.onnx").exists(), "a file of other settings stayed where this one belongs"
    assert files(folder)["model.superseded.onnx"] == good["model.onnx"]
    assert "**fail**" in (folder / "export_report.md").read_text(encoding="utf-8")
    monkeypatch.undo()
    mended = exports(formats="onnx", opset=14)
    assert mended.passed and not (folder / "model.failed_parity.onnx").exists()


def test_the_latency_gate_takes_ties_but_no_wrong_graph(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A detector that has learned little: all its scores are small and alike, and rounding breaks ties."""
    weak = save_lively(tmp_path / "weak")
    with torch.no_grad():
        for layers in weak.model.model[-1].cv3:
            layers[-1].weight *= 0.02
            layers[-1].bias[:] = -9
    save_detector(weak.model, tmp_path / "weak", SIZE, {})

    def asked(wrong: Callable[[torch.Tensor], torch.Tensor]) -> tuple[LatencyEvidence, Plain]:
        run_rightly = OnnxPredictor.run
        monkeypatch.setattr(OnnxPredictor, "run", lambda self, images: wrong(run_rightly(self, images)))
        model = exports(models=[tmp_path / "weak.safetensors"], formats="onnx", fresh=True).models[0]
        monkeypatch.undo()
        assert model.report is not None
        made = [Exported(name, one.path, one.reasons) for name, one in model.formats.items()]
        findings = Findings(OUTCOME, exported=made, latency=model.report["latency"])
        return latency_evidence(findings, LatencySettings()), model.report["formats"]["onnx"]["parity"]

    noise = 1 + 5e-4 * torch.rand((1, 3, 525), generator=torch.Generator().manual_seed(0))
    evidence, parity = asked(lambda answer: torch.cat([answer[:, :4], answer[:, 4:] * noise], 1))
    assert "onnx" in evidence.formats and parity["near_ties"] > 0
    with pytest.raises(UserError, match=r"onnx does not give the model's answers \(raw scores differ"):
        asked(lambda answer: torch.cat([answer[:, :4], answer[:, 4:].roll(1, 1)], 1))


def test_a_model_that_cannot_be_opened_does_not_stop_the_others(
    exports: Exports, models: list[Path], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(b"no checkpoint")
    summary = exports(models=[damaged, models[0]], formats="onnx")
    assert not summary.passed
    broken, whole = summary.models
    assert broken.problem is not None and "damaged.pt" in broken.problem
    assert whole.passed


def test_another_models_folder_is_not_overwritten(exports: Exports, models: list[Path], tmp_path: Path) -> None:
    exports(formats="onnx")
    other = save_lively(tmp_path / "elsewhere" / "a" / "best", seed=5).path
    with pytest.raises(UserError, match=r"holds the exports of another model.*--fresh"):
        exports(models=[other], formats="onnx")
    assert exports(models=[other], formats="onnx", fresh=True).passed


def test_without_pictures_it_says_so(exports: Exports) -> None:
    summary = exports(pictures=None, formats="onnx")
    assert summary.passed and not summary.real_pictures
    readable = (summary.models[0].folder / "export_report.md").read_text(encoding="utf-8")
    assert "Not compared on real pictures" in readable


def test_a_picture_that_cannot_be_read_is_set_aside(exports: Exports, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "mixed", 2)
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    summary = exports(pictures=folder, formats="onnx")
    assert summary.passed
    assert len(summary.skipped_pictures) == 1 and "cut.jpg" in summary.skipped_pictures[0]


@pytest.mark.parametrize("changes", [{"batch": 3}, {"dynamic": True}, {"image_size": "96x160"}])
def test_other_graphs_pass_too(changes: dict[str, Any], exports: Exports) -> None:
    summary = exports(formats="onnx", **changes)
    assert summary.passed, summary.models[0].formats["onnx"].reasons


def test_a_size_off_the_stride_is_refused(exports: Exports) -> None:
    (model,) = exports(image_size=100, formats="onnx").models
    assert model.problem == "image size 100x100: both must be multiples of 32"


def test_missing_models_are_named_before_any_work(exports: Exports, models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt: no such file"):
        exports(models=[models[0], tmp_path / "nowhere.pt"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given_models", "expected"),
    [("a.pt,b.pt", ["a.pt", "b.pt"]), (["a.pt", "b.pt, c.pt"], ["a.pt", "b.pt", "c.pt"]), (["a.pt", "a.pt"], ["a.pt"])],
)
def test_models_may_be_a_list_or_have_commas(given_models: Any, expected: list[str]) -> None:
    assert [str(path) for path in load_settings(ExportSettings, models=given_models).models] == expected


@pytest.mark.parametrize(
    ("written", "expected"), [(640, (640, 640)), ("640", (640, 640)), ("384x640", (384, 640)), ([96, 64], (96, 64))]
)
def test_sizes_may_be_written_in_several_ways(written: Any, expected: tuple[int, int]) -> None:
    assert load_settings(ExportSettings, models=["a.pt"], image_size=written).image_size == expected


@pytest.mark.parametrize(
    "bad", [{"formats": "onnx,engine"}, {"image_size": "big"}, {"opset": 9}, {"models": []}, {"image_size": 0}]
)
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(UserError, match=f"^option --{name.replace('_', '-')}: "):
        load_settings(ExportSettings, **{"models": ["a.pt"], **bad})


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["runs/baseline/best.pt"], ["baseline"]),
        (["runs/baseline/weights/best.pt"], ["baseline"]),
        (["runs/baseline/best.pt", "runs/baseline/last.pt"], ["baseline", "baseline-last"]),
        (["x/nano/best.pt", "y/nano/best.pt", "z/shore/best.pt"], ["x-nano", "y-nano", "shore"]),
        (["reef.pt", "sub/reef.pt", "kelp.pt"], None),
    ],
)
def test_folder_names_tell_models_apart(paths: list[str], expected: list[str] | None) -> None:
    names = folder_names([Path("/w") / path for path in paths])
    assert len(set(names)) == len(paths)
    assert expected is None or names == expected


words = st.sampled_from(["a", "b", "a-b", "best", "weights", "last"])


@given(st.lists(st.lists(words, min_size=1, max_size=4).map(lambda parts: "/".join(parts)), max_size=8, unique=True))
def test_no_two_models_ever_share_a_folder(paths: list[str]) -> None:
    names = folder_names([Path("/w", f"{path}.pt") for path in paths])
    assert len(set(names)) == len(paths)
    assert all(name and "/" not in name for name in names)


def test_one_model_named_twice_is_exported_once_and_never_from_another_file(models: list[Path]) -> None:
    for named in (models[0], models[0].with_suffix(".safetensors")):
        assert weight_files([named, named]) == [named]
    with pytest.raises(UserError, match=r"best\.pt: is named beside a file of the same name .*name one of them"):
        weight_files([models[0], models[0].with_suffix(".safetensors")])
    with pytest.raises(UserError, match=r"(?s)x\.pt: no such file.*y\.safetensors: no such file"):
        weight_files([models[0].with_name("x.pt"), models[0].with_name("y.safetensors")])


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            None,
            "TensorRT is not installed here: engines are built on the device that runs them, from model.onnx. The "
            "portable formats are done.",
        ),
        (
            "8.2.1",
            "TensorRT 8.2.1 is installed here, but an engine fits only the device it was built on: build it there, "
            "from model.onnx. The portable formats are done.",
        ),
    ],
)
def test_tensorrt_is_spoken_of_as_it_is(version: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    present = types.ModuleType("tensorrt")
    present.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", present if version else None)
    assert describe_tensorrt() == said
