"""Frames of videos as pictures: which ones, their names and clips, going on after a stop, what is broken."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from marauder.cli.data import app
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.data.frames import FramesSettings, write_frames
from marauder.data.groups import group_of
from marauder.data.media_files import find_media, flat_names
from marauder.data.picture_files import load_rgb
from marauder.data.reading import read_dataset
from marauder.data.splits import split_dataset
from marauder.data.video_files import Sampling, Video, VideoError

WIDTH, HEIGHT = 96, 64


def make_video(path: Path, count: int, rate: float = 10.0, codec: str = "mp4v", first: int = 0) -> Path:
    """A video whose frame ``number`` has the brightness of ``number + first``, so that each can be told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.full((HEIGHT, WIDTH, 3), brightness(number + first), np.uint8))
    writer.release()
    return path


def brightness(number: int) -> int:
    return 10 + 8 * (number % 30)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".frames" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("codec, suffix", [("mp4v", ".mp4"), ("mp4v", ".mov"), ("XVID", ".avi"), ("MJPG", ".mkv")])
def test_frames_come_in_order_with_number_and_time(codec: str, suffix: str, tmp_path: Path) -> None:
    video = make_video(tmp_path / f"dive{suffix}", 30, codec=codec)
    with Video(video) as opened:
        assert opened.rate == pytest.approx(10) and opened.expected(Sampling()) == 30
        frames = list(opened.frames(Sampling()))
        assert opened.shortfall() == ""
    assert [frame.number for frame in frames] == list(range(30))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in range(30)], abs=1e-3)
    for frame in frames:
        assert frame.pixels is not None and frame.pixels.shape == (HEIGHT, WIDTH, 3)
        assert abs(float(frame.pixels.mean()) - brightness(frame.number)) < 4.0, f"frame {frame.number} is another one"


@pytest.mark.parametrize(
    "sampling, numbers",
    [
        (Sampling(every=7), [0, 7, 14, 21, 28]),
        (Sampling(fps=1.0), [0, 10, 20]),
        (Sampling(fps=4.0), [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
        (Sampling(fps=50.0), list(range(30))),
    ],
)
def test_which_frames_are_chosen_does_not_depend_on_where_reading_begins(
    sampling: Sampling, numbers: list[int], tmp_path: Path
) -> None:
    video = make_video(tmp_path / "dive.mp4", 30)
    for after in (-1, 0, 9, 25):
        with Video(video) as opened:
            found = [frame.number for frame in opened.frames(sampling, after)]
        assert found == [number for number in numbers if number > after]


def test_a_rate_that_is_no_whole_number_loses_no_frame(tmp_path: Path) -> None:
    video = make_video(tmp_path / "dive.mp4", 100, rate=29.97)
    with Video(video) as opened:
        assert [frame.number for frame in opened.frames(Sampling(fps=1.0))] == [0, 30, 60, 90]
    with Video(video) as opened:
        assert len(list(opened.frames(Sampling(fps=29.97)))) == 100


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50])
def test_what_is_no_video_says_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "dive.mp4").write_bytes(content)
    with pytest.raises(VideoError):
        Video(tmp_path / "dive.mp4")
    with pytest.raises(VideoError, match="does not exist"):
        Video(tmp_path / "none.mp4")


def test_a_cut_video_tells_that_it_ends_early(tmp_path: Path) -> None:
    video = make_video(tmp_path / "dive.avi", 60, codec="MJPG")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with Video(video) as opened:
        count = len(list(opened.frames(Sampling())))
        assert 15 < count < 40
        assert opened.shortfall() == f"ends early: {count} of 60 frames are there"


def test_frames_are_named_so_that_a_clip_is_one_group_in_every_reader_and_split(tmp_path: Path) -> None:
    for place, name in enumerate(("dive1/GX01.MP4", "dive2/GX01.MP4", "shore.webm", "pier.mkv")):
        codec = "VP80" if name.endswith("webm") else "MJPG" if name.endswith("mkv") else "mp4v"
        make_video(tmp_path / "in" / name, 35, codec=codec, first=place * 7)
    summary = write_frames(FramesSettings(inputs=(str(tmp_path / "in"),), output=tmp_path / "out", fps=2.0))
    assert (summary.clips, summary.pictures, summary.new_pictures, summary.set_aside) == (4, 28, 28, ())
    rows = table(tmp_path / "out" / "frames.csv")
    assert [row["frame"] for row in rows if row["video"] == "dive2/GX01.MP4"] == [
        "0",
        "5",
        "10",
        "15",
        "20",
        "25",
        "30",
    ]
    assert {row["clip"] for row in rows} == {"dive1__GX01.MP4", "dive2__GX01.MP4", "shore.webm", "pier.mkv"}
    for row in rows:
        picture = tmp_path / "out" / row["picture"]
        assert group_of(picture.stem) == row["clip"]
        place = ("dive1/GX01.MP4", "dive2/GX01.MP4", "shore.webm", "pier.mkv").index(row["video"])
        assert abs(float(load_rgb(picture).mean()) - brightness(int(row["frame"]) + place * 7)) < 4
    dataset = read_dataset(tmp_path / "out")
    assert {record.group for record in dataset} == {row["clip"] for row in rows}
    assert {problem.kind for problem in dataset.problems} <= {"labels-none"}, "tables must not be taken for labels"
    split = split_dataset(dataset, {"train": 0.5, "val": 0.5}, 0)
    assert all(len({record.split for record in split if record.group == row["clip"]}) == 1 for row in rows)


