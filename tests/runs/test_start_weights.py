"""What a run starts from: decided once, kept, and the same however files come and go."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_training import settings_for

from marauder.core.clock import Clock, Interrupted
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.file_identity import identify
from marauder.core.files import hash_file, read_json, read_lines, write_json
from marauder.core.settings import Decides, Places, load_settings
from marauder.critical.settings import CriticalSettings
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import build_detector
from marauder.pipeline.steps.step02_baseline import STEP
from marauder.pipeline.workspace import Workspace
from marauder.runs import training_processes, training_stage
from marauder.runs.gated import GatedRun, run_gated
from marauder.runs.mirroring import start_brought_back
from marauder.runs.recipes import load_run_settings
from marauder.runs.record import set_aside_results
from marauder.runs.run_name import with_run_id
from marauder.runs.settings import RunSettings
from marauder.runs.start_weights import Start, holds, read_start, start_of, started, write_start
from marauder.runs.task_description import describe_task
from marauder.tasks.detection.settings import BaselineSettings
from marauder.tasks.detection.training import DetectionTask
from marauder.tasks.pretraining.settings import PretrainingSettings

NAME = "yolov8n.pt"
SMALL = ("model=yolov8n", "training.workers=0", "training.checkpoint_steps=1")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``MARAUDER_WEIGHTS``, empty."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("MARAUDER_WEIGHTS", str(folder))
    return folder


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of the released architecture, in place of COCO's."""
    stem = tmp_path_factory.mktemp("coco") / "yolov8n"
    save_detector(build_detector("yolov8n", ["person", "boat"], seed=9), stem, 64, {})
    return stem.with_suffix(".pt")


def settings(folder: Path, weights: str = "auto", **values: Any) -> BaselineSettings:
    return BaselineSettings.model_validate({"data": folder, "output": folder / "run", "weights": weights, **values})


def begin(asked: BaselineSettings, fresh: bool = False) -> Start:
    """Decide, and record it as a run does that begins."""
    with started(asked, fresh, Clock()) as (decided_settings, start):
        write_start(start, asked.folder)
        assert start_of(decided_settings) == start
        found = decided_settings.weights
        assert (hash_file(found) if found is not None else "") == start.sha256
    return start


