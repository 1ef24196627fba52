"""``marauder student`` as people type it: what it leaves, killed and continued, mistakes before anything runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_reef import NAMES, PLAIN, write_small_reef
from test_interruption import wait_for
from typer.testing import CliRunner

import marauder
from marauder.cli.student import app
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription
from marauder.prediction.folder_description import FolderDescription, write_description, write_predictor_folder
from marauder.students.report import boards
from marauder.students.teacher import TeacherIs, describe, open_teacher
from marauder.testing.lively_detectors import save_lively

Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def taught_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``reef/data.yaml`` with 8 labelled pictures for training; ``more``: 6 without labels, one of them broken, and a
    copy of one of test; ``teacher``: an ensemble that knows the classes in another order, and one more."""
    root = tmp_path_factory.mktemp("taught")
    write_small_reef(root / "reef", train=8, val=3, test=4)
    write_small_reef(root / "others", train=21, val=0)
    (root / "more").mkdir()
    for number in range(15, 21):
        shutil.copy(root / f"others/images/train/{number:03d}.png", root / f"more/new-{number}.png")
    (root / "more/new-20.png").write_bytes((root / "more/new-20.png").read_bytes()[:400])
    shutil.copy(next((root / "reef/images/test").iterdir()), root / "more/leak.png")
    known = (NAMES[2], "crab", *NAMES[:2])
    for seed, architecture in enumerate(("yolov8t", "yolo11t")):
        save_lively(root / f"member{seed}", architecture, seed, 64, class_names=known)
        write_predictor_folder(root / f"teacher/{architecture}", root / f"member{seed}.safetensors", None)
    described = EnsembleDescription(tuple(MemberDescription(name) for name in ("yolov8t", "yolo11t")))
    write_description(root / "teacher", FolderDescription("", known, ensemble=described))
    return root


@pytest.fixture(scope="module")
def words(taught_world: Path) -> Callable[..., list[str]]:
    """Words of a command that trains a student in seconds."""

    def of(output: Path, *more: str) -> list[str]:
        return [
            "--data-yaml", str(taught_world / "reef/data.yaml"), "--teacher", str(taught_world / "teacher"),
            "--unlabelled", str(taught_world / "more"), "--output", str(output), "--model", "yolov8t", "--imgsz", "64",
            "--epochs", "6", "--batch-size", "4", "--device", "cpu", "weights=none", "training.threads=1",
            "training.checkpoint_steps=2", "lessons.sure=0.45", "evaluation.slices_each_epoch=false",
            "evaluation.draws=20", "cost.rounds=3", "cost.pictures=1", "gate.floor=off", *PLAIN, *more,
        ]  # fmt: skip

    return of