class StopsAt(Clock):
    """A clock that says stop when it is asked for the ``limit``-th time."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        self.limit -= 1
        return "stopped by the test" if self.limit < 0 else None


def test_stopped_it_goes_on_to_the_same_files_and_does_nothing_twice(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / "in" / name, 20)

    def settings(output: str) -> FramesSettings:
        return FramesSettings(inputs=(str(tmp_path / "in"),), output=tmp_path / output, every=2)

    write_frames(settings("whole"))
    with pytest.raises(Interrupted):
        write_frames(settings("parts"), StopsAt(13))
    assert 0 < len(list((tmp_path / "parts").rglob("*.jpg"))) < 20
    assert write_frames(settings("parts")).new_pictures == 7
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.jpg")}
    assert write_frames(settings("parts")).new_pictures == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_frames_of_other_settings_are_replaced_only_by_starting_over_and_other_videos_join(tmp_path: Path) -> None:
    first, second = make_video(tmp_path / "a.mp4", 20), make_video(tmp_path / "b.mp4", 20)
    output = tmp_path / "out"
    write_frames(FramesSettings(inputs=(str(first),), output=output, every=2))
    before = contents(output)
    # The other video comes first, and must not be written either.
    fewer = FramesSettings(inputs=(str(second), str(first)), output=output, every=5)
    with pytest.raises(UserError, match=r"a.mp4: holds 10 frames of other settings.*another --output.*--fresh"):
        write_frames(fewer)
    assert contents(output) == before
    summary = write_frames(FramesSettings(inputs=(str(first),), output=output, every=10, fresh=True))
    assert (summary.pictures, summary.new_pictures) == (2, 0), "frames 0 and 10 were there"
    summary = write_frames(FramesSettings(inputs=(str(first),), output=output, every=5, fresh=True))
    assert (summary.pictures, summary.new_pictures) == (4, 2)
    assert write_frames(FramesSettings(inputs=(str(second),), output=output, every=10)).pictures == 6
    same_name = make_video(tmp_path / "other" / "a.mp4", 20)
    with pytest.raises(UserError, match=r"frames of another video of this name .*--fresh"):
        write_frames(FramesSettings(inputs=(str(same_name),), output=output))
    before = contents(output / "b.mp4")
    summary = write_frames(FramesSettings(inputs=(str(same_name),), output=output, fresh=True))
    assert (summary.clips, summary.pictures, summary.new_pictures) == (2, 4, 2)
    assert contents(output / "b.mp4") == before, "frames of a video that was not named"


@pytest.mark.parametrize(
    "label",
    [
        "images/a.mp4/{}.txt",
        "images/a.mp4/{}.xml",
        "images/a.mp4/labels/{}.json",
        "images/labels/{}.txt",
        "images/labels/a.mp4/{}.txt",
        "labels/a.mp4/{}.txt",
    ],
)
def test_a_labelled_frame_is_never_deleted(label: str, tmp_path: Path) -> None:
    video, other = make_video(tmp_path / "a.mp4", 20), make_video(tmp_path / "other" / "a.mp4", 10)
    output = tmp_path / "images"
    write_frames(FramesSettings(inputs=(str(video),), output=output, every=5))
    place = tmp_path / label.format("a.mp4_frame_000015")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("0 0.5 0.5 0.1 0.1", encoding="utf-8")
    before = contents(tmp_path)
    for source in (video, other):
        with pytest.raises(UserError, match=r"a.mp4_frame_000015.jpg: is labelled in .*another --output"):
            write_frames(FramesSettings(inputs=(str(source),), output=output, every=10, fresh=True))
        assert contents(tmp_path) == before


def test_videos_and_frames_can_move_together_and_each_by_itself(tmp_path: Path) -> None:
    make_video(tmp_path / "old" / "dives" / "a.mp4", 20)
    write_frames(FramesSettings(inputs=(str(tmp_path / "old" / "dives"),), output=tmp_path / "old" / "frames"))
    (tmp_path / "old").rename(tmp_path / "new")
    dives, frames = tmp_path / "new" / "dives", tmp_path / "new" / "frames"
    assert write_frames(FramesSettings(inputs=(str(dives),), output=frames)).new_pictures == 0
    frames = frames.rename(tmp_path / "frames-elsewhere")
    assert write_frames(FramesSettings(inputs=(str(dives),), output=frames)).new_pictures == 0
    dives = dives.rename(tmp_path / "dives-elsewhere")
    assert write_frames(FramesSettings(inputs=(str(dives),), output=frames)).new_pictures == 0
    os.utime(dives / "a.mp4", ns=(1, 1))
    moved = tmp_path / "both"
    moved.mkdir()
    dives, frames = dives.rename(moved / dives.name), frames.rename(moved / frames.name)
    with pytest.raises(UserError, match="frames of another video of this name"):
        write_frames(FramesSettings(inputs=(str((dives / "a.mp4").rename(tmp_path / "a.mp4")),), output=frames))


def test_a_video_that_is_not_there_is_set_aside_and_keeps_its_frames(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    make_video(folder / "good.mp4", 20)
    disk = make_video(tmp_path / "disk" / "b.mp4", 20)
    (folder / "b.mp4").symlink_to(disk)
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    settings = FramesSettings(inputs=(str(folder),), output=output)
    summary = write_frames(settings)
    assert (summary.clips, summary.pictures) == (2, 4) and [key for key, _ in summary.set_aside] == ["loop.mp4"]
    disk.rename(tmp_path / "unplugged.mp4")
    for given in (settings, settings.model_copy(update={"fresh": True})):
        summary = write_frames(given)
        assert (summary.clips, summary.pictures) == (2, 4)
        assert dict(summary.set_aside)["b.mp4"] == "cannot be read: No such file or directory"
        assert {row["video"] for row in table(output / "set_aside.csv")} == {"b.mp4", "loop.mp4"}
    (tmp_path / "unplugged.mp4").rename(disk)
    summary = write_frames(settings)
    assert summary.new_pictures == 0 and [key for key, _ in summary.set_aside] == ["loop.mp4"]


def test_broken_videos_are_set_aside_and_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    make_video(tmp_path / "in" / "good.mp4", 20)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"x" * 999)
    summary = write_frames(FramesSettings(inputs=(str(tmp_path / "in"),), output=tmp_path / "out"))
    assert summary.clips == 1 and [key for key, _ in summary.set_aside] == ["bad.mp4"]
    assert [row["video"] for row in table(tmp_path / "out" / "set_aside.csv")] == ["bad.mp4"]
    with pytest.raises(UserError, match="no frame of any video can be read"):
        write_frames(FramesSettings(inputs=(str(tmp_path / "in" / "bad.mp4"),), output=tmp_path / "none"))
    with pytest.raises(UserError, match="choose another --output"):
        write_frames(FramesSettings(inputs=(str(tmp_path / "in"),), output=tmp_path / "in"))
    with pytest.raises(ValueError, match="give one of them"):
        FramesSettings(inputs=("a",), output=tmp_path, fps=1.0, every=3)
    done = CliRunner().invoke(app, ["frames", "a.mp4", "--output", str(tmp_path), "--fps", "1", "--every", "3"])
    assert isinstance(done.exception, UserError) and "option --every: fps and every" in str(done.exception)


def test_files_folders_and_patterns_are_found_once_with_keys_of_their_own(tmp_path: Path) -> None:
    for name in ("a/p10.jpg", "a/p9.jpg", "b/p9.jpg", "b/deep/clip.mp4", "b/.hidden/p.jpg", "b/notes.txt", "out/p.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def keys(*words: str, **options: bool) -> list[str]:
        return [
            media.key for media in find_media([f"{tmp_path}/{word}" for word in words], tmp_path / "out", **options)
        ]

    assert keys("") == ["a/p9.jpg", "a/p10.jpg", "b/deep/clip.mp4", "b/p9.jpg"]
    assert keys("a", "b") == ["a/p9.jpg", "p10.jpg", "deep/clip.mp4", "b/p9.jpg"]
    assert keys("*/p9.jpg") == ["a/p9.jpg", "b/p9.jpg"]
    assert keys("**/*.jpg") == ["a/p9.jpg", "a/p10.jpg", "b/p9.jpg"]
    assert keys("**/*.mp4", "b/deep/clip.mp4") == ["b/deep/clip.mp4"]
    assert keys("", pictures=False) == ["b/deep/clip.mp4"]
    with pytest.raises(UserError, match="no such file or folder"):
        keys("none")
    with pytest.raises(UserError, match="names no picture or video"):
        keys("*.gif")
    names = flat_names(find_media([tmp_path]))
    assert names["b/deep/clip.mp4"] == "b__deep__clip.mp4" and names["a/p9.jpg"] == "a__p9.jpg"
    (tmp_path / "a__p9.png").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/no-text-\xff.jpg")).write_bytes(b"")
    assert "no-text-\\udcff.jpg" in keys("")
    names = flat_names(find_media([tmp_path]))
    assert len({Path(name).stem.lower() for name in names.values()}) == len(names), "labels are called by the stem"


def test_the_command_writes_frames_and_tells_what_came_of_it(tmp_path: Path) -> None:
    make_video(tmp_path / "dive.mp4", 20)
    words = ["frames", str(tmp_path / "dive.mp4"), "--output", str(tmp_path / "out"), "--fps", "2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "4 pictures of 1 clip:" in done.output
    assert len(list((tmp_path / "out" / "dive.mp4").glob("dive.mp4_frame_*.jpg"))) == 4
