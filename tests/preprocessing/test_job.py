"""The whole job: the tree it makes, what it does again and what not, bad files, stops and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from preprocessing_folders import hazy_picture, make_folder, tree_of, write_picture, write_rotated

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.preprocessing.companions import Companions
from marauder.preprocessing.inventory import PICTURE, Item, take_inventory
from marauder.preprocessing.job import preprocess_folder
from marauder.preprocessing.report import PreprocessingSummary
from marauder.preprocessing.settings import PlanSettings, PreprocessingSettings, Recipe
from marauder.preprocessing.work import SET_ASIDE, Job
from marauder.preprocessing.workers import WorkerPool


def run(source: Path, target: Path, **values: Any) -> PreprocessingSummary:
    settings = PreprocessingSettings(input=source, output=target, **{"workers": 1, "sheet_pictures": 2, **values})
    return preprocess_folder(settings, Clock())


def report_lines(target: Path) -> dict[str, dict[str, Any]]:
    lines = (target / "preprocessing" / "measurements.jsonl").read_text().splitlines()
    return {line["path"]: line for line in map(json.loads, lines)}


def test_the_tree_is_kept_labels_travel_and_the_report_is_written(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "raw")
    (source / "labels" / "train.cache").write_bytes(b"stale")
    (source / ".DS_Store").write_bytes(b"hidden")
    target = tmp_path / "out"
    summary = run(source, target)
    assert (summary.pictures, summary.enhanced, summary.left_alone) == (6, 6, 0)
    made, raw = tree_of(target), tree_of(source)
    assert {p for p in made if not p.startswith("preprocessing/")} == set(raw) - {"labels/train.cache", ".DS_Store"}
    for path, content in raw.items():
        if path.startswith(("labels/", "masks/")) and path in made:
            assert made[path] == content
        if path.startswith("images/"):
            assert made[path] != content
            assert made[path][:4] == content[:4]  # PNG stays PNG, JPEG stays JPEG
            assert cv2.imread(str(target / path)).shape == cv2.imread(str(source / path)).shape
    assert yaml.safe_load(made["data.yaml"])["val"] == "images/val"
    lines = report_lines(target)
    assert set(lines) == {path for path in raw if path.startswith("images/")}
    for line in lines.values():
        assert line["after"]["uciqe"] > line["before"]["uciqe"] and "dehazing" in line["stages"]
    page = (target / "preprocessing" / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and "://" not in page
    assert str(target) in summary.message() and "6 enhanced" in summary.message()


def test_ultralytics_finds_pictures_and_labels_in_the_output(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    source, target = make_folder(tmp_path / "raw"), tmp_path / "out"
    run(source, target)
    moved = tmp_path / "moved"
    target.rename(moved)
    code = (
        "import sys; from ultralytics.data.utils import check_det_dataset as c; "
        "from ultralytics.data import YOLODataset as D; d = c(sys.argv[1]); "
        "s = D(img_path=d['train'], data=d, imgsz=64, augment=False); "
        "print('FOUND', len(s), sum(len(x['cls']) for x in s.labels), d['train'])"
    )
    environment = {
        **os.environ,
        "YOLO_CONFIG_DIR": str(tmp_path / "config"),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(moved / "data.yaml")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    found = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    assert found == f"FOUND 4 4 {moved}/images/train"


def test_nothing_is_done_twice_and_only_what_changed_is_done_again(tmp_path: Path) -> None:
    source, target = make_folder(tmp_path / "raw"), tmp_path / "out"
    assert run(source, target).redone == 6
    before = {path: path.stat().st_mtime_ns for path in (target / "images").rglob("*.*")}
    tree = tree_of(target)
    assert run(source, target).redone == 0
    assert {path: path.stat().st_mtime_ns for path in (target / "images").rglob("*.*")} == before
    assert tree_of(target) == tree

    write_picture(source / "images" / "train" / "frame_001.png", hazy_picture(50))
    (target / "images" / "train" / "frame_002.jpg").unlink()
    (target / "images" / "val" / "frame_003.jpg").write_bytes(b"spoiled")
    assert run(source, target).redone == 3
    changed = tree_of(target)
    assert changed["images/train/frame_002.jpg"] == tree["images/train/frame_002.jpg"]
    assert changed["images/val/frame_003.jpg"] == tree["images/val/frame_003.jpg"]
    assert changed["images/train/frame_001.png"] != tree["images/train/frame_001.png"]

    assert run(source, target, method="contrast").redone == 6
    (target / "images" / "mine.txt").write_text("notes")
    assert run(source, target, method="contrast", fresh=True).redone == 6
    assert (target / "images" / "mine.txt").exists()


def test_outputs_go_when_their_input_goes_but_foreign_files_stay(tmp_path: Path) -> None:
    source, target = make_folder(tmp_path / "raw"), tmp_path / "out"
    run(source, target)
    (target / "mine.txt").write_text("notes")
    (source / "images" / "train" / "frame_001.png").unlink()
    (source / "labels" / "train" / "frame_001.txt").unlink()
    assert run(source, target).removed == 2
    assert not (target / "images" / "train" / "frame_001.png").exists()
    assert (target / "mine.txt").read_text() == "notes"


def test_bad_files_are_set_aside_with_a_reason_and_come_back_when_mended(tmp_path: Path) -> None:
    source, target = make_folder(tmp_path / "raw"), tmp_path / "out"
    good = (source / "images" / "train" / "frame_002.jpg").read_bytes()
    (source / "images" / "train" / "frame_002.jpg").write_bytes(good[: len(good) // 2])
    (source / "images" / "train" / "empty.jpg").write_bytes(b"")
    (source / "images" / "train" / "text.png").write_text("no picture")
    (source / "images" / "train" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    summary = run(source, target)
    reasons = dict(summary.set_aside)
    assert summary.enhanced == 5 and len(reasons) == 4
    assert "truncated" in reasons["images/train/frame_002.jpg"] and "no bytes" in reasons["images/train/empty.jpg"]
    assert "readable" in reasons["images/train/text.png"] and "read" in reasons["images/train/gone.jpg"]
    assert not (target / "images" / "train" / "frame_002.jpg").exists()
    assert "truncated" in summary.message()
    (source / "images" / "train" / "frame_002.jpg").write_bytes(good)
    mended = run(source, target)
    assert mended.redone == 1 and mended.enhanced == 6
    (source / "images" / "train" / "frame_002.jpg").write_bytes(good[:300])
    run(source, target)
    assert not (target / "images" / "train" / "frame_002.jpg").exists()


def test_good_pictures_keep_their_bytes_and_rotated_ones_are_turned(tmp_path: Path) -> None:
    source, target = tmp_path / "raw", tmp_path / "out"
    for orientation in (1, 6):
        write_rotated(source / f"turned_{orientation}.jpg", orientation)
    summary = run(source, target, method="none")
    assert summary.left_alone == 2
    assert (target / "turned_1.jpg").read_bytes() == (source / "turned_1.jpg").read_bytes()
    upright = cv2.imread(str(target / "turned_6.jpg"), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert upright.shape[:2] == (60, 40) and upright[:30].mean() > 180
    assert report_lines(target)["turned_6.jpg"]["height"] == 60


def test_step_0_says_when_16_bits_become_8(tmp_path: Path) -> None:
    source, target = tmp_path / "raw", tmp_path / "out"
    for index in range(3):
        write_picture(source / f"deep_{index}.png", hazy_picture(index).astype(np.uint16) * 257)
    write_picture(source / "plain.png", hazy_picture(3))
    summary = run(source, target)
    told = "3 pictures with more than 8 bits a channel were written with 8, such as deep_0.png (16 bits)"
    assert told in summary.message() and told in (target / "preprocessing" / "report.html").read_text()
    assert report_lines(target)["deep_1.png"]["bits_before"] == 16
    assert "bits_before" not in report_lines(target)["plain.png"]
    assert "more than 8 bits" not in run(source, target, method="none").message()  # copied as they are


def test_the_clean_picture_gives_psnr_and_ssim(tmp_path: Path) -> None:
    source, clean, target = tmp_path / "raw", tmp_path / "clean", tmp_path / "out"
    picture = cv2.resize(np.random.default_rng(4).integers(20, 230, (6, 8, 3)).astype(np.uint8), (160, 120))
    write_picture(clean / "reef" / "a.png", picture)
    veiled = (0.4 * picture + 0.6 * np.array([170, 180, 80])).astype(np.uint8)
    write_picture(source / "reef" / "a.jpg", veiled)
    write_picture(source / "reef" / "b.jpg", veiled)
    summary = run(source, target, clean=clean)
    line = report_lines(target)["reef/a.jpg"]["clean"]
    assert line["psnr_after"] > line["psnr_before"] and line["ssim_after"] > line["ssim_before"]
    assert summary.means["psnr_after"] == pytest.approx(line["psnr_after"])
    assert "name" in report_lines(target)["reef/b.jpg"]["clean"]["reason"] and len(summary.notes) == 1


def test_processes_and_exactness_change_nothing_they_should_not(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "raw", count=20)
    run(source, tmp_path / "one", workers=1)
    run(source, tmp_path / "two", workers=2)
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "two")
    run(source, tmp_path / "exact", exact=True)
    one, exact = (cv2.imread(str(tmp_path / name / "images/train/frame_002.jpg")) for name in ("one", "exact"))
    assert not np.array_equal(one, exact) and cv2.PSNR(one, exact) > 28
    manual = run(source, tmp_path / "manual", method="manual", plan=PlanSettings(gamma=0.8))
    assert manual.stages == {"gamma": 20}


def test_folders_that_cannot_be_used_are_refused_with_a_remedy(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "raw")
    for target in (source, source / "out", tmp_path):
        with pytest.raises(UserError, match="inside each other"):
            run(source, target)
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path / "missing", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="empty or new"):
        run(source, tmp_path / "full")
    run(source, tmp_path / "out")
    with pytest.raises(UserError, match="change twice"):
        run(tmp_path / "out", tmp_path / "again")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        run(tmp_path / "empty", tmp_path / "nothing")
    with pytest.raises(ValueError, match="go together"):
        PreprocessingSettings(input=source, output=tmp_path, method="manual")


def test_a_spent_budget_stops_in_time_and_the_next_run_finishes(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "raw", count=60)
    run(source, tmp_path / "whole")
    target = tmp_path / "out"
    settings = PreprocessingSettings(input=source, output=target, workers=1, sheet_pictures=2)
    stops = 0
    for _ in range(40):
        try:
            preprocess_folder(settings, Clock(max_seconds=0.05))
            break
        except Interrupted as stop:
            assert "budget" in stop.reason
            stops += 1
    assert stops >= 2
    assert tree_of(target) == tree_of(tmp_path / "whole")


def start_command(source: Path, target: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "marauder.cli.main", "preprocess", "--input", str(source), "--output", str(target)]
    return subprocess.Popen(
        [*command, "--workers", "2", "sheet_pictures=2", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_journal(target: Path, lines: int, process: subprocess.Popen[str]) -> None:
    journal = target / "preprocessing" / ".journal.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.002)


def test_killed_anywhere_and_run_again_the_tree_is_the_same(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "raw", count=160, side=360)
    run(source, tmp_path / "whole", workers=2)
    target = tmp_path / "out"
    killed = 0
    for lines in (0, 20, 90, 170, 240):
        process = start_command(source, target)
        wait_for_journal(target, lines, process)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    assert killed >= 3
    process = start_command(source, target)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "160 pictures" in output
    assert tree_of(target) == tree_of(tmp_path / "whole")
    assert not list(target.rglob("*.partial"))


def test_sigterm_ends_with_status_75_and_the_command_that_goes_on(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "raw", count=200, side=480)
    process = start_command(source, tmp_path / "out")
    wait_for_journal(tmp_path / "out", 5, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "SIGTERM" in errors and "preprocess --input" in errors
    assert 0 < len(list((tmp_path / "out" / "images").rglob("*.*"))) < 200


class Killer(Item):
    """An item that ends the worker process as it arrives there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def make_job(source: Path, target: Path) -> tuple[Job, list[Item]]:
    settings = PreprocessingSettings(input=source, output=target)
    items = list(take_inventory(settings).items)
    return Job(source, target, None, Recipe.of(settings), Companions.of(source, [])), items


