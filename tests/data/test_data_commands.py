"""``marauder data`` as a user runs it: exit statuses, files and words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_sets

from marauder.cli.data import parse_fractions
from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.data.reading import read_dataset


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marauder.cli.main", "data", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )


def test_check_fix_and_statuses(tmp_path: Path):
    root = small_sets.yolo(tmp_path / "set")
    found = run("check", "--input", root, "--report", tmp_path / "report.json")
    assert found.returncode == 1, found.stderr
    assert f"{root}/labels/train/a.txt:2: not numbers: 'nonsense here'" in found.stdout
    assert read_json(tmp_path / "report.json")["errors"] == 1
    assert (tmp_path / "report.jpg").exists()
    fixed = run("check", "--input", root, "--fix", "--output", tmp_path / "fixed")
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr
    assert "1 set aside" in fixed.stdout
    assert run("check", "--input", tmp_path / "fixed").returncode == 0


def test_check_names_classes_without_a_box_and_places_as_the_folder_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = small_sets.voc(tmp_path / "my set")
    small_sets.picture(root / "other/c.jpg", 7)
    monkeypatch.chdir(tmp_path)
    found = run("check", "--input", "my set", "--names", "crab,eel,fish").stdout
    assert "my set: 2 pictures, 2 boxes, 3 classes" in found
    assert "2 classes have no box that counts: eel, fish" in found
    assert "    my set/other/c.jpg: 1 picture in my set/other belongs to nothing that was read" in found
    assert str(tmp_path) not in found
    assert "Name the folder around both, my set\n" in run("check", "--input", "my set/JPEGImages").stdout


def test_check_says_how_to_get_the_splits_that_are_missing(tmp_path: Path):
    for number in range(3):
        small_sets.picture(tmp_path / f"set/images/{number}.jpg", number)
        (tmp_path / "set/labels").mkdir(exist_ok=True)
        (tmp_path / f"set/labels/{number}.txt").write_text("0 .5 .5 .2 .2\n")
    fixed = run("check", "--input", tmp_path / "set", "--fix", "--output", tmp_path / "fixed")
    assert f"marauder data split --input {tmp_path / 'fixed'} --output FOLDER" in fixed.stdout
    assert "data split" not in run("check", "--input", small_sets.yolo(tmp_path / "whole")).stdout


def test_a_name_left_empty_is_a_mistake(tmp_path: Path):
    result = run("check", "--input", small_sets.yolo(tmp_path / "set"), "--names", "fish,,crab")
    assert result.returncode == 2 and "name 2 is empty" in result.stderr


def test_check_mistakes(tmp_path: Path):
    for words in (
        ("check", "--input", tmp_path / "none"),
        ("check", "--input", tmp_path, "--fix"),
        ("check", "--input", tmp_path, "--output", tmp_path / "x"),
        ("organize", "--input", tmp_path, "--output", tmp_path / "x", "--mode", "move"),
        ("split", "--input", tmp_path, "--output", tmp_path / "x", "--fractions", "0.5"),
    ):
        result = run(*words)
        assert result.returncode == 2, words
        assert "Traceback" not in result.stderr


def test_organize_reports_what_did_not_map(tmp_path: Path):
    root = small_sets.yolo(tmp_path / "set")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (root / "labels/train/b.txt").write_text("nonsense here\n")
    words = ("organize", "--input", root, "--output", tmp_path / "out", "--mode", "copy")
    first = run(*words)
    assert first.returncode == 0, first.stderr
    assert "not in the species table" in first.stdout
    assert "crab" in first.stdout
    assert "set aside: 1 picture: label-syntax (1)" in first.stdout
    assert f"problems: label-syntax (1); examples in {tmp_path / 'out/organize.json'}" in first.stdout
    content = (tmp_path / "out/data.yaml").read_bytes()
    second = run(*words)
    assert "already organized" in second.stdout
    assert (tmp_path / "out/data.yaml").read_bytes() == content


def test_split_keeps_names(tmp_path: Path):
    root = small_sets.yolo(tmp_path / "set")
    result = run("split", "--input", root, "--output", tmp_path / "out", "--fractions", "train=0.5,val=0.5")
    assert result.returncode == 0, result.stderr
    dataset = read_dataset(tmp_path / "out")
    assert dataset.names == ("fish", "crab")
    assert set(dataset.splits()) <= {"train", "val"}


def test_keeping_the_splits_of_the_source(tmp_path: Path):
    root = small_sets.yolo(tmp_path / "set")
    result = run("organize", "--input", root, "--output", tmp_path / "out", "--keep-source-splits")
    assert result.returncode == 0, result.stderr
    assert read_dataset(tmp_path / "out").splits() == {"train": 1, "val": 1}


def test_a_spent_budget_says_how_to_go_on(tmp_path: Path):
    root = small_sets.yolo(tmp_path / "set")
    result = run("organize", "--input", root, "--output", tmp_path / "out", "--max-hours", "0.0000001")
    assert result.returncode == 75
    assert "organize --input" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {"train": 0.7, "val": 0.2, "test": 0.1}),
        ("train=0.8,val=0.2", {"train": 0.8, "val": 0.2}),
        ("0.6, 0.2, 0.2", {"train": 0.6, "val": 0.2, "test": 0.2}),
    ],
)
def test_fractions(text: str | None, expected: dict[str, float]):
    assert parse_fractions(text) == expected


@pytest.mark.parametrize("text", ["train=a", "a=1", "0.2,0.2,0.2,0.4", ""])
def test_bad_fractions(text: str):
    with pytest.raises(UserError, match="train"):
        parse_fractions(text)


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from marauder.cli.main import load_command; load_command('data'); "
        "print([name for name in ('torch', 'cv2', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
