"""Pretraining as a run: what it is trained on, what stops it, what it leaves, and that killing it changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_reef import NAMES, write_small_reef

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json
from marauder.engine.failures import TrainingFailure
from marauder.engine.task import SampleContext, SampleKey
from marauder.models.transfer import load_matching
from marauder.models.ultralytics_adapter import build_detector
from marauder.runs.gated import run_gated
from marauder.runs.recipes import load_run_settings
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.pretraining.data import open_pool, pool_identity, probe_records
from marauder.tasks.pretraining.runtime import PretrainingRuntime
from marauder.tasks.pretraining.settings import PretrainingSettings
from marauder.tasks.pretraining.training import PretrainingTask, collapse_in, unjudged

WORDS = [
    "--backbone", "yolov8t", "--imgsz", "64", "--epochs", "4", "--batch-size", "4", "--accumulate", "2",
    "--device", "cpu", "training.checkpoint_steps=2", "training.threads=1", "tracking.trackers=[]",
    "registry.kind=none", "pretraining.settings.queue=64",
]  # fmt: skip
"""Words of a `marauder pretrain` on the small reef that takes seconds."""

PLAIN = SampleContext()


@pytest.fixture(scope="module")
def reef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml: 40 labelled pictures to train on, and val and test that nothing may be pretrained on."""
    return write_small_reef(tmp_path_factory.mktemp("pretraining"), train=40, val=8, test=4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def settings(data: Path, output: Path, **values: Any) -> PretrainingSettings:
    """A short pretraining in this process."""
    training = {"epochs": 2, "batch_size": 8, "device": "cpu", "threads": 1, **values.pop("training", {})}
    plain = {
        "tracking": {"trackers": []}, "registry": {"kind": "none"},
        "gate": {"sanity": {"severity": "off"}, "determinism": {"severity": "off"}},
    }  # fmt: skip
    section = {"settings": {"queue": 64}, **values.pop("pretraining", {})}
    return PretrainingSettings.model_validate({
        "data": data, "output": output, "model": "yolov8t", "weights": None, "image_size": 64, "training": training,
        "pretraining": section, **plain, **values,
    })  # fmt: skip


def write_noise(folder: Path, count: int, first: int = 0) -> None:
    """Pictures of coarse noise, each its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        coarse = np.random.default_rng(number).integers(0, 255, (8, 10, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (100, 80), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"dive{number % 7}_frame_{number:05d}.png"), picture)


def test_other_pictures_of_the_same_size_are_another_pretraining(tmp_path: Path) -> None:
    write_noise(tmp_path / "bare", 12)
    for path in sorted((tmp_path / "bare").iterdir()):
        cv2.imwrite(str(path.with_suffix(".bmp")), cv2.imread(str(path)))
        path.unlink()
    given = settings(tmp_path / "bare", tmp_path / "out")
    before = pool_identity(open_pool(given), given)
    assert pool_identity(open_pool(given), given) == before
    changed = open_pool(given).training[0].picture
    size = changed.stat().st_size
    cv2.imwrite(str(changed), 255 - cv2.imread(str(changed)))
    pool = open_pool(given)
    assert changed.stat().st_size == size and changed in [one.picture for one in pool.training]
    assert pool_identity(pool, given) != before


def test_a_picture_held_out_instead_of_trained_on_is_another_pretraining(tmp_path: Path) -> None:
    write_noise(tmp_path / "bare", 12)
    given = settings(tmp_path / "bare", tmp_path / "out")
    pool = open_pool(given)
    moved = replace(pool, training=pool.training[:-1], held_out=(pool.training[-1], *pool.held_out))
    assert pool_identity(moved, given) != pool_identity(pool, given)


class TestPictures:
    def test_val_and_test_are_left_out_and_held_out_is_not_trained_on(self, reef: Path, tmp_path: Path) -> None:
        pool = open_pool(settings(reef, tmp_path))
        assert {one.split for one in (*pool.training, *pool.held_out)} == {"train"}
        assert pool.left_out == {"val": 8, "test": 4}
        assert not {one.key for one in pool.training} & {one.key for one in pool.held_out}
        assert not {one.group for one in pool.training} & {one.group for one in pool.held_out}

    def test_the_probe_never_sees_test(self, reef: Path, tmp_path: Path) -> None:
        given = settings(reef, tmp_path)
        assert {one.split for one in probe_records(given, open_pool(given))} == {"train", "val"}

    def test_a_folder_of_pictures_is_enough(self, tmp_path: Path) -> None:
        write_noise(tmp_path / "bare", 30)
        (tmp_path / "bare" / "broken.png").write_bytes(b"no picture")
        pool = open_pool(settings(tmp_path / "bare", tmp_path / "out"))
        assert len(pool.training) + len(pool.held_out) == 30
        assert [Path(name).name for name, _ in pool.unreadable] == ["broken.png"]
        assert sum(one.found for one in pool.account.values()) == 30

    def test_copies_are_thinned_even_where_only_numbers_tell_of_the_clip(self, tmp_path: Path) -> None:
        write_noise(tmp_path / "bare", 20)
        for number in range(12):
            shutil.copy(tmp_path / "bare" / "dive0_frame_00000.png", tmp_path / "bare" / f"rig_{number:04d}.png")
        pool = open_pool(settings(tmp_path / "bare", tmp_path / "out"))
        assert pool.total.found == 32
        assert pool.total.near == 11
        assert pool.total.kept == len(pool.training) + len(pool.held_out) == 21

    def test_too_few_pictures_are_told_with_the_reason(self, tmp_path: Path) -> None:
        write_noise(tmp_path / "bare", 5)
        with pytest.raises(UserError, match="5 pictures are left to pretrain on, at least 8"):
            open_pool(settings(tmp_path / "bare", tmp_path / "out"))


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"task": "detection"}, "marauder train"),
            ({"pretraining": {"method": "simclr"}}, "no method named 'simclr'"),
            ({"pretraining": {"views": {"views": 1}}}, "views must be 2 or more"),
            ({"training": {"close_mosaic_epochs": 3}}, "close_mosaic_epochs"),
            ({"training": {"micro_batch_size": 1}}, "2 or more"),
            ({"weights": "weights.onnx"}, "give auto, none, released weights"),
        ],
    )
    def test_what_has_no_effect_is_refused(self, tmp_path: Path, values: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            settings(tmp_path, tmp_path, **values)

    @pytest.mark.parametrize(
        ("word", "told"),
        [
            ("init=a.pt", "init: no such setting here: .*as weights"),
            ("augmentation.mosaic=0.5", "augmentation: no such setting here: .*pretraining.views"),
            ("loss.box=1", "loss: no such setting here"),
            ("export.formats=[onnx]", "export: no such setting here"),
        ],
    )
    def test_what_belongs_to_detectors_is_refused_with_the_right_place(self, word: str, told: str) -> None:
        with pytest.raises(UserError, match=told):
            load_run_settings(PretrainingSettings, None, ["data=x", word])

    def test_they_survive_being_written_and_read(self, tmp_path: Path) -> None:
        given = settings(tmp_path, tmp_path)
        assert PretrainingSettings.model_validate_json(given.model_dump_json()) == given

    def test_a_detectors_settings_are_sent_to_the_right_command(self, reef: Path) -> None:
        with pytest.raises(UserError, match="marauder pretrain"):
            PretrainingRuntime(DetectionSettings(data=reef, task="pretraining"))


class TestTask:
    @pytest.fixture
    def task(self, reef: Path, tmp_path: Path) -> PretrainingTask:
        runtime = PretrainingRuntime(settings(reef, tmp_path))
        runtime.open()
        made = runtime.task(tmp_path / "cache")
        assert isinstance(made, PretrainingTask)
        return made

    def test_a_sample_is_a_function_of_its_key(self, task: PretrainingTask) -> None:
        keys = [SampleKey(1, 3), SampleKey(1, 5)]
        one, other = task.load(keys, PLAIN).tensors, task.load(keys[::-1], PLAIN).tensors
        assert torch.equal(one["views"][0], other["views"][1])
        assert torch.equal(one["matrices"][1], other["matrices"][0])
        assert not torch.equal(one["views"][0], task.load([SampleKey(2, 3)], PLAIN).tensors["views"][0])

    def test_batches_are_what_methods_take(self, task: PretrainingTask) -> None:
        batch = task.load([SampleKey(0, index) for index in range(3)], PLAIN).tensors
        assert task.inputs(batch).shape == (3, 2, 3, 64, 64)
        assert task.inputs(batch).max() <= 1
        assert batch["matrices"].shape == (3, 2, 3, 3)
        assert len(task.cut(batch, 1, 3)["views"]) == 2

    def test_the_next_picture_stands_for_one_that_cannot_be_read(self, task: PretrainingTask, tmp_path: Path) -> None:
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no picture")
        first = task.plan.training[0].picture
        object.__setattr__(task.plan.training[0], "picture", broken)
        task.store.close(remove=True)
        task.store.kept = False
        try:
            loaded = task.load([SampleKey(0, 0)], PLAIN)
        finally:
            object.__setattr__(task.plan.training[0], "picture", first)
        assert list(loaded.set_aside) == [str(broken)]
        assert loaded.tensors["views"].float().std() > 10

    def test_signs_do_not_depend_on_how_pictures_are_shared_out(self, task: PretrainingTask) -> None:
        model = task.build_model(0)
        whole = task.score([task.predict(model, 0, 1, lambda: False)])
        parts = task.score([task.predict(model, rank, 3, lambda: False) for rank in (2, 0, 1)])
        assert whole == parts
        assert task.predict(model, 0, 1, lambda: True) is None

    def test_collapse_is_trouble_in_words(self, task: PretrainingTask) -> None:
        row = np.random.default_rng(0).normal(size=24).astype(np.float32)
        metrics = task.score([([(index, row) for index in range(20)], 1.0)])
        trouble = task.trouble(metrics)
        assert trouble is not None
        assert "collapsed" in trouble.why
        assert "--fresh" in trouble.remedy
        assert unjudged(metrics) == ""
        unsettled = {**metrics, "settled": 0.949}
        assert task.trouble(unsettled) is None  # statistics that have not settled say nothing
        assert unjudged(unsettled) == "too few updates for the running statistics (94 % settled)"
        assert "(15, at least 16 are needed)" in unjudged({**metrics, "pictures": 15.0})

    def test_features_that_are_not_finite_are_trouble(self, task: PretrainingTask) -> None:
        metrics = task.score([([(0, np.full(4, np.nan, np.float32))], 1.0)])
        assert "not finite" in collapse_in(metrics, task.plan.collapse)


class TestRun:
    def test_leaves_what_step_2_takes_and_says_whether_it_helped(self, reef: Path, tmp_path: Path) -> None:
        given = settings(reef, tmp_path / "run")
        summary = run_gated(given, Clock())
        assert summary.exit_status == 0
        assert summary.weights == tmp_path / "run" / "backbone.safetensors"
        account = load_matching(build_detector("yolov8t", NAMES), summary.weights, backbone_only=True)
        assert not account.other_shape and not account.unknown and not account.beyond
        assert set(account.taken) == set(load_file(summary.weights))
        listing = (summary.folder / "step2_account.txt").read_text(encoding="utf-8")
        assert all(f"  {name} " in listing for name in (*account.taken, *account.missing))
        probe = read_json(summary.folder / "probe.json")
        assert probe["verdict"] in ("yes", "no", "unclear")
        assert probe["low"] <= probe["gain"] <= probe["high"]
        verdicts = {one["gate"]: one for one in read_json(summary.folder / "gates.json")["verdicts"]}
        assert set(verdicts) == {"sanity", "determinism", "health", "representation", "floor"}
        # Judged by the interval of the gain: ten updates are not known to have taught anything.
        assert verdicts["floor"]["value"] == pytest.approx(probe["gain"])
        learned = "pass" if probe["low"] >= 0 else "warn"
        assert verdicts["floor"]["answer"] == learned
        assert (summary.withheld == "") == (learned == "pass")
        assert (summary.folder / "views.png").is_file()
        # Five updates an epoch leave the running statistics at where they began: a clean pass would be no finding.
        assert verdicts["representation"]["answer"] == "warn"
        told = re.match(
            r"not judged: too few updates for the running statistics \((\d+) % settled\); ",
            verdicts["representation"]["why"],
        )
        assert told and int(told.group(1)) < 95
        page = (summary.folder / "report.html").read_text(encoding="utf-8")
        assert f"--data-yaml {reef} " in page and "LABELLED" not in page
        for words in (
            "Does it tell the classes apart better?",
            "effective rank",
            "Example views",
            "like another",
            "--ssl-backbone",
            "split val",
            "Whether the features collapsed was not judged",
            "% settled",
        ):
            assert words in page
        assert "://" not in page.replace("http://www.w3.org", "")
        assert (summary.folder / "model_card.md").is_file()

    def test_the_same_call_does_nothing_again(self, reef: Path, tmp_path: Path) -> None:
        given = settings(reef, tmp_path / "run")
        first = run_gated(given, Clock())
        before = (first.weights.stat().st_mtime_ns, hash_file(first.folder / "report.html"))
        again = run_gated(given, Clock())
        assert (again.weights.stat().st_mtime_ns, hash_file(again.folder / "report.html")) == before

    def test_without_labels_the_probe_says_why_it_cannot_tell(self, tmp_path: Path) -> None:
        write_noise(tmp_path / "bare", 30)
        summary = run_gated(settings(tmp_path / "bare", tmp_path / "run"), Clock())
        probe = read_json(summary.folder / "probe.json")
        assert (probe["verdict"], probe["gain"]) == ("unclear", None)
        assert "nothing labelled to probe on" in probe["why"]
        assert summary.withheld.startswith("floor: too few pictures to tell: nothing labelled to probe on")
        assert [one.kind for one in summary.advice] == ["label_more"]
        page = (summary.folder / "report.html").read_text(encoding="utf-8")
        assert "Unclear" in page
        assert "--data-yaml LABELLED/data.yaml" in page and "name your labelled data" in page
        assert f"--data-yaml {tmp_path / 'bare'}" not in page

    def test_starts_from_a_detectors_weights_and_tells_of_every_tensor(
        self, reef: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        detector = build_detector("yolov8t", NAMES, seed=5)
        save_file(
            {name: value.contiguous() for name, value in detector.state_dict().items()}, tmp_path / "d.safetensors"
        )
        rate = {"optimizer": {"learning_rate": 1e-12, "weight_decay": 0.0}}
        given = settings(reef, tmp_path / "run", weights=tmp_path / "d.safetensors", training=rate)
        summary = run_gated(given, Clock())
        kept = load_file(summary.weights)["model.0.conv.weight"]
        assert torch.allclose(kept, detector.state_dict()["model.0.conv.weight"], atol=1e-6)
        assert "tensors taken" in capsys.readouterr().err
        listing = (summary.folder / "transfer_account.txt").read_text(encoding="utf-8")
        assert all(f"  {name} " in listing for name in detector.state_dict())

    def test_weights_of_another_architecture_are_refused(self, reef: Path, tmp_path: Path) -> None:
        other = build_detector("yolov8n", NAMES)
        save_file({name: value.contiguous() for name, value in other.state_dict().items()}, tmp_path / "n.safetensors")
        with pytest.raises(UserError, match="tensors fit yolov8t"):
            run_gated(settings(reef, tmp_path / "run", weights=tmp_path / "n.safetensors"), Clock())

    def test_collapse_stops_training_with_status_3(self, tmp_path: Path) -> None:
        write_noise(tmp_path / "bare", 60)
        given = settings(
            tmp_path / "bare", tmp_path / "run", training={"epochs": 24, "batch_size": 8},
            pretraining={"settings": {"queue": 64}, "collapse": {"smallest_deviation": 1.0}},
        )  # fmt: skip
        with pytest.raises(TrainingFailure, match=r"features collapsed.*--fresh") as failure:
            run_gated(given, Clock())
        assert failure.value.exit_status == 3
        assert failure.value.kind == "collapsed"
        record = read_json(tmp_path / "run" / "run.json")
        assert (record["state"], record["verdict"]) == ("failed", "fail")
        verdicts = {one["gate"]: one["answer"] for one in read_json(tmp_path / "run" / "gates.json")["verdicts"]}
        assert verdicts["health"] == "fail"

    def test_a_gate_that_pretraining_cannot_answer_is_told_at_once(self, reef: Path, tmp_path: Path) -> None:
        given = settings(reef, tmp_path / "run", gate={"regression": {"severity": "warn"}})
        with pytest.raises(UserError, match="gate regression: this kind of run has no evidence for it"):
            run_gated(given, Clock())

    def test_bfloat16_trains_too(self, reef: Path, tmp_path: Path) -> None:
        given = settings(reef, tmp_path / "run", training={"precision": "bfloat16", "epochs": 1})
        assert run_gated(given, Clock()).exit_status == 0


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(reef: Path) -> Start:
    """Start ``marauder pretrain`` on the small reef as a process of its own."""

    def run(output: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "marauder.cli.main", "pretrain", "--data-dir", str(reef)]
        return subprocess.Popen(
            [*command, "--output", str(output), *WORDS, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return run


def steps_saved(output: Path) -> int:
    found = sorted((output / "checkpoints").glob("checkpoint_*.json"))
    return int(found[-1].stem.split("_")[1]) if found else 0


def wait_for(process: subprocess.Popen[str], output: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and steps_saved(output) < step:
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_and_stopped_it_ends_with_the_same_weights(start: Start, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    text, _ = start(whole).communicate(timeout=200)
    assert "weights: " in text and "--ssl-backbone" in text, text
    process = start(broken)
    wait_for(process, broken, 4)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    process = start(broken)
    wait_for(process, broken, 8)
    process.terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 75, text
    text, _ = start(broken).communicate(timeout=200)
    for name in ("backbone.safetensors", "best.safetensors", "probe.json"):
        assert hash_file(broken / name) == hash_file(whole / name), text


@pytest.mark.slow
def test_two_processes_train_one_backbone(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path, "--processes", "2", "--accumulate", "1")
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert (tmp_path / "backbone.safetensors").is_file()
