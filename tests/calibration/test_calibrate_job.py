"""Step 8 as a whole: one folder that answers as it was measured, stopped and continued, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ultralytics import YOLO

import marauder
from marauder.calibration.job import CalibrateSummary, calibrate_models
from marauder.calibration.settings import CalibrateSettings
from marauder.core.clock import EXIT_INTERRUPTED, Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_json
from marauder.core.settings import load_checked, load_settings
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.writers import write_yolo
from marauder.engine.distributed import choose_device
from marauder.exporting.folders import weight_files
from marauder.exporting.inputs import pattern
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.step import StepContext
from marauder.pipeline.workspace import Workspace
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription
from marauder.prediction.folder_description import (
    DESCRIPTION_FILE,
    FolderDescription,
    read_description,
    write_description,
    write_predictor_folder,
)
from marauder.prediction.opening import open_predictor
from marauder.prediction.settings import MEASURING
from marauder.prediction.view_names import PLAIN
from marauder.prediction.viewing import ViewingPredictor
from marauder.tasks.detection.evaluate_split import evaluate_split
from marauder.testing.lively_detectors import NAMES, save_lively

SIZE, CLIPS, FRAMES = 96, 16, 3


@dataclass(frozen=True)
class World:
    """A detector, in ``models/reef/best.pt`` and beside it as safetensors, and pictures on which it is too sure."""

    root: Path
    model: Path
    data: Path

    def settings(self, output: Path, **given: Any) -> CalibrateSettings:
        """Settings of a small calibration into ``output``."""
        small = {"draws": 40, "device": "cpu", "views": {"candidates": (), "draws": 40}}
        return CalibrateSettings.model_validate(
            {"models": [self.model], "data": self.data, "output": output, **small, **given}
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Of the boxes that the detector finds, a label has those that a coin of chance score² keeps."""
    root = tmp_path_factory.mktemp("calibrate")
    detector = save_lively(root / "models" / "reef" / "best", size=SIZE)
    pictures = root / "pictures"
    pictures.mkdir()
    random, records = np.random.default_rng(0), []
    predictor = open_predictor(detector.path, "cpu")
    for number in range(CLIPS * FRAMES):
        picture = cv2.resize(pattern(5, number), (128, 96))
        key = f"clip{number // FRAMES:02d}_f{number % FRAMES}"
        cv2.imwrite(str(pictures / f"{key}.png"), picture[:, :, ::-1])
        (found,) = predictor.predict([cv2.imread(str(pictures / f"{key}.png"))[:, :, ::-1].copy()], MEASURING)
        found = found.above(0.1)
        kept = random.random(len(found)) < found.scores**2
        split = "val" if number // FRAMES < CLIPS // 2 else "test"
        boxes, classes = found.boxes[kept] + random.normal(0, 0.5, (kept.sum(), 4)), found.classes[kept]
        boxes = np.clip(boxes, 0, [128, 96, 128, 96])
        wide = (boxes[:, 2:] - boxes[:, :2] > 2).all(axis=1)
        records.append(
            Record(key, pictures / f"{key}.png", 128, 96, boxes[wide], classes[wide], group=key[:6], split=split)
        )
    data = write_yolo(Dataset(NAMES, tuple(records)), root / "data", mode="copy")
    return World(root, detector.path, data)


def run(world: World, output: Path, clock: Clock | None = None, **given: Any) -> CalibrateSummary:
    return calibrate_models(world.settings(output, **given), clock or Clock())


