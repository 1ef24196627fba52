"""The finished data set of step 0: readable by Marauder with all it knows, and where Ultralytics looks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from marauder.core.clock import Clock, Interrupted
from marauder.core.file_identity import identify
from marauder.core.files import write_text
from marauder.core.plain import Plain
from marauder.core.settings import Places
from marauder.data.reading import read_dataset
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.record import StepRecord, read_record, settings_path, write_record
from marauder.pipeline.run import last_config, run_steps, select
from marauder.pipeline.status import State
from marauder.pipeline.workspace import Workspace

OVERRIDES = ["preprocessing.organize.taxonomy=source", "preprocessing.organize.near_duplicates=false"]


def write_source(folder: Path, clips: int = 8, frames: int = 2) -> None:
    """A YOLO folder of small pictures, named by clip, with one box each."""
    draw = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.txt").write_text("crab\nurchin\n")
    for clip in range(clips):
        for frame in range(frames):
            name = f"IMG_{clip:04d}_MOV-{frame}"
            pixels = draw.integers(0, 200, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{name}.jpg")
            (folder / "labels" / f"{name}.txt").write_text(f"{clip % 2} 0.5 0.5 0.25 0.25\n")


def preprocess(root: Path) -> Pipeline:
    pipeline = Pipeline(Workspace.at(root), None, OVERRIDES)
    run_steps(pipeline, select(pipeline, only="preprocessing"), Clock(), print)
    return pipeline


def result(pipeline: Pipeline) -> Plain:
    record = read_record(pipeline.workspace, "preprocessing")
    assert record is not None
    return record.summary


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_source(tmp_path / "elsewhere")
    (tmp_path / "space" / "images").mkdir(parents=True)
    (tmp_path / "space" / "images" / "reef").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "space"


def test_pictures_stay_as_they_are_unless_enhancement_is_asked_for(root: Path) -> None:
    done = result(preprocess(root))
    assert (done["enhanced"], done["left_alone"]) == (0, 16) and "enhanced ones" not in done["notes"]
    raw = {path.read_bytes() for path in (root / "images" / "reef" / "images").iterdir()}
    pictures = root / "training" / "datasets" / "preprocessed" / "images"
    assert {path.read_bytes() for path in pictures.rglob("*.jpg")} == raw
    pipeline = Pipeline(Workspace.at(root), None, [*OVERRIDES, "preprocessing.enhance.method=full"])
    run_steps(pipeline, select(pipeline, only="preprocessing"), Clock(), print)
    asked = result(pipeline)
    assert asked["enhanced"] == 16 and "have to see enhanced ones" in asked["notes"]


def test_the_data_set_has_groups_and_splits_and_no_problems(root: Path) -> None:
    pipeline = preprocess(root)
    dataset = read_dataset(pipeline.workspace.data_yaml)
    assert dataset.problems == ()
    assert len(dataset) == 16 and set(dataset.splits()) == {"train", "val", "test"}
    assert len({record.group for record in dataset}) == 8
    splits_of_group = {(record.group, record.split) for record in dataset}
    assert len(splits_of_group) == 8, "a clip stands in two splits"
    assert all(record.picture.is_relative_to(root / "training/datasets/preprocessed") for record in dataset)


def test_its_entries_stand_where_ultralytics_resolves_them(root: Path) -> None:
    data_yaml = preprocess(root).workspace.data_yaml
    content = yaml.safe_load(data_yaml.read_text())
    assert "path" not in content, "without it, entries are resolved from the file's own folder"
    assert all((data_yaml.parent / content[key]).is_dir() for key in ("train", "val", "test"))


def test_a_moved_workspace_reads_the_same_and_stays_done(root: Path, tmp_path: Path) -> None:
    preprocess(root)
    shutil.move(root, tmp_path / "moved")
    pipeline = Pipeline(Workspace.at(tmp_path / "moved"), None, OVERRIDES)
    assert pipeline.statuses()["preprocessing"].state == State.DONE
    assert len(read_dataset(pipeline.workspace.data_yaml)) == 16


def test_a_second_source_joins(root: Path) -> None:
    preprocess(root)
    write_source(root / "images" / "lagoon", clips=3)
    pipeline = Pipeline(Workspace.at(root), None, OVERRIDES)
    assert pipeline.statuses()["preprocessing"].reasons == ("new input: pictures of images/lagoon",)
    preprocess(root)
    assert len(read_dataset(pipeline.workspace.data_yaml)) == 22


def test_an_empty_folder_is_left_out_with_a_note(root: Path) -> None:
    (root / "images" / "later").mkdir()
    workspace = preprocess(root).workspace
    record = read_record(workspace, "preprocessing")
    assert record is not None and "images/later is empty and was left out" in record.summary["notes"]
    assert len(read_dataset(workspace.data_yaml)) == 16


def test_label_problems_are_counted_in_the_summary(root: Path) -> None:
    labels = sorted((root / "images" / "reef" / "labels").iterdir())
    labels[0].write_bytes(b"\x00\xff\x01 rubbish")
    labels[1].write_text("7 .5 .5 .2 .2\n")
    record = read_record(preprocess(root).workspace, "preprocessing")
    assert record is not None
    assert (record.summary["pictures"], record.summary["set_aside"]) == (14, 2)
    assert record.summary["set_aside_for"] == record.summary["problems"] == "class-unknown (1), label-encoding (1)"


def test_the_last_settings_see_a_new_folder_and_a_moved_workspace(root: Path, tmp_path: Path) -> None:
    preprocess(root)
    shutil.move(root, tmp_path / "moved")
    workspace = Workspace.at(tmp_path / "moved")
    assert Pipeline(workspace, last_config(workspace)).statuses()["preprocessing"].state == State.DONE
    write_source(workspace.images / "lagoon", clips=3)
    status = Pipeline(workspace, last_config(workspace)).statuses()["preprocessing"]
    assert status.reasons == ("new input: pictures of images/lagoon",)
    given = [*OVERRIDES, f"preprocessing.organize.inputs=[{workspace.images / 'reef'}]"]
    pipeline = Pipeline(workspace, None, given)
    assert pipeline.given_settings()["preprocessing"]["organize"]["inputs"] == [str(workspace.images / "reef")]


def test_the_command_without_a_config_goes_on_and_says_so(root: Path) -> None:
    preprocess(root)
    words = [sys.executable, "-m", "marauder.cli.main", "pipeline", "run", "--root", str(root), "--only", "0"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert shown[0].startswith(f"settings of the last run ({root}/training/runs/pipeline.yaml)")
    assert shown[1].endswith("done already, nothing to do")
    other = subprocess.run([*words, "--dry-run", "preprocessing.organize.seed=5"], capture_output=True, text=True)
    assert "organize.seed: 0 → 5" in other.stdout and "taxonomy" not in other.stdout


def test_other_splits_leave_no_picture_behind_on_the_wrong_side(root: Path) -> None:
    preprocess(root)
    pipeline = Pipeline(Workspace.at(root), None, [*OVERRIDES, "preprocessing.organize.seed=5"])
    run_steps(pipeline, select(pipeline, only="preprocessing"), Clock(), print)
    pictures = sorted((root / "training/datasets/preprocessed/images").rglob("*.jpg"))
    assert len(pictures) == len({picture.name for picture in pictures}) == 16


def test_without_pictures_the_status_says_where_they_belong(tmp_path: Path) -> None:
    status = Pipeline(Workspace.at(tmp_path)).statuses()["preprocessing"]
    assert status.state == State.WAITING
    assert f"put labelled pictures into {tmp_path / 'images' / 'marauder'}" in status.reasons[0]


def test_what_is_recorded_does_not_name_this_machine(root: Path) -> None:
    workspace = preprocess(root).workspace
    record = json.loads((workspace.run("preprocessing") / "step.json").read_text())
    assert str(root) not in json.dumps([record["settings"], record["inputs"], record["outputs"], record["summary"]])


def stored(workspace: Workspace, *overrides: str) -> Path:
    """The settings as a run with these overrides leaves them for the next one."""
    write_text(settings_path(workspace), yaml.safe_dump(Pipeline(workspace, None, overrides).given_settings()))
    path = last_config(workspace)
    assert path is not None
    return path


def training_of(pipeline: Pipeline) -> tuple[int, int, float]:
    settings = pipeline.settings_of(pipeline.step("baseline"))
    return settings.training.epochs, settings.image_size, settings.training.optimizer.learning_rate


def test_a_recipe_works_over_the_settings_of_the_last_run(tmp_path: Path) -> None:
    workspace, recipe = Workspace.at(tmp_path), "baseline.recipe=two_cores"
    wanted = (60, 320, 0.002)
    assert training_of(Pipeline(workspace, None, [recipe])) == wanted
    assert training_of(Pipeline(workspace, stored(workspace), [recipe])) == wanted
    # What the user set stays, above the recipe, as it would without a last run.
    own = stored(workspace, "baseline.training.epochs=9")
    assert training_of(Pipeline(workspace, own, [recipe])) == (9, 320, 0.002)
    assert training_of(Pipeline(workspace, own, [recipe, "baseline.image_size=64"])) == (9, 64, 0.002)
    # Stored with its recipe it stays what it was, and the same command changes nothing.
    again = stored(workspace, recipe, "baseline.training.epochs=9")
    assert training_of(Pipeline(workspace, again)) == training_of(Pipeline(workspace, again, [recipe]))
    # Files of earlier versions name a recipe that had no effect.
    content = yaml.safe_load(stored(workspace).read_text())
    content["baseline"]["recipe"] = "two_cores"
    write_text(settings_path(workspace), yaml.safe_dump(content))
    assert training_of(Pipeline(workspace, settings_path(workspace), [recipe])) == wanted
    assert training_of(Pipeline(workspace, settings_path(workspace))) == (100, 640, training_of(Pipeline(workspace))[2])


def test_another_recipe_takes_the_place_of_the_one_of_the_last_run(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("training: {epochs: 7}\n")
    workspace = Workspace.at(tmp_path)
    path = stored(workspace, "baseline.recipe=two_cores")
    default = training_of(Pipeline(workspace))
    assert training_of(Pipeline(workspace, path, [f"baseline.recipe={other}"])) == (7, *default[1:])
    assert training_of(Pipeline(workspace, path, ["baseline.recipe=null"])) == default


def told(pipeline: Pipeline, clock: Clock | None = None, fresh: bool = False) -> tuple[list[str], list[str]]:
    """What is wrong with the settings of all steps, and what was said of the looking."""
    said: list[str] = []
    found = [str(one) for one in pipeline.look_through(pipeline.steps, clock or Clock(), said.append, fresh)]
    return found, said


def test_the_classes_of_the_sources_are_read_within_the_budget_and_with_a_word(root: Path) -> None:
    named = [*OVERRIDES, "baseline.critical=[whale]"]
    found, said = told(Pipeline(Workspace.at(root), None, named))
    assert "no class named 'whale'" in found[0] and len(said) == 1
    assert said[0].startswith("reading the labels of 1 source")
    assert told(Pipeline(Workspace.at(root), None, OVERRIDES)) == ([], []), "nothing is read where no class is named"
    with pytest.raises(Interrupted):
        told(Pipeline(Workspace.at(root), None, named), Clock(max_seconds=1e-9))


def finish(pipeline: Pipeline, name: str) -> None:
    """Leave a step as done."""
    step = pipeline.step(name)
    for artifact in pipeline.outputs(step):
        write_text(artifact.path, "made")
    inputs = {one.name: pipeline.input_identity(step, one) for one in pipeline.inputs(step)}
    outputs = {one.name: identify(one.path, with_content=True) for one in pipeline.outputs(step)}
    done = StepRecord(
        state="done",
        version=step.version,
        settings=pipeline.result_settings(step),
        inputs=inputs,
        outputs=outputs,
        started=1,
    )
    write_record(pipeline.workspace, name, done)


def test_that_nothing_is_left_to_choose_is_said_before_a_detector_is_trained(root: Path) -> None:
    given = [*OVERRIDES, "active_learning.count=5"]

    def about_choice() -> list[str]:
        return [one for one in told(Pipeline(Workspace.at(root), None, given))[0] if "active_learning" in one]

    (nothing,) = about_choice()
    assert "active_learning: every picture of the sources is labelled already" in nothing and "--to baseline" in nothing
    preprocess(root)
    (nothing,) = about_choice()
    assert "every picture is labelled already, so there is nothing to choose" in nothing and "--to baseline" in nothing
    (root / "images" / "reef" / "labels" / "IMG_0000_MOV-1.txt").unlink()
    assert about_choice() == [], "the sources have changed, and hold one to choose"


def test_labelled_pictures_that_are_not_there_are_not_called_nothing_to_choose(root: Path) -> None:
    pipeline = preprocess(root)
    given = [*OVERRIDES, "active_learning.count=5", f"active_learning.labelled={root / 'not' / 'yet' / 'there'}"]
    (missing,) = [one for one in told(Pipeline(pipeline.workspace, None, given))[0] if "active_learning" in one]
    assert "not/yet/there: no such file or folder; check the path" in missing and "--to baseline" not in missing


def test_the_pool_is_looked_at_within_the_budget(root: Path) -> None:
    pipeline = preprocess(root)
    asked = Pipeline(pipeline.workspace, None, [*OVERRIDES, "active_learning.count=5"])
    spent = Clock(max_seconds=1e-9)
    with pytest.raises(Interrupted):
        list(
            asked.step("active_learning").mistakes(
                asked.settings_of(asked.step("active_learning")), Places(clock=spent)
            )
        )


def test_only_steps_that_will_run_ask_this_machine_for_their_device(root: Path) -> None:
    workspace = preprocess(root).workspace
    given = [*OVERRIDES, "baseline.training.device=cuda:77", "baseline.weights=none"]
    pipeline = Pipeline(workspace, None, given)
    found, _ = told(pipeline)
    assert len(found) == 1 and "cuda:77: this machine has" in found[0]
    finish(pipeline, "baseline")
    assert pipeline.status(pipeline.step("baseline")).state == State.DONE
    assert told(pipeline) == ([], [])
    assert "cuda:77" in told(pipeline, fresh=True)[0][0], "it would be trained again"
    shutil.rmtree(root / "images")
    named = f"preprocessing.organize.inputs=[{root / 'images' / 'reef'}]"
    assert told(Pipeline(workspace, None, [*given, named]))[0] == [], "raw pictures may go once they are preprocessed"


def test_damaged_weights_that_are_made_again_refuse_no_run(root: Path) -> None:
    workspace = preprocess(root).workspace
    given = [*OVERRIDES, "baseline.weights=none", "critical.critical=[crab]"]
    pipeline = Pipeline(workspace, None, given)
    finish(pipeline, "baseline")
    # What step 5 starts from is no weights file at all, which it says unless it is made again.
    assert any("holds no weights" in one for one in told(pipeline)[0])
    (workspace.model("baseline") / "best.pt").write_bytes(b"cut")
    assert pipeline.status(pipeline.step("baseline")).state == State.STALE
    assert told(pipeline)[0] == []
