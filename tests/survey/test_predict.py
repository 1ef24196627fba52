"""``marauder predict`` on generated clips whose contents are known: exact MaxN, every file read back, nothing lost when
it is killed."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from perfect_detector import HEIGHT, RATE, WIDTH, PerfectDetector, Scene, scenes, write_picture, write_video
from typer.testing import CliRunner

from marauder.cli.predict import app
from marauder.core.clock import EXIT_INTERRUPTED, Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json, write_json
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset
from marauder.prediction.folder_description import FolderDescription, write_predictor_folder
from marauder.prediction.score_calibration import no_calibration
from marauder.scenes.species import NAMES
from marauder.survey import PredictSettings, detecting, predict_files
from marauder.survey.job import PredictSummary

HOLD = 2
"""Frames that each scene of the video lasts."""


@dataclass
class World:
    """Pictures and a video in ``folder``, what they show, and a detector that knows it."""

    folder: Path
    model: Path
    video: list[Scene]
    stills: list[Scene]
    clip: list[Scene]

    def detector(self) -> PerfectDetector:
        return PerfectDetector([*self.video, *self.stills, *self.clip])

    def settings(self, output: Path, **given: Any) -> PredictSettings:
        return PredictSettings(model=self.model, inputs=(str(self.folder),), output=output, **given)


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    """Shards of 16 frames, so that a short clip has three; ``perfect_detector.main`` does the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detecting, "SHARD", 16)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A video of 48 frames, three stills, four pictures that are frames of one clip, and files that are broken."""
    root = tmp_path_factory.mktemp("world")
    folder = root / "dives"
    video, stills, clip = scenes(24), scenes(3, clip=3, seed=2), scenes(4, clip=0, seed=1)
    write_video(folder / "north" / "dive7.mp4", [scene.pixels for scene in video for _ in range(HOLD)])
    for number, scene in enumerate(stills):
        write_picture(folder / f"still-{'abc'[number]}.png", scene.pixels)
    for number, scene in enumerate(clip):
        write_picture(folder / "reef" / f"reef.mov-{number * 4}.png", scene.pixels)
    (folder / "broken.png").write_bytes((folder / "still-a.png").read_bytes()[:200])
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    model = root / "model.pt"
    model.write_bytes(b"the detector of these tests needs no weights")
    return World(folder, model, video, stills, clip)


@pytest.fixture(scope="module")
def everything(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed run with every format."""
    output = tmp_path_factory.mktemp("undisturbed") / "results"
    predict_files(world.settings(output, formats=("all",), batch=4), detector=world.detector())
    return output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def shown_frames(world: World) -> list[Scene]:
    """What each row of counts.csv shows, in their order."""
    return [*world.clip, *world.stills, *(scene for scene in world.video for _ in range(HOLD))]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's content, or where a link leads; without the lock, which names its last holder."""
    left_out = {".predict/lock"}
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_symlink() or path.is_file()
    }
    return {
        name: str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for name, path in files.items()
        if name not in left_out
    }


def expected_max_n(shown: list[Scene], of_frame: Callable[[int], int]) -> dict[str, tuple[int, int]]:
    """By species: the largest number in one scene, and the frame at which the first such scene begins."""
    expected: dict[str, tuple[int, int]] = {}
    for place, scene in enumerate(shown):
        for index in set(scene.found.classes.tolist()):
            number = sum(one == index for one in scene.found.classes.tolist())
            if number > expected.get(NAMES[index], (0, 0))[0]:
                expected[NAMES[index]] = (number, of_frame(place))
    return expected


