"""``marauder ensemble`` as people type it: what it leaves, stopped, killed and gone on with, mistakes in one list."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from marauder.cli.ensemble import app
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json
from marauder.core.settings import load_checked
from marauder.data.reading import read_dataset
from marauder.ensembles import looking
from marauder.ensembles.assembly import assemble
from marauder.ensembles.settings import EnsembleSettings
from marauder.exporting.inputs import pattern
from marauder.prediction.ensemble import EnsemblePredictor
from marauder.prediction.opening import open_predictor
from marauder.tasks.detection.evaluate_split import evaluate_split
from marauder.testing.lively_detectors import save_lively

NAMES = ("fish", "ray", "star")
CLIPS, FRAMES = 9, 2
QUICK = ("cost.rounds=3", "cost.pictures=2", "folds=2", "draws=100", "options.overlap=0.55")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three detectors, one of other classes and another size, and a data set whose boxes the first two find."""
    root = tmp_path_factory.mktemp("world")
    save_lively(root / "runs/a/best", "yolov8t", 0, 96, class_names=NAMES)
    save_lively(root / "runs/b/best", "yolo11t", 1, 96, class_names=NAMES)
    save_lively(root / "runs/c/best", "yolov8t", 2, 64, class_names=("star", "crab", "fish"))
    seen = [open_predictor(root / f"runs/{name}/best.pt", "cpu") for name in "ab"]
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (root / "data" / kind / split).mkdir(parents=True)
        for number in range(CLIPS * FRAMES if split != "train" else 1):
            picture = pattern(1, number + 100 * len(split))[:120, :160]
            name = f"{split}_{number // FRAMES}_f{number % FRAMES:06d}"
            import cv2

            cv2.imwrite(str(root / f"data/images/{split}/{name}.png"), picture[:, :, ::-1])
            lines = []
            for predictor in seen:
                found = predictor.predict([picture])[0].surest(3)
                centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 / [160, 120]
                sides = (found.boxes[:, 2:] - found.boxes[:, :2]) / [160, 120]
                rows = np.concatenate([centres, sides], axis=1)
                lines += [f"{kind} " + " ".join(f"{one:.5f}" for one in row) for kind, row in zip(found.classes, rows)]
            (root / f"data/labels/{split}/{name}.txt").write_text("\n".join(lines))
    content = {"path": str(root / "data"), **{split: f"images/{split}" for split in ("train", "val", "test")}}
    (root / "data/data.yaml").write_text(json.dumps({**content, "names": list(NAMES)}))
    return root


def settings(world: Path, output: Path, *words: str, **values: object) -> EnsembleSettings:
    members = values.pop("members", [str(world / "runs/*/best.safetensors")])
    here = {"members": members, "data": world / "data/data.yaml", "output": output, **values}
    return load_checked(EnsembleSettings, None, [*QUICK, *words], {}, **here)


@pytest.fixture(scope="module")
def assembled(world: Path) -> Path:
    """What an undisturbed call leaves."""
    assemble(settings(world, world / "whole"))
    return world / "whole"


def files_of(folder: Path) -> dict[str, str]:
    """What must be the same however often the work was stopped: all but times."""
    timed = ("ensemble_report.json", "ensemble_report.html", "card.md", "ensemble.json")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (*timed, ".lock")]
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in found}


def test_the_folder_is_a_predictor_that_finds_what_was_measured(world: Path, assembled: Path) -> None:
    predictor = open_predictor(assembled, "cpu")
    assert isinstance(predictor, EnsemblePredictor) and predictor.names == NAMES
    assert [path.name for path in sorted(assembled.glob("*/*.safetensors"))] == ["model.safetensors"] * 3
    report = read_json(assembled / "ensemble_report.json")
    dataset = read_dataset(world / "data/data.yaml")
    measured = evaluate_split(assembled, dataset, "test", predictor.device, None).result.overall
    assert measured.map50 == pytest.approx(report["measured"]["ensemble"]["map50"], abs=0.01)
    assert measured.map50 > 0.2
    for member in report["members"][:2]:
        # Calibration keeps the order of scores.
        alone = evaluate_split(Path(member["source"]), dataset, "test", predictor.device, None).result.overall
        assert alone.map50 == pytest.approx(member["alone"]["map50"], abs=0.01)
    assert report["members"][2]["lacks"] == ["ray"] and "crab" in report["members"][2]["classes"]
    assert predictor.thresholds is not None and np.allclose(predictor.thresholds, report["threshold"])
    assert predictor.weights()[2].tolist()[1] == 0.0