@pytest.fixture(scope="module")
def calibrated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibrated ``reef``, with views tried."""
    output = tmp_path_factory.mktemp("out")
    summary = run(world, output, views={"candidates": ("flip",), "draws": 40, "price": 0.0})
    assert summary.models[0].name == "reef" and not summary.models[0].again
    return output / "reef"


def figures(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "calibration.json").read_text()))


class TestACalibratedModel:
    def test_scores_are_nearer_to_the_truth_on_pictures_that_were_not_fitted_on(self, calibrated: Path) -> None:
        told = figures(calibrated)
        judged = told["judgement"]
        assert told["judged_on"] == "test" and told["taken"]["method"] != "none"
        assert judged["after"]["d_ece"]["value"] < 0.6 * judged["before"]["d_ece"]["value"]
        assert judged["after"]["brier"] < judged["before"]["brier"]
        assert judged["d_ece_drop"] == pytest.approx(
            1 - judged["after"]["d_ece"]["value"] / judged["before"]["d_ece"]["value"]
        )
        assert 0 < judged["after"]["d_ece"]["floor"] < judged["after"]["d_ece"]["floor_high"]
        assert [one["name"] for one in told["thresholds"]] == list(NAMES)

    def test_average_precision_is_the_same_to_the_last_bit(self, calibrated: Path, world: World) -> None:
        dataset = read_dataset(world.data)
        said = read_description(calibrated)
        plain = FolderDescription(said.model, views=said.views)
        other = calibrated.with_name("plain")
        other.mkdir(exist_ok=True)
        (other / said.model).write_bytes((calibrated / said.model).read_bytes())
        write_json(other / DESCRIPTION_FILE, plain.to_json())
        results = [
            evaluate_split(path, dataset, "test", choose_device("cpu"), None).result.overall
            for path in (calibrated.with_suffix(".pt"), other)
        ]
        assert results[0].ap.tobytes() == results[1].ap.tobytes()
        assert results[0].detections == results[1].detections > 0 and results[0].map50 > 0.05

    def test_it_is_one_folder_and_one_call(self, calibrated: Path, world: World) -> None:
        predictor = open_predictor(calibrated, "cpu")
        picture = read_dataset(world.data).records[0].picture
        (found,) = predictor.predict([cv2.imread(str(picture))[:, :, ::-1].copy()])
        thresholds = np.array([one["threshold"] for one in figures(calibrated)["thresholds"]])
        assert len(found) and np.all(found.scores >= thresholds[found.classes]) and found.own_scores is not None
        kept = figures(calibrated)["views"]["kept"]
        assert kept[0] == PLAIN and isinstance(predictor, ViewingPredictor) == (len(kept) > 1)
        for name in ("report.html", "card.md"):
            text = (calibrated / name).read_text()
            assert "D-ECE" in text and "perfect" in text and NAMES[0] in text

    def test_the_checkpoint_beside_it_opens_in_ultralytics_and_stands_for_it(self, calibrated: Path) -> None:
        checkpoint = calibrated.with_suffix(".pt")
        assert list(YOLO(checkpoint).names.values()) == list(NAMES)
        assert open_predictor(checkpoint, "cpu").digest == open_predictor(calibrated, "cpu").digest

    def test_the_same_command_does_nothing_and_a_damaged_file_is_made_again(self, world: World, tmp_path: Path) -> None:
        first = run(world, tmp_path)
        known = (tmp_path / "reef" / DESCRIPTION_FILE).read_bytes()
        again = run(world, tmp_path)
        assert again.models[0].again and again.models[0].words == first.models[0].words
        (tmp_path / "reef" / DESCRIPTION_FILE).write_text("{}")
        mended = run(world, tmp_path)
        assert not mended.models[0].again and (tmp_path / "reef" / DESCRIPTION_FILE).read_bytes() == known
        assert "reef (done before):" in run(world, tmp_path).message()

    @pytest.mark.slow
    def test_safetensors_get_a_checkpoint_too(self, world: World, tmp_path: Path) -> None:
        run(world, tmp_path, models=[world.model.with_suffix(".safetensors")])
        assert hash_file(tmp_path / "reef.pt") == read_description(tmp_path / "reef").stands_in
        assert not list((tmp_path / ".calibrate" / "reef").glob("checkpoint*"))


def test_without_a_split_to_judge_on_held_out_clips_judge(world: World, tmp_path: Path) -> None:
    told = run(world, tmp_path, judge_split="nowhere").models[0]
    content = figures(told.folder)
    assert "cross-fitting" in content["judged_on"]
    assert content["judgement"]["after"]["d_ece"]["value"] < content["judgement"]["before"]["d_ece"]["value"]


@pytest.mark.slow
def test_classes_in_another_order_are_the_same_model(world: World, tmp_path: Path) -> None:
    dataset = read_dataset(world.data)
    turned = (NAMES[2], NAMES[0], NAMES[1])
    numbers = np.array([turned.index(name) for name in NAMES])
    records = [replace(one, classes=numbers[one.classes]) for one in dataset]
    data = write_yolo(Dataset(turned, tuple(records)), tmp_path / "data", mode="copy")
    run(world, tmp_path / "plain")
    calibrate_models(world.settings(tmp_path / "turned").changed({"data": data}), Clock())
    one, other = (read_description(tmp_path / name / "reef") for name in ("plain", "turned"))
    assert one.names == other.names == NAMES and other.calibration is not None and one.calibration is not None
    assert other.calibration.names == NAMES
    assert other.thresholds is not None and one.thresholds is not None
    for name in NAMES:
        assert other.thresholds[name] == pytest.approx(one.thresholds[name], abs=1e-6)


@pytest.fixture(scope="module")
def trio(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of a file and a folder, whose inputs differ in size."""
    folder = tmp_path_factory.mktemp("models") / "trio"
    second = save_lively(folder / "scratch" / "second", seed=1, size=64)
    write_predictor_folder(folder / "second", second.path)
    shutil.rmtree(folder / "scratch")
    (folder / "first.pt").write_bytes(world.model.read_bytes())
    members = (MemberDescription("first.pt", 3.0), MemberDescription("second"))
    return write_description(folder, FolderDescription("", names=NAMES, ensemble=EnsembleDescription(members)))