def test_a_file_that_kills_its_worker_is_set_aside_and_the_rest_is_done(tmp_path: Path) -> None:
    job, items = make_job(make_folder(tmp_path / "raw", count=12), tmp_path / "out")
    items.insert(10, Killer("images/killer.jpg", PICTURE, 1, 1))
    done = list(WorkerPool(job, 2).run(items, lambda: False))
    assert [one.item.path for one in done] == [item.path for item in items]
    assert [one.item.path for one in done if one.result["status"] == SET_ASIDE] == ["images/killer.jpg"]


def test_a_worker_that_dies_by_chance_costs_no_picture(tmp_path: Path) -> None:
    job, items = make_job(make_folder(tmp_path / "raw", count=120, side=240), tmp_path / "out")
    results = WorkerPool(job, 2).run(items, lambda: False)
    done = [next(results)]
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    if not children.exists():
        pytest.skip("needs /proc to find the worker processes")
    workers = [
        int(pid) for pid in children.read_text().split() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    done.extend(results)
    assert [one.item.path for one in done] == [item.path for item in items]
    assert all(one.result["status"] != SET_ASIDE for one in done)


def test_a_second_run_on_one_output_is_refused(tmp_path: Path) -> None:
    from marauder.preprocessing.journal import locked

    source, target = make_folder(tmp_path / "raw"), tmp_path / "out"
    with locked(target), pytest.raises(UserError, match="in use"):
        run(source, target)


def test_real_pictures_end_to_end(shared_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "raw"
    (source / "images").mkdir(parents=True)
    for path in sorted((shared_data / "deepfish" / "images").glob("*.jpg"))[::60]:
        (source / "images" / path.name).symlink_to(path)
    summary = run(source, tmp_path / "out", workers=2)
    assert summary.pictures == 25 and not summary.set_aside
    assert summary.means["uiqm_after"] > summary.means["uiqm_before"] + 0.2
    assert summary.means["uciqe_after"] > summary.means["uciqe_before"] + 0.02
