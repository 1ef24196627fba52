"""The root of the command line: it starts fast, loads nothing heavy, and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import importlib.util
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marauder.cli import main as cli
from marauder.core.clock import Interrupted
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, atomic_path
from marauder.core.locks import exclusive

HEAVY = (
    "torch",
    "torchvision",
    "ultralytics",
    "cv2",
    "scipy",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "sklearn",
)


def modules_after(code: str, *words: str) -> set[str]:
    """Top-level packages in memory after ``code`` ran in a fresh interpreter."""
    report = "import sys; print('\\n' + ' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.rsplit("\n", 2)[-2].split())


def help_of(*words: str) -> str:
    return f"from marauder.cli.main import main; sys.argv = {['marauder', *words, '--help']!r}; main()"


def test_help_is_fast_and_lists_every_command() -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "marauder.cli.main", "--help"], capture_output=True, text=True, timeout=60
        )
        seconds.append(time.monotonic() - started)
        assert done.returncode == 0
    assert all(name in done.stdout for name in cli.COMMANDS)
    assert min(seconds) < 1.0


def test_help_imports_no_command_group() -> None:
    script = f"{help_of()}"
    loaded = modules_after(script)
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_exists_and_its_help_loads_nothing_heavy(name: str) -> None:
    module = cli.COMMANDS[name][0].partition(":")[0]
    assert importlib.util.find_spec(module) is not None, f"{module} stands in the table but is not there"
    assert not modules_after(help_of(name)).intersection(HEAVY)


def test_an_unknown_command_is_refused_with_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "marauder.cli.main", "basline"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "No such command 'basline'" in done.stderr


@pytest.mark.parametrize("error", [UserError("a.yaml:3: no such class"), DamagedFileError("a.yaml:3: no such class")])
def test_a_users_mistake_is_one_paragraph_and_status_2(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        cli.run_with_boundary(command)
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: a.yaml:3: no such class\n"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "another folder"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
        (errno.ENOENT, "check the path"),
        (errno.EEXIST, "name another path"),
        (errno.ENOTDIR, "name another path"),
        (errno.EISDIR, "name another path"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_paragraph(
    number: int, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise OSError(number, os.strerror(number), "reef/a.yaml")

    with pytest.raises(SystemExit) as left:
        cli.run_with_boundary(command)
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: reef/a.yaml: {os.strerror(number)}; ") and remedy in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "without a file"), OSError(errno.EIO, "the disk is broken", "a.yaml")]
)
def test_an_error_of_the_system_that_names_no_file_or_no_remedy_keeps_its_traceback(error: OSError) -> None:
    def command() -> None:
        raise error

    with pytest.raises(OSError, match=r"without|broken"):
        cli.run_with_boundary(command)


def test_a_full_disk_names_the_lock_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(content: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as writing into an open file says it: without a name

    monkeypatch.setattr("marauder.core.locks.json.dumps", full)

    def command() -> None:
        with exclusive(tmp_path / ".lock", "the folder"):
            raise AssertionError("never taken")

    with pytest.raises(SystemExit) as left:
        cli.run_with_boundary(command)
    assert left.value.code == 2
    assert f"error: {tmp_path / '.lock'}: No space left on device; make room" in capsys.readouterr().err


def test_a_full_disk_names_what_was_being_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with atomic_path(tmp_path / "reef.json") as temporary:
            temporary.touch()
            with Path("/dev/full").open("wb") as full:  # a device that is always full
                full.write(b"x")

    with pytest.raises(SystemExit) as left:
        cli.run_with_boundary(command)
    assert left.value.code == 2
    assert f"error: {tmp_path / 'reef.json'}: No space left on device; make room" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["data", "scenes", "--count", "6", "--output", "{file}"],
        ["data", "scenes", "--count", "6", "--output", "/proc/reef"],
        ["pipeline", "run", "--root", "{file}"],
        ["data", "split", "--input", "{data}", "--output", "/proc/reef"],
        ["data", "organize", "--input", "{data}", "--output", "{file}"],
        ["preprocess", "--input", "{data}", "--output", "/proc/reef"],
        ["baseline", "--data-yaml", "{data}/data.yaml", "--output", "{file}"],
    ],
    ids=lambda words: " ".join(words),
)
def test_an_output_that_cannot_be_written_is_no_traceback(words: list[str], tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "file"
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(picture).save(data / "images" / "a.png")
    (data / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    (data / "data.yaml").write_text("train: images\nval: images\nnames: [fish]\n", encoding="utf-8")
    file.touch()
    done = subprocess.run(
        [sys.executable, "-m", "marauder.cli.main", *(word.format(data=data, file=file) for word in words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr and "Traceback" not in done.stderr


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def command() -> None:
        raise ZeroDivisionError("1 / 0")

    with pytest.raises(ZeroDivisionError):
        cli.run_with_boundary(command)


def test_an_interruption_prints_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARAUDER_RESUME_COMMAND", raising=False)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "marauder"), "data", "--input", "my reef", "--fresh"])

    def command() -> None:
        raise Interrupted("SIGTERM received")

    with pytest.raises(SystemExit) as left:
        cli.run_with_boundary(command)
    assert left.value.code == 75
    printed = capsys.readouterr().err
    assert "SIGTERM received" in printed and "saved" in printed
    assert shlex.split(printed.splitlines()[-1]) == ["bin/marauder", "data", "--input", "my reef"]


def test_a_wrapping_script_says_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARAUDER_RESUME_COMMAND", "./scripts/run_baseline_yolo.sh --data-yaml 'my reef.yaml' --fresh")
    assert cli.resume_command() == "./scripts/run_baseline_yolo.sh --data-yaml 'my reef.yaml'"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["baseline", "--resume", "old.pt", "--fresh", "--epochs", "3"], ["baseline", "--epochs", "3"]),
        (["baseline", "--resume=old.pt", "--epochs", "3"], ["baseline", "--epochs", "3"]),
        (["baseline", "--epochs", "3", "--resume", "my old.pt"], ["baseline", "--epochs", "3"]),
        (["baseline", "--resume", "--epochs", "3"], ["baseline", "--epochs", "3"]),
        (["train", "--resume", "train.yaml", "seed=3"], ["train", "train.yaml", "seed=3"]),
        (["preprocess", "--resume", "method=full"], ["preprocess", "method=full"]),
        (["export", "--resume", "best.pt"], ["export", "best.pt"]),
    ],
)
def test_what_goes_on_is_the_newest_checkpoint(
    typed: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARAUDER_RESUME_COMMAND", raising=False)
    monkeypatch.setattr(sys, "argv", ["bin/marauder", *typed])
    assert shlex.split(cli.resume_command())[1:] == kept
    monkeypatch.setenv("MARAUDER_RESUME_COMMAND", shlex.join(["./scripts/run.sh", *typed[1:]]))
    assert shlex.split(cli.resume_command())[1:] == kept[1:]


def test_an_interruption_that_names_its_command_is_believed(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise Interrupted("time budget spent", "marauder baseline --output models")

    with pytest.raises(SystemExit):
        cli.run_with_boundary(command)
    assert capsys.readouterr().err.endswith("marauder baseline --output models\n")


def test_the_status_of_a_workspace_needs_no_torch(tmp_path: Path) -> None:
    script = "from marauder.cli.main import main; sys.argv = ['marauder', 'status', '--root', sys.argv[1]]; main()"
    loaded = modules_after(script, str(tmp_path))
    assert "marauder" in loaded
    assert not loaded.intersection({"torch", "torchvision", "ultralytics", "scipy", "matplotlib", "onnxruntime"})


NOT_UTF8 = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ROOT = Path(__file__).parents[2]


def test_names_that_are_not_ascii_are_no_error_in_any_locale(tmp_path: Path) -> None:
    folder = tmp_path / "récif"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Image.new("RGB", (40, 30), (9, 90, 120)).save(folder / "images" / "poisson-fée.jpg")
    (folder / "labels" / "poisson-fée.txt").write_text("0 .5 .5 .2 .2\n0 .5 .5 0 .2\n")
    words = ["data", "check", "--input", str(folder), "--names", "fée", "--report", str(folder / "é.json")]
    done = subprocess.run(
        [sys.executable, "-m", "marauder.cli.main", *words], capture_output=True, env=NOT_UTF8, timeout=60
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr.decode()
    assert f"{folder}/labels/poisson-fée.txt:2: box without area" in done.stdout.decode("utf-8")
    assert (folder / "é.json").is_file()


def test_the_whole_pipeline_starts_in_any_locale_too(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "training" / "train_all.py"), "--root", str(tmp_path), "--config", "là.yaml"]
    done = subprocess.run(script, capture_output=True, env=NOT_UTF8, timeout=60)
    assert done.returncode == 2 and "là.yaml" in done.stderr.decode("utf-8")


@pytest.mark.parametrize("options", [["-E"], ["-X", "utf8=0"]])
def test_options_of_python_do_not_make_it_start_for_ever(options: list[str]) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[2]); from marauder.core.environment import use_utf8; use_utf8(); "
    code += "print(sys.getfilesystemencoding(), sys.argv[1])"
    command = [sys.executable, *options, "-c", code, "é", str(ROOT / "src")]
    done = subprocess.run(command, capture_output=True, env=NOT_UTF8, timeout=20)
    assert done.stdout.decode("utf-8") == "utf-8 é\n", done.stderr