class TestAnEnsemble:
    def test_is_calibrated_as_a_whole_and_moves_as_a_whole(self, trio: Path, world: World, tmp_path: Path) -> None:
        views = {"candidates": ("flip", "scale_1.25"), "draws": 40, "price": 0.0}
        done = run(world, tmp_path / "out", models=[trio], views=views).models[0]
        assert done.name == "trio" and done.checkpoint is None and not (tmp_path / "out" / "trio.pt").exists()
        found, source = read_description(done.folder), read_description(trio)
        assert found.ensemble == source.ensemble and found.calibration is not None
        assert any(words.startswith("not tried: scale_1.25: they need another input size") for words in done.words)
        assert "scale_1.25" not in (found.views or ())
        for text in (
            (done.folder / "card.md").read_text(),
            (done.folder / "report.html").read_text(),
            "\n".join(done.needs),
        ):
            assert "an ensemble of first.pt, second" in text and "there is no .pt beside it" in text
        picture = cv2.imread(str(read_dataset(world.data).records[0].picture))[:, :, ::-1].copy()
        (before,) = open_predictor(done.folder, "cpu").predict([picture])
        moved = Path(shutil.move(done.folder, tmp_path / "elsewhere"))
        for path in trio.iterdir():
            assert not (moved / path.name).is_symlink() and (moved / path.name).exists()
        predictor = open_predictor(moved, "cpu")
        (after,) = predictor.predict([picture])
        assert len(after) and after.boxes.tobytes() == before.boxes.tobytes()
        thresholds = np.array([one["threshold"] for one in figures(moved)["thresholds"]])
        assert np.all(after.scores >= thresholds[after.classes])
        measured = evaluate_split(moved, read_dataset(world.data), "test", choose_device("cpu"), None)
        judged = figures(moved)["judgement"]["metrics"]
        assert measured.result.overall.map50 == pytest.approx(judged["map50"], abs=1e-6)

    def test_leaves_no_checkpoint_of_a_single_model_that_had_its_name(
        self, trio: Path, world: World, tmp_path: Path
    ) -> None:
        # By the function that stands for the command, which takes one model or several.
        small = {"draws": 40, "device": "cpu", "views.candidates": "none", "names": ["one"]}
        with pytest.raises(UserError, match=r"argument settings\['target'\]"):
            marauder.calibrate(world.model, world.data, tmp_path, settings={**small, "target": "both"})
        done = marauder.calibrate(world.model, world.data, tmp_path, settings=small)
        assert [model.name for model in done.models] == ["one"]
        assert (tmp_path / "one.pt").is_file()
        run(world, tmp_path, models=[trio], names=("one",))
        assert not (tmp_path / "one.pt").exists() and read_description(tmp_path / "one").ensemble is not None

    def test_is_not_exported_but_its_members_are_named(self, trio: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError) as found:
            weight_files([trio, trio / "second", tmp_path / "empty"])
        lines = str(found.value).splitlines()
        assert f"name its members, {trio / 'first.pt'}, {trio / 'second' / 'second.pt'}" in lines[0]
        assert f"without calibration and thresholds: name {trio / 'second' / 'second.pt'}" in lines[1]
        assert "is a folder; name the .pt or .safetensors file in it" in lines[2]
        assert weight_files([trio / "first.pt", trio / "second" / "second.pt"])