def test_the_report_says_what_each_member_adds_and_costs(assembled: Path) -> None:
    report = read_json(assembled / "ensemble_report.json")
    assert report["fit"]["groups"] == report["measured"]["groups"] == CLIPS
    assert len(report["measured"]["correlation_of_errors"]) == 3
    assert np.allclose(np.diag(report["measured"]["correlation_of_errors"]), 1)
    for member in report["members"]:
        assert member["milliseconds"] > 0 and member["adds"]["low"] <= member["adds"]["delta"] <= member["adds"]["high"]
    assert report["cost"]["times_fastest"] > 1
    page = (assembled / "ensemble_report.html").read_text(encoding="utf-8")
    assert "Correlation of errors" in page and "without ray" not in page and report["verdicts"][0][:20] in page
    card = (assembled / "card.md").read_text(encoding="utf-8")
    assert all(member["sha256"] in card for member in report["members"])


def test_the_command_says_what_came_of_it_and_does_it_once(world: Path, assembled: Path) -> None:
    words = ["--members", str(world / "runs/*/best.safetensors"), "--data", str(world / "data/data.yaml")]
    stamp = (assembled / "predictor.json").stat().st_mtime_ns
    done = CliRunner().invoke(app, [*words, "--output", str(assembled), *QUICK], catch_exceptions=False)
    assert done.exit_code == 0 and "already assembled" in done.stdout
    assert "the ensemble" in done.stdout and "without ray" in done.stdout and "marauder predict --model" in done.stdout
    assert (assembled / "predictor.json").stat().st_mtime_ns == stamp


def test_stopped_anywhere_the_same_call_goes_on_to_the_same_files(
    world: Path, assembled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "SHARD", 64)
    here, stops, asked = settings(world, tmp_path / "stopped"), 0, 0
    while True:
        clock, left = Clock(), 12

        def reason(_: float = 0.0) -> str | None:
            nonlocal left
            left -= 1
            return "enough" if left < 0 else None

        monkeypatch.setattr(clock, "stop_reason", reason)
        left += 6 * asked
        try:
            assemble(here, clock)
            break
        except Interrupted:
            stops, asked = stops + 1, asked + 1
            # Never a folder that passes for a finished one.
            marker = tmp_path / "stopped/ensemble.json"
            assert not marker.exists() or not read_json(marker)["complete"]
    assert stops >= 3
    assert files_of(tmp_path / "stopped") == files_of(assembled)