def train(folder: Path) -> None:
    """Leave what a training leaves first."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "checkpoint_latest.pt").touch()


def test_weights_are_missing_only_where_neither_a_word_nor_a_kept_copy_is_meant(
    tmp_path: Path, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(weights: str) -> list[str]:
        asked = settings(tmp_path, weights)
        found = describe_task(asked.task).mistakes(asked, Places())
        return [one.words for one in found if one.words.startswith("weights: ")]

    assert [told(word) for word in ("auto", "none")] == [[], []]
    (unavailable,) = told(NAME)
    assert re.match(rf"weights: {NAME}: no such file: MARAUDER_OFFLINE is set.*or give weights=none", unavailable)
    monkeypatch.setenv("MARAUDER_OFFLINE", "0")
    assert told(NAME) == [], "nothing is fetched to check"
    monkeypatch.setenv("MARAUDER_WEIGHTS_URL", "nowhere")
    assert "MARAUDER_WEIGHTS_URL: not an http(s) address" in told(NAME)[0] and told("auto")
    monkeypatch.setenv("MARAUDER_WEIGHTS", str(coco.parent))
    assert [told(word) for word in ("auto", NAME)] == [[], []], "it is here"
    own = tmp_path / "own.pt"
    assert told(str(own)) == [f"weights: {own}: no such file; check the path"]
    shutil.copyfile(coco, own)
    begin(settings(tmp_path, str(own)))
    own.unlink()
    assert told(str(own)) == [], "the run goes on from its copy"


def test_words_mean_what_they_say(tmp_path: Path) -> None:
    assert settings(tmp_path, "none").weights is None
    assert settings(tmp_path, "None").weights is None
    assert BaselineSettings(data=tmp_path).weights == Path("auto")
    for wrong in ("yolov8n", "picture.jpg", "random"):
        with pytest.raises(ValueError, match=r"give auto, none, released weights such as yolov8n\.pt"):
            settings(tmp_path, wrong)


@pytest.mark.parametrize(
    ("began", "asked", "same"),
    [
        (Start("auto", why_random="x"), "auto", True),
        (Start("auto", why_random="x"), "none", True),
        (Start("auto", why_random="x"), NAME, False),
        (Start("auto", NAME, "ab", released=True), "auto", True),
        (Start("auto", "yolov8s.pt", "ab", released=True), "auto", False),
        (Start("yolov8s.pt", "yolov8s.pt", "ab", released=True), "auto", True),
        (Start("auto", NAME, "ab", released=True), NAME, True),
        (Start("auto", NAME, "ab", released=True), "none", False),
        (Start(NAME, NAME, "ab", released=True), "yolov8s.pt", False),
        (Start(f"sub/{NAME}", NAME, "ab"), NAME, False),
        (Start(f"sub/{NAME}", NAME, "ab"), "auto", True),
        (Start("/gone/best.pt", "best.pt", "ab"), "/gone/best.pt", True),
        (Start("/gone/best.pt", "best.pt", "ab"), "/gone/other.pt", False),
        (Start(), "auto", True),
    ],
)
def test_which_start_a_run_goes_on_from(tmp_path: Path, began: Start, asked: str, same: bool) -> None:
    assert holds(began, settings(tmp_path, asked)) is same


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["put", "take", "other", "auto", "fresh"]), max_size=8))
def test_once_something_is_trained_only_a_fresh_start_decides_again(events: list[str]) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MARAUDER_WEIGHTS", str(folder))
        expected: str | None = None
        for event in events:
            if event == "take":
                (folder / NAME).unlink(missing_ok=True)
            elif event in ("put", "other"):
                (folder / NAME).write_text(event)
            else:
                if expected is None or event == "fresh":
                    expected = hash_file(folder / NAME) if (folder / NAME).is_file() else ""
                assert begin(settings(folder), event == "fresh").sha256 == expected
                train(folder / "run")


def test_random_weights_are_told_once_with_the_reason(
    tmp_path: Path, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert begin(settings(tmp_path)).describe() == "random weights"
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "starts from random weights: yolov8n.pt" in told and str(shelf) in told
    train(tmp_path / "run")
    begin(settings(tmp_path))
    assert not capsys.readouterr().err
    begin(settings(tmp_path / "tiny", model="yolov8t"))
    assert capsys.readouterr().err == "starts from random weights: no weights were released for yolov8t\n"
    begin(settings(tmp_path / "asked", "none"))
    assert not capsys.readouterr().err, "that is what was asked for"


def test_a_file_that_turns_up_is_taken_until_something_was_trained(
    tmp_path: Path, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(settings(tmp_path))
    begin(settings(tmp_path / "trained"))
    train(tmp_path / "trained" / "run")
    begin(settings(tmp_path / "mirrored"))
    (shelf / NAME).write_text("weights")
    capsys.readouterr()
    assert begin(settings(tmp_path)).describe() == f"{NAME} (COCO weights)"
    assert capsys.readouterr().err.startswith(f"starts from {NAME} (COCO weights)")
    assert begin(settings(tmp_path / "trained")).describe() == "random weights"
    told = f"continues from random weights, as it began; --fresh starts from {shelf / NAME} (COCO weights)\n"
    assert capsys.readouterr().err == told
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARAUDER_WEIGHTS", str(tmp_path / "gone"))
        assert begin(settings(tmp_path / "trained")).describe() == "random weights"
    mirrored = settings(tmp_path / "mirrored", checkpoint_tiers={"volume": {"address": str(tmp_path / "volume")}})
    assert begin(mirrored).describe() == "random weights", "the volume may hold checkpoints of it"


def test_a_run_that_stopped_before_training_takes_the_file_that_it_asked_for(
    small_reef: Path, tmp_path: Path, shelf: Path, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise Interrupted("before any gate")

    monkeypatch.setattr(GatedRun, "_before", stop)
    asked = settings_for(small_reef, tmp_path / "run", *SMALL).changed({"model": "yolov8n"})
    with pytest.raises(Interrupted):
        run_gated(asked, Clock())
    assert read_json(asked.folder / "run.json")["identity"]["settings"]["weights"] is None
    shutil.copy(coco, shelf / NAME)
    with pytest.raises(Interrupted):
        run_gated(asked, Clock())
    assert read_json(asked.folder / "run.json")["identity"]["settings"]["weights"] == hash_file(coco)
    with pytest.raises(UserError, match="weights was"):
        run_gated(asked.changed({"weights": None}), Clock())


def test_the_copy_that_a_run_kept_is_what_it_was_made_from(tmp_path: Path, shelf: Path) -> None:
    (shelf / NAME).write_text("weights")
    first = begin(settings(tmp_path))
    copy = tmp_path / "run" / first.copy_name
    # As the run's config.yaml names it.
    assert begin(settings(tmp_path, str(copy))) == first and begin(settings(tmp_path, str(copy))) == first
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    of_another_run = begin(settings(tmp_path / "stage", str(copy)))
    assert of_another_run.describe() == f"{NAME} (COCO weights)" and of_another_run.content == first.content
    assert begin(settings(tmp_path / "stage", str(copy))) == of_another_run
    copy.unlink()
    assert begin(settings(tmp_path / "stage", str(copy))) == of_another_run


def test_a_file_that_somebody_named_like_released_weights_is_not_called_so(tmp_path: Path, shelf: Path) -> None:
    own = tmp_path / NAME
    own.write_text("own")
    (shelf / NAME).write_text("weights")
    first = begin(settings(tmp_path, str(own)))
    assert first.describe() == NAME
    assert begin(settings(tmp_path / "other", str(tmp_path / "run" / first.copy_name))).describe() == NAME
    assert begin(settings(tmp_path, NAME)).sha256 == hash_file(shelf / NAME)


def test_a_name_that_cannot_be_had_says_which_file_to_put_where(tmp_path: Path, shelf: Path) -> None:
    with pytest.raises(
        UserError, match=rf"weights=yolov8n\.pt: .*MARAUDER_OFFLINE.*put the file .*{shelf}.*weights=none"
    ):
        begin(settings(tmp_path, NAME))
    with pytest.raises(UserError, match=r"gone\.pt: no such file"):
        begin(settings(tmp_path, str(tmp_path / "gone.pt")))
    assert not (tmp_path / "run").exists()


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, shelf: Path) -> None:
    (shelf / NAME).write_text("weights")
    with pytest.raises(KeyError), started(settings(tmp_path), False, Clock()):
        raise KeyError
    assert not (tmp_path / "run").exists()
    first = begin(settings(tmp_path))
    (shelf / NAME).write_text("others")
    with pytest.raises(KeyError), started(settings(tmp_path), True, Clock()):
        raise KeyError
    kept = [path.name for path in (tmp_path / "run" / "start").iterdir()]
    assert kept == [Path(first.copy_name).name] and read_start(tmp_path / "run") == first


def test_an_empty_folder_that_was_there_before_a_start_that_fails_stays(tmp_path: Path, shelf: Path) -> None:
    (shelf / NAME).write_text("weights")
    (tmp_path / "run").mkdir()
    with pytest.raises(KeyError), started(settings(tmp_path), False, Clock()):
        raise KeyError
    assert list((tmp_path / "run").iterdir()) == []


def test_an_account_of_a_former_start_is_neither_kept_nor_registered(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_json(folder / "run.json", {"id": "run", "project": "p", "task": "detection", "state": "finished"})
    account = folder / training_stage.ACCOUNT_FILE
    account.write_text("taken: all")
    assert set_aside_results(folder) == folder / "previous" and not account.exists()
    # One that lies there all the same goes when training starts from random weights.
    account.write_text("taken: all")
    run = SimpleNamespace(runtime=SimpleNamespace(accounts=list), settings=settings(tmp_path))
    training_stage.tell_start(run)  # type: ignore[arg-type]
    assert not account.exists()


def test_a_copy_that_was_lost_is_made_again_from_the_same_file_only(tmp_path: Path, shelf: Path) -> None:
    (shelf / NAME).write_text("weights")
    copy = tmp_path / "run" / begin(settings(tmp_path)).copy_name
    copy.write_text("damaged")
    begin(settings(tmp_path))
    assert copy.read_text() == "weights"
    copy.unlink()
    (shelf / NAME).write_text("others")
    with pytest.raises(UserError, match="are gone or damaged"):
        begin(settings(tmp_path))


def test_a_file_named_by_its_path_is_noticed_when_it_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_text("weights")
    first = begin(settings(tmp_path, str(file)))
    file.unlink()
    assert begin(settings(tmp_path, str(file))) == first
    file.write_text("others")
    with started(settings(tmp_path, str(file)), False, Clock()) as (_, start):
        assert start.sha256 != first.sha256


def test_a_run_of_an_older_version_began_from_random_weights(tmp_path: Path, shelf: Path) -> None:
    (shelf / NAME).write_text("weights")
    about = {"id": "run", "project": "p", "task": "detection", "identity": {"settings": {"weights": None}, "data": "d"}}
    write_json(tmp_path / "run" / "run.json", about)
    assert begin(settings(tmp_path)) == Start()


def test_a_runs_name_does_not_depend_on_which_files_there_are(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pin:
        fingerprint = "data"

    def name(weights: str) -> str | None:
        return with_run_id(settings(tmp_path, weights, output=None), Pin()).id  # type: ignore[arg-type]

    monkeypatch.chdir(tmp_path)
    before = [name(weights) for weights in ("auto", NAME, "none")]
    for folder in (shelf, tmp_path):
        (folder / NAME).write_text("weights")
    assert [name(weights) for weights in ("auto", NAME, "none")] == before
    assert len(set(before)) == 3


def test_no_step_of_the_pipeline_looks_at_files_that_turn_up(tmp_path: Path, shelf: Path) -> None:
    workspace = Workspace.at(tmp_path / "work")
    data = tmp_path / "work" / "data.yaml"

    def inputs(weights: str) -> dict[str, Path]:
        asked = BaselineSettings(data=data, output=workspace.model("baseline"), weights=Path(weights))
        return {one.name: one.path for one in STEP.inputs(workspace, asked)}

    assert "weights to start from" not in inputs("auto") and "weights to start from" not in inputs(NAME)
    file = tmp_path / "own.pt"
    file.write_text("weights")
    assert inputs(str(file))["weights to start from"] == file
    begin(BaselineSettings(data=data, output=workspace.model("baseline"), weights=file))
    before = identify(file, with_content=False).listing
    file.unlink()
    # Gone, it is the copy that the run kept, which counts as the same input.
    assert identify(inputs(str(file))["weights to start from"], with_content=False).listing == before


def test_step_5_starts_from_its_base_model_and_says_so(tmp_path: Path, shelf: Path) -> None:
    base = tmp_path / "base.pt"
    base.write_text("base")
    (shelf / NAME).write_text("weights")
    asked = CriticalSettings(data=tmp_path, output=tmp_path / "run", base_model=base)
    with started(asked, False, Clock()) as (found, start):
        assert found.weights is None and (start.name, start.sha256) == ("base.pt", hash_file(base))
        write_start(start, asked.folder)
    with started(asked, False, Clock()) as (found, start):
        assert found.weights is None and start.name == "base.pt"


def test_a_process_of_torchrun_starts_from_what_the_leading_one_decided(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaders = tmp_path / "run" / "start" / "yolov8n-0123.pt"
    group = SimpleNamespace(broadcast=lambda value: leaders if value is None else value)
    monkeypatch.setattr(training_processes, "process_group", lambda _: nullcontext(group))
    seen = []

    def open_runtime(told: RunSettings) -> Any:
        seen.append(told.weights)
        raise Interrupted("that is all that is looked at")

    with pytest.raises(Interrupted):
        training_processes.follow(settings(tmp_path), open_runtime, Clock(), None, False)
    assert seen == [leaders]


def stopped_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that says to stop once that many batches were drawn."""
    clock, load, drawn = Clock(), DetectionTask.load, []

    def load_and_stop(task: DetectionTask, *values: Any) -> Any:
        drawn.append(values)
        if len(drawn) == batches:
            clock.signal_name = "SIGTERM"
        return load(task, *values)

    monkeypatch.setattr(DetectionTask, "load", load_and_stop)
    return clock