class StoppingClock(Clock):
    """A clock that lets ``checks`` questions pass and then says stop."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.checks = checks

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        """See ``Clock.stop_reason``."""
        self.checks -= 1
        return "test" if self.checks < 0 else None


def test_stopped_anywhere_it_continues_to_the_same_model(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marauder.calibration.looking.SHARD", 8)
    whole = run(world, tmp_path / "whole").models[0]
    checks, stops = 2, 0
    while True:
        try:
            done = run(world, tmp_path / "parts", StoppingClock(checks)).models[0]
            break
        except Interrupted:
            stops += 1
            checks += 5
            assert not (tmp_path / "parts" / "reef").exists(), "no half of a model is ever in place"
            assert stops < 40
    assert stops >= 2
    for name in (DESCRIPTION_FILE, whole.folder.joinpath("best.pt").name):
        assert (done.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.slow
def test_killed_and_terminated_processes_continue(world: World, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "marauder", "calibrate", "--models", str(world.model), "--val-dataset",
             str(world.data), "--output", str(tmp_path / "out"), "--tta", "flip", "draws=40", "views.draws=40",
             "--device", "cpu"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for ending, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, EXIT_INTERRUPTED)):
        process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        # The first view is looked at: the others, and all that is made of them, are still to come.
        for line in process.stderr:
            if line.startswith("looking"):
                break
        process.send_signal(ending)
        _, told = process.communicate(timeout=240)
        if process.returncode == 0:
            pytest.skip("the work was over before it could be ended")
        assert process.returncode == expected, told
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "D-ECE" in done.stdout and (tmp_path / "out" / "reef" / DESCRIPTION_FILE).is_file()


class TestWhatIsRefused:
    def test_models_that_are_calibrated_already(self, calibrated: Path, world: World, tmp_path: Path) -> None:
        for model in (calibrated, calibrated.with_suffix(".pt")):
            with pytest.raises(UserError, match="is calibrated already; name the model"):
                run(world, tmp_path, models=[model])
        assert not list(tmp_path.glob("reef*"))

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"critical": ("shark",)}, "critical: shark: not among the classes"),
            ({"fit_split": "train"}, "no labelled pictures in the split train"),
            ({"models": ["nothing.pt"]}, "nothing.pt: no such file"),
        ],
    )
    def test_what_cannot_be_meant(self, given: dict[str, Any], said: str, world: World, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=said):
            run(world, tmp_path / "out", **given)

    def test_other_classes_and_few_clips(self, world: World, tmp_path: Path) -> None:
        dataset = read_dataset(world.data)
        few = write_yolo(dataset.with_records(dataset.records[:3]), tmp_path / "few", mode="copy")
        with pytest.raises(UserError, match="at least 4 groups are needed"):
            run(world, tmp_path / "out", data=few)
        other = write_yolo(replace(dataset, names=("a", "b", "c")), tmp_path / "other", mode="copy")
        with pytest.raises(UserError, match="calibrate on pictures of the same classes"):
            run(world, tmp_path / "out", data=other)

    def test_a_folder_of_somebody_else(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "reef").mkdir()
        (tmp_path / "reef" / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="holds no calibrated model"):
            run(world, tmp_path)
        assert (tmp_path / "reef" / "notes.txt").read_text() == "mine"

    def test_all_mistakes_come_in_one_list(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as found:
            words = ["views.candidates=[rotate]", "target=both", "methods=[magic]"]
            load_settings(CalibrateSettings, None, words, None, models=["a.pt", "a.pt"], data=tmp_path)
        for word in ("rotate", "target", "magic"):
            assert word in str(found.value)


def test_models_are_named_with_globs_and_commas(world: World, tmp_path: Path) -> None:
    for name in ("n.pt", "s.pt"):
        (tmp_path / name).write_bytes(b"")
    read: Callable[..., CalibrateSettings] = lambda *models: CalibrateSettings(models=models, data=world.data)  # noqa: E731
    assert read(str(tmp_path / "*.pt")).models == (tmp_path / "n.pt", tmp_path / "s.pt")
    assert CalibrateSettings(models=f"{tmp_path}/n.pt,{tmp_path}/s.pt", data=world.data).models == (  # type: ignore[arg-type]
        tmp_path / "n.pt",
        tmp_path / "s.pt",
    )
    assert read(str(tmp_path / "*.onnx")).models == (tmp_path / "*.onnx",), "told as missing, by its own name"
    assert read(tmp_path / "a" / "best.pt", tmp_path / "s.pt").model_names == ("a", "s")


def test_names_of_models_are_as_many_as_models_and_differ(world: World, tmp_path: Path) -> None:
    models = [str(world.model), str(save_lively(tmp_path / "other", size=SIZE).path)]
    for names, said in (
        ("[a]", "1 name for 2 models"),
        ("[a, a]", "1 name for 2 models: give each of them one of its own"),
        ("[a, b.pt]", "does not end in .pt"),
        ("[a, ../b]", "give 1 to 63 letters"),
    ):
        with pytest.raises(UserError, match=said):
            load_checked(CalibrateSettings, None, [f"names={names}"], None, models=models, data=world.data)


PIPELINE = """
preprocessing:
  organize: {taxonomy: source}
baseline: {model: yolov8t}
calibration:
  draws: 40
  device: cpu
  views: {candidates: none}