def test_members_are_looked_with_once_and_each_picture_decoded_once(
    world: Path, assembled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(assembled, tmp_path / "e")
    decoded: list[str] = []
    get = looking.DecodedPictures.get

    def counted(self: looking.DecodedPictures, index: int) -> np.ndarray:
        decoded.append(self.records[index].key)
        return get(self, index)

    monkeypatch.setattr(looking.DecodedPictures, "get", counted)
    # Another way of fusing needs no second look.
    assemble(settings(world, tmp_path / "e", "options={}", fusion="nms", weights=False))
    assert decoded == []
    assert read_json(tmp_path / "e/predictor.json")["ensemble"]["fusion"] == "nms"
    save_lively(tmp_path / "runs/d/best", "yolov8t", 5, 96, class_names=NAMES)
    more = [*(str(path) for path in sorted(world.glob("runs/*/best.safetensors"))), str(tmp_path / "runs/d/best.pt")]
    assemble(settings(world, tmp_path / "e", members=more))
    assert len(decoded) == len(set(decoded)) == 2 * CLIPS * FRAMES
    assert (tmp_path / "e/d/model.safetensors").is_file()


def test_who_is_pruned_leaves_no_file(world: Path, assembled: Path, tmp_path: Path) -> None:
    shutil.copytree(assembled, tmp_path / "e")
    removable = read_json(assembled / "ensemble_report.json")["removable"]
    summary = assemble(settings(world, tmp_path / "e", prune=True))
    assert summary.report["removable"] == removable
    assert set(summary.kept) == {"a", "b", "c"} - set(removable)
    assert {path.parent.name for path in (tmp_path / "e").glob("*/predictor.json")} == set(summary.kept)
    assert "Left out" in summary.message() or not removable


def test_all_mistakes_are_listed_and_nothing_is_touched(world: Path, tmp_path: Path) -> None:
    save_lively(tmp_path / "stranger/best", "yolov8t", 3, 64, class_names=("crab", "whale"))
    shutil.copytree(world / "runs/a", tmp_path / "copy")
    (tmp_path / "damaged.safetensors").write_bytes(b"no model")
    members = [
        str(world / "runs/a/best.safetensors"),
        str(tmp_path / "copy/best.safetensors"),
        str(tmp_path / "stranger/best.pt"),
        str(tmp_path / "damaged.safetensors"),
    ]
    with pytest.raises(UserError) as raised:
        assemble(settings(world, tmp_path / "out", members=members))
    said = str(raised.value)
    for words in ("damaged.safetensors", "same model as", "none of the data set's classes", "crab, whale"):
        assert words in said
    save_lively(tmp_path / "other_c/best", "yolov8t", 8, 64, class_names=("star", "fish"))
    without_rays = [str(world / "runs/c/best.pt"), str(tmp_path / "other_c/best.pt")]
    with pytest.raises(UserError, match="no member knows ray"):
        assemble(settings(world, tmp_path / "out", members=without_rays))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": ["gone.pt", "runs/?/none*.pt"]}, "no file matches"),
        ({"members": ["gone.pt", "gone2.pt"]}, "gone2.pt: no such file"),
        ({"split": "val"}, "is the split that is fitted on"),
        ({"fusion": "median"}, "no way of fusing named 'median'"),
        ({"options": {"overlap": 4}}, "overlap"),
        ({"metric": "f1"}, "no metric named 'f1'"),
        ({"split": "trial"}, "no split named 'trial'"),
    ],
)
def test_settings_that_cannot_be_right_are_named(
    world: Path, change: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        assemble(settings(world, tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_ensembles_members_inside_and_strange_folders_are_refused(world: Path, assembled: Path, tmp_path: Path) -> None:
    member = str(world / "runs/a/best.pt")
    with pytest.raises(UserError, match="is an ensemble; name its members instead"):
        assemble(settings(world, tmp_path / "out", members=[member, str(assembled)]))
    with pytest.raises(UserError, match="lies in the folder that is written"):
        assemble(settings(world, assembled, members=[str(world / "runs/b/best.pt"), str(assembled / "a")]))
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/notes.txt").touch()
    with pytest.raises(UserError, match="holds no ensemble"):
        assemble(settings(world, tmp_path / "strange"))


def test_clips_that_are_in_both_splits_are_refused(world: Path, tmp_path: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        for split in ("train", "val", "test"):
            shutil.copytree(world / "data" / kind / split, tmp_path / "data" / kind / split)
        shutil.move(tmp_path / f"data/{kind}/val/val_0_f000001.{suffix}", tmp_path / f"data/{kind}/test")
    content = json.loads((world / "data/data.yaml").read_text())
    (tmp_path / "data/data.yaml").write_text(json.dumps({**content, "path": str(tmp_path / "data")}))
    with pytest.raises(UserError, match="both"):
        assemble(settings(world, tmp_path / "out", data=tmp_path / "data/data.yaml"))


@pytest.mark.slow
def test_killed_anywhere_the_same_command_goes_on_to_the_same_files(
    world: Path, assembled: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    words = ["--members", str(world / "runs/*/best.safetensors"), "--data", str(world / "data/data.yaml")]
    command = [sys.executable, "-m", "marauder", "ensemble", *words, "--output", str(output), *QUICK]
    for at in (".ensemble/looked/val/*/*.npz", ".ensemble/fit-00.json", "*/model.safetensors"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while not list(output.glob(at)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert files_of(output) == files_of(assembled)
