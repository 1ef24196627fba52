"""Step 8 as a whole: one folder that answers as it was measured, stopped and continued, and what it refuses."""

from __future__ import annotations

import json
import os
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

from marauder.calibration.files import names_of
from marauder.calibration.job import CalibrateSummary, calibrate_models
from marauder.calibration.settings import CalibrateSettings
from marauder.core.clock import EXIT_INTERRUPTED, Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_json
from marauder.core.settings import load_settings
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.writers import write_yolo
from marauder.engine.distributed import choose_device
from marauder.exporting.inputs import pattern
from marauder.pipeline.step import StepContext
from marauder.pipeline.steps.step08_calibration import STEP
from marauder.pipeline.workspace import Workspace
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription, read_description
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


@pytest.mark.slow
def test_an_ensemble_is_calibrated_as_a_whole(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "trio"
    folder.mkdir(parents=True)
    second = save_lively(folder / "second", seed=1, size=SIZE)
    (folder / "first.pt").write_bytes(world.model.read_bytes())
    members = (MemberDescription("first.pt", 3.0), MemberDescription(second.path.name))
    said = FolderDescription("", names=NAMES, ensemble=EnsembleDescription(members))
    write_json(folder / DESCRIPTION_FILE, said.to_json())
    done = run(world, tmp_path / "out", models=[folder]).models[0]
    assert done.name == "trio" and done.checkpoint is None
    found = read_description(done.folder)
    assert found.ensemble == said.ensemble and found.calibration is not None
    assert open_predictor(done.folder, "cpu").calibration is not None


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
    assert names_of([tmp_path / "a" / "best.pt", tmp_path / "s.pt"]) == ["a", "s"]


def test_step_of_the_pipeline(world: World, tmp_path: Path) -> None:
    """The baseline of a workspace, on its own data set, to ``training/models/calibrated``."""
    workspace = Workspace.at(tmp_path)
    write_yolo(read_dataset(world.data), workspace.datasets, mode="copy")
    baseline = workspace.model("baseline") / "best.pt"
    baseline.parent.mkdir(parents=True)
    baseline.write_bytes(world.model.read_bytes())
    suggested = STEP.suggested(workspace, {"baseline", "calibration"})
    assert suggested["models"] == [str(baseline)] and suggested["data"] == workspace.data_yaml
    assert "annotated" in str(STEP.suggested(workspace, {"annotation"})["data"])
    quick = {"draws": 40, "device": "cpu", "views": {"candidates": ()}}
    settings = CalibrateSettings.model_validate({**suggested, **STEP.placed(workspace), **quick})
    context = StepContext(workspace, settings, Clock(), fresh=False, asked=False, begun=lambda: None)
    told = STEP.run(context)
    assert told["models"] == "baseline" and "D-ECE" in told["calibration"] and told["views"] == "views: none were tried"
    for artifact in STEP.outputs(workspace, settings):
        assert artifact.path.exists(), artifact.name
    assert (tmp_path / told["report"]).is_file()
    assert [one.path for one in STEP.inputs(workspace, settings)][-1] == baseline