def test_max_n_of_a_clip_and_its_time_are_exact(world: World, everything: Path) -> None:
    found = [row for row in rows(everything / "maxn.csv") if row["clip"] == "north/dive7.mp4"]
    expected = expected_max_n(world.video, lambda place: place * HOLD)
    assert len(expected) >= 3
    assert {row["species"]: (int(row["maxn"]), int(row["frame"])) for row in found if row["maxn"] != "0"} == expected
    for row in found:
        assert row["frames_looked_at"] == "48"
        if row["species"] in expected:
            assert float(row["seconds"]) == pytest.approx(int(row["frame"]) / RATE, abs=1e-5)
            hours, minutes, seconds = row["time"].split(":")
            assert int(hours) * 3600 + int(minutes) * 60 + float(seconds) == pytest.approx(
                float(row["seconds"]), abs=1e-3
            )
            index = NAMES.index(row["species"])
            shows = [int((scene.found.classes == index).sum()) for scene in world.video]
            assert float(row["mean_count"]) == pytest.approx(np.mean(shows), abs=1e-4)
            assert int(row["first_seen_frame"]) == next(place for place, count in enumerate(shows) if count) * HOLD


def test_pictures_that_are_frames_of_a_clip_have_a_max_n_and_stills_have_none(world: World, everything: Path) -> None:
    table = rows(everything / "maxn.csv")
    assert {row["clip"] for row in table} == {"reef/reef.mov", "north/dive7.mp4"}
    expected = expected_max_n(world.clip, lambda place: place * 4)
    found = {row["species"]: row for row in table if row["clip"] == "reef/reef.mov" and row["maxn"] != "0"}
    assert {name: int(row["maxn"]) for name, row in found.items()} == {
        name: most for name, (most, _) in expected.items()
    }
    assert {name: row["file"] for name, row in found.items()} == {
        name: f"reef/reef.mov-{frame}.png" for name, (_, frame) in expected.items()
    }


def test_counts_of_every_picture_and_frame(world: World, everything: Path) -> None:
    table = rows(everything / "counts.csv")
    shown = shown_frames(world)
    assert [row["file"] for row in table[:7]] == [
        *(f"reef/reef.mov-{number}.png" for number in (0, 4, 8, 12)),
        *(f"still-{letter}.png" for letter in "abc"),
    ]
    assert [int(row["frame"]) for row in table[7:]] == list(range(48))
    for row, scene in zip(table, shown, strict=True):
        counts = np.bincount(scene.found.classes, minlength=len(NAMES)).tolist()
        assert [int(row[name]) for name in NAMES] == counts and int(row["total"]) == sum(counts)


def test_frames_by_rate_and_by_number(world: World, tmp_path: Path) -> None:
    video = str(world.folder / "north" / "dive7.mp4")
    for name, given, frames in (("fps", {"fps": 2.0}, range(0, 48, 5)), ("every", {"every": 20}, (0, 20, 40))):
        settings = PredictSettings(model=world.model, inputs=(video,), output=tmp_path / name, formats=(), **given)
        detector = world.detector()
        predict_files(settings, detector=detector)
        assert [int(row["frame"]) for row in rows(tmp_path / name / "counts.csv")] == list(frames)
        assert detector.looked_at == len(frames)


