"""Step 5 as a whole: killed in its second stage it ends with the same weights; mining finds what was planted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_reef import PLAIN, write_small_reef
from test_interruption import wait_for

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json, read_lines
from marauder.critical.balance_plan import plan_balance
from marauder.critical.base_detector import check_classes, resolve_base
from marauder.critical.report import _no_crops, interval_words, verdict_words
from marauder.critical.settings import CriticalSettings
from marauder.critical.specialisation import run_critical
from marauder.critical.stages import Scored, chosen_stage, judged_on_val, score_of_row, stage_settings
from marauder.data.reading import read_dataset
from marauder.evaluation.fixed_recall import AtFixedRecall, Change, ClassAtRecall
from marauder.mining.job import mine, pictures_of
from marauder.mining.settings import MiningSettings
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import build_detector
from marauder.runs.recipes import load_run_settings
from marauder.runs.series import Part, outcome_of
from marauder.tasks.detection.data import DetectionData
from marauder.tasks.detection.settings import DetectionSettings

WORDS = [
    "training.device=cpu", "training.threads=1", "training.checkpoint_steps=3",
    "training.optimizer.warmup_epochs=1", "training.close_mosaic_epochs=1", "mining.least_score=0.001",
    "copy_paste.least_side=5", "evaluation.slices_each_epoch=false", "evaluation.draws=20", *PLAIN,
]  # fmt: skip


@pytest.fixture(scope="module")
def reef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_reef(tmp_path_factory.mktemp("critical"), test=4)


@pytest.fixture(scope="module")
def start(reef: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``marauder critical`` as a process of its own."""

    def run(output: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "marauder.cli.main", "critical", "--data-dir", str(reef), "--train"]
        words = ["--output", str(output), "--critical", "disc", "--model", "yolov8t", "--imgsz", "64", "--epochs", "8",
                 "--batch-size", "4"]  # fmt: skip
        return subprocess.Popen(
            [*command, *words, *WORDS, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def undisturbed(start: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    process = start(output)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "changes:" in text and "critical/map50" in text
    return output


def weights(folder: Path) -> list[str]:
    return [hash_file(folder / name) for name in ("best.safetensors", "last.safetensors", "hard_negatives.json")]


def test_it_leaves_weights_reports_and_lists(undisturbed: Path) -> None:
    for name in ("best.pt", "eval_report.json", "report.html", "model_card.md", "suspected_missing.json"):
        assert (undisturbed / name).is_file(), name
    report = read_json(undisturbed / "critical_report.json")
    page = (undisturbed / "critical_report.html").read_text(encoding="utf-8")
    assert report["critical"] == ["disc"] and "http" not in page.replace("http-equiv", "")
    assert "all other classes" in page and "all others" not in page and "– to –" not in page
    assert "<figure>" in page or "No crops" in page
    assert [stage["name"] for stage in report["stages"]] == ["standard", "mined", "fine_tune"]
    assert [stage["epochs"] for stage in report["stages"]] == [3, 3, 2]
    assert report["judged"]["split"] == "val" and "critical_with_floor" not in report["after"]
    kept = undisturbed / "stages" / report["stage"] / "best.safetensors"
    assert hash_file(kept) == hash_file(undisturbed / "best.safetensors")
    rows = read_lines(undisturbed / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    plain = read_json(undisturbed / "stages" / "standard" / "run.json")["identity"]["settings"]
    mined = read_json(undisturbed / "stages" / "mined" / "run.json")["identity"]["settings"]
    assert plain["copy_paste"] == plain["hard_negatives"] == plain["loss"]["focal"] == "off"
    assert (plain["balance"]["kind"], mined["balance"]["kind"]) == ("none", "repeat_factor")
    assert mined["copy_paste"]["probability"] > 0
    assert mined["hard_negatives"]["file"] == hash_file(undisturbed / "stages/mined_mining/hard_negatives.json")
    rates = [
        read_json(undisturbed / "stages" / name / "run.json")["identity"]["settings"]["training"]["optimizer"]
        for name in ("standard", "mined", "fine_tune")
    ]
    assert [rate["learning_rate"] for rate in rates] == pytest.approx([0.01, 0.005, 0.001])


@pytest.mark.slow
def test_killed_in_the_second_stage_it_ends_with_the_same_weights(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path
) -> None:
    stages = tmp_path / "stages"
    process = start(tmp_path)
    wait_for(process, lambda: any((tmp_path / "checkpoints" / "mined").glob("checkpoint_*.json")))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    first = hash_file(stages / "standard" / "best.safetensors"), (stages / "standard" / "run.json").stat().st_mtime_ns
    assert not (stages / "fine_tune").exists()
    process = start(tmp_path)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert weights(tmp_path) == weights(undisturbed)
    assert first == (
        hash_file(stages / "standard" / "best.safetensors"),
        (stages / "standard" / "run.json").stat().st_mtime_ns,
    )
    assert any(event["kind"] == "resumed" for event in read_lines(stages / "mined" / "events.jsonl"))
    # A finished run is recognised as it is.
    before = (tmp_path / "critical_report.json").stat().st_mtime_ns
    process = start(tmp_path, "--resume")
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and (tmp_path / "critical_report.json").stat().st_mtime_ns == before, text


@pytest.mark.slow
def test_a_spent_budget_stops_it_in_time_and_other_settings_are_refused(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, "--max-hours", str(1.0 / 3600))
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 75 and "--data-dir" in text, text
    process = start(undisturbed, "copy_paste.most=5")
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "copy_paste.most was 2, is 5" in text


@pytest.mark.slow
def test_a_finished_run_that_is_asked_for_more_epochs_trains_them(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path
) -> None:
    longer = tmp_path / "longer"
    shutil.copytree(undisturbed, longer)
    process = start(longer, "--epochs", "11")
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert [stage["epochs"] for stage in read_json(longer / "critical_report.json")["stages"]] == [4, 4, 2]
    assert len(read_lines(longer / "metrics.jsonl")) == 10


def load(data: Path, *words: str) -> CriticalSettings:
    found = load_run_settings(CriticalSettings, None, ["id=x", *words], data=data, output=Path("out"))
    assert isinstance(found, CriticalSettings)
    return found


def test_a_stage_is_a_run_of_its_own_with_only_the_gate_of_health(reef: Path) -> None:
    gates = ("contract", "sanity", "health", "limits")
    settings, _ = resolve_base(
        load(reef, "loss.focal.enabled=true", "registry.kind=files", "training.epochs=10", "loss.box=5")
    )
    first = stage_settings(settings, "standard", None, None, None, ["disc"], gates)
    assert type(first) is DetectionSettings and first.folder == Path("out/stages/standard")
    assert not first.loss.focal.enabled and first.loss.box == 5 and first.training.best_metric == "map50_95"
    assert first.gate == {"contract": "off", "sanity": "off", "limits": "off"} and first.registry.kind == "none"
    last = stage_settings(settings, "fine_tune", Path("a.pt"), Path("n.json"), 0.4, ["disc"], gates)
    assert last.loss.focal.enabled and last.training.best_metric == "critical_with_floor" and last.others_floor == 0.4
    assert last.training.close_mosaic_epochs == last.training.epochs == 2 and last.copy_paste.probability == 0
    assert last.hard_negatives.file == Path("n.json") and last.weights == Path("a.pt")


def test_stages_of_one_schedule_are_its_parts_in_order(reef: Path) -> None:
    def stage(name: str, *words: str) -> DetectionSettings:
        settings, _ = resolve_base(load(reef, "training.epochs=10", "stages.one_schedule=true", *words))
        start = None if name == "standard" else Path("a.pt")
        return stage_settings(settings, name, start, None, None, ["disc"], ())

    def part(settings: DetectionSettings) -> tuple[float, float, int]:
        optimizer = settings.training.optimizer
        return optimizer.begins_at, optimizer.ends_at, settings.training.close_mosaic_epochs

    # Mosaics to the end of a stage that another follows: it is not the training that closes there.
    assert [part(stage(name)) for name in ("standard", "mined", "fine_tune")] == [
        (0, 0.4, 0),
        (0.4, 0.8, 0),
        (0.8, 1, 2),
    ]
    assert stage("mined").training.optimizer.warmup_bias_rate == 0
    short = ("stages.fine_tune.share=0", "training.close_mosaic_epochs=3")
    assert [part(stage(name, *short)) for name in ("standard", "mined")] == [(0, 0.5, 0), (0.5, 1, 3)]
    assert stage("standard").balance.kind == "none" and stage("standard").copy_paste.probability == 0
    emphasised = stage("standard", "stages.standard.emphasis=true")
    assert emphasised.balance.kind == "repeat_factor" and emphasised.copy_paste.probability == 0.3


def test_stages_are_compared_by_one_floor_and_counted_as_one_training() -> None:
    def stage(name: str, critical: float, others: float) -> Part:
        rows = [
            {"epoch": n, "step": 5 * n, "val/critical/map50_95": critical * n, "val/others/map50": others}
            for n in (1, 2)
        ]
        return Part(name, Path(name), 2, 2, 10.0, rows)

    stages = [stage("standard", 0.1, 0.5), stage("mined", 0.2, 0.3), stage("fine_tune", 0.15, 0.46)]
    done = [Scored.of(one, "critical_with_floor", 0.45) for one in stages]
    assert chosen_stage(done, "best").part.name == "fine_tune", "the best of those that keep the floor"
    freely = [Scored.of(one, "critical_with_floor", None) for one in stages]
    assert chosen_stage(freely, "best").part.name == "mined"
    assert chosen_stage(done[:2], "last").part.name == "mined"
    outcome = outcome_of(stages, stages[2], done[2].score)
    assert (outcome.epochs, outcome.steps, outcome.best_epoch) == (6, 30, 6)
    assert [row["epoch"] for row in outcome.history] == [1, 2, 3, 4, 5, 6]
    assert score_of_row({"val/map50": 0.3}, "map50", 0.9) == 0.3


def planted_reef(folder: Path) -> Path:
    """Red squares with labels, one without any label in train, an empty picture; val is labelled fully."""
    plan: dict[str, list[tuple[int, int, str | None]]] = {
        "train/a": [(20, 20, "label")], "train/b": [(60, 30, None)], "train/c": [], "train/d": [(40, 40, "label")],
        **{f"val/v{n}": [(10 + 5 * n, 20, "label")] for n in range(8)},
    }  # fmt: skip
    for name, squares in plan.items():
        split, stem = name.split("/")
        picture = np.full((96, 96, 3), 100, np.uint8)
        lines = []
        for x, y, label in squares:
            picture[y : y + 24, x : x + 24] = (40, 40, 230)
            if label:
                lines.append(f"0 {(x + 12) / 96} {(y + 12) / 96} 0.25 0.25")
        place = folder / "images" / split / f"{stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), picture)
        text = folder / "labels" / split / f"{stem}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(lines), encoding="utf-8")
    data = folder / "data.yaml"
    names = "\n".join(f"  {n}: {name}" for n, name in enumerate(("disc", "square", "cross")))
    data.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}\n", encoding="utf-8")
    return data


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """In place of a network's forward pass: what a detector of red squares would say, and how often it was asked. It
    also sees one false disc in the left lower corner of pictures that are not flipped, with little certainty."""

    from marauder.data.records import Detections
    from marauder.mining import job as hard_negatives_job
    from marauder.prediction.records import Prediction

    asked = {"pictures": 0, "stop_after": 10**9}

    def detect(  # type: ignore[no-untyped-def]
        model, records, store, indices, options, should_stop=lambda: False, progress=None
    ):
        if should_stop() or asked["pictures"] >= asked["stop_after"]:
            return None
        found = []
        for index in indices:
            asked["pictures"] += 1
            picture = store.get(index)
            gain = records[index].width / picture.shape[1]
            red = (picture[..., 0] > 180) & (picture[..., 1] < 90)
            rows = []
            if red.any():
                ys, xs = np.nonzero(red)
                rows.append(([xs.min() * gain, ys.min() * gain, (xs.max() + 1) * gain, (ys.max() + 1) * gain], 0.95, 0))
            if not getattr(store, "flipped", False):
                rows.append(([2.0, 70.0, 22.0, 94.0], 0.3, 0))
            found.append(Prediction(index, Detections(*(np.array(part) for part in zip(*rows, strict=True)))
                                    if rows else Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))))  # fmt: skip
        return found

    monkeypatch.setattr(hard_negatives_job, "detect", detect)
    return asked


def run_mining(data: Path, folder: Path, weights_file: Path, **changes: object) -> dict:
    settings = MiningSettings(**changes)
    summary = mine(weights_file, read_dataset(data), settings, folder, torch.device("cpu"), Clock(), image_size=64)
    return {"negatives": read_json(summary.negatives), "suspected": read_json(summary.suspected)}


def test_planted_false_alarms_become_negatives_and_a_planted_missing_label_does_not(
    tmp_path: Path, undisturbed: Path, seeing: dict[str, int]
) -> None:
    data = planted_reef(tmp_path / "planted")
    found = run_mining(data, tmp_path / "mining", undisturbed / "best.pt")
    entries = found["negatives"]["entries"]
    assert {Path(one["picture"]).stem for one in entries} == {"a", "b", "c", "d"}, (
        "training pictures, the empty one too"
    )
    assert all(one["box"] == [2.0, 70.0, 22.0, 94.0] and one["pool"] == "disc for background" for one in entries)
    assert [one["empty"] for one in sorted(entries, key=lambda one: one["picture"])] == [False, True, True, False]
    assert [Path(one["picture"]).stem for one in found["suspected"]["suspected"]] == ["b"]
    # A person says that it is none: the next mining takes it for a negative.
    verdicts = found["suspected"]
    verdicts["suspected"][0]["verdict"] = "background"
    reviewed = tmp_path / "reviewed.json"
    reviewed.write_text(json.dumps(verdicts), encoding="utf-8")
    again = run_mining(data, tmp_path / "mining", undisturbed / "best.pt", reviewed=reviewed)
    assert again["suspected"]["suspected"] == []
    assert max(one["score"] for one in again["negatives"]["entries"]) == pytest.approx(0.95)


def test_unlabelled_pictures_give_no_negatives_unless_they_are_declared_empty(
    tmp_path: Path, undisturbed: Path, seeing: dict[str, int]
) -> None:
    data = planted_reef(tmp_path / "planted")
    more = tmp_path / "more"
    more.mkdir()
    cv2.imwrite(str(more / "sea.png"), np.full((96, 96, 3), 100, np.uint8))
    settings = MiningSettings(unlabelled=more)
    assert [record.picture.stem for record in pictures_of(read_dataset(data), settings).unlabelled][-1] == "sea"
    found = run_mining(data, tmp_path / "mining", undisturbed / "best.pt", unlabelled=more)
    assert "sea" not in {Path(one["picture"]).stem for one in found["negatives"]["entries"]}
    assert "sea" in {Path(one["picture"]).stem for one in found["suspected"]["unlabelled"]}


def test_mining_goes_on_after_an_interruption_and_refuses_other_classes(
    tmp_path: Path, undisturbed: Path, seeing: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from marauder.mining import job as hard_negatives_job

    monkeypatch.setattr(hard_negatives_job, "BLOCK", 4)
    data = planted_reef(tmp_path / "planted")
    whole = run_mining(data, tmp_path / "whole", undisturbed / "best.pt")
    of_all, seeing["pictures"] = seeing["pictures"], 0
    seeing["stop_after"] = 8  # the first block, both views
    with pytest.raises(Interrupted):
        run_mining(data, tmp_path / "cut", undisturbed / "best.pt")
    journal = tmp_path / "cut" / "looked.jsonl"
    with journal.open("a", encoding="utf-8") as stream:
        stream.write('{"key": "half a li')
    seeing["stop_after"] = 10**9
    assert run_mining(data, tmp_path / "cut", undisturbed / "best.pt") == whole
    assert seeing["pictures"] == of_all, "what was looked at is not looked at again"
    other = write_small_reef(tmp_path / "other")
    other.write_text(other.read_text(encoding="utf-8").replace("disc", "shark"), encoding="utf-8")
    with pytest.raises(UserError, match="same classes"):
        run_mining(other, tmp_path / "x", undisturbed / "best.pt")


def test_without_a_choice_the_command_says_what_to_choose(reef: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "marauder.cli.main",
        "critical",
        "--data-dir",
        str(reef),
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--oversample" in done.stderr and "--train" in done.stderr
    done = subprocess.run(
        [*command, "--oversample", "--oversample-factor", "4", "--critical", "cross"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = read_json(tmp_path / "balance.json")
    cross = next(one for one in plan["classes"] if one["name"] == "cross")
    page = (tmp_path / "balance.html").read_text(encoding="utf-8")
    assert "max(1, √(t / f))" in page and "t = 0.1" in page and "at least 4.0" in page
    assert cross["critical"] and cross["factor"] == 4 and plan["length"] > len(plan["pictures"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["balance.html", "balance.json"], "nothing is copied"


def base_model(folder: Path, *names: str) -> Path:
    save_detector(build_detector("yolov8t", names or ("disc", "square", "cross")), folder / "base", 96, {})
    return folder / "base.pt"


def test_architecture_and_size_are_the_base_models_unless_they_are_named(reef: Path, tmp_path: Path) -> None:
    base = base_model(tmp_path)
    for beside in (True, False):
        if not beside:
            base.with_suffix(".safetensors").unlink()  # what Ultralytics leaves: a .pt alone
        found, names = resolve_base(load(reef, f"base_model={base}"))
        assert (found.model, found.image_size, names) == ("yolov8t", 96, ("disc", "square", "cross"))
        assert CriticalSettings(**found.model_dump()) == found
    named, _ = resolve_base(load(reef, f"base_model={base}", "model=yolov8t", "image_size=64"))
    assert (named.model, named.image_size) == ("yolov8t", 64)
    plain, _ = resolve_base(load(reef))
    assert (plain.model, plain.image_size) == ("yolov8n", 640)
    with pytest.raises(UserError, match=r"is a yolov8t, and model is yolov8n.*--model yolov8t"):
        resolve_base(load(reef, f"base_model={base}", "model=yolov8n"))
    with pytest.raises(UserError, match="image_size: 32 is too small"):
        load(reef, "image_size=32")


def test_classes_of_the_base_model_may_have_another_order(
    reef: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(reef, f"base_model={base_model(tmp_path)}", "stages.standard.share=0")
    check_classes(settings, ("square", "cross", "disc"), ("disc", "square", "cross"))
    assert not [record for record in caplog.records if record.name.startswith("marauder")]
    with pytest.raises(UserError, match="knows the classes square, cross, ray"):
        check_classes(settings, ("square", "cross", "ray"), ("disc", "square", "cross"))


@pytest.mark.parametrize(
    "words",
    [["model=yolov8n"], ["base_model=gone.pt"], ["base_model=null", "weights=gone.pt"], ["stages.standard.share=0"]],
)
def test_a_refused_start_writes_nothing(reef: Path, tmp_path: Path, words: list[str]) -> None:
    base = base_model(tmp_path, "disc", "square", "shark")
    settings = load_run_settings(
        CriticalSettings, None, [*WORDS, f"base_model={base}", *words], data=reef, output=tmp_path / "cs",
        critical=["disc"],
    )  # fmt: skip
    assert isinstance(settings, CriticalSettings)
    with pytest.raises(UserError, match=r"is a yolov8t|gone\.(pt|safetensors): no such file|nothing can be mined"):
        run_critical(settings, Clock())
    assert not (tmp_path / "cs").exists()


def test_critical_classes_without_a_training_box_are_refused_and_a_single_one_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_small_reef(tmp_path / "reef")
    for file in (tmp_path / "reef" / "labels" / "train").iterdir():
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("0 ")]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def plan(*critical: str) -> CriticalSettings:
        found = load_run_settings(
            CriticalSettings, None, [*WORDS, "model=yolov8t", "image_size=64"], data=data, output=tmp_path / "cs",
            critical=list(critical),
        )  # fmt: skip
        assert isinstance(found, CriticalSettings)
        return found

    for start in (lambda one: run_critical(one, Clock()), plan_balance):
        with pytest.raises(UserError, match=r"train shows no box of the critical classes disc: .*label some, or name"):
            start(plan("disc"))
    assert not (tmp_path / "cs").exists()
    plan_balance(plan("disc", "cross"))
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert sum("CRITICAL CLASS disc HAS NO BOX" in one for one in warned) == 1
    assert not any("CRITICAL CLASS cross" in one for one in warned)


def test_a_factor_above_the_limit_is_refused_with_the_remedy_and_not_cut_down(reef: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--oversample-factor\): 20 is above balance.limit, 8.*add balance.limit=20"):
        load(reef, "balance.critical_factor=20")
    assert load(reef, "balance.critical_factor=20", "balance.kind=none").balance.limit == 8
    assert load(reef, "balance.critical_factor=8").balance.critical_factor == 8
    words = ["balance.critical_factor=20", "balance.limit=20", "critical=[cross]", "model=yolov8t", "image_size=64"]
    plan = plan_balance(load(reef, *words).model_copy(update={"output": tmp_path}))
    assert next(one for one in plan.classes if one.name == "cross").factor == 20


@pytest.mark.parametrize("kind", ["share", "bootstrap"])
def test_the_balance_plan_is_that_of_a_bagged_training(reef: Path, tmp_path: Path, kind: str) -> None:
    words = ["critical=[cross]", "model=yolov8t", "image_size=64", f"bagging.kind={kind}", "bagging.share=0.6",
             "bagging.rare_groups=0"]  # fmt: skip
    settings = load(reef, *words).model_copy(update={"output": tmp_path})
    plan, trained = plan_balance(settings), DetectionData(settings).plan()
    drawn = {one["key"]: one["factor"] for one in read_json(plan.file)["pictures"]}
    assert set(drawn) == {record.key for record in trained.training} and plan.records == len(drawn)
    whole = plan_balance(load(reef, *words[:3]).model_copy(update={"output": tmp_path / "whole"}))
    assert plan.records < whole.records and whole.bag is None
    assert trained.resampling is not None and plan.length == trained.resampling.length
    assert "bagging: " in plan.describe() and "bagging: " in plan.page.read_text()


def test_a_run_that_trained_nothing_is_replaced_and_one_that_did_is_not(reef: Path, tmp_path: Path) -> None:
    other = base_model(tmp_path)

    def begin(size: int, resume: Path | None = None) -> None:
        words = [*WORDS, "model=yolov8n", f"image_size={size}", f"weights={other}"]
        settings = load_run_settings(
            CriticalSettings, None, words, data=reef, output=tmp_path / "cs", critical=["disc"]
        )  # fmt: skip
        assert isinstance(settings, CriticalSettings)
        run_critical(settings, Clock(), resume)

    with pytest.raises(UserError, match="tensors fit yolov8n"):
        begin(64)
    assert (tmp_path / "cs" / "run.json").is_file(), "the start was written down before it failed"
    with pytest.raises(UserError, match="tensors fit yolov8n"):
        begin(96)
    checkpoint = tmp_path / "cs" / "checkpoints" / "standard" / "checkpoint_3.json"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="image_size was 96, is 64"):
        begin(64)
    made = tmp_path / "cs" / "stages" / "standard" / "best.safetensors"
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(b"weights")
    record = read_json(tmp_path / "cs" / "run.json")
    with pytest.raises(UserError, match="image_size was 96, is 64"):
        begin(64, checkpoint)
    with pytest.raises(UserError, match=r"checkpoint_9\.pt: no such checkpoint"):
        begin(96, checkpoint.with_name("checkpoint_9.pt"))
    with pytest.raises(UserError, match="is not a checkpoint of this run"):
        begin(96, tmp_path / "cs" / "checkpoints")
    assert checkpoint.is_file() and made.is_file() and read_json(tmp_path / "cs" / "run.json") == record


def test_the_report_says_plainly_where_numbers_say_nothing() -> None:
    nan = float("nan")
    assert interval_words(nan, nan, nan, True) == "–"
    assert interval_words(0.2, nan, nan, False) == interval_words(0.0, 0.0, 0.0, False) == "too few to say"
    assert interval_words(0.1, -0.05, 0.2, True) == "−0.050 to +0.200"

    def fixed(before: float, confidence: float) -> AtFixedRecall:
        change = Change(before, 0.5, 0.5 - before, 0.0, 0.0)
        one = ClassAtRecall("disc", 1, confidence, 0.5, True, change, change, change)
        return AtFixedRecall((one,), one, 0, 20)

    def content(floor: float, val: float, test: float) -> dict[str, object]:
        row = {"epoch": 1, "val/critical/map50_95": 0.8, "val/others/map50": val}
        judged = judged_on_val(Part("mined", Path("mined"), 1, 1, 1.0, [row]), floor)
        tiers = {"before": {"others/map50": 0.7}, "after": {"others/map50": test}}
        return {"critical": ["disc"], "split": "test", "floor": floor, "judged": judged, **tiers}

    nothing = content(0.0, 0.0, 0.0)
    words = verdict_words(nothing, fixed(0.4, 0.2), telling=False)
    assert "too few boxes or clips to say" in words and "0.000 to" not in words
    assert "no floor for the other classes: the detector before found nothing of them" in words
    assert "0 was required" in verdict_words({**nothing, "floor_given": True}, fixed(0.4, 0.2))
    # The floor is one of val: figures of test do not speak for it, whichever side of it they are on.
    broken = content(0.3, 0.2, 0.6)
    assert broken["judged"]["critical_with_floor"] < 0.5  # type: ignore[index]
    words = verdict_words(broken, fixed(0.4, 0.2))
    assert "do NOT keep their floor on val: map50 0.200, at least 0.300" in words
    assert "On test their map50 was 0.700 before and is 0.600 now" in words
    assert "classes keep their floor on val: map50 0.400" in verdict_words(content(0.3, 0.4, 0.2), fixed(0.4, 0.2))
    assert "found none of the critical classes" in _no_crops(fixed(nan, float("inf")))