@pytest.fixture(scope="module")
def done(words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What an undisturbed command leaves, and what it said."""
    output = tmp_path_factory.mktemp("student") / "student"
    result = CliRunner().invoke(app, words(output))
    assert result.exit_code == 0, result.output
    return output, result.output


def left(folder: Path) -> dict[str, str]:
    names = ("best.safetensors", "last.safetensors", "lessons/lessons.json", "lessons/account.json")
    return {name: hash_file(folder / name) for name in names}


def test_it_leaves_a_model_lessons_and_a_report(done: tuple[Path, str], taught_world: Path) -> None:
    output, said = done
    lessons, report = read_json(output / "lessons/lessons.json"), read_json(output / "student_report.json")
    kinds = [row["labelled"] for row in lessons["pictures"]]
    assert kinds.count(False) == 5 and lessons["names"] == list(NAMES)
    for row in lessons["pictures"]:
        assert all(0 <= box[4] < 3 and 0.45 <= box[5] <= 1 for box in row["boxes"])
        assert not (row["labelled"] and row["boxes"]), "what has no label in a labelled picture is ignored"
    told = report["lessons"]
    assert told["pictures"] == {"labelled": 8, "unlabelled": 5}
    assert told["left_out"] == {"the same as a picture of val or test": 1}
    assert any("new-20.png" in path for path in told["set_aside"]) and len(told["set_aside"]) == 1
    assert sum(row["learned"] for row in told["boxes"]["unlabelled"].values()) > 0
    assert report["teacher"]["members"] == 2 and not report["teacher"]["calibrated"]
    assert set(report["compared"]["metrics"]) == {"map50", "map50_95", "precision", "recall"}
    assert report["teacher"]["architectures"] == ["yolov8t", "yolo11t"]
    assert report["sizes"]["teacher"] > report["sizes"]["student"] > 0
    page = (output / "student_report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 and "http" not in page.replace("http-equiv", "")
    assert "student: The student has mAP50" in said and "marauder export --models" in said
    identity = read_json(output / "training/taught/run.json")["identity"]["settings"]
    assert identity["teaching"]["file"] == hash_file(output / "lessons/lessons.json")
    assert hash_file(output / "training/taught/best.safetensors") == hash_file(output / "best.safetensors")


def test_finished_it_is_recognised_and_other_pictures_are_another_run(
    done: tuple[Path, str], words: Words, taught_world: Path, tmp_path: Path
) -> None:
    output, before = done[0], left(done[0])
    result = CliRunner().invoke(app, words(output))
    assert result.exit_code == 0 and "it was finished before" in result.output and left(output) == before
    # The same pictures and teacher elsewhere are the same run; one more picture is not.
    moved = Path(shutil.copytree(taught_world / "more", tmp_path / "moved"))
    copied = Path(shutil.copytree(taught_world / "teacher", tmp_path / "copied"))
    elsewhere = [str(moved) if word == str(taught_world / "more") else word for word in words(output)]
    elsewhere = [str(copied) if word == str(taught_world / "teacher") else word for word in elsewhere]
    result = CliRunner().invoke(app, elsewhere)
    assert result.exit_code == 0 and "it was finished before" in result.output
    shutil.copy(taught_world / "others/images/train/005.png", moved / "one-more.png")
    result = CliRunner().invoke(app, elsewhere)
    assert isinstance(result.exception, UserError) and "other settings or data" in str(result.exception)


def test_mistakes_are_told_before_anything_is_written(taught_world: Path, words: Words, tmp_path: Path) -> None:
    output = tmp_path / "none"
    wanted = words(output)
    save_lively(tmp_path / "strange", "yolov8t", 0, 64, class_names=("disc", "whale"))
    wanted[wanted.index("--teacher") + 1] = str(tmp_path / "strange.safetensors")
    result = CliRunner().invoke(app, wanted)
    assert isinstance(result.exception, UserError) and "does not know square, cross" in str(result.exception)
    wanted[wanted.index("--teacher") + 1] = str(tmp_path / "absent")
    wanted[wanted.index("--unlabelled") + 1] = str(tmp_path / "gone")
    result = CliRunner().invoke(app, [*wanted, "lessons.doubt=0.9"])
    told = str(result.exception)
    assert all(word in told for word in ("absent", "gone", "doubt")), told
    without = [word for word in wanted if word not in ("--teacher", str(tmp_path / "absent"))]
    without = [word for word in without if word not in ("--unlabelled", str(tmp_path / "gone"))]
    assert "name the detector that teaches" in str(CliRunner().invoke(app, without).exception)
    result = CliRunner().invoke(app, [*without, "teacher=x", "teaching.file=lessons.json"])
    assert "this run makes its own lessons" in str(result.exception) and not output.exists()
    with pytest.raises(UserError, match="no such file or folder"):
        marauder.teach(tmp_path / "absent", taught_world / "reef/data.yaml", output=output)
    assert not output.exists()


def test_boards_are_told_what_a_picture_takes(taught_world: Path) -> None:
    teacher = TeacherIs(taught_world, "", 640, True, ("yolov8m", "yolov8m", "yolov8m"))
    rows = {row["board"]: row for row in boards("yolov8n", 640, teacher)}
    nano, orin = (
        next(row for name, row in rows.items() if name.startswith(start)) for start in ("Jetson Nano", "Jetson Orin")
    )
    assert nano["student"]["milliseconds"] > 0 and nano["teacher"]["milliseconds"] is None
    assert orin["teacher"]["milliseconds"] > 3 * orin["student"]["milliseconds"] > 0


def test_a_teacher_is_numbered_by_name(taught_world: Path) -> None:
    teacher = open_teacher(taught_world / "teacher", NAMES, "cpu")
    assert teacher.numbers.tolist() == [2, -1, 0, 1]
    assert describe(taught_world / "teacher", NAMES).digest == teacher.predictor.digest


@pytest.mark.slow
def test_killed_while_the_teacher_looks_and_while_it_trains_it_ends_with_the_same_bytes(
    done: tuple[Path, str], words: Words, tmp_path: Path
) -> None:
    output = tmp_path / "student"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "marauder.cli.main", "student", *words(output)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def killed_once(there: Callable[[], bool]) -> None:
        process = start()
        wait_for(process, there, 250)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    killed_once(lambda: any((output / "lessons/looked").glob("part-*.npz")))
    looked = {path.name: path.stat().st_mtime_ns for path in (output / "lessons/looked").iterdir()}
    killed_once(lambda: any((output / "checkpoints/taught").glob("checkpoint_*.json")))
    made = (output / "lessons/lessons.json").stat().st_mtime_ns
    text, _ = (process := start()).communicate(timeout=300)
    assert process.returncode == 0, text
    assert left(output) == left(done[0])
    # The teacher looked once.
    assert {path.name: path.stat().st_mtime_ns for path in (output / "lessons/looked").iterdir()} == looked
    assert (output / "lessons/lessons.json").stat().st_mtime_ns == made