def test_the_threshold_and_the_reports_doubts_are_said(world: World, tmp_path: Path) -> None:
    model = tmp_path / "run" / "best.pt"
    model.parent.mkdir()
    model.write_bytes(world.model.read_bytes())
    floor = {"gate": "floor", "essential": True, "answer": "warn", "why": "too few pictures to tell: only 3"}
    content = {"artifacts": {"best": {"sha256": hash_file(model)}}, "overall": {"confidence": 0.415}, "gates": [floor]}
    write_json(model.with_name("eval_report.json"), content)
    detector = world.detector()
    detector.thresholds = np.full(len(NAMES), 0.6)
    picture = str(world.folder / "still-a.png")
    settings = PredictSettings(model=model, inputs=(picture,), output=tmp_path / "out", formats=())
    for _ in range(2):
        summary = predict_files(settings, detector=detector)
        page = summary.page.read_text(encoding="utf-8")
        for words in ("at least 0.6 are counted", "--conf 0.415", "too few pictures to tell: only 3"):
            assert words in summary.message() and words in page
    assert summary.already_done
    plain = settings.changed({"model": world.model, "output": tmp_path / "plain"})
    said = predict_files(plain, detector=world.detector()).message()
    assert "at least 0.25 are counted" in said and "doubtful" not in said
    sure = predict_files(plain.changed({"confidence": 0.4, "output": tmp_path / "sure"}), detector=detector).message()
    assert "at least 0.4 are counted" in sure


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_reports_doubts_reach_predictor_folders(calibrated: bool, world: World, tmp_path: Path) -> None:
    """The report knows the file of the model, not the folder with the description."""
    model = tmp_path / "best.pt"
    model.write_bytes(world.model.read_bytes())
    calibration = no_calibration(NAMES) if calibrated else None
    folder = write_predictor_folder(
        tmp_path / "exported" / "predictor", model, FolderDescription("", calibration=calibration)
    )
    floor = {"gate": "floor", "essential": True, "answer": "warn", "why": "too few pictures to tell: only 3"}
    content = {"artifacts": {"best": {"sha256": hash_file(model)}}, "overall": {"confidence": 0.415}, "gates": [floor]}
    write_json(tmp_path / "eval_report.json", content)
    settings = PredictSettings(
        model=folder, inputs=(str(world.folder / "still-a.png"),), output=tmp_path / "out", formats=()
    )
    summary = predict_files(settings, detector=world.detector())
    page = summary.page.read_text(encoding="utf-8")
    scale = "apply from 0.415 on the scale before calibration." if calibrated else "apply from 0.415: --conf 0.415."
    for words in (scale, "too few pictures to tell: only 3"):
        assert words in summary.message() and words in page
    assert ("--conf 0.415" in summary.message()) is not calibrated
    (folder / "best.pt").write_bytes(b"another model")
    other = predict_files(settings.changed({"output": tmp_path / "other"}), detector=world.detector()).message()
    assert "0.415" not in other and "doubtful" not in other


def test_what_is_broken_is_set_aside_and_told(everything: Path) -> None:
    table = {row["file"]: row["problem"] for row in rows(everything / "set_aside.csv")}
    assert set(table) == {"broken.png", "broken.mp4"}
    assert "truncated" in table["broken.png"] and "not a readable video" in table["broken.mp4"]
    page = (everything / "report.html").read_text(encoding="utf-8")
    assert "broken.png" in page and "broken.mp4" in page