"""


def pipeline(root: Path, *overrides: str) -> Pipeline:
    file = root / "pipeline.yaml"
    file.write_text(PIPELINE, encoding="utf-8")
    return Pipeline(Workspace.at(root / "work"), file, overrides)


def test_step_of_the_pipeline(world: World, tmp_path: Path) -> None:
    """The baseline of a workspace, on its own data set, to ``training/models/calibrated``."""
    made = pipeline(tmp_path)
    workspace, step = made.workspace, made.step("calibration")
    write_yolo(read_dataset(world.data), workspace.datasets, mode="copy")
    baseline = workspace.model("baseline") / "best.pt"
    baseline.parent.mkdir(parents=True)
    baseline.write_bytes(world.model.read_bytes())
    settings = made.settings_of(step)
    told = step.run(StepContext(workspace, settings, Clock(), fresh=False, asked=False, begun=lambda: None))
    assert told["models"] == "baseline" and "D-ECE" in told["calibration"] and told["views"] == "views: none were tried"
    for artifact in step.outputs(workspace, settings):
        assert artifact.path.exists(), artifact.name
    assert (workspace.root / told["report"]).is_file()
    assert [one.path for one in step.inputs(workspace, settings)][-1] == baseline


class TestTheDetectorsOfAPipeline:
    def test_each_is_calibrated_under_a_name_that_later_steps_leave_alone(self, tmp_path: Path) -> None:
        """Names and folders of what is there never change when a step is added."""
        parts: list[str] = []
        known: dict[str, Path] = {}
        for part, added in (
            ("", {"baseline": "baseline/best.pt"}),
            ("critical.critical=[x]", {"critical": "critical/best.pt"}),
            ("multiscale.training.epochs=2", {"multiscale-critical": "multiscale/critical.pt"}),
            (
                "multiscale.ensemble_models=[{models}/baseline/best.pt,{models}/critical/best.pt]",
                {"multiscale-baseline": "multiscale/baseline.pt"},
            ),
            ("ensembles.shore.enabled=false", {"ensemble-nano": "ensembles/nano/ensemble"}),
            ("ensembles.shore.enabled=true", {"ensemble-shore": "ensembles/shore/ensemble"}),
        ):
            models = tmp_path / "work" / "training" / "models"
            parts += [part.format(models=models)] if part else []
            made = pipeline(tmp_path, *parts)
            step = made.step("calibration")
            settings = made.settings_of(step)
            found = dict(zip(settings.model_names, settings.models, strict=True))
            known |= {name: models / path for name, path in added.items()}
            assert found == known
            outputs = [artifact.path for artifact in made.outputs(step)]
            assert all(models / "calibrated" / name in outputs for name in known)
            alone = {name for name in known if not name.startswith("ensemble")}
            assert {path.stem for path in outputs if path.suffix == ".pt"} == alone
            assert not list(made.look_through([step], Clock(), lambda _: None))
        assert list(found)[-1] == "multiscale-critical", "the last step's detectors come last"

    def test_status_tells_what_it_waits_for(self, tmp_path: Path) -> None:
        parts = ["ensembles.shore.enabled=false", "multiscale.training.epochs=2"]
        made = pipeline(tmp_path, *parts)
        producers = [one.name for one in made.producers(made.step("calibration"))]
        assert producers == ["preprocessing", "baseline", "ensembles", "multiscale"]
        reasons = made.statuses()["calibration"].reasons
        assert {reason.split()[1] for reason in reasons} == set(producers)
        without = pipeline(tmp_path, *parts, "ensembles.nano.assembly.enabled=false")
        assert "ensemble-nano" not in without.settings_of(without.step("calibration")).model_names

    def test_models_that_are_named_are_those_and_have_their_own_names(self, world: World, tmp_path: Path) -> None:
        made = pipeline(tmp_path, f"calibration.models=[{world.model}]", "ensembles.shore.enabled=false")
        settings = made.settings_of(made.step("calibration"))
        assert settings.models == (world.model,) and settings.model_names == ("reef",)
        named = pipeline(tmp_path, f"calibration.models=[{world.model}]", "calibration.names=[mine]")
        step = named.step("calibration")
        assert [one.name for one in named.outputs(step)] == ["calibrated mine", "checkpoint of calibrated mine"]
        assert "names" not in named.result_settings(step), "a name is a place"

    def test_mistakes_in_earlier_steps_are_told_once(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as found:
            pipeline(tmp_path, "ensembles.nano.members=[yolov8q,yolov8m]")
        assert "no detector named 'yolov8q'" in str(found.value)
        assert "\n" not in str(found.value) and "calibration" not in str(found.value)
