"""Step 7 as a whole: which detectors are trained on, what is left of each, what the report says; kills and mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_reef import NAMES, PLAIN, write_small_reef
from test_interruption import wait_for
from typer.testing import CliRunner

from marauder.cli import multiscale
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json
from marauder.data.records import Detections, Record
from marauder.evaluation.evaluate import evaluate
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import build_detector
from marauder.multiscale.report import AtSizes, compared, verdict_words, write_multi_scale_report
from marauder.multiscale.settings import MultiScaleStepSettings
from marauder.multiscale.sources import Source, files_of, sources_of
from marauder.multiscale.training import publish, run_multiscale
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.steps.step07_multiscale import STEP
from marauder.pipeline.workspace import Workspace
from marauder.runs.recipes import load_run_settings
from marauder.runs.settings import AUTO
from marauder.tasks.detection.evaluate_split import Measured

WORDS = [
    "training.device=cpu", "training.threads=1", "training.checkpoint_steps=2", "training.epochs=2",
    "training.batch_size=4", "multi_scale.sizes=[64,96]", "evaluation.slices_each_epoch=false", "evaluation.draws=20",
    *PLAIN,
]  # fmt: skip
NO_FLOOR = "gate.floor=off"


@pytest.fixture(scope="module")
def reef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_reef(tmp_path_factory.mktemp("multiscale"), train=8, val=3, test=4)


def save(file: Path, seed: int = 0, names: tuple[str, ...] = NAMES) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_detector(build_detector("yolov8t", names, seed), file.with_suffix(""), 64, {})
    return file


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("members")
    save(folder / "deep" / "best.pt", 1)
    save(folder / "shallow" / "best.pt", 2)
    return folder


def load(reef: Path, output: Path, *words: str) -> MultiScaleStepSettings:
    return load_run_settings(MultiScaleStepSettings, None, [*WORDS, *words], data=reef, output=output)


def test_each_detector_is_trained_on_in_its_folder_and_published(reef: Path, members: Path, tmp_path: Path) -> None:
    settings = load(
        reef, tmp_path / "multiscale", f"ensemble_models={members}", f"checkpoints={tmp_path / 'kept'}", NO_FLOOR
    )
    done = run_multiscale(settings, Clock())
    assert list(done.runs) == list(done.models) == ["deep", "shallow"] and done.exit_status == 0
    for name in ("deep", "shallow"):
        folder = tmp_path / "multiscale" / name
        assert hash_file(done.models[name]) == hash_file(folder / "best.pt")
        assert done.models[name] == tmp_path / "multiscale" / f"{name}.pt" and (tmp_path / "kept" / name).is_dir()
        report = read_json(folder / "multiscale_report.json")
        assert (report["before_is"], report["native"], report["trained_sizes"]) == (f"{name}/best.pt", 64, [64, 96])
        assert [row["size"] for row in report["by_size"]] == [64, 96] and report["words"]
        page = (folder / "multiscale_report.html").read_text(encoding="utf-8")
        assert "data:image/png" in page and "http" not in page.replace("http-equiv", "")
    assert {one.project for one in done.runs.values()} == {"multiscale-deep", "multiscale-shallow"}
    # A finished series is recognised; a report that is lost is written again, without training.
    (tmp_path / "multiscale" / "shallow" / "multiscale_report.json").unlink()
    weights = (tmp_path / "multiscale" / "shallow" / "best.safetensors").stat().st_mtime_ns
    again = run_multiscale(settings, Clock())
    assert again.runs["deep"].finished_before and "words" in again.reports["shallow"]
    assert (tmp_path / "multiscale" / "shallow" / "best.safetensors").stat().st_mtime_ns == weights
    # The settings that a run keeps are those of the run itself: they make no folder within its folder.
    own = load_run_settings(MultiScaleStepSettings, tmp_path / "multiscale" / "deep" / "config.yaml")
    (source,) = sources_of(own.ensemble_models, own.weights or AUTO, own.output or tmp_path)
    assert (source.name, source.folder, source.own) == ("deep", tmp_path / "multiscale" / "deep", True)
    assert run_multiscale(own, Clock()).runs["deep"].finished_before


@pytest.fixture
def start(reef: Path, members: Path) -> Callable[..., subprocess.Popen[str]]:
    def run(output: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "marauder.cli.main", "multiscale", "--data-yaml", str(reef)]
        words = [
            "--output",
            str(output),
            "--ensemble-models",
            f"{members}/deep,{members}/sh*/best.pt",
            *WORDS,
            NO_FLOOR,
        ]
        return subprocess.Popen(
            [*command, *words, "training.epochs=6", *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_killed_with_the_second_and_out_of_time_it_ends_with_the_same_weights(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    text, _ = start(tmp_path / "whole").communicate(timeout=300)
    assert "model:" in text, text
    process = start(tmp_path / "cut", "--max-hours", str(0.5 / 3600))
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 75 and "--ensemble-models" in text, text
    process = start(tmp_path / "cut")
    wait_for(process, lambda: any((tmp_path / "cut" / "shallow" / "checkpoints").glob("checkpoint_*.json")))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "cut" / "shallow.pt").exists()
    process = start(tmp_path / "cut")
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and text.count("it was finished before") == 1, text
    for name in ("deep", "shallow"):
        hashes = [hash_file(tmp_path / way / name / "last.safetensors") for way in ("whole", "cut")]
        assert hashes[0] == hashes[1], name


def test_mistakes_are_told_in_one_list_before_anything_is_touched(reef: Path, members: Path, tmp_path: Path) -> None:
    words = ["--data-yaml", str(reef), "--output", str(tmp_path / "out")]
    for more, told in (
        (
            ["--ensemble-models", "gone.pt,none*.pt", "--epochs", "0"],
            ["gone.pt: no such file", "none*.pt: no .pt", "--epochs"],
        ),
        (["--ensemble-models", str(members), "--base-model", str(members / "deep" / "best.pt")], ["only one of them"]),
        ([], ["there is no detector to go on from", "--base-model"]),
        (["weights=none"], ["goes on from a detector of these classes"]),
        (["weights=yolov8n.pt"], ["multi_scale.enabled=true"]),
        (["--sizes", "100"], ["100 is not a multiple of 32"]),
        (["--base-model", "gone.pt"], ["gone.pt: no such file"]),
    ):
        error = CliRunner().invoke(multiscale.app, [*words, *more]).exception
        assert isinstance(error, UserError)
        for part in told:
            assert part in str(error)
    assert not (tmp_path / "out").exists()


def test_detectors_of_other_classes_or_architecture_are_refused_together(reef: Path, tmp_path: Path) -> None:
    save(tmp_path / "a" / "best.pt", names=("disc", "ray"))
    save(tmp_path / "b" / "best.pt")
    settings = load(reef, tmp_path / "out", f"ensemble_models=[{tmp_path / 'a'},{tmp_path / 'b'}]", "model=yolov8n")
    with pytest.raises(UserError, match=r"(?s)is a yolov8t, and model is yolov8n.*is a yolov8t"):
        run_multiscale(settings, Clock())
    with pytest.raises(UserError, match=r"does not know square, cross and knows ray"):
        run_multiscale(settings.changed({"model": "auto"}), Clock())
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"b/best.pt: multi_scale: at image_size 64 the sizes would go from 128 to 96"):
        words = ["multi_scale.sizes=[]", "multi_scale.smallest=128", f"weights={tmp_path / 'b' / 'best.pt'}"]
        run_multiscale(load(reef, tmp_path / "out", *words), Clock())
    settings = load(reef, tmp_path / "out", f"weights={tmp_path / 'b' / 'best.pt'}")
    with pytest.raises(UserError, match="is not a checkpoint of this step"):
        run_multiscale(settings, Clock(), resume=tmp_path / "other.pt")


def test_a_file_a_pattern_and_every_kind_of_folder_name_detectors(tmp_path: Path) -> None:
    def touch(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return paths

    run = touch("critical/best.pt", "critical/last.pt")[:1]
    several = touch("ensemble/one/best.pt", "ensemble/two/best.pt")
    below = touch("nano/members/m1/best.pt", "nano/members/m2/best.pt")
    flat = touch("flat/reef.pt", "flat/wreck.pt")
    assert files_of(str(tmp_path / "critical")) == run == files_of(str(run[0]))
    assert files_of(str(tmp_path / "ensemble")) == several == files_of(str(tmp_path / "ensemble" / "*"))
    assert files_of(str(tmp_path / "nano")) == below and files_of(str(tmp_path / "flat")) == flat
    assert files_of(str(tmp_path / "flat" / "*.pt")) == flat and files_of(str(tmp_path / "no" / "*.pt")) == []
    described = touch("shore/reef.pt", "shore/deep/best.pt")
    members = [{"model": "reef.pt"}, {"model": "deep"}]
    (tmp_path / "shore" / "predictor.json").write_text(json.dumps({"ensemble": {"members": members}}), encoding="utf-8")
    assert files_of(str(tmp_path / "shore")) == described
    named = [str(tmp_path / "flat"), str(flat[0]), str(tmp_path / "critical")]
    found = sources_of(named, AUTO, tmp_path / "multiscale")
    assert [one.name for one in found] == ["reef", "wreck", "critical"], "each once"
    beside = sources_of(["ensemble"], AUTO, tmp_path / "multiscale")
    assert [one.path for one in beside] == several, "a name alone is that of a folder beside the output"
    # Without a name it is the newest step's.
    assert sources_of((), AUTO, tmp_path / "multiscale")[0].path == run[0]
    run[0].unlink()
    baseline = touch("baseline/best.pt")
    assert sources_of((), AUTO, tmp_path / "multiscale")[0].path == baseline[0]


def test_the_pipeline_knows_its_detectors_and_results(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    pipeline = Pipeline(workspace, None, ["multiscale.training.epochs=3"])
    assert pipeline.settings_of(STEP).weights == workspace.model("baseline") / "best.pt"
    named = Pipeline(workspace, None, ["multiscale.ensemble_models=[a/one.pt,a/two.pt]"]).settings_of(STEP)
    outputs = [one.path for one in STEP.outputs(workspace, named) if one.path.suffix == ".pt"]
    assert outputs == [workspace.model("multiscale") / f"{name}.pt" for name in ("one", "two")]
    assert {Path("a/one.pt"), Path("a/two.pt")} <= {one.path for one in STEP.inputs(workspace, named)}
    assert "multiscale" in pipeline.statuses()


def measured(lost_small: float, lost_large: float = 0.0, seed: int = 0, clips: int = 12) -> Measured:
    """A detector that finds every animal but a share of the small and of the large ones, on pictures of 1280 pixels."""
    random = np.random.default_rng(seed)
    records, detections = [], []
    for clip in range(clips):
        small = np.array([[100.0 * place, 10, 100 * place + 40, 50] for place in range(6)])
        large = np.array([[300.0 * place, 300, 300 * place + 200, 520] for place in range(4)])
        boxes, classes = np.concatenate([small, large]), np.arange(10) % 2
        records.append(Record(f"{clip}", Path(f"{clip}.png"), 1280, 720, boxes=boxes, classes=classes, group=f"{clip}"))
        kept = random.random(10) >= np.array([lost_small] * 6 + [lost_large] * 4)
        detections.append(Detections(boxes[kept], np.full(kept.sum(), 0.9), classes[kept]))
    return Measured(evaluate(records, detections, NAMES[:2], []), records, detections)


ABOUT = {
    "title": "x", "split": "test", "before_is": "baseline", "native": 640, "trained_sizes": [480, 768],
    "schedule": "even",
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "small", "native"),
    [
        ((0.5, 0.0), (0.1, 0.0), "gained", "gained"),
        ((0.1, 0.0), (0.5, 0.0), "lost", "lost"),
        ((0.3, 0.0), (0.3, 0.0), "not shown", "kept"),
        ((0.3, 0.1), (0.3, 0.8), "not shown", "lost"),
    ],
)
def test_the_verdict_follows_from_the_intervals(
    before: tuple[float, float], after: tuple[float, float], small: str, native: str, tmp_path: Path
) -> None:
    one, other = measured(*before), measured(*after)
    sizes = AtSizes(640, {640: one, 768: one}, {640: other, 768: measured(0.0)})
    write_multi_scale_report(tmp_path, sizes, ABOUT, 100, Clock())
    content = read_json(tmp_path / "multiscale_report.json")
    assert content["verdict"] == {"small": small, "native": native}
    row = content["by_size"][0]["map_small"]
    # 40 pixels of a picture of 1280: medium as COCO counts, small as a detector at 640 sees it.
    assert (row["boxes"], row["groups"]) == (72, 12)
    assert content["in_picture_pixels"]["map_small"]["boxes"] == 0
    assert content["by_size"][0]["map50_95"]["before"] == pytest.approx(one.result.overall.map50_95)
    if before != (0.3, 0.0):
        assert "Used at 768 pixels" in " ".join(content["words"])


def test_few_clips_and_no_small_animals_are_no_verdict() -> None:
    few = measured(0.3, clips=3)
    content = compared(AtSizes(640, {640: few}, {640: measured(0.0, clips=3)}), 20, Clock())
    assert content["verdict"] == {"small": "too few", "native": "too few"}
    large = replace(few, records=[replace(one, boxes=one.boxes * 10) for one in few.records], detections=few.detections)
    content: dict[str, Any] = compared(AtSizes(640, {640: large}, {640: large}), 20, Clock())
    assert content["verdict"]["small"] == "none"
    assert "no small animals" in verdict_words({**ABOUT, **content})[0]


def test_a_failed_gate_publishes_nothing_and_takes_an_earlier_result_away(members: Path, tmp_path: Path) -> None:
    source = Source("deep", members / "deep" / "best.pt", tmp_path / "deep")
    run: Any = SimpleNamespace(exit_status=0, weights=source.path)
    published = publish(run, source)
    assert published == tmp_path / "deep.pt" and hash_file(published) == hash_file(source.path)
    before = published.stat().st_mtime_ns
    assert publish(run, source) == published and published.stat().st_mtime_ns == before, (
        "whole, it is not written again"
    )
    run.exit_status = 3
    assert publish(run, source) is None and not published.exists()