def test_a_video_with_a_broken_part_keeps_the_numbers_and_times_of_the_rest(world: World, tmp_path: Path) -> None:
    # In Motion JPEG each frame stands for itself, so that exactly what is overwritten is lost.
    frames = [scene.pixels for scene in world.video for _ in range(HOLD)]
    whole = write_video(tmp_path / "in" / "dive.avi", frames, codec="MJPG")
    content = bytearray(whole.read_bytes())
    jpegs = [match.start() for match in re.finditer(rb"00dc....\xff\xd8", bytes(content), re.DOTALL)]
    for number in (20, 21, 22):
        content[jpegs[number] + 8 : jpegs[number + 1] - 16] = bytes(jpegs[number + 1] - jpegs[number] - 24)
    whole.write_bytes(content)
    output = tmp_path / "out"
    summary = predict_files(
        PredictSettings(model=world.model, inputs=(str(whole.parent),), output=output), detector=world.detector()
    )
    assert summary.set_aside == (("dive.avi", "frames 20 to 22 cannot be decoded"),)
    table = {int(row["frame"]): row for row in rows(output / "counts.csv")}
    assert sorted({*range(48)} - {*table}) == [20, 21, 22]
    for number, row in table.items():
        scene = world.video[number // HOLD]
        assert int(row["total"]) == len(scene.found), f"frame {number} is taken for another"
        assert float(row["seconds"]) == pytest.approx(number / RATE, abs=1e-3)


def as_sets(dataset: Dataset) -> dict[str, set[tuple[float, ...]]]:
    """Boxes with their classes by picture, rounded to half a pixel."""
    return {
        Path(record.key).name: {
            (*np.round(np.asarray(box) * 2).tolist(), NAMES.index(dataset.names[index]))
            for box, index in zip(record.boxes, record.classes, strict=True)
        }
        for record in dataset
    }


def expected_sets(world: World) -> dict[str, set[tuple[float, ...]]]:
    names = [f"reef__reef.mov-{number * 4}" for number in range(4)] + [f"still-{letter}" for letter in "abc"]
    names += [f"north__dive7.mp4_frame_{number:06d}" for number in range(48)]
    return {
        name: {
            (*np.round(np.round(box, 2) * 2).tolist(), index)
            for box, index in zip(scene.found.boxes, scene.found.classes, strict=True)
        }
        for name, scene in zip(names, shown_frames(world), strict=True)
    }


@pytest.mark.parametrize("name", ["coco", "yolo", "cvat", "label_studio"])
def test_other_tools_formats_are_read_back(name: str, world: World, everything: Path, tmp_path: Path) -> None:
    folder = everything / name
    if name == "label_studio":  # what comes of it when every suggestion is submitted
        tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        for task in tasks:
            task["annotations"] = [{"result": [r for one in task["predictions"] for r in one["result"]]}]
        (tmp_path / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
        (tmp_path / "images").symlink_to(folder / "images")
        folder = tmp_path
    dataset = read_dataset(folder, name)
    assert as_sets(dataset) == expected_sets(world)
    groups = {record.group for record in dataset if "dive7" in record.key}
    assert groups == {"north__dive7.mp4"}, "the frames of a clip must stay together in splits"


def test_viame_csv_of_pictures_is_read_back(world: World, everything: Path) -> None:
    dataset = read_dataset(everything / "viame" / "reef" / "pictures.csv", "viame", pictures=world.folder / "reef")
    expected = expected_sets(world)
    assert as_sets(dataset) == {f"reef.mov-{n}": expected[f"reef__reef.mov-{n}"] for n in (0, 4, 8, 12)}


def test_coco_says_nothing_of_the_folder_it_was_written_to(everything: Path) -> None:
    (path,) = (everything / "coco").rglob("*.json")
    described = read_json(path)["info"]["description"]
    assert everything.name not in described and described == "boxes in COCO format, written by Marauder"


def test_viame_csv_of_a_video_has_the_documented_layout(world: World, everything: Path) -> None:
    lines = (everything / "viame" / "north" / "dive7.mp4.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# 1: Detection or Track-id,2: Video or Image Identifier,3: Unique Frame Identifier")
    assert lines[1] == f"# metadata,Fps: {RATE:g}"
    table = list(csv.reader(lines[2:]))
    assert len(table) == HOLD * sum(len(scene.found) for scene in world.video)
    assert [int(row[0]) for row in table] == list(range(len(table))), "each detection is an object of its own"
    for row in table:
        number = int(row[2])
        assert row[1] == f"00:00:{number / RATE:09.6f}"
        x0, y0, x1, y1, sure = map(float, row[3:8])
        assert 0 <= x0 < x1 <= WIDTH and 0 <= y0 < y1 <= HEIGHT and 0 <= sure <= 1 and row[8] == "-1"
        assert row[9] in NAMES and float(row[10]) == sure and len(row) == 11
    in_frame = [row for row in table if int(row[2]) == 16]
    scene = world.video[16 // HOLD]
    assert [row[9] for row in in_frame] == [NAMES[index] for index in scene.found.classes]
    assert np.allclose([list(map(float, row[3:7])) for row in in_frame], scene.found.boxes, atol=0.01)


def test_the_boxes_are_the_same_in_csv_and_parquet(world: World, everything: Path) -> None:
    import pyarrow.parquet as pq

    table = rows(everything / "boxes.csv")
    frame = pq.read_table(everything / "boxes.parquet").to_pylist()
    assert len(table) == len(frame) == sum(len(scene.found) for scene in shown_frames(world))
    for left, right in zip(table, frame, strict=True):
        assert left == {name: "" if value is None else str(value) for name, value in right.items()}


def test_annotated_pictures_and_videos(world: World, everything: Path) -> None:
    drawn = cv2.cvtColor(cv2.imread(str(everything / "annotated" / "still-a.png.jpg")), cv2.COLOR_BGR2RGB)
    assert drawn.shape == world.stills[0].pixels.shape
    assert np.abs(drawn.astype(int) - world.stills[0].pixels).max() > 80, "no box is drawn"
    capture = cv2.VideoCapture(str(everything / "annotated" / "north" / "dive7.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 48 and capture.get(cv2.CAP_PROP_FPS) == RATE


def test_the_page_is_one_file_without_scripts(everything: Path) -> None:
    page = (everything / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http:" not in page and "https:" not in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) > 20 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "dive7.mp4" in page and "reef.mov" in page and page.count("<polyline") >= 4


def test_killed_the_same_command_goes_on_to_the_same_bytes(world: World, everything: Path, tmp_path: Path) -> None:
    truth = world.detector().save(tmp_path / "truth.json")
    # Of the same depth and name as the undisturbed one, since links are relative and the name stands in some files.
    output = everything.parents[1] / "killed" / "results"
    words = ["predict", "--model", str(world.model), "--input", str(world.folder), "--output", str(output)]
    words += ["--formats", "all", "--batch", "4"]

    def command(seconds: float) -> list[str]:
        program = Path(__file__).with_name("perfect_detector.py")
        return [sys.executable, str(program), str(truth), str(seconds), *words]

    def killed_when(ready: Callable[[], bool], number: signal.Signals) -> int:
        with subprocess.Popen(command(0.15), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            deadline = time.monotonic() + 60
            while not ready():
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(number)
            return process.wait()

    seen = output / ".predict" / "seen"
    assert killed_when(lambda: len(list(seen.glob("video-*.json"))) == 2, signal.SIGKILL) == -signal.SIGKILL
    assert not (output / "maxn.csv").exists() and len(list(seen.glob("*.json"))) == 3, "not killed in the middle"
    assert killed_when(lambda: len(list(seen.glob("*.json"))) == 4, signal.SIGTERM) == EXIT_INTERRUPTED
    done = subprocess.run(command(0), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "MaxN" in done.stdout
    assert tree(output) == tree(everything)


class StopsAt(Clock):
    """A clock that says stop when it is asked for the ``limit``-th time."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        self.limit -= 1
        return "stopped by the test" if self.limit < 0 else None


def test_stopped_at_every_turn_it_goes_on_to_the_same_bytes(world: World, everything: Path) -> None:
    output = everything.parents[1] / "stopped" / "results"
    detector = world.detector()
    stops = 0
    while True:
        try:
            settings = world.settings(output, formats=("all",), batch=4)
            predict_files(settings, StopsAt(9 + 60 * stops), detector)
            break
        except Interrupted:
            stops += 1
    assert stops >= 4
    assert tree(output) == tree(everything)


def test_a_finished_output_is_recognised_and_other_formats_need_no_second_look(world: World, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = world.detector()
    predict_files(world.settings(output, formats=("boxes",)), detector=first)
    assert first.looked_at == 55 and not (output / "viame").exists()
    again = world.detector()
    assert predict_files(world.settings(output, formats=("boxes",)), detector=again).already_done
    other = predict_files(world.settings(output, formats=("viame", "coco")), detector=again)
    assert again.calls == 0 and not other.already_done
    assert (output / "viame" / "north" / "dive7.mp4.csv").is_file()
    (output / "counts.csv").write_text("spoilt", encoding="utf-8")
    assert not predict_files(world.settings(output, formats=("viame", "coco")), detector=again).already_done
    assert (output / "counts.csv").read_text(encoding="utf-8").startswith("file,clip,frame")
    assert again.calls == 0
    predict_files(world.settings(output, formats=("viame", "coco"), confidence=0.65), detector=again)
    assert again.looked_at == 55, "another confidence is another question"
    predict_files(world.settings(output, formats=("viame", "coco"), confidence=0.65, fresh=True), detector=again)
    assert again.looked_at == 110


def test_classes_by_name_and_number(world: World, tmp_path: Path) -> None:
    wanted = world.settings(tmp_path / "out", classes=("0", NAMES[3]), formats=("boxes",))
    predict_files(wanted, detector=world.detector())
    assert {row["species"] for row in rows(tmp_path / "out" / "boxes.csv")} <= {NAMES[0], NAMES[3]}
    with pytest.raises(UserError, match=r"not among the (?s:.*)99.*(?s:.*)Lionfsh; did you mean Lionfish\?"):
        predict_files(
            world.settings(tmp_path / "other", classes=("99", NAMES[1], "Lionfsh")), detector=world.detector()
        )


def test_bad_inputs_and_outputs_are_refused_with_a_remedy(world: World, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no predictions \(thesis.txt .*name another folder"):
        predict_files(world.settings(foreign), detector=world.detector())
    with pytest.raises(UserError, match="no such model"):
        predict_files(PredictSettings(model=tmp_path / "no.pt", inputs=("x",), output=tmp_path / "out"))
    broken = PredictSettings(model=world.model, inputs=(str(world.folder / "broken.png"),), output=tmp_path / "out")
    with pytest.raises(UserError, match="nothing can be read in 1 file;"):
        predict_files(broken, detector=world.detector())
    with pytest.raises(ValueError, match="give one of them"):
        world.settings(tmp_path / "out", fps=1.0, every=2)
    with pytest.raises(ValueError, match="choose from annotated"):
        world.settings(tmp_path / "out", formats=("voc",))


def clips_in(folder: Path) -> dict[str, set[str]]:
    """Files by clip, as counts.csv says."""
    clips: dict[str, set[str]] = {}
    for row in rows(folder / "counts.csv"):
        clips.setdefault(row["clip"], set()).add(row["file"])
    return clips


def test_clips_of_one_name_in_two_folders_have_a_max_n_each(world: World, tmp_path: Path) -> None:
    folder, names = tmp_path / "in", [f"GX010001_frame_{number}.png" for number in range(4)]
    for dive, scene in (("dive1", world.clip[0]), ("dive2", world.clip[3])):
        for name in names[:2]:
            write_picture(folder / dive / name, scene.pixels)
    write_picture(folder / "dive1" / names[2], world.clip[1].pixels)
    write_picture(folder / "dive2" / names[3], world.clip[3].pixels)
    whole = {f"dive{n}/GX010001": {f"dive{n}/{name}" for name in (*names[:2], names[n + 1])} for n in (1, 2)}

    def predict(output: str, *inputs: str) -> Path:
        words = tuple(str(folder / word) for word in inputs)
        settings = PredictSettings(model=world.model, inputs=words, output=tmp_path / output, formats=())
        predict_files(settings, detector=world.detector())
        return tmp_path / output

    output = predict("one", ".")
    assert clips_in(output) == whole
    for clip, shown in (("dive1/GX010001", [world.clip[0]] * 2 + [world.clip[1]]), ("dive2/GX010001", [world.clip[3]])):
        found = {row["species"]: int(row["maxn"]) for row in rows(output / "maxn.csv") if row["clip"] == clip}
        expected = {name: most for name, (most, _) in expected_max_n(shown, lambda place: place).items()}
        assert {name: most for name, most in found.items() if most} == expected
    # Named one by one, only those keys have a folder that would be alike without it.
    two = clips_in(predict("two", "dive1", "dive2"))
    assert set(two) == set(whole) and all(len(files) == 3 for files in two.values())
    apart = clips_in(predict("apart", f"dive1/{names[2]}", f"dive2/{names[3]}"))
    assert apart == {"dive1/GX010001": {names[2]}, "dive2/GX010001": {names[3]}}


def test_a_video_and_its_own_frames_as_pictures_are_two_clips(world: World, tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "dive.mp4", [scene.pixels for scene in world.video[:4]])
    write_picture(tmp_path / "in" / "dive.mp4_frame_000000.png", world.video[0].pixels)
    settings = PredictSettings(model=world.model, inputs=(str(tmp_path / "in"),), output=tmp_path / "out", formats=())
    predict_files(settings, detector=world.detector())
    table = rows(tmp_path / "out" / "maxn.csv")
    assert {row["clip"]: row["frames_looked_at"] for row in table} == {"dive.mp4 (pictures)": "1", "dive.mp4": "4"}
    assert all(row["time"] for row in table if row["clip"] == "dive.mp4" and row["maxn"] != "0")


def test_what_stopped_calls_with_other_settings_left_is_deleted(world: World, tmp_path: Path) -> None:
    expected = tmp_path / "clean" / "out"
    predict_files(world.settings(expected, formats=("viame", "annotated"), batch=4), detector=world.detector())
    output = tmp_path / "mixed" / "out"
    limit, stages = 20, set()
    while True:  # stopped ever later, in other places
        predict_files(world.settings(output, formats=("viame", "annotated"), batch=4), detector=world.detector())
        assert tree(output) == tree(expected), f"stopped at {limit}"
        assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in expected.iterdir())
        other = world.settings(output, formats=("coco", "boxes", "annotated"), confidence=0.65, batch=4)
        try:
            predict_files(other, StopsAt(limit), world.detector())
            break
        except Interrupted:
            stages |= {path.name for path in output.iterdir()}
            limit += 45
    assert {"frames", "boxes.csv", "coco"} <= stages, "not stopped late enough"


def test_a_picture_link_that_is_gone_is_made_again(world: World, tmp_path: Path) -> None:
    settings = world.settings(tmp_path / "out", formats=("yolo",))
    predict_files(settings, detector=world.detector())
    assert predict_files(settings, detector=world.detector()).already_done
    link = next(path for path in (tmp_path / "out" / "yolo").rglob("*") if path.is_symlink())
    link.unlink()
    assert not predict_files(settings, detector=world.detector()).already_done
    assert link.is_file() and predict_files(settings, detector=world.detector()).already_done


def test_a_class_that_only_looks_like_a_number_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--classes: not among the \d+ class(?s:.*)  ²"):
        predict_files(world.settings(tmp_path / "out", classes=("²",)), detector=world.detector())


def test_a_picture_that_joins_or_goes_sends_few_others_through_the_model_again(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1, 121):
        shutil.copy(world.folder / f"still-{'abc'[number % 3]}.png", folder / f"{number}.png")

    def predict(output: str) -> tuple[int, Path]:
        detector = world.detector()
        settings = PredictSettings(model=world.model, inputs=(str(folder),), output=tmp_path / output, formats=())
        predict_files(settings, detector=detector)
        return detector.looked_at, tmp_path / output / "counts.csv"

    assert predict("out")[0] == 120
    shutil.copy(world.folder / "still-a.png", folder / "0.png")
    looked_at, counts = predict("out")
    assert 1 <= looked_at <= 32 and len(rows(counts)) == 121
    (folder / "60.png").unlink()
    looked_at, counts = predict("out")
    assert 0 < looked_at <= 48
    assert counts.read_bytes() == predict("clean")[1].read_bytes()
    assert tree(tmp_path / "out") == tree(tmp_path / "clean"), "something stale is left"


def stills(world: World, *letters: str) -> tuple[str, ...]:
    return tuple(str(world.folder / f"still-{letter}.png") for letter in letters)


@pytest.mark.parametrize(
    "name", ["yolo/labels/still-a.txt", "coco", "label_studio/tasks.json", "cvat/annotations.xml", "viame", "maxn.csv"]
)
def test_files_that_were_corrected_by_hand_are_not_replaced(name: str, world: World, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = PredictSettings(
        model=world.model, inputs=stills(world, "a", "b"), output=output, formats=("yolo,coco,label_studio,cvat,viame",)
    )
    predict_files(settings, detector=world.detector())
    edited = output / name
    if edited.is_dir():
        edited = next(path for path in sorted(edited.rglob("*")) if path.is_file() and not path.is_symlink())
    edited.write_text("corrected by hand", encoding="utf-8")
    before = tree(output)
    told = re.escape(edited.relative_to(output).as_posix())
    for given in ({}, {"formats": ("boxes",)}, {"confidence": 0.65}, {"inputs": stills(world, "a", "b", "c")}):
        with pytest.raises(UserError, match=rf"would replace files .*edited .*\({told}\).*another --output.*--fresh"):
            predict_files(settings.changed(given), detector=world.detector())
        assert tree(output) == before
    edited.unlink()  # what is gone is made again
    predict_files(settings, detector=world.detector())
    made = edited.read_bytes()
    edited.write_text("corrected by hand", encoding="utf-8")
    predict_files(settings.changed({"fresh": True}), detector=world.detector())
    assert edited.read_bytes() == made


def test_corrections_between_a_stopped_call_and_the_next_are_not_replaced(world: World, tmp_path: Path) -> None:
    settings = PredictSettings(
        model=world.model, inputs=stills(world, "a", "b"), output=tmp_path / "out", formats=("yolo",)
    )
    predict_files(settings, detector=world.detector())
    with pytest.raises(Interrupted):
        predict_files(settings.changed({"formats": ("coco",)}), StopsAt(0), world.detector())
    (tmp_path / "out" / "yolo" / "labels" / "still-a.txt").write_text("corrected by hand", encoding="utf-8")
    with pytest.raises(UserError, match="would replace files that were edited"):
        predict_files(settings, detector=world.detector())


def test_formats_that_were_asked_for_stay_unless_it_starts_over(world: World, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = PredictSettings(model=world.model, inputs=stills(world, "a"), output=output, formats=("boxes", "coco"))
    assert "kept" not in predict_files(settings, detector=world.detector()).message()
    fewer = settings.changed({"formats": ("boxes",)})
    again = predict_files(fewer, detector=world.detector())
    assert again.already_done and "kept, since earlier calls requested them: coco (--fresh" in again.message()
    others = fewer.changed({"formats": ("viame",), "inputs": stills(world, "a", "b")})
    assert predict_files(others, detector=world.detector()).kept == ("boxes", "coco")
    assert all((output / name).exists() for name in ("boxes.csv", "coco", "viame"))
    assert not predict_files(others.changed({"fresh": True}), detector=world.detector()).kept
    assert (output / "viame").is_dir() and not (output / "coco").exists() and not (output / "boxes.csv").exists()


def test_results_of_other_inputs_are_not_replaced(world: World, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = PredictSettings(model=world.model, inputs=stills(world, "a"), output=output, formats=("boxes",))
    predict_files(settings, detector=world.detector())
    before = tree(output)
    other = settings.changed({"inputs": stills(world, "b")})
    for given in (other, other.changed({"confidence": 0.65})):
        with pytest.raises(UserError, match=rf"{output}: .*other inputs .*still-a.png.*another --output.*--fresh"):
            predict_files(given, detector=world.detector())
        assert tree(output) == before
    predict_files(settings.changed({"confidence": 0.65}), detector=world.detector())
    predict_files(settings.changed({"inputs": (str(world.folder),)}), detector=world.detector())
    # Stopped, a call that starts over goes on without being told so again.
    with pytest.raises(Interrupted):
        predict_files(other.changed({"fresh": True}), StopsAt(0), world.detector())
    predict_files(other, detector=world.detector())
    assert {row["file"] for row in rows(output / "boxes.csv")} == {"still-b.png"}


@pytest.mark.parametrize("pattern, told", [("(dive", "not a regular expression"), ("dive", "in brackets")])
def test_a_group_pattern_is_judged_before_any_picture(pattern: str, told: str, tmp_path: Path) -> None:
    words = ["--model", "no.pt", "--input", "none", "--output", str(tmp_path / "out"), "--group-pattern", pattern]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UserError) and "option --group-pattern: " in str(done.exception)
    assert told in str(done.exception) and not (tmp_path / "out").exists()


def test_frames_by_rate_and_by_number_are_told_by_their_option(tmp_path: Path) -> None:
    there = str(tmp_path)
    done = CliRunner().invoke(app, ["--model", there, "--input", there, "--fps", "1", "--every", "2"])
    assert isinstance(done.exception, UserError) and "option --fps: fps and every" in str(done.exception)
    assert "--model" not in str(done.exception)


def test_a_table_of_max_n_without_rows_is_explained(tmp_path: Path) -> None:
    single = PredictSummary(tmp_path, 2, 0, {"fish": 3}, (), ())
    assert "maxn.csv has no rows: MaxN is counted in clips, and nothing was seen in one" in single.message()
    assert "no rows" not in replace(single, max_n=(("dive", "fish", 3),)).message()
    assert "no rows" not in replace(single, totals={}).message()
