"""``marauder manifest`` as a user runs it: exit statuses, files and words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_sets

from marauder.core.locks import exclusive
from marauder.data.manifests.pinning import DataPin
from marauder.data.reading import read_dataset


@pytest.fixture
def run(tmp_path: Path):
    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "marauder.cli.main", "manifest", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "160", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )

    return call


def test_too_few_names_lose_no_label(tmp_path: Path, run):
    for number in range(3):
        small_sets.picture(tmp_path / f"set/images/{number}.jpg", number)
        (tmp_path / "set/labels").mkdir(exist_ok=True)
        (tmp_path / f"set/labels/{number}.txt").write_text(f"{number} .5 .5 .2 .2\n")
    words = ("write", "--input", tmp_path / "set", "--output", tmp_path / "out", "--names")
    refused = run(*words, "a,b")
    assert refused.returncode == 2 and not (tmp_path / "out").exists()
    assert f"First: {tmp_path}/set/labels/2.txt:1: class 2 (known: 0 to 1)" in refused.stderr
    assert "1 of 3 pictures would be left out." in refused.stderr
    assert "at least 3 names: give them all" in refused.stderr
    assert run(*words, "a,b,c").returncode == 0


def test_a_misspelt_name_loses_no_label(tmp_path: Path, run):
    root = small_sets.voc(tmp_path / "set")
    (root / "Annotations/b.xml").write_text((root / "Annotations/a.xml").read_text().replace("crab", "eel"))
    words = ("write", "--input", root, "--output", tmp_path / "out", "--names")
    refused = run(*words, "crab,eels,fish")
    assert refused.returncode == 2 and not (tmp_path / "out").exists()
    assert "1 of 4 boxes have a class without a name, and 1 of 2 pictures would be left out" in refused.stderr
    assert "(crab, eels, fish); none of them is eel (1 box in 1 picture; did you mean it by eels?)" in refused.stderr
    assert f"check --input {root} --names crab,eels,fish --fix --output FOLDER`" in refused.stderr
    assert "b.xml:4: class eel: none of the names; did you mean eels?" in refused.stderr
    (root / "ImageSets/Main/val.txt").write_text("a\n")
    (root / "ImageSets/Main/train.txt").write_text("b\n")
    written = run(*words, "crab,eel,fish")
    assert written.returncode == 0 and "2 pictures (1 train, 1 val), 2 boxes" in written.stdout


@pytest.mark.parametrize("measured", [False, True])
def test_a_truncated_picture_is_in_no_manifest(tmp_path: Path, run, measured: bool):
    root = small_sets.yolo(tmp_path / "my set")
    (root / "labels/train/a.txt").write_text("0 .5 .5 .2 .2\n")
    small_sets.picture(root / "images/train/d.jpg", 5)
    (root / "images/train/d.jpg").write_bytes((root / "images/train/d.jpg").read_bytes()[:-300])
    words = ("write", "--input", root, "--output", tmp_path / "out", *(["--measure"] if measured else []))
    for _ in range(2):  # the second time from the cache
        written = run(*words)
        assert written.returncode == 0, written.stderr
        assert "3 pictures (2 train, 1 val), " in written.stdout
        assert "picture cut short (picture-truncated)" in written.stdout
        assert (
            f"1 picture was set aside and is in no manifest; see each with `marauder data check --input '{root}'"
            in (written.stdout)
        )
        assert "d.jpg" not in "".join(file.read_text() for file in (tmp_path / "out").glob("*.manifest"))


def test_write_show_sample_and_pin(tmp_path: Path, run):
    root = small_sets.yolo(tmp_path / "set")
    written = run("write", "--input", root, "--output", tmp_path / "out", "--measure", "--format", "manifest,parquet")
    assert written.returncode == 0, written.stderr
    assert "2 pictures (1 train, 1 val), 1 box" in written.stdout
    assert f"{root}/labels/train/a.txt:2: not numbers" in written.stdout
    dataset = read_dataset(tmp_path / "out")
    assert {"brightness", "sharpness", "clip_kind"} <= dataset.records[0].attributes.keys()
    shown = run("show", "--input", tmp_path / "out")
    assert shown.returncode == 0, shown.stderr
    for words in ("fish", "attributes of pictures", "clip_kind", "photo 2", "median"):
        assert words in shown.stdout
    query = "brightness > 0 and clip_kind == 'photo'"
    drawn = run(
        "sample", "--input", tmp_path / "out", "--where", query, "--output", tmp_path / "two.manifest", "--count", 2
    )
    assert drawn.returncode == 0, drawn.stderr
    assert f"2 of 2 rows with {query}" in drawn.stdout
    assert len(read_dataset(tmp_path / "two.manifest")) == 2
    assert "images/val/c.jpg" in run("sample", "--input", tmp_path / "out/golden_val.parquet").stdout
    pinned = run("pin", "--input", tmp_path / "out", "--output", tmp_path / "run")
    assert DataPin.read(tmp_path / "run").fingerprint in pinned.stdout
    assert run("pin", "--input", tmp_path / "out", "--check", tmp_path / "run").returncode == 0
    small_sets.picture(root / "images/val/c.jpg", 99)
    changed = run("pin", "--input", tmp_path / "out", "--check", tmp_path / "run/data_pin.json")
    assert changed.returncode == 1
    assert "split val: pictures changed" in changed.stdout


def test_bad_rows_are_an_exit_status(tmp_path: Path, run):
    found = run("show", "--input", small_sets.manifest(tmp_path))
    assert found.returncode == 1
    assert f"{tmp_path}/output.manifest:2: not valid JSON" in found.stdout


def test_what_is_in_no_manifest_is_told_last(tmp_path: Path, run):
    root = small_sets.yolo(tmp_path / "set")
    check = f"see each with `marauder data check --input {root} --report findings.json`"
    (root / "labels/val/c.txt").write_text("")
    done = run("write", "--input", root, "--output", tmp_path / "out")
    assert done.returncode == 2 and "no label is left" in done.stderr, "never a set of negatives"
    (root / "labels/val/c.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    done = run("write", "--input", root, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"1 picture was set aside and is in no manifest; {check}"
    (root / "images/train/b.jpg").write_bytes(b"")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (root / "images/val/d.jpg").write_text("no picture")
    done = run("write", "--input", root, "--output", tmp_path / "out")
    assert done.stdout.splitlines()[-1] == f"2 pictures were set aside and are in no manifest; {check}"
    (root / "images/train/b.jpg").unlink()
    (root / "images/val/d.jpg").unlink()
    done = run("write", "--input", root, "--output", tmp_path / "out")
    assert done.stdout.splitlines()[-1].startswith("data set: "), "nothing left out, nothing said"


def test_names_that_cannot_be_encoded_are_told(tmp_path: Path, run):
    root = small_sets.manifest(tmp_path / "set")
    good = json.loads((root / "output.manifest").read_text().splitlines()[0])
    rows = [json.dumps({**good, "source-ref": "half\ud800.jpg"}), json.dumps({**good, "source-ref": "gone\udcff.jpg"})]
    (root / "output.manifest").write_text("\n".join([*rows, json.dumps(good)]))
    shown = run("show", "--input", root)
    assert shown.returncode == 1, shown.stderr
    for line, half in ((1, "ud800"), (2, "udcff")):
        assert f"output.manifest:{line}: half of a surrogate pair ('\\{half}')" in shown.stdout
    written = run("write", "--input", root, "--output", tmp_path / "out", "--fractions", "train=1")
    assert written.returncode == 0, written.stderr
    assert "2 pictures were set aside" in written.stdout
    drawn = run("sample", "--input", root / "output.manifest")
    assert drawn.returncode == 0, drawn.stderr
    assert "images/a.jpg" in drawn.stdout and "error: 2 labels that say nothing" in drawn.stdout


def test_file_names_that_are_no_utf8_are_told(tmp_path: Path, run):
    root = small_sets.yolo(tmp_path / "set")
    (root / os.fsdecode(b"images/train/half\xff.jpg")).write_bytes(b"")
    done = run("write", "--input", root, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "half\\udcff.jpg: its name is not UTF-8" in done.stdout


def test_new_splits_and_addresses(tmp_path: Path, run):
    root = small_sets.yolo(tmp_path / "set")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    words = (
        "write",
        "--input",
        root,
        "--output",
        tmp_path / "out",
        "--fractions",
        "train=0.5,val=0.5",
        "--version",
        "9",
    )
    done = run(*words, "--uri", f"s3://reef/raw={root}/images")
    assert done.returncode == 0, done.stderr
    rows = [
        json.loads(line) for file in (tmp_path / "out").glob("*.manifest") for line in file.read_text().splitlines()
    ]
    assert all(row["source-ref"].startswith("s3://reef/raw/") for row in rows)
    assert "version: '9'" in (tmp_path / "out/dataset.yaml").read_text()
    assert len(read_dataset(tmp_path / "out")) == 3


def test_a_killed_measuring_goes_on(tmp_path: Path, run, shared_data: Path):
    words = ("--input", shared_data / "deepfish", "--output", tmp_path / "out", "--measure", "--no-near-duplicates")
    command = [sys.executable, "-m", "marauder.cli.main", "manifest", "write", *map(str, words)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journals = tmp_path / "cache/marauder"
    deadline = time.monotonic() + 60
    while child.poll() is None and not list(journals.rglob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = len(next(journals.rglob("*.jsonl")).read_text().splitlines())
    assert 0 < kept < 1500 and not (tmp_path / "out/dataset.yaml").exists()
    done = run("write", *words)
    assert done.returncode == 0, done.stderr
    lines = next(journals.rglob("*.jsonl")).read_text().splitlines()
    assert len([line for line in lines if line.endswith("]")]) in (1500, 1501), (
        "what was measured is not measured again"
    )
    dataset = read_dataset(tmp_path / "out")
    assert len(dataset) == 1500
    assert all("brightness" in record.attributes for record in dataset)


def test_mistakes_and_budgets(tmp_path: Path, run):
    root = small_sets.yolo(tmp_path / "set")
    out = tmp_path / "out"
    assert run("write", "--input", root, "--output", out).returncode == 0
    for words in (
        ("write", "--input", tmp_path / "gone", "--output", out),
        ("write", "--input", root, "--output", out, "--uri", "nonsense"),
        ("write", "--input", root, "--output", out, "--format", "tfrecord"),
        ("sample", "--input", root),
        ("sample", "--input", out, "--where", "depth >"),
        ("sample", "--input", out, "--where", "depth > 3"),
        ("pin", "--input", out, "--check", tmp_path / "gone.json"),
    ):
        result = run(*words)
        assert result.returncode == 2, (words, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr
    stopped = run("write", "--input", root, "--output", out, "--measure", "--max-hours", "0.0000001")
    assert stopped.returncode == 75
    assert "manifest write" in stopped.stderr


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from marauder.cli.main import load_command; load_command('manifest'); "
        "import marauder.data.manifests.spec; "
        "print([name for name in ('torch', 'cv2', 'scipy', 'polars', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_two_at_once_are_refused_by_name(tmp_path: Path, run):
    words = ("write", "--input", small_sets.yolo(tmp_path / "set"), "--output", tmp_path / "out")
    with exclusive(tmp_path / "out" / ".lock", "it"):
        refused = run(*words)
    assert (
        refused.returncode == 2
        and f"the folder of manifests {tmp_path / 'out'} is in use by another run" in refused.stderr
    )
    assert run(*words).returncode == 0