@pytest.mark.slow
@pytest.mark.parametrize("began_from", ["coco", "random"])
def test_an_interrupted_run_ends_with_the_same_weights_whatever_became_of_the_file(
    began_from: str, small_reef: Path, tmp_path: Path, shelf: Path, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give() -> None:
        shutil.copy(coco, shelf / NAME)

    if began_from == "coco":
        give()
    whole = run_gated(settings_for(small_reef, tmp_path / "whole", *SMALL).changed({"model": "yolov8n"}), Clock())
    cut = settings_for(small_reef, tmp_path / "cut", *SMALL).changed({"model": "yolov8n"})
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        run_gated(cut, stopped_after(2, patch))
    if began_from == "coco":
        (shelf / NAME).unlink()
    else:
        give()
    again = run_gated(cut, Clock())
    assert hash_file(again.folder / "last.safetensors") == hash_file(whole.folder / "last.safetensors")
    assert run_gated(cut, Clock()).finished_before
    recorded = read_json(again.folder / "eval_report.json")["lineage"]["parent_sha256"]
    assert recorded == (hash_file(coco) if began_from == "coco" else "")
    assert read_json(again.folder / "run.json")["identity"]["settings"]["weights"] == (recorded or None)


@pytest.mark.slow
def test_step_2_names_coco_and_the_backbone_that_step_1_began_from_it(
    small_reef: Path, tmp_path: Path, shelf: Path, coco: Path
) -> None:
    shutil.copy(coco, shelf / NAME)
    words = [
        "training.epochs=1", "training.batch_size=4", "training.device=cpu", "training.threads=1",
        "pretraining.settings.queue=16", "gate.sanity=off", "gate.determinism=off", "tracking.trackers=[]",
        "registry.kind=none",
    ]  # fmt: skip
    first = load_settings(
        PretrainingSettings, None, words, data=small_reef, output=tmp_path / "ssl", image_size=64
    )  # fmt: skip
    backbone = run_gated(first, Clock()).weights
    second = settings_for(small_reef, tmp_path / "second", *SMALL, f"ssl_backbone={backbone}", "training.epochs=1")
    folder = run_gated(second.changed({"model": "yolov8n"}), Clock()).folder
    for page in ("report.html", "model_card.md"):
        text = (folder / page).read_text(encoding="utf-8")
        assert "yolov8n.pt (COCO weights)" in text and "pretrained from yolov8n.pt (COCO weights)" in text
        assert hash_file(coco) in text and hash_file(backbone) in text
    assert str(tmp_path) not in (folder / "model_card.md").read_text(encoding="utf-8")


def test_another_start_is_refused_with_what_differs(tmp_path: Path, shelf: Path) -> None:
    one = decided(settings(tmp_path, "none"), Decides.RESULT)["weights"]
    (shelf / NAME).write_text("weights")
    with started(settings(tmp_path), False, Clock()) as (found, _):
        assert decided(found, Decides.RESULT)["weights"] == hash_file(shelf / NAME) != one is None


def test_a_recipe_may_set_the_weights(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: two_cores\nweights: none\n")
    found = load_run_settings(BaselineSettings, None, [f"recipe={recipe}", "data=x"])
    assert found.weights is None


def test_a_run_that_lost_its_folder_starts_from_what_its_mirror_kept(
    small_reef: Path, tmp_path: Path, shelf: Path, coco: Path
) -> None:
    volume = tmp_path / "volume"
    words = [f"checkpoint_tiers.volume={{address: {volume}, seconds: 0}}", "project=reef", "id=one"]
    asked = settings_for(small_reef, tmp_path / "run", *SMALL, *words).changed({"model": "yolov8n"})
    shutil.copy(coco, shelf / NAME)
    run_gated(asked, Clock())
    before = read_start(asked.folder)
    checkpoints = asked.folder / "checkpoints"
    total = max(int(path.stem.rpartition("_")[2]) for path in checkpoints.glob("checkpoint_0*.pt"))
    shutil.rmtree(asked.folder)
    (shelf / NAME).unlink()
    again = run_gated(asked, Clock())
    assert read_start(asked.folder) == before and before is not None and before.name == NAME
    events = [event for event in read_lines(asked.folder / "events.jsonl") if event["kind"] == "already_trained"]
    assert [event["step"] for event in events] == [total]
    assert hash_file(asked.folder / before.copy_name) == hash_file(coco)
    shutil.rmtree(asked.folder)
    with pytest.raises(UserError, match="refused"), start_brought_back(asked, fresh=False):
        assert read_start(asked.folder) == before
        raise UserError("refused for another reason")
    assert not asked.folder.exists(), "what was fetched goes with the refusal"
    kept = next(volume.rglob(f"with/{Path(before.copy_name).name}"))
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(UserError, match="weights was"):
        run_gated(asked, Clock())
    # Starting over leaves nothing of it there.
    run_gated(asked.changed({"weights": None}), Clock(), fresh=True)
    assert not list(volume.rglob("with/yolov8n*")) and again.folder == asked.folder


def test_a_mirror_may_hold_weights_that_are_named_and_gone(tmp_path: Path, shelf: Path, coco: Path) -> None:
    tiers = {"volume": {"address": str(tmp_path / "volume")}}
    for weights in (NAME, str(tmp_path / "gone.pt")):
        asked = settings(tmp_path, weights, checkpoint_tiers=tiers)
        assert not [one for one in describe_task(asked.task).mistakes(asked, Places()) if "weights" in one.words]
        with pytest.raises(UserError, match="no such file"):
            begin(asked)
        without = settings(tmp_path, weights)
        assert [one for one in describe_task(asked.task).mistakes(without, Places()) if "weights" in one.words]
